from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import START, fork, two_arms

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.deterministic import cloning_value_loss, smoothed_target
from safetrax.algorithms.td3_bc import TD3BC
from safetrax.data.store import Store, Transitions
from safetrax.errors import ConfigError
from safetrax.nets.mlp import MLP
from safetrax.training.train import train

TINY = TD3BC(hidden=(8,), batch_size=12, discount=0.9)
QUICK = replace(TINY, hidden=(32, 32), updates=600, batch_size=128, learning_rate=3e-3, target_rate=0.05)
LINEAR = replace(TINY, hidden=())  # no hidden layer: everything by hand
DATA = toy_episodes([6, 4, 8])
KEY = jax.random.key(3)


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def linear(weights: list[float], bias: float = 0.0, output: str = "identity") -> MLP:
    """One output, no hidden layer."""
    return MLP((jnp.array(weights)[:, None],), (jnp.array([bias]),), output=output, dropout_rate=0.0)


def batch_of(actions: list[float], rewards: list[float], done: list[bool]) -> Transitions:
    n = len(actions)
    return Transitions(
        observations=jnp.zeros((n, 1)),
        actions=jnp.array(actions)[:, None],
        rewards=jnp.array(rewards),
        costs=jnp.zeros(n),
        done=jnp.array(done),
        next_observations=jnp.ones((n, 1)),
    )


@pytest.fixture(scope="module")
def started():
    """Store, index, state and the jitted update."""
    store, index = Store.make(DATA, TINY.fields), TINY.index(DATA, 1.0)
    stage = TINY.stages()[0]
    begin = jax.jit(lambda key: stage.begin(TINY.init(key, Spec.of(DATA)), store, index, key))
    return store, index, begin(KEY), jax.jit(stage.update)


def test_target_by_hand():
    # pi'(s') = tanh(atanh(0.8)); Q1' = 3 a', Q2' = a' + s': the smaller one is 0.8 + 1
    spec = Spec.of(toy_episodes([3], observation_size=1, action_size=1))
    state = LINEAR.init(KEY, spec)
    state = eqx.tree_at(lambda s: s.policy.target, state, linear([0.0], np.arctanh(0.8), "tanh"))
    critics = (linear([0.0, 3.0]), linear([1.0, 1.0]))
    state = eqx.tree_at(lambda s: s.critics.target.members, state, critics)
    batch = batch_of([0.0, 0.0], [1.0, 2.0], [False, True])

    def target(batch, noise):
        return smoothed_target(
            state.policy, state.critics, batch, batch.rewards, KEY, discount=0.9, noise=noise, clip=0.5
        )

    np.testing.assert_allclose(target(batch, 0.0), [1 + 0.9 * 1.8, 2.0], rtol=1e-5)
    # noise is cut at +-0.5, and the noisy action at the edge of the box
    many = jax.tree.map(lambda x: jnp.repeat(x[:1], 50, axis=0), batch)
    values = np.unique(np.asarray(target(many, 1e6)).round(4))
    np.testing.assert_allclose(values, [1 + 0.9 * 0.9, 1 + 0.9 * 2.0], rtol=1e-4)  # 3 * 0.3 and 1 + 1


def loss_and_gradient(policy, critic, batch):
    return jax.value_and_grad(cloning_value_loss, has_aux=True)(policy, critic, batch, 2.5)


def test_policy_loss_and_its_gradient_by_hand():
    # pi = 1/2 everywhere, Q = 2 a: lambda = 2.5, loss = (0.4^2 + 0.6^2) / 2 - 2.5
    policy, critic = linear([0.0], np.arctanh(0.5), "tanh"), linear([0.0, 2.0])
    batch = batch_of([0.1, -0.1], [0.0, 0.0], [False, False])
    (loss, (weight, distance)), gradient = loss_and_gradient(policy, critic, batch)
    np.testing.assert_allclose([loss, weight, distance], [0.26 - 2.5, 2.5, 0.26], rtol=1e-5)
    # lambda passes no gradient: (2 * 0.5 - 2.5 * 2) tanh'
    np.testing.assert_allclose(gradient.biases[0], [(1.0 - 5.0) * 0.75], rtol=1e-5)


def scaled(critic: MLP, factor: float) -> MLP:
    return eqx.tree_at(
        lambda c: (c.weights[-1], c.biases[-1]), critic, (factor * critic.weights[-1], factor * critic.biases[-1])
    )


