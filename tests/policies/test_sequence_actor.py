"""Actors with a memory: what they remember, how targets count down, and what may be asked of them."""

import functools
import itertools
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.catalogue import get_task
from safetrax.errors import ConfigError, SafeTraXWarning, TaskError
from safetrax.nets.decision_transformer import DecisionTransformer
from safetrax.policies.actor import Standardised
from safetrax.policies.batched import BatchedActors, Feed, require_fit
from safetrax.policies.policy import Policies, Policy
from safetrax.policies.sequence import SequenceActor, Targets
from safetrax.run_id import RunId

O, A, K, STEPS = 3, 2, 4, 7  # noqa: E741

act = jax.jit(lambda actor, memory, observations: actor.act(memory, observations, ()))
foreseen = jax.jit(lambda network, *history: network.moments(network(*history)[0])[0])


def targets() -> Targets:
    """Of a log that returns 0 to 100 and costs 0 to 30."""
    return Targets(
        jnp.array([[10.0, 40.0], [20.0, 60.0]]), jnp.array([0.0, 100.0]), jnp.array([0.0, 30.0], jnp.float32)
    )


@jax.jit
def fresh(key: jax.Array) -> DecisionTransformer:
    """With weights so large that every token is heard, of 16 time steps and padding."""
    network = DecisionTransformer.make(key, O, A, 16 + K, width=8, blocks=2, heads=2, dropout=0.5)
    large = jax.tree.map(lambda leaf: 5 * leaf if leaf.ndim == 2 else leaf, network)
    return replace(large, mean=network.mean)


@functools.cache
def make_actor(seed: int = 0) -> SequenceActor:
    bounds = jnp.array([-1.0, 0.0]), jnp.array([1.0, 10.0])
    actor = SequenceActor.make(fresh(jax.random.key(seed)), *bounds, targets(), K)
    return actor.adjusted(cost_limit=15.0)


def make_policy(seed: int = 0) -> Policy:
    return Policy(make_actor(seed), RunId("CDT", "BallRun", 15.0, seed))


