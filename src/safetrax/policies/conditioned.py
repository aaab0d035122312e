"""Policies that are told the cost that they may run up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from safetrax.nets.saving import saveable
from safetrax.policies.actor import Actor, from_unit_box

_MOST = float(np.finfo(np.float32).max)  # infinity would not pass through a network


@saveable
class ConditionedActor(Actor):
    """A network of observation and, as last input, cost limit; its outputs in [-1, 1] are stretched to the bounds."""

    network: Callable[[Float[Array, "n O1"]], Float[Array, "n A"]]
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    cost_limit: Float[Array, ""]  # of an episode, the same in all its steps; adjustable

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """The cost limit: any finite number from zero on."""
        return {"cost_limit": (0.0, _MOST)}

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n A"], Any]:
        """The network's output."""
        inputs = with_cost(observations, jnp.broadcast_to(self.cost_limit, observations.shape[0]))
        return from_unit_box(self.network(inputs), self.action_low, self.action_high), memory


def with_cost(observations: Float[Array, "n O"], costs: Float[Array, " n"]) -> Float[Array, "n O1"]:
    """Observations with the cost of their episode, or the limit on it, as the last number."""
    return jnp.concatenate([observations, costs[:, None]], axis=-1)
