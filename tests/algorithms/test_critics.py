import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from safetrax.algorithms.critics import fit_critic, fit_value, given, group_values, mixed_value, over_samples
from safetrax.algorithms.learners import Learner, Tracked
from safetrax.data.store import Transitions
from safetrax.losses.td import summed_errors
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP


def line(weights: list[float]) -> MLP:
    return MLP((jnp.array(weights)[:, None],), (jnp.zeros(1),), "identity", 0.0)


def test_a_critics_step_by_hand():
    """Q = s + a and Q = 2 a, at (1, 1) and (1, 3), towards 4: errors -2, 0 and -2, 2."""
    observations, actions = jnp.ones((2, 1)), jnp.array([[1.0], [3.0]])
    nothing = jnp.zeros(2)
    batch = Transitions(observations, actions, nothing, nothing, jnp.zeros(2, bool), observations)
    critic = Tracked.make(Ensemble((line([1.0, 1.0]), line([0.0, 2.0]))), optax.sgd(0.1))
    after, fit = fit_critic(critic, optax.sgd(0.1), batch, jnp.array([4.0, 4.0]))
    np.testing.assert_allclose(fit.extra, [[2, 4], [2, 6]])
    assert float(fit.loss) == pytest.approx((4 + 0 + 4 + 4) / 4)
    # d/dw of the mean over four: (-2 (1, 1) + 0) / 2 and (-2 (1, 1) + 2 (1, 3)) / 2
    np.testing.assert_allclose(after.network.members[0].weights[0][:, 0], [1 + 0.1, 1 + 0.1], rtol=1e-6)
    np.testing.assert_allclose(after.network.members[1].weights[0][:, 0], [0.0, 2 - 0.2], atol=1e-6)
    assert after.target is critic.target
    _, summed = fit_critic(critic, optax.sgd(0.1), batch, jnp.array([4.0, 4.0]), summed_errors)
    assert float(summed.loss) == pytest.approx(2 * float(fit.loss))


def test_a_values_step_by_hand():
    """V = s = 1 and 2; Q = 3 and 1: |tau - 1(Q < V)| (Q - V)^2 with tau = 0.9 are 3.6 and 0.1."""
    value = Learner.make(line([1.0]), optax.sgd(1.0))
    after, fit = fit_value(value, optax.sgd(1.0), jnp.array([[1.0], [2.0]]), jnp.array([3.0, 1.0]), 0.9)
    np.testing.assert_allclose(fit.extra, [1, 2])
    assert float(fit.loss) == pytest.approx((3.6 + 0.1) / 2)
    # d/dw: (-2 * 0.9 * 2 * 1 + 2 * 0.1 * 1 * 2) / 2
    assert float(after.network.weights[0][0, 0]) == pytest.approx(1 + (3.6 - 0.4) / 2)


def test_a_mixed_value_takes_three_quarters_of_the_smaller_group():
    values = jnp.array([[1.0, 8.0], [4.0, 7.0], [3.0, 5.0], [2.0, 6.0]])
    np.testing.assert_array_equal(group_values(values), [[1, 7], [2, 5]])
    np.testing.assert_allclose(mixed_value(values, 0.75), [0.75 * 1 + 0.25 * 2, 0.75 * 5 + 0.25 * 7])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_fixed_observations_change_nothing_but_the_order_of_sums(activation):
    network = MLP.make(jax.random.key(0), (5, 8, 8, 2), output="tanh", activation=activation)
    x = jax.random.normal(jax.random.key(1), (6, 5))
    np.testing.assert_allclose(given(network, x[:, :3])(x[:, 3:]), network(x), atol=1e-6)


def test_samples_side_by_side_give_what_they_give_in_turn(monkeypatch):
    network, x = MLP.make(jax.random.key(0), (3, 8, 1)), jax.random.normal(jax.random.key(1), (4, 6, 3))
    in_turn = over_samples(network, x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(over_samples(network, x), in_turn, atol=1e-6)
