"""Evaluations: the right episodes, bitwise the same for any number of workers, deaths included."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stand_in_actors import Diary, Noisy, as_policy, network_policy

from safetrax.envs import make_env, worker_handle
from safetrax.envs.pool import EnvPool
from safetrax.envs.protocol import Answers
from safetrax.errors import ConfigError, RunError, SimulatorError, TaskError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.rollout import default_slots, evaluate
from safetrax.policies.policy import Policies, Policy


@pytest.fixture(scope="module")
def pool() -> Iterator[EnvPool]:
    """Room for three policies and two episodes of each per group."""
    with EnvPool("BallRun", slots=6, workers=2) as pool:
        yield pool


def by_hand(policy: Policy, seed: int, episode: int) -> tuple[float, float, int]:
    """One episode in process, with one observation at a time."""
    env = make_env("BallRun")
    observation, _ = env.reset(seed=seed * 100_000 + episode)
    memory = policy.actor.reset(1)
    key = jax.random.fold_in(jax.random.key(seed), episode)
    returned, spent, length, ended = 0.0, 0.0, 0, False
    while not ended:
        noise = policy.actor.draw(jax.random.fold_in(key, length)[None])
        action, memory = policy.actor.act(memory, jnp.asarray(observation)[None], noise)
        observation, reward, terminated, truncated, info = env.step(np.asarray(action[0]))
        memory = policy.actor.observe(memory, jnp.float32([reward]), jnp.float32([info["cost"]]))
        returned, spent, length = returned + reward, spent + info["cost"], length + 1
        ended = terminated or truncated
    return returned, spent, length


def at_call(pool: EnvPool, monkeypatch: pytest.MonkeyPatch, number: int, disturb: Callable[[], None]) -> None:
    """Have the pool's `receive` call `disturb` first when it is called for that number of times."""
    receive, calls = pool.receive, itertools.count(1)

    def disturbed(group: int) -> Answers:
        if next(calls) == number:
            disturb()
        return receive(group)

    monkeypatch.setattr(pool, "receive", disturbed)


def test_a_stateful_actor_gets_its_own_rewards_and_costs(pool: EnvPool):
    policies = [as_policy(Diary(jnp.float32(push)), i) for i, push in enumerate((1.0, 0.3, -0.5))]
    rows = evaluate(policies, "BallRun", episodes=5, seed=3, pool=pool).rows
    assert [(row.seed, row.episode) for row in rows] == [(s, e) for s in range(3) for e in range(5)]
    for row in rows:
        returned, cost, length = by_hand(policies[row.seed], 3, row.episode)
        assert row.return_ == pytest.approx(returned, rel=1e-4)
        assert (row.cost, row.length) == (cost, length)
        assert row.env_seed == 300_000 + row.episode
    assert max(row.cost for row in rows) > 0


def test_every_episode_has_its_own_key(pool: EnvPool):
    policy = as_policy(Noisy(jnp.zeros(2)))
    rows = evaluate(policy, "BallRun", episodes=4, seed=1, pool=pool).rows
    assert len({row.return_ for row in rows}) == 4
    for row in rows:
        assert row.return_ == pytest.approx(by_hand(policy, 1, row.episode)[0], rel=1e-4)
    assert evaluate(policy, "BallRun", episodes=4, seed=2, pool=pool).rows[0].return_ != rows[0].return_


def test_rows_do_not_depend_on_workers_pools_or_number_of_episodes(pool: EnvPool):
    policies = Policies.stack([network_policy(seed) for seed in range(3)])
    one, two = (evaluate(policies, "BallRun", episodes=5, workers=w) for w in (1, 2))
    assert one.rows == two.rows
    with EnvPool("BallRun", workers=3) as adapting:
        assert evaluate(policies, "BallRun", episodes=5, pool=adapting).rows == one.rows
        assert adapting.slots == default_slots("BallRun", 3) == 33
        fewer = evaluate(policies, "BallRun", episodes=3, pool=adapting).rows
        evaluate(policies[0], "BallRun", episodes=1, pool=adapting)
        assert adapting.slots == default_slots("BallRun", 1) == 32
    assert fewer == tuple(row for row in one.rows if row.episode < 3)
    # with other slots, only rounding may differ
    other = evaluate(policies, "BallRun", episodes=5, pool=pool).rows
    assert np.allclose([row.return_ for row in other], [row.return_ for row in one.rows], rtol=1e-3, atol=0.1)


def test_episodes_of_different_lengths_keep_apart(monkeypatch: pytest.MonkeyPatch):
    tilt = jnp.float32([0.1, 0.1, -0.1, -0.1])
    drones = [as_policy(Noisy(strength * tilt), seed) for seed, strength in enumerate((4.0, 8.0))]
    results = []
    for workers in (1, 2):
        with EnvPool("DroneRun", slots=4, workers=workers) as pool:
            results.append(evaluate(drones, "DroneRun", episodes=5, pool=pool))
            if workers == 2:  # the log of a killed worker then holds episodes that began at different times
                monkeypatch.setattr(worker_handle, "_TRIM", 3)
                at_call(
                    pool, monkeypatch, 150, lambda pool=pool: os.kill(pool._handles[0]._process.pid, signal.SIGKILL)
                )
                assert evaluate(drones, "DroneRun", episodes=5, pool=pool).rows == results[0].rows
                assert pool.deaths == 1
    rows = results[0].rows
    assert rows == results[1].rows
    assert [(row.seed, row.episode) for row in rows] == [(s, e) for s in range(2) for e in range(5)]
    assert len({row.length for row in rows}) > 5
    assert results[0].environment_steps == sum(row.length for row in rows)


