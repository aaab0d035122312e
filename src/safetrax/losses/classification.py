"""Trajectory classification: the score, the class weights and the loss of TraC (Gong et al., AAAI 2025)."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

ClassWeighting = Literal["code", "normalised", "paper"]


def trajectory_score(log_ratio: Float[Array, "B T"], discount: float, temperature: float) -> Float[Array, " B"]:
    """Score of each segment under the policy, psi = sum_t gamma^t alpha log(pi / pi_ref).

    Eq. 7 of Gong et al., AAAI 2025 (arXiv:2412.15429), with t counted from the segment's first step, gamma in [0, 1]
    and the temperature alpha > 0. The ratio is in nats, and zero where a step does not count.
    """
    return temperature * log_ratio @ (discount ** jnp.arange(log_ratio.shape[-1], dtype=jnp.float32))


def class_weights(
    desirable: Float[Array, ""], undesirable: Float[Array, ""], eta: float, rule: ClassWeighting = "code"
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(lambda_d, lambda_u), the weights of the two classes in the loss.

    * "code": lambda_d = 1, lambda_u = eta N_d / N_u, so that lambda_u N_u / (lambda_d N_d) = eta, as in the
      reference implementation that made the published numbers.
    * "normalised": the same ratio with lambda_d + lambda_u = 1.
    * "paper": the constraint below Eq. 4 as printed, lambda_d N_d / (lambda_u N_u) = eta with sum 1. It contradicts
      the paper's own ablation text and weighs desirable data down.

    Args:
        desirable: N_d, the number (or share) of desirable segments.
        undesirable: N_u, likewise. A class that is empty gets a finite weight that nothing uses.
        eta: relative weight, at least 0.
        rule: which of the three.
    """
    if rule == "code":
        return jnp.ones(()), eta * desirable / jnp.where(undesirable > 0, undesirable, 1.0)
    if rule == "normalised":
        d, u = undesirable, eta * desirable
    else:
        d, u = eta * undesirable, desirable
    total = jnp.where(d + u > 0, d + u, 1.0)
    return d / total, u / total


def classification_loss(
    score: Float[Array, " B"],
    desirable: Bool[Array, " B"],
    weight: Float[Array, " B"],
    lambda_desirable: Float[Array, ""],
    lambda_undesirable: Float[Array, ""],
    floor: float | None = 1e-6,
) -> Float[Array, ""]:
    """Weighted cross-entropy of the two classes, -1/B sum lambda_y w [y log s(psi) + (1-y) log(1 - s(psi))].

    The overall loss below Eq. 10 of Gong et al., AAAI 2025 (arXiv:2412.15429), with weights w in [0, 1] (Eqs. 2-3).
    Probabilities below `floor` count as it, and give no gradient (reference code: 1e-6). None: no floor.
    """
    log_prob = jax.nn.log_sigmoid(jnp.where(desirable, score, -score))
    if floor is not None:
        log_prob = jnp.maximum(log_prob, math.log(floor))
    class_weight = jnp.where(desirable, lambda_desirable, lambda_undesirable)
    return -jnp.mean(class_weight * weight * log_prob)


def score_metrics(
    score: Float[Array, " B"], desirable: Bool[Array, " B"], floor: float | None
) -> dict[str, Float[Array, ""]]:
    """Mean scores of the classes, and the shares on the right side of 0 and whose gradient the floor removes."""

    def mean_where(x: jax.Array, condition: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(condition, x, 0.0)) / jnp.maximum(jnp.sum(condition), 1)

    signed = jnp.where(desirable, score, -score)
    return {
        "score_desirable": mean_where(score, desirable),
        "score_undesirable": mean_where(score, ~desirable),
        "accuracy": jnp.mean(signed > 0),
        "clipped": jnp.zeros(()) if floor is None else jnp.mean(jax.nn.sigmoid(signed) < floor),
    }
