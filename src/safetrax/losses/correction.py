"""Reward gap minimisation (RGM; Li et al., ICLR 2023, arXiv:2302.01667), with the Kullback-Leibler divergence.

Weights w = e^A of an advantage A = (r + gamma (1 - d) V(s') - V(s)) / alpha turn the log's occupancy d^D into that of
the best policy near it. Rewards are corrected until that is the occupancy d^E of the demonstrations.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_LARGEST = 10.0  # of an advantage in an exponent


def correction_loss(advantages: Float[Array, " B"], log_ratio: Float[Array, " B"]) -> Float[Array, ""]:
    """E[w (log w - log d^E / d^D)] - log max w, w = e^min(A, 10); what the correction within A minimises.

    Its gradient by a row's A is w (log w - log_ratio + 1) / B: where log_ratio exceeds log w + 1, A grows. As in the
    authors' code max w is a number without a gradient.

    Args:
        advantages: A of corrected rewards.
        log_ratio: log d^E / d^D of the same steps, a number here.
    """
    log_weights = jnp.minimum(advantages, _LARGEST)
    greatest = jax.lax.stop_gradient(jnp.max(log_weights))
    return jnp.mean(jnp.exp(log_weights) * (log_weights - log_ratio)) - greatest


def flow_loss(
    initial_values: Float[Array, " B"], advantages: Float[Array, " B"], discount: float, alpha: float
) -> Float[Array, ""]:
    """(1 - gamma) E[V(s_0)] + alpha log E[e^min(A, 10)], which V minimises.

    A constant added to V changes nothing where no step ends an episode.
    """
    exponents = jnp.minimum(advantages, _LARGEST)
    log_mean = jax.nn.logsumexp(exponents) - math.log(exponents.size)
    return (1 - discount) * jnp.mean(initial_values) + alpha * log_mean


def normalised_weights(advantages: Float[Array, " B"], cap: float = 100.0) -> Float[Array, " B"]:
    """min(e^A, cap) over their sum."""
    return jax.nn.softmax(jnp.minimum(advantages, math.log(cap)))


def estimated_costs(
    corrections: Float[Array, " N"], demonstrated: Bool[Array, " N"], quantile: float, scale: float
) -> Float[Array, " N"]:
    """clip(scale (threshold - correction), 0, 1): the cost of a step whose reward is raised less than is usual on
    demonstrations.

    A constant in all corrections, which V makes up for, changes nothing.

    Args:
        corrections: of every step's reward.
        demonstrated: whether the step is a demonstration's; some are.
        quantile: share of the demonstrations' steps whose correction is at least the threshold.
        scale: positive.
    """
    ordered = jnp.sort(jnp.where(demonstrated, -corrections, jnp.inf))
    place = jnp.floor(quantile * (jnp.sum(demonstrated) - 1)).astype(jnp.int32)
    return jnp.clip(scale * (-ordered[place] - corrections), 0.0, 1.0)
