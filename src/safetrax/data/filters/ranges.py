"""Ranges of costs and returns, as settings of filters."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from safetrax.data.segments import ROUNDING
from safetrax.settings import require

Range = tuple[float, float]


def between(values: Float[np.ndarray, " E"], low: float, high: float) -> Bool[np.ndarray, " E"]:
    """Whether each value is in [low, high], forgiving float32 rounding, as the benchmark's references have it."""
    slack = ROUNDING * (1 + max(abs(low), abs(high)))
    return np.asarray((values >= low - slack) & (values <= high + slack))


def fraction_between(
    values: Float[np.ndarray, " E"], first: float, last: float, low: float, high: float
) -> Bool[np.ndarray, " E"]:
    """Whether each value is between two fractions of [low, high], ends included."""
    span = high - low
    return between(values, low + first * span, low + last * span)


def require_range(name: str, value: Range | None) -> None:
    """Check a setting that is a range, or None.

    Raises:
        ConfigError: it does not go from a lower to a higher finite number.
    """
    if value is not None:
        low, high = value
        require(math.isfinite(low) and math.isfinite(high) and low < high, name, value, "go from low to high")


def require_finite(**values: float | None) -> None:
    """Check settings that are numbers, or None.

    Raises:
        ConfigError: one is infinite or not a number.
    """
    for name, value in values.items():
        require(value is None or math.isfinite(value), name, value, "be finite")
