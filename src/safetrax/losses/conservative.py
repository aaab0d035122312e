"""The conservative penalty on a critic (Kumar et al., CQL, 2020)."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float


def conservative_gap(
    sampled: Float[Array, "*k S B"],
    log_density: Float[Array, "S B"],
    logged: Float[Array, "*k B"],
    temperature: float = 1.0,
) -> Float[Array, "*k B"]:
    """T log sum_j exp((Q(s, a_j) - log p(a_j)) / T) - Q(s, a): how far drawn actions are valued above the logged one.

    CQL(H) of Kumar et al. (arXiv:2006.04779), Eq. 4, with importance weights: a_j is drawn from density p. A sum, not
    a mean, as in the reference implementations, so that a constant Q and S draws from the uniform density on
    [-1, 1]^A give log S + A log 2. Densities are in nats; the smaller the temperature T, the closer to the greatest
    value.
    """
    soft_maximum = jax.nn.logsumexp((sampled - log_density) / temperature, axis=-2) * temperature
    return soft_maximum - logged
