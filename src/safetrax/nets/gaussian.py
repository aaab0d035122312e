"""Stochastic policies: a Gaussian squashed into the action box by tanh."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.mlp import MLP
from safetrax.nets.saving import saveable

_LOG_STD_BOUNDS = (-20.0, 2.0)


@saveable
class SquashedGaussian(eqx.Module):
    """a = tanh(u), u Gaussian; mean and log standard deviation are one network's outputs (Haarnoja et al., 2018).

    Called on observations it gives the deterministic action tanh(mean), so that a `DeterministicActor` can hold it.
    """

    network: MLP

    @staticmethod
    def make(
        key: Key[Array, ""], observation_size: int, action_size: int, hidden: tuple[int, ...]
    ) -> SquashedGaussian:
        """PyTorch's default weights."""
        return SquashedGaussian(MLP.make(key, (observation_size, *hidden, 2 * action_size)))

    def __call__(self, observations: Float[Array, "n O"]) -> Float[Array, "n A"]:
        """tanh of the mean, in [-1, 1]."""
        return jnp.tanh(self.moments(observations)[0])

    def moments(self, observations: Float[Array, "n O"]) -> tuple[Float[Array, "n A"], Float[Array, "n A"]]:
        """Mean and log standard deviation of u; the latter is clipped to [-20, 2]."""
        mean, log_std = jnp.split(self.network(observations), 2, axis=-1)
        return mean, jnp.clip(log_std, *_LOG_STD_BOUNDS)

    def draw(self, key: Key[Array, ""], observations: Float[Array, "n O"], count: int = 1) -> Float[Array, "K n A"]:
        """`count` reparameterised draws of u for every observation; the actions are their tanh."""
        mean, log_std = self.moments(observations)
        return mean + jnp.exp(log_std) * jax.random.normal(key, (count, *mean.shape))
