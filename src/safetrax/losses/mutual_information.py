"""An upper bound of the mutual information between a number and a class, and the classifier that it rests on."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def vclub(log_prob: Float[Array, "B K"], classes: Int[Array, " B"]) -> Float[Array, ""]:
    """mean_i log q(r_i | z_i) - mean_ij log q(r_j | z_i), in nats (vCLUB; Cheng et al., ICML 2020, arXiv:2006.12013).

    An upper bound of I(z; r) where q is nearer to p(z, r) than to p(z) p(r). All pairs count, i = j too.

    Args:
        log_prob: log q(. | z_i) of every class.
        classes: r_i, 0..K-1.
    """
    share = jnp.zeros(log_prob.shape[-1]).at[classes].add(1 / classes.size)  # mean over j without the B x B table
    return -class_loss(log_prob, classes) - jnp.mean(log_prob @ share)


def class_loss(log_prob: Float[Array, "B K"], classes: Int[Array, " B"]) -> Float[Array, ""]:
    """Negative log-likelihood of the classes, -mean_i log q(r_i | z_i): the joint expectation of the bound."""
    return -jnp.mean(jnp.take_along_axis(log_prob, classes[:, None], axis=-1))
