"""Expectile regression (Newey and Powell, 1987; for value functions Kostrikov et al., IQL, 2022)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def expectile_loss(difference: Float[Array, "*b"], expectile: float) -> Float[Array, "*b"]:
    """L_tau(u) = |tau - 1(u < 0)| u^2, elementwise.

    Args:
        difference: u, the target minus the estimate; then the estimate converges to the tau-expectile of the targets.
            With the sign turned it converges to the (1 - tau)-expectile.
        expectile: tau in (0, 1); 1/2 gives the mean.
    """
    return jnp.where(difference < 0, 1 - expectile, expectile) * jnp.square(difference)
