"""Actors: what is deployed. A network, the action bounds, and a memory where the algorithm needs one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.errors import ConfigError
from safetrax.nets.mlp import LOGITS, MLP
from safetrax.nets.saving import saveable

_A = TypeVar("_A", bound="Actor")


class Actor(eqx.Module):
    """A policy as pure functions of arrays, for `n` episodes side by side.

    The memory is a pytree whose leaves all have a leading axis of length `n`: one row per episode, so that a
    caller can restart single episodes by replacing rows. Most actors remember nothing and keep the defaults. All
    chance is in the noise, so that `act` can be exported, compared and monitored.
    """

    @property
    def chooses(self) -> bool:
        """Whether an action is one of A choices, one-hot."""
        network = getattr(self, "network", None)
        return isinstance(network, MLP) and network.output == LOGITS

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """Fields that may be changed after training, arrays of numbers, with their least and greatest value."""
        return {}

    def adjusted(self: _A, **values: float) -> _A:
        """The same policy with other values of adjustable fields; nothing is trained.

        Raises:
            ConfigError: a name is not adjustable, or its value is out of range.
        """
        actor = self
        for name, value in values.items():
            if name not in self.adjustable:
                known = ", ".join(self.adjustable) or "nothing"
                raise ConfigError(f"this policy has no adjustable {name!r}; it has {known}.")
            low, high = self.adjustable[name]
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value:g}, but must lie between {low:g} and {high:g}.")
            actor = actor._with(name, value)
        return actor

    def review(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Sentences about values of adjustable fields that are possible, but unlike what was trained.

        Raises:
            ConfigError: a value is so much unlike it that nothing can be said of what the policy does.
        """
        return ()

    @property
    def longest_episode(self) -> int | None:
        """Steps after which the actor has seen nothing like it; None: it does not count them."""
        return None

    def _with(self: _A, name: str, value: float) -> _A:
        adjusted: _A = eqx.tree_at(
            lambda actor: getattr(actor, name), self, replace_fn=lambda x: jnp.full_like(x, value)
        )
        return adjusted

    def played(
        self, outputs: Float[Array, "n A"], low: Float[Array, " A"], high: Float[Array, " A"]
    ) -> Float[Array, "n A"]:
        """What is done about a network's outputs: stretched to the bounds; the most likely one, where it chooses."""
        if self.chooses:
            outputs = 2 * jax.nn.one_hot(jnp.argmax(outputs, axis=-1), outputs.shape[-1]) - 1
        return from_unit_box(outputs, low, high)

    def reset(self, n: int) -> Any:
        """Memory at the start of `n` episodes."""
        return ()

    def draw(self, keys: Key[Array, " n"]) -> Any:
        """The noise of one step, from one random key per episode: arrays with a leading axis of length `n`."""
        return ()

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n A"], Any]:
        """Actions inside the action bounds, and the next memory. `noise`: from `draw`."""
        raise NotImplementedError

    def observe(self, memory: Any, rewards: Float[Array, " n"], costs: Float[Array, " n"]) -> Any:
        """Memory after the environment answered with rewards and costs."""
        return memory


@saveable
class DeterministicActor(Actor):
    """A network with outputs in [-1, 1], evaluated without dropout and stretched to the action bounds; or one of
    logits, whose greatest is the choice.
    """

    network: Callable[[Float[Array, "n O"]], Float[Array, "n A"]]
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n A"], Any]:
        """The network's output."""
        return self.played(self.network(observations), self.action_low, self.action_high), memory


@saveable
class Standardised(Actor):
    """An actor that sees (s - mean) / std instead of s: of algorithms that train on standardised observations."""

    actor: Actor
    mean: Float[Array, " O"]
    std: Float[Array, " O"]

    @property
    def chooses(self) -> bool:
        """The inner actor's."""
        return self.actor.chooses

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """The inner actor's."""
        return self.actor.adjustable

    def review(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """The inner actor's."""
        return self.actor.review(values)

    @property
    def longest_episode(self) -> int | None:
        """The inner actor's."""
        return self.actor.longest_episode

    def _with(self, name: str, value: float) -> Standardised:
        adjusted: Standardised = eqx.tree_at(lambda s: s.actor, self, self.actor._with(name, value))
        return adjusted

    def reset(self, n: int) -> Any:
        """The inner actor's memory."""
        return self.actor.reset(n)

    def draw(self, keys: Key[Array, " n"]) -> Any:
        """The inner actor's noise."""
        return self.actor.draw(keys)

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n A"], Any]:
        """The inner actor's action."""
        return self.actor.act(memory, (observations - self.mean) / self.std, noise)

    def observe(self, memory: Any, rewards: Float[Array, " n"], costs: Float[Array, " n"]) -> Any:
        """The inner actor's memory."""
        return self.actor.observe(memory, rewards, costs)


def from_unit_box(
    actions: Float[Array, "n A"], low: Float[Array, " A"], high: Float[Array, " A"]
) -> Float[Array, "n A"]:
    """Map actions from [-1, 1] to [low, high]. Exact where the bounds are -1 and 1."""
    return jnp.clip((high + low) / 2 + actions * ((high - low) / 2), low, high)
