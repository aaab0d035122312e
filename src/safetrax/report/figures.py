"""The figures of a report: small ones for the page, and those for print, of the same charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetrax.catalogue import get_task
from safetrax.charts.drawing import Chart, beside, save
from safetrax.charts.panels import Curve, Looks, Mark, curves, episodes, intervals, looks, plane, plane_range
from safetrax.evaluation.aggregates import Aggregate, ProfileKind
from safetrax.evaluation.bootstrap import Bounded
from safetrax.files import file_name
from safetrax.report.payload import cost_text, reward_text
from safetrax.report.summary import Group, Report
from safetrax.training.curves import Panel

ENDINGS = (".png", ".svg")
_METRIC_PANELS = 48  # of a figure; more are too small a picture of too much
_KINDS: dict[ProfileKind, str] = {
    "return": "share of runs with return > τ",
    "safe return": "share of runs: safe and return > τ",
}


@dataclass(frozen=True)
class Figures:
    """Makes the charts of a report.

    Attributes:
        report: what they show.
        print: with titles and legends, which the page writes itself.
    """

    report: Report
    print: bool = False

    @property
    def look(self) -> Looks:
        """Colour and dashes of each algorithm."""
        return looks(self.report.algorithms)

    def planes(self) -> Iterator[tuple[str, Chart]]:
        """Reward and cost: a panel per algorithm, a point per task; as Figure 2 of TraC (arXiv:2412.15429)."""
        marks: dict[str, list[Mark]] = {name: [] for name in self.report.algorithms}
        for cell in self.report.cells:
            cost, reward = cell.summary.normalised_cost, cell.summary.normalised_return
            if not cell.summary.has_reference_returns:
                continue
            certain = "" if cell.certain else ", not certain"
            text = f"{cell.task}\nreward {reward_text(reward)}\ncost {cost_text(cost)}\n{cell.verdict}{certain}"
            kind = "safe" if cell.safe else "not safe"
            marks[cell.algorithm].append(Mark(cost.mean, reward.mean, cost.error, reward.error, kind, text))
        marks = {name: own for name, own in marks.items() if own}
        ranges = plane_range(mark for own in marks.values() for mark in own) if marks else ()
        for name, own in marks.items():
            yield name, plane(own, *ranges, title=self._title(name), key=self.print)

    def intervals(self, group: Group) -> list[Chart]:
        """Interquartile means and the probability of being safe."""
        columns: tuple[tuple[str, Callable[[Aggregate], Bounded], tuple[float, float] | None, float | None], ...] = (
            ("IQM of normalised reward", lambda row: row.iqm_return, None, None),
            ("IQM of normalised cost", lambda row: row.iqm_cost, None, 1.0),
            ("P(safe)", lambda row: row.p_safe, (-0.04, 1.04), None),
        )
        if not all(math.isfinite(row.iqm_return.value) for row in group.rows):  # a task has no reference returns
            columns = columns[1:]
        return [
            intervals(
                [(row.algorithm, *value(row)) for row in group.rows],
                self.look,
                x=title,
                x_range=x_range,
                limit=limit,
                title=self._title(group.name if place == 0 else " "),
                names=place == 0 or not self.print,
            )
            for place, (title, value, x_range, limit) in enumerate(columns)
        ]

    def profiles(self) -> Iterator[tuple[ProfileKind, Chart]]:
        """Performance profiles."""
        for kind, profiles in self.report.profiles.kinds.items():
            lines = [Curve(p.algorithm, p.thresholds, p.share, p.low, p.high) for p in profiles]
            look = {name: self.look[name] for name in (line.label for line in lines)}
            chart = curves(
                lines,
                look,
                x="τ",
                y=_KINDS[kind],
                x_range=(0.0, 1.2),
                y_range=(0.0, 1.02),
                counted=False,
                key=self.print,
                size=(330, 220),
            )
            yield kind, chart

    def curves(self, panels: Sequence[Panel], titles: Sequence[str]) -> Iterator[Chart]:
        """Learning curves; in print with one legend for all of them."""
        labels = dict.fromkeys(line.label for panel in panels if not panel.by_algorithm for line in panel.lines)
        for panel, title in zip(panels, titles, strict=True):
            look = self.look if panel.by_algorithm else looks(list(labels)) if self.print else None
            yield panel.chart(look, title=self._title(title), key=self.print)

    def logged(self) -> Iterator[Chart]:
        """Data sets."""
        for data in self.report.logged:
            yield episodes(data.costs, data.returns, data.limits, self._title(data.task))

    def _title(self, text: str) -> str | None:
        return text if self.print else None


def draw_figures(report: Report, folder: Path) -> list[Path]:
    """Write every figure that the report has anything for; their paths.

    Raises:
        RunError: a file cannot be written.
    """
    return [save(chart, folder / f"{name}{ending}") for name, chart in _figures(report) for ending in ENDINGS]


def _figures(report: Report) -> Iterator[tuple[str, Chart]]:
    made = Figures(report, print=True)
    if planes := [chart for _, chart in made.planes()]:
        yield "reward-cost", beside(planes)
    if report.groups:
        yield "across-tasks", beside([chart for group in report.groups for chart in made.intervals(group)], columns=3)
    if profiles := [chart for _, chart in made.profiles()]:
        yield "profiles", beside(profiles)
    for kind in ("reward", "cost"):
        own = [(panel, task) for task, panels in report.panels.items() for panel in panels if panel.kind == kind]
        if own:
            raw = {task for panel, task in own if kind == "reward" and not get_task(task).has_reference_returns}
            titles = [f"{task} (return)" if task in raw else task for _, task in own]
            charts = made.curves([panel for panel, _ in own], titles)
            yield f"curves-{kind}", beside(list(charts))
    for task, panels in report.panels.items():
        metrics = [panel for panel in panels if panel.kind == "metric"][:_METRIC_PANELS]
        if metrics:
            yield f"metrics-{file_name(task)}", beside(list(made.curves(metrics, [panel.title for panel in metrics])))
    if report.logged:
        yield "data", beside(list(made.logged()))
