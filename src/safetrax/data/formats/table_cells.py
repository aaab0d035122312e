"""What the cells of a table hold, an Arrow array at a time: numbers, moments that order rows, labels of episodes.

Imports pyarrow, so it is imported by those who have found that it is there.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from safetrax.errors import DataError

_MISSING = ("", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>", "nat")
_CLOCK = r"^(?:(?P<d>-?\d+) days?,? \+?)?(?P<h>\d+):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d(?:\.\d+)?))?$"


def is_list(kind: Any) -> bool:
    """Whether a type holds lists of equal or different lengths."""
    kind = getattr(kind, "storage_type", kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def width(first: Any) -> int:
    """How many numbers a cell holds, from an array whose first entry is the first cell; 1 if it is no list."""
    first = _plain(first)
    if not is_list(first.type) or not len(first) or not first[0].is_valid:
        return 1
    return len(first[0].values)


def numbers(values: Any, column: str, first: int, *, size: int = 1, text: bool = False) -> np.ndarray:
    """Booleans, integers or floats, (rows, size): a cell may be a list of `size` of them. What is missing is NaN.

    With `text`, they are written as texts. `first` is the number of the first row.

    Raises:
        DataError: an entry is no number, or a list has another length.
    """
    values = _plain(values)
    kind = values.type
    if is_list(kind) and not is_list(kind.value_type):
        bad = np.asarray(pc.fill_null(pc.not_equal(pc.list_value_length(values), size), False))
        if bad.any() or size == 0:
            row = int(np.argmax(bad))
            raise DataError(
                f"column {column} is a list of {len(values[row].values)} numbers in row {first + row}, but of {size} "
                "in the first; give every row a list of the same length, at least 1."
            )
        found = np.full((len(values), size), np.nan)
        found[np.asarray(values.is_valid())] = numbers(values.flatten(), column, first).reshape(-1, size)
        return found
    if text and _is_text(kind):
        array = _parsed(values, _float_texts, column, first, "number")
    elif types.is_decimal(kind) or types.is_null(kind):
        array = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    elif types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        if values.null_count:
            values = values.cast(pa.float64(), safe=False)
        array = values.to_numpy(zero_copy_only=False)
    else:
        shown = f"is {str(values[0])[:40]!r}" if len(values) else "holds something"
        raise DataError(f"column {column} {shown} in row {first}, which is no number ({kind}); {_remedy(kind)}.")
    return np.asarray(array.reshape(-1, 1))


def whole_numbers(values: Any, column: str, first: int, *, size: int = 1, text: bool = False) -> np.ndarray:
    """The same of a column in which nothing may be missing.

    Raises:
        DataError: an entry is missing, or is no number.
    """
    found = numbers(values, column, first, size=size, text=text)
    if found.dtype.kind == "f" and (gone := np.isnan(found)).any():
        raise empty_cell(column, first + int(np.argmax(gone.any(axis=1))))
    return found


def moments(values: Any, column: str, first: int) -> tuple[str, np.ndarray]:
    """What rows are ordered by, (rows,): the kind, and numbers or integers that stand for times.

    Raises:
        DataError: an entry is missing, or neither a number nor a time.
    """
    values = _present(values, column, first)
    kind = values.type
    if types.is_temporal(kind) and not types.is_interval(kind):
        return str(kind), values.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy()
    if _is_text(kind):
        found: tuple[str, np.ndarray] = _parsed(values, _moment_texts, column, first, "number or ISO time")
        return found
    return "numbers", whole_numbers(values, column, first)[:, 0]


def labels(values: Any, column: str, first: int, *, optional: bool = False) -> tuple[np.ndarray, list[Hashable]]:
    """The different entries, and for every row which of them it has, (rows,).

    Raises:
        DataError: an entry is missing and not optional, or is none that can be told apart.
    """
    values = _plain(values) if optional else _present(values, column, first)
    kind = values.type
    if types.is_nested(kind):
        if optional:
            return np.zeros(len(values), np.int32), [None]
        raise DataError(f"column {column} holds lists ({kind}), which name no episode; give each a number or a text.")
    if types.is_temporal(kind):
        values = values.cast(pa.string())
    elif _is_text(kind):
        values = pc.utf8_trim_whitespace(values)
    encoded = values.dictionary_encode(null_encoding="encode")
    codes, entries = np.asarray(encoded.indices), encoded.dictionary.to_pylist()
    missing = [i for i, entry in enumerate(entries) if entry != entry or str(entry).casefold() in _MISSING]
    if missing and not optional:
        raise empty_cell(column, first + int(np.argmax(codes == missing[0])), str(entries[missing[0]]))
    return codes, entries


def empty_cell(column: str, row: int, entry: str = "") -> DataError:
    """The sentence about an entry that is missing."""
    shown = f" ({entry})" if entry.strip() else ""
    return DataError(f"column {column} is empty in row {row}{shown}; fill it, or leave that episode out.")


def _present(values: Any, column: str, first: int) -> Any:
    """The cells themselves, in which nothing is missing."""
    values = _plain(values)
    if values.null_count:
        raise empty_cell(column, first + int(np.argmax(np.asarray(values.is_null()))))
    return values


def _plain(values: Any) -> Any:
    """The cells without what only their storage is about."""
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values.cast(pa.string()) if types.is_string_view(values.type) else values


def _is_text(kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _parsed(values: Any, parse: Callable[[Any], Any], column: str, first: int, what: str) -> Any:
    """What texts mean; the first row that cannot be parsed, together with those before it, is named."""
    try:
        return parse(values)
    except pa.ArrowInvalid as error:

        def fails(row: int) -> bool:
            with contextlib.suppress(pa.ArrowInvalid):
                parse(values[: row + 1])
                return False
            return True

        bad = bisect_left(range(len(values)), True, key=fails)
        cell = values[bad].as_py().strip()
        if cell.casefold() in _MISSING:
            raise empty_cell(column, first + bad, cell) from error
        remedy = (
            "write 1 or 0 for yes or no, a decimal point, and no sign between thousands, or leave the column out"
            if what == "number"
            else "write all rows of the column alike, as numbers or as 2024-05-01T12:00:00"
        )
        raise DataError(f"column {column} is {cell!r} in row {first + bad}, which is no {what}; {remedy}.") from error


def _float_texts(values: Any) -> np.ndarray:
    with contextlib.suppress(pa.ArrowInvalid):
        return np.asarray(values.cast(pa.float64()))
    values = pc.utf8_trim_whitespace(values)
    gone = pc.is_in(pc.utf8_lower(values), pa.array(_MISSING, values.type))
    values = pc.if_else(gone, pa.scalar(None, values.type), values)
    with contextlib.suppress(pa.ArrowInvalid):
        return np.asarray(values.cast(pa.float64()))
    return np.asarray(values.cast(pa.bool_()).cast(pa.float64()))


def _moment_texts(values: Any) -> tuple[str, np.ndarray]:
    values = pc.utf8_trim_whitespace(values)
    for kind in (pa.int64(), pa.uint64(), pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
        with contextlib.suppress(pa.ArrowInvalid):
            cells = values.cast(kind)
            if types.is_timestamp(kind):
                return f"times with{'' if kind.tz else 'out'} a zone", np.asarray(cells.cast(pa.int64()))
            if not np.isnan(np.asarray(cells)).any():
                return "numbers", np.asarray(cells)
    parts = pc.extract_regex(values, _CLOCK)
    if parts.null_count:
        raise pa.ArrowInvalid("neither numbers nor times")
    *whole, fraction = (pc.if_else(pc.equal(cells, ""), "0", cells) for cells in parts.flatten())
    sizes = (86400, 3600, 60)
    seconds = sum(np.asarray(cells.cast(pa.int64())) * size for cells, size in zip(whole, sizes, strict=True))
    nanoseconds = np.rint(np.asarray(fraction.cast(pa.float64())) * 1e9).astype(np.int64)
    days = not pc.any(pc.equal(parts.field("d"), "")).as_py()
    return "durations" if days else "time64[ns]", seconds * 10**9 + nanoseconds


def _remedy(kind: Any) -> str:
    if _is_text(kind):
        return "turn the column into numbers (frame[name].astype(float)), or leave it out"
    if types.is_temporal(kind):
        return "turn the column into numbers, such as seconds since the episode began, or leave it out"
    if is_list(kind):
        return "flatten each row to one list of numbers"
    return "spread it over columns of numbers, or leave it out"
