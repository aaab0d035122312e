"""CSV files as columns of Arrow arrays: which line is the header, what separates, how decimals are written.

Imports pyarrow, so it is imported by those who have found that it is there.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from safetrax.data.formats.arrow import Part
from safetrax.data.formats.layout import clean_name
from safetrax.errors import DataError

_BLOCK = 1 << 20  # bytes that are parsed at once, and of the longest header
_BINARY = (b"\xff\xfe", b"\xfe\xff", b"PK\x03\x04")
_THOUSANDS = r"^\s*[+-]?[1-9]\d{0,2},\d{3}\s*$"


class CsvSource:
    """A CSV file with a header; commas, semicolons, tabs or bars separate, and gzip may have packed it.

    Lines before the header that begin with # are comments; but if numbers follow, the last of them is the header.
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
        """See Source."""
        return dict.fromkeys(names, 1)

    def parts(self, numbers: Sequence[str], labels: Sequence[str]) -> Iterator[Part]:
        """See Source."""
        if not self.rows:
            return
        places = {name: str(i) for i, name in enumerate(self.names)}
        used = [places[name] for name in (*numbers, *labels)]
        decimals = _Decimals()
        row = 0
        try:
            with self._open() as file:
                file.seek(self._begin)
                reader = arrow_csv.open_csv(
                    file,
                    arrow_csv.ReadOptions(
                        column_names=list(map(str, range(len(self.names)))),
                        block_size=max(_BLOCK, 2 * self._longest),
                        use_threads=False,
                    ),
                    arrow_csv.ParseOptions(
                        delimiter=self._separator,
                        newlines_in_values=True,
                    ),
                    arrow_csv.ConvertOptions(
                        include_columns=used,
                        column_types=dict.fromkeys(used, pa.string()),
                        strings_can_be_null=False,
                        check_utf8=False,
                    ),
                )
                for batch in reader:
                    if row + batch.num_rows > self.rows:
                        break
                    part = dict(zip((*numbers, *labels), batch.columns, strict=True))
                    if self._separator != ",":
                        part |= {name: decimals.pointed(name, part[name], row) for name in numbers}
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

    def _open(self) -> Any:
        with self._path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return io.BufferedReader(gzip.GzipFile(self._path)) if packed else self._path.open("rb")


class _Decimals:
    """Whether the decimals of a file that commas do not separate are written with points or with commas."""

    def __init__(self) -> None:
        self._point: str | None = None  # the first cells of each kind
        self._comma: str | None = None
        self._sure = False  # that commas are no signs between thousands

    def pointed(self, column: str, cells: Any, first: int) -> Any:
        """Cells with decimal points."""
        commas, points = (pc.match_substring_regex(cells, rf"^\s*[+-]?\d*[{sign}]") for sign in ",.")
        self._point = self._point or self._first(column, cells, points, first)
        self._comma = self._comma or self._first(column, cells, commas, first)
        if self._comma and self._point:
            raise DataError(
                f"{self._comma}, but {self._point}; write all decimals alike, and nothing between thousands."
            )
        if not self._comma:
            return cells
        thousands = pc.match_substring_regex(cells, _THOUSANDS)
        self._sure = self._sure or bool(pc.any(pc.and_not(commas, thousands)).as_py())
        return pc.replace_substring(cells, ",", ".")

    def check(self) -> None:
        """Refuse commas that may as well stand between thousands."""
        if self._comma and not self._sure:
            raise DataError(f"{self._comma}, which may be a thousand times as much; write a decimal point.")

    def _first(self, column: str, cells: Any, has: Any, first: int) -> str | None:
        row = pc.index(has, True).as_py()
        return None if row < 0 else f"column {column} is {cells[row].as_py()!r} in row {first + row}"


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
