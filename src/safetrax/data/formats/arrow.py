"""Tables of any kind as columns of Arrow arrays, some rows at a time.

Imports pyarrow, so it is imported by those who have found that it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from safetrax.data.formats.cells import is_list, width
from safetrax.data.formats.layout import clean_name
from safetrax.errors import DataError

METADATA = b"safetrax"
"""The entry of a Parquet file's own metadata that holds the action box, as JSON."""
Part: TypeAlias = tuple[int, dict[str, Any]]  # first row, and the arrays of some columns

_ROWS = 1 << 16  # at once


class Source(Protocol):
    """A table whose rows are counted.

    Attributes:
        names: of its columns, clean.
        rows: how many there are.
        text: whether its numbers are written as texts.
        box: `action_low` and `action_high`, if it says so itself.
    """

    names: tuple[str, ...]
    rows: int
    text: bool
    box: dict[str, Any]

    def widths(self, names: Sequence[str]) -> dict[str, int]:
        """How many numbers a cell of each column holds."""

    def parts(self, numbers: Sequence[str], labels: Sequence[str]) -> Iterator[Part]:
        """The cells of these columns; the rows of each come in order."""


class ParquetSource:
    """A Parquet file, read one column after the other, so that little of it is in memory."""

    text = False

    def __init__(self, path: Path) -> None:
        with path.open("rb") as raw:
            if raw.read(4) != b"PAR1":
                raise DataError("it is not a Parquet file; check that it is the log itself.")
        self._path = path
        with self._open() as file:
            schema = file.schema_arrow
            self._columns = {clean_name(name): name for name in schema.names}
            self.names = tuple(clean_name(name) for name in schema.names)
            self.rows: int = file.metadata.num_rows
            self._lists = {clean_name(field.name) for field in schema if is_list(field.type)}
            self.box = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
        if not isinstance(self.box, dict):
            raise DataError("its metadata hold no action box; write it again.")

    def widths(self, names: Sequence[str]) -> dict[str, int]:
        """See Source."""
        first: dict[str, Any] = {}
        if lists := self._lists.intersection(names):
            with self._open() as file:
                first = {name: next(self._column(file, name, 1), None) for name in lists}
        return {name: 1 if first.get(name) is None else width(first[name]) for name in names}

    def parts(self, numbers: Sequence[str], labels: Sequence[str]) -> Iterator[Part]:
        """See Source."""
        with self._open() as file:
            for name in (*numbers, *labels):
                row = 0
                for cells in self._column(file, name, _ROWS):
                    yield row, {name: cells}
                    row += len(cells)

    def _open(self) -> Any:
        return pq.ParquetFile(self._path, pre_buffer=False)

    def _column(self, file: Any, name: str, rows: int) -> Iterator[Any]:
        column = self._columns[name]
        for batch in file.iter_batches(batch_size=rows, columns=[column], use_threads=False):
            yield batch.column(batch.schema.get_field_index(column))  # columns= takes a.b for a part of a


class FrameSource:
    """A pandas data frame, with the levels of its index that have names."""

    text = False

    def __init__(self, frame: Any) -> None:
        if getattr(frame, "ndim", 0) != 2 or not hasattr(frame, "iloc"):
            raise DataError(f"frame is a {type(frame).__name__}; pass a pandas data frame.")
        columns = [(_joined(name), frame.iloc[:, i]) for i, name in enumerate(frame.columns)]
        for level, name in enumerate(frame.index.names):
            if name is not None:
                columns.append((_joined(name), frame.index.get_level_values(level).to_series()))
        self.names = tuple(name for name, _ in columns)
        self.rows = len(frame)
        self.box: dict[str, Any] = {}
        self._columns = dict(columns)

    def widths(self, names: Sequence[str]) -> dict[str, int]:
        """See Source."""
        return {name: width(self._array(name, 0, 1)) for name in names}

    def parts(self, numbers: Sequence[str], labels: Sequence[str]) -> Iterator[Part]:
        """See Source."""
        for row in range(0, self.rows, _ROWS):
            yield row, {name: self._array(name, row, row + _ROWS) for name in (*numbers, *labels)}

    def _array(self, name: str, first: int, last: int) -> Any:
        cells = self._columns[name].iloc[first:last]
        try:
            sparse = isinstance(getattr(cells.dtype, "subtype", None), np.dtype)  # which Arrow does not know
            array = pa.Array.from_pandas(cells.to_numpy() if sparse else cells)
            array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            kinds = ["a number" if _is_number(cell) else type(cell).__name__ for cell in cells]
            row = next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0)
            shown = f"column {name} is {str(cells.iloc[row])[:40]!r} in row {first + row}, which is no number"
            raise DataError(
                f"{shown}, or of another kind than the rest ({kinds[row]}); turn all into numbers (complex ones into "
                "two, arrays of more dimensions into flat ones), or leave the column out."
            ) from error
        if pa.types.is_timestamp(array.type) and cells.dtype == object:
            zones = {getattr(cell, "tzinfo", None) is None for cell in cells}
            if len(zones) > 1:
                raise DataError(f"column {name} holds times with a zone and without; give all of them one.")
        return array


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (bool, int, float)) or (np.ndim(cell) == 0 and np.asarray(cell).dtype.kind in "biuf")


def _joined(name: object) -> str:
    """The name of a column, or of one under several levels of names."""
    return ".".join(filter(None, map(clean_name, name))) if isinstance(name, tuple) else clean_name(name)
