import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.td import bellman_target, discounted_limit, squared_error, summed_errors


def test_a_target_stops_where_the_return_ends():
    received, following = jnp.array([1.0, 2.0]), jnp.array([10.0, 20.0])
    np.testing.assert_allclose(bellman_target(received, following, 0.9, jnp.array([True, False])), [1, 20])
    np.testing.assert_allclose(bellman_target(received, following, 0.9, None), [10, 20])


def test_a_critics_loss_is_the_sum_or_the_mean_of_its_networks_errors():
    values, targets = jnp.array([[1.0, 3.0], [0.0, 0.0]]), jnp.array([1.0, 1.0])
    assert float(summed_errors(values, targets)) == pytest.approx((0 + 4) / 2 + (1 + 1) / 2)
    assert float(squared_error(values, targets)) == pytest.approx((0 + 4 + 1 + 1) / 4)


@pytest.mark.parametrize(
    ("horizon", "thresholds"),
    [
        (100, {10: 6.340, 20: 12.679, 40: 25.359}),
        (200, {10: 4.330, 20: 8.660, 40: 17.320}),
        (300, {10: 3.170, 20: 6.340, 40: 12.680}),
        (500, {10: 1.987, 20: 3.974, 40: 7.947, 80: 15.895}),
        (1000, {10: 1.000, 20: 2.000, 40: 4.000, 80: 8.000}),
    ],
)
def test_the_golden_thresholds(horizon, thresholds):
    for limit, threshold in thresholds.items():
        assert float(discounted_limit(limit, horizon, 0.99)) == pytest.approx(threshold, abs=6e-4)


def test_a_limit_of_one_per_step_is_the_geometric_series_and_undiscounted_the_limit_itself():
    assert float(discounted_limit(5, 5, 0.9)) == pytest.approx(1 + 0.9 + 0.81 + 0.729 + 0.6561)
    assert float(discounted_limit(20, 300, 1.0)) == pytest.approx(20)
    assert float(discounted_limit(20, 10, 0.0)) == pytest.approx(2)
