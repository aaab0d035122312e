"""Turning what a person passes into the checked columns of a data set, numpy arrays of the one agreed dtype."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64

from safetrax.errors import ConfigError, DataError
from safetrax.spaces import Part, require_no_picture

# Whatever numpy can turn into an array. Not `npt.ArrayLike`: a wrong value must end in a DataError.
Values: TypeAlias = Any

CHUNK_ROWS = 65_536
"""Rows of a large array that are looked at together, so that temporaries stay at some MB."""

_NUMERIC = "biuf"


def chunks(rows: int) -> Iterator[slice]:
    """Cut so many rows into slices of at most `CHUNK_ROWS`."""
    return (slice(first, min(first + CHUNK_ROWS, rows)) for first in range(0, rows, CHUNK_ROWS))


def check_numeric(field: str, dtype: np.dtype[Any]) -> None:
    """Raise DataError unless `dtype` is boolean, integer or floating."""
    if dtype.kind not in _NUMERIC:
        raise DataError(f"{field} has dtype {dtype}; convert it to float32.")


def check_matrix_shape(field: str, shape: tuple[int, ...], dtype: np.dtype[Any] | None = None) -> None:
    """Raise DataError unless `shape` is (N, K) with N and K at least one; `dtype` tells pictures."""
    if field.endswith("observations"):
        check_no_picture(field, shape, dtype)
    if len(shape) != 2:
        raise DataError(
            f"{field} has shape {shape}, but (transitions, size) is needed; flatten each row to one vector "
            "(a single feature to shape (transitions, 1))."
        )
    if 0 in shape:
        raise DataError(f"{field} is empty (shape {shape}); pass at least one transition with at least one feature.")


def check_no_picture(field: str, shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> None:
    """Raise DataError if it is one picture per transition."""
    try:
        require_no_picture(field, shape[1:], dtype)
    except ConfigError as error:
        raise DataError(str(error)) from error


def check_part_shape(field: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise DataError unless `shape` is (N, ...) with numbers, and no picture."""
    check_no_picture(field, shape, dtype)
    if not shape or 0 in shape:
        raise DataError(f"{field} has shape {shape}, but (transitions, ...) is needed; pass one row per transition.")


def check_vector_shape(field: str, shape: tuple[int, ...]) -> None:
    """Raise DataError unless `shape` is (N,) or (N, 1) with N at least one."""
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise DataError(f"{field} has shape {shape}, but (transitions,) is needed; pass one number per transition.")
    if shape[0] == 0:
        raise DataError(f"{field} is empty (shape {shape}); pass at least one transition.")


def check_equal_rows(rows: Mapping[str, int]) -> None:
    """Raise DataError unless all fields have as many rows as the first one."""
    reference, expected = next(iter(rows.items()))
    for field, found in rows.items():
        if found != expected:
            raise DataError(
                f"{field} has {found} rows but {reference} has {expected}; "
                "pass one row per transition in every array."
            )


def check_fit(columns: Mapping[str, np.ndarray]) -> None:
    """Raise DataError unless all columns have the same rows, and both kinds of observations the same features."""
    check_equal_rows({name: len(column) for name, column in columns.items()})
    now, after = columns["observations"].shape, columns.get("next_observations", columns["observations"]).shape
    if now != after:
        raise DataError(f"next_observations has shape {after} but observations has {now}; log the same features.")


def as_matrix(field: str, values: Values) -> Float32[np.ndarray, "N K"]:
    """One float32 vector per transition. No copy where `values` already has that form."""
    array = _as_array(field, values)
    check_matrix_shape(field, array.shape, array.dtype)
    return _as_float32(array)


def as_vector(field: str, values: Values) -> Float32[np.ndarray, " N"]:
    """One float32 number per transition; (N, 1) is squeezed to (N,)."""
    array = _as_array(field, values)
    check_vector_shape(field, array.shape)
    return _as_float32(array.reshape(-1))


