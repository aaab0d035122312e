"""The result of an evaluation."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from safetrax.catalogue import get_task
from safetrax.charts.html_table import html_table
from safetrax.data.formats.damage import package
from safetrax.evaluation.episodes import COLUMNS, EpisodeRow, write_episodes
from safetrax.evaluation.statistics import Summary, summarise
from safetrax.files import exact
from safetrax.monitoring.interventions import Intervention

if TYPE_CHECKING:  # what a notebook shows
    import pandas as pd
    from altair import TopLevelMixin

_WIDTH = 118


@dataclass(frozen=True)
class Evaluation:
    """Episodes, and what they took.

    Attributes:
        rows: one per episode, by policy and then by episode.
        seconds: wall-clock time, with the start of the workers where there was no pool.
        environment_steps: steps of all episodes.
        interventions: of the monitors, if any watched.
        cost_limits: where algorithms that ignore the limit are scored, if nobody says otherwise; empty: the task's.
    """

    rows: tuple[EpisodeRow, ...]
    seconds: float
    environment_steps: int
    interventions: tuple[Intervention, ...] = ()
    cost_limits: tuple[float, ...] = ()

    def summary(self, cost_limits: Sequence[float] | None = None) -> list[Summary]:
        """Means and verdicts; see `safetrax.evaluation.statistics.summarise`."""
        return summarise(self.rows, cost_limits or self.cost_limits)

    def plot(self, cost_limits: Sequence[float] | None = None) -> TopLevelMixin:
        """Normalised cost against normalised reward, one panel per task: good is high, safe is left of the line at 1.
        Where a task has no reference returns, the return stands in place of the reward.

        A mark is an algorithm at a limit, with standard errors. A notebook shows the chart; its own `save`
        writes PNG, PDF or SVG.

        Args:
            cost_limits: where to score algorithms that ignore the limit; by default those of the evaluation.
        """
        from safetrax.charts.drawing import altair_chart, beside
        from safetrax.charts.panels import Mark, plane, plane_range

        found = self.summary(cost_limits)
        several = len({summary.algorithm for summary in found}) > 1
        marks: dict[str, list[Mark]] = {}
        for s in found:
            limit, cost = f"limit {exact(s.cost_limits[0])}", s.normalised_cost
            reward, word = (s.normalised_return, "reward") if s.has_reference_returns else (s.return_, "return")
            text = f"{s.algorithm}, {limit}\n{word} {reward.text(2)}\ncost {cost.text(2)}"
            kind = s.algorithm if several else limit
            mark = Mark(cost.mean, reward.mean, cost.error, reward.error, kind, text)
            marks.setdefault(s.task, []).append(mark)
        kinds = list(dict.fromkeys(mark.kind for own in marks.values() for mark in own))
        panels = []
        for task, own in marks.items():
            raw = not get_task(task).has_reference_returns
            panels.append(plane(own, *plane_range(own, raw=raw), kinds=kinds, title=task, key=True, raw=raw))
        return altair_chart(beside(panels))

    def save(self, path: str | Path) -> None:
        """Write the rows as CSV, atomically.

        Raises:
            RunError: the file cannot be written.
        """
        write_episodes(path, self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """A data frame with one row per episode and the columns of `save`.

        Raises:
            DataError: pandas is not installed.
        """
        frames = package("pandas", extra="pandas", purpose="a data frame")
        return frames.DataFrame(list(map(astuple, self.rows)), columns=list(COLUMNS))

    def _repr_html_(self) -> str:
        return html_table(_HEADINGS, map(_cells, self.summary()))

    def __str__(self) -> str:
        rate = self.environment_steps / self.seconds if self.seconds > 0 else math.nan
        steps = f"{self.environment_steps:,} environment steps in {self.seconds:.1f} s ({rate:,.0f} per second)"
        return f"{format_summaries(self.summary())}\n{len(self.rows)} episodes, {steps}"


_HEADINGS = (
    "algorithm", "task", "limit", "seeds", "episodes", "return", "cost", "norm. return", "norm. cost", "safe",
)  # fmt: skip


def format_summaries(summaries: Sequence[Summary]) -> str:
    """Summaries as a text table; `±` is one standard error, and `-` is what nobody can tell."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS:
        left = heading in ("algorithm", "task", "safe")
        table.add_column(heading, justify="left" if left else "right", overflow="fold" if left else "ellipsis")
    for s in summaries:
        table.add_row(*_cells(s))
    text = io.StringIO()
    Console(file=text, width=_WIDTH, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())


def _cells(s: Summary) -> tuple[str, ...]:
    limits, safe = "|".join(map(exact, s.cost_limits)), "yes" if s.safe else "no"
    raw, scaled = (s.return_.text(1), s.cost.text(1)), (s.normalised_return.text(2), s.normalised_cost.text(2))
    return s.algorithm, s.task, limits, str(s.seeds), str(s.episodes), *raw, *scaled, safe
