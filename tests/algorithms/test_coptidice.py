from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import START, fork, two_arms

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.coptidice import COptiDICE, starts_episode
from safetrax.data.store import Store
from safetrax.errors import ConfigError
from safetrax.losses.dice import advantage, occupancy_weights
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.nets.mlp import MLP
from safetrax.training.train import train

TINY = COptiDICE(hidden=(16,), batch_size=64, critic_learning_rate=0.1, multiplier_learning_rate=0.5)
FAST = COptiDICE(
    hidden=(32, 32),
    batch_size=256,
    updates=800,
    policy_learning_rate=3e-3,
    critic_learning_rate=3e-3,
    multiplier_learning_rate=3e-2,
)


@cache
def compiled(algorithm):
    return jax.jit(algorithm.stages()[0].update)


def begun(algorithm, data, limit=3.0):
    store = Store.make(data, algorithm.fields)
    index = algorithm.index(data, limit)
    state = jax.jit(partial(algorithm.init, spec=Spec.of(data)))(jax.random.key(0))
    begin = algorithm.stages()[0].begin
    return begin(state, store, index, jax.random.key(1)), store, index, compiled(algorithm)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def same(a, b):
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def last(run, metric, limit):
    return next(row.value for row in reversed(run.metrics) if (row.metric, row.cost_limit) == (metric, limit))


def constant_gaussian(mean, log_std):
    """A policy with that mean and log standard deviation everywhere."""
    return SquashedGaussian(MLP((jnp.zeros((3, 2)),), (jnp.array([mean, log_std]),), "identity", 0.0))


def test_parameter_counts():
    spec = Spec.of(toy_episodes([3], observation_size=8))
    state = jax.eval_shape(lambda: COptiDICE().init(jax.random.key(0), spec))
    assert count(state.policy.network) == 69_124
    assert count(state.values.network) == count(state.bound.values.network) == 2 * 68_353


def test_thresholds():
    data = two_arms(steps=1000)
    assert float(TINY.index(data, 10.0).threshold) == pytest.approx(0.01, rel=1e-3)
    assert float(replace(TINY, osrl_compat=True).index(data, 10.0).threshold) == pytest.approx(1.0, rel=1e-3)
    data = toy_episodes([3, 5, 2])
    index = TINY.index(data, 4.0)
    assert float(index.threshold) == pytest.approx(4 / 5 * (1 - 0.99**5), rel=1e-5)
    assert float(index.initial_share) == pytest.approx(0.3)


def test_first_rows():
    offsets = Store.make(toy_episodes([3, 5, 1, 2]), ()).offsets
    first = starts_episode(offsets, jnp.arange(11))
    assert np.flatnonzero(first).tolist() == [0, 3, 8, 9]


def test_noise_is_a_tenth_of_the_data_s_deviation():
    data = toy_episodes([40] * 5)
    state, _, _, _ = begun(TINY, data)
    np.testing.assert_allclose(state.observation_noise, 0.1 * data.observations.std(0), rtol=1e-5)
    np.testing.assert_allclose(state.action_noise, 0.1 * data.actions.std(0), rtol=1e-5)


def test_the_likelihood_is_that_of_the_executed_action():
    observations, action = jnp.zeros((1, 3)), jnp.array([[0.9]])

    def best_action(algorithm):
        def likelihood(mean):
            return algorithm._log_prob(constant_gaussian(mean, 0.0), observations, action)[0]

        means = jnp.linspace(0, 3, 3001)
        return jnp.tanh(means[jnp.argmax(jax.vmap(likelihood)(means))])

    assert float(best_action(TINY)) == pytest.approx(0.9, abs=1e-3)
    assert float(best_action(replace(TINY, osrl_compat=True))) == pytest.approx(0.716, abs=1e-3)
    density = float(TINY._log_prob(constant_gaussian(0.2, -0.5), observations, action)[0])
    u, std = np.arctanh(0.9), np.exp(-0.5)
    expected = -0.5 * ((u - 0.2) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi)) - np.log(1 - 0.9**2)
    assert density == pytest.approx(expected, rel=1e-5)
    beyond = TINY._log_prob(constant_gaussian(0.2, -0.5), observations, jnp.array([[1.3]]))
    assert np.isfinite(beyond).all()


