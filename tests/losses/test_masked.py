"""Losses over windows, on numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.likelihood import gaussian_entropy
from safetrax.losses.masked import (
    cost_class,
    cost_loss,
    likelihood_loss,
    masked_mean,
    next_state_loss,
    temperature_loss,
)

MASK = jnp.array([[True, True, False], [True, False, False]])


def test_means_leave_padding_out():
    assert float(masked_mean(jnp.array([[1.0, 2.0, 9.0], [6.0, 9.0, 9.0]]), MASK)) == 3


def test_likelihood_with_entropy():
    log_prob = jnp.array([[-1.0, -2.0, 50.0], [-3.0, 50.0, 50.0]])
    entropy = jnp.array([[1.0, 2.0, 50.0], [6.0, 50.0, 50.0]])
    assert float(likelihood_loss(log_prob, entropy, MASK, 0.5)) == pytest.approx(-(-2 + 0.5 * 3))


def test_entropy_of_a_gaussian():
    # of a standard normal number 1.4189385; a deviation of e adds 1
    np.testing.assert_allclose(gaussian_entropy(jnp.array([[0.0, 1.0]])), [2 * 1.4189385 + 1], rtol=1e-6)


def test_the_temperature_falls_while_the_entropy_is_above_its_target():
    slope = jax.grad(temperature_loss)
    log = jnp.log(0.1)
    assert float(temperature_loss(log, 1.5, -2.0)) == pytest.approx(0.35)
    assert float(slope(log, 1.5, -2.0)) == pytest.approx(0.35)  # descent lowers it
    assert float(slope(log, -4.0, -2.0)) == pytest.approx(-0.2)


def test_classes_of_costs():
    costs = jnp.array([0.0, 0.2, 0.999, 1.0, 3.7])
    np.testing.assert_array_equal(cost_class(costs, "truncated"), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(cost_class(costs, "positive"), [0, 1, 1, 1, 1])


def test_the_cost_loss_divides_by_all_steps():
    logits = jnp.log(jnp.array([[[1.0, 1.0], [1.0, 3.0], [1.0, 9.0]], [[3.0, 1.0], [1.0, 9.0], [1.0, 9.0]]]))
    classes = jnp.array([[0, 1, 0], [0, 0, 0]])
    expected = -(np.log(1 / 2) + np.log(3 / 4) + np.log(3 / 4)) / 6
    assert float(cost_loss(logits, classes, MASK)) == pytest.approx(expected, rel=1e-6)


def test_the_next_state_is_foreseen_where_there_is_one():
    predicted = jnp.array([[[1.0], [5.0], [0.0]], [[7.0], [0.0], [0.0]]])
    observations = jnp.array([[[0.0], [3.0], [0.0]], [[2.0], [0.0], [0.0]]])
    # one pair of steps is in a window: (1 - 3)^2, over the four that could be
    assert float(next_state_loss(predicted, observations, MASK)) == 1
