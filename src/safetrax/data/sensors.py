"""What a faulty sensor leaves in a log: spikes, and one reading over and over."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64

from safetrax.data.columns import CHUNK_ROWS

_MAD = 1.4826  # the standard deviation of normal numbers over their median distance from the middle


def robust_step(column: Float[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"]) -> float:
    """1.4826 times the median size of the changes of a column from step to step within episodes; 0 without any.

    Steps without a change are set aside, for where most are, their median says nothing. At most 65,536 steps are
    looked at, evenly spaced.
    """
    before = np.arange(0, len(column) - 1, -(-len(column) // CHUNK_ROWS))
    before = before[~np.isin(before + 1, offsets)]
    sizes = np.abs(column[before + 1].astype(np.float64) - column[before])
    sizes = sizes[(sizes > 0) & np.isfinite(sizes)]
    return _MAD * float(np.median(sizes)) if len(sizes) else 0.0


def is_smooth(column: Float[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"]) -> bool:
    """Whether a column moves in steps that are small beside how far its values lie apart, at most a fifth."""
    sample = column[:: -(-len(column) // CHUNK_ROWS)].astype(np.float64)
    spread = _MAD * float(np.median(np.abs(sample - np.median(sample))))
    return 0 < robust_step(column, offsets) <= 0.2 * spread


def spikes(
    column: Float[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"], deviations: float, longest: int = 1
) -> Bool[np.ndarray, " N"]:
    """Where a column leaves its course and comes back.

    A spike is at most `longest` values, one after the other in an episode, that all lie above, or all below, both the
    value before and the value after them, and farther than `deviations` times `robust_step`. What is missing is
    passed over. An episode's first and last value are none, for there is but one beside them; nor is a step to a new
    level.
    """
    far = deviations * robust_step(column, offsets)
    marks = np.zeros(len(column), np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        calm = not far or bool((np.abs(np.diff(column)) <= far).all())  # never with a gap
    if calm:
        return marks
    present = np.flatnonzero(~np.isnan(column))
    values = column[present].astype(np.float64)
    episodes = np.searchsorted(offsets, present, side="right")
    found = np.zeros(len(values), np.bool_)
    for size in range(1, longest + 1):
        windows = len(values) - size - 1
        if windows < 1:
            break
        same = episodes[:windows] == episodes[size + 1 :]
        ends = np.stack([values[:windows], values[size + 1 :]])
        inner = np.lib.stride_tricks.sliding_window_view(values[1:-1], size)
        with np.errstate(invalid="ignore"):  # infinite readings beside one another
            high = inner.min(axis=1) - ends.max(axis=0) > far
            low = ends.min(axis=0) - inner.max(axis=1) > far
        first = np.flatnonzero(same & (high | low)) + 1
        for place in range(size):
            found[first + place] = True
    marks[present[found]] = True
    return marks


def stuck(
    column: Float[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"], steps: int
) -> Bool[np.ndarray, " N"]:
    """Where a column that is always moving stands still: a value that is exactly repeated over at least `steps` steps
    of an episode, but for the first of them.

    It is always moving if more than half of its other steps change it; a switch, or a sensor with few levels, is not.
    """
    begins = np.append(True, column[1:] != column[:-1])
    begins[offsets[:-1]] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(column)))
    long = lengths >= steps
    if not long.any():
        return np.zeros(len(column), np.bool_)
    others = len(column) - int(lengths[long].sum())
    moving = 2 * int(np.count_nonzero(~long)) > others
    marks = np.repeat(long & moving, lengths)
    marks[starts] = False
    return marks
