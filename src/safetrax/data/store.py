"""The data set on the device, once for all runs, and the small per-limit indices that samplers draw from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from safetrax.data.segments import Segments
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError

Field = Literal["observations", "actions", "rewards", "costs", "terminated", "truncated", "next_observations"]


TRANSITION_FIELDS: tuple[Field, ...] = (
    "observations",
    "actions",
    "rewards",
    "costs",
    "terminated",
    "truncated",
    "next_observations",
)
"""What `Store.transitions` reads."""


class Transitions(eqx.Module):
    """A batch of transitions.

    Attributes:
        observations: s.
        actions: a, in [-1, 1].
        rewards: r.
        costs: c.
        done: the episode ended here, whether terminated or truncated: all reference implementations merge the two.
        next_observations: s'.
    """

    observations: Float[Array, "B O"]
    actions: Float[Array, "B A"]
    rewards: Float[Array, " B"]
    costs: Float[Array, " B"]
    done: Bool[Array, " B"]
    next_observations: Float[Array, "B O"]


class Store(eqx.Module):
    """The arrays that an algorithm reads, on the device. Fields that it does not read are None.

    Actions are mapped from their bounds to [-1, 1] and clipped to it.
    """

    observations: Float[Array, "N O"]
    actions: Float[Array, "N A"]
    rewards: Float[Array, " N"] | None
    costs: Float[Array, " N"] | None
    terminated: Bool[Array, " N"] | None
    truncated: Bool[Array, " N"] | None
    next_observations: Float[Array, "N O"] | None
    offsets: Int32[Array, " E1"]

    @staticmethod
    def make(trajectories: Trajectories, fields: Collection[Field]) -> Store:
        """Put the named fields on the device; observations and actions are always there.

        On a CPU, arrays that `load` has read are used where they are, without a copy. next_observations may be
        missing: `transitions` then takes the following row.
        """

        def device(name: Field) -> jax.Array | None:
            array = getattr(trajectories, name) if name in fields else None
            return None if array is None else _place(array)

        return Store(
            observations=_place(trajectories.observations),
            actions=to_unit_box(trajectories.actions, trajectories.action_low, trajectories.action_high),
            rewards=device("rewards"),
            costs=device("costs"),
            terminated=device("terminated"),
            truncated=device("truncated"),
            next_observations=device("next_observations"),
            offsets=jnp.asarray(trajectories.offsets, jnp.int32),
        )

    @property
    def num_transitions(self) -> int:
        """N."""
        return int(self.observations.shape[0])

    def transitions(self, rows: Int[Array, " B"]) -> Transitions:
        """The transitions of those rows, with all fields of `TRANSITION_FIELDS`; costs, if there are none, are NaN.

        Without next observations s' is the next row's observation, and an episode's last one follows itself.
        """
        assert self.rewards is not None
        assert self.terminated is not None
        assert self.truncated is not None
        done = self.terminated[rows] | self.truncated[rows]
        if self.next_observations is None:
            following = self.observations[rows + ~done]
        else:
            following = self.next_observations[rows]
        return Transitions(
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            costs=jnp.full(rows.shape, jnp.nan) if self.costs is None else self.costs[rows],
            done=done,
            next_observations=following,
        )


def _place(array: np.ndarray) -> jax.Array:
    """The array on the device; on a CPU in place if its memory is aligned, for it is never written to."""
    placed: jax.Array = jax.device_put(array)  # jnp.asarray would always copy
    return placed


def to_unit_box(
    actions: Float[np.ndarray, "*n A"], low: Float[np.ndarray, " A"], high: Float[np.ndarray, " A"]
) -> Float[Array, "*n A"]:
    """The actions in [-1, 1], as networks see them; what lies outside their bounds is cut."""
    if np.all(low == -1) and np.all(high == 1):
        return jnp.clip(jnp.asarray(actions), -1, 1)
    return jnp.clip((jnp.asarray(actions) - low) * (2 / (high - low)) - 1, -1, 1)


class TransitionIndex(eqx.Module):
    """Which episodes' transitions may be drawn, in O(E): the same shapes whatever is selected.

    Attributes:
        starts: first row of each selected episode, padded with zeros.
        ends: running total of selected transitions, padded with the total.
    """

    starts: Int32[Array, " E"]
    ends: Int32[Array, " E"]

    @staticmethod
    def all(trajectories: Trajectories) -> TransitionIndex:
        """Every episode."""
        return TransitionIndex.make(trajectories, np.ones(trajectories.num_episodes, bool))

    @staticmethod
    def make(trajectories: Trajectories, selected: Bool[np.ndarray, " E"]) -> TransitionIndex:
        """Select whole episodes.

        Raises:
            DataError: no episode is selected.
        """
        episodes = np.flatnonzero(selected)
        if not episodes.size:
            raise DataError("no episode is selected for training; loosen the selection or the cost limit.")
        pad = trajectories.num_episodes - episodes.size
        ends = np.cumsum(trajectories.lengths[episodes])
        return TransitionIndex(
            starts=jnp.asarray(np.pad(trajectories.offsets[episodes], (0, pad)), jnp.int32),
            ends=jnp.asarray(np.pad(ends, (0, pad), mode="edge"), jnp.int32),
        )

    def sample(self, key: Key[Array, ""], size: int) -> Int[Array, " B"]:
        """Row numbers of `size` transitions, uniform over the selected ones, with replacement."""
        draw = jax.random.randint(key, (size,), 0, self.ends[-1])
        episode = jnp.searchsorted(self.ends, draw, side="right")
        before = jnp.where(episode > 0, self.ends[episode - 1], 0)
        return self.starts[episode] + draw - before


class SegmentBatch(eqx.Module):
    """Windows of one batch.

    Attributes:
        starts: first row of each window.
        steps: valid steps of each window (less than S only for short episodes).
        weight: w of Eqs. 2-3.
        desirable: y.
    """

    starts: Int32[Array, " B"]
    steps: Int32[Array, " B"]
    weight: Float[Array, " B"]
    desirable: Bool[Array, " B"]


class SegmentIndex(eqx.Module):
    """Labelled windows on the device, padded to the number of all windows: one shape for every cost limit.

    Nine bytes per window. Drawing is episode-uniform, conditioned on the window being labelled: an episode by its
    share of labelled windows, then one of those windows uniformly.

    Attributes:
        starts, weight, desirable: of each labelled window, see `Segments`.
        first: labelled windows of eligible episode k are number first[k] to first[k + 1] - 1.
        cumulative: probability of drawing one of the eligible episodes 0..k.
        steps: valid steps of each eligible episode's windows.
        desirable_share: probability that a drawn window is desirable.
        length: S, steps of a window.
    """

    starts: Int32[Array, " W"]
    weight: Float[Array, " W"]
    desirable: Bool[Array, " W"]
    first: Int32[Array, " K1"]
    cumulative: Float[Array, " K"]
    steps: Int32[Array, " K"]
    desirable_share: Float[Array, ""]
    length: int = eqx.field(static=True)

    @staticmethod
    def make(segments: Segments) -> SegmentIndex:
        """Copy labelled windows to the device.

        Raises:
            DataError: no window is labelled.
        """
        labelled = segments.starts.size
        if not labelled:
            raise DataError("no segment is labelled desirable or undesirable; raise the shares top or bottom.")
        pad = (0, segments.num_windows - labelled)
        mass = segments.episode_labelled / segments.episode_windows
        cumulative = np.cumsum(mass) / mass.sum()
        cumulative[np.flatnonzero(mass)[-1] :] = 1.0
        probability = segments.window_probability()
        return SegmentIndex(
            starts=jnp.asarray(np.pad(segments.starts, pad)),
            weight=jnp.asarray(np.pad(segments.weight, pad)),
            desirable=jnp.asarray(np.pad(segments.desirable, pad)),
            first=jnp.asarray(np.concatenate([[0], np.cumsum(segments.episode_labelled)]), jnp.int32),
            cumulative=jnp.asarray(cumulative, jnp.float32),
            steps=jnp.asarray(segments.episode_steps, jnp.int32),
            desirable_share=jnp.asarray(probability[segments.desirable].sum(), jnp.float32),
            length=segments.length,
        )

    def sample(self, key: Key[Array, ""], size: int) -> SegmentBatch:
        """Draw `size` labelled windows with replacement."""
        episode_key, window_key = jax.random.split(key)
        uniform = jax.random.uniform(episode_key, (size,))
        episode = jnp.searchsorted(self.cumulative, uniform, side="right")
        window = jax.random.randint(window_key, (size,), self.first[episode], self.first[episode + 1])
        return SegmentBatch(
            starts=self.starts[window],
            steps=self.steps[episode],
            weight=self.weight[window],
            desirable=self.desirable[window],
        )


def window_rows(starts: Int32[Array, " B"], length: int) -> Int32[Array, "B T"]:
    """Row numbers of each window. Those of a short episode reach beyond it; mask them with `step_mask`."""
    return starts[:, None] + jnp.arange(length, dtype=jnp.int32)


def step_mask(steps: Int32[Array, " B"], length: int) -> Bool[Array, "B T"]:
    """True at the valid steps of each window."""
    return jnp.arange(length, dtype=jnp.int32) < steps[:, None]
