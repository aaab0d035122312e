"""Policies that read the last steps of their episode, and what it shall still return and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.nets.decision_transformer import SequenceNetwork
from safetrax.nets.saving import saveable
from safetrax.policies.actor import Actor, from_unit_box

_S = TypeVar("_S", bound="SequenceActor")

_MOST = float(np.finfo(np.float32).max)
_SLACK = 1e-6  # float32 cannot hold every limit
_LEVELS = 65  # cost limits for which the log tells a return


@saveable
class Targets(eqx.Module):
    """What may be asked for.

    Attributes:
        table: rows (cost limit, return), by ascending limits; between them returns are interpolated.
        returns: least and greatest of the log's episodes.
        costs: likewise.
    """

    table: Float[Array, "*p G 2"]
    returns: Float[Array, "*p 2"]
    costs: Float[Array, "*p 2"]

    @staticmethod
    def of(trajectories: Trajectories, limits: Sequence[float], returns: Sequence[float]) -> Targets:
        """Of a log. Without limits, the table has the greatest return of the episodes within each of 65 costs."""
        costs, earned = trajectories.cost_returns, trajectories.returns
        levels = np.asarray(limits) if limits else np.linspace(costs.min(), costs.max(), _LEVELS)
        order = np.argsort(costs, kind="stable")
        last = np.searchsorted(costs[order], levels, side="right") - 1
        best = np.maximum.accumulate(earned[order])[np.maximum(last, 0)]
        table = np.stack([levels, np.asarray(returns) if limits else best], axis=1)
        ranges = [jnp.asarray([x.min(), x.max()], jnp.float32) for x in (earned, costs)]
        return Targets(jnp.asarray(table, jnp.float32), *ranges)

    @staticmethod
    def unknown(limits: Sequence[float]) -> Targets:
        """Zeros of the shapes that `of` gives."""
        return Targets(jnp.zeros((len(limits) or _LEVELS, 2)), jnp.zeros(2), jnp.zeros(2))

    def asked(self, cost_limit: Array | float) -> Float[Array, ""]:
        """The return that belongs to a limit; beyond the table's limits that of the nearest."""
        return jnp.interp(jnp.asarray(cost_limit, jnp.float32), self.table[:, 0], self.table[:, 1])

    def doubts(self, cost_limit: float, drawn: tuple[float, float] | None) -> tuple[str, ...]:
        """Sentences where a limit, or the return that belongs to it, is unlike the log.

        Args:
            cost_limit: that a policy will be asked for.
            drawn: least and greatest cost of the episodes that it is trained on. None: they do not matter.
        """
        asked, found = float(self.asked(cost_limit)), []
        if drawn is not None and not _within(cost_limit, drawn):
            found.append(
                f"the cost limit {cost_limit:g} lies outside of {drawn[0]:g} to {drawn[1]:g}, the costs of the "
                "episodes that are drawn, so that what the policy does there is an extrapolation; choose another, or "
                "draw more."
            )
        if not _within(asked, _common(self.returns)):
            found.append(f"at the cost limit {cost_limit:g} {self._beyond(asked)}")
        return tuple(found)

    def review(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """See `Actor.review`: a limit beyond the log's costs is refused, a return beyond its returns warned of."""
        limit, target, costs = values.get("cost_limit"), values.get("target_return"), _common(self.costs)
        if limit is not None and not _within(limit, costs):
            raise ConfigError(
                f"cost_limit is {limit:g}, but the policy was trained on episodes that cost {costs[0]:g} to "
                f"{costs[1]:g}; choose a limit among them."
            )
        return () if target is None or _within(target, _common(self.returns)) else (self._beyond(target),)

    def _beyond(self, asked: float) -> str:
        low, high = _common(self.returns)
        return (
            f"the policy is asked for the return {asked:g}, but it is trained on episodes that return {low:g} "
            f"to {high:g}, so that what it does is an extrapolation; choose a return among them."
        )


class SequenceMemory(eqx.Module):
    """The last K - 1 steps of each of n episodes, the newest last; those before its first do not count.

    Attributes:
        observations: s_t.
        actions: a_t, in [-1, 1].
        returns: what was still to be returned at each step.
        costs: what was still to be spent.
        return_left: what is to be returned from now on.
        cost_left: what may be spent from now on; negative once the limit is exceeded.
        time: steps made.
    """

    observations: Float[Array, "n K1 O"]
    actions: Float[Array, "n K1 A"]
    returns: Float[Array, "n K1"]
    costs: Float[Array, "n K1"]
    return_left: Float[Array, " n"]
    cost_left: Float[Array, " n"]
    time: Int32[Array, " n"]


@saveable
class SequenceActor(Actor):
    """A transformer that is asked for a return and a cost; both count down with what is observed.

    The action is the mean of the Gaussian, clipped to the action bounds. Every step computes its whole window: the
    embedding of a token stays as it is while the window slides, but from the second block on what a token has heard
    changes with the oldest one's leaving, so that keys and values of earlier steps cannot be kept.

    Attributes:
        network: the transformer.
        action_low: lower action bounds.
        action_high: upper action bounds.
        cost_limit: of an episode; adjustable.
        target_return: of an episode; adjustable. It counts where `own_target` is 1.
        own_target: 0: the return that belongs to the limit by `targets` is asked for, until one is given.
        targets: what may be asked for.
        context: K, steps that are read.
    """

    network: SequenceNetwork
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    cost_limit: Float[Array, ""]
    target_return: Float[Array, ""]
    own_target: Float[Array, ""]
    targets: Targets
    context: int = eqx.field(static=True)

    @classmethod
    def make(
        cls: type[_S],
        network: SequenceNetwork,
        action_low: Float[Array, " A"],
        action_high: Float[Array, " A"],
        targets: Targets,
        context: int,
        cost_limit: Array | float = 0.0,
    ) -> _S:
        """At a limit, with the return that belongs to it."""
        zero, limit = jnp.zeros(()), jnp.asarray(cost_limit, jnp.float32)
        return cls(network, action_low, action_high, limit, zero, zero, targets, context)

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """The cost limit and the target return; see `review` for what was trained."""
        return {"cost_limit": (0.0, _MOST), "target_return": (-_MOST, _MOST)}

    @property
    def longest_episode(self) -> int | None:
        """Steps that the network tells apart, less K that belong to padding; None: it does not count them."""
        steps = self.network.time_steps
        return None if steps is None else steps - self.context

    def review(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """See `Targets.review`."""
        return self.targets.review(values)

    def _with(self, name: str, value: float) -> SequenceActor:
        actor = super()._with(name, value)
        return actor if name != "target_return" else actor._with("own_target", 1.0)

    def reset(self, n: int) -> SequenceMemory:
        """No steps yet, and all of the targets left."""
        earlier = self.context - 1
        sizes = [layer.weight.shape[-2] for layer in (self.network.states, self.network.actions)]
        asked = jnp.where(self.own_target > 0, self.target_return, self.targets.asked(self.cost_limit))
        return SequenceMemory(
            observations=jnp.zeros((n, earlier, sizes[0])),
            actions=jnp.zeros((n, earlier, sizes[1])),
            returns=jnp.zeros((n, earlier)),
            costs=jnp.zeros((n, earlier)),
            return_left=jnp.full(n, asked),
            cost_left=jnp.full(n, self.cost_limit),
            time=jnp.zeros(n, jnp.int32),
        )

    def act(
        self, memory: SequenceMemory, observations: Float[Array, "n O"], noise: Any
    ) -> tuple[Float[Array, "n A"], SequenceMemory]:
        """The mean, given the window that ends now; the present action is not looked at."""
        seen = _appended(memory.observations, observations)
        returns, costs = _appended(memory.returns, memory.return_left), _appended(memory.costs, memory.cost_left)
        pending = _appended(memory.actions, jnp.zeros((observations.shape[0], self.action_low.shape[-1])))
        times = memory.time[:, None] + jnp.arange(1 - self.context, 1)
        features = self.network.last_features(returns, costs, seen, pending, jnp.maximum(times, 0), times >= 0)
        actions = jnp.clip(self.network.moments(features)[0], -1.0, 1.0)
        memory = SequenceMemory(
            observations=seen[:, 1:],
            actions=_appended(memory.actions, actions)[:, 1:],
            returns=returns[:, 1:],
            costs=costs[:, 1:],
            return_left=memory.return_left,
            cost_left=memory.cost_left,
            time=memory.time + 1,
        )
        return from_unit_box(actions, self.action_low, self.action_high), memory

    def observe(
        self, memory: SequenceMemory, rewards: Float[Array, " n"], costs: Float[Array, " n"]
    ) -> SequenceMemory:
        """Both targets less what has come; neither stops at zero."""
        left = (memory.return_left - rewards, memory.cost_left - costs)
        result: SequenceMemory = eqx.tree_at(lambda m: (m.return_left, m.cost_left), memory, left)
        return result


@saveable
class BoundaryActor(SequenceActor):
    """One whose episodes all began with the same budget, its cost limit: it can be asked for other returns only."""

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """The target return."""
        return {"target_return": (-_MOST, _MOST)}


@saveable
class UnpricedActor(BoundaryActor):
    """One that was trained on costs of which no environment tells: what it may spend stays as it is."""

    def observe(
        self, memory: SequenceMemory, rewards: Float[Array, " n"], costs: Float[Array, " n"]
    ) -> SequenceMemory:
        """The return that is asked for less what has come."""
        return super().observe(memory, rewards, jnp.zeros_like(costs))


def _within(value: float, bounds: tuple[float, float]) -> bool:
    """Whether a number lies between two that were rounded to float32."""
    slack = _SLACK * max(1.0, abs(bounds[0]), abs(bounds[1]))
    return bounds[0] - slack <= value <= bounds[1] + slack


def _common(bounds: jax.Array) -> tuple[float, float]:
    """Of one policy's bounds `(2,)`, or of several's `(P, 2)`, what lies within all."""
    rows = np.asarray(bounds).reshape(-1, 2)
    return float(rows[:, 0].max()), float(rows[:, 1].min())


def _appended(window: Float[Array, "n K1 *f"], now: Float[Array, n * _]) -> Float[Array, "n K *f"]:
    return jnp.concatenate([window, now[:, None]], axis=1)