def episode(seed: int, n: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, rewards and costs of every step."""
    rng = np.random.default_rng(seed)
    numbers = [rng.standard_normal((STEPS, n, O)), rng.uniform(0, 9, (STEPS, n)), rng.binomial(1, 0.5, (STEPS, n))]
    return tuple(np.float32(x) for x in numbers)


def play(actor: SequenceActor, seed: int, n: int = 2) -> tuple[np.ndarray, list]:
    memory, actions, memories = actor.reset(n), [], []
    for observations, rewards, costs in zip(*episode(seed, n), strict=True):
        memories.append(memory)
        action, memory = act(actor, memory, observations)
        actions.append(np.asarray(action))
        memory = actor.observe(memory, jnp.asarray(rewards), jnp.asarray(costs))
    return np.stack(actions), [*memories, memory]


def test_targets_count_down_and_do_not_stop_at_zero():
    actor = make_actor()
    memories = play(actor, 0)[1]
    _, rewards, costs = episode(0)
    spent = lambda x: np.cumsum(np.concatenate([np.zeros((1, 2)), x]), axis=0)  # noqa: E731
    for memory, earned, paid in zip(memories, spent(rewards), spent(costs), strict=True):
        np.testing.assert_allclose(memory.return_left, 50 - earned, atol=1e-4)  # half way from 40 at 10 to 60 at 20
        np.testing.assert_allclose(memory.cost_left, 15 - paid, atol=1e-5)
    poor = actor.observe(actor.reset(1), jnp.array([70.0]), jnp.array([40.0]))
    assert (float(poor.return_left[0]), float(poor.cost_left[0])) == (-20, -25)


def test_an_action_is_what_the_network_foresees_from_the_last_steps():
    actor = make_actor()
    actions, memories = play(actor, 1)
    observations, *_ = episode(1)
    unit = actions / [1, 5] - [0, 1]  # from the bounds to [-1, 1]
    for now in range(STEPS):
        first = max(0, now - K + 1)
        steps = slice(first, now + 1)
        history = [
            np.stack([m.return_left for m in memories[steps]], axis=1),
            np.stack([m.cost_left for m in memories[steps]], axis=1),
            observations[steps].swapaxes(0, 1),
            np.concatenate([unit[first:now], np.full((1, 2, A), 9.0)]).swapaxes(0, 1),  # its own is not known yet
            np.tile(np.arange(first, now + 1), (2, 1)),
        ]
        history = [np.asarray(x, np.int32 if x.dtype.kind == "i" else np.float32) for x in history]
        expected = np.clip(foreseen(actor.network, *history)[:, -1], -1, 1)
        np.testing.assert_allclose(unit[now], expected, atol=1e-4)
    assert np.abs(np.diff(unit, axis=0)).max() > 1e-3


def test_rows_restart_alone():
    """In one compiled call for all episodes of all policies, as evaluations make it."""
    actor = jax.tree.map(lambda *leaves: jnp.stack(leaves), make_actor(0), make_actor(1))
    batched = BatchedActors(actor, 2, seed=0)
    starts = np.array([[0, 0], [0, 3]])  # the second episode of the second policy begins later
    told = {seed: episode(seed) for seed in (0, 1)}
    given = []
    for step in range(5):
        steps = np.maximum(step - starts, 0)
        numbers = [np.stack([told[p][i][steps[p], range(2)] for p in (0, 1)]) for i in range(3)]
        before = [np.stack([told[p][i][np.maximum(steps[p] - 1, 0), range(2)] for p in (0, 1)]) for i in (1, 2)]
        given.append(batched.act(Feed.of(numbers[0], *before, np.zeros((2, 2), int), steps)))
    for p, n in itertools.product((0, 1), (0, 1)):
        first = starts[p, n]
        alone = play(make_actor(p), p)[0][:, n]
        np.testing.assert_allclose(np.stack(given)[first:, p, n], alone[: 5 - first], atol=1e-4)


def test_other_limits_and_returns_may_be_asked_for_in_any_order():
    actor = make_actor()

    def asked(**values: float) -> tuple[float, float]:
        memory = actor.adjusted(**values).reset(1)
        return float(memory.return_left[0]), float(memory.cost_left[0])

    assert asked() == (50, 15)
    assert asked(cost_limit=12.0) == (44, 12)
    assert asked(cost_limit=0.0) == (40, 0)  # below the table: that of its least limit
    assert asked(cost_limit=30.0) == (60, 30)
    assert asked(target_return=7.0) == (7, 15)
    assert asked(target_return=7.0, cost_limit=12.0) == asked(cost_limit=12.0, target_return=7.0) == (7, 12)


def test_what_was_not_trained_is_refused_or_warned_of():
    policies = Policies.stack([make_policy(0), make_policy(1)])
    standardised = Policy(Standardised(make_actor(), jnp.zeros(O), jnp.ones(O)), make_policy().id)
    for policy in (make_policy(), policies, standardised):
        with pytest.raises(ConfigError, match=r"cost_limit is 31, .* cost 0 to 30; choose a limit among them"):
            policy.adjusted(cost_limit=31.0)
        with pytest.warns(
            SafeTraXWarning, match="the return 101, but it is trained on episodes that return 0 to 100"
        ):
            policy.adjusted(target_return=101.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            other = policy.adjusted(cost_limit=30.0, target_return=100.0)
        first = other[0] if isinstance(other, Policies) else other
        assert str(first.id) == "CDT@target_return=100_limit-30_seed-0"


def test_a_saved_policy_goes_on_alike(tmp_path):
    policy = make_policy()
    again = Policy.load(policy.save(tmp_path / "p.safetensors"))
    observations, rewards, costs = episode(2)
    for each in (policy, again):
        each.reset(2)
    for step in range(STEPS):
        np.testing.assert_array_equal(policy.act(observations[step]), again.act(observations[step]))
        for each in (policy, again):
            each.observe(rewards[step], costs[step])
    assert again.adjusted(cost_limit=20.0).fingerprint() == policy.adjusted(cost_limit=20.0).fingerprint()


def test_sizes_and_lengths_are_checked_before_any_episode():
    with pytest.raises(ConfigError, match="takes observations of 3 numbers, got 5"):
        make_policy().act(np.zeros(5))
    task = replace(get_task("BallRun"), observation_size=O, horizon=16)
    fits = Policies.stack([make_policy()])
    require_fit(fits, task)
    with pytest.raises(TaskError, match=r"BallRun has 17 steps, but the policy CDT_.* knows 16 only"):
        require_fit(fits, replace(task, horizon=17))
    with pytest.raises(TaskError, match="does not take the 1 numbers"):
        require_fit(fits, replace(task, observation_size=1))


def test_what_a_log_tells_to_ask_for():
    data = toy_episodes([4] * 6)
    costs = np.zeros((6, 4))
    costs[:, 0] = [0, 16, 16, 32, 48, 64]
    rewards = np.zeros((6, 4))
    rewards[:, 0] = [5, 3, 9, 7, 20, 11]
    data = replace(data, costs=costs.ravel().astype(np.float32), rewards=rewards.ravel().astype(np.float32))
    told = Targets.of(data, (), ())
    for limit, best in ((0, 5), (15, 5), (16, 9), (47, 9), (48, 20), (64, 20), (900, 20)):
        assert float(told.asked(limit)) == best
    given = Targets.of(data, (10.0, 20.0), (1.0, 2.0))
    assert float(given.asked(15)) == 1.5
    for one, other in ((told, ()), (given, (10.0, 20.0))):
        shapes = [leaf.shape for leaf in jax.tree.leaves(Targets.unknown(other))]
        assert shapes == [leaf.shape for leaf in jax.tree.leaves(one)]
    assert told.doubts(40, (0, 64)) == ()
    assert "outside of 0 to 64" in told.doubts(70, (0, 64))[0]
    assert "return 2, but it is trained on episodes that return 3 to 20" in given.doubts(20, (0, 64))[0]
