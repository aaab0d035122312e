"""Causal transformers whose leaves are arrays only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from safetrax.nets.dropout import dropout
from safetrax.nets.mlp import linear
from safetrax.nets.saving import saveable

NormOrder = Literal["pre", "post"]

_STD = 0.02  # of fresh weights, as in GPT
_EPSILON = 1e-5  # of layer normalisation, as in PyTorch
_NEVER = -1e30  # score of what may not be looked at; finite, so that a row without any other gives no NaN
_SEEDS = 4  # of a block, each for one dropout
_FASTEST = 10_000.0  # base of the rotary angles

Read = Callable[[Any], Any]
"""Of something with a leading axis of the batch and one of tokens, the tokens that are wanted."""


@jax.custom_vjp
def layer_norm(x: Float[Array, "n i"], scale: Float[Array, " i"], bias: Float[Array, " i"]) -> Float[Array, "n i"]:
    """(x - mean) / sqrt(variance + 1e-5) of every row, times scale, plus bias (Ba et al., 2016)."""
    return _normalised(x)[0] * scale + bias


def _normalised(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + _EPSILON)
    return centred * inverse, inverse


def _norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return layer_norm(x, scale, bias), (x, scale)


def _norm_backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale = saved
    normal, inverse = _normalised(x)
    ones = jnp.ones(gradient.shape[0])  # sums over rows are products with ones, as in `linear`
    towards = gradient * scale
    along = jnp.mean(towards * normal, axis=-1, keepdims=True)
    inputs = inverse * (towards - jnp.mean(towards, axis=-1, keepdims=True) - normal * along)
    return inputs, ones @ (gradient * normal), ones @ gradient


layer_norm.defvjp(_norm_forward, _norm_backward)


@jax.custom_vjp
def gelu(x: Float[Array, "*b i"]) -> Float[Array, "*b i"]:
    """x Phi(x), exactly (Hendrycks and Gimpel, 2016). The backward pass needs x alone and computes Phi again."""
    return x * _phi(x)


def _phi(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    density = jnp.exp(-0.5 * jnp.square(x)) / math.sqrt(2 * math.pi)
    return (gradient * (_phi(x) + x * density),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


@saveable
class Norm(eqx.Module):
    """Layer normalisation with its scale and bias."""

    scale: Float[Array, " i"]
    bias: Float[Array, " i"]

    @staticmethod
    def make(size: int) -> Norm:
        """Scale 1, bias 0."""
        return Norm(jnp.ones(size), jnp.zeros(size))

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b i"]:
        """Every vector normalised."""
        return layer_norm(x.reshape(-1, x.shape[-1]), self.scale, self.bias).reshape(x.shape)


@saveable
class Affine(eqx.Module):
    """x W + b over the last axis."""

    weight: Float[Array, "i o"]
    bias: Float[Array, " o"]

    @staticmethod
    def make(key: Key[Array, ""], inputs: int, outputs: int) -> Affine:
        """Normal weights of standard deviation 0.02, no bias."""
        return Affine(_STD * jax.random.normal(key, (inputs, outputs)), jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Of every vector."""
        return linear(x.reshape(-1, x.shape[-1]), self.weight, self.bias).reshape(*x.shape[:-1], -1)


def rotated(x: Float[Array, "B T E"], positions: Int[Array | np.ndarray, " T"]) -> Float[Array, "B T E"]:
    """Rotary embedding (Su et al., 2021): numbers 2i and 2i + 1 turned by the angle position * 10000^(-2i / E).

    Products of two vectors then depend on the difference of their positions alone, those of any neighbouring pairs of
    numbers too: vectors may be split into heads of even size afterwards.
    """
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    speeds = _FASTEST ** (-jnp.arange(pairs.shape[-2]) / pairs.shape[-2])
    angles = jnp.asarray(positions)[:, None] * speeds
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    even, odd = pairs[..., 0], pairs[..., 1]
    return jnp.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1).reshape(x.shape)


def attend(
    queries: Float[Array, "B Q H D"],
    keys: Float[Array, "B T H D"],
    values: Float[Array, "B T H D"],
    allowed: Bool[Array, "#B 1 Q T"],
    rate: float = 0.0,
    dropout_seed: UInt32[Array, ""] | None = None,
) -> Float[Array, "B Q H D"]:
    """softmax(q k / sqrt(D)) v of every head, over the tokens that a query is allowed.

    With dropout of the softmax's weights they have to be written out, for `jax.nn.dot_product_attention` drops none.
    """
    if dropout_seed is None or rate == 0:
        return jax.nn.dot_product_attention(queries, keys, values, mask=allowed)
    scores = jnp.einsum("bqhd,bthd->bhqt", queries, keys) * queries.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(allowed, scores, _NEVER), axis=-1)
    weights = dropout(weights.reshape(-1, weights.shape[-1]), dropout_seed, rate).reshape(weights.shape)
    return jnp.einsum("bhqt,bthd->bqhd", weights, values)