def test_one_update_changes_what_it_should_and_weighs_with_the_new_values(toy):
    state, store, index, update = begun(TINY, toy)
    after, metrics = update(state, store, index, jax.random.key(2))
    assert float(metrics["multiplier"]) == float(metrics["tau"]) == pytest.approx(1.3133, abs=1e-4)
    assert not same(state.policy.network, after.policy.network)
    assert not same(state.values.network, after.values.network)
    assert not same(state.bound.values.network, after.bound.values.network)
    assert float(after.bound.temperature.network) != 1
    assert same((state.observation_noise, state.bounds), (after.observation_noise, after.bounds))

    batch = store.transitions(index.transitions.sample(jax.random.split(jax.random.key(2))[0], 64))

    def mean_weight(values):
        here, following = values.min(batch.observations), values.min(batch.next_observations)
        multiplier = jax.nn.softplus(state.multiplier.network)
        e = advantage(0.1 * batch.rewards, batch.costs, multiplier, here, following, batch.done, 0.99)
        return float(jnp.mean(occupancy_weights(e, 0.5, "soft-chi2")))

    assert float(metrics["mean_weight"]) == pytest.approx(mean_weight(after.values.network), abs=1e-5)
    assert float(metrics["mean_weight"]) != pytest.approx(mean_weight(state.values.network), abs=1e-3)
    excess = float(metrics["cost_value"] - index.threshold)
    assert np.sign(after.multiplier.network - 1) == np.sign(excess) != 0


def test_without_the_upper_bound_the_estimate_is_the_weighted_cost(toy):
    state, store, index, update = begun(replace(TINY, cost_divergence=0), toy)
    after, metrics = update(state, store, index, jax.random.key(2))
    assert after.bound is None
    assert float(metrics["cost_value"]) == float(metrics["cost_per_step"])
    assert "tau" not in metrics


def test_without_costs_the_multiplier_falls_to_zero(toy):
    data = replace(toy, costs=np.zeros_like(toy.costs))
    state, store, index, update = begun(TINY, data)
    multipliers = []
    for step in range(40):
        state, metrics = update(state, store, index, jax.random.key(step))
        multipliers.append(float(metrics["multiplier"]))
    assert np.all(np.diff(multipliers) < 0)
    assert multipliers[-1] < 0.01


@pytest.mark.slow
def test_arms_and_what_osrl_makes_of_the_limit():
    """20 episodes of 1000 steps: a limit of 10 is 1 % risky steps, one of 2000 is none."""
    algorithm = replace(FAST, alpha=0.02)
    data = two_arms(steps=1000, episodes=20)
    run = train(algorithm, data, cost_limits=[10.0, 2000.0], log_every=200)
    strict, loose = (float(policy.act(np.ones(1))[0]) for policy in run.policies)
    assert strict < -0.45
    assert loose > 0.25
    assert last(run, "cost_value", 10.0) == pytest.approx(0.01, abs=0.006)
    assert last(run, "multiplier", 10.0) > 5 * last(run, "multiplier", 2000.0)

    run = train(replace(algorithm, osrl_compat=True), data, cost_limits=[10.0], log_every=200)
    assert [run.algorithm for run in run.ids] == ["COptiDICE-OSRL"]
    assert float(run.policies[0].act(np.ones(1))[0]) > 0.15  # risky: the constraint does not bind
    assert last(run, "cost_per_step", 10.0) > 0.5


def test_first_actions_are_told_apart_by_what_follows():
    algorithm = replace(FAST, alpha=0.1, reward_scale=1.0, discount=0.9)
    run = train(algorithm, fork(), cost_limits=[0.1, 50.0], log_every=200)
    strict, loose = (float(policy.act(START)[0]) for policy in run.policies)
    assert strict < -0.4
    assert loose > 0.4


def test_signs_of_a_degenerate_run():
    assert COptiDICE().diagnose({"zero_weights": [0.5] * 9, "multiplier": [1, 2, 3, 4, 5, 6, 5.9]}) == ()
    (weights,) = COptiDICE().diagnose({"zero_weights": [1.0] * 5})
    assert "weights are zero" in weights
    (multiplier,) = COptiDICE().diagnose({"multiplier": [5.0, 6, 7, 8, 9, 10]})
    assert "multiplier keeps growing" in multiplier


@pytest.mark.parametrize(
    ("setting", "value"), [("divergence", "js"), ("discount", 1.0), ("alpha", 0), ("critics", 0)]
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises((ConfigError, Exception), match=setting):
        replace(COptiDICE(), **{setting: value})


def test_names_and_schedule():
    assert COptiDICE().name == "COptiDICE"
    assert COptiDICE(osrl_compat=True).name == "COptiDICE-OSRL"
    assert COptiDICE.preset("metadrive").updates == 2 * COptiDICE.preset("bullet").updates == 200_000
