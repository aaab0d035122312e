"""The losses of a variational autoencoder of actions, and its divergence from the prior."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALLEST = 1e-30  # instead of zero where one divides


def kl_to_standard_normal(mean: Float[Array, "*b L"], log_std: Float[Array, "*b L"]) -> Float[Array, "*b L"]:
    """KL(N(mean, std^2) || N(0, 1)) of every latent dimension, in nats: (mean^2 + std^2 - 1) / 2 - log std."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1) - log_std


def cvae_loss(
    decoded: Float[Array, "B A"], actions: Float[Array, "B A"], divergence: Float[Array, "B L"], kl_weight: float
) -> Float[Array, ""]:
    """mean (a' - a)^2 + beta mean KL, both over rows and dimensions (BCQ; Fujimoto et al., 2019, and OSRL).

    `decoded` is a', `divergence` the KL of `kl_to_standard_normal`.
    """
    return jnp.mean(jnp.square(decoded - actions)) + kl_weight * jnp.mean(divergence)


def weighted_cvae_loss(
    decoded: Float[Array, "B A"],
    actions: Float[Array, "B A"],
    divergence: Float[Array, "B L"],
    kl_weight: float,
    weight: Float[Array, " B"],
) -> Float[Array, ""]:
    """mean w (|a' - a|^2 + beta mean KL): squares are summed over dimensions, divergences averaged (LSPC, Eq. 43)."""
    error = jnp.sum(jnp.square(actions - decoded), axis=-1)
    return jnp.mean(weight * (error + kl_weight * jnp.mean(divergence, axis=-1)))


def centre_distance(
    decoded: Float[Array, "B A"], actions: Float[Array, "B A"], weight: Float[Array, " B"]
) -> Float[Array, ""]:
    """Root mean square distance of `decoded` from the mean action, over that of the actions; all weighted.

    Of decode(s, 0): near 0 the centre of the latent space is one action everywhere.
    """
    share = (weight / jnp.maximum(jnp.sum(weight), _SMALLEST))[:, None]
    mean = jnp.sum(share * actions, axis=0)
    spread = jnp.sum(share * jnp.square(actions - mean))
    return jnp.sqrt(jnp.sum(share * jnp.square(decoded - mean)) / jnp.maximum(spread, _SMALLEST))