def test_the_scale_of_values_does_not_change_the_policy_s_gradient(started):
    store, _, state, _ = started
    batch = store.transitions(jnp.arange(18))
    policy, critic = state.policy.network, state.critics.network.members[0]
    gradient_of = jax.jit(lambda critic: loss_and_gradient(policy, critic, batch))
    (loss, (weight, _)), gradient = gradient_of(critic)
    for factor in (1e-3, 1e3):
        (other_loss, (other_weight, _)), other = gradient_of(scaled(critic, factor))
        for x, y in zip(jax.tree.leaves(gradient), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(other_loss, loss, rtol=1e-4)
        np.testing.assert_allclose(other_weight * factor, weight, rtol=1e-4)
    # and without the value it is behaviour cloning
    _, cloned = jax.value_and_grad(cloning_value_loss, has_aux=True)(policy, critic, batch, 0.0)
    bc = jax.grad(lambda network: jnp.mean(jnp.square(network(batch.observations) - batch.actions)))(policy)
    for x, y in zip(jax.tree.leaves(cloned), jax.tree.leaves(bc), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7)


def differs(a, b) -> bool:
    return all((np.asarray(x) != np.asarray(y)).any() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_the_first_update_moves_the_critics_alone_and_the_second_everything(started):
    store, index, state, update = started
    first, metrics = update(state, store, index, KEY)
    assert differs(first.critics.network, state.critics.network)
    assert eqx.tree_equal(first.critics.target, state.critics.target)
    assert eqx.tree_equal(first.policy, state.policy)
    assert (float(metrics["policy_loss"]), float(metrics["value_weight"])) == (0.0, 0.0)
    second, metrics = update(first, store, index, jax.random.key(4))
    for part in ("policy", "critics"):
        old, new = getattr(first, part), getattr(second, part)
        assert differs(new.network, old.network)
        for target, before, network in zip(*map(jax.tree.leaves, (new.target, old.target, new.network)), strict=True):
            moved = np.asarray(before) + 0.005 * (np.asarray(network) - before)
            np.testing.assert_allclose(target, moved, rtol=1e-4, atol=1e-6)
    third, again = update(second, store, index, jax.random.key(5))
    assert eqx.tree_equal(third.policy, second.policy)
    names = ("policy_loss", "policy_gradient", "value_weight", "behaviour_distance")
    assert {name: float(again[name]) for name in names} == {name: float(metrics[name]) for name in names}
    assert float(metrics["policy_gradient"]) > 0


def test_critic_loss_sums_the_errors_of_both(started):
    store, index, state, update = started
    flat = jax.tree.map(jnp.zeros_like, state.critics.target)  # targets are the rewards
    ones = eqx.tree_at(lambda c: [m.biases[-1] for m in c.members], flat, [jnp.ones(1), 3 * jnp.ones(1)])
    state = eqx.tree_at(lambda s: (s.critics.target, s.critics.learner.network), state, (flat, ones))
    _, metrics = update(state, store, index, KEY)
    rows = np.asarray(index.transitions.sample(jax.random.split(KEY)[0], TINY.batch_size))
    errors = ((1 - DATA.rewards[rows]) ** 2).mean() + ((3 - DATA.rewards[rows]) ** 2).mean()
    np.testing.assert_allclose(metrics["reward_critic_loss"], errors, rtol=1e-4)
    np.testing.assert_allclose(metrics["reward_value"], 2.0)
    np.testing.assert_allclose(metrics["value_ratio"], 2.0 / (10 * DATA.rewards.max()), rtol=1e-4)


def test_costs_do_not_matter(started):
    store, index, state, update = started
    costly = eqx.tree_at(lambda s: s.costs, store, jnp.ones_like(store.costs))
    assert eqx.tree_equal(update(state, store, index, KEY), update(state, costly, index, KEY))
    assert not TD3BC().uses_cost_limit
    assert TD3BC().name == "TD3+BC"


def test_parameter_counts():
    state = jax.eval_shape(lambda: TD3BC().init(KEY, Spec.of(toy_episodes([3], observation_size=8))))
    assert size(state.policy.network) == size(state.policy.target) == 68_610
    assert size(state.critics.network) == size(state.critics.target) == 137_730


@pytest.mark.parametrize(
    ("data", "observation"), [pytest.param(two_arms(2000), np.ones(1), marks=pytest.mark.slow), (fork(), START)]
)
def test_the_more_rewarding_arm_is_chosen_whatever_it_costs(data, observation):
    run = train(QUICK, data)
    assert float(run.policies[0].act(observation)[0]) > 0.1  # cloning alone: 0


def test_degenerate_runs_are_named():
    assert TD3BC().diagnose({"policy_gradient": [0.1] * 9, "value_ratio": [2.0] * 9}) == ()
    assert "edge of the action box" in TD3BC().diagnose({"policy_gradient": [0.0] * 5})[0]
    assert "critics diverge" in TD3BC().diagnose({"value_ratio": [50.0] * 5})[0]


@pytest.mark.parametrize(("setting", "value"), [("policy_delay", 0), ("value_weight", -1.0), ("target_rate", 0.0)])
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(TD3BC(), **{setting: value})
