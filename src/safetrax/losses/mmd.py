"""Maximum mean discrepancy: how far two sets of samples are apart (Gretton et al., 2012)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

_FLOOR = 1e-6  # under the root, so that its gradient is finite where the sets agree


def gaussian_kernel_mean(x: Float[Array, "K *b A"], y: Float[Array, "M *b A"], width: float) -> Float[Array, "*b"]:
    """Mean of exp(-||x_i - y_j||^2 / (2 sigma)) over all pairs i, j of K and M samples in each place of the batch.

    The width sigma divides the squared distance as it is: the kernel's standard deviation is sqrt(sigma).
    """
    squared = jnp.sum(jnp.square(x[:, None] - y[None]), axis=-1)
    return jnp.mean(jnp.exp(-squared / (2 * width)), axis=(0, 1))


def gaussian_mmd(x: Float[Array, "K *b A"], y: Float[Array, "M *b A"], width: float) -> Float[Array, "*b"]:
    """sqrt(mean k(x, x) + mean k(y, y) - 2 mean k(x, y) + 1e-6), the means over all pairs, equal ones included.

    Kumar et al., BEAR, 2019 (arXiv:1906.00949), as its code and OSRL estimate it; see `gaussian_kernel_mean`.
    """
    squared = (
        gaussian_kernel_mean(x, x, width) + gaussian_kernel_mean(y, y, width) - 2 * gaussian_kernel_mean(x, y, width)
    )
    return jnp.sqrt(squared + _FLOOR)
