"""Expectile regression (Newey and Powell, 1987; for value functions Kostrikov et al., IQL, 2022)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def expectile_loss(difference: Float[Array, "*b"], expectile: float) -> Float[Array, "*b"]:
    """L_tau(u) = |tau - 1(u < 0)| u^2, elementwise, for tau in (0, 1); 1/2 gives the mean.

    Where u is the target minus the estimate, the estimate converges to the tau-expectile of the targets; with the
    sign turned, to the (1 - tau)-expectile.
    """
    return jnp.where(difference < 0, 1 - expectile, expectile) * jnp.square(difference)
