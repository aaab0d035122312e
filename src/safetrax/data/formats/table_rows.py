"""The rows of a table, gathered part by part into the arrays of a data set, and put in order."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from safetrax.data.columns import Values
from safetrax.data.formats.arrays import FLAGS, MATRICES, Found, empty_matrix
from safetrax.data.formats.table_columns import Layout
from safetrax.data.labels import BLANK, cell_labels, labels_of_rows
from safetrax.data.times import seconds_of_moments
from safetrax.errors import DataError

_VECTORS = {
    **{"reward": "rewards", "cost": "costs", "hidden_cost": "hidden_costs"},
    **{"terminated": "terminated", "truncated": "truncated"},
}
_COLUMNS_AT_ONCE = 8  # that are put in order with one copy
_HALF_DAY = 12 * 3600
_CLOCK = {"time32[s]": 1, "time32[ms]": 10**3, "time64[us]": 10**6, "time64[ns]": 10**9}
# kinds of moments that begin anew at midnight, and how many of their units are a second
PLACE = ""
"""The label of where a row was read; no column is called so."""
_APART = 'put the files of each run into a folder run=NAME, and name both: columns={"episode": ["run", "episode"]}'


class Rows:
    """So many rows of a table; `widths` says how many numbers a cell of every column holds."""

    def __init__(self, layout: Layout, rows: int, widths: Mapping[str, int]) -> None:
        self.layout, self._rows, self._widths = layout, rows, widths
        self._arrays: dict[str, np.ndarray] = {}  # by field, to be filled
        self._at: dict[str, np.ndarray] = {}  # where the numbers of a column go, (rows, width)
        self._step = next(iter(layout.columns.get("step", ())), None)
        for role, columns in layout.columns.items():
            if role in MATRICES:
                ends = np.cumsum([widths[name] for name in columns], dtype=int)
                matrix = self._arrays[role] = empty_matrix(rows, int(ends[-1]))
                self._at |= zip(columns, np.split(matrix, ends[:-1], axis=1), strict=True)
            elif role in _VECTORS:
                if (size := widths[columns[0]]) != 1:
                    raise DataError(
                        f"column {columns[0]} holds lists of {size} numbers; {role} is one number per row."
                    )
                vector = self._arrays[_VECTORS[role]] = np.zeros(rows, np.float32)
                self._at[columns[0]] = vector[:, None]
        if layout.label and (size := widths[layout.label]) != 1:
            raise DataError(f"column {layout.label} holds lists of {size} numbers; write one label per row.")
        self._marks = np.full(rows if layout.label else 0, BLANK, np.int8)
        self._codes: dict[str, np.ndarray] = {}  # of the label of every row, by column
        self._labels: dict[str, dict[Hashable, int]] = {}
        self._moments: list[np.ndarray] = []
        self._kinds: dict[str, str] = {}  # of the moments in the columns of steps and times
        self._time = next(iter(layout.columns.get("time", ())), self._step)
        if self._time:
            self._arrays["times"] = np.empty(rows, np.float64)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that training reads."""
        return sum(array.nbytes for name, array in self._arrays.items() if name != "times")

    def differs(self, layout: Layout, widths: Mapping[str, int]) -> str | None:
        """A column, or key of folders, that is not the same in another file."""
        mine, other = (set(each.used) - set(each.runs) | set(each.folders) for each in (self.layout, layout))
        wide = (name for name, size in widths.items() if self._widths.get(name, size) != size)
        return next(iter(sorted(mine ^ other)), next(wide, None))

    def put(self, first: int, part: Mapping[str, Any], *, before: int = 0, text: bool = False) -> int:
        """Take in the cells of some columns, Arrow arrays; the size of what has been filled, in bytes.

        They begin at row `first` of their file; the files before it have `before` rows. With `text`, numbers are
        written as texts.

        Raises:
            DataError: a cell is not what the column should hold, or is missing and no measurement (those are NaN).
        """
        from safetrax.data.formats.table_cells import labels, moments, numbers, whole_numbers

        flags = {name for role in FLAGS for name in self.layout.columns.get(role, ())}
        filled = 0
        for name, cells in part.items():
            rows = slice(before + first, before + first + len(cells))
            if name in self._at:
                read = whole_numbers if name in flags else numbers
                place = self._at[name][rows]
                with np.errstate(over="ignore"):  # becomes inf, which validate() names with its row
                    place[...] = read(cells, name, first, size=self._widths[name], text=text)
                filled += place.nbytes
            elif name in (self._step, self._time):
                kind, found = moments(cells, name, first)
                if (known := self._kinds.setdefault(name, kind)) != kind:
                    raise DataError(f"column {name} holds {known} and, from row {first}, {kind}; write them alike.")
                if name == self._step:
                    self._moments.append(found)
                if name == self._time:
                    self._arrays["times"][rows] = seconds_of_moments(kind, found)
            elif name == self.layout.label:
                codes, entries = labels(cells, name, first, optional=True)
                self._marks[rows] = cell_labels(name, entries)[codes]
            else:
                self._mark(name, rows, *labels(cells, name, first, optional=name in self.layout.runs))
        return filled

    def mark(self, first: int, rows: int, labels: Mapping[str, str]) -> None:
        """These rows have labels that are not in the table: where it is."""
        for name, label in labels.items():
            self._mark(name, slice(first, first + rows), np.zeros(rows, np.int32), [label])

    def found(self, box: Mapping[str, Values]) -> Found:
        """What the table holds, its rows in order.

        Raises:
            DataError: there are no rows, or neither episodes nor flags, or episodes cannot be put in order.
        """
        if not self._rows:
            raise DataError("the table has no rows; log at least one transition.")
        flags = [self._arrays[field] != 0 for field in FLAGS if field in self._arrays]
        offsets: np.ndarray | None
        names: list[str] | None = None
        if self.layout.episode or self.layout.folders or (PLACE in self._labels and not flags):
            offsets, names = self._by_labels()
        elif flags:
            offsets = self._by_flags(np.any(flags, axis=0))
        else:
            raise DataError(
                "no column says which episode a row belongs to, or where episodes end; add a column episode (or "
                "terminated and truncated), or name the column or the level of the index that does."
            )
        marks = None
        if self.layout.label:
            starts = np.concatenate([[0], np.flatnonzero(np.any(flags, axis=0)) + 1]) if offsets is None else offsets
            marks = labels_of_rows(self._marks, starts, names) if len(starts) > 1 else None
        if "time" not in self.layout.columns and self._kinds.get(str(self._step)) == "numbers":
            del self._arrays["times"]  # numbers of steps are no seconds
        if "rewards" not in self._arrays:  # the caller says so
            self._arrays["rewards"] = np.full(self._rows, np.nan, np.float32)
        return Found(
            columns=self._arrays,
            offsets=offsets,
            box=box,
            names=self.layout.names(self._widths),
            labels=marks,
            episodes=names,
            unused=self.layout.unused,
        )

    def _mark(self, name: str, rows: slice, codes: np.ndarray, entries: Sequence[Hashable]) -> None:
        known = self._labels.setdefault(name, {})
        array = self._codes.setdefault(name, np.zeros(self._rows, np.int32))
        array[rows] = np.array([known.setdefault(entry, len(known)) for entry in entries], np.int32)[codes]

    def _by_flags(self, ends: Bool[np.ndarray, " N"]) -> Int64[np.ndarray, " boundaries"] | None:
        """Offsets of episodes that end at flags and at the ends of files; None: the flags alone tell."""
        places = self._codes.get(PLACE)
        if places is not None:
            ends[:-1] |= np.diff(places) != 0
            ends[-1] = True
        if self._moments:
            moments = np.concatenate(self._moments)
            back = ~ends[:-1] & (moments[1:] <= moments[:-1])
            if back.any():
                raise DataError(
                    f"{self._step} does not rise in row {int(np.argmax(back)) + 1}, and no column says which "
                    "episode a row belongs to; add a column episode, or sort the rows."
                )
        return None if places is None else np.concatenate([[0], np.flatnonzero(ends) + 1]).astype(np.int64)

    def _by_labels(self) -> tuple[Int64[np.ndarray, " boundaries"], list[str]]:
        """Put episodes in the order in which they begin, their rows in that of their steps; offsets and names."""
        for known in self._labels.values():
            _check_spellings(known)
        episode = _numbered([codes for name, codes in self._codes.items() if name not in self.layout.runs])
        self._check_runs(episode)
        order = self._order(episode)
        starts = _changes(episode if order is None else episode[order])
        first = starts if order is None else order[starts]
        self._check_files(first, self._moments[0][first] if self._moments else None)
        if order is not None:
            for array in self._arrays.values():
                for i in range(0, array[0].size, _COLUMNS_AT_ONCE):  # which costs less memory than all at once
                    columns = array[..., i : i + _COLUMNS_AT_ONCE] if array.ndim > 1 else array
                    columns[...] = columns[order]
            self._marks = self._marks[order] if self.layout.label else self._marks
        return np.append(starts, self._rows).astype(np.int64), self._names(first)

    def _order(self, episode: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"] | None:
        """The rows in the order that they should have; None: they have it."""
        if not self._moments:
            begins = _changes(episode)
            _, first = np.unique(episode[begins], return_index=True)
            again = np.delete(begins, first)  # where one goes on although another began in between
            if len(again):
                row = int(again[0])
                raise DataError(
                    f"episode {self._name(row)} comes back in row {row}, after episode {self._name(row - 1)} began; "
                    "sort the rows by episode, name the column that orders them (step), or, if another column tells "
                    'those two apart, name both (episode=["run", "episode"]).'
                )
            return None
        moments = np.concatenate(self._moments)
        self._moments = [moments]
        if np.all((np.diff(episode) > 0) | ((np.diff(episode) == 0) & (moments[1:] > moments[:-1]))):
            return None
        order = np.lexsort((moments, episode))
        same = np.diff(episode[order]) == 0
        twice = same & (np.diff(moments[order]) == 0)
        if twice.any():
            one, two = sorted(order[int(np.argmax(twice)) :][:2].tolist())
            raise DataError(
                f"episode {self._name(one)} has {self._step} {moments[one]} twice, in rows {one} and {two}; "
                "give every episode a name of its own (two columns may tell them apart together: "
                'episode=["run", "episode"]), and every row a step.'
            )
        kind = self._kinds[str(self._step)]
        if kind in _CLOCK and np.any(np.diff(order)[same] < 0):  # within an episode
            begin = order[np.concatenate([[True], ~same])]
            span = moments[order[np.concatenate([~same, [True]])]] - moments[begin]
            if (long := span >= _HALF_DAY * _CLOCK[kind]).any():
                raise DataError(
                    f"episode {self._name(int(begin[np.argmax(long)]))} has times of day 12 hours apart or more, "
                    "which do not tell what is after midnight; log the date, too, or sort the rows and leave the "
                    "column out."
                )
        return np.asarray(order)

    def _check_runs(self, episode: Int[np.ndarray, " N"]) -> None:
        """Refuse an episode that goes on in another run, which its number alone does not tell."""
        _, first = np.unique(episode, return_index=True)
        for column in filter(self._codes.__contains__, self.layout.runs):
            codes = self._codes[column]
            other = codes != codes[first][episode]
            if other.any():
                row = int(np.argmax(other))
                names = [*self.layout.episode, *self.layout.folders]
                both, alone = (json.dumps(each, ensure_ascii=False) for each in ([column, *names], names))
                raise DataError(
                    f"column {column} changes within episode {self._name(row)}, in row {row}; if it tells episodes "
                    f'apart, name all: columns={{"episode": {both}}}, else only {{"episode": {alone}}}.'
                )

    def _check_files(self, first: Int[np.ndarray, " E"], begin: np.ndarray | None) -> None:
        """Refuse an episode that may go on in another file, or may be another one of the same name.

        Episodes have these first rows and moments.
        """
        places = self._codes.get(PLACE)
        if places is None or self.layout.folders or not self.layout.episode:
            return
        label = _numbered([self._codes[name] for name in self.layout.episode])
        if begin is None:
            begins = _changes(places)[1:]  # of files
            lone = np.bincount(places[first]) == 1
            single = lone[places[begins]] & lone[places[begins - 1]]
            unclear = begins[(label[begins] == label[begins - 1]) & ~single]
        else:
            order = np.lexsort((first, label[first]))
            unclear = first[order[1:]][(np.diff(label[first][order]) == 0) & (np.diff(begin[order]) != 0)]
        if len(unclear):
            row = int(unclear[0])
            raise DataError(
                f"episode {self._name(row)} is in {self._entry(PLACE, row)} and another file, and may be one episode "
                f"or two; {_APART}, with the files of one episode in one folder."
            )

    def _names(self, first: Int[np.ndarray, " E"]) -> list[str]:
        """What the episodes with these first rows are called."""
        named = [name for name in self._labels if name != PLACE and name not in self.layout.runs]
        parts = []
        for name in named or [PLACE]:
            texts = [_as_name(entry) for entry in self._labels[name]]
            parts.append([texts[code] if named else Path(texts[code]).name for code in self._codes[name][first]])
        return [", ".join(words) for words in zip(*parts, strict=True)]

    def _entry(self, name: str, row: int) -> str:
        return str(list(self._labels[name])[self._codes[name][row]])

    def _name(self, row: int) -> str:
        """What the episode of a row is called."""
        names = [name for name in self._labels if name != PLACE and name not in self.layout.runs]
        return ", ".join(self._entry(name, row) for name in names or [PLACE])


def _as_name(entry: Hashable) -> str:
    return str(int(entry) if isinstance(entry, float) and entry.is_integer() else entry)


def _changes(values: Int[np.ndarray, " N"]) -> Int[np.ndarray, " changes"]:
    """The rows in which another value begins, the first one included."""
    return np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])


def _numbered(codes: list[np.ndarray]) -> Int32[np.ndarray, " N"]:
    """A number for every row, from 0 in the order in which they appear, equal where all codes are."""
    if len(codes) == 1:
        return codes[0]
    joined = np.zeros(len(codes[0]), np.int64)
    for code in codes:
        _, joined = np.unique(joined * (int(code.max()) + 1) + code, return_inverse=True)
    _, first = np.unique(joined, return_index=True)
    return np.argsort(np.argsort(first)).astype(np.int32)[joined]


def _check_spellings(labels: Iterable[Hashable]) -> None:
    """Refuse two texts that are the same number, such as 1 and 1.0."""
    known: dict[Decimal, str] = {}
    for label in labels:
        if isinstance(label, str):
            with contextlib.suppress(InvalidOperation):
                other = known.setdefault(Decimal(label), label)
                if other != label:
                    raise DataError(f"episodes are called {other!r} and {label!r}; write one name for an episode.")
