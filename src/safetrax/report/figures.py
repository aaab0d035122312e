"""The page's figures for print: each as PNG and as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from safetrax.evaluation.aggregates import Aggregate
from safetrax.evaluation.bootstrap import Bounded
from safetrax.report.logged import Logged
from safetrax.report.panels import ALL_LIMITS, Line, Panel
from safetrax.report.style import (
    BLUE,
    PALETTE,
    SAFE_SHADE,
    STYLE,
    VERMILION,
    distinct,
    make_panels,
    mark_threshold,
    save,
)
from safetrax.report.summary import Cell, Group, Report

ENDINGS = (".png", ".svg")
_COLUMNS = 4
_SIDE = 2.5  # inches of a panel
_MOST_COST, _REWARDS = 3.5, (-0.3, 1.7)  # what lies beyond is drawn at the edge
_DASHES = ("-", "--", ":", "-.")
_PLAIN: dict[str, Any] = {"color": "#4D4D4D", "linestyle": "-"}  # of an algorithm that ignores the limit
_BANDS = 6  # lines; with more, bands only cover one another
_METRIC_PANELS = 48  # of a figure; more are too small a picture of too much
_KINDS = {"return": "share of runs with return > τ", "safe return": "share of runs: safe and return > τ"}


def draw_figures(report: Report, folder: Path) -> list[Path]:
    """Write every figure that the report has anything for; their paths.

    Raises:
        RunError: a file cannot be written.
    """
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, figure in _figures(report):
            paths += [save(figure, folder / f"{name}{ending}") for ending in ENDINGS]
    return paths


def _figures(report: Report) -> Iterator[tuple[str, Figure]]:
    yield "reward-cost", _planes(report)
    yield "across-tasks", _intervals(report)
    yield "profiles", _profiles(report)
    for kind in ("reward", "cost"):
        panels = [panel for panel in report.panels if panel.kind == kind]
        if panels:
            yield f"curves-{kind}", _curves(panels, report.algorithms)
    metrics = [panel for panel in report.panels if panel.kind == "metric"]
    for task in distinct(panel.task for panel in metrics):
        own = [panel for panel in metrics if panel.task == task][:_METRIC_PANELS]
        yield f"metrics-{task}", _curves(own, report.algorithms)
    if report.logged:
        yield "data", _data(report.logged)


def _grid(count: int, *, legend: bool, share: bool = False) -> tuple[Figure, list[Axes]]:
    """So many panels, and no others."""
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    height = _SIDE * rows + (0.5 if legend else 0.1)
    figure, panels = make_panels(rows, columns, width=max(_SIDE * columns, 3.6), height=height, share=share)
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def _planes(report: Report) -> Figure:
    """One panel per algorithm, one point per task; as Figure 2 of TraC (arXiv:2412.15429)."""
    costs = [cell.summary.normalised_cost.mean for cell in report.cells]
    rewards = [cell.summary.normalised_return.mean for cell in report.cells]
    right = max(1.5, min(1.06 * max(costs), _MOST_COST))
    bottom = max(min(0.0, *rewards) - 0.04, _REWARDS[0])
    top = min(max(1.0, *rewards) + 0.05, _REWARDS[1])
    figure, panels = _grid(len(report.algorithms), legend=True)
    for panel, algorithm in zip(panels, report.algorithms, strict=True):
        own = [cell for cell in report.cells if cell.algorithm == algorithm]
        panel.set(xlim=(0.0, right), ylim=(bottom, top), title=algorithm)
        mark_threshold(panel, vertical=True)
        for cell in own:
            _point(panel, cell)
    for place, panel in enumerate(panels):
        if place % _COLUMNS == 0:
            panel.set_ylabel("normalised reward")
        if place + _COLUMNS >= len(panels):
            panel.set_xlabel("normalised cost")
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=BLUE, label="safe"),
        Line2D([], [], linestyle="", marker="D", markersize=4.5, color=VERMILION, label="not safe"),
        Line2D([], [], linestyle="", marker=">", markersize=5, color=VERMILION, label="beyond the edge"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _point(panel: Axes, cell: Cell) -> None:
    """A dot with its standard errors, or a triangle at the edge that it lies beyond."""
    right, (bottom, top) = panel.get_xlim()[1], panel.get_ylim()
    cost, reward = cell.summary.normalised_cost, cell.summary.normalised_return
    colour = BLUE if cell.safe else VERMILION
    x, y = min(cost.mean, right), float(np.clip(reward.mean, bottom, top))
    if (x, y) != (cost.mean, reward.mean):
        marker = ">" if x < cost.mean else "^" if y < reward.mean else "v"
        panel.plot(x, y, marker=marker, color=colour, markersize=5, markeredgewidth=0, clip_on=False, zorder=3)
        return
    up, across = (error if np.isfinite(error) else None for error in (reward.error, cost.error))
    look: dict[str, Any] = {
        "marker": "o" if cell.safe else "D",
        "markersize": 5 if cell.safe else 4.2,
    }
    look |= {"markeredgecolor": "white", "markeredgewidth": 0.5, "elinewidth": 0.7, "ecolor": "#888888"}
    panel.errorbar(x, y, up, across, linestyle="", color=colour, zorder=3, **look)


def _intervals(report: Report) -> Figure:
    """Interquartile means and the probability of being safe, a row of panels per group of tasks."""
    columns: tuple[tuple[str, Callable[[Aggregate], Bounded]], ...] = (
        ("IQM of normalised reward", lambda row: row.iqm_return),
        ("IQM of normalised cost", lambda row: row.iqm_cost),
        ("probability of being safe", _safe_runs),
    )
    algorithms = report.algorithms
    height = sum(0.75 + 0.24 * len(group.rows) for group in report.groups) + 0.2
    figure, panels = make_panels(len(report.groups), len(columns), width=8.6, height=max(height, 1.6), share=False)
    for number, group in enumerate(report.groups):
        for place, (title, value) in enumerate(columns):
            panel = panels[number * len(columns) + place]
            _forest(panel, group, value, algorithms)
            panel.set_xlabel(title)
            if place:
                panel.set_yticklabels([])
            else:
                panel.set_title(group.name, loc="left")
            if place == 1:
                panel.axvline(1.0, color="#333333", linewidth=1.1, linestyle="--", zorder=1)
            if place == 2:
                panel.set_xlim(-0.04, 1.04)
    return figure


def _safe_runs(row: Aggregate) -> Bounded:
    return row.safe_runs if row.safe_runs_wilson is None else Bounded(row.safe_runs.value, *row.safe_runs_wilson)


def _forest(panel: Axes, group: Group, value: Callable[[Aggregate], Bounded], algorithms: Sequence[str]) -> None:
    for place, row in enumerate(group.rows):
        found, colour = value(row), _colour(algorithms.index(row.algorithm))
        if np.isfinite(found.low):
            panel.plot([found.low, found.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        panel.plot([found.value], [place], marker="o", color=colour, markersize=4.5, markeredgewidth=0)
    panel.set_yticks(range(len(group.rows)), [row.algorithm for row in group.rows])
    panel.set_ylim(len(group.rows) - 0.4, -0.6)
    panel.xaxis.set_major_locator(MaxNLocator(5))


def _profiles(report: Report) -> Figure:
    kinds = report.profiles.kinds
    columns = min(len(report.algorithms), 6)
    extra = 0.35 + 0.2 * -(-len(report.algorithms) // columns)
    figure, panels = make_panels(1, len(kinds), width=7.2, height=2.9 + extra, share=False)
    for panel, (kind, profiles) in zip(panels, kinds.items(), strict=True):
        for profile in profiles:
            place = report.algorithms.index(profile.algorithm)
            look: dict[str, Any] = {"color": _colour(place)}
            if len(profiles) <= _BANDS:
                panel.fill_between(profile.thresholds, profile.low, profile.high, alpha=0.18, linewidth=0, **look)
            panel.plot(profile.thresholds, profile.share, linestyle=_dashes(place), linewidth=1.5, **look)
        panel.set(xlim=(0.0, 1.2), ylim=(0.0, 1.02), xlabel="normalised return τ", ylabel=_KINDS[kind])
    figure.legend(handles=_algorithm_handles(report.algorithms), loc="outside lower center", ncols=columns)
    return figure


def _curves(panels: Sequence[Panel], algorithms: Sequence[str]) -> Figure:
    by_algorithm = any(panel.by_algorithm for panel in panels)
    figure, places = _grid(len(panels), legend=True)
    labels = distinct(line.label for panel in panels if not panel.by_algorithm for line in panel.lines)
    for place, panel in zip(places, panels, strict=True):
        for line in panel.lines:
            known = algorithms if panel.by_algorithm else labels
            _curve(place, line, known.index(line.label), plain=line.label == ALL_LIMITS)
        place.set_title(panel.title if panel.kind == "metric" else panel.task)
        place.set_xlabel("updates")
        place.xaxis.set_major_formatter(EngFormatter(sep=""))
        place.xaxis.set_major_locator(MaxNLocator(5))
        if panel.kind != "metric":
            place.set_ylabel(panel.title)
        if panel.kind == "cost":
            mark_threshold(place, vertical=False)
    shown = distinct(line.label for panel in panels if panel.by_algorithm for line in panel.lines)
    handles = _algorithm_handles(algorithms, shown) if by_algorithm else []
    for number, label in enumerate(labels):
        look = _PLAIN if label == ALL_LIMITS else {"color": _colour(number), "linestyle": _dashes(number)}
        handles.append(Line2D([], [], label=label, **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
    return figure


def _curve(panel: Axes, line: Line, place: int, *, plain: bool) -> None:
    look: dict[str, Any] = _PLAIN if plain else {"color": _colour(place), "linestyle": _dashes(place)}
    panel.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.18, linewidth=0)
    panel.plot(line.x, line.mean, linewidth=1.4, marker="o" if len(line.x) <= 12 else "", markersize=3, **look)


def _data(logged: Sequence[Logged]) -> Figure:
    figure, panels = _grid(len(logged), legend=False)
    for panel, data in zip(panels, logged, strict=True):
        most = max(float(data.costs.max()), *data.limits, 1.0)
        panel.set_xlim(-0.03 * most, 1.05 * most)
        if data.limits:
            panel.axvspan(-0.03 * most, data.limits[-1], color=SAFE_SHADE, zorder=0, linewidth=0)
        size = 2.0 if len(data.costs) > 800 else 4.5
        panel.scatter(data.costs, data.returns, s=size, color=BLUE, alpha=0.6, linewidths=0, rasterized=True)
        for limit in data.limits:
            panel.axvline(limit, color="#333333", linewidth=0.9, linestyle="--", zorder=1)
        panel.set(title=data.task, xlabel="episode cost", ylabel="episode return")
    return figure


def _algorithm_handles(algorithms: Sequence[str], shown: Iterable[str] | None = None) -> list[Line2D]:
    kept = set(algorithms if shown is None else shown)
    return [
        Line2D([], [], color=_colour(place), linestyle=_dashes(place), label=name)
        for place, name in enumerate(algorithms)
        if name in kept
    ]


def _colour(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def _dashes(place: int) -> Any:
    return _DASHES[(place + place // len(PALETTE)) % len(_DASHES)]
