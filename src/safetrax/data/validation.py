"""What is wrong, or probably wrong, with a data set, found before any compute is spent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from safetrax.catalogue import Task, get_task
from safetrax.data.columns import CHUNK_ROWS, chunks
from safetrax.data.formats.arrays import feature_names
from safetrax.data.gaps import VALUES, cells_of_column, column_names, listed_cells, missing, said
from safetrax.data.labels import WORDS
from safetrax.data.sensors import is_smooth, spikes, stuck
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError

_ACTION_TOLERANCE = 1e-3
_RESET_BUG_SHARE = 0.01

_FARTHEST = {
    "rewards": 1e5,
    "costs": 1e5,
    "hidden_costs": 1e5,
}  # times the others' range, where a bonus is no fault; else:
_FAR = 100.0
_SPIKE_SHARE = 0.01
_SPIKE = 30.0  # times the next smaller deviation
_FLAT = 1e-6  # what varies less, or by less than its own rounding, is constant
_ROUNDING = 5e-7
_WIDE = 1e3  # times the spread of the median feature
_NARROW = 1e4
_LEVELS = 32  # more integers than these are no choices
_ALONE = 1e6  # times the only other value
_LEAP = 20  # robust deviations of a smooth sensor's steps
_STILL = 100  # steps

_OVERFLOW = (
    "; squares of such numbers overflow float32, so remove or repair those episodes if it stands for a missing "
    "reading, or choose a larger unit if it was measured."
)
_SENTINEL = ", far outside its other values; if it stands for a missing reading, remove or repair those episodes."
_SPIKED = (
    ", more than {times:g} times as far from its median as any other value; if that is no measurement, remove or "
    "repair those episodes."
)

_Odd = set[tuple[str, int]]  # columns of which something has been said
_IsBad = Callable[[np.ndarray], np.ndarray]  # which numbers of a column are bad
_Find = Callable[["_Array", int], _IsBad | None]


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
        task: what the data should fit; if omitted, the one named in `trajectories.info["task"]`, if any. Of an
            environment of one's own by its name nothing is known; `safetrax.envs.make.require_task` makes it.

    Raises:
        TaskError: there is no such task.
    """
    named = task or trajectories.info.get("task") or None
    entry = get_task(named) if isinstance(named, str) else named
    known = None if entry is None or entry.own else entry  # of one's own environment little is known
    every = [_Array(name, array) for name in VALUES if (array := getattr(trajectories, name)) is not None]
    errors = [
        *_missing(trajectories, every),
        *_infinite(trajectories, every),
        *_negative_costs(trajectories),
        *_empty_box(trajectories),
    ]
    arrays, odd = [array for array in every if not array.not_finite], _Odd()
    odd_columns = partial(_odd_columns, trajectories, arrays, odd)
    errors += odd_columns("is", _overflow, _OVERFLOW, once=False)
    warnings = [
        *odd_columns("is exactly", _sentinel, _SENTINEL),
        *odd_columns("jumps to", _spike, _SPIKED),
        *(() if known is not None else _faulty_sensors(trajectories, odd)),
        *_unequal_scales(trajectories, arrays, odd, known),
        *_discrete_actions(trajectories),
        *_outside_box(trajectories),
        *_reset_observations(trajectories),
        *_free_of_cost(trajectories),
        *_one_kind(trajectories),
        *_dropped_tail(trajectories),
    ]
    if entry is not None and entry.observation_size:  # else nobody has made it yet
        errors += _wrong_sizes(trajectories, entry)
        warnings += _too_long(trajectories, entry)
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


def _rows_where(array: np.ndarray, is_bad: _IsBad) -> tuple[int, int]:
    """The first row in which any entry is bad (-1 if none), and the number of such rows."""
    first, count = -1, 0
    for chunk in chunks(len(array)):
        bad = is_bad(array[chunk])
        rows = np.flatnonzero(bad.any(axis=1) if bad.ndim == 2 else bad)
        if len(rows) and first < 0:
            first = chunk.start + int(rows[0])
        count += len(rows)
    return first, count


