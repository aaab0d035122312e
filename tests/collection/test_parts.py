"""The parts of a collection by hand: sweep, multiplier, advantages, objective, scale, buffer, state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.collection import ppo
from safetrax.collection.agents import Sweep, default_sweeps
from safetrax.collection.buffer import Buffer, load_state, save_state
from safetrax.collection.recorder import Episode, join
from safetrax.errors import RunError


def episode(number: int, reward: float, cost: float, steps: int = 3, *, terminated: bool = False) -> Episode:
    return Episode(
        observations=np.full((steps + 1, 2), number, np.float32),
        actions=np.full((steps, 1), 0.5, np.float32),
        rewards=np.full(steps, reward, np.float32),
        costs=np.full(steps, cost, np.float32),
        terminated=terminated,
        number=number,
        owner=0,
    )


def test_a_limit_moves_in_the_middle_of_a_training():
    sweep = Sweep(80.0, 0.0, begin=0.1, finish=0.9)
    assert [sweep.limit(p) for p in (0.0, 0.1, 0.5, 0.9, 1.0)] == pytest.approx([80.0, 80.0, 40.0, 0.0, 0.0])


def test_limits_fall_and_rise_in_turn():
    falling, rising, again = default_sweeps(5.0, 80.0, 3)
    assert (falling.start, falling.end) == (80.0, 5.0) == (again.start, again.end)
    assert (rising.start, rising.end) == (5.0, 80.0)


def test_scale_in_parts_is_that_of_all():
    rows = np.random.default_rng(0).normal(3.0, [1.0, 10.0], (100, 2)).astype(np.float32)
    scale = ppo.Scale.make(2).after(jnp.asarray(rows[:30])).after(jnp.asarray(rows[30:]))
    assert scale.mean == pytest.approx(rows.mean(0), rel=1e-4)
    assert scale.variance == pytest.approx(rows.var(0), rel=1e-4)
    assert np.abs(ppo.Scale.make(1).apply(jnp.array([[1e6]]))).item() == 10.0


def test_an_update_moves_towards_what_was_better_and_stops_when_far():
    settings = ppo.PPO(hidden=(8,), minibatch=64, epochs=20, learning_rate=1e-2)
    agents = jax.vmap(lambda key: ppo.Agent.make(key, 2, 1, settings))(jax.random.split(jax.random.key(0), 1))
    rng = np.random.default_rng(0)
    actions = rng.normal(0.0, 0.6, (1, 64, 1)).astype(np.float32)
    zeros = np.zeros((1, 64), np.float32)
    batch = ppo.Batch(jnp.zeros((1, 64, 2)), jnp.asarray(actions), jnp.sign(actions[..., 0]), zeros, zeros)
    order = np.tile(np.arange(64, dtype=np.int32), (1, 20, 1))
    far = ppo.improve(agents, batch, jnp.asarray(order), replace(settings, target_kl=1e9))
    near = ppo.improve(agents, batch, jnp.asarray(order), replace(settings, target_kl=1e-9))
    means = [float(agent.learner.network.mean(jnp.zeros((1, 2)))[0, 0]) for agent in map(first, (agents, near, far))]
    assert means[0] < means[1] < means[2]


def first(agents: ppo.Agent) -> ppo.Agent:
    return jax.tree.map(lambda leaf: leaf[0], agents)


def test_the_buffer_keeps_what_is_within_bounds_and_covers_the_plane():
    buffer = Buffer(target=4, seed=0, max_cost=9.0, min_return=0.0)
    crowd = [episode(n, 1.0, 1.0) for n in range(50)]
    rare = [episode(50, 2.0, 3.0), episode(51, 1.0, 2.0)]
    buffer.add([episode(97, 1.0, 4.0), episode(98, -1.0, 0.0), *crowd, *rare])
    assert (buffer.offered, buffer.accepted, buffer.steps) == (54, 52, 162)
    assert len(buffer.episodes) < 6
    kept = {each.number for each in buffer.finish()}
    assert len(kept) == 4
    assert {50, 51} <= kept


def test_episodes_become_a_data_set_in_the_units_of_the_action_box():
    low, high = np.array([0.0], np.float32), np.array([10.0], np.float32)
    parts = [episode(0, 1.0, 0.0, terminated=True), episode(1, 2.0, 1.0, steps=2)]
    data = join(parts, action_low=low, action_high=high, info={})
    assert data.returns.tolist() == [3.0, 4.0]
    assert data.actions[:, 0].tolist() == [7.5] * 5
    assert data.terminated.tolist() == [False, False, True, False, False]
    assert data.truncated.tolist() == [False] * 4 + [True]
    assert data.next_observations is not None
    assert data.next_observations.shape == (5, 2)


def test_a_state_survives_the_journey(tmp_path: Path):
    buffer = Buffer(target=10, seed=0)
    buffer.add([episode(3, 1.0, 0.5, steps=2), episode(7, 2.0, 0.0, terminated=True)])
    path = tmp_path / "x.unfinished"
    save_state(path, iteration=5, buffer=buffer, source={"a": np.arange(3)}, signature={"seed": 1})
    again = Buffer(target=10, seed=0)
    iteration, arrays = load_state(path, again, {"seed": 1})
    assert iteration == 5
    assert arrays["a"].tolist() == [0, 1, 2]
    assert (again.offered, again.accepted, again.steps) == (2, 2, 5)
    for before, after in zip(buffer.episodes, again.episodes, strict=True):
        for name, value in vars(before).items():
            assert np.array_equal(getattr(after, name), value)
    with pytest.raises(RunError, match="seed was 1 and is now 2"):
        load_state(path, Buffer(target=10, seed=0), {"seed": 2})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="damaged"):
        load_state(path, Buffer(target=10, seed=0), {"seed": 1})
