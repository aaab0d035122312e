import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.weights import capped_exponential, effective_share, straightened_exponential, weight_metrics


def test_weights_by_hand():
    weights = capped_exponential(2.0 * jnp.asarray([-1e4, 0.0, 1.0, 2.65, 1e4]), 200.0)
    np.testing.assert_allclose(weights, [0, 1, math.exp(2), 200, 200], rtol=1e-6)


@pytest.mark.parametrize("cap", [0.3, 1.2, 100.0, 150.0, 1e30])
def test_beyond_the_corner_a_weight_is_the_cap_to_the_bit(cap):
    beyond = capped_exponential(jnp.array([math.log(cap) + 0.01, math.log(cap) + 3, 1e4]), cap)
    np.testing.assert_array_equal(beyond, np.float32(cap))


@pytest.mark.parametrize("function", [capped_exponential, straightened_exponential])
def test_exponentials_are_themselves_below_the_cap_and_never_overflow(function):
    x = jnp.array([-1e4, -3.0, 0.0, 2.0, 4.9, 1e4])
    values, slopes = jax.vmap(jax.value_and_grad(lambda x: function(x, 150.0)))(x)
    np.testing.assert_allclose(values[:5], np.exp(x[:5]), rtol=1e-6)
    np.testing.assert_allclose(slopes[:5], np.exp(x[:5]), rtol=1e-6)
    assert np.isfinite(values).all()
    assert np.isfinite(slopes).all()


def test_beyond_the_cap_one_is_flat_and_the_other_goes_on_along_its_tangent():
    corner = math.log(150)
    x = jnp.array([corner, corner + 0.5, corner + 3, 1e4])
    values, slopes = jax.vmap(jax.value_and_grad(lambda x: capped_exponential(x, 150.0)))(x)
    np.testing.assert_allclose(values, 150, rtol=1e-5)
    np.testing.assert_array_equal(slopes[1:], 0)
    values, slopes = jax.vmap(jax.value_and_grad(lambda x: straightened_exponential(x, 150.0)))(x)
    np.testing.assert_allclose(values, 150 * (1 + np.asarray(x) - corner), rtol=1e-4)
    np.testing.assert_allclose(slopes[1:], 150, rtol=1e-5)
    np.testing.assert_array_equal(np.diff(values) > 0, True)


def test_how_many_rows_weights_amount_to():
    assert float(effective_share(jnp.asarray([2.0, 2.0, 2.0, 2.0]))) == pytest.approx(1)
    assert float(effective_share(jnp.asarray([0.0, 5.0, 0.0, 0.0]))) == pytest.approx(0.25)
    assert float(effective_share(jnp.asarray([3.0, 1.0]))) == pytest.approx(16 / 20)
    assert float(effective_share(jnp.zeros(4))) == 0


def test_weights_are_logged_by_their_mean_and_the_share_at_the_cap():
    found = weight_metrics(jnp.array([1.0, 2.0, 4.0, 5.0]), 4.0)
    assert {name: float(value) for name, value in found.items()} == {"weight": 3.0, "clipped": 0.5}
    found = weight_metrics(jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0]))
    assert {name: float(value) for name, value in found.items()} == {"weight": 1.5, "clipped": 0.5}
