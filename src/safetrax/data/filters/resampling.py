"""The filter that puts a log on a fixed step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from safetrax.data.filters.base import Filter, FilterState
from safetrax.data.times import duration
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.settings import require

_SLACK = 0.01  # of a step
_MOST = 100  # new rows for each old one


@dataclass(frozen=True)
class Resample(Filter):
    """Put episodes on a fixed step of so many seconds, or of so many of their steps.

    New times are an episode's first one and every step from there, up to its last one. Observations and actions are
    those of the last row at or before each (a hundredth of a step after it still counts as at it); rewards and costs
    are summed over the rows from each new time to before the next, so that those of an episode stay as they are.
    """

    name: ClassVar[str] = "resample"
    mends: ClassVar[bool] = True
    every: str
    """`1s`, `500ms`, `5min`, for which the log needs times; or a whole number of steps."""
    gap: str | None = None
    """Longest time between two rows, beyond which the filter refuses. None: twice the step."""

    def __post_init__(self) -> None:
        if self.every.isdecimal():
            require(int(self.every) > 0, "every", self.every, "be at least 1")
            require(self.gap is None, "gap", self.gap, "be left out, for every is a number of steps")
            return
        duration("every", self.every)
        if self.gap is not None:
            duration("gap", self.gap)

    def step(self, state: FilterState) -> FilterState:
        """Choose the rows, and sum."""
        data = state.data
        starts = np.repeat(data.offsets[:-1], data.lengths)
        slack, seconds = 0.0, None
        if self.every.isdecimal():
            places = (np.arange(data.num_transitions) - starts) / int(self.every)
        else:
            times, seconds, slack = stamps(data, self), duration("every", self.every), _SLACK
            self._check_gaps(data, times, seconds)
            places = (times - times[starts]) / seconds
        of_row = np.floor(places + slack).astype(np.int64)  # the interval that it is in
        counts = of_row[data.offsets[1:] - 1] + 1
        if counts.sum() > _MOST * data.num_transitions:
            raise DataError(
                f"the filter {self} would make {counts.sum():,} rows of {data.num_transitions:,}; choose a longer "
                "step."
            )
        offsets = np.concatenate([[0], np.cumsum(counts)])
        episodes = np.repeat(np.arange(data.num_episodes), counts)
        number = np.arange(offsets[-1]) - offsets[episodes]  # of the new row in its episode
        # both ascend: the first new time that a row is not after, and each new row, episode after episode
        room = offsets[:-1] + np.arange(data.num_episodes)
        first_at = np.repeat(room, data.lengths) + np.ceil(places - slack).astype(np.int64)
        rows = np.searchsorted(first_at, room[episodes] + number, side="right") - 1
        into = np.repeat(offsets[:-1], data.lengths) + of_row
        fields: dict[str, Any] = {name: getattr(data, name)[rows] for name in ("observations", "actions")}
        for name in ("rewards", "costs", "hidden_costs"):
            if (array := getattr(data, name)) is not None:
                fields[name] = np.bincount(into, array.astype(np.float64), len(rows)).astype(np.float32)
        for name in ("terminated", "truncated"):
            fields[name] = np.zeros(len(rows), np.bool_)
            fields[name][offsets[1:] - 1] = getattr(data, name)[data.offsets[1:] - 1]
        if data.next_observations is not None:
            fields["next_observations"] = np.roll(fields["observations"], -1, axis=0)
            fields["next_observations"][offsets[1:] - 1] = data.next_observations[data.offsets[1:] - 1]
        if data.times is not None:
            begin = data.times[data.offsets[:-1]][episodes]
            fields["times"] = data.times[rows] if seconds is None else begin + number * seconds
        return FilterState(replace(data, **fields, offsets=offsets.astype(np.int64)), state.outliers)

    def _check_gaps(self, data: Trajectories, times: Float64[np.ndarray, " N"], seconds: float) -> None:
        most = 2 * seconds if self.gap is None else duration("gap", self.gap)
        after = inner_rows(data)
        waits = times[after] - times[after - 1]
        long = waits > most * (1 + _SLACK)
        if long.any():
            row = int(after[np.argmax(long)])
            raise DataError(
                f"the filter {self} allows {most:g} s between two rows, but in {long.sum():,} places there are more, "
                f"up to {waits.max():g} s, first before {at_row(data, row)}; cut episodes there (split:gap={most:g}s "
                "before it), or allow them (gap=...)."
            )


def stamps(data: Trajectories, entry: Filter) -> Float64[np.ndarray, " N"]:
    """The times of the rows, which rise within each episode.

    Raises:
        DataError: there are none, or some are missing, or they do not rise; `entry` is the filter that needs them.
    """
    if data.times is None:
        raise DataError(
            f"the filter {entry} needs times, and the log has none; call their column time, their array times, or "
            'name it (columns={"time": "..."}).'
        )
    if not np.isfinite(data.times).all():
        row = int(np.argmin(np.isfinite(data.times)))
        raise DataError(f"the filter {entry} needs times, but that of {at_row(data, row)} is missing; fill it in.")
    after = inner_rows(data)
    back = data.times[after] <= data.times[after - 1]
    if back.any():
        row = int(after[np.argmax(back)])
        raise DataError(
            f"the filter {entry} needs times that rise, but that of {at_row(data, row)} is not after the one before "
            f"(so in {back.sum():,} rows); sort the rows by time (name the column step, too), and take out what is "
            "there twice."
        )
    return data.times


def inner_rows(data: Trajectories) -> Int64[np.ndarray, " rows"]:
    """All rows but the first one of each episode."""
    inner = np.ones(data.num_transitions, np.bool_)
    inner[data.offsets[:-1]] = False
    return np.flatnonzero(inner)


def at_row(data: Trajectories, row: int) -> str:
    """A row, for a sentence."""
    return f"row {row} (episode {data.episodes_of(row)})"
