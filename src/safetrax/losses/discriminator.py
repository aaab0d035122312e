"""Telling demonstrations from everything else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def discriminator_loss(demonstrations: Float[Array, " B"], others: Float[Array, " C"]) -> Float[Array, ""]:
    """-mean log D - mean log(1 - D), D the sigmoid of a logit: what is not known to be safe counts as unsafe."""
    return -jnp.mean(jax.nn.log_sigmoid(demonstrations)) - jnp.mean(jax.nn.log_sigmoid(-others))


def gradient_penalty(gradients: Float[Array, "B n"]) -> Float[Array, ""]:
    """mean (|g| - 1)^2 of gradients of logits by their inputs (Gulrajani et al., 2017, arXiv:1704.00028)."""
    squares = jnp.sum(jnp.square(gradients), axis=-1)
    norm = jnp.sqrt(jnp.maximum(squares, 1e-12))  # the root's own gradient is infinite at 0
    return jnp.mean(jnp.square(norm - 1))
