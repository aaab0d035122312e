"""Log-likelihoods of actions."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def fixed_variance_log_prob(means: Float[Array, "*b A"], actions: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """log pi(a|s) = -||pi(s) - a||^2, up to a constant: a Gaussian of variance 1/2 in every dimension.

    Appendix of Gong et al., AAAI 2025 (arXiv:2412.15429). Summed over action dimensions, in nats. A constant added
    to both likelihoods of a ratio, or a factor on both, is absorbed by TraC's temperature.
    """
    return -jnp.sum(jnp.square(means - actions), axis=-1)
