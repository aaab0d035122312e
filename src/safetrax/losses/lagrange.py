"""A Lagrange multiplier under proportional, integral and derivative control."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class PIDState(eqx.Module):
    """What the controller remembers.

    Attributes:
        error: e of the last update.
        integral: running sum of e, never below 0.
    """

    error: Float[Array, ""]
    integral: Float[Array, ""]

    @staticmethod
    def start() -> PIDState:
        """Nothing seen yet: both are 0."""
        return PIDState(jnp.zeros(()), jnp.zeros(()))


def pid_multiplier(
    state: PIDState, error: Float[Array, ""], gains: tuple[float, float, float]
) -> tuple[PIDState, Float[Array, ""]]:
    """The controller after one more error, and the multiplier K_P (e)+ + K_I I + K_D (e - e_old)+, at least 0.

    Stooke et al., 2020 (arXiv:2007.03964), Algorithm 2, as OSRL codes it: the proportional term too is cut at 0.
    I = (I + e)+, so a long time within the limit is no credit; a falling error adds no derivative. Nothing bounds the
    multiplier from above: under a lasting error e it grows by K_I e per update.

    Args:
        state: the controller before.
        error: e, the mean cost value minus its threshold; positive where the limit is violated.
        gains: K_P, K_I, K_D, each at least 0.
    """
    proportional_gain, integral_gain, derivative_gain = gains
    integral = jnp.maximum(state.integral + error, 0.0)
    multiplier = (
        proportional_gain * jnp.maximum(error, 0.0)
        + integral_gain * integral
        + derivative_gain * jnp.maximum(error - state.error, 0.0)
    )
    return PIDState(error, integral), multiplier
