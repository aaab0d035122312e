"""The network of a trajectory diffusion: it tells the noise from a window of steps under two conditions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from safetrax.nets.denoiser import mish
from safetrax.nets.mlp import linear

CONDITIONS = 2
_CONDITION_HIDDEN = (128, 512)
_GROUPS, _LEAST = 8, 4
_EPSILON = 1e-5  # of group normalisation, as in PyTorch
_SLOWEST = 10_000.0  # of the sinusoids that the step's number becomes


class Layer(eqx.Module):
    """x W + b."""

    weight: Float[Array, "i o"]
    bias: Float[Array, " o"]

    @staticmethod
    def empty(inputs: int, outputs: int) -> Layer:
        """Zeros, until `TemporalUNet.make` draws weights."""
        return Layer(jnp.zeros((inputs, outputs)), jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
        """Over the last axis."""
        return linear(x.reshape(-1, x.shape[-1]), self.weight, self.bias).reshape(*x.shape[:-1], -1)


class Conv(eqx.Module):
    """A convolution over time, with zeros beyond the ends.

    Two matrix products, one of which picks each step's neighbours: XLA's own are slow on a CPU.
    """

    layer: Layer  # of the inputs of step t - k // 2, then of the next
    size: int = eqx.field(static=True)  # k, an odd number
    stride: int = eqx.field(static=True)  # 2: of every second step

    @staticmethod
    def empty(inputs: int, outputs: int, size: int, stride: int = 1) -> Conv:
        """Kernels of `size` steps."""
        return Conv(Layer.empty(size * inputs, outputs), size=size, stride=stride)

    def __call__(self, x: Float[Array, "n T i"]) -> Float[Array, "n Q o"]:
        """Results of every step, or of every second one."""
        batch, steps, channels = x.shape
        centres = np.arange(0, steps, self.stride)
        near = centres[:, None] + np.arange(self.size) - self.size // 2
        picked = jnp.asarray(near.reshape(-1, 1) == np.arange(steps), jnp.float32)  # no step beyond an end
        rows = jnp.einsum("qt,nti->nqi", picked, x).reshape(batch, centres.size, self.size * channels)
        return self.layer(rows)


class ConvBlock(eqx.Module):
    """Convolution, group normalisation, mish."""

    conv: Conv
    scale: Float[Array, " o"]
    offset: Float[Array, " o"]

    @staticmethod
    def empty(inputs: int, outputs: int, kernel: int) -> ConvBlock:
        """Without weights."""
        return ConvBlock(Conv.empty(inputs, outputs, kernel), jnp.ones(outputs), jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "n T i"]) -> Float[Array, "n T o"]:
        """Normalised over the steps and the channels of each of eight groups.

        Narrow ones have fewer, of four channels: one by itself would lose what has been added to all its steps.
        """
        x = self.conv(x)
        grouped = x.reshape(*x.shape[:2], math.gcd(_GROUPS, max(x.shape[-1] // _LEAST, 1)), -1)
        centred = grouped - jnp.mean(grouped, axis=(1, 3), keepdims=True)
        normal = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=(1, 3), keepdims=True) + _EPSILON)
        return mish(normal.reshape(x.shape) * self.scale + self.offset)


class TemporalBlock(eqx.Module):
    """Two convolutions, what is told added between them, beside a residual path."""

    first: ConvBlock
    second: ConvBlock
    told: Layer
    beside: Layer | None  # where the width changes

    @staticmethod
    def empty(inputs: int, outputs: int, embedding: int, kernel: int) -> TemporalBlock:
        """From `inputs` channels to `outputs`, without weights."""
        return TemporalBlock(
            ConvBlock.empty(inputs, outputs, kernel),
            ConvBlock.empty(outputs, outputs, kernel),
            Layer.empty(embedding, outputs),
            None if inputs == outputs else Layer.empty(inputs, outputs),
        )

    def __call__(self, x: Float[Array, "n T i"], embedding: Float[Array, "n e"]) -> Float[Array, "n T o"]:
        """Of windows and what is told of each."""
        hidden = self.second(self.first(x) + self.told(mish(embedding))[:, None])
        return hidden + (x if self.beside is None else self.beside(x))


class TemporalUNet(eqx.Module):
    """eps(x_k, k, c) of windows of steps: Janner et al., ICML 2022 (arXiv:2205.09991), with two conditions.

    Down to half the steps at every width but the last, up again, and beside each way down a path across. k is told as
    sinusoids through two layers, the conditions through three; conditions that are dropped are zeros in their place.

    Attributes:
        time: two layers of the step's number.
        conditions: three layers; the last begins as zeros, so that what was never told has no effect.
        down: two blocks for each width.
        halve: between them, convolutions that halve the steps.
        middle: two blocks.
        up: two blocks for each width but the first, which hear those of the way down.
        double: behind them, convolutions that double the steps.
        last: one more convolution, then every step by itself.
    """

    time: tuple[Layer, Layer]
    conditions: tuple[Layer, Layer, Layer]
    down: tuple[tuple[TemporalBlock, TemporalBlock], ...]
    halve: tuple[Conv, ...]
    middle: tuple[TemporalBlock, TemporalBlock]
    up: tuple[tuple[TemporalBlock, TemporalBlock], ...]
    double: tuple[Conv, ...]
    last: tuple[ConvBlock, Layer]

    @staticmethod
    def make(
        key: Key[Array, ""], channels: int, *, width: int = 128, multiples: Sequence[int] = (1, 2), kernel: int = 5
    ) -> TemporalUNet:
        """For windows of `channels` numbers per step, as many steps as 2 ** (len(multiples) - 1) divides.

        Weights are uniform in +-1/sqrt(fan_in), PyTorch's, out of one draw: many take XLA half a minute to compile.
        """
        widths = [width * multiple for multiple in multiples]
        pairs = list(zip([channels, *widths[:-1]], widths, strict=True))
        hidden, wide = _CONDITION_HIDDEN

        def two(inputs: int, outputs: int) -> tuple[TemporalBlock, TemporalBlock]:
            first, second = (TemporalBlock.empty(i, outputs, 2 * width, kernel) for i in (inputs, outputs))
            return first, second

        empty = TemporalUNet(
            time=(Layer.empty(width, 4 * width), Layer.empty(4 * width, width)),
            conditions=(Layer.empty(CONDITIONS, hidden), Layer.empty(hidden, wide), Layer.empty(wide, width)),
            down=tuple(two(i, o) for i, o in pairs),
            halve=tuple(Conv.empty(o, o, 3, stride=2) for o in widths[:-1]),
            middle=two(widths[-1], widths[-1]),
            up=tuple(two(2 * o, i) for i, o in pairs[:0:-1]),
            double=tuple(Conv.empty(i, 2 * i, 3) for i, _ in pairs[:0:-1]),
            last=(ConvBlock.empty(widths[0], widths[0], kernel), Layer.empty(widths[0], channels)),
        )
        drawn = _drawn(key, empty)
        made: TemporalUNet = eqx.tree_at(lambda net: net.conditions[2], drawn, empty.conditions[2])  # zeros
        return made

    def __call__(
        self,
        x: Float[Array, "n T D"],
        steps: Int[Array, " n"],
        conditions: Float[Array, "n 2"],
        told: Bool[Array, " n"],
    ) -> Float[Array, "n T D"]:
        """The noise in noisy windows; the conditions of those that are not `told` have no effect."""
        embedding = self._embedding(steps, conditions, told)
        across = []
        for (first, second), halve in itertools.zip_longest(self.down, self.halve):
            x = second(first(x, embedding), embedding)
            across.append(x)
            x = x if halve is None else halve(x)
        for block in self.middle:
            x = block(x, embedding)
        for (first, second), double in zip(self.up, self.double, strict=True):
            x = second(first(jnp.concatenate([x, across.pop()], axis=-1), embedding), embedding)
            x = double(x).reshape(x.shape[0], 2 * x.shape[1], -1)  # two steps out of each
        before, leave = self.last
        return leave(before(x))

    def _embedding(
        self, steps: Int[Array, " n"], conditions: Float[Array, "n 2"], told: Bool[Array, " n"]
    ) -> Float[Array, "n e"]:
        first, second = self.time
        half = first.weight.shape[0] // 2
        angles = steps[:, None] * _SLOWEST ** (-jnp.arange(half) / max(half - 1, 1))
        time = second(mish(first(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1))))
        enter, middle, leave = self.conditions
        heard = leave(mish(middle(mish(enter(conditions)))))
        return jnp.concatenate([time, jnp.where(told[:, None], heard, 0.0)], axis=-1)


def _drawn(key: Key[Array, ""], network: TemporalUNet) -> TemporalUNet:
    """Matrices uniform in +-1/sqrt(rows), everything else as it is."""
    leaves, structure = jax.tree.flatten(network)
    sizes = [leaf.size if leaf.ndim == 2 else 0 for leaf in leaves]
    numbers = jnp.split(jax.random.uniform(key, (sum(sizes),), minval=-1.0), np.cumsum(sizes)[:-1])
    drawn = [
        part.reshape(leaf.shape) * leaf.shape[0] ** -0.5 if part.size else leaf
        for part, leaf in zip(numbers, leaves, strict=True)
    ]
    made: TemporalUNet = jax.tree.unflatten(structure, drawn)
    return made


def guided(
    network: TemporalUNet,
    x: Float[Array, "n T D"],
    steps: Int[Array, " n"],
    conditions: Float[Array, "n 2"],
    weight: Array | float,
) -> Float[Array, "n T D"]:
    """eps_0 + w (eps_c - eps_0), eps_0 without conditions (Ho and Salimans, 2022, arXiv:2207.12598)."""
    told = jnp.arange(2 * x.shape[0]) < x.shape[0]
    twice = [jnp.concatenate([part, part]) for part in (x, steps, conditions)]
    both = network(twice[0], twice[1], twice[2], told)
    with_conditions, without = jnp.split(both, 2)
    return without + weight * (with_conditions - without)
