"""Weights of logged actions: exponentials that cannot overflow, and how many rows the weights amount to."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALLEST = 1e-30  # instead of zero where one divides


def capped_exponential(x: Float[Array, "*b"], cap: float) -> Float[Array, "*b"]:
    """min(e^x, cap), with finite gradients; of an advantage, advantage-weighted regression (Peng et al., 2019)."""
    return jnp.minimum(jnp.exp(jnp.minimum(x, math.log(cap) + 1)), cap)


def straightened_exponential(x: Float[Array, "*b"], cap: float) -> Float[Array, "*b"]:
    """e^x up to the cap, then the tangent there: what is too large to be weighed in full is still pushed down."""
    corner = math.log(cap)
    return jnp.exp(jnp.minimum(x, corner)) + cap * jnp.maximum(x - corner, 0.0)


def weight_metrics(weights: Float[Array, " n"], cap: Array | float) -> dict[str, Float[Array, ""]]:
    """Their mean, and the share that has reached the cap."""
    return {"weight": jnp.mean(weights), "clipped": jnp.mean(weights >= cap)}


def effective_share(weights: Float[Array, " n"]) -> Float[Array, ""]:
    """(sum w)^2 / (n sum w^2), Kish's effective sample size as a share: 1 for equal weights, k/n for k rows alone."""
    return jnp.square(jnp.sum(weights)) / jnp.maximum(weights.size * jnp.sum(jnp.square(weights)), _SMALLEST)
