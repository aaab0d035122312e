import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import START, fork, two_arms

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.cql import CQL, ScaledGaussian
from safetrax.data.store import Store, Transitions
from safetrax.errors import ConfigError
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.training.train import train

TINY = CQL(hidden=(8,), batch_size=12, discount=0.9, samples=3, return_range=None, reward_scale=2.0)
QUICK = replace(
    TINY,
    hidden=(32, 32),
    updates=500,
    batch_size=32,
    samples=10,
    reward_scale=10.0,
    discount=0.5,
    policy_learning_rate=3e-3,
    critic_learning_rate=3e-3,
    target_rate=0.05,
    penalty_weight=1.0,
)
DATA = toy_episodes([6, 4, 8])
KEY = jax.random.key(1)


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def started():
    """Store, index, state and the jitted update."""
    store, index = Store.make(DATA, TINY.fields), TINY.index(DATA, 1.0)
    stage = TINY.stages()[0]
    begin = jax.jit(lambda key: stage.begin(TINY.init(key, Spec.of(DATA)), store, index, key))
    return store, index, begin(KEY), jax.jit(stage.update)


@pytest.fixture(scope="module")
def fresh():
    """The state at the published sizes, for 8 observations and 2 actions."""
    return jax.jit(lambda: CQL().init(KEY, Spec.of(toy_episodes([3], observation_size=8))))()


def constant(value: float, inputs: int) -> MLP:
    return MLP((jnp.zeros((inputs, 1)),), (jnp.array([value]),), output="identity", dropout_rate=0.0)


def test_critic_loss_of_constant_values_by_hand():
    # errors (7 - 5)^2 and (4 - 5)^2; the penalty is log 30 + A log 2 for each
    batch = Transitions(
        observations=jnp.zeros((4, 3)),
        actions=jnp.zeros((4, 2)),
        rewards=jnp.zeros(4),
        costs=jnp.zeros(4),
        done=jnp.zeros(4, bool),
        next_observations=jnp.zeros((4, 3)),
    )
    critics = Ensemble((constant(7.0, 5), constant(4.0, 5)))
    log_density = jnp.full((30, 4), 2 * math.log(0.5))
    loss, (error, logged, gap) = CQL().critic_loss(
        critics, batch, jnp.full(4, 5.0), jnp.zeros((30, 4, 2)), log_density
    )
    golden = math.log(30) + 2 * math.log(2)
    np.testing.assert_allclose(gap, np.full((2, 4), golden), rtol=1e-5)
    np.testing.assert_allclose(error, 5.0, rtol=1e-6)
    np.testing.assert_allclose(loss, 5.0 + 10 * 2 * golden, rtol=1e-5)
    np.testing.assert_array_equal(logged, [[7.0] * 4, [4.0] * 4])


def test_each_drawn_action_is_judged_in_its_own_row_s_observation():
    # Q = 10 s + a: three draws for two rows
    observations, actions = jnp.array([[1.0], [2.0]]), jnp.array([[[0.1], [0.2]], [[0.3], [0.4]], [[0.5], [0.6]]])
    batch = Transitions(
        observations=observations,
        actions=jnp.array([[0.7], [0.8]]),
        rewards=jnp.zeros(2),
        costs=jnp.zeros(2),
        done=jnp.zeros(2, bool),
        next_observations=observations,
    )
    linear = MLP((jnp.array([[10.0], [1.0]]),), (jnp.zeros(1),), output="identity", dropout_rate=0.0)
    _, (_, logged, gap) = CQL().critic_loss(Ensemble((linear,)), batch, jnp.zeros(2), actions, jnp.zeros((3, 2)))
    np.testing.assert_allclose(logged, [[10.7, 20.8]], rtol=1e-6)
    drawn = np.array([[10.1, 20.2], [10.3, 20.4], [10.5, 20.6]])
    np.testing.assert_allclose(gap, [np.log(np.exp(drawn).sum(0)) - [10.7, 20.8]], atol=1e-5)


def test_target_has_rewards_scaled_and_no_entropy(started):
    store, index, state, update = started
    flat = jax.tree.map(jnp.zeros_like, state.critics.target)
    lower = eqx.tree_at(lambda c: [m.biases[-1] for m in c.members], flat, [jnp.array([5.0]), jnp.array([4.0])])
    state = eqx.tree_at(lambda s: (s.critics.target, s.critics.learner.network), state, (lower, flat))
    _, metrics = update(state, store, index, KEY)
    rows = np.asarray(index.transitions.sample(jax.random.split(KEY, 3)[0], TINY.batch_size))
    done = (DATA.terminated | DATA.truncated)[rows]
    target = 2 * DATA.rewards[rows] + 0.9 * 4 * ~done
    assert done.any()
    np.testing.assert_allclose(metrics["reward_critic_loss"], 2 * (target**2).mean(), rtol=1e-4)
    # the three uniform actions alone make log 3 + A log 2; those of the policy add to it
    assert float(metrics["penalty"]) > math.log(3) + 2 * math.log(2)
    assert float(metrics["reward_value"]) == 0


