"""Stationary distribution correction (OptiDICE, COptiDICE): divergences, weights, dual losses, cost upper bound.

Equations of Lee et al., *COptiDICE*, ICLR 2022 (arXiv:2204.08957). A weight w(s, a) is the ratio of the policy's
normalised discounted occupancy to the data's; E is the mean over the batch.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

DivergenceName = Literal["soft-chi2", "chi2", "kl"]
DIVERGENCES: tuple[str, ...] = get_args(DivergenceName)

_TINY = 1e-10  # keeps log(0) finite, as in the reference code


def divergence(weights: Float[Array, "*b"], name: DivergenceName) -> Float[Array, "*b"]:
    """f(w), elementwise, for w >= 0.

    * "soft-chi2": w (log w - 1) + 1 below 1, (w - 1)^2 / 2 from 1 on.
    * "chi2": (w - 1)^2 / 2.
    * "kl": w log w. Its slope at w = 1 is 1, not 0.
    """
    if name == "kl":
        return weights * jnp.log(weights + _TINY)
    square = 0.5 * jnp.square(weights - 1)
    if name == "chi2":
        return square
    return jnp.where(weights < 1, weights * (jnp.log(weights + _TINY) - 1) + 1, square)


def inverse_slope(slopes: Float[Array, "*b"], name: DivergenceName) -> Float[Array, "*b"]:
    """(f')^-1(y), elementwise: the w at which f has slope y. Only "chi2" can give less than 0."""
    if name == "kl":
        return jnp.exp(slopes - 1)
    if name == "chi2":
        return slopes + 1
    return jnp.where(slopes < 0, jnp.exp(jnp.minimum(slopes, 0)), slopes + 1)


def advantage(
    rewards: Float[Array, " B"],
    costs: Float[Array, " B"],
    multiplier: Float[Array, ""],
    values: Float[Array, " B"],
    next_values: Float[Array, " B"],
    done: Bool[Array, " B"],
    discount: float,
) -> Float[Array, " B"]:
    """e = r - lambda c + gamma (1 - d) nu(s') - nu(s), the advantage of the penalised reward; nu are the values."""
    return rewards - multiplier * costs + discount * ~done * next_values - values


def occupancy_weights(advantages: Float[Array, " B"], alpha: float, name: DivergenceName) -> Float[Array, " B"]:
    """w = max((f')^-1(e / alpha), 0), the weights that maximise E[w e - alpha f(w)].

    The larger alpha > 0, the strength of the divergence, the closer the weights are to those of e = 0.
    """
    return jnp.maximum(inverse_slope(advantages / alpha, name), 0)


def value_loss(
    values: Float[Array, " B"],
    initial: Float[Array, " B"],
    advantages: Float[Array, " B"],
    weights: Float[Array, " B"],
    discount: float,
    alpha: float,
    name: DivergenceName,
) -> Float[Array, ""]:
    """(1 - gamma) E[1_init nu(s) / p_init] + E[w e - alpha f(w)], which nu minimises.

    The weights maximise the second term, so its gradient with them held fixed is its gradient (envelope theorem):
    pass them detached. `initial` is 1_init / p_init: is the row its episode's first, over the share of such rows in
    the data.
    """
    return (1 - discount) * jnp.mean(initial * values) + jnp.mean(
        weights * advantages - alpha * divergence(weights, name)
    )


def flow_residual(
    values: Float[Array, " B"],
    next_values: Float[Array, " B"],
    initial: Float[Array, " B"],
    weights: Float[Array, " B"],
    costs: Float[Array, " B"],
    done: Bool[Array, " B"],
    discount: float,
) -> Float[Array, " B"]:
    """l = (1 - gamma) chi(s) 1_init / p_init + w (c + gamma (1 - d) chi(s') - chi(s)).

    Its mean is E[w c] plus the product of chi, the values, with the violation of the flow equations by w, which is
    detached; `initial` as in `value_loss`.
    """
    return (1 - discount) * values * initial + weights * (costs + discount * ~done * next_values - values)


def worst_case(
    residuals: Float[Array, " B"], temperature: Float[Array, ""]
) -> tuple[Float[Array, " B"], Float[Array, ""]]:
    """omega = B softmax(l / tau), the batch re-weighted towards great residuals l, and its divergence from the batch.

    The divergence is E[omega log omega - omega + 1], in nats; the smaller the temperature tau > 0, the greater it is.
    """
    log_omega = jax.nn.log_softmax(residuals / temperature) + math.log(residuals.shape[0])
    omega = jnp.exp(log_omega)
    return omega, jnp.mean(omega * log_omega - omega + 1)
