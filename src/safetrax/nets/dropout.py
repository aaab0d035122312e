"""Dropout from a counter hash: as random as it needs to be, at a few per cent of the matrix products' time."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

_GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: spreads consecutive seeds over the counter space


def hash32(x: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """An invertible 32-bit mixing function (the public-domain `lowbias32` constants of C. Wellons)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def keep_mask(seed: UInt32[Array, ""], shape: tuple[int, int], rate: float) -> Bool[Array, "n h"]:
    """True where a unit is kept; the keep probability is `_kept(rate) / 256`, for rate 0.25 exactly 3/4.

    Each 32-bit hash of (seed, counter) serves four units, one byte each.
    """
    rows, columns = shape
    if _kept(rate) == 256:  # is no byte
        return jnp.ones(shape, bool)
    words = -(-rows * columns // 4)
    counter = jax.lax.iota(jnp.uint32, words)
    bits = hash32(counter ^ hash32(seed * jnp.uint32(_GOLDEN) + jnp.uint32(1)))
    octets = jax.lax.bitcast_convert_type(bits, jnp.uint8).reshape(-1)[: rows * columns]
    return octets.reshape(shape) < _kept(rate)


def dropout(x: Float[Array, "n h"], seed: UInt32[Array, ""], rate: float) -> Float[Array, "n h"]:
    """Zero a share `rate` of units at random and scale the others by 1 / keep probability (Srivastava et al., 2014).

    The seed is any 32-bit number; the same one gives the same mask.
    """
    return jnp.where(keep_mask(seed, (x.shape[0], x.shape[1]), rate), x * _scale(rate), 0.0)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def relu_dropout(x: Float[Array, "n h"], seed: UInt32[Array, ""], rate: float) -> Float[Array, "n h"]:
    """ReLU, then `dropout`.

    A unit passes gradient exactly where the result is positive, so the backward pass needs the result alone, which
    the next layer keeps anyway: neither mask nor pre-activation is stored or computed again.
    """
    kept = keep_mask(seed, (x.shape[0], x.shape[1]), rate) & (x > 0)
    return jnp.where(kept, x * _scale(rate), 0.0)


def _kept(rate: float) -> int:
    """Of 256 units; however high the rate, one."""
    return max(1, round(256 * (1 - rate)))


def _scale(rate: float) -> float:
    return 256 / _kept(rate)


def _forward(x: jax.Array, seed: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    result = relu_dropout(x, seed, rate)
    return result, result


def _backward(rate: float, result: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    return jnp.where(result > 0, gradient * _scale(rate), 0.0), None


relu_dropout.defvjp(_forward, _backward)
