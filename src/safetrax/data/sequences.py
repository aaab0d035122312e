"""Sequences: windows of an episode with what is still to come, for models that read a history of steps.

Windows are never copied. What an episode still returns and costs after each step is a difference of prefix sums, two
numbers per transition; an episode that is told other totals (see `relabelling`) is two numbers more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Key

from safetrax.data.relabelling import Relabelled
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories

EpisodeWeight = Literal["linear", "inverse", "uniform"]

_SOFTENING = 10.0  # of the weight 1 / (C + 10)


class SequenceBatch(eqx.Module):
    """K steps of each of B episodes. Padding stands to the right, and is zero in all but `times`.

    Attributes:
        observations: s_t.
        actions: a_t, in [-1, 1].
        returns_to_go: sum of the rewards from t on.
        costs_to_go: sum of the costs from t on.
        costs: c_t.
        times: t, which counts on in the padding.
        mask: False in the padding.
    """

    observations: Float[Array, "B K O"]
    actions: Float[Array, "B K A"]
    returns_to_go: Float[Array, "B K"]
    costs_to_go: Float[Array, "B K"]
    costs: Float[Array, "B K"]
    times: Int32[Array, "B K"]
    mask: Bool[Array, "B K"]

    @property
    def history(self) -> tuple[Array, Array, Array, Array, Array]:
        """What a decision transformer reads, in its order: returns and costs to go, observations, actions, times."""
        return self.returns_to_go, self.costs_to_go, self.observations, self.actions, self.times


class SequenceIndex(eqx.Module):
    """Which episodes are drawn, how often, and what they are told.

    Eight bytes per transition. Entry m is an episode, or one that is told other totals: there are the E episodes of
    the log and so many places for relabelled ones, of which those left over are never drawn.

    Attributes:
        return_to_go: sum of the rewards from every transition to the end of its episode.
        cost_to_go: of the costs.
        starts: first row of each entry.
        lengths: its steps.
        return_shift: what is added to its returns-to-go.
        cost_shift: to its costs-to-go.
        cumulative: probability of drawing one of the entries 0..m.
    """

    return_to_go: Float32[Array, " N"]
    cost_to_go: Float32[Array, " N"]
    starts: Int32[Array, " M"]
    lengths: Int32[Array, " M"]
    return_shift: Float32[Array, " M"]
    cost_shift: Float32[Array, " M"]
    cumulative: Float32[Array, " M"]

    @staticmethod
    def make(
        trajectories: Trajectories,
        relabelled: Relabelled,
        *,
        places: int,
        weight: EpisodeWeight = "linear",
        cap: float = 70.0,
    ) -> SequenceIndex:
        """On the host, once.

        Args:
            trajectories: E episodes.
            relabelled: episodes that are told other totals.
            places: how many there are at most; shapes depend on nothing else.
            weight: see `entry_weights`.
            cap: see `entry_weights`.
        """
        told = Relabelled(
            np.concatenate([np.arange(trajectories.num_episodes), relabelled.episodes]),
            np.concatenate([trajectories.returns, relabelled.returns]),
            np.concatenate([trajectories.cost_returns, relabelled.costs]),
        )
        spare = places - relabelled.episodes.size
        return SequenceIndex.of(trajectories, told, entry_weights(told.costs, weight, cap), spare)

    @staticmethod
    def of(
        trajectories: Trajectories, told: Relabelled, mass: Float[np.ndarray, " n"], spare: int = 0
    ) -> SequenceIndex:
        """On the host, once.

        Args:
            trajectories: E episodes.
            told: the entries: n episodes, and what they are said to return and to cost.
            mass: how often each is drawn, up to a factor.
            spare: further places, which are never drawn.
        """
        episodes, mass = told.episodes, np.pad(mass, (0, spare))
        cumulative = np.cumsum(mass) / mass.sum()
        cumulative[np.flatnonzero(mass)[-1] :] = 1.0

        def entries(values: np.ndarray, dtype: type) -> jax.Array:
            return jnp.asarray(np.pad(values, (0, spare), mode="edge"), dtype)

        return SequenceIndex(
            return_to_go=jnp.asarray(to_go(trajectories.rewards, trajectories.offsets), jnp.float32),
            cost_to_go=jnp.asarray(to_go(trajectories.logged_costs, trajectories.offsets), jnp.float32),
            starts=entries(trajectories.offsets[episodes], jnp.int32),
            lengths=entries(trajectories.lengths[episodes], jnp.int32),
            return_shift=entries(told.returns - trajectories.returns[episodes], jnp.float32),
            cost_shift=entries(told.costs - trajectories.cost_returns[episodes], jnp.float32),
            cumulative=jnp.asarray(cumulative, jnp.float32),
        )

    @staticmethod
    def estimated(
        return_to_go: Float[Array, " N"], costs: Float[Array, " N"], offsets: Int[Array, " E1"], cap: float
    ) -> SequenceIndex:
        """On the device: every episode as it is, at costs that are no log's, drawn by the weight "linear"."""
        ends = jnp.zeros(costs.shape, bool).at[offsets[1:] - 1].set(True)
        cost_to_go = remaining(costs, ends)
        starts = offsets[:-1]
        mass = jnp.maximum(cap - cost_to_go[starts], 0.0)
        mass = jnp.where(jnp.any(mass > 0), mass, 1.0)
        numbers = jnp.arange(mass.size)
        cumulative = jnp.cumsum(mass) / jnp.sum(mass)
        cumulative = jnp.where(numbers >= jnp.max(jnp.where(mass > 0, numbers, 0)), 1.0, cumulative)
        zero = jnp.zeros(mass.shape)
        return SequenceIndex(return_to_go, cost_to_go, starts, jnp.diff(offsets), zero, zero, cumulative)

    def sample(self, key: Key[Array, ""], store: Store, size: int, steps: int) -> SequenceBatch:
        """Draw windows: an entry by its weight, then the first step uniformly among the episode's.

        Args:
            key: decides.
            store: the same data set, with costs.
            size: B.
            steps: K.
        """
        return self.windows(store, *self.draw(key, size), steps)

    def draw(self, key: Key[Array, ""], size: int) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
        """The entry of each window, and its first step."""
        entry_key, start_key = jax.random.split(key)
        entry = jnp.searchsorted(self.cumulative, jax.random.uniform(entry_key, (size,)), side="right")
        return entry, jax.random.randint(start_key, (size,), 0, self.lengths[entry])

    def windows(self, store: Store, entry: Int[Array, " B"], first: Int[Array, " B"], steps: int) -> SequenceBatch:
        """The windows of `steps` steps that begin at step `first` of those entries."""
        assert store.costs is not None
        times = (first[:, None] + jnp.arange(steps)).astype(jnp.int32)
        last = self.lengths[entry][:, None] - 1
        mask = times <= last
        rows = self.starts[entry][:, None] + jnp.minimum(times, last)
        return SequenceBatch(
            observations=jnp.where(mask[..., None], store.observations[rows], 0.0),
            actions=jnp.where(mask[..., None], store.actions[rows], 0.0),
            returns_to_go=jnp.where(mask, self.return_to_go[rows] + self.return_shift[entry][:, None], 0.0),
            costs_to_go=jnp.where(mask, self.cost_to_go[rows] + self.cost_shift[entry][:, None], 0.0),
            costs=jnp.where(mask, store.costs[rows], 0.0),
            times=times,
            mask=mask,
        )


