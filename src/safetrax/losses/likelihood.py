"""Log-likelihoods of actions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def fixed_variance_log_prob(means: Float[Array, "*b A"], actions: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """log pi(a|s) = -||pi(s) - a||^2, up to a constant: a Gaussian of variance 1/2 in every dimension.

    Appendix of Gong et al., AAAI 2025 (arXiv:2412.15429). Summed over action dimensions, in nats. A constant added
    to both likelihoods of a ratio, or a factor on both, is absorbed by TraC's temperature.
    """
    return -jnp.sum(jnp.square(means - actions), axis=-1)


def categorical_log_prob(logits: Float[Array, "*b A"], choices: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """log pi(a|s) of one of A choices, the greatest number of its row, in nats."""
    chosen = jax.nn.one_hot(jnp.argmax(choices, axis=-1), choices.shape[-1])
    return jnp.sum(chosen * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def gaussian_log_prob(
    values: Float[Array, "*b A"], mean: Float[Array, "*#b A"], log_std: Float[Array, "*#b A"]
) -> Float[Array, "*b"]:
    """log N(values; mean, std^2), summed over the last axis, in nats."""
    scaled = (values - mean) * jnp.exp(-log_std)
    return -jnp.sum(0.5 * jnp.square(scaled) + log_std + 0.5 * math.log(2 * math.pi), axis=-1)


def gaussian_entropy(log_std: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """Differential entropy of N(mean, std^2), summed over the last axis, in nats."""
    return jnp.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)


def squashed_log_prob(
    unsquashed: Float[Array, "*b A"], mean: Float[Array, "*#b A"], log_std: Float[Array, "*#b A"]
) -> Float[Array, "*b"]:
    """log pi(a) of a = tanh(u), u ~ N(mean, std^2), by change of variables; summed over the last axis, in nats.

    Haarnoja et al., 2018, Appendix C, with log(1 - tanh^2 u) = 2 (log 2 - u - softplus(-2u)).
    """
    correction = 2 * (math.log(2) - unsquashed - jax.nn.softplus(-2 * unsquashed))
    return gaussian_log_prob(unsquashed, mean, log_std) - jnp.sum(correction, axis=-1)


def unsquash(actions: Float[Array, "*b A"], margin: float = 1e-6) -> Float[Array, "*b A"]:
    """arctanh of actions in [-1, 1], which are first clipped to +-(1 - margin)."""
    return jnp.arctanh(jnp.clip(actions, -1 + margin, 1 - margin))
