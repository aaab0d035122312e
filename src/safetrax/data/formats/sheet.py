"""Gathering the columns of a table into the arrays of a data set, part by part."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from safetrax.data.columns import Values
from safetrax.data.formats.found import Found, empty_matrix
from safetrax.data.formats.layout import Layout
from safetrax.errors import DataError

_MATRICES = ("observations", "actions", "next_observations")
_VECTORS = {"reward": "rewards", "cost": "costs", "terminated": "terminated", "truncated": "truncated"}
_COLUMNS_AT_ONCE = 8  # that are put in order with one copy


@runtime_checkable
class Part(Protocol):
    """Some rows of a table. Every method raises DataError if an entry is missing or is no number."""

    rows: int

    def numbers(self, column: str) -> np.ndarray:
        """Booleans, integers or floats, (rows,)."""

    def moments(self, column: str) -> np.ndarray:
        """What rows are ordered by: numbers, or integers that stand for times, (rows,)."""

    def labels(self, column: str) -> tuple[np.ndarray, list[Hashable]]:
        """The different entries, and for every row which of them it has."""


class Sheet:
    """The columns of a known number of rows.

    Args:
        layout: which columns hold what.
        rows: how many there are.
        episodes: number of every episode by its label, shared between the sheets of one table.
    """

    def __init__(self, layout: Layout, rows: int, episodes: dict[Hashable, int]) -> None:
        self._layout, self._episodes, self._at = layout, episodes, 0
        self._matrices: dict[str, np.ndarray] = {
            field: empty_matrix(rows, len(columns)) for field in _MATRICES if (columns := getattr(layout, field))
        }
        self._vectors: dict[str, np.ndarray] = {
            field: np.zeros(rows, np.float32) for role, field in _VECTORS.items() if getattr(layout, role)
        }
        self._episode = np.zeros(rows, np.int32)
        self._moments: list[np.ndarray] = []

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that training reads."""
        return sum(array.nbytes for array in (*self._matrices.values(), *self._vectors.values()))

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._episode)

    def add(self, part: Part) -> None:
        """Append the rows of a part."""
        layout, rows = self._layout, slice(self._at, self._at + part.rows)
        with np.errstate(over="ignore"):  # becomes inf, which validate() names with its row
            for field, matrix in self._matrices.items():
                for i, column in enumerate(getattr(layout, field)):
                    matrix[rows, i] = part.numbers(column)
            for role, field in _VECTORS.items():
                if (column := getattr(layout, role)) is not None:
                    self._vectors[field][rows] = part.numbers(column)
        if layout.episode is not None:
            codes, labels = part.labels(layout.episode)
            known = [self._episodes.setdefault(label, len(self._episodes)) for label in labels]
            self._episode[rows] = np.array(known, np.int32)[codes]
        if layout.step is not None:
            self._moments.append(part.moments(layout.step))
        self._at += part.rows

    def append(self, other: Sheet) -> None:
        """Append all rows of another sheet of the same table."""
        rows = slice(self._at, self._at + other.rows)
        for mine, theirs in ((self._matrices, other._matrices), (self._vectors, other._vectors)):
            for field, array in mine.items():
                array[rows] = theirs[field]
        self._episode[rows] = other._episode
        self._moments += other._moments
        self._at += other.rows

    def found(self, action_low: Values = None, action_high: Values = None) -> Found:
        """What the table holds, its rows in order.

        Raises:
            DataError: there are no rows, or neither episodes nor flags, or episodes cannot be put in order.
        """
        layout = self._layout
        if not self.rows:
            raise DataError("the table has no rows; log at least one transition.")
        if layout.episode is None and not (layout.terminated or layout.truncated):
            raise DataError(
                "no column says which episode a row belongs to, or where episodes end; add a column episode "
                "(or terminated and truncated)."
            )
        offsets = None
        if layout.episode is not None:
            self._sort()
            starts = np.flatnonzero(np.diff(self._episode)) + 1
            offsets = np.concatenate([[0], starts, [self.rows]]).astype(np.int64)
        empty = np.zeros(self.rows, np.bool_)
        flags = {field: self._vectors.get(field, empty) for field in ("terminated", "truncated")}
        return Found(
            columns={**self._matrices, **self._vectors, **flags},
            offsets=offsets,
            action_low=action_low,
            action_high=action_high,
            names=layout.names,
        )

    def _sort(self) -> None:
        """Put episodes in the order in which they begin, and their rows in the order of their steps."""
        labels = list(self._episodes)
        if self._layout.step is None:
            row = _comeback(self._episode)
            if row is not None:
                label, before = labels[self._episode[row]], labels[self._episode[row - 1]]
                raise DataError(
                    f"episode {label} comes back in row {row}, after episode {before} began; sort the rows by "
                    "episode, or name the column that orders them (step)."
                )
            return
        moments, self._moments = np.concatenate(self._moments), []
        if _in_order(self._episode, moments):
            return
        order = np.lexsort((moments, self._episode))
        same = (np.diff(self._episode[order]) == 0) & (np.diff(moments[order]) == 0)
        if same.any():
            first, second = sorted(order[int(np.argmax(same)) :][:2])
            raise DataError(
                f"episode {labels[self._episode[first]]} has {self._layout.step} {moments[first]} twice, in rows "
                f"{first} and {second}; give every episode a name of its own, and every row a step."
            )
        for array in (*self._vectors.values(), self._episode):
            array[...] = array[order]
        for matrix in self._matrices.values():  # a few columns at a time, which costs less memory than all
            for i in range(0, matrix.shape[1], _COLUMNS_AT_ONCE):
                matrix[:, i : i + _COLUMNS_AT_ONCE] = matrix[order, i : i + _COLUMNS_AT_ONCE]


def _in_order(episode: Int[np.ndarray, " N"], moments: np.ndarray) -> bool:
    """Whether episodes come one after the other, and the moments of each rise."""
    same, later = episode[1:] == episode[:-1], moments[1:] > moments[:-1]
    return bool((same | (episode[1:] > episode[:-1])).all() and (later | ~same).all())


def _comeback(episode: Int[np.ndarray, " N"]) -> int | None:
    """The first row that goes on with an episode although another one began in between."""
    begins = np.concatenate([[0], np.flatnonzero(np.diff(episode)) + 1])
    _, first = np.unique(episode[begins], return_index=True)
    again = np.setdiff1d(np.arange(len(begins)), first)
    return int(begins[again[0]]) if len(again) else None
