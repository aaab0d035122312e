"""Missing values, which are NaN in the arrays of a log: counted and listed by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from safetrax.data.columns import chunks
from safetrax.data.formats.arrays import feature_names
from safetrax.data.trajectories import Trajectories

VALUES = ("observations", "actions", "rewards", "costs", "next_observations", "hidden_costs")
"""The fields of a log that hold measurements, any of which may be missing."""

_SHOWN = 12  # columns that a sentence lists
_REMEDY = (
    "leave such episodes out (--filters drop), cut them there (split) or fill short gaps (fill:3 for up to 3 steps); "
    "rewards and costs can be computed (relabel)"
)


@dataclass(frozen=True)
class Cells:
    """Some cells of one column.

    Attributes:
        column: its name.
        cells: how many.
        episodes: in how many episodes.
        row: of the first, counted over the log.
        episode: of the first.
    """

    column: str
    cells: int
    episodes: int
    row: int
    episode: int

    def __str__(self) -> str:
        counts = (
            f"{self.cells:,} cell{'s' * (self.cells != 1)} of {self.episodes:,} episode{'s' * (self.episodes != 1)}"
        )
        return f"{self.column} in {counts}, first in row {self.row} (episode {self.episode})"


def column_names(data: Trajectories, field: str) -> list[str]:
    """What the columns of a field are called: by the log, else o0, o1, ... and a0, a1, ..."""
    if getattr(data, field).ndim == 1:
        return [field]
    entry, letter, size = "observation_names", "o", data.observation_size
    if field == "actions":
        entry, letter, size = "action_names", "a", data.action_size
    names = feature_names(data).get(entry) or [f"{letter}{number}" for number in range(size)]
    return [f"next {name}" for name in names] if field == "next_observations" else names


def cells_of(data: Trajectories, field: str, marks: Bool[np.ndarray, "N ..."]) -> list[Cells]:
    """The cells of a field that are marked, by column; columns without any are left out."""
    columns = zip(column_names(data, field), marks.reshape(len(marks), -1).T, strict=True)
    return [cells for name, column in columns if (cells := cells_of_column(data, name, column))]


def cells_of_column(data: Trajectories, name: str, marks: Bool[np.ndarray, " N"]) -> Cells | None:
    """The cells of a column that are marked; None if none is."""
    rows = np.flatnonzero(marks)
    if not len(rows):
        return None
    episodes = data.episodes_of(rows)
    return Cells(name, len(rows), len(np.unique(episodes)), int(rows[0]), int(episodes[0]))


def missing(data: Trajectories) -> list[Cells]:
    """The missing cells of every column that has any."""
    gone = {field: np.isnan(getattr(data, field)) for field in VALUES if _has_any(data, field)}
    return [cells for field, marks in gone.items() for cells in cells_of(data, field, marks)]


def missing_rows(data: Trajectories) -> Bool[np.ndarray, " N"]:
    """The rows in which something is missing."""
    found = np.zeros(data.num_transitions, np.bool_)
    for field in VALUES:
        if _has_any(data, field):
            found |= np.isnan(getattr(data, field).reshape(len(found), -1)).any(axis=1)
    return found


def said(cells: Sequence[Cells]) -> str:
    """What is missing and what to do, without a full stop; nothing if nothing is."""
    if not cells:
        return ""
    count = sum(entry.cells for entry in cells)
    return f"{count:,} value{'s are' if count > 1 else ' is'} missing (NaN): {listed_cells(cells)}; {_REMEDY}"


def listed_cells(cells: Sequence[Cells]) -> str:
    """Column by column, the first ones if there are many."""
    more = f"; and {len(cells) - _SHOWN} more columns" if len(cells) > _SHOWN else ""
    return "; ".join(map(str, cells[:_SHOWN])) + more


def _has_any(data: Trajectories, field: str) -> bool:
    array = getattr(data, field)
    return array is not None and any(np.isnan(array[rows]).any() for rows in chunks(len(array)))
