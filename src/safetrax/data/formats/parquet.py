"""Parquet files: logs with named columns (extra `pandas`, which brings pyarrow).

They are read one column of one row group at a time, so that little more than the result is in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safetrax.data.formats.found import Found, naming, package
from safetrax.data.formats.frames import empty_cell
from safetrax.data.formats.keys import BOX
from safetrax.data.formats.layout import find_layout
from safetrax.data.formats.meter import Meter
from safetrax.data.formats.sheet import Sheet
from safetrax.data.formats.written import Table
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path

_METADATA = b"safetrax"  # the entry of a file's own metadata that holds the action box, as JSON
_ROWS = 1 << 17  # of a row group


def read_parquet(path: Path, given: Mapping[str, Any], *, next_observations: bool, meter: Meter) -> Found:
    """Read the columns that are needed.

    Raises:
        DataError: a column is missing, or holds a null or a text; the file is damaged.
    """
    arrow = package("pyarrow", extra="pandas", purpose="reading Parquet files")
    parquet = package("pyarrow.parquet", extra="pandas", purpose="reading Parquet files")
    with path.open("rb") as raw:
        if raw.read(4) != b"PAR1":
            raise DataError(f"{path} is not a Parquet file; check that it is the log itself.")
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file, naming(path):
            schema = file.schema_arrow
            layout = find_layout(schema.names, given, next_observations=next_observations)
            sheet = Sheet(layout, file.metadata.num_rows, {})
            meter.expect(sheet.nbytes)
            row = 0
            for group in range(file.num_row_groups):
                part = _GroupPart(file, group, row)
                sheet.add(part)
                row += part.rows
                meter.advance(sheet.nbytes * part.rows // max(1, sheet.rows))
            box = json.loads((schema.metadata or {}).get(_METADATA, b"{}"))
            if row != sheet.rows or not isinstance(box, dict):
                raise ValueError(f"{row} of {sheet.rows} rows")
            return sheet.found(*(box.get(name) for name in BOX))
    except DataError:
        raise
    except (arrow.ArrowException, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is truncated or damaged ({error}); download or write it again.") from error


def write_parquet(
    path: str | os.PathLike[str],
    trajectories: Trajectories,
    *,
    observation_names: Sequence[str] | None = None,
    action_names: Sequence[str] | None = None,
) -> None:
    """Write a data set as a table, atomically; `load` gives back the same arrays, bit for bit, and the names.

    The columns are those of `to_pandas`. The action box is in the metadata of the file.

    Args:
        path: the file, which is replaced if it exists.
        trajectories: the data; next_observations are written if they are present.
        observation_names: of the features, if `trajectories.info` has none or others.
        action_names: alike.

    Raises:
        DataError: pyarrow is not installed, or names do not fit.
        RunError: the file cannot be written.
    """
    arrow = package("pyarrow", extra="pandas", purpose="writing Parquet files")
    parquet = package("pyarrow.parquet", extra="pandas", purpose="writing Parquet files")
    table = Table(trajectories, observation_names, action_names)
    box = json.dumps({name: [float(bound) for bound in getattr(trajectories, name)] for name in BOX})
    schema = arrow.table(table.block(0, 1)).schema.with_metadata({_METADATA: box.encode()})
    with (
        atomic_path(Path(path)) as temporary,
        parquet.ParquetWriter(temporary, schema, use_dictionary=["episode"], compression="zstd") as writer,
    ):
        for block in table.blocks(_ROWS):
            writer.write_table(arrow.table(block, schema=schema))


class _GroupPart:
    """One row group of a Parquet file, whose first row is number `first` of the table."""

    def __init__(self, file: Any, group: int, first: int) -> None:
        self.rows: int = file.metadata.row_group(group).num_rows
        self._file, self._group, self._first = file, group, first
        self._arrow = package("pyarrow", extra="pandas", purpose="reading Parquet files")

    def numbers(self, column: str) -> np.ndarray:
        """See Part."""
        values, types = self._whole(column), self._arrow.types
        kind = values.type
        if types.is_decimal(kind):
            values = values.cast(self._arrow.float64())
        elif not (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
            raise DataError(
                f"column {column} is {str(values[0].as_py())!r} in row {self._first}, which is no number ({kind}); "
                "make it one, or leave the column out."
            )
        return np.asarray(values.to_numpy())

    def moments(self, column: str) -> np.ndarray:
        """See Part."""
        values, types = self._whole(column), self._arrow.types
        if types.is_timestamp(values.type) or types.is_time(values.type) or types.is_duration(values.type):
            return np.asarray(values.cast(self._arrow.int64()).to_numpy())
        return self.numbers(column)

    def labels(self, column: str) -> tuple[np.ndarray, list[Hashable]]:
        """See Part."""
        encoded = self._arrow.concat_arrays(self._whole(column).chunks).dictionary_encode()
        return np.asarray(encoded.indices), encoded.dictionary.to_pylist()

    def _whole(self, column: str) -> Any:
        """A column of the group in which nothing is missing."""
        values = self._file.read_row_group(self._group, columns=[column], use_threads=False).column(0)
        if values.null_count:
            missing = np.concatenate([np.asarray(chunk.is_null()) for chunk in values.chunks])
            raise empty_cell(column, self._first + int(np.argmax(missing)))
        kind = values.type
        return values.cast(kind.value_type) if self._arrow.types.is_dictionary(kind) else values