def to_go(values: Float[np.ndarray, " N"], offsets: Int[np.ndarray, " E1"]) -> Float[np.ndarray, " N"]:
    """The sum of the values from every row to the end of its episode, in float64."""
    prefix = np.concatenate([np.zeros(1), np.cumsum(values, dtype=np.float64)])
    return np.asarray(np.repeat(prefix[offsets[1:]], np.diff(offsets)) - prefix[:-1])


def remaining(values: Float[Array, " N"], ends: Bool[Array, " N"]) -> Float[Array, " N"]:
    """`to_go` on the device. No sum reaches beyond its episode, so that float32 suffices.

    Args:
        values: of every row.
        ends: whether a row is its episode's last.
    """

    def earlier(after: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        total = row[0] + jnp.where(row[1], 0.0, after)
        return total, total

    sums: Array = jax.lax.scan(earlier, jnp.zeros(()), (values, ends), reverse=True)[1]
    return sums


@dataclass(frozen=True)
class Drawn:
    """Which episodes are ever drawn.

    Attributes:
        logged: of the log's, whether.
        relabelled: of those that are told other totals, how many.
        costs: least and greatest cost that a drawn episode has, or is told.
    """

    logged: Bool[np.ndarray, " E"]
    relabelled: int
    costs: tuple[float, float]

    @staticmethod
    def of(trajectories: Trajectories, relabelled: Relabelled, weight: EpisodeWeight, cap: float) -> Drawn:
        """See `SequenceIndex.make`."""
        costs = np.concatenate([trajectories.cost_returns, relabelled.costs])
        drawn = entry_weights(costs, weight, cap) > 0
        logged, others = drawn[: trajectories.num_episodes], drawn[trajectories.num_episodes :]
        return Drawn(logged, int(others.sum()), (float(costs[drawn].min()), float(costs[drawn].max())))


def entry_weights(costs: Float[np.ndarray, " M"], weight: EpisodeWeight, cap: float) -> Float[np.ndarray, " M"]:
    """How often episodes of those costs are drawn, up to a factor: cheap ones more often, CDT's choice.

    Args:
        costs: C, of whole episodes, or what they are said to be.
        weight: "linear": max(`cap` - C, 0), or the same for all where that is zero for all. "inverse": 1 / (C + 10).
            "uniform": the same for all.
        cap: cost from which on episodes are not drawn.
    """
    if weight == "inverse":
        return np.asarray(1 / (costs + _SOFTENING))
    mass = np.maximum(cap - costs, 0.0) if weight == "linear" else np.ones(costs.size)
    return mass if mass.any() else np.ones(costs.size)


class WindowBatch(eqx.Module):
    """T steps of each of B episodes. Padding stands to the right, and is zero in all but `times`.

    Attributes:
        observations: s_t.
        actions: a_t, in [-1, 1].
        times: t, which counts on in the padding.
        mask: False in the padding.
    """

    observations: Float[Array, "B T O"]
    actions: Float[Array, "B T A"]
    times: Int[Array, "B T"]
    mask: Bool[Array, "B T"]

    @property
    def inputs(self) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """What a network is called with, in order."""
        return self.observations, self.actions, self.times, self.mask

    @property
    def steps(self) -> Float[Array, "B T OA"]:
        """Observation and action side by side."""
        return jnp.concatenate([self.observations, self.actions], axis=-1)


def draw_windows(key: Key[Array, ""], store: Store, episodes: Int[Array, " B"], steps: int) -> WindowBatch:
    """A window of each of those episodes, uniformly; all of one that is shorter."""
    lengths = store.offsets[episodes + 1] - store.offsets[episodes]
    first = jax.random.randint(key, episodes.shape, 0, jnp.maximum(lengths - steps, 0) + 1)
    return windows_at(store, episodes, first, steps)


def windows_at(store: Store, episodes: Int[Array, " B"], first: Int[Array, " B"], steps: int) -> WindowBatch:
    """The windows of `steps` steps that begin at step `first` of those episodes."""
    times = (first[:, None] + jnp.arange(steps)).astype(jnp.int32)
    last = (store.offsets[episodes + 1] - store.offsets[episodes] - 1)[:, None]
    mask = times <= last
    rows = store.offsets[episodes][:, None] + jnp.minimum(times, last)
    return WindowBatch(
        observations=jnp.where(mask[..., None], store.observations[rows], 0.0),
        actions=jnp.where(mask[..., None], store.actions[rows], 0.0),
        times=times,
        mask=mask,
    )
