"""Temporal differences: what critics are fitted to, by which error, and what a limit means for their values."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def bellman_target(
    received: Float[Array, " B"], following: Float[Array, " B"], discount: float, ends: Bool[Array, " B"] | None
) -> Float[Array, " B"]:
    """y = x + gamma (1 - d) V', x being a reward or cost and V' the value of the state that follows.

    `ends` is d, after which nothing follows. None: nothing ends.
    """
    return received + discount * (following if ends is None else jnp.where(ends, 0.0, following))


def squared_error(values: Float[Array, "K B"], targets: Float[Array, " B"]) -> Float[Array, ""]:
    """Mean squared error over rows and networks."""
    return jnp.mean(jnp.square(values - targets))


def summed_errors(values: Float[Array, "K B"], targets: Float[Array, " B"]) -> Float[Array, ""]:
    """Sum over the networks of their mean squared errors."""
    return jnp.sum(jnp.mean(jnp.square(values - targets), axis=-1))


def discounted_limit(cost_limit: Array | float, horizon: int, discount: float) -> Float[Array, ""]:
    """q = (limit / T) (1 - gamma^T) / (1 - gamma): the discounted cost of an episode that spends its limit evenly.

    What OSRL, FISOR's cost mode and others compare discounted cost values with. The limit is undiscounted, gamma in
    [0, 1], and the horizon T the steps of an episode.
    """
    total = horizon if discount == 1 else (1 - discount**horizon) / (1 - discount)
    return jnp.asarray(cost_limit, jnp.float32) * (total / horizon)
