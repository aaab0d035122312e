"""Parquet files, CSV files and data frames as columns of Arrow arrays, some rows at a time.

Imports pyarrow, so it is imported by those who have found that it is there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from safetrax.data.columns import CHUNK_ROWS, chunks
from safetrax.data.formats.table_cells import is_list, width
from safetrax.data.formats.table_columns import METADATA, Layout, clean_name
from safetrax.errors import DataError

Part: TypeAlias = tuple[int, dict[str, Any]]  # first row, and the arrays of some columns

_BLOCK = 1 << 20  # bytes of a CSV file that are parsed at once, and of the longest header
_BINARY = (b"\xff\xfe", b"\xfe\xff", b"PK\x03\x04")
_THOUSANDS = r"^\s*[+-]?[1-9]\d{0,2},\d{3}\s*$"


class ParquetSource:
    """A Parquet file, read one column after the other, so that little of it is in memory.

    Attributes:
        names: of its columns, clean.
        rows: how many there are.
        text: whether its numbers are written as texts.
        box: `action_low` and `action_high`, if it says so itself.
    """

    text = False

    def __init__(self, path: Path) -> None:
        with path.open("rb") as raw:
            if raw.read(4) != b"PAR1":
                raise DataError("it is not a Parquet file; check that it is the log itself.")
        self._path = path
        with self._open() as file:
            schema = file.schema_arrow
            self.rows: int = file.metadata.num_rows
        self._columns = {clean_name(name): name for name in schema.names}
        self._lists = {clean_name(field.name) for field in schema if is_list(field.type)}
        self.names = tuple(map(clean_name, schema.names))
        self.box: dict[str, Any] = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
        if not isinstance(self.box, dict):
            raise DataError("its metadata hold no action box; write it again.")

    def widths(self, names: Sequence[str]) -> dict[str, int]:
        """How many numbers a cell of each column holds, in the first row."""
        found = dict.fromkeys(names, 1)
        for name in self._lists.intersection(names):
            with self._open() as file:
                found[name] = next(map(width, self._column(file, name, 1)), 1)
        return found

    def parts(self, layout: Layout) -> Iterator[Part]:
        """The cells of the columns that are used, one column after the other."""
        with self._open() as file:
            for name in layout.used:
                row = 0
                for cells in self._column(file, name, CHUNK_ROWS):
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

    def __init__(self, frame: Any) -> None:
        if getattr(frame, "ndim", 0) != 2 or not hasattr(frame, "iloc"):
            raise DataError(f"frame is a {type(frame).__name__}; pass a pandas data frame.")
        columns = [(_joined(name), frame.iloc[:, i]) for i, name in enumerate(frame.columns)]
        for level, name in enumerate(frame.index.names):
            if name is not None:
                columns.append((_joined(name), frame.index.get_level_values(level).to_series()))
        self.names = tuple(name for name, _ in columns)
        self.rows = len(frame)
        self._columns = dict(columns)

    def widths(self, names: Sequence[str]) -> dict[str, int]:
        """How many numbers a cell of each column holds, in the first row."""
        return {name: width(self._array(name, slice(0, 1))) for name in names}

    def parts(self, layout: Layout) -> Iterator[Part]:
        """The cells of the columns that are used, some rows after the other."""
        for rows in chunks(self.rows):
            yield rows.start, {name: self._array(name, rows) for name in layout.used}

    def _array(self, name: str, rows: slice) -> Any:
        cells = self._columns[name].iloc[rows]
        try:
            sparse = isinstance(getattr(cells.dtype, "subtype", None), np.dtype)  # which Arrow does not know
            array = pa.Array.from_pandas(cells.to_numpy() if sparse else cells)
            array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            kinds = ["a number" if _is_number(cell) else type(cell).__name__ for cell in cells]
            row = next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0)
            raise DataError(
                f"column {name} is {str(cells.iloc[row])[:40]!r} in row {rows.start + row}, which is no number, or "
                f"of another kind than the rest ({kinds[row]}); turn all into numbers (complex ones into two, arrays "
                "of more dimensions into flat ones), or leave the column out."
            ) from error
        unclear = pa.types.is_timestamp(array.type) and cells.dtype == object
        if unclear and len({getattr(cell, "tzinfo", None) is None for cell in cells}) > 1:
            raise DataError(f"column {name} holds times with a zone and without; give all of them one.")
        return array


class CsvSource:
    """A CSV file with a header, with the attributes of `ParquetSource`.

    Commas, semicolons, tabs or bars separate, and gzip may have packed it. Lines before the header that begin with #
    are comments; but if numbers follow, the last of them is the header.
    """

    text = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.box: dict[str, Any] = {}
        with self._open() as file:
            header, self._begin = _header(file)
            self._separator, self.names = _split(header)
            self.rows, self._longest = 0, 0
            file.seek(self._begin)
            for line in file:
                if line.startswith(b"#"):
                    raise DataError(f"row {self.rows} begins with #; take comments between the rows out.")
                self.rows += not line.isspace()
                self._longest = max(self._longest, len(line))

    def widths(self, names: Sequence[str]) -> dict[str, int]:
        """One number per cell."""
        return dict.fromkeys(names, 1)

    def parts(self, layout: Layout) -> Iterator[Part]:
        """The cells of the columns that are used, some rows after the other, as texts."""
        if not self.rows:
            return
        decimals = _Decimals()
        row = 0
        try:
            with self._open() as file:
                file.seek(self._begin)
                for batch in self._reader(file, layout.used):
                    if row + batch.num_rows > self.rows:
                        break
                    part = dict(zip(layout.used, batch.columns, strict=True))
                    if self._separator != ",":
                        part |= {name: decimals.pointed(name, part[name], row) for name in layout.numbers}
                    yield row, part
                    row += batch.num_rows
        except pa.ArrowInvalid as error:
            ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
            if ragged is None:
                raise
            raise DataError(
                f"row {int(ragged[1]) - 1} has {ragged[3]} cells, but the header names {ragged[2]} columns; give "
                "every row as many cells as the header has names."
            ) from error
        decimals.check()
        if row != self.rows:
            raise DataError(
                f"its {self.rows} lines are not as many rows: a quote is not closed, or a text goes over several "
                "lines; mend or leave out the column of texts."
            )

    def _reader(self, file: Any, columns: Sequence[str]) -> Any:
        """Of the columns, as texts; called by their places, for names may come twice."""
        places = {name: str(i) for i, name in enumerate(self.names)}
        used = [places[name] for name in columns]
        names = list(map(str, range(len(self.names))))
        block = max(_BLOCK, 2 * self._longest)
        return arrow_csv.open_csv(
            file,
            arrow_csv.ReadOptions(column_names=names, block_size=block, use_threads=False),
            arrow_csv.ParseOptions(delimiter=self._separator, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                include_columns=used,
                column_types=dict.fromkeys(used, pa.string()),
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )

    def _open(self) -> Any:
        with self._path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return io.BufferedReader(gzip.GzipFile(self._path)) if packed else self._path.open("rb")


class _Decimals:
    """Whether the decimals of a file that commas do not separate are written with points or with commas."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}  # the first cell with each sign
        self._sure = False  # that commas are no signs between thousands

    def pointed(self, column: str, cells: Any, first: int) -> Any:
        has = {sign: pc.match_substring_regex(cells, rf"^\s*[+-]?\d*[{sign}]") for sign in ",."}
        for sign, found in has.items():
            if (row := pc.index(found, True).as_py()) >= 0:
                self._seen.setdefault(sign, f"column {column} is {cells[row].as_py()!r} in row {first + row}")
        if len(self._seen) > 1:
            raise DataError(
                f"{self._seen[',']}, but {self._seen['.']}; write all decimals alike, and nothing between thousands."
            )
        if "," not in self._seen:
            return cells
        thousands = pc.match_substring_regex(cells, _THOUSANDS)
        self._sure = self._sure or bool(pc.any(pc.and_not(has[","], thousands)).as_py())
        return pc.replace_substring(cells, ",", ".")

    def check(self) -> None:
        """Refuse commas that may as well stand between thousands."""
        if "," in self._seen and not self._sure:
            raise DataError(f"{self._seen[',']}, which may be a thousand times as much; write a decimal point.")


