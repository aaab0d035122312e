"""Lagrange multipliers: one under proportional, integral and derivative control, one by gradient ascent."""

from __future__ import annotations

from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

S = TypeVar("S", Array, float)
LOG_BOUND = 5.0  # of the logarithm of a weight that ascends


class PIDState(eqx.Module, Generic[S]):
    """What the controller remembers."""

    error: S  # e of the last update
    integral: S  # running sum of e, never below 0

    @staticmethod
    def start() -> PIDState[Array]:
        """Nothing seen yet: both are 0."""
        return PIDState(jnp.zeros(()), jnp.zeros(()))


def pid_multiplier(state: PIDState[S], error: S, gains: tuple[float, float, float]) -> tuple[PIDState[S], S]:
    """The controller after one more error, and the multiplier K_P (e)+ + K_I I + K_D (e - e_old)+, at least 0.

    Stooke et al., 2020 (arXiv:2007.03964), Algorithm 2, as OSRL codes it: the proportional term too is cut at 0.
    I = (I + e)+, so a long time within the limit is no credit; a falling error adds no derivative. Nothing bounds the
    multiplier from above: under a lasting error e it grows by K_I e per update. Of arrays, or of floats in double
    precision; e is positive where the limit is violated, and the gains K_P, K_I, K_D are at least 0.
    """
    proportional_gain, integral_gain, derivative_gain = gains
    integral = _positive(state.integral + error)
    multiplier = (
        proportional_gain * _positive(error)
        + integral_gain * integral
        + derivative_gain * _positive(error - state.error)
    )
    return PIDState(error, integral), multiplier


def _positive(x: S) -> S:
    """max(x, 0), of arrays and of floats."""
    return 0.5 * (x + abs(x))


def ascended(log_weight: Float[Array, ""], excess: Float[Array, ""], learning_rate: float) -> Float[Array, ""]:
    """clip(log alpha + rate alpha e, -5, 5): plain gradient ascent on a dual variable's logarithm (BEAR, CPQ).

    The excess e is by how much the constraint is violated.
    """
    moved = log_weight + learning_rate * jnp.exp(log_weight) * excess
    return jnp.clip(moved, -LOG_BOUND, LOG_BOUND)
