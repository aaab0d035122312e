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
        return self.played(self.network(inputs), self.action_low, self.action_high), memory


@saveable
class BudgetActor(Actor):
    """A network of observation and cost limit, which may be told what is left of the limit instead.

    Attributes:
        network: sees the observation and, as its last input, the limit from -1 for the least to 1 for the greatest.
        action_low: lower action bounds.
        action_high: upper action bounds.
        cost_limit: of an episode; adjustable.
        remaining: above one half, the network is told in each step the limit of an episode that would spend its cost
            as evenly as what is left may be spent in the steps that are left; else the limit itself. Adjustable.
        limits: the least and the greatest that it was trained for.
        horizon: steps of an episode.
    """

    network: Callable[[Float[Array, "n O1"]], Float[Array, "n A"]]
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    cost_limit: Float[Array, ""]
    remaining: Float[Array, ""]
    limits: Float[Array, 2]
    horizon: Float[Array, ""]

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """The cost limit, within the trained range, and whether what remains of it counts."""
        limits = np.asarray(self.limits)
        return {"cost_limit": (float(limits[..., 0].max()), float(limits[..., 1].min())), "remaining": (0.0, 1.0)}

    def reset(self, n: int) -> Any:
        """Cost and steps so far."""
        return jnp.zeros((n, 2))

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n A"], Any]:
        """The network's output."""
        spent, steps = memory[:, 0], memory[:, 1]
        left = jnp.maximum(self.cost_limit - spent, 0.0) * self.horizon / jnp.maximum(self.horizon - steps, 1.0)
        told = jnp.where(self.remaining > 0.5, left, self.cost_limit)
        inputs = with_cost(observations, in_range(told, self.limits))
        return from_unit_box(self.network(inputs), self.action_low, self.action_high), memory

    def observe(self, memory: Any, rewards: Float[Array, " n"], costs: Float[Array, " n"]) -> Any:
        """Counts them."""
        return memory + jnp.stack([costs, jnp.ones_like(costs)], axis=-1)


def in_range(limits: Float[Array, " n"], ends: Float[Array, 2]) -> Float[Array, " n"]:
    """Limits as numbers from -1 for the least to 1 for the greatest; those beyond count as these."""
    low, high = ends
    share = (jnp.clip(limits, low, high) - low) / jnp.maximum(high - low, 1e-6)
    return jnp.asarray(2 * share - 1)


def with_cost(observations: Float[Array, "n O"], costs: Float[Array, " n"]) -> Float[Array, "n O1"]:
    """Observations with the cost of their episode, or the limit on it, as the last number."""
    return jnp.concatenate([observations, costs[:, None]], axis=-1)
