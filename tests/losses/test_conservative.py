import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.conservative import conservative_gap


@pytest.mark.parametrize("actions", [1, 2, 8])
def test_constant_values_and_uniform_draws_give_log_30_plus_a_log_2(actions):
    log_density = jnp.full((30, 5), -actions * math.log(2))
    gap = conservative_gap(jnp.full((2, 30, 5), 7.0), log_density, jnp.full((2, 5), 7.0))
    np.testing.assert_allclose(gap, np.full((2, 5), math.log(30) + actions * math.log(2)), rtol=1e-5)


def test_gap_by_hand():
    # log(e^(1 + log 2) + e^(0 + log 4)) - 0.5 = log(2 e + 4) - 0.5
    sampled = jnp.array([[1.0], [0.0]])
    gap = conservative_gap(sampled, -jnp.log(jnp.array([[2.0], [4.0]])), jnp.array([0.5]))
    np.testing.assert_allclose(gap, [math.log(2 * math.e + 4) - 0.5], rtol=1e-6)


def test_a_small_temperature_takes_the_greatest_value():
    sampled = jnp.array([[1.0], [3.0], [2.0]])
    gap = conservative_gap(sampled, jnp.zeros((3, 1)), jnp.array([0.5]), temperature=1e-3)
    np.testing.assert_allclose(gap, [2.5], atol=1e-3)


def test_a_shift_of_all_values_changes_nothing_and_large_values_stay_finite():
    sampled = jax.random.normal(jax.random.key(0), (6, 4))
    logged, log_density = sampled[0], jnp.zeros((6, 4))
    gap = conservative_gap(sampled, log_density, logged)
    shifted = conservative_gap(sampled + 1000, log_density, logged + 1000)
    np.testing.assert_allclose(shifted, gap, atol=1e-3)


def test_gradient_is_the_soft_maximum_less_the_logged_action():
    sampled, log_density = jnp.array([[1.0], [0.0]]), jnp.zeros((2, 1))
    up, down = jax.grad(lambda q, a: conservative_gap(q, log_density, a)[0], argnums=(0, 1))(sampled, jnp.zeros(1))
    np.testing.assert_allclose(up[:, 0], np.array([math.e, 1]) / (math.e + 1), rtol=1e-6)
    np.testing.assert_allclose(down, [-1.0])