def test_a_worker_killed_on_the_way_changes_nothing(pool: EnvPool, monkeypatch: pytest.MonkeyPatch):
    policies = [as_policy(Diary(jnp.float32(push)), i) for i, push in enumerate((1.0, 0.5, 0.0))]
    expected = evaluate(policies, "BallRun", episodes=6, pool=pool).rows
    at_call(pool, monkeypatch, 77, lambda: os.kill(pool._handles[0]._process.pid, signal.SIGKILL))
    assert evaluate(policies, "BallRun", episodes=6, pool=pool).rows == expected
    assert pool.deaths == 1


def test_more_policies_than_slots_take_turns(pool: EnvPool):
    policies = Policies.stack([network_policy(seed) for seed in range(8)])
    rows = evaluate(policies, "BallRun", episodes=2, pool=pool, step=50).rows
    assert [(row.seed, row.episode) for row in rows] == [(s, e) for s in range(8) for e in range(2)]
    assert {row.step for row in rows} == {50}
    alone = evaluate(policies[7], "BallRun", episodes=2, pool=pool, step=50).rows
    assert [row.return_ for row in alone] == pytest.approx([row.return_ for row in rows[-2:]], rel=1e-3, abs=0.1)


def test_an_interrupted_evaluation_leaves_a_usable_pool(pool: EnvPool, monkeypatch: pytest.MonkeyPatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    policy = network_policy(0)
    expected = evaluate(policy, "BallRun", episodes=2, pool=pool).rows
    at_call(pool, monkeypatch, 7, interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate(policy, "BallRun", episodes=2, pool=pool)
    assert evaluate(policy, "BallRun", episodes=2, pool=pool).rows == expected


def test_saving_and_printing(pool: EnvPool, tmp_path):
    from safetrax.evaluation.episodes import read_episodes

    result = evaluate([network_policy(0), network_policy(1)], "BallRun", episodes=2, pool=pool)
    result.save(tmp_path / "rows.csv")
    assert tuple(read_episodes(tmp_path / "rows.csv")) == result.rows
    text = str(result)
    assert "Net" in text
    assert "norm. cost" in text
    assert "4 episodes, 400 environment steps" in text
    assert max(map(len, text.splitlines())) <= 118


def test_sizes_are_checked_before_any_process_starts(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("safetrax.evaluation.rollout.EnvPool", refuse)
    with pytest.raises(TaskError, match="does not take the 8 numbers of an observation of BallCircle"):
        evaluate(network_policy(0), "BallCircle")
    with pytest.raises(TaskError, match="gives actions of 4 numbers, but BallRun takes 2"):
        evaluate(network_policy(0, action_size=4), "BallRun")
    with pytest.raises(TaskError):
        evaluate(network_policy(0), "BallJump")
    for numbers in ({"episodes": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="must be between"):
            evaluate(network_policy(0), "BallRun", **numbers)


def test_contradictions_with_the_pool(pool: EnvPool):
    with pytest.raises(ConfigError, match="steps BallRun"):
        evaluate(network_policy(0, observation_size=8), "BallCircle", pool=pool)
    with pytest.raises(ConfigError, match="either workers or a pool"):
        evaluate(network_policy(0), "BallRun", pool=pool, workers=2)


def test_a_diverged_policy_is_named(pool: EnvPool):
    policies = [as_policy(Noisy(jnp.full(2, mean)), seed) for seed, mean in enumerate((0.1, np.nan))]
    with pytest.raises(RunError, match=r"Noisy_seed-1 gave an action that is not a finite number"):
        evaluate(policies, "BallRun", episodes=2, pool=pool)


def test_an_impossible_cost_ends_the_evaluation_and_what_was_evaluated_is_kept(
    pool: EnvPool, monkeypatch: pytest.MonkeyPatch
):
    policies = Policies.stack([network_policy(seed) for seed in range(3)])
    expected = evaluate(policies, "BallRun", episodes=6, pool=pool).rows
    receive, calls = pool.receive, itertools.count(1)

    def disturbed(group: int) -> Answers:
        answers = receive(group)
        if next(calls) == 210:  # each group's 105th; 101 are the first episodes, then there is a reset
            answers.costs[0] = -1.0
        return answers

    monkeypatch.setattr(pool, "receive", disturbed)
    kept: list[EpisodeRow] = []
    with pytest.raises(
        SimulatorError, match=r"BallRun answered step 3 of episode 5 \(environment seed 5\) with the cost -1"
    ):
        evaluate(policies, "BallRun", episodes=6, pool=pool, on_episode=kept.append)
    assert sorted(kept, key=lambda row: (row.seed, row.episode)) == [row for row in expected if row.episode < 4]