@saveable
class Block(eqx.Module):
    """Attention to a token and those before it, then a network of one hidden layer; each is added to what came in.

    Attributes:
        attention_norm, mlp_norm: before attention and network ("pre": x + f(LN x)) or behind ("post": LN(x + f(x))).
        queries_keys_values: of all heads, from the token.
        attention_output: from all heads.
        inner, outer: of the network, with an exact GELU between.
        heads: H, which divides the width.
        dropout: share of attention weights, and of either's outputs, dropped while training.
        order: where the normalisation is.
        rotary: turn queries and keys by their tokens' positions.
    """

    attention_norm: Norm
    queries_keys_values: Affine
    attention_output: Affine
    mlp_norm: Norm
    inner: Affine
    outer: Affine
    heads: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    order: str = eqx.field(static=True)
    rotary: bool = eqx.field(static=True)

    @staticmethod
    def make(
        key: Key[Array, ""],
        width: int,
        heads: int,
        *,
        dropout: float = 0.0,
        order: NormOrder = "pre",
        rotary: bool = False,
    ) -> Block:
        """Weights of queries, keys and values as in PyTorch's attention, Xavier-uniform; the others N(0, 0.02)."""
        first, *others = jax.random.split(key, 4)
        bound = (6 / (4 * width)) ** 0.5
        return Block(
            Norm.make(width),
            Affine(jax.random.uniform(first, (width, 3 * width), minval=-bound, maxval=bound), jnp.zeros(3 * width)),
            Affine.make(others[0], width, width),
            Norm.make(width),
            Affine.make(others[1], width, 4 * width),
            Affine.make(others[2], 4 * width, width),
            heads=heads,
            dropout=dropout,
            order=order,
            rotary=rotary,
        )

    def __call__(
        self,
        x: Float[Array, "B T E"],
        valid: Bool[Array, "B T"] | None = None,
        dropout_seed: UInt32[Array, ""] | None = None,
        read: Read | None = None,
    ) -> Float[Array, "B Q E"]:
        """The tokens after the block, or only those that are read of it."""
        pre = self.order == "pre"
        positions = np.arange(x.shape[1])
        asking = positions if read is None else read(positions[None, :, None])[0, :, 0]
        allowed = jnp.asarray(positions <= asking[:, None])[None, None]
        if valid is not None:
            allowed = allowed & valid[:, None, None, :]
        source = self.attention_norm(x) if pre else x
        if read is not None:
            x = read(x)
        heard = self._dropped(
            self._attention(source, positions, asking, allowed, dropout_seed, read), dropout_seed, 1
        )
        x = x + heard if pre else self.attention_norm(x + heard)
        hidden = gelu(self.inner(self.mlp_norm(x) if pre else x))
        result = self._dropped(self.outer(hidden), dropout_seed, 2)
        return x + result if pre else self.mlp_norm(x + result)

    def _attention(
        self,
        source: Float[Array, "B T E"],
        positions: Int[np.ndarray, " T"],
        asking: Int[np.ndarray, " Q"],
        allowed: Bool[Array, "#B 1 Q T"],
        dropout_seed: UInt32[Array, ""] | None,
        read: Read | None,
    ) -> Float[Array, "B Q E"]:
        width = source.shape[-1]
        weight, bias = self.queries_keys_values.weight, self.queries_keys_values.bias
        if read is None:
            queries, keys, values = jnp.split(self.queries_keys_values(source), 3, axis=-1)
        else:  # queries of the tokens that are read alone
            queries = Affine(weight[:, :width], bias[:width])(read(source))
            keys, values = jnp.split(Affine(weight[:, width:], bias[width:])(source), 2, axis=-1)
        if self.rotary:
            queries, keys = rotated(queries, asking), rotated(keys, positions)
        queries, keys, values = (z.reshape(*z.shape[:2], self.heads, -1) for z in (queries, keys, values))
        heard = attend(queries, keys, values, allowed, self.dropout, dropout_seed)
        return self.attention_output(heard.reshape(*heard.shape[:2], width))

    def _dropped(
        self, x: Float[Array, "B Q E"], dropout_seed: UInt32[Array, ""] | None, number: int
    ) -> Float[Array, "B Q E"]:
        return dropped(x, self.dropout, dropout_seed, number)


def dropped(
    x: Float[Array, "*b E"], rate: float, dropout_seed: UInt32[Array, ""] | None, number: int = 0
) -> Float[Array, "*b E"]:
    """Units dropped where a seed is given; `number` tells the places of one seed apart."""
    if dropout_seed is None or rate == 0:
        return x
    return dropout(x.reshape(-1, x.shape[-1]), dropout_seed + jnp.uint32(number), rate).reshape(x.shape)


@saveable
class Transformer(eqx.Module):
    """Blocks one after the other; behind pre-normalised ones a last normalisation."""

    blocks: tuple[Block, ...]
    norm: Norm | None

    @staticmethod
    def make(
        key: Key[Array, ""],
        width: int,
        blocks: int,
        heads: int,
        *,
        dropout: float = 0.0,
        order: NormOrder = "pre",
        rotary: bool = False,
    ) -> Transformer:
        """Fresh weights; see `Block`."""
        made = [
            Block.make(k, width, heads, dropout=dropout, order=order, rotary=rotary)
            for k in jax.random.split(key, blocks)
        ]
        return Transformer(tuple(made), Norm.make(width) if order == "pre" else None)

    def __call__(
        self,
        x: Float[Array, "B T E"],
        valid: Bool[Array, "B T"] | None = None,
        dropout_seed: UInt32[Array, ""] | None = None,
        read: Read | None = None,
    ) -> Float[Array, "B Q E"]:
        """What comes out at every token, or at those that `read` picks: the last block computes no others.

        Args:
            x: embedded tokens; each sees itself and those before it.
            valid: False at padding, which no token sees.
            dropout_seed: any number while training; without one nothing is dropped.
            read: slices and reshapes alone, for it is also applied to NumPy arrays of positions.
        """
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            seed = None if dropout_seed is None else dropout_seed + jnp.uint32(_SEEDS * number)
            x = block(x, valid, seed, read if number == last else None)
        return x if self.norm is None else self.norm(x)
