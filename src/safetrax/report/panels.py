"""Learning curves for the page: few points, a mean and a band over seeds."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from safetrax.catalogue import get_task
from safetrax.evaluation.scores import normalised_cost, normalised_return
from safetrax.run_id import limit_text
from safetrax.runs import Caution, Evaluated, Training
from safetrax.training.logs import COLUMNS

MOST_POINTS = 150  # of a line
ALL_LIMITS = "all limits"  # the label of an algorithm that ignores the limit
_FEWEST_POINTS = 20
_ALL_POINTS = 60_000  # of all lines together, which bounds the page at about one megabyte of them
_MOST_METRICS = 6  # of a stage

_Points = dict[str, dict[int, dict[int, list[float]]]]  # label, update, seed


@dataclass(frozen=True, eq=False)
class Line:
    """One curve.

    Attributes:
        label: the algorithm, or the cost limit where a panel is of one algorithm.
        x: updates, rising.
        mean: over seeds; a seed with several limits counts by their mean.
        low: the smallest seed.
        high: the largest seed.
    """

    label: str
    x: Float[np.ndarray, " K"]
    mean: Float[np.ndarray, " K"]
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves that share axes.

    Attributes:
        task: whose.
        kind: "reward" and "cost" are normalised and come from evaluations; "metric" comes from the training's log.
        title: of the panel.
        by_algorithm: whether the labels are algorithms; else they are cost limits.
        lines: in the order of the legend.
    """

    task: str
    kind: str
    title: str
    by_algorithm: bool
    lines: tuple[Line, ...]


def task_panels(
    task: str, trainings: Sequence[Training], limits: Sequence[float], cautions: list[Caution]
) -> list[Panel]:
    """Reward and cost over updates where there are several evaluations, and the metrics of every training.

    Args:
        task: its name.
        trainings: those for it or evaluated on it.
        limits: where algorithms that ignore the limit are scored.
        cautions: a metrics file that cannot be read is added here.
    """
    history = [entry for training in trainings for entry in training.history if entry.run[1] == task]
    panels = _evaluation_panels(task, history, limits)
    found: dict[tuple[str, str, str], _Points] = {}
    losses: dict[str, tuple[str, ...]] = {}
    for training in trainings:
        file = training.folder / "metrics.csv"
        if task in (training.trained_for, *training.tasks[:1]) and file.is_file():
            try:
                _read_metrics(file, training.label, found)
            except (OSError, ValueError, csv.Error) as error:
                reason = str(error).rstrip(".")
                cautions.append(Caution(f"The metrics in {file} cannot be read ({reason}), and are not shown."))
            losses |= {name: losses.get(name, training.losses) for name, _, _ in found}
    for algorithm, stage, metric in _key_metrics(found, losses):
        title = f"{algorithm}: {metric}" if stage == metric else f"{algorithm}: {stage}, {metric}"
        lines = _lines(found[algorithm, stage, metric])
        if any(len(line.x) > 1 for line in lines):  # one point is no curve
            panels.append(Panel(task, "metric", title, False, lines))
    return panels


def within_budget(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with so few points per line that all of them fit into the page."""
    count = sum(len(panel.lines) for panel in panels)
    most = min(MOST_POINTS, max(_FEWEST_POINTS, _ALL_POINTS // max(count, 1)))
    return [replace(panel, lines=tuple(_thinned(line, most) for line in panel.lines)) for panel in panels]


def _evaluation_panels(task: str, history: Sequence[Evaluated], limits: Sequence[float]) -> list[Panel]:
    algorithms = list(dict.fromkeys(entry.run[0] for entry in history))
    steps: dict[str, set[int]] = defaultdict(set)
    for entry in history:
        steps[entry.run[0]].add(entry.step)
    if not any(len(found) > 1 for found in steps.values()):
        return []
    found = get_task(task)
    several = len(algorithms) > 1
    rewards, costs = _points(), _points()
    for entry in history:
        algorithm, _, limit, seed = entry.run
        label = algorithm if several else ALL_LIMITS if limit is None else limit_text(limit)
        cost = np.mean([normalised_cost(entry.cost, own) for own in (limits if limit is None else (limit,))])
        rewards[label][entry.step][seed].append(float(normalised_return(entry.return_, found)))
        costs[label][entry.step][seed].append(float(cost))
    return [
        Panel(task, kind, f"normalised {kind}", several, _lines(points))
        for kind, points in (("reward", rewards), ("cost", costs))
    ]


def _read_metrics(file: Path, label: str, found: dict[tuple[str, str, str], _Points]) -> None:
    """Add the rows of a metrics file. Millions of them make a suite, so that none becomes an object of its own.

    Raises:
        ValueError: the file has another form; a last line that a crash cut short is left out.
        OSError: it cannot be read.
    """
    text = file.read_text(encoding="utf-8")
    lines = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    if tuple(next(lines, COLUMNS)) != COLUMNS:
        raise ValueError(f"its first line is not {','.join(COLUMNS)}")
    limits = {"": ALL_LIMITS}
    for stage, update, name, limit, seed, metric, value in lines:
        at, run, number = int(update), int(seed), float(value)  # first, or a fault here would leave empty points
        if limit not in limits:
            limits[limit] = limit_text(float(limit))
        algorithm = f"{name} ({label})" if label else name
        points = found.get((algorithm, stage, metric))
        if points is None:
            points = found[algorithm, stage, metric] = _points()
        points[limits[limit]][at][run].append(number)


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


def _lines(points: Mapping[str, Mapping[int, Mapping[int, Sequence[float]]]]) -> tuple[Line, ...]:
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
            lines.append(_thinned(Line(label, *np.array(kept, np.float64).T), MOST_POINTS))
    return tuple(lines)


def _limit_order(label: str) -> float:
    """Limits rise; algorithms keep their order, as sorting is stable."""
    word, _, number = label.partition(" ")
    try:
        return float(number) if word == "limit" else math.inf
    except ValueError:
        return math.inf


def _thinned(line: Line, most: int) -> Line:
    """Means over equal stretches, each at its last update; the metrics are means over stretches themselves."""
    if len(line.x) <= most:
        return line
    ends = np.linspace(0, len(line.x), most + 1).astype(np.int64)
    counts = np.diff(ends)
    mean, low, high = (np.add.reduceat(values, ends[:-1]) / counts for values in (line.mean, line.low, line.high))
    return Line(line.label, line.x[ends[1:] - 1], mean, low, high)
