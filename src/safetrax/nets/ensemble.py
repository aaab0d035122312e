"""Ensembles of networks that look at the same input: twin critics, groups of critics."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.mlp import MLP, Initialiser, kaiming_uniform
from safetrax.nets.saving import saveable


@saveable
class Ensemble(eqx.Module):
    """K networks with one output each.

    They are evaluated one after the other, not stacked: a CPU does batched matrix products at half the rate of plain
    ones, and XLA schedules independent products of a GPU side by side.
    """

    members: tuple[MLP, ...]

    @staticmethod
    def make(
        key: Key[Array, ""], sizes: Sequence[int], count: int, *, initialiser: Initialiser = kaiming_uniform
    ) -> Ensemble:
        """`count` fresh networks of layer sizes `sizes` = (in, hidden...); the single output is added."""
        keys = jax.random.split(key, count)
        return Ensemble(tuple(MLP.make(k, (*sizes, 1), initialiser=initialiser) for k in keys))

    def __call__(self, *inputs: Float[Array, "n _"]) -> Float[Array, "K n"]:
        """Outputs of every member; several inputs are laid side by side."""
        x = jnp.concatenate(inputs, axis=-1) if len(inputs) > 1 else inputs[0]
        return jnp.stack([member(x)[:, 0] for member in self.members])

    def min(self, *inputs: Float[Array, "n _"]) -> Float[Array, " n"]:
        """The smallest output: pessimistic about rewards, optimistic about costs."""
        return jnp.min(self(*inputs), axis=0)

    def max(self, *inputs: Float[Array, "n _"]) -> Float[Array, " n"]:
        """The largest output: pessimistic about costs."""
        return jnp.max(self(*inputs), axis=0)
