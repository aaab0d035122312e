import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.mmd import gaussian_kernel_mean, gaussian_mmd


def test_equal_sets_are_a_thousandth_apart():
    x = jax.random.normal(jax.random.key(0), (10, 7, 3))
    np.testing.assert_allclose(gaussian_mmd(x, x, 50.0), 1e-3, rtol=0.2)


@pytest.mark.parametrize("r", [0.1, 1.0, 5.0, 20.0])
def test_two_points_that_are_r_apart(r):
    x, y = jnp.zeros((1, 2)), jnp.array([[0.6 * r, 0.8 * r]])
    assert float(gaussian_mmd(x, y, 50.0)) == pytest.approx(
        math.sqrt(2 - 2 * math.exp(-(r**2) / 100) + 1e-6), rel=1e-3
    )


def test_the_width_divides_the_squared_distance_once():
    k = gaussian_kernel_mean(jnp.zeros((1, 1)), jnp.full((1, 1), 3.0), 2.0)
    assert float(k) == pytest.approx(math.exp(-9 / 4))


def test_all_pairs_count_equal_ones_too():
    x, y = jnp.array([[0.0], [1.0]]), jnp.array([[2.0], [0.0], [1.0]])
    near, far = math.exp(-1 / 4), math.exp(-4 / 4)
    xx, yy = (2 + 2 * near) / 4, (3 + 4 * near + 2 * far) / 9
    xy = (2 + 3 * near + far) / 6
    assert float(gaussian_mmd(x, y, 2.0)) == pytest.approx(math.sqrt(xx + yy - 2 * xy + 1e-6), rel=1e-4)


def test_places_of_the_batch_are_apart_and_the_gradient_is_finite_where_sets_agree():
    x = jax.random.normal(jax.random.key(0), (4, 5, 2))
    y = jax.random.normal(jax.random.key(1), (6, 5, 2))
    distance = jax.jit(lambda x, y: gaussian_mmd(x, y, 50.0))
    alone = jnp.stack([distance(x[:, i : i + 1], y[:, i : i + 1])[0] for i in range(5)])
    np.testing.assert_allclose(distance(x, y), alone, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(gaussian_mmd(x, z, 50.0))))(x)
    assert bool(jnp.all(jnp.isfinite(gradient)))
