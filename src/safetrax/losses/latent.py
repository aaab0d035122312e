"""Divergences between latent distributions and their prior."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def kl_to_standard_normal(mean: Float[Array, "*b L"], log_std: Float[Array, "*b L"]) -> Float[Array, "*b L"]:
    """KL(N(mean, std^2) || N(0, 1)) of every latent dimension, in nats: (mean^2 + std^2 - 1) / 2 - log std."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1) - log_std
