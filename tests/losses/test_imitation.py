import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.imitation import (
    demonstrated_weights,
    gradient_penalty,
    logged_weights,
    positive_unlabelled_loss,
    separation_loss,
)


def test_weights_by_hand():
    # 7.5 - 0.5 / 0.25 - 1 in the middle, 7.5 - 0.5 / 0.09 - 1 at both ends
    weights = demonstrated_weights(jnp.array([0.5, 0.1, 0.9]), alpha=7.5, eta=0.5)
    np.testing.assert_allclose(weights, [4.5, 17 / 18, 17 / 18], rtol=1e-5)
    np.testing.assert_allclose(logged_weights(jnp.array([0.1, 0.49, 0.5, 0.75, 0.9])), [0, 0, 1, 3, 9], rtol=1e-5)


def test_a_positive_unlabelled_loss_by_hand():
    half, high, low = (jnp.full(4, value) for value in (0.5, 0.9, 0.1))
    assert float(positive_unlabelled_loss(half, half, 0.5)) == pytest.approx(2 * np.log(2))
    assert float(positive_unlabelled_loss(high, low, 0.5)) == pytest.approx(np.log(0.1) - 3 * np.log(0.9), rel=1e-5)
    # 4 of 10 rows of the log are demonstrations: what they say twice cancels, and cross-entropy remains
    rng = np.random.default_rng(0)
    known, others = rng.uniform(0.1, 0.9, 4), rng.uniform(0.1, 0.9, 6)
    loss = positive_unlabelled_loss(jnp.array(known), jnp.array([*known, *others]), 0.4)
    assert float(loss) == pytest.approx(-np.log(known).mean() - 1.5 * np.log(1 - others).mean(), rel=1e-5)


def test_separation_by_hand():
    assert float(separation_loss(jnp.zeros(3), jnp.zeros(5))) == pytest.approx(2 * np.log(2))
    assert float(separation_loss(jnp.array([np.log(3.0)]), jnp.array([np.log(3.0)]))) == pytest.approx(
        np.log(4 / 3) + np.log(4), rel=1e-6
    )


def test_the_gradient_penalty_of_a_linear_network_by_hand():
    slopes = jax.vmap(jax.grad(lambda x: x @ jnp.array([3.0, 4.0])))(jnp.zeros((6, 2)))
    assert float(gradient_penalty(slopes)) == pytest.approx(16)
    assert float(gradient_penalty(slopes / 5)) == pytest.approx(0, abs=1e-10)
    value, gradient = jax.value_and_grad(gradient_penalty)(jnp.zeros((2, 2)))  # a network that is flat
    assert float(value) == 1
    assert np.isfinite(gradient).all()
