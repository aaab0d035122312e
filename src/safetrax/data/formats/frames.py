"""pandas data frames and CSV files: logs with named columns (extra `pandas`)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safetrax.data.columns import Values
from safetrax.data.formats.found import Found, naming, package
from safetrax.data.formats.layout import Layout, find_layout
from safetrax.data.formats.meter import Meter
from safetrax.data.formats.sheet import Sheet
from safetrax.data.formats.written import Table
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_CSV_ROWS = 50_000  # parsed at once


def from_pandas(
    frame: pd.DataFrame,
    *,
    observations: Sequence[str] | str | None = None,
    actions: Sequence[str] | str | None = None,
    reward: str | None = None,
    cost: str | None = None,
    episode: str | None = None,
    step: str | None = None,
    terminated: str | None = None,
    truncated: str | None = None,
    next_observations: Sequence[str] | str | bool = False,
    action_low: Values = None,
    action_high: Values = None,
    info: Mapping[str, Any] | None = None,
) -> Trajectories:
    """Make a data set out of a log with one row per transition and named columns.

    Columns that are not named are looked for under their usual names: `observation_*` (or `observation.*`,
    `obs_*`), `action_*`, `reward`, `cost`, `episode`, `step`, `terminated`, `truncated`.

    Args:
        frame: the log. Columns are booleans, integers or floats; nothing may be missing.
        observations: columns of s_t, or a pattern such as `"sensor_*"`.
        actions: columns of a_t, alike.
        reward: column of r_t.
        cost: column of c_t, not negative.
        episode: column that tells the episodes apart, of any type. Without one, the flags end them.
        step: column that orders the rows of an episode, numbers or times. Without one, they are as they come.
        terminated: column that is 1 where the environment ended an episode.
        truncated: column that is 1 where a time limit did; a last row with neither is marked so.
        next_observations: columns of s_{t+1}, or True: under their usual names, if there are any.
        action_low: (A,) or one number, -1 if omitted.
        action_high: (A,) or one number, +1 if omitted.
        info: JSON-ready facts about the source; `observation_names` and `action_names` are added.

    Raises:
        DataError: a column is missing, or holds an empty cell or a text; rows cannot be put in order.
    """
    given = {
        "observations": observations,
        "actions": actions,
        "reward": reward,
        "cost": cost,
        "episode": episode,
        "step": step,
        "terminated": terminated,
        "truncated": truncated,
        "next_observations": None if isinstance(next_observations, bool) else next_observations,
    }
    named = {role: columns for role, columns in given.items() if columns is not None}
    if not all(isinstance(name, str) for name in frame.columns):
        frame = frame.rename(columns=str)
    layout = find_layout(list(frame.columns), named, next_observations=next_observations is not False)
    sheet = Sheet(layout, len(frame), {})
    sheet.add(_FramePart(frame))
    return sheet.found(action_low, action_high).trajectories(info)


def to_pandas(
    trajectories: Trajectories,
    *,
    observation_names: Sequence[str] | None = None,
    action_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A data frame with one row per transition, which `from_pandas` turns into the same data set, bit for bit.

    Columns: `episode` and `step` from 0, `observation.NAME` (without names `observation_0`), `action.NAME`, `reward`,
    `cost`, `terminated`, `truncated`, and `next_observation.NAME` if they are loaded. The action box is not in it.

    Args:
        trajectories: the data.
        observation_names: of the features, if `trajectories.info` has none or others.
        action_names: alike.

    Raises:
        DataError: pandas is not installed, or names do not fit.
    """
    frames = package("pandas", extra="pandas", purpose="a data frame")
    table = Table(trajectories, observation_names, action_names)
    return frames.DataFrame(table.block(0, trajectories.num_transitions), copy=False)


