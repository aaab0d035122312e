"""Learning from demonstrations beside a larger log: discriminators, and the weights that they give to actions.

d or D in (0, 1) says how much a step looks like one of the demonstrations; E_e is the mean over demonstrations, E_o
over the log.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def positive_unlabelled_loss(
    demonstrated: Float[Array, " D"], logged: Float[Array, " L"], eta: float
) -> Float[Array, ""]:
    """E_e[-log d] + E_o[-log(1 - d)] / eta + E_e[log(1 - d)] (DWBC; Xu et al., ICML 2022, arXiv:2207.10050).

    The last term takes back what the second does to demonstrations in the log, of which they are the share eta. It is
    bounded only where d is: clip it first.
    """
    known = jnp.log1p(-demonstrated) - jnp.log(demonstrated)
    return jnp.mean(known) - jnp.mean(jnp.log1p(-logged)) / eta


def demonstrated_weights(scores: Float[Array, "*b"], alpha: float, eta: float) -> Float[Array, "*b"]:
    """alpha - eta / (d (1 - d)) - 1, DWBC's weights of a demonstration's actions.

    They are at least 0 for alpha >= 1 + eta / (d (1 - d)) at the bounds of d.
    """
    return alpha - eta / (scores * (1 - scores)) - 1


def logged_weights(scores: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """1 / (1 - d) - 1, DWBC's weights of the log's actions; 0 where d < 1/2."""
    return jnp.where(scores < 0.5, 0.0, 1 / (1 - scores) - 1)


def separation_loss(demonstrated: Float[Array, " D"], logged: Float[Array, " L"]) -> Float[Array, ""]:
    """E_e[-log D] + E_o[-log(1 - D)] of logits log D - log(1 - D)."""
    return jnp.mean(jax.nn.softplus(-demonstrated)) + jnp.mean(jax.nn.softplus(logged))


def gradient_penalty(slopes: Float[Array, "B X"]) -> Float[Array, ""]:
    """Mean of (||g|| - 1)^2 over gradients of the logit by the input (Gulrajani et al., 2017, arXiv:1704.00028)."""
    squares = jnp.sum(jnp.square(slopes), axis=-1)
    flat = squares == 0  # where the norm has no gradient
    norms = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squares)))
    return jnp.mean(jnp.square(norms - 1))