def _where(trajectories: Trajectories, row: int, count: int, what: str = "") -> str:
    """Where it is first, what more there is to say of that place, and in how many rows it is so."""
    episode = int(trajectories.episodes_of(row))
    return f"in row {row} (episode {episode}){what}, {_rows(count)} in all"


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def _missing(trajectories: Trajectories, arrays: Sequence[_Array]) -> Iterator[str]:
    if any(array.not_finite for array in arrays) and (cells := missing(trajectories)):
        yield f"{said(cells)}."


def _infinite(trajectories: Trajectories, arrays: Sequence[_Array]) -> Iterator[str]:
    for array in arrays:
        row, count = _rows_where(array.values, np.isinf) if array.not_finite else (-1, 0)
        if count:
            entries = array.values[row]
            where = _where(trajectories, row, count)
            yield f"{array.name} holds {entries[np.isinf(entries)][0]} {where}; remove or repair those episodes."


def _negative_costs(trajectories: Trajectories) -> Iterator[str]:
    for name in ("costs", "hidden_costs"):
        costs = getattr(trajectories, name)
        row, count = (-1, 0) if costs is None else _rows_where(costs, lambda chunk: chunk < 0)
        if count:
            yield (
                f"{name} is {costs[row]:g} {_where(trajectories, row, count)}; a cost must be 0 or more, so check "
                "the sign and the column."
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
        where = _where(trajectories, row, count, f", action {a}, outside [{low[a]:g}, {high[a]:g}]")
        yield (
            f"actions is {trajectories.actions[row, a]:g} {where}; they will be clipped unless you pass action_low "
            "and action_high."
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
            "record again, or distrust algorithms that use initial states."
        )


def _free_of_cost(trajectories: Trajectories) -> Iterator[str]:
    if trajectories.costs is None:
        if trajectories.hidden_costs is None:  # else they are absent on purpose
            yield f"{trajectories.without_costs}."
    elif not trajectories.costs.any():
        yield (
            f"costs is 0 in all {trajectories.num_transitions} rows, so every policy looks safe; "
            "check that the right column was logged."
        )


def _one_kind(trajectories: Trajectories) -> Iterator[str]:
    if trajectories.labels is not None and len(kinds := np.unique(trajectories.labels)) == 1:
        yield (
            f"labels call every episode {WORDS[int(kinds[0])]}, so that they tell none apart; check that the right "
            "column was logged."
        )


def _dropped_tail(trajectories: Trajectories) -> Iterator[str]:
    dropped = trajectories.info.get("tail_rows_dropped", 0)
    if dropped:
        yield (
            f"{_rows(dropped)} after the last terminated or truncated row dropped as an incomplete episode; "
            "set truncated (timeouts in a file) on its last row to keep it."
        )


def _wrong_sizes(trajectories: Trajectories, task: Task) -> Iterator[str]:
    for name, found, sizes in (
        ("observations", trajectories.observation_size, task.observation_sizes),
        ("actions", trajectories.action_size, (task.action_size,)),
    ):
        if found not in sizes:
            yield (
                f"{name} has {found} columns but {task.name} has {' or '.join(map(str, sizes))}; "
                "choose the task that the data was recorded in."
            )
            return
    if (choices := trajectories.action_choices or 0) != task.action_choices:
        kinds = [f"one of {count} choices" if count else "continuous" for count in (choices, task.action_choices)]
        yield (
            f"actions are {kinds[0]} but those of {task.name} are {kinds[1]}; choose the task that the data was "
            "recorded in, or say action_choices where it is read."
        )


def _too_long(trajectories: Trajectories, task: Task) -> Iterator[str]:
    long = trajectories.lengths > task.horizon
    if long.any():
        episode = int(np.argmax(long))
        yield (
            f"episode {episode} has {trajectories.lengths[episode]} rows but {task.name} ends after "
            f"{task.horizon} (so in {int(long.sum())} episodes); check that truncated is set at every time limit."
        )


# Numbers out of all proportion


class _Array:
    """An array as a matrix, in how many rows it is not finite, the ends of its columns, and those of what a sample of
    it has strictly between."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name = name
        self.kind = name.removeprefix("next_")  # both kinds of observations have the same columns
        self.values = array.reshape(len(array), -1)
        _, self.not_finite = _rows_where(self.values, lambda chunk: ~np.isfinite(chunk))
        self.low, self.high = self.values.min(axis=0), self.values.max(axis=0)
        sample = _sample(self.values)
        between = (sample > self.low) & (sample < self.high)
        self.inner_low = np.min(sample, axis=0, where=between, initial=np.inf)
        self.inner_high = np.max(sample, axis=0, where=between, initial=-np.inf)


def _odd_columns(
    trajectories: Trajectories,
    arrays: Sequence[_Array],
    odd: _Odd,
    verb: str,
    find: _Find,
    remedy: str,
    *,
    once: bool = True,
) -> Iterator[str]:
    """A sentence for every array with columns that `find` finds something bad in.

    With `once`, columns of which something has been said are left out.
    """
    for array in arrays:
        numbers = [n for n in range(array.values.shape[1]) if not (once and (array.kind, n) in odd)]
        found = {number: bad for number in numbers if (bad := find(array, number)) is not None}
        odd |= {(array.kind, number) for number in found}
        if found:
            number, is_bad = next(iter(found.items()))
            column = array.values[:, number]
            row, count = _rows_where(column, is_bad)
            where = _where(trajectories, row, count, _feature(trajectories, array.name, number))
            after = remedy.format(times=_FARTHEST.get(array.name, _SPIKE))
            yield f"{array.name} {verb} {column[row]:g} {where}{_so_in(found)}{after}"


def _feature(trajectories: Trajectories, name: str, number: int) -> str:
    """Which column, for a sentence; nothing where there is only one."""
    if getattr(trajectories, name).ndim == 1:
        return ""
    kind, entry = ("action", "action_names") if name == "actions" else ("feature", "observation_names")
    names = feature_names(trajectories).get(entry)
    return f", {kind} {names[number] if names else number}"


def _so_in(numbers: Collection[int]) -> str:
    return f" (so in {len(numbers)} columns)" if len(numbers) > 1 else ""


def _overflow(array: _Array, number: int) -> _IsBad | None:
    """A sum of squares over the log must stay finite in float32, in which everything is computed."""
    bound = float(np.sqrt(np.finfo(np.float32).max / len(array.values)))
    if max(-array.low[number], array.high[number]) > bound:
        return lambda chunk: np.abs(chunk) > bound
    return None


def _sentinel(array: _Array, number: int) -> _IsBad | None:
    """A value that is exactly repeated far outside of all others, as -9999 for "no reading" is."""
    ends = (array.low, array.high, array.inner_low, array.inner_high)
    low, high, inner_low, inner_high = (float(each[number]) for each in ends)
    between = inner_low <= inner_high  # else there are but two values
    spread = inner_high - inner_low if between else 0.0
    for value, near in ((high, inner_high if between else low), (low, inner_low if between else high)):
        gap = abs(value - near)
        nines = abs(value) >= 99 and set(f"{abs(value):g}") == {"9"} and gap > spread
        far = _FARTHEST.get(array.name, _FAR) * spread if spread else _ALONE * max(abs(near), 1.0)
        is_bad = partial(np.equal, np.float32(value))
        if (nines or gap > far) and 1 < _rows_where(array.values[:, number], is_bad)[1] < len(array.values) / 2:
            return is_bad
    return None


def _spike(array: _Array, number: int) -> _IsBad | None:
    """A few values whose distance from the median is many times the next smaller one."""
    if len(array.values) * _SPIKE_SHARE < 1 or array.name == "actions":  # they have a box
        return None
    sample = _sample(array.values[:, number]).astype(np.float64)
    median = float(np.median(sample))
    distances = np.abs(np.append(sample, [array.low[number], array.high[number]]) - median)
    top = np.sort(distances)[-(int(len(sample) * _SPIKE_SHARE) + 2) :]
    jumps = np.flatnonzero(top[1:] > _FARTHEST.get(array.name, _SPIKE) * top[:-1])
    if top[0] == 0 or not len(jumps):
        return None
    return lambda chunk: np.abs(chunk.astype(np.float64) - median) >= top[jumps[0] + 1]


def _faulty_sensors(trajectories: Trajectories, odd: _Odd) -> Iterator[str]:
    """Features that leap away and come back, or stand still while they else always move."""
    offsets, leaps, stands = trajectories.offsets, [], []
    for number, name in enumerate(column_names(trajectories, "observations")):
        column = trajectories.observations[:, number]
        if ("observations", number) not in odd and is_smooth(column, offsets):
            leaps.append(cells_of_column(trajectories, name, spikes(column, offsets, _LEAP)))
        stands.append(cells_of_column(trajectories, name, stuck(column, offsets, _STILL)))
    if found := [cells for cells in leaps if cells]:
        yield (
            f"observations leap away and back within a step, farther than {_LEAP} times their usual steps: "
            f"{listed_cells(found)}; if these are no measurements, take them out (--filters spikes:{_LEAP}, then "
            "fill:1 or drop)."
        )
    if found := [cells for cells in stands if cells]:
        yield (
            f"observations repeat a value over {_STILL} steps or more, though they else always move: "
            f"{listed_cells(found)}; if the sensor was stuck, take them out (--filters stuck:{_STILL}, then split or "
            "drop)."
        )


def _unequal_scales(
    trajectories: Trajectories, arrays: Sequence[_Array], odd: _Odd, task: Task | None
) -> Iterator[str]:
    """Features of an observation that never vary, or by far more or less than the others do."""
    found = next((array for array in arrays if array.name == "observations"), None)
    if found is None:
        return
    numbers = [n for n in range(len(found.low)) if ("observations", n) not in odd]
    constant = [
        n for n in numbers if found.high[n] - found.low[n] <= max(_FLAT, 2 * _ROUNDING * abs(float(found.low[n])))
    ]
    if constant and task is None:  # a task's observations are as they are
        value, feature = found.low[constant[0]], _feature(trajectories, "observations", constant[0])
        yield (
            f"observations never vary{feature}, {value:g} in all rows{_so_in(constant)}; a policy will ignore it; "
            "check its unit and that the right column was logged."
        )
    sample = _sample(found.values)
    spreads = {n: float(np.std(sample[:, n], dtype=np.float64)) for n in numbers if n not in constant}
    if len(spreads) < 2:
        return
    ordered = sorted(spreads, key=spreads.__getitem__)
    narrowest, median, widest = ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]
    remedy = (
        "training standardises observations unless standardise is switched off."
        if task is None
        else "set standardise, for by default most algorithms use a known task's observations as they are."
    )
    for number, extreme in (
        (widest, spreads[widest] > _WIDE * spreads[median]),
        (narrowest, task is None and spreads[narrowest] * _NARROW < spreads[median]),
    ):
        if extreme:
            yield (
                f"observations differ in scale{_feature(trajectories, 'observations', number)}: its standard "
                f"deviation is {spreads[number]:.3g}, that of the median feature {spreads[median]:.3g}; {remedy}"
            )


def _sample(array: np.ndarray) -> np.ndarray:
    """At most so many rows as a chunk has, evenly spaced."""
    return array[:: -(-len(array) // CHUNK_ROWS)]


def _discrete_actions(trajectories: Trajectories) -> Iterator[str]:
    """Numbers of choices, or choices one-hot, in place of continuous actions."""
    actions = trajectories.actions
    if trajectories.action_choices is not None:
        return
    if _rows_where(actions, lambda chunk: chunk != np.round(chunk))[1]:
        return
    levels = [np.unique(actions[:, a]) for a in range(trajectories.action_size)]
    if not 1 < max(map(len, levels)) <= min(_LEVELS, trajectories.num_transitions // 4):
        return
    one_hot = trajectories.action_size > 1 and all(set(found) <= {0, 1} for found in levels)
    if one_hot and not _rows_where(actions, lambda chunk: chunk.sum(axis=1) != 1)[1]:
        what = f"is one-hot over {trajectories.action_size} choices"
        remedy = "play the choice of the greatest number"
    else:
        most = max(levels, key=len)
        what = f"holds integers only, {', '.join(f'{x:g}' for x in most[:4])}{', ...' if len(most) > 4 else ''}"
        remedy = "round what it plays"
    yield (
        f"actions {what}, as if they were choices, but are taken for continuous ones, so that a policy will play "
        "values in between; if they are choices, say how many (action_choices), else log the continuous command, or "
        f"{remedy}."
    )
