"""Losses over windows of steps of which some are padding: what a policy that reads sequences is trained by."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

CostClass = Literal["truncated", "positive"]


def masked_mean(values: Float[Array, "*b"], mask: Bool[Array, "*b"]) -> Float[Array, ""]:
    """Mean over what is not padding."""
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.sum(mask)


def likelihood_loss(
    log_prob: Float[Array, "B K"], entropy: Float[Array, "B K"], mask: Bool[Array, "B K"], temperature: Array | float
) -> Float[Array, ""]:
    """-(mean log p + temperature mean H) over what is not padding, as in Zheng et al., ICML 2022 (arXiv:2202.05607).

    Args:
        log_prob: of the logged actions.
        entropy: H, of the policy there.
        mask: False in the padding.
        temperature: of the entropy; a number here.
    """
    return -(masked_mean(log_prob, mask) + temperature * masked_mean(entropy, mask))


def temperature_loss(
    log_temperature: Float[Array, ""], entropy: Array | float, target: Array | float
) -> Float[Array, ""]:
    """temperature (H - target): it falls while the entropy is above its target; H is a number here."""
    return jnp.exp(log_temperature) * (jax.lax.stop_gradient(entropy) - target)


def cost_class(costs: Float[Array, "*b"], kind: CostClass) -> Int[Array, "*b"]:
    """0 or 1. "truncated": whether the cost, cut to a whole number, is any; "positive": whether there is any."""
    return (costs >= 1 if kind == "truncated" else costs > 0).astype(jnp.int32)


def cost_loss(
    logits: Float[Array, "B K 2"], classes: Int[Array, "B K"], mask: Bool[Array, "B K"]
) -> Float[Array, ""]:
    """Negative log-likelihood of each step's class, summed over what is not padding, divided by all steps."""
    log_prob = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.where(classes == 1, log_prob[..., 1], log_prob[..., 0])
    return -jnp.mean(jnp.where(mask, chosen, 0.0))


def next_state_loss(
    predicted: Float[Array, "B K O"], observations: Float[Array, "B K O"], mask: Bool[Array, "B K"]
) -> Float[Array, ""]:
    """Mean squared error of each step's prediction of the next one, summed over steps that have one in the window and
    divided by all steps and dimensions that could."""
    error = jnp.square(predicted[:, :-1] - observations[:, 1:])
    return jnp.mean(jnp.where(mask[:, 1:, None], error, 0.0))