def _header(file: Any) -> tuple[str, int]:
    """The header, and where the rows after it begin."""
    comment, at = None, 0
    for line in iter(lambda: file.readline(_BLOCK), b""):
        before, at = at, file.tell()
        if line.startswith(_BINARY) or b"\0" in line:
            raise DataError("it is no text in UTF-8 (UTF-16, an archive or a workbook?); save it as CSV in UTF-8.")
        if not line.endswith(b"\n") and (len(line) == _BLOCK or b"\r" in line.strip()):
            raise DataError("its lines do not end as those of a text do; save it as CSV with one row per line.")
        try:
            text = clean_name(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"its header is no UTF-8 ({error.reason}); save it as CSV in UTF-8.") from error
        if text.startswith("#") or re.match(r'"?sep=', text):
            comment = text.lstrip("# ").strip(), at
        elif any(_is_numeral(cell) for cells in _cells(text).values() for cell in cells):
            if comment is None or len(max(_cells(comment[0]).values(), key=len)) == 1:
                raise DataError(
                    f"it has no header: the first line holds numbers ({text[:40]!r}), which are never names; write a "
                    'line of names above it (numpy.savetxt: header="observation_0,...", comments="").'
                )
            return comment[0], before
        elif text:
            return text, at
    if comment is None:
        raise DataError("it is empty; write one row per transition under a header.")
    return comment


def _split(header: str) -> tuple[str, tuple[str, ...]]:
    """The separator and the names of a header."""
    cells = _cells(header)
    signs = list(cells)
    if len(signs) > 1:
        raise DataError(f"its header {header[:60]!r} has as many {signs[0]!r} as {signs[1]!r}; use one separator.")
    if len(cells[signs[0]]) == 1:
        raise DataError(
            f"its header is the one name {header[:60]!r}; separate the names by commas (or all by ; or tabs), and "
            "begin comments with #."
        )
    return signs[0], tuple(map(clean_name, cells[signs[0]]))


def _cells(line: str) -> dict[str, list[str]]:
    """The cells of a line by the sign that separates most of them; several signs if they tie."""
    bare = re.sub(r'"[^"]*"', "", line)
    counts = {sign: bare.count(sign) for sign in ",;\t|"}
    if not any(counts.values()):
        return {" ": line.split()}
    best = [sign for sign, count in counts.items() if count == max(counts.values())]
    return {sign: next(csv.reader([line], delimiter=sign, skipinitialspace=True)) for sign in best}


def _is_numeral(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (bool, int, float)) or (np.ndim(cell) == 0 and np.asarray(cell).dtype.kind in "biuf")


def _joined(name: object) -> str:
    """The name of a column, or of one under several levels of names."""
    return ".".join(filter(None, map(clean_name, name))) if isinstance(name, tuple) else clean_name(name)
