"""Tables of evaluation results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from rich.table import Column, Table
from rich.text import Text

from safetrax.cli.console import plain_table
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.statistics import Summary, benchmark_table, summarise
from safetrax.files import exact


def results_table(rows: Iterable[EpisodeRow], cost_limits: Sequence[float] = (), *, title: str = "") -> Table:
    """One line per algorithm and limit, then one per algorithm with several: the mean over limits and seeds.

    Args:
        rows: episodes of one training step of each run.
        cost_limits: where to score algorithms that ignore the limit; empty: the task's limits.
        title: shown above.

    Raises:
        TaskError: a row names an unknown task.
    """
    kept = list(rows)
    right = partial(Column, justify="right")
    before, after = map(right, ("limit", "seeds", "reward", "cost")), map(right, ("raw return", "raw cost"))
    table = plain_table(title, "algorithm", *before, "safe", *after)  # fits into 80 columns
    limits = list(cost_limits) or None
    for summary in summarise(kept, limits):
        table.add_row(*_cells(summary, exact(summary.cost_limits[0])))
    table.add_section()
    for summary in benchmark_table(kept, limits):
        if len(summary.cost_limits) > 1:
            table.add_row(*_cells(summary, "mean"))
    return table


NOTE = (
    "reward and cost are normalised, the reward where its task has reference returns, safe is a cost of at most 1 at "
    "every limit, and ± is one standard error"
)


def _cells(summary: Summary, limit: str) -> list[str | Text]:
    safe = Text("yes", style="bold green") if summary.safe else Text("no", style="dim")
    return [
        summary.algorithm,
        limit,
        str(summary.seeds),
        summary.normalised_return.text(2),
        summary.normalised_cost.text(2),
        safe,
        f"{summary.return_.mean:.1f}",
        f"{summary.cost.mean:.1f}",
    ]
