import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.expectile import expectile_loss

TARGETS = np.random.default_rng(0).normal(1.0, 2.0, 501).astype(np.float32)
EXPECTILES = (0.1, 0.3, 0.5, 0.7, 0.9)


def expectile_of(targets, tau: float) -> float:
    """The value where the loss's gradient is zero, by bisection: the loss is convex."""
    targets = jnp.asarray(targets, jnp.float32)
    slope = jax.jit(jax.grad(lambda v: jnp.mean(expectile_loss(targets - v, tau))))
    low, high = float(targets.min()) - 1, float(targets.max()) + 1
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


def test_loss_by_hand():
    np.testing.assert_allclose(expectile_loss(jnp.array([2.0, -2.0, 0.0]), 0.7), [2.8, 1.2, 0.0], rtol=1e-6)


def test_half_gives_the_mean():
    assert expectile_of(TARGETS, 0.5) == pytest.approx(float(TARGETS.mean()), abs=1e-4)


@pytest.mark.parametrize("tau", EXPECTILES)
def test_turning_the_sign_turns_the_expectile(tau):
    difference = jnp.asarray(TARGETS)
    np.testing.assert_allclose(expectile_loss(difference, tau), expectile_loss(-difference, 1 - tau), rtol=1e-5)


@pytest.mark.parametrize("tau", EXPECTILES)
@pytest.mark.parametrize("p", [0.5, 0.2])
def test_closed_form_for_zeros_and_ones(tau, p):
    targets = (np.arange(100) < 100 * p).astype(np.float32)
    expected = tau * p / (tau * p + (1 - tau) * (1 - p))
    assert expectile_of(targets, tau) == pytest.approx(expected, abs=1e-4)
    if p == 0.5:
        assert expected == pytest.approx(tau)


def test_lower_expectile_of_costs():
    # the loss on V - Q is the (1 - tau)-expectile: the cheapest actions count more
    targets = jnp.array([0.0, 1.0])
    losses = [float(jnp.mean(expectile_loss(v - targets, 0.9))) for v in np.arange(0, 1.001, 0.01)]
    assert np.argmin(losses) == 10


@pytest.mark.parametrize("tau", [0.3, 0.9])
def test_shift_and_positive_scale_pass_through(tau):
    assert expectile_of(3 * TARGETS + 5, tau) == pytest.approx(3 * expectile_of(TARGETS, tau) + 5, abs=1e-3)


def test_grows_with_tau_and_meets_the_first_order_condition():
    values = [expectile_of(TARGETS, tau) for tau in EXPECTILES]
    assert values == sorted(values)
    assert values[-1] > values[0] + 1
    for tau, value in zip(EXPECTILES, values, strict=True):
        difference = TARGETS.astype(np.float64) - value
        above, below = np.maximum(difference, 0).mean(), np.maximum(-difference, 0).mean()
        assert tau * above == pytest.approx((1 - tau) * below, rel=1e-3)
