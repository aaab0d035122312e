"""Actors: what is deployed. A network, the action bounds, and a memory where the method needs one."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from safetrax.nets.mlp import MLP
from safetrax.nets.module import saveable


class Actor(eqx.Module):
    """A policy as pure functions of arrays, for `n` episodes side by side.

    The memory is a pytree whose leaves all have a leading axis of length `n`: one row per episode, so that a
    caller can restart single episodes by replacing rows. Most actors remember nothing and keep the defaults.
    """

    def reset(self, n: int) -> Any:
        """Memory at the start of `n` episodes."""
        return ()

    def act(
        self, memory: Any, observations: Float[Array, "n O"], keys: Key[Array, " n"]
    ) -> tuple[Float[Array, "n A"], Any]:
        """Actions inside the action bounds, and the next memory. `keys`: one random key per episode."""
        raise NotImplementedError

    def observe(self, memory: Any, rewards: Float[Array, " n"], costs: Float[Array, " n"]) -> Any:
        """Memory after the environment answered with rewards and costs."""
        return memory


@saveable
class DeterministicActor(Actor):
    """A tanh network, evaluated without dropout, whose output is stretched from [-1, 1] to the action bounds."""

    network: MLP
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]

    def act(
        self, memory: Any, observations: Float[Array, "n O"], keys: Key[Array, " n"]
    ) -> tuple[Float[Array, "n A"], Any]:
        """The network's output; `keys` are not used."""
        return from_unit_box(self.network(observations), self.action_low, self.action_high), memory


def from_unit_box(
    actions: Float[Array, "n A"], low: Float[Array, " A"], high: Float[Array, " A"]
) -> Float[Array, "n A"]:
    """Map actions from [-1, 1] to [low, high]. Exact where the bounds are -1 and 1."""
    return jax.numpy.clip((high + low) / 2 + actions * ((high - low) / 2), low, high)
