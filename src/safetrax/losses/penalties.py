"""Rewards that are replaced where something would cost too much."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def relabelled_rewards(
    rewards: Float[Array, " B"],
    cost_values: Float[Array, " B"],
    threshold: Float[Array, ""],
    penalty: Float[Array, ""],
) -> tuple[Float[Array, " B"], Float[Array, ""]]:
    """r where Q_c <= q, else -penalty (CARL, ICLR 2026 submission 22357); also the share that is replaced.

    Args:
        rewards: r.
        cost_values: Q_c(s, a) of the same steps.
        threshold: q.
        penalty: max |r|, positive.
    """
    costly = cost_values > threshold
    return jnp.where(costly, -penalty, rewards), jnp.mean(costly)
