import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.correction import correction_loss, estimated_costs, flow_loss, normalised_weights


def test_where_the_log_is_the_demonstrations_and_nothing_is_better_no_row_is_preferred():
    zeros = jnp.zeros(4)
    value, gradient = jax.value_and_grad(correction_loss)(zeros, zeros)
    assert float(value) == 0
    np.testing.assert_allclose(gradient, 1 / 4)  # a constant, which V makes up for
    assert float(flow_loss(zeros, zeros, 0.9, 0.5)) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(normalised_weights(zeros), 1 / 4)


def test_the_correction_s_loss_by_hand():
    advantages, ratio = jnp.log(jnp.array([2.0, 1.0])), jnp.log(jnp.array([1.0, 0.5]))
    value, gradient = jax.value_and_grad(correction_loss)(advantages, ratio)
    assert float(value) == pytest.approx((2 * np.log(2) + np.log(2)) / 2 - np.log(2), rel=1e-5)
    np.testing.assert_allclose(gradient, [2 * (np.log(2) + 1) / 2, (np.log(2) + 1) / 2], rtol=1e-5)
    still = jax.grad(correction_loss)(ratio - 1, ratio)  # log w = log d^E / d^D - 1
    np.testing.assert_allclose(still, 0, atol=1e-6)
    assert np.isfinite(correction_loss(jnp.array([1e6, -1e6]), ratio))


def test_the_flow_by_hand_and_a_constant_in_v_changes_nothing():
    values, advantages = jnp.array([1.0, 3.0]), jnp.log(jnp.array([1.0, 3.0]))
    assert float(flow_loss(values, advantages, 0.9, 0.5)) == pytest.approx(0.1 * 2 + 0.5 * np.log(2), rel=1e-5)
    # without ends, a constant c in V moves every advantage by (gamma - 1) c / alpha
    moved = flow_loss(values + 7, advantages + (0.9 - 1) * 7 / 0.5, 0.9, 0.5)
    assert float(moved) == pytest.approx(0.1 * 2 + 0.5 * np.log(2), rel=1e-4)


def test_weights_sum_to_one_and_are_capped_before():
    np.testing.assert_allclose(normalised_weights(jnp.array([0.0, 1000.0])), [1 / 101, 100 / 101], rtol=1e-5)
    np.testing.assert_allclose(normalised_weights(jnp.log(jnp.array([1.0, 3.0]))), [0.25, 0.75], rtol=1e-5)
    assert float(normalised_weights(jnp.full(5, -1e9)).sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("quantile", "expected"),
    [
        (1.0, [0, 0, 0, 0, 1, 1 / 3, 0]),  # below the least of the demonstrations, 0
        (0.5, [2 / 3, 1 / 3, 0, 0, 1, 1, 0]),  # below 2, which half of them reach
    ],
)
def test_estimated_costs_by_hand(quantile, expected):
    corrections = jnp.array([0.0, 1, 2, 3, -9, -1, 5])
    demonstrated = jnp.arange(7) < 4
    for constant in (0.0, -20.0):
        costs = estimated_costs(corrections + constant, demonstrated, quantile, 1 / 3)
        np.testing.assert_allclose(costs, expected, atol=1e-6)
