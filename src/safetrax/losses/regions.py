"""Values that are tempered by cost (BARS)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def tempered_value(
    reward: Float[Array, "*b"], cost: Float[Array, "*b"], delta: Array | float, *, penalty: bool = False
) -> Float[Array, "*b"]:
    """`reward` Q_r where `cost` Q_c is at most delta, else Q_r / Q_c (BARS, Eq. 7).

    Args:
        delta: positive. Below 1, a Q_c between delta and 1 raises a positive Q_r.
        penalty: Q_r - |Q_r| (1 - 1/Q_c) instead of the ratio: the same where Q_r is positive, but where it is
            negative a greater cost does not raise it.
    """
    ratio = reward / jnp.maximum(cost, delta)  # the maximum only keeps the branch that is not taken finite
    tempered = reward - jnp.abs(reward) + jnp.abs(ratio) if penalty else ratio
    return jnp.where(cost > delta, tempered, reward)
