"""What is wrong, or probably wrong, with a data set, found before any compute is spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from safetrax.data.catalogue import Task, get_task
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError

_CHUNK_ROWS = 65_536  # temporaries stay at some MB, whatever the size of the data set
_ACTION_TOLERANCE = 1e-3
_RESET_BUG_SHARE = 0.01

_VALUES = ("observations", "actions", "rewards", "costs", "next_observations")


@dataclass(frozen=True)
class Finding:
    """One fault of a data set.

    Attributes:
        severity: an error forbids training, a warning should be read.
        message: one sentence with the field, the place, the value and the remedy.
    """

    severity: Literal["error", "warning"]
    message: str


def validate(trajectories: Trajectories, task: str | Task | None = None) -> list[Finding]:
    """Everything that is wrong with a data set, errors first.

    Args:
        trajectories: the data.
        task: what the data should fit; if omitted, the one named in `trajectories.info["task"]`, if any.

    Raises:
        TaskError: there is no such task.
    """
    known = _resolve(trajectories, task)
    errors = [*_non_finite(trajectories), *_negative_costs(trajectories), *_empty_box(trajectories)]
    warnings = [
        *_outside_box(trajectories),
        *_reset_observations(trajectories),
        *_free_of_cost(trajectories),
        *_dropped_tail(trajectories),
    ]
    if known is not None:
        errors += _wrong_sizes(trajectories, known)
        warnings += _too_long(trajectories, known)
    source = trajectories.info.get("source")
    prefix = f"{source}: " if source else ""
    return [Finding("error", prefix + message) for message in errors] + [
        Finding("warning", prefix + message) for message in warnings
    ]


def check(trajectories: Trajectories, task: str | Task | None = None) -> list[Finding]:
    """Refuse a data set with errors; return the warnings about any other.

    Args:
        trajectories: the data.
        task: as in `validate`.

    Raises:
        DataError: the first error, and how many more there are.
        TaskError: there is no such task.
    """
    findings = validate(trajectories, task)
    errors = [finding.message for finding in findings if finding.severity == "error"]
    if errors:
        more = len(errors) - 1
        rest = f" ({more} more error{'s' * (more > 1)}: safetrax.data.validate lists all.)" if more else ""
        raise DataError(errors[0] + rest)
    return findings


def _resolve(trajectories: Trajectories, task: str | Task | None) -> Task | None:
    if isinstance(task, Task):
        return task
    name = task or trajectories.info.get("task")
    return get_task(name) if name else None


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, len(array), _CHUNK_ROWS):
        yield first, array[first : first + _CHUNK_ROWS]


def _rows_where(array: np.ndarray, is_bad: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int]:
    """The first row in which any entry is bad (-1 if none), and the number of such rows."""
    first, count = -1, 0
    for start, chunk in _chunks(array):
        bad = is_bad(chunk)
        rows = np.flatnonzero(bad.any(axis=1) if bad.ndim == 2 else bad)
        if len(rows) and first < 0:
            first = start + int(rows[0])
        count += len(rows)
    return first, count


def _place(trajectories: Trajectories, row: int) -> str:
    episode = int(np.searchsorted(trajectories.offsets, row, side="right")) - 1
    return f"row {row} (episode {episode})"


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def _non_finite(trajectories: Trajectories) -> Iterator[str]:
    for name in _VALUES:
        array = getattr(trajectories, name)
        if array is None:
            continue
        row, count = _rows_where(array, lambda chunk: ~np.isfinite(chunk))
        if count:
            entries = np.atleast_1d(array[row])
            value = entries[~np.isfinite(entries)][0]
            yield (
                f"{name} holds {value} in {_place(trajectories, row)}, {_rows(count)} in all; "
                "remove or repair those episodes."
            )


def _negative_costs(trajectories: Trajectories) -> Iterator[str]:
    row, count = _rows_where(trajectories.costs, lambda chunk: chunk < 0)
    if count:
        yield (
            f"costs is {trajectories.costs[row]:g} in {_place(trajectories, row)}, {_rows(count)} in all; "
            "a cost must be 0 or more, so check the sign and the column."
        )


def _empty_box(trajectories: Trajectories) -> Iterator[str]:
    low, high = trajectories.action_low, trajectories.action_high
    bad = np.flatnonzero(~((low < high) & np.isfinite(low) & np.isfinite(high)))
    if len(bad):
        a = int(bad[0])
        yield (
            f"action_low is {low[a]:g} and action_high {high[a]:g} for action {a}; "
            "pass finite bounds with action_low below action_high."
        )


def _outside_box(trajectories: Trajectories) -> Iterator[str]:
    low, high = trajectories.action_low, trajectories.action_high

    def excess(actions: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(low - actions, actions - high))

    row, count = _rows_where(trajectories.actions, lambda chunk: excess(chunk) > _ACTION_TOLERANCE)
    if count:
        a = int(np.argmax(excess(trajectories.actions[row])))
        yield (
            f"actions is {trajectories.actions[row, a]:g} in {_place(trajectories, row)}, action {a}, "
            f"outside [{low[a]:g}, {high[a]:g}], {_rows(count)} in all; they will be clipped unless you pass "
            "action_low and action_high."
        )


def _reset_observations(trajectories: Trajectories) -> Iterator[str]:
    """FSRL's collector may log an episode's last state as the first one of the next."""
    if trajectories.next_observations is None or trajectories.num_episodes < 2:
        return
    starts = trajectories.offsets[1:-1]
    first = trajectories.observations[starts]
    stale = (first == trajectories.next_observations[starts - 1]).all(axis=1)
    # episode 0 has no predecessor, so its first observation is a true reset state
    stale &= (first != trajectories.observations[0]).any(axis=1)
    share = stale.mean()
    if share > _RESET_BUG_SHARE:
        episode = int(np.argmax(stale)) + 1
        yield (
            f"observations starts {share:.0%} of the episodes (first: episode {episode}) with the last "
            "next_observations of the episode before, so the recorder overwrote their reset observations; "
            "record again, or distrust methods that use initial states."
        )


def _free_of_cost(trajectories: Trajectories) -> Iterator[str]:
    if not trajectories.costs.any():
        yield (
            f"costs is 0 in all {trajectories.num_transitions} rows, so every policy looks safe; "
            "check that the right column was logged."
        )


def _dropped_tail(trajectories: Trajectories) -> Iterator[str]:
    dropped = trajectories.info.get("tail_rows_dropped", 0)
    if dropped:
        yield (
            f"{_rows(dropped)} after the last terminated or truncated row dropped as an incomplete episode; "
            "set truncated (timeouts in a file) on its last row to keep it."
        )


def _wrong_sizes(trajectories: Trajectories, task: Task) -> Iterator[str]:
    sizes = task.observation_sizes
    if trajectories.observation_size not in sizes:
        yield (
            f"observations has {trajectories.observation_size} columns but {task.name} has "
            f"{' or '.join(map(str, sizes))}; choose the task that the data was recorded in."
        )
    if trajectories.action_size != task.action_size:
        yield (
            f"actions has {trajectories.action_size} columns but {task.name} has {task.action_size}; "
            "choose the task that the data was recorded in."
        )


def _too_long(trajectories: Trajectories, task: Task) -> Iterator[str]:
    long = trajectories.lengths > task.horizon
    if long.any():
        episode = int(np.argmax(long))
        yield (
            f"episode {episode} has {trajectories.lengths[episode]} rows but {task.name} ends after "
            f"{task.horizon} (so in {int(long.sum())} episodes); check that truncated is set at every time limit."
        )
