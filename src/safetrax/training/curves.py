"""Learning curves: few points, a mean and a band over seeds; of one training or of all of a report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from safetrax.catalogue import get_task
from safetrax.charts.drawing import Chart, beside
from safetrax.charts.panels import Curve, Looks, curves, looks
from safetrax.errors import ConfigError
from safetrax.evaluation.scores import SAFE_UP_TO, normalised_cost, normalised_return
from safetrax.evaluation.statistics import Evaluated
from safetrax.run_id import limit_text
from safetrax.training.logs import MetricRow

MOST_POINTS = 150  # of a line
ALL_LIMITS = "all limits"  # the label of an algorithm that ignores the limit
_FEWEST_POINTS = 20
_ALL_POINTS = 24_000  # of all lines together, which bounds the page
_MOST_METRICS = 6  # of a stage
_ALL_PANELS = 320  # which one page holds: with more, of each stage fewer metrics

_Points = dict[str, dict[int, dict[int, list[float]]]]  # label, update, seed


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves that share axes."""

    kind: str  # "reward" and "cost" come from evaluations; "metric" comes from the training's log
    title: str
    stage: str  # of which algorithm's stage the metric is; empty for evaluations
    by_algorithm: bool  # whether the labels are algorithms; else they are cost limits
    lines: tuple[Curve, ...]  # in the order of the legend

    def chart(self, look: Looks | None = None, *, title: str | None = None, key: bool = False) -> Chart:
        """Drawn; `look` is of all labels that the legend has, and their own if None."""
        return curves(
            self.lines,
            looks([line.label for line in self.lines]) if look is None else look,
            x="updates",
            limit=SAFE_UP_TO if self.kind == "cost" else None,
            title=title,
            key=key,
        )


def training_chart(panels: Sequence[Panel]) -> Chart:
    """All panels of one training beside each other, with one legend.

    Raises:
        ConfigError: there are none.
    """
    if not panels:
        raise ConfigError("there is nothing to draw: no metric and no evaluation has two points.")
    look = looks(list(dict.fromkeys(line.label for panel in panels for line in panel.lines)))
    return beside([panel.chart(look, title=panel.title, key=True) for panel in panels])


def evaluation_panels(task: str, history: Sequence[Evaluated], limits: Sequence[float]) -> list[Panel]:
    """Normalised reward (the return, where nothing normalises it) and cost over updates; none of one evaluation only.

    Algorithms that ignore the limit are scored at `limits`.
    """
    steps: dict[str, set[int]] = defaultdict(set)
    for entry in history:
        steps[entry.run.algorithm].add(entry.step)
    if not any(len(found) > 1 for found in steps.values()):
        return []
    found = get_task(task)
    several = len(steps) > 1
    rewards, costs = _points(), _points()
    for entry in history:
        algorithm, _, limit, seed = entry.run
        label = algorithm if several else _limit(limit)
        cost = np.mean([normalised_cost(entry.cost, own) for own in (limits if limit is None else (limit,))])
        reward = normalised_return(entry.return_, found) if found.has_reference_returns else entry.return_
        rewards[label][entry.step][seed].append(float(reward))
        costs[label][entry.step][seed].append(float(cost))
    earned = "normalised reward" if found.has_reference_returns else "return"
    return [
        Panel(kind, title, "", several, _lines(points))
        for kind, title, points in (("reward", earned, rewards), ("cost", "normalised cost", costs))
    ]


def metric_panels(rows: Iterable[MetricRow], losses: Mapping[str, Sequence[str]]) -> list[Panel]:
    """The metrics of trainings over updates: of every stage the losses of its algorithm first, then some others."""
    found: dict[tuple[str, str, str], _Points] = {}
    labels: dict[float | None, str] = {}
    for stage, update, algorithm, limit, seed, metric, value in rows:
        points = found.get((algorithm, stage, metric))
        if points is None:
            points = found[algorithm, stage, metric] = _points()
        label = labels.get(limit) or labels.setdefault(limit, _limit(limit))
        points[label][update][seed].append(value)
    panels = []
    for algorithm, stage, metric in _key_metrics(found, losses):
        title = f"{algorithm}: {metric}" if stage == metric else f"{algorithm}: {stage}, {metric}"
        lines = _lines(found[algorithm, stage, metric])
        if any(len(line.x) > 1 for line in lines):  # one point is no curve
            panels.append(Panel("metric", title, f"{algorithm}: {stage}", False, lines))
    return panels