def as_flags(field: str, values: Values) -> Bool[np.ndarray, " N"]:
    """One boolean per transition out of booleans, integers or floats that are 0 or 1."""
    array = _as_array(field, values)
    check_vector_shape(field, array.shape)
    array = array.reshape(-1)
    if array.dtype.kind == "b":
        return array
    flags = array == 1
    bad = ~(flags | (array == 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{field} is {array[row]} in row {row}; flags must be 0 or 1.")
    return np.asarray(flags, dtype=np.bool_)


def as_box(low: Values, high: Values, size: int) -> tuple[Float32[np.ndarray, " A"], Float32[np.ndarray, " A"]]:
    """The action box of `size` actions; a missing side is -1 or +1, one number holds for every action."""
    ends = []
    for field, values, default in (("action_low", low, -1.0), ("action_high", high, 1.0)):
        array = _as_array(field, default if values is None else values)
        if array.shape not in ((), (size,)):
            raise DataError(f"{field} has shape {array.shape}, but there are {size} actions; pass shape ({size},).")
        ends.append(np.broadcast_to(_as_float32(array), (size,)).copy())
    return ends[0], ends[1]


def as_choices(values: Values, choices: Values) -> Float32[np.ndarray, "N K"]:
    """One-hot actions out of numbers of choices, (N,) or (N, 1), or of what is one-hot already, (N, `choices`)."""
    told = np.asarray(choices)
    if told.ndim or told.dtype.kind not in "iu" or told < 2:
        raise DataError(f"action_choices is {choices!r:.40}; pass how many there are, 2 or more.")
    array, count = _as_array("actions", values), int(told)
    if array.ndim == 2 and array.shape[1] == count:
        if not (np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all()):
            raise DataError("actions has rows that are not one-hot; write a 1 for the choice and 0 for the others.")
        return _as_float32(array)
    check_vector_shape("actions", array.shape)
    try:
        return Part("actions", (), (count,)).flat(array.reshape(-1))
    except ConfigError as error:
        raise DataError(str(error)) from error


def as_offsets(offsets: Values, rows: int) -> Int64[np.ndarray, " boundaries"]:
    """Check episode offsets: from 0, strictly increasing, at most `rows`, at least one episode."""
    array = _as_array("offsets", offsets)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) < 2:
        raise DataError(
            f"offsets has dtype {array.dtype} and shape {array.shape}; "
            "pass integers of shape (episodes + 1,), with at least one episode."
        )
    array = array.astype(np.int64)
    if array[0] != 0:
        raise DataError(f"offsets starts at {array[0]}; the first episode must start at row 0.")
    unordered = np.flatnonzero(np.diff(array) <= 0)
    if len(unordered):
        e = int(unordered[0])
        raise DataError(
            f"offsets goes from {array[e]} to {array[e + 1]} at episode {e}; offsets must increase, "
            "because every episode has at least one row."
        )
    if array[-1] > rows:
        raise DataError(f"offsets ends at {array[-1]}, but there are only {rows} rows; pass offsets of these arrays.")
    return array


def find_offsets(
    terminated: Bool[np.ndarray, " N"], truncated: Bool[np.ndarray, " N"]
) -> Int64[np.ndarray, " boundaries"]:
    """Episode offsets out of the end flags, of which one must be set; a row with both flags ends one episode."""
    ends = np.flatnonzero(terminated | truncated)
    if len(ends) == 0:
        raise DataError(
            "no row of terminated or truncated is set, so it is unknown where episodes end; "
            "set truncated (timeouts in a file) on the last row of each episode."
        )
    return np.concatenate([[0], ends + 1]).astype(np.int64)


def check_ends(
    terminated: Bool[np.ndarray, " N"],
    truncated: Bool[np.ndarray, " N"],
    offsets: Int64[np.ndarray, " boundaries"],
) -> None:
    """Raise DataError unless exactly the last row of every episode is flagged."""
    flagged, last = np.flatnonzero(terminated | truncated), offsets[1:] - 1
    if len(inside := np.setdiff1d(flagged, last)):
        raise DataError(
            f"terminated or truncated is set in row {inside[0]}, inside an episode; "
            "set them on last rows only, or split there."
        )
    if len(open_ends := np.setdiff1d(last, flagged)):
        raise DataError(
            f"row {open_ends[0]} ends an episode, but neither terminated nor truncated is set; set truncated there."
        )


def mark_ends(
    terminated: Bool[np.ndarray, " N"],
    truncated: Bool[np.ndarray, " N"],
    offsets: Int64[np.ndarray, " boundaries"],
) -> Bool[np.ndarray, " N"]:
    """`truncated`, also set on every last row that has neither flag."""
    last = offsets[1:] - 1
    marked = truncated.copy()
    marked[last] |= ~terminated[last]
    return marked


def _as_array(field: str, values: Values) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of unequal length
        raise DataError(f"{field} is ragged; give every row the same number of entries.") from error
    check_numeric(field, array.dtype)
    return array


def _as_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes inf, which validate() names with its row
        return array.astype(np.float32, copy=False)
