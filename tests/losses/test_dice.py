from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.dice import (
    DIVERGENCES,
    advantage,
    divergence,
    flow_residual,
    inverse_slope,
    occupancy_weights,
    value_loss,
    worst_case,
)

NORMAL = ("soft-chi2", "chi2")  # f'(1) = 0


def root(rising: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if float(rising(middle)) > 0 else (middle, high)
    return (low + high) / 2


@pytest.mark.parametrize("name", DIVERGENCES)
def test_slopes_are_derivatives_and_inverses(name):
    slopes = jnp.linspace(-0.9, 3, 40)
    weights = inverse_slope(slopes, name)
    derivative = jax.vmap(jax.grad(lambda w: divergence(w, name)))(weights)
    np.testing.assert_allclose(derivative, slopes, atol=1e-5)


def test_divergences_by_hand():
    w = jnp.array([0.0, 0.5, 1.0, 3.0])
    np.testing.assert_allclose(divergence(w, "chi2"), [0.5, 0.125, 0, 2], atol=1e-6)
    np.testing.assert_allclose(divergence(w, "soft-chi2"), [1, 0.5 * (np.log(0.5) - 1) + 1, 0, 2], atol=1e-6)
    np.testing.assert_allclose(divergence(w, "kl"), [0, 0.5 * np.log(0.5), 0, 3 * np.log(3)], atol=1e-6)
    np.testing.assert_allclose(inverse_slope(jnp.array([-1.0, 2.0]), "soft-chi2"), [np.exp(-1), 3], rtol=1e-6)


@pytest.mark.parametrize("name", NORMAL)
def test_no_advantage_gives_weight_one_at_no_divergence(name):
    np.testing.assert_array_equal(occupancy_weights(jnp.zeros(3), 0.5, name), 1)
    np.testing.assert_allclose(divergence(jnp.ones(3), name), 0, atol=1e-6)


@pytest.mark.parametrize(("name", "limit"), [("soft-chi2", 1.0), ("chi2", 1.0), ("kl", np.exp(-1))])
def test_a_strong_divergence_leaves_the_weights_of_no_advantage(name, limit):
    weights = occupancy_weights(jnp.array([-3.0, 0.0, 5.0]), 1e8, name)
    np.testing.assert_allclose(weights, limit, rtol=1e-6)


def test_weights_are_never_negative_and_extremes_are_finite():
    advantages = jnp.array([-1e6, -1.0, 1e6])
    np.testing.assert_array_equal(occupancy_weights(advantages, 0.5, "chi2"), [0, 0, 2e6 + 1])
    gradient = jax.grad(lambda e: jnp.sum(occupancy_weights(e, 0.5, "soft-chi2")))(advantages)
    np.testing.assert_allclose(gradient, [0, np.exp(-2) / 0.5, 2], rtol=1e-6)


def test_advantages_and_residuals_by_hand():
    r, c, v, following = (jnp.array(x) for x in ([1.0, 2.0], [1.0, 0.0], [3.0, 4.0], [10.0, 20.0]))
    done = jnp.array([False, True])
    e = advantage(r, c, jnp.asarray(0.5), v, following, done, 0.9)
    np.testing.assert_allclose(e, [1 - 0.5 + 9 - 3, 2 - 4])
    initial, w = jnp.array([0.0, 5.0]), jnp.array([2.0, 0.5])
    residual = flow_residual(v, following, initial, w, c, done, 0.9)
    np.testing.assert_allclose(residual, [2 * (1 + 9 - 3), 0.1 * 4 * 5 + 0.5 * (0 - 4)], rtol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_detached_weights_give_the_full_gradient(name):
    rng = np.random.default_rng(0)
    r, c, initial = (jnp.asarray(rng.uniform(0, 1, 20), jnp.float32) for _ in range(3))
    values = jnp.asarray(rng.normal(size=20), jnp.float32)
    done = jnp.asarray(rng.uniform(size=20) < 0.3)

    def loss(values, detach):
        e = advantage(r, c, jnp.asarray(0.7), values, jnp.roll(values, 1), done, 0.9)
        w = occupancy_weights(e, 0.5, name)
        return value_loss(values, initial, e, jax.lax.stop_gradient(w) if detach else w, 0.9, 0.5, name)

    full, held = (jax.grad(loss)(values, detach) for detach in (False, True))
    np.testing.assert_allclose(held, full, atol=1e-5)
    assert float(jnp.linalg.norm(full)) > 0.01


def arm_loss(shift, multiplier, rewards, costs, discount, name="soft-chi2"):
    """The loss of nu in one state that never ends, nu = shift / (1 - gamma), and the weights of the arms."""
    nu = jnp.broadcast_to(shift / (1 - discount), rewards.shape)
    e = advantage(rewards, costs, multiplier, nu, nu, jnp.zeros(rewards.shape, bool), discount)
    w = occupancy_weights(e, 0.5, name)
    return value_loss(nu, jnp.ones_like(nu), e, w, discount, 0.5, name), w


arm_slope = jax.jit(jax.grad(lambda *args: arm_loss(*args)[0]), static_argnums=(4, 5))


@pytest.mark.parametrize(("name", "nu", "weights"), [("chi2", 0.5, (0, 2)), ("soft-chi2", 0.639, (0.278, 1.722))])
def test_bandit(name, nu, weights):
    args = (jnp.zeros(()), jnp.array([0.0, 1.0]), jnp.zeros(2), 0.0, name)
    optimum = root(lambda shift: arm_slope(shift, *args), -3.0, 3.0)
    assert optimum == pytest.approx(nu, abs=5e-4)
    np.testing.assert_allclose(arm_loss(optimum, *args)[1], weights, atol=1e-3)


@pytest.mark.parametrize(
    ("threshold", "multiplier", "weights"),
    [(0.01, 2.496, (1.98, 0.02)), (1.0, 0.0, (0.95, 1.05))],
    ids=["per step", "discounted sum"],
)
def test_the_discounted_sum_is_no_constraint(threshold, multiplier, weights):
    """Two arms, r = .05 / .1, c = 0 / 1: limit 10 in 1000 steps is .01 per step, and 1 as a discounted sum."""
    costs = jnp.array([0.0, 1.0])

    def solve(multiplier):
        args = (jnp.asarray(multiplier, jnp.float32), jnp.array([0.05, 0.1]), costs, 0.99, "soft-chi2")
        return arm_loss(root(lambda shift: arm_slope(shift, *args), -3.0, 1.0), *args)[1]

    optimum = root(lambda m: threshold - jnp.mean(solve(m) * costs), 0.0, 5.0)
    assert optimum == pytest.approx(multiplier, abs=0.01)
    np.testing.assert_allclose(solve(optimum), weights, atol=2e-3)


def test_worst_case_weights_sum_to_the_batch():
    residuals = jnp.asarray(np.random.default_rng(0).normal(size=64), jnp.float32)
    omega, kl = worst_case(residuals, jnp.asarray(0.3))
    assert float(jnp.sum(omega)) == pytest.approx(64, rel=1e-5)
    assert float(jnp.mean(omega * residuals)) > float(jnp.mean(residuals))
    assert float(kl) > 0
    omega, kl = worst_case(residuals, jnp.asarray(1e6))
    np.testing.assert_allclose(omega, 1, atol=1e-4)
    assert float(kl) == pytest.approx(0, abs=1e-5)


def test_worst_case_of_two_by_hand():
    omega, kl = worst_case(jnp.array([0.0, np.log(3)]), jnp.ones(()))
    np.testing.assert_allclose(omega, [0.5, 1.5], rtol=1e-6)
    assert float(kl) == pytest.approx((0.5 * np.log(0.5) + 1.5 * np.log(1.5)) / 2, rel=1e-5)


def test_the_bound_s_temperature_is_where_the_divergence_is_epsilon():
    """tau minimises tau log E exp(l / tau) + tau epsilon; its derivative is epsilon - KL."""
    residuals = jnp.asarray(np.random.default_rng(0).normal(size=64), jnp.float32)
    epsilon = 0.01

    @jax.jit
    @jax.grad
    def slope(tau):
        mean_exp = jax.nn.logsumexp(residuals / tau) - jnp.log(64.0)
        return tau * mean_exp + tau * epsilon

    for tau in (0.5, 2.0):
        assert float(slope(tau)) == pytest.approx(
            epsilon - float(worst_case(residuals, jnp.asarray(tau))[1]), abs=1e-5
        )
    optimum = root(slope, 0.5, 50.0)
    assert float(worst_case(residuals, jnp.asarray(optimum))[1]) == pytest.approx(epsilon, rel=0.01)
