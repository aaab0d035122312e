"""Policy gradients: the clipped objective of PPO, and advantages estimated along whole episodes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def clipped_objective(
    log_ratio: Float[Array, " n"], advantages: Float[Array, " n"], clip: float
) -> Float[Array, " n"]:
    """min(r A, clip(r, 1 - c, 1 + c) A), to be maximised (Eq. 7 of Schulman et al., 2017, arXiv:1707.06347)."""
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - clip, 1 + clip) * advantages)


def advantage_estimates(
    rewards: Float[np.ndarray, "E T"],
    values: Float[np.ndarray, "E T1"],
    lengths: Int[np.ndarray, " E"],
    terminated: Bool[np.ndarray, " E"],
    discount: float,
    trace: float,
) -> Float[np.ndarray, "E T"]:
    """Generalised advantage estimates of whole episodes, which are padded to one length.

    Eqs. 11-16 of Schulman et al., 2016 (arXiv:1506.02438). A truncated episode goes on after its last step, with the
    value of the observation there; a terminated one does not. `trace` is lambda.
    """
    episodes, steps = rewards.shape
    at = np.arange(steps)
    inside = at < lengths[:, None]
    values = values.copy()
    values[np.flatnonzero(terminated), lengths[terminated]] = 0.0
    errors = np.where(inside, rewards + discount * values[:, 1:] - values[:, :-1], 0.0)
    advantages = np.zeros((episodes, steps + 1), np.float32)
    for t in range(steps - 1, -1, -1):
        advantages[:, t] = errors[:, t] + discount * trace * advantages[:, t + 1]
    return advantages[:, :-1]
