from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import START, fork, two_arms

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.iql import IQL
from safetrax.data.store import Store
from safetrax.errors import ConfigError
from safetrax.training.train import train

TINY = IQL(hidden=(8,), batch_size=12, discount=0.9, return_range=30.0, weight_cap=2.0, updates=2)
QUICK = replace(TINY, hidden=(32, 32), updates=600, batch_size=128, learning_rate=3e-3, target_rate=0.05)
DATA = toy_episodes([6, 4, 8])
KEY = jax.random.key(3)


def metric(run, name: str) -> float:
    return [row.value for row in run.metrics if row.metric == name][-1]


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def started():
    """Store, index, a state whose networks differ from their targets, and the jitted update."""
    store, index = Store.make(DATA, TINY.fields), TINY.index(DATA, 1.0)
    stage = TINY.stages()[0]

    @jax.jit
    def begin(key):
        state = TINY.init(key, Spec.of(DATA))
        other = TINY.init(jax.random.fold_in(key, 1), Spec.of(DATA))
        state = eqx.tree_at(lambda s: s.critics.target, state, other.critics.target)
        state = eqx.tree_at(lambda s: s.policy.network.log_std, state, jnp.array([0.3, -0.4]))
        return stage.begin(state, store, index, key)

    return store, index, begin(KEY), jax.jit(stage.update)


def forward(network, x: np.ndarray) -> np.ndarray:
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        x = x @ np.asarray(weight, np.float64) + np.asarray(bias, np.float64)
        x = x if layer == len(network.weights) - 1 else np.maximum(x, 0)
    return np.tanh(x) if network.output == "tanh" else x


def test_losses_and_weights_are_those_of_the_equations(started):
    store, index, state, update = started
    _, metrics = update(state, store, index, KEY)
    rows = np.asarray(index.transitions.sample(KEY, TINY.batch_size))
    done = (DATA.terminated | DATA.truncated)[rows]
    s, a = DATA.observations[rows], DATA.actions[rows]
    following = DATA.observations[rows + ~done]
    rewards = DATA.rewards[rows] * 30.0 / np.ptp(DATA.returns)
    sa = np.concatenate([s, a], axis=1)

    v = forward(state.value.network, s)[:, 0]
    target = rewards + 0.9 * ~done * forward(state.value.network, following)[:, 0]
    q_target = np.min([forward(member, sa)[:, 0] for member in state.critics.target.members], axis=0)
    q = np.stack([forward(member, sa)[:, 0] for member in state.critics.network.members])
    advantage = q_target - v
    weight = np.minimum(np.exp(3.0 * advantage), 2.0)
    means, log_std = forward(state.policy.network.network, s), np.array([0.3, -0.4])
    log_prob = (-0.5 * ((a - means) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)).sum(1)
    expected = {
        "reward_value": v.mean(),
        "advantage": advantage.mean(),
        "value_loss": (np.where(advantage < 0, 0.3, 0.7) * advantage**2).mean(),
        "reward_critic_loss": ((q - target) ** 2).mean(),  # the mean of the two critics' errors
        "weight": weight.mean(),
        "clipped": (weight == 2.0).mean(),
        "policy_loss": -(weight * log_prob).mean(),
        "behaviour_distance": ((means - a) ** 2).mean(),
        "policy_std": np.exp(log_std).mean(),
    }
    assert 0 < expected["clipped"] < 1
    assert done.any()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_one_update_moves_every_network_and_the_targets_by_tau(started):
    store, index, state, update = started
    after, _ = update(state, store, index, KEY)
    for part in ("policy", "critics", "value"):
        before, now = (jax.tree.leaves(getattr(s, part).network) for s in (state, after))
        assert all((np.asarray(x) != np.asarray(y)).any() for x, y in zip(before, now, strict=True))
    for target, old, new in zip(
        *(jax.tree.leaves(x) for x in (after.critics.target, state.critics.target, after.critics.network)),
        strict=True,
    ):
        np.testing.assert_allclose(target, np.asarray(old) + 0.005 * (np.asarray(new) - old), rtol=1e-4, atol=1e-6)
    assert eqx.tree_equal(state.bounds, after.bounds)