def test_rewards_are_scaled_to_the_horizon_unless_told_otherwise(started):
    store, index, state, update = started
    scaled = jax.jit(replace(TINY, return_range="horizon").stages()[0].update)(state, store, index, KEY)[1]
    plain = update(state, store, index, KEY)[1]
    # |Q| against the greatest value that the rewards allow: the same Q, other rewards
    expected = 8 / np.ptp(DATA.returns)  # the longest of the three episodes has 8 steps
    np.testing.assert_allclose(plain["value_ratio"] / scaled["value_ratio"], expected, rtol=1e-4)
    assert CQL().return_range == "horizon"


def test_multiplier_and_offset_make_the_deviation():
    network = MLP((jnp.zeros((1, 2)),), (jnp.array([0.3, 0.5]),), output="identity", dropout_rate=0.0)
    mean, log_std = ScaledGaussian(network, jnp.array(4.0), jnp.array(-1.0)).moments(jnp.ones((1, 1)))
    np.testing.assert_allclose([mean[0, 0], log_std[0, 0]], [0.3, 1.0], rtol=1e-6)
    for offset, expected in ((-90.0, -20.0), (90.0, 2.0)):
        log_std = ScaledGaussian(network, jnp.array(1.0), jnp.array(offset)).moments(jnp.ones((1, 1)))[1]
        assert float(log_std[0, 0]) == expected


def differs(a, b) -> bool:
    return all((np.asarray(x) != np.asarray(y)).any() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_one_update_moves_policy_critics_temperature_and_targets(started):
    store, index, state, update = started
    after, metrics = update(state, store, index, KEY)
    assert differs(after.policy.network, state.policy.network)
    assert differs(after.critics.network, state.critics.network)
    for target, old, new in zip(
        *map(jax.tree.leaves, (after.critics.target, state.critics.target, after.critics.network)), strict=True
    ):
        np.testing.assert_allclose(target, np.asarray(old) + 0.005 * (np.asarray(new) - old), rtol=1e-4, atol=1e-6)
    assert eqx.tree_equal(state.bounds, after.bounds)
    # a fresh policy's entropy is above the target, -2, so the temperature falls: Adam's first step
    assert float(metrics["entropy"]) > -2
    assert float(metrics["temperature"]) == 1
    np.testing.assert_allclose(after.log_temperature.network, -3e-5, rtol=1e-3)


def test_costs_do_not_matter(started):
    store, index, state, update = started
    costly = eqx.tree_at(lambda s: s.costs, store, jnp.ones_like(store.costs))
    assert eqx.tree_equal(update(state, store, index, KEY), update(state, costly, index, KEY))
    assert not CQL().uses_cost_limit


def test_parameter_counts(fresh):
    assert size(fresh.policy.network) == 134_916 + 2
    assert size(fresh.critics.network) == size(fresh.critics.target) == 2 * 134_657


def test_initial_weights_are_those_of_the_reference(fresh):
    for member in fresh.critics.network.members:
        for weight in member.weights[1:-1]:
            np.testing.assert_allclose(np.asarray(weight) @ np.asarray(weight).T, 2 * np.eye(256), atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(member.weights[-1]), 0.01, rtol=1e-4)
        assert not any(np.asarray(bias).any() for bias in member.biases)
    network = fresh.policy.network.network
    assert abs(np.asarray(network.weights[0])).max() == pytest.approx(8**-0.5, rel=0.01)
    assert abs(np.asarray(network.weights[-1])).max() == pytest.approx(0.01 * (6 / 260) ** 0.5, rel=0.02)
    assert not np.asarray(network.biases[-1]).any()
    assert (float(fresh.policy.network.multiplier), float(fresh.policy.network.offset)) == (1.0, -1.0)


def test_the_deployed_action_is_tanh_of_the_mean(started):
    _, _, state, _ = started
    observations = np.asarray(DATA.observations[:4])
    actions, _ = TINY.actor(state).act((), jnp.asarray(observations), ())
    mean, _ = state.policy.network.moments(jnp.asarray(observations))
    np.testing.assert_allclose(actions, np.tanh(mean), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "observation"), [pytest.param(two_arms(2000), np.ones(1), marks=pytest.mark.slow), (fork(), START)]
)
def test_the_more_rewarding_arm_is_chosen_whatever_it_costs(data, observation):
    run = train(QUICK, data)
    assert float(run.policies[0].act(observation)[0]) == pytest.approx(0.5, abs=0.2)


def test_degenerate_runs_are_named():
    assert CQL().diagnose({"policy_gradient": [0.1] * 9, "value_ratio": [2.0] * 9}) == ()
    assert "edge of the action box" in CQL().diagnose({"policy_gradient": [0.0] * 5})[0]
    assert "critics diverge" in CQL().diagnose({"value_ratio": [50.0] * 5})[0]


@pytest.mark.parametrize(
    ("setting", "value"), [("samples", 0), ("penalty_weight", -1.0), ("discount", 2.0), ("return_range", 0.0)]
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(CQL(), **{setting: value})
