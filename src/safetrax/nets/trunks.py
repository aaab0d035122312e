"""A network of two inputs, each of which passes a layer of its own before they meet."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.mlp import MLP


class Trunks(eqx.Module):
    """One number from two inputs: a layer each, laid side by side, then a hidden layer and the output."""

    first: MLP
    second: MLP
    joint: MLP

    @staticmethod
    def make(key: Key[Array, ""], first: int, second: int, units: int, activation: str) -> Trunks:
        """PyTorch's default weights.

        Args:
            key: of the weights.
            first, second: numbers of the inputs.
            units: of the layer of each input; the hidden layer has twice as many.
            activation: of all but the output, "relu" or "tanh".
        """
        first_key, second_key, joint_key = jax.random.split(key, 3)
        return Trunks(
            first=MLP.make(first_key, (first, units), output=activation),
            second=MLP.make(second_key, (second, units), output=activation),
            joint=MLP.make(joint_key, (2 * units, 2 * units, 1), activation=activation),
        )

    def __call__(self, first: Float[Array, "n _"], second: Float[Array, "n _"]) -> Float[Array, " n"]:
        """Outputs of a flat batch."""
        return self.joint(jnp.concatenate([self.first(first), self.second(second)], axis=-1))[:, 0]
