"""What filters did to a data set, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from rich.table import Table

from safetrax.cli.console import plain_table
from safetrax.data.segments import within_limit
from safetrax.data.trajectories import Trajectories
from safetrax.files import exact


@dataclass(frozen=True)
class FilterRow:
    """A data set in numbers, before or after a filter.

    Attributes:
        label: the filter, or that there was none.
        lengths: of the episodes.
        returns: of the episodes.
        costs: of the episodes.
    """

    label: str
    lengths: Int64[np.ndarray, " E"]
    returns: Float[np.ndarray, " E"]
    costs: Float[np.ndarray, " E"]

    @staticmethod
    def of(label: str, data: Trajectories) -> FilterRow:
        """The numbers of a data set."""
        return FilterRow(label, data.lengths, data.returns, data.cost_returns)


def filter_tables(steps: Sequence[FilterRow], cost_limits: Sequence[float]) -> tuple[Table, Table]:
    """How many episodes, and of what length, return and cost: a line per step.

    Args:
        steps: the data set as it was read, then after each filter.
        cost_limits: where to count the safe episodes.
    """
    counts = plain_table("filters, one after the other")
    counts.add_column("", overflow="fold")
    for heading in ("episodes", "transitions", *(f"safe at {exact(limit)}" for limit in cost_limits)):
        counts.add_column(heading, justify="right")
    spreads = plain_table("min, median, max")
    spreads.add_column("", overflow="fold")
    for heading in ("episode length", "episode return", "episode cost"):
        spreads.add_column(heading, justify="right")
    for step in steps:
        safe = (f"{within_limit(step.costs, limit).sum():,}" for limit in cost_limits)
        counts.add_row(step.label, f"{len(step.lengths):,}", f"{step.lengths.sum():,}", *safe)
        spreads.add_row(step.label, *map(_spread, (step.lengths, step.returns, step.costs)))
    return counts, spreads


def _spread(values: np.ndarray) -> str:
    return ", ".join(f"{x:.5g}" for x in (values.min(), np.median(values), values.max()))
