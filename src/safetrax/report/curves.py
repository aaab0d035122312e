"""Training curves: losses and evaluations over updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from safetrax.catalogue import get_task
from safetrax.errors import ConfigError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.scores import normalised_cost, normalised_return
from safetrax.files import exact
from safetrax.report.style import STYLE, Key, check_figure_path, distinct, make_panels, mark_threshold, save

if TYPE_CHECKING:  # imports jax, which drawing does without
    from safetrax.training.logs import MetricRow

_COLUMNS = 4  # panels beside each other; more are too small to read on a page


def learning_curves(
    metrics: Sequence[MetricRow],
    episodes: Sequence[EpisodeRow],
    path: str | Path,
    *,
    task: str | None,
    cost_limits: Sequence[float] | None = None,
    losses: Collection[str] | None = None,
) -> Path:
    """Losses of every stage, and normalised reward and cost of the evaluations, over updates.

    Lines are means over training seeds, bands reach from the smallest to the largest seed; a colour is a cost limit,
    a dash pattern an algorithm. Evaluations at the end only are points, side by side.

    Args:
        metrics: of one or several trainings.
        episodes: evaluations of the same runs; may be empty.
        path: the figure's file.
        task: gives the reference returns; None: the evaluations are left out.
        cost_limits: where to score algorithms that ignore the limit; None: the task's limits.
        losses: the metrics to draw, for instance `TraC.losses`; None: `loss` and all that end in `_loss`.

    Raises:
        ConfigError: there is nothing to draw, or the file's ending is unknown.
        TaskError: there is no such task.
        RunError: the file cannot be written.
    """
    path = check_figure_path(path)
    rows = [row for row in metrics if _is_loss(row.metric, losses)]
    curves = distinct((row.algorithm, row.stage, row.metric) for row in rows)
    scored = [] if task is None else _scored(episodes, task, cost_limits)
    if not curves and not scored:
        raise ConfigError("there are no losses and no evaluations to draw.")
    algorithms = distinct([row.algorithm for row in rows] + [score.algorithm for score in scored])
    key = Key(algorithms, [row.cost_limit for row in rows] + [score.limit for score in scored])
    with matplotlib.rc_context(STYLE):
        count = len(curves) + 2 * bool(scored)
        high = -(-count // _COLUMNS)
        wide = -(-count // high)
        figure, panels = make_panels(high, wide, width=max(2.9 * wide, 4.0), height=2.5 * high + 0.4, share=False)
        for panel in panels[count:]:
            panel.remove()
        panels = panels[:count]
        for panel, (algorithm, stage, name) in zip(panels, curves, strict=False):
            points = [
                (row.algorithm, row.cost_limit, row.seed, row.update, row.value)
                for row in rows
                if (row.algorithm, row.stage, row.metric) == (algorithm, stage, name)
            ]
            _bands(panel, points, key)
            panel.set_title(f"{algorithm}: {stage}" if len(algorithms) > 1 else f"stage {stage!r}")
            panel.set_ylabel(name.replace("_", " "))
            _count_updates(panel)
        if scored:
            _evaluation_panels(panels[-2], panels[-1], scored, key)
            for panel in panels[-2:]:
                panel.set_title(f"evaluation in {task}")
        figure.legend(handles=key.handles(lines=True), loc="outside lower center", ncols=8)
        return save(figure, path)


def _is_loss(metric: str, losses: Collection[str] | None) -> bool:
    return metric in losses if losses is not None else metric == "loss" or metric.endswith("_loss")


class _Score(NamedTuple):
    """One episode, scored at one limit. `trained_limit` is None where the algorithm ignores the limit."""

    algorithm: str
    limit: float
    trained_limit: float | None
    seed: int
    step: int | None
    reward: float
    cost: float


def _scored(rows: Sequence[EpisodeRow], task: str, cost_limits: Sequence[float] | None) -> list[_Score]:
    """Normalised reward and cost of the episodes in `task`; at every limit where the algorithm ignores it."""
    found = get_task(task)
    scores = []
    for row in rows:
        if row.task == found.name:
            reward = float(normalised_return(row.return_, found))
            own = row.cost_limit
            for limit in [own] if own is not None else cost_limits or found.cost_limits:
                cost = float(normalised_cost(row.cost, limit))
                scores.append(_Score(row.algorithm, float(limit), own, row.seed, row.step, reward, cost))
    return scores


def _evaluation_panels(reward: Axes, cost: Axes, scores: Sequence[_Score], key: Key) -> None:
    """Reward and cost over updates, or side by side where there is one evaluation only."""
    rewards = [(s.algorithm, s.trained_limit, s.seed, s.step, s.reward) for s in scores]
    costs = [(s.algorithm, s.limit, s.seed, s.step, s.cost) for s in scores]
    for panel, points in ((reward, rewards), (cost, costs)):
        if len({point[3] for point in points}) == 1:
            _final_points(panel, [(a, limit, s, value) for a, limit, s, _, value in points], key)
        else:  # an unknown step has no place on the axis
            placed = [(a, limit, s, step, value) for a, limit, s, step, value in points if step is not None]
            _bands(panel, placed, key)
            _count_updates(panel)
    reward.set_ylabel("normalised reward")
    cost.set_ylabel("normalised cost")
    mark_threshold(cost, vertical=False)


def _final_points(panel: Axes, points: Sequence[tuple[str, float | None, int, float]], key: Key) -> None:
    """The mean and every seed of each (algorithm, limit), in a column of its own."""
    groups: dict[tuple[str, float | None], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for algorithm, limit, seed, value in points:
        groups[algorithm, limit][seed].append(value)
    several = len({algorithm for algorithm, _ in groups}) > 1
    names = []
    for column, ((algorithm, limit), seeds) in enumerate(groups.items()):
        means = [float(np.mean(values)) for values in seeds.values()]
        look: dict[str, Any] = {"color": key.colour(limit), "marker": key.marker(algorithm), "linestyle": ""}
        panel.plot(np.full(len(means), column), means, markersize=4, alpha=0.4, markeredgewidth=0, **look)
        panel.plot([column], [np.mean(means)], markersize=8, markeredgecolor="white", **look)
        name = "all" if limit is None else exact(limit)
        names.append(f"{algorithm}\n{name}" if several else name)
    panel.set_xticks(range(len(names)), names)
    panel.set_xlim(-0.6, len(names) - 0.4)
    panel.margins(y=0.2)
    panel.set_xlabel("cost limit")


def _count_updates(panel: Axes) -> None:
    panel.set_xlabel("updates")
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))


def _bands(panel: Axes, points: Iterable[tuple[str, float | None, int, int, float]], key: Key) -> None:
    """One line and band per (algorithm, limit) out of (algorithm, limit, seed, update, value) points."""
    groups: dict[Any, dict[int, dict[int, list[float]]]]
    groups = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for algorithm, limit, seed, update, value in points:
        groups[algorithm, limit][update][seed].append(value if np.isfinite(value) else np.nan)
    for (algorithm, limit), updates in groups.items():
        x = sorted(updates)
        seeds = [[float(np.mean(values)) for values in updates[u].values()] for u in x]
        look: dict[str, Any] = {"color": key.colour(limit), "linestyle": key.dashes(algorithm)}
        few = len(x) <= 12
        panel.plot(x, [np.mean(s) for s in seeds], linewidth=1.4, marker="o" if few else "", markersize=4, **look)
        low, high = [min(s) for s in seeds], [max(s) for s in seeds]
        panel.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
