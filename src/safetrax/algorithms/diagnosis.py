"""Signs that a run is degenerate, read from its logged means."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

History = Mapping[str, Sequence[float]]
"""Of every metric of the present stage, the means logged so far, oldest first."""

LASTING = 5  # intervals: what passes sooner is the beginning of a run, not its fate


def lasts(history: History, metric: str, condition: Callable[[float], bool]) -> bool:
    """True if the condition held in each of the last `LASTING` intervals."""
    values = history.get(metric, ())
    return len(values) >= LASTING and all(condition(value) for value in values[-LASTING:])


def diverges(history: History, metric: str, above: float) -> bool:
    """True if the metric has grown in each of the last `LASTING` intervals and is greater than `above`."""
    values = history.get(metric, ())[-LASTING - 1 :]
    return len(values) > LASTING and values[-1] > above and all(a < b for a, b in itertools.pairwise(values))
