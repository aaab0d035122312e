"""Filters for logs with gaps: missing values are left out, cut out or filled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from safetrax.data.filters.base import Filter, FilterState, Selection
from safetrax.data.filters.resampling import inner_rows, stamps
from safetrax.data.gaps import Cells, cells_of, listed_cells, missing, missing_rows
from safetrax.data.sensors import spikes, stuck
from safetrax.data.times import duration
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.settings import require

_FIRST = "fill gaps first (fill:3), or compute rewards and costs first (relabel)"


@dataclass(frozen=True)
class _Marking(Filter):
    """Readings that are no measurements become missing, in observations and in the same next observations."""

    mends: ClassVar[bool] = True

    def step(self, state: FilterState) -> FilterState:
        """Mark them."""
        data = state.data
        marks = np.stack([self._marks(column, data.offsets) for column in data.observations.T], axis=1)
        fields = {"observations": np.where(marks, np.float32(np.nan), data.observations)}
        if data.next_observations is not None:
            same = np.roll(marks, -1, axis=0) & (data.next_observations == np.roll(data.observations, -1, axis=0))
            same[data.offsets[1:] - 1] = False
            fields["next_observations"] = np.where(same, np.float32(np.nan), data.next_observations)
        state = FilterState(replace(data, **fields), state.outliers)  # type: ignore[arg-type]
        return with_cells(state, cells_of(data, "observations", marks))

    def _marks(
        self, column: Float32[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"]
    ) -> Bool[np.ndarray, " N"]:
        raise NotImplementedError


@dataclass(frozen=True)
class Spikes(_Marking):
    """Take readings that leap away and come back for missing.

    A spike is farther, on one side, from the value before it and from the value after it than `deviations` times the
    sensor's robust deviation: 1.4826 times the median size of its changes from step to step, steps without a change
    set aside. A step to a new level is none, nor are an episode's first and last value.
    """

    name: ClassVar[str] = "spikes"
    deviations: float
    """How far, in robust deviations; 20 is far."""
    longest: int = 1
    """Values one after the other that may be one spike."""

    def __post_init__(self) -> None:
        require(0 < self.deviations < np.inf, "deviations", self.deviations, "be positive")
        require(1 <= self.longest <= 1000, "longest", self.longest, "lie in [1, 1000]")

    def _marks(
        self, column: Float32[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"]
    ) -> Bool[np.ndarray, " N"]:
        return spikes(column, offsets, self.deviations, self.longest)


@dataclass(frozen=True)
class Stuck(_Marking):
    """Take long repetitions of a reading for missing, where the sensor else always moves.

    The first reading stays. The sensor always moves if more than half of its other steps change it; a switch is never
    stuck.
    """

    name: ClassVar[str] = "stuck"
    steps: int
    """Steps over which a value is exactly repeated."""

    def __post_init__(self) -> None:
        require(self.steps >= 2, "steps", self.steps, "be at least 2")

    def _marks(
        self, column: Float32[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"]
    ) -> Bool[np.ndarray, " N"]:
        return stuck(column, offsets, self.steps)


@dataclass(frozen=True)
class Drop(Selection):
    """Leave out the episodes in which a value is missing."""

    name: ClassVar[str] = "drop"
    mends: ClassVar[bool] = True

    def step(self, state: FilterState) -> FilterState:
        """Keep the whole ones, and say what was missing in the others."""
        return with_cells(super().step(state), missing(state.data))

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """Numbers of those without a gap."""
        return np.flatnonzero(~np.logical_or.reduceat(missing_rows(data), data.offsets[:-1]))

    def advice(self, data: Trajectories) -> str:
        """All have gaps."""
        return (
            f"in every one a value is missing ({listed_cells(missing(data))}); cut episodes at their gaps (split), "
            f"or {_FIRST}."
        )


@dataclass(frozen=True)
class Split(Filter):
    """Cut episodes where values are missing; the pieces are episodes.

    A piece ends truncated, unless it ends where its episode did. Its cost and return are its own: a part of a costly
    episode may lie within a limit that the episode broke, so choose the limit for the pieces. A piece of an episode
    that is labelled unsafe is labelled unknown.
    """

    name: ClassVar[str] = "split"
    mends: ClassVar[bool] = True
    steps: int = 2
    """Shorter pieces are left out."""
    gap: str | None = None
    """Cut also where more time than this lies between two rows, such as `10s`."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "be at least 1")
        if self.gap is not None:
            duration("gap", self.gap)

    def step(self, state: FilterState) -> FilterState:
        """Keep the rows of the pieces."""
        data = state.data
        whole = ~missing_rows(data)
        begins = np.zeros(data.num_transitions + 1, np.bool_)
        begins[data.offsets] = True
        if self.gap is not None:
            after, times = inner_rows(data), stamps(data, self)
            begins[after] |= times[after] - times[after - 1] > duration("gap", self.gap)
        first = np.flatnonzero(whole & (begins[:-1] | ~np.append(True, whole[:-1])))
        last = np.flatnonzero(whole & (begins[1:] | ~np.append(whole[1:], True)))
        long = last - first + 1 >= self.steps
        first, last = first[long], last[long]
        if not len(first):
            raise DataError(
                f"the filter {self} leaves no piece of the {data.num_episodes} episodes: none has {self.steps} steps "
                f"without a gap ({listed_cells(missing(data)) or 'in time'}); lower its steps, or {_FIRST}."
            )
        outliers = state.outliers[data.episodes_of(first)]
        return with_cells(FilterState(data.pieces(first, last), outliers), missing(data))


