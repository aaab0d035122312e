import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.likelihood import categorical_log_prob, gaussian_log_prob, squashed_log_prob, unsquash


def test_categorical():
    """Odds of 1 to 3 are 1/4 and 3/4, whatever is added to the logits and whichever way the choice is one-hot."""
    logits = jnp.log(jnp.array([[1.0, 3.0], [5.0, 15.0]]))
    for choices in ([[0.0, 1.0], [1.0, 0.0]], [[-1.0, 1.0], [0.99, -0.99]]):
        np.testing.assert_allclose(categorical_log_prob(logits, jnp.array(choices)), np.log([0.75, 0.25]), rtol=1e-5)


def test_gaussian_by_hand():
    # dimensions add up: (0 at its mean, std 1) and (2 std away, std 2)
    log_prob = gaussian_log_prob(jnp.array([[1.0, 4.0]]), jnp.array([[1.0, 0.0]]), jnp.log(jnp.array([[1.0, 2.0]])))
    expected = -0.5 * math.log(2 * math.pi) + (-2.0 - math.log(2) - 0.5 * math.log(2 * math.pi))
    np.testing.assert_allclose(log_prob, [expected], rtol=1e-6)


def test_gaussian_moments_broadcast():
    values = jax.random.normal(jax.random.key(0), (4, 3, 2))
    mean, log_std = jnp.array([0.3, -0.2]), jnp.array([-0.5, 0.1])
    full = gaussian_log_prob(values, jnp.broadcast_to(mean, values.shape), jnp.broadcast_to(log_std, values.shape))
    np.testing.assert_allclose(gaussian_log_prob(values, mean, log_std), full, rtol=1e-6)
    assert full.shape == (4, 3)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.8, -1.0), (-1.0, 0.3)])
def test_the_squashed_density_integrates_to_one(mean, log_std):
    grid = np.linspace(-1, 1, 200_001)[1:-1]
    unsquashed = jnp.arctanh(jnp.asarray(grid, jnp.float32))[:, None]
    density = np.exp(np.asarray(squashed_log_prob(unsquashed, jnp.array([mean]), jnp.array([log_std])), np.float64))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=2e-3)


def test_squashed_density_at_zero_and_by_change_of_variables():
    zero = jnp.zeros((1, 2))
    np.testing.assert_allclose(squashed_log_prob(zero, zero, zero), [-math.log(2 * math.pi)], rtol=1e-6)
    # at u = 1: log N(1; 0, 1) - log(1 - tanh(1)^2)
    expected = -0.5 - 0.5 * math.log(2 * math.pi) - math.log(1 - math.tanh(1) ** 2)
    np.testing.assert_allclose(squashed_log_prob(jnp.ones((1, 1)), jnp.zeros(1), jnp.zeros(1)), [expected], rtol=1e-6)


def test_squashed_density_is_finite_at_the_edge_of_the_box():
    far = jnp.array([[40.0], [-40.0]])  # tanh is exactly +-1 here
    log_prob = squashed_log_prob(far, far, jnp.zeros(1))
    # log N(mean) + 2 |u| - 2 log 2
    np.testing.assert_allclose(log_prob, np.full(2, -0.5 * math.log(2 * math.pi) + 80 - 2 * math.log(2)), rtol=1e-6)
    gradient = jax.grad(lambda u: jnp.sum(squashed_log_prob(u, jnp.zeros(1), jnp.zeros(1))))(far)
    assert np.isfinite(gradient).all()


def test_unsquash_is_the_inverse_of_tanh_inside_and_finite_at_the_edge():
    values = jnp.linspace(-3, 3, 13)[:, None]
    np.testing.assert_allclose(unsquash(jnp.tanh(values)), values, atol=1e-4)
    edge = unsquash(jnp.array([[1.0, -1.0]]), margin=1e-3)
    np.testing.assert_allclose(edge, [[math.atanh(0.999), -math.atanh(0.999)]], rtol=1e-4)
    assert np.isfinite(unsquash(jnp.array([1.0]))).all()