def read_csv(path: Path, given: Mapping[str, Any], *, next_observations: bool, meter: Meter) -> Found:
    """Read a CSV file with a header, some rows at a time, and only the columns that are needed.

    Raises:
        DataError: a column is missing, or holds an empty cell or a text; the file cannot be parsed.
    """
    pandas = package("pandas", extra="pandas", purpose="reading CSV files")
    meter.expect(path.stat().st_size)
    packed: dict[str, Any] = {"compression": "gzip" if path.suffix.lower() == ".gz" else None}
    episodes: dict[Hashable, int] = {}
    sheets: list[Sheet] = []
    row = place = 0
    try:
        with naming(path), path.open("rb") as file:
            head = pandas.read_csv(path, nrows=1, **packed)
            if not isinstance(head.index, pandas.RangeIndex):  # pandas takes the first cells for an index
                raise DataError("the rows have more cells than the header has names; name every column.")
            layout = find_layout(list(head.columns), given, next_observations=next_observations)
            labels = {layout.episode: str} if layout.episode else {}  # else 7 is a number until x7 comes
            used = list(layout.used)
            with pandas.read_csv(
                file, usecols=used, dtype=labels, index_col=False, chunksize=_CSV_ROWS, low_memory=False, **packed
            ) as chunks:
                for chunk in chunks:
                    sheets.append(Sheet(layout, len(chunk), episodes))
                    sheets[-1].add(_FramePart(chunk, row))
                    row += len(chunk)
                    meter.advance(file.tell() - place)
                    place = file.tell()
            return _joined(layout, sheets, episodes).found()
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{path} cannot be parsed as CSV ({reason}); write one row per transition under a header."
        ) from error


def _joined(layout: Layout, sheets: list[Sheet], episodes: dict[Hashable, int]) -> Sheet:
    """One sheet out of many, which are let go one by one."""
    whole = Sheet(layout, sum(sheet.rows for sheet in sheets), episodes)
    sheets.reverse()
    while sheets:
        whole.append(sheets.pop())
    return whole


class _FramePart:
    """Some rows of a table, as a data frame whose first row is number `first` of the table."""

    def __init__(self, frame: pd.DataFrame, first: int = 0) -> None:
        self.rows = len(frame)
        self._frame, self._first = frame, first

    def numbers(self, column: str) -> np.ndarray:
        """See Part."""
        series = self._whole(column)
        dtype = series.dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
            return np.asarray(series)
        kind = getattr(dtype, "kind", "O")  # of pandas' own types, which can hold missing values
        if kind in "biuf":
            return np.asarray(series.to_numpy(dtype={"b": np.bool_, "f": np.float64}.get(kind, np.int64)))
        pandas = package("pandas", extra="pandas", purpose="a data frame")
        if dtype == np.object_:
            values = pandas.to_numeric(series, errors="coerce")
            if not values.isna().any():
                return np.asarray(values)
            bad = values.isna()
        else:
            text = pandas.api.types.is_string_dtype(dtype)
            bad = pandas.to_numeric(series, errors="coerce").isna() if text else series.isna()
        row = int(np.argmax(np.asarray(bad)))  # row 0 if every text looks like a number
        raise DataError(
            f"column {column} is {str(series.iloc[row])!r} in row {self._first + row}, which is no number; "
            "make it one, or leave the column out."
        )

    def moments(self, column: str) -> np.ndarray:
        """See Part."""
        series = self._whole(column)
        if getattr(series.dtype, "kind", "O") in "mM":
            return np.asarray(series.astype("int64"))
        return self.numbers(column)

    def labels(self, column: str) -> tuple[np.ndarray, list[Hashable]]:
        """See Part."""
        codes, labels = self._whole(column).factorize()
        return codes, list(labels)

    def _whole(self, column: str) -> pd.Series:
        """A column in which nothing is missing."""
        series = self._frame[column]
        missing = np.asarray(series.isna())
        if missing.any():
            raise empty_cell(column, self._first + int(np.argmax(missing)))
        return series


def empty_cell(column: str, row: int) -> DataError:
    """The sentence about an entry that is missing."""
    return DataError(f"column {column} is empty in row {row}; fill it, or leave that episode out.")