@dataclass(frozen=True)
class Fill(Filter):
    """Fill short gaps with the last value before them in the episode.

    A gap is filled as a whole or, where it is longer than `steps` or begins its episode, not at all. Observations and
    actions are filled; rewards and costs only if `also` names them. A missing next observation is the observation of
    the row that follows.
    """

    name: ClassVar[str] = "fill"
    mends: ClassVar[bool] = True
    steps: int
    """Longest gap that is filled, in steps."""
    also: tuple[Literal["rewards", "costs", "hidden_costs"], ...] = ()
    """Fill these, too."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "be at least 1")

    def step(self, state: FilterState) -> FilterState:
        """Replace the arrays that have gaps."""
        data = state.data
        starts, stops = (np.repeat(ends, data.lengths) for ends in (data.offsets[:-1], data.offsets[1:]))
        fields: dict[str, Any] = {}
        for field in ("observations", "actions", *self.also):
            if getattr(data, field) is None:
                raise DataError(f"the filter {self} is to fill {field}, but the log has none; leave them out.")
            fields[field] = self._filled(getattr(data, field), starts, stops)
        if data.next_observations is not None:
            fields["next_observations"] = self._following(data, fields["observations"], starts)
        cells = [
            entry
            for field, array in fields.items()
            for entry in cells_of(data, field, np.isnan(getattr(data, field)) & ~np.isnan(array))
        ]
        return with_cells(FilterState(replace(data, **fields), state.outliers), cells)

    def _filled(
        self, array: np.ndarray, starts: Int64[np.ndarray, " N"], stops: Int64[np.ndarray, " N"]
    ) -> np.ndarray:
        filled = array.copy()
        for column in filled.reshape(len(array), -1).T:
            gone = np.isnan(column)
            if gone.any():
                last = last_present(gone)
                following = len(gone) - 1 - last_present(gone[::-1])[::-1]
                length = np.minimum(following, stops) - last - 1
                fits = gone & (last >= starts) & (length <= self.steps)
                column[fits] = column[last[fits]]
        return filled

    def _following(
        self, data: Trajectories, observations: Float32[np.ndarray, "N O"], starts: Int64[np.ndarray, " N"]
    ) -> Float32[np.ndarray, "N O"]:
        assert data.next_observations is not None
        after, ends = data.next_observations.copy(), data.offsets[1:] - 1
        gone = np.isnan(after)
        inside = gone.copy()
        inside[ends] = False
        after[inside] = np.roll(observations, -1, axis=0)[inside]
        for number in np.flatnonzero(gone[ends].any(axis=0)):
            last = last_present(np.isnan(data.observations[:, number]))[ends]
            fits = gone[ends, number] & (last >= starts[ends]) & (ends - last < self.steps)
            after[ends[fits], number] = data.observations[last[fits], number]
        return after


def last_present(gone: Bool[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """The last row up to each, itself included, that is not gone; -1 before the first."""
    return np.maximum.accumulate(np.where(gone, -1, np.arange(len(gone))))


def with_cells(state: FilterState, cells: list[Cells]) -> FilterState:
    """The state with what its filter found, column by column, for the record."""
    return replace(state, cells=tuple(cells))
