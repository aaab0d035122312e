import math
from dataclasses import replace
from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import START, fork
from quick import new_key, quick

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.cpq import CPQ, most_divergent, policy_loss
from safetrax.data.store import Store, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.losses.latent import kl_to_standard_normal
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.training.train import train

TINY = CPQ(hidden=(16,), cvae_hidden=16, batch_size=64)
COMPAT = replace(TINY, osrl_compat=True)
FAST = CPQ(
    hidden=(32, 32),
    cvae_hidden=32,
    batch_size=128,
    updates=800,
    discount=0.9,
    cost_done=True,
    policy_learning_rate=3e-4,
    critic_learning_rate=3e-3,
    cvae_learning_rate=3e-3,
    target_rate=0.02,
)


@cache
def compiled(algorithm):
    return jax.jit(algorithm._update)


@cache
def begun(algorithm):
    """A fresh state, thirty episodes of ten steps, and an index for a limit of 3."""
    data = toy_episodes([10] * 30)
    with quick():
        state = jax.jit(partial(algorithm.init, spec=Spec.of(data)))(new_key(0))
    return state, Store.make(data, algorithm.fields), algorithm.index(data, 3.0)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def same(a, b):
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def distance(a, b):
    return max(float(jnp.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def constants(*values, inputs=5):
    """Critics that say the same everywhere."""
    return Ensemble(tuple(MLP((jnp.zeros((inputs, 1)),), (jnp.array([v]),), "identity", 0.0) for v in values))


def half_logged(steps=4000, seed=0):
    """One state; actions between -0.5 and 0.5 earn the more the greater they are, and cost nothing."""
    actions = np.random.default_rng(seed).uniform(-0.5, 0.5, steps)
    ends = np.arange(steps) == steps - 1
    return Trajectories.from_arrays(
        np.ones((steps, 1)), actions[:, None], 1 + actions, np.zeros(steps), np.zeros(steps, bool), ends
    )


def test_parameter_counts():
    spec = Spec.of(toy_episodes([3], observation_size=8))
    state = jax.eval_shape(lambda: CPQ().init(jax.random.key(0), spec))
    assert count(state.policy.network) == 69_124
    assert count(state.reward_critic.network) == count(state.cost_critic.network) == 137_730
    assert count(state.detector.cvae.network) == 334_410
    assert jax.eval_shape(lambda: CPQ(osrl_compat=True).init(jax.random.key(0), spec)).detector is None


def test_targets_by_hand():
    batch = Transitions(
        observations=jnp.zeros((2, 3)),
        actions=jnp.zeros((2, 2)),
        rewards=jnp.array([4.0, 6.0]),
        costs=jnp.array([1.0, 0.0]),
        done=jnp.array([False, True]),
        next_observations=jnp.zeros((2, 3)),
    )
    state = begun(TINY)[0]
    state = replace(
        state,
        reward_critic=replace(state.reward_critic, target=constants(10.0, 20.0)),
        cost_critic=replace(state.cost_critic, target=constants(7.0, 5.0)),
    )
    algorithm = replace(TINY, discount=0.9, reward_shift=1.0)

    def targets(algorithm, threshold):
        return algorithm.targets(state, batch, jnp.zeros((2, 2)), jnp.asarray(threshold))

    rewards, costs = targets(algorithm, 5.0)  # the least cost value, 5, is within the limit
    np.testing.assert_allclose(rewards, [0.1 * 5 + 9, 0.1 * 7], rtol=1e-6)
    np.testing.assert_allclose(costs, [1 + 4.5, 4.5], rtol=1e-6)
    np.testing.assert_allclose(targets(algorithm, 4.9)[0], [0.5, 0.7], rtol=1e-6)
    np.testing.assert_allclose(targets(replace(algorithm, cost_done=True), 5.0)[1], [5.5, 0], rtol=1e-6)


def test_actions_beyond_the_limit_count_nothing_and_give_no_gradient():
    critic = Ensemble.make(jax.random.key(0), (5, 16), 2)
    cost_critic = Ensemble.make(jax.random.key(1), (5, 16), 2)
    observations = jax.random.normal(jax.random.key(2), (64, 3))
    actions = jax.random.uniform(jax.random.key(3), (64, 2), minval=-1)
    costs, values = cost_critic.min(observations, actions), critic.min(observations, actions)
    threshold = jnp.median(costs)
    allowed = costs <= threshold
    loss, active = policy_loss(critic, cost_critic, observations, actions, threshold)
    assert float(loss) == pytest.approx(-float(jnp.mean(jnp.where(allowed, values, 0))), rel=1e-5)
    assert float(active) == float(jnp.mean(allowed)) == 0.5
    gradient = jax.grad(lambda a: policy_loss(critic, cost_critic, observations, a, threshold)[0])(actions)
    assert np.all(np.any(np.asarray(gradient) != 0, axis=1) == allowed)


@pytest.mark.parametrize(("n", "quantile", "number"), [(5120, 0.75, 1280), (11, 0.75, 3), (10, 0.5, 5), (7, 0.0, 7)])
def test_the_flagged_draws_are_those_above_the_quantile(n, quantile, number):
    divergence = np.random.default_rng(0).permutation(n).astype(np.float32)
    flagged = np.asarray(most_divergent(jnp.asarray(divergence), quantile))
    assert flagged.size == number
    assert set(flagged.tolist()) == set(np.flatnonzero(divergence >= np.quantile(divergence, quantile)).tolist())


def test_alpha_rises_by_what_flagged_cost_values_lack():
    state, store, index = begun(TINY)
    after, metrics = compiled(TINY)(state, store, index, jax.random.key(1))
    lack = 1.5 * float(index.threshold) - float(metrics["flagged_cost"])
    assert lack > 0
    assert float(after.detector.log_alpha) == pytest.approx(TINY.alpha_learning_rate * lack, rel=1e-5)


def test_osrl_s_penalty_leaves_every_gradient_bit_as_it_is():
    """OSRL computes it without gradient, from the target critic, so leaving it out reproduces OSRL."""
    state, store, index = begun(TINY)
    batch = store.transitions(jnp.arange(64))
    targets = jax.random.normal(jax.random.key(1), (64,))

    def loss(network, penalised):
        estimates = network(batch.observations, batch.actions)
        value = jnp.sum(jnp.mean(jnp.square(estimates - targets), axis=1))
        if not penalised:
            return value
        draws = state.policy.network.draw(jax.random.key(2), batch.observations, 10)  # before the tanh
        actions, observations = draws.reshape(-1, 2), jnp.tile(batch.observations, (10, 1))
        divergence = kl_to_standard_normal(*state.detector.cvae.network.encode(observations, actions)).mean(-1)
        costs = state.cost_critic.target.min(observations, actions)
        raised = jnp.mean((divergence >= jnp.quantile(divergence, 0.75)) * costs)
        return value - jnp.exp(state.detector.log_alpha) * (jax.lax.stop_gradient(raised) - 1.5 * index.threshold)

    with_it, without = (jax.grad(loss)(state.cost_critic.network, penalised) for penalised in (True, False))
    assert same(with_it, without)


def test_the_penalty_acts_on_the_cost_critic_only_and_raises_it():
    state, store, index = begun(TINY)

    def after(log_alpha):
        weighted = replace(state, detector=replace(state.detector, log_alpha=jnp.float32(log_alpha)))
        return compiled(TINY)(weighted, store, index, jax.random.key(1))[0]

    off, on = after(-np.inf), after(5.0)
    compat = compiled(COMPAT)(replace(state, detector=None), store, index, jax.random.key(1))[0]
    assert distance(off.cost_critic.network, compat.cost_critic.network) < 1e-5
    assert distance(off.reward_critic, compat.reward_critic) < 1e-5
    assert same(on.reward_critic, off.reward_critic)
    assert same(on.detector.cvae, off.detector.cvae)
    observations = store.observations[:64]
    draws = jnp.tanh(state.policy.network.draw(jax.random.key(2), observations)[0])
    raised = on.cost_critic.network.min(observations, draws) - off.cost_critic.network.min(observations, draws)
    assert float(jnp.mean(raised)) > 0


def test_the_penalty_ends_where_the_flagged_draws_cost_enough():
    """Where Q_c is above 1.5 q everywhere the penalty gives no gradient, whatever its weight, and alpha falls."""
    state, store, index = begun(TINY)
    high = tuple(replace(m, biases=(*m.biases[:-1], m.biases[-1] + 100)) for m in state.cost_critic.network.members)
    state = eqx.tree_at(lambda s: s.cost_critic.learner.network, state, Ensemble(high))

    def after(log_alpha):
        weighted = replace(state, detector=replace(state.detector, log_alpha=jnp.float32(log_alpha)))
        return compiled(TINY)(weighted, store, index, jax.random.key(1))

    (on, metrics), (off, _) = after(4.0), after(-20.0)
    assert float(metrics["flagged_cost"]) > 1.5 * float(index.threshold)
    assert distance(on.cost_critic, off.cost_critic) == 0
    assert float(on.detector.log_alpha) < 4


def test_one_update_changes_what_it_should():
    state, store, index = begun(TINY)
    after, metrics = compiled(TINY)(state, store, index, jax.random.key(1))
    assert not same(state.policy.network, after.policy.network)
    assert not same(state.detector.cvae.network, after.detector.cvae.network)
    assert after.detector.log_alpha != 0
    for old, new in ((state.reward_critic, after.reward_critic), (state.cost_critic, after.cost_critic)):
        assert not same(old.network, new.network)
        expected = jax.tree.map(lambda t, n: t + 0.005 * (n - t), old.target, new.network)
        assert distance(new.target, expected) < 1e-6
    assert same(state.bounds, after.bounds)
    assert 0 <= float(metrics["out_of_distribution"]) <= 1
    assert float(metrics["alpha"]) == 1


def test_nothing_allowed_leaves_the_policy_as_it_is():
    state, store, index = begun(TINY)
    index = replace(index, threshold=jnp.float32(-1e6))
    after, metrics = compiled(TINY)(state, store, index, jax.random.key(1))
    assert same(state.policy.network, after.policy.network)
    assert float(metrics["policy_active"]) == float(metrics["policy_gradient"]) == 0
    assert float(metrics["above_limit"]) == 1


def test_both_branches_are_found_without_the_penalty():
    algorithm = replace(FAST, osrl_compat=True)
    run = train(algorithm, fork(), cost_limits=[2.0, 6.0], seeds=[0, 1])
    assert [run.algorithm for run in run.ids] == ["CPQ-OSRL"] * 4
    for policy in run.policies:
        first = float(policy.act(START)[0])
        assert first < -0.3 if policy.id.cost_limit == 2 else first > 0.3


@pytest.mark.slow
def test_flagged_draws_cost_one_and_a_half_thresholds_and_logged_ones_what_they_cost():
    """Nothing costs anything, the limit is two per step and no value follows: only the penalty raises."""
    run = train(replace(FAST, discount=0.0, reward_scale=1.0), half_logged(), cost_limits=[8000.0], seeds=[0, 1])
    last = {(row.metric, row.seed): row.value for row in run.metrics}
    for seed in (0, 1):
        assert last["flagged_cost", seed] == pytest.approx(1.5 * 2, abs=0.5)
        assert last["above_limit", seed] < 0.01  # of the logged actions
        assert last["alpha", seed] < 2  # it began with 1


@pytest.mark.slow
def test_the_penalty_spreads_to_logged_actions_where_the_policy_leaves_the_data():
    """Targets look at the policy's own draws: what is raised comes back, and ends."""
    run = train(FAST, fork(), cost_limits=[2.0], seeds=[0, 1])
    last = {(row.metric, row.seed): row.value for row in run.metrics}
    threshold = 2 / 5 * (1 - 0.9**5) / 0.1
    for seed in (0, 1):
        assert last["above_limit", seed] > 0.5  # half of the log's steps lie in the branch without cost
        # an even mixture costs 1.2 on average; without an end to the penalty it was more than 10
        assert threshold < last["cost_value", seed] < 6


def test_signs_of_a_degenerate_run():
    assert CPQ().diagnose({"policy_active": [0.0] * 4, "alpha": [1.0] * 9, "reward_value": [1.0] * 9}) == ()
    (inactive,) = CPQ().diagnose({"policy_active": [0.5] + [0.0] * 5})
    assert "no gradient" in inactive
    (bound,) = CPQ().diagnose({"alpha": [math.exp(5)] * 5})
    assert "upper bound" in bound
    (negative,) = CPQ().diagnose({"reward_value": [-1.0] * 5})
    assert "reward_shift" in negative


@pytest.mark.parametrize(
    ("setting", "value"), [("ood_quantile", 1.0), ("samples", 0), ("target_rate", 0), ("kl_weight", -1)]
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises((ConfigError, Exception), match=setting):
        replace(CPQ(), **{setting: value})


def test_names_and_schedule():
    assert CPQ().name == "CPQ"
    assert CPQ(osrl_compat=True).name == "CPQ-OSRL"
    assert CPQ.preset("metadrive").updates == 2 * CPQ.preset("bullet").updates == 200_000