def test_costs_do_not_matter(started):
    store, index, state, update = started
    costly = eqx.tree_at(lambda s: s.costs, store, jnp.ones_like(store.costs))
    assert eqx.tree_equal(update(state, store, index, KEY), update(state, costly, index, KEY))
    assert not IQL().uses_cost_limit


def test_the_policy_s_rate_falls_to_zero_along_a_cosine(started):
    store, index, state, update = started
    moves = []
    for _ in range(3):  # of 2
        after, _ = update(state, store, index, KEY)
        moves.append(float(abs(after.policy.network.log_std - state.policy.network.log_std).max()))
        state = after
    np.testing.assert_allclose(moves[:2], [3e-4, 1.5e-4], rtol=0.1)  # Adam's steps along one sign
    assert moves[2] == 0


def test_parameter_counts():
    state = jax.eval_shape(lambda: IQL().init(KEY, Spec.of(toy_episodes([3], observation_size=8))))
    assert size(state.policy.network) == 68_610 + 2
    assert size(state.critics.network) == size(state.critics.target) == 137_730
    assert size(state.value.network) == 68_353


def test_value_is_the_expectile_and_the_policy_weighs_the_arms_by_their_advantage():
    # V = 0.7 (1) + 0.3 (0.5) + V / 2 = 1.7, Q = 1.85 and 1.35: weights part as e^(10 / 2)
    algorithm = replace(QUICK, discount=0.5, inverse_temperature=10.0, weight_cap=100.0)
    run = train(algorithm, two_arms(2000))
    assert metric(run, "reward_value") == pytest.approx(1.7, abs=0.05)
    assert float(run.policies[0].act(np.ones(1))[0]) == pytest.approx(0.5 * np.tanh(2.5), abs=0.05)


@pytest.mark.slow
def test_the_more_rewarding_branch_is_chosen_whatever_it_costs():
    run = train(replace(QUICK, weight_cap=100.0), fork())
    assert float(run.policies[0].act(START)[0]) == pytest.approx(0.5, abs=0.1)


def test_a_free_mean_is_clipped_when_deployed_and_its_deviation_bounded():
    algorithm = replace(TINY, squashed_mean=False, smallest_log_std=-5.0)
    state = algorithm.init(KEY, Spec.of(DATA))
    state = eqx.tree_at(lambda s: s.policy.network.network.biases[-1], state, jnp.array([40.0, -0.2]))
    state = eqx.tree_at(lambda s: s.policy.network.network.weights[-1], state, jnp.zeros((8, 2)))
    actions, _ = algorithm.actor(state).act((), jnp.zeros((1, 3)), ())
    np.testing.assert_allclose(actions, [[1.0, -0.2]], rtol=1e-6)
    policy = eqx.tree_at(lambda p: p.log_std, state.policy.network, jnp.array([-9.0, 7.0]))
    np.testing.assert_array_equal(algorithm._log_std(policy), [-5.0, 2.0])


def test_degenerate_runs_are_named():
    assert IQL().diagnose({"clipped": [0.5] * 9, "policy_gradient": [0.1] * 9, "value_ratio": [0.5] * 9}) == ()
    assert "all weights are at their cap" in IQL().diagnose({"clipped": [1.0] * 5})[0]
    assert "no gradient" in IQL().diagnose({"policy_gradient": [0.0] * 5})[0]
    assert "critics diverge" in IQL().diagnose({"value_ratio": [50.0] * 5})[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("expectile", 1.0), ("weight_cap", 0), ("return_range", 0.0), ("discount", 1.1), ("smallest_log_std", 3.0)],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(IQL(), **{setting: value})
