"""The network of a diffusion policy: it tells the noise from the action."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

from safetrax.nets.dropout import dropout
from safetrax.nets.mlp import linear, xavier_uniform
from safetrax.nets.saving import saveable

FREQUENCIES, _FREQUENCY_STD, TIME = 32, 0.2, 128
_EPSILON = 1e-6  # of the layer norm
_LARGEST_EXPONENT = 20.0  # from there on mish(x) = x in float32


def mish(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """x tanh(log(1 + e^x)) (Misra, 2020), with one exponential: for n = e^x (e^x + 2) it is x n / (n + 2)."""
    e = jnp.exp(jnp.minimum(x, _LARGEST_EXPONENT))
    n = e * (e + 2)
    return x * (n / (n + 2))


@saveable
class Dense(eqx.Module):
    """x W + b."""

    weight: Float[Array, "i o"]
    bias: Float[Array, " o"]

    @staticmethod
    def make(key: Key[Array, ""], fan_in: int, fan_out: int) -> Dense:
        """Xavier-uniform weights, zero bias."""
        return Dense(*xavier_uniform(key, fan_in, fan_out))

    def __call__(self, x: Float[Array, "n i"]) -> Float[Array, "n o"]:
        """Outputs of a flat batch."""
        return linear(x, self.weight, self.bias)


@saveable
class ResidualBlock(eqx.Module):
    """x + W_2 mish(W_1 norm(dropout(x))), with a hidden layer four times as wide."""

    scale: Float[Array, " w"]  # of the layer norm
    offset: Float[Array, " w"]  # of the layer norm
    widen: Dense  # W_1
    narrow: Dense  # W_2

    @staticmethod
    def make(key: Key[Array, ""], width: int) -> ResidualBlock:
        """A block of that width."""
        first, second = jax.random.split(key)
        return ResidualBlock(
            jnp.ones(width),
            jnp.zeros(width),
            Dense.make(first, width, 4 * width),
            Dense.make(second, 4 * width, width),
        )

    def __call__(self, x: Float[Array, "n w"], dropout_seed: UInt32[Array, ""] | None, rate: float) -> jax.Array:
        """Outputs of a flat batch; with dropout only where a seed is given."""
        h = x if dropout_seed is None or rate == 0 else dropout(x, dropout_seed, rate)
        centred = h - jnp.mean(h, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        h = centred * jax.lax.rsqrt(variance + _EPSILON) * self.scale + self.offset
        return x + self.narrow(mish(self.widen(h)))


@saveable
class Denoiser(eqx.Module):
    """eps(s, a_k, k): learnable Fourier features of k, two layers for the time, residual blocks (FISOR, IDQL)."""

    frequencies: Float[Array, " f"]  # w of the features cos(2 pi w k), sin(2 pi w k)
    time: tuple[Dense, Dense]  # two layers, mish between them
    enter: Dense  # from (a_k, s, time) to the width of the blocks
    blocks: tuple[ResidualBlock, ...]  # residual
    leave: Dense  # from mish of the last block to the noise
    dropout_rate: float = eqx.field(static=True)  # share of a block's inputs dropped where a dropout seed is given

    @staticmethod
    def make(
        key: Key[Array, ""],
        observation_size: int,
        action_size: int,
        *,
        width: int = 256,
        blocks: int = 3,
        dropout_rate: float = 0.1,
    ) -> Denoiser:
        """A fresh network. 1,639,202 parameters for 8 observations, 2 actions and the published sizes."""
        keys = jax.random.split(key, 5 + blocks)
        return Denoiser(
            frequencies=_FREQUENCY_STD * jax.random.normal(keys[0], (FREQUENCIES,)),
            time=(Dense.make(keys[1], 2 * FREQUENCIES, TIME), Dense.make(keys[2], TIME, TIME)),
            enter=Dense.make(keys[3], action_size + observation_size + TIME, width),
            blocks=tuple(ResidualBlock.make(k, width) for k in keys[5:]),
            leave=Dense.make(keys[4], width, action_size),
            dropout_rate=dropout_rate,
        )

    def __call__(
        self,
        observations: Float[Array, "n O"],
        actions: Float[Array, "n A"],
        steps: Int[Array, " n"],
        dropout_seed: UInt32[Array, ""] | None = None,
    ) -> Float[Array, "n A"]:
        """The noise in a flat batch of noisy actions; with dropout only where a seed is given."""
        angles = 2 * math.pi * steps[:, None].astype(jnp.float32) * self.frequencies
        first, second = self.time
        time = second(mish(first(jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1))))
        x = self.enter(jnp.concatenate([actions, observations, time], axis=-1))
        for number, block in enumerate(self.blocks):
            seed = None if dropout_seed is None else dropout_seed + jnp.uint32(number)
            x = block(x, seed, self.dropout_rate)
        return self.leave(mish(x))
