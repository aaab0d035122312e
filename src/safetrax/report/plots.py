"""Figures: the data set as TraC sees it, training curves, and results in the plane of cost and reward.

Every function takes rows or trajectories and writes one file, as PNG, PDF or SVG by the path's ending.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from safetrax.data.segments import DESIRABLE, UNDESIRABLE, UNUSED, label_episodes
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.report.curves import learning_curves
from safetrax.report.style import (
    BLUE,
    FAINT,
    GREY,
    SAFE_SHADE,
    STYLE,
    VERMILION,
    Key,
    check_figure_path,
    distinct,
    make_panels,
    mark_threshold,
    save,
)
from safetrax.words import exact

if TYPE_CHECKING:  # it imports jax, which drawing does without
    from safetrax.evaluation.statistics import Summary

__all__ = ["check_figure_path", "cost_return_scatter", "learning_curves", "results_plane"]


def cost_return_scatter(
    trajectories: Trajectories,
    cost_limits: Sequence[float],
    path: str | Path,
    *,
    top: float = 0.5,
    bottom: float = 0.0,
    floor: float = 0.7,
    before: Trajectories | None = None,
) -> Path:
    """Every episode by cost and return, labelled for each cost limit: Figure 1 of the TraC paper.

    Desirable, undesirable and unused episodes have a colour and a marker each; there is one panel per limit, with the
    safe side shaded (Gong et al., AAAI 2025, arXiv:2412.15429).

    Args:
        trajectories: the data set.
        cost_limits: one panel each.
        path: the figure's file.
        top: share of the safe episodes that is desirable.
        bottom: share of the safe episodes that is undesirable.
        floor: smallest weight; does not change the labels.
        before: the data set before it was filtered, drawn faintly behind: what stays visible was removed or moved.

    Raises:
        ConfigError: no limit is given, or the file's ending is unknown.
        RunError: the file cannot be written.
    """
    if not cost_limits:
        raise ConfigError("the scatter needs at least one cost limit.")
    path = check_figure_path(path)
    rows = -(-len(cost_limits) // 4)
    columns = -(-len(cost_limits) // rows)
    with matplotlib.rc_context(STYLE):
        figure, panels = make_panels(rows, columns, width=max(3.1 * columns, 4.2), height=3.1 * rows, share=True)
        for panel, limit in zip(panels, cost_limits, strict=False):
            _scatter_panel(panel, trajectories, before, limit, top, bottom, floor)
        for panel in panels[len(cost_limits) :]:
            panel.set_visible(False)
        for index, panel in enumerate(panels[: len(cost_limits)]):
            if index + columns >= len(cost_limits):
                panel.set_xlabel("episode cost")
                panel.tick_params(labelbottom=True)
            if index % columns == 0:
                panel.set_ylabel("episode return")
        return save(figure, path)


def _scatter_panel(
    panel: Axes,
    trajectories: Trajectories,
    before: Trajectories | None,
    limit: float,
    top: float,
    bottom: float,
    floor: float,
) -> None:
    labels = label_episodes(trajectories, limit, top=top, bottom=bottom, floor=floor)
    cost, value = trajectories.cost_returns, trajectories.returns
    size = float(np.clip(9000 / max(len(cost), 1), 5, 20))
    kinds: tuple[tuple[int, str, str, dict[str, Any]], ...] = (  # from the back to the front
        (UNUSED, "unused", GREY, {"marker": "s", "s": 0.55 * size, "linewidths": 0, "alpha": 0.9}),
        (UNDESIRABLE, "undesirable", VERMILION, {"marker": "x", "s": size, "linewidths": 0.8, "alpha": 0.75}),
        (DESIRABLE, "desirable", BLUE, {"marker": "o", "s": size, "linewidths": 0.3, "edgecolors": "white"}),
    )
    drawn = [trajectories] if before is None else [trajectories, before]
    span = max(*(float(data.cost_returns.max()) for data in drawn), limit, 1e-9)
    panel.axvspan(-0.05 * span, limit, color=SAFE_SHADE, zorder=0, linewidth=0)
    panel.axvline(limit, color="#333333", linewidth=1.1, linestyle="--", zorder=1)
    handles = []
    if before is not None:
        faint: dict[str, Any] = {"color": FAINT, "marker": "o", "s": 0.55 * size, "linewidths": 0, "zorder": 0.7}
        name = f"before filters ({before.num_episodes})"
        handles.append(panel.scatter(before.cost_returns, before.returns, label=name, **faint))
    for label, name, colour, look in kinds:
        chosen = labels.label == label
        handles.append(
            panel.scatter(cost[chosen], value[chosen], color=colour, label=f"{name} ({chosen.sum()})", **look)
        )
    panel.set_xlim(-0.05 * span, 1.05 * span)
    panel.set_title(f"cost limit {exact(limit)}")
    panel.legend(handles=handles[::-1], loc="best", handletextpad=0.2, borderpad=0.4, markerscale=1.3)


def results_plane(summaries: Sequence[Summary], path: str | Path) -> Path:
    """Normalised cost against normalised reward: good is high, safe is left of the line at 1.

    One marker per algorithm and cost limit, with standard errors; a marker shape is an algorithm, a colour a limit,
    and grey a mean over limits. There is one panel per task.

    Args:
        summaries: of `safetrax.evaluation.statistics`.
        path: the figure's file.

    Raises:
        ConfigError: there are no summaries, or the file's ending is unknown.
        RunError: the file cannot be written.
    """
    path = check_figure_path(path)
    if not summaries:
        raise ConfigError("there are no results to draw.")
    tasks = distinct(summary.task for summary in summaries)
    key = Key(distinct(s.algorithm for s in summaries), [_one_limit(s) for s in summaries])
    rows = -(-len(tasks) // 4)
    columns = -(-len(tasks) // rows)
    with matplotlib.rc_context(STYLE):
        figure, panels = make_panels(rows, columns, width=3.4 * columns + 1.1, height=3.2 * rows, share=False)
        for panel, task in zip(panels, tasks, strict=False):
            for s in (s for s in summaries if s.task == task):
                x, y = s.normalised_cost, s.normalised_return
                look: dict[str, Any] = {"color": key.colour(_one_limit(s)), "marker": key.marker(s.algorithm)}
                look |= {"elinewidth": 1.0, "capsize": 2.0, "markersize": 7, "markeredgecolor": "white"}
                panel.errorbar(x.mean, y.mean, _finite(y.error), _finite(x.error), linestyle="", **look)
            panel.set(title=task, xlabel="normalised cost", ylabel="normalised reward")
            panel.margins(0.12)
            panel.set_xlim(left=min(0.0, panel.get_xlim()[0]))
            mark_threshold(panel, vertical=True)
        for panel in panels[len(tasks) :]:
            panel.set_visible(False)
        figure.legend(handles=key.handles(lines=False), loc="outside right upper")
        return save(figure, path)


def _one_limit(summary: Summary) -> float | None:
    return summary.cost_limits[0] if len(summary.cost_limits) == 1 else None


def _finite(error: float) -> float | None:
    return float(error) if np.isfinite(error) else None
