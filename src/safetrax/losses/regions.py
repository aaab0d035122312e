"""The pieces of BARS's losses: values tempered by cost, and exponentials that cannot overflow."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def tempered_value(
    reward: Float[Array, "*b"], cost: Float[Array, "*b"], delta: Array | float, *, penalty: bool = False
) -> Float[Array, "*b"]:
    """Q_r where Q_c is at most delta, else Q_r / Q_c (BARS, Eq. 7).

    Args:
        reward: Q_r.
        cost: Q_c.
        delta: positive. Below 1, a Q_c between delta and 1 raises a positive Q_r.
        penalty: Q_r - |Q_r| (1 - 1/Q_c) instead of the ratio: the same where Q_r is positive, but where it is
            negative a greater cost does not raise it.
    """
    ratio = reward / jnp.maximum(cost, delta)  # the maximum only keeps the branch that is not taken finite
    tempered = reward - jnp.abs(reward) + jnp.abs(ratio) if penalty else ratio
    return jnp.where(cost > delta, tempered, reward)


def capped_exponential(x: Float[Array, "*b"], cap: float) -> Float[Array, "*b"]:
    """min(e^x, cap), with finite gradients."""
    return jnp.exp(jnp.minimum(x, math.log(cap)))


def straightened_exponential(x: Float[Array, "*b"], cap: float) -> Float[Array, "*b"]:
    """e^x up to the cap, then the tangent there: what is too large to be weighed in full is still pushed down."""
    corner = math.log(cap)
    return jnp.exp(jnp.minimum(x, corner)) + cap * jnp.maximum(x - corner, 0.0)
