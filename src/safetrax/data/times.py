"""Time stamps and durations, as seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float64

from safetrax.data.columns import Values, check_vector_shape
from safetrax.errors import ConfigError, DataError

_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PER_SECOND = {"day": 1 / 86400, "s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_NO_TIME = ("", "nan", "nat", "none")
_LAST_LETTER = 0x10FFFF


def duration(name: str, word: str) -> float:
    """Seconds of `500ms`, `1s`, `1.5min`, `2h` or `1d`.

    Raises:
        ConfigError: it is no duration, or none above 0; `name` is what it is for.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|min|h|d)", word)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds < np.inf:
        raise ConfigError(f"{name} is {word}, but must be a time such as 500ms, 1s, 5min, 2h or 1d.")
    return seconds


def as_seconds(field: str, values: Values) -> Float64[np.ndarray, " N"]:
    """One time per transition: numbers are seconds; datetime64, timedelta64 and ISO texts become such since 1970.

    Texts without a zone are taken as they are. What is missing is NaN.

    Raises:
        DataError: there is not one per transition, they are no times, or only some have a zone.
    """
    array = np.asarray(values)
    check_vector_shape(field, array.shape)
    array = array.reshape(-1)
    if array.dtype.kind in "mM":
        whole = array.astype(f"{array.dtype.kind}8[us]")
        return np.where(np.isnat(whole), np.nan, whole.astype(np.int64) / 1e6)
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    if array.dtype.kind not in "OSU":
        raise DataError(f"{field} has dtype {array.dtype}; write seconds, datetime64 or ISO texts.")
    if array.dtype.kind == "U" and (array.astype(array.dtype.newbyteorder("=")).view(np.uint32) > _LAST_LETTER).any():
        raise DataError(f"{field} holds texts of impossible letters; download or write it again.")
    texts = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in array.tolist()]
    zoned: set[bool] = set()
    found = np.empty(len(texts))
    for row, text in enumerate(map(str.strip, texts)):
        try:
            found[row] = np.nan if text.casefold() in _NO_TIME else _seconds(text, zoned)
        except ValueError:
            raise DataError(
                f"{field} is {text[:40]!r} in row {row}, which is no time; write seconds or 2024-05-01T12:00:00."
            ) from None
    if len(zoned) > 1:
        raise DataError(f"{field} holds times with a zone and without; give all of them one.")
    return found


def _seconds(text: str, zoned: set[bool]) -> float:
    if re.fullmatch(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", text, re.IGNORECASE):
        return float(text)
    moment = datetime.fromisoformat(text)
    zoned.add(moment.tzinfo is not None)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def seconds_of_moments(kind: str, moments: np.ndarray) -> Float64[np.ndarray, " N"]:
    """Seconds of what `table_cells.moments` gives: numbers are seconds, all else counts units of time."""
    unit = re.search(r"\[(\w+)", kind)
    per_second = 1.0 if kind == "numbers" else _PER_SECOND[unit[1] if unit else "ns"]
    return np.asarray(moments, np.float64) / per_second
