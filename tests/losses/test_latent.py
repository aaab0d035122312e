import math

import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.latent import centre_distance, cvae_loss, kl_to_standard_normal, weighted_cvae_loss

DECODED, ACTIONS = jnp.array([[0.5, 0.0], [1.0, -1.0]]), jnp.array([[0.0, 0.0], [1.0, 1.0]])
DIVERGENCE = jnp.array([[1.0, 3.0], [0.0, 8.0]])


def test_divergence_of_a_gaussian_from_the_standard_one():
    mean, log_std = jnp.array([0.0, 2.0, 0.0]), jnp.array([0.0, 0.0, math.log(2.0)])
    np.testing.assert_allclose(kl_to_standard_normal(mean, log_std), [0, 2, 1.5 - math.log(2)], rtol=1e-6)


def test_the_loss_averages_squares_and_divergences():
    # squares 1/4, 0, 0, 4
    assert float(cvae_loss(DECODED, ACTIONS, DIVERGENCE, 0.5)) == pytest.approx(4.25 / 4 + 0.5 * 12 / 4)


def test_the_weighted_loss_sums_a_rows_squares_and_averages_its_divergences():
    loss = weighted_cvae_loss(DECODED, ACTIONS, DIVERGENCE, 0.5, jnp.array([2.0, 1.0]))
    assert float(loss) == pytest.approx((2 * (0.25 + 0.5 * 2) + (4 + 0.5 * 4)) / 2)


def test_how_far_the_centre_is_from_one_action():
    """Actions +1 and -1 with weights 3 and 1: mean 0.5, spread 0.75 * 0.25 + 0.25 * 2.25 = 0.75."""
    actions, weight = jnp.array([[1.0], [-1.0]]), jnp.array([3.0, 1.0])
    distance = centre_distance(jnp.array([[0.5], [1.5]]), actions, weight)
    assert float(distance) == pytest.approx(math.sqrt(0.25 * 1 / 0.75))
    assert float(centre_distance(actions, actions, weight)) == pytest.approx(1)
    assert float(centre_distance(jnp.full((2, 1), 0.5), actions, weight)) == 0
    assert float(centre_distance(actions, actions, jnp.zeros(2))) == 0
