"""Pieces that several algorithms share when they build and describe a deterministic policy network."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from safetrax.algorithms.base import Spec
from safetrax.nets.mlp import MLP, Initialiser
from safetrax.policies.actor import DeterministicActor


class ActionBounds(eqx.Module):
    """Action bounds as part of a state, so that an actor can be made from the state alone."""

    low: Float[Array, " A"]
    high: Float[Array, " A"]

    @staticmethod
    def of(spec: Spec) -> ActionBounds:
        """The bounds of a data set's actions."""
        return ActionBounds(
            low=jnp.asarray(spec.action_low, jnp.float32), high=jnp.asarray(spec.action_high, jnp.float32)
        )

    def actor(self, network: Callable[[jax.Array], jax.Array]) -> DeterministicActor:
        """The deployed form of a network with outputs in [-1, 1]."""
        return DeterministicActor(network, self.low, self.high)


def policy_network(
    key: Key[Array, ""], spec: Spec, hidden: tuple[int, ...], *, dropout: float, initialiser: Initialiser
) -> MLP:
    """A tanh network from observations to actions in [-1, 1]."""
    sizes = (spec.observation_size, *hidden, spec.action_size)
    return MLP.make(key, sizes, output="tanh", dropout_rate=dropout, initialiser=initialiser)


def dropout_seed(key: Key[Array, ""]) -> UInt32[Array, ""]:
    """A 32-bit seed for the counter hash, out of a JAX key."""
    return jax.random.bits(key, dtype=jnp.uint32)
