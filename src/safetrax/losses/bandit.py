"""An adversarial bandit, EXP3, and what it gains from a Lagrange multiplier."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def tuned_exploration(arms: int, rounds: int) -> float:
    """min(1, sqrt(K ln K / ((e - 1) T))), for K arms and T rounds with gains in [0, 1] (Auer et al., Corollary 3.2).

    The expected regret against the best arm is then at most 2 sqrt((e - 1) T K ln K).
    """
    return min(1.0, math.sqrt(arms * math.log(arms) / ((math.e - 1) * max(rounds, 1))))


def arm_probabilities(log_weights: Float[Array, " K"], exploration: Array | float) -> Float[Array, " K"]:
    """p = (1 - gamma) w / sum w + gamma / K, gamma the exploration (Auer et al., 2002, EXP3)."""
    return (1 - exploration) * jax.nn.softmax(log_weights) + exploration / log_weights.size


def gain_estimates(
    gains: Float[Array, " K"], probabilities: Float[Array, " K"], arm: Int[Array, ""]
) -> Float[Array, " K"]:
    """g / p of the arm that was played, 0 of the others: its expectation over the draw of the arm is g."""
    return jnp.where(jnp.arange(gains.size) == arm, gains / probabilities, 0.0)


def multiplier_gains(
    multipliers: Float[Array, " K"], excess: Float[Array, ""], unit: Float[Array, ""]
) -> Float[Array, " K"]:
    """(1 + lambda / max lambda clip(e / u, -1, 1)) / 2, in [0, 1]: high where the Lagrangian V_r - lambda e is low.

    V_r, which all multipliers share, is left out: it changes no regret.

    Args:
        multipliers: lambda of each arm; not negative, one of them positive.
        excess: e, by how much the policy's cost exceeds the limit.
        unit: u, the excess beyond which a greater one counts no more; positive.
    """
    return 0.5 * (1 + multipliers / jnp.max(multipliers) * jnp.clip(excess / unit, -1, 1))