def within_budget(panels: Mapping[str, Sequence[Panel]]) -> dict[str, list[Panel]]:
    """So few metrics of each stage, and so few points per line, that the panels of all tasks fit into a page.

    Where one metric of each stage is too many, the last tasks have none.
    """
    stages = len({(task, panel.stage) for task, own in panels.items() for panel in own})
    metrics = min(_MOST_METRICS, max(1, _ALL_PANELS // max(stages, 1)))
    kept: dict[str, list[Panel]] = defaultdict(list)
    total = 0
    for task, own in panels.items():
        counts = Counter[str]()
        chosen = []
        for panel in own:
            counts[panel.stage] += panel.kind == "metric"
            if counts[panel.stage] <= metrics:
                chosen.append(panel)
        total += len(chosen)
        kept[task] = [panel for panel in chosen if total <= _ALL_PANELS or panel.kind != "metric"]
    lines = sum(len(panel.lines) for own in kept.values() for panel in own)
    points = min(MOST_POINTS, max(_FEWEST_POINTS, _ALL_POINTS // max(lines, 1)))
    return {
        task: [replace(panel, lines=tuple(_thinned(line, points) for line in panel.lines)) for panel in own]
        for task, own in kept.items()
    }


def _limit(limit: float | None) -> str:
    return ALL_LIMITS if limit is None else limit_text(limit)


def _key_metrics(
    found: Iterable[tuple[str, str, str]], losses: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, str]]:
    """Of every stage what the algorithm calls its losses first, and not more metrics than one looks at."""
    stages: dict[tuple[str, str], list[str]] = defaultdict(list)
    for algorithm, stage, metric in found:
        stages[algorithm, stage].append(metric)
    return [
        (algorithm, stage, metric)
        for (algorithm, stage), metrics in stages.items()
        for metric in sorted(metrics, key=[*losses[algorithm], *metrics].index)[:_MOST_METRICS]
    ]


def _points() -> _Points:
    return defaultdict(lambda: defaultdict(lambda: defaultdict(list)))


def _lines(points: Mapping[str, Mapping[int, Mapping[int, Sequence[float]]]]) -> tuple[Curve, ...]:
    """One line per label; what is not finite is left out."""
    lines = []
    for label in sorted(points, key=_limit_order):
        kept: list[tuple[float, float, float, float]] = []
        for update, seeds in sorted(points[label].items()):
            means = [sum(values) / len(values) for values in seeds.values()]
            finite = [mean for mean in means if math.isfinite(mean)]
            if finite:
                kept.append((float(update), sum(finite) / len(finite), min(finite), max(finite)))
        if kept:
            lines.append(_thinned(Curve(label, *np.array(kept, np.float64).T), MOST_POINTS))
    return tuple(lines)


def _limit_order(label: str) -> float:
    """Limits rise; algorithms keep their order, as sorting is stable."""
    word, _, number = label.partition(" ")
    try:
        return float(number) if word == "limit" else math.inf
    except ValueError:
        return math.inf


def _thinned(line: Curve, most: int) -> Curve:
    """Means over equal stretches, each at its last update; the metrics are means over stretches themselves."""
    if len(line.x) <= most:
        return line
    ends = np.linspace(0, len(line.x), most + 1).astype(np.int64)
    counts = np.diff(ends)
    mean, low, high = (np.add.reduceat(values, ends[:-1]) / counts for values in (line.mean, line.low, line.high))
    return Curve(line.label, line.x[ends[1:] - 1], mean, low, high)
