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

from safetrax.data.segments import DESIRABLE, UNDESIRABLE, UNUSED, Ratio, label_windows
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.files import exact
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

if TYPE_CHECKING:  # it imports jax, which drawing does without
    from safetrax.evaluation.statistics import Summary

_MOST_POINTS = 4000  # of a kind in a panel

__all__ = ["check_figure_path", "cost_return_scatter", "learning_curves", "results_plane"]


def cost_return_scatter(
    trajectories: Trajectories,
    cost_limits: Sequence[float],
    path: str | Path,
    *,
    ratio: Ratio = "whole",
    top: float = 0.5,
    bottom: float = 0.0,
    include_short: bool = False,
    before: Trajectories | None = None,
) -> Path:
    """Every segment by cost and return, labelled for each cost limit: Figure 1 of the TraC paper, for whole episodes.

    Desirable, undesirable and unused segments have a colour and a marker each; there is one panel per limit, with the
    safe side shaded (Gong et al., AAAI 2025, arXiv:2412.15429). The cost of a segment is divided by the share of an
    episode that it is, so that the limit is the episode's. All are counted; of many, some are drawn.

    Args:
        trajectories: the data set.
        cost_limits: one panel each.
        path: the figure's file.
        ratio: length of a segment, see `safetrax.data.segments.label_windows`.
        top: share of the safe segments that is desirable.
        bottom: share of the safe segments that is undesirable.
        include_short: also use episodes shorter than a segment.
        before: the data set before it was filtered, drawn faintly behind: what stays visible was removed or moved.

    Raises:
        ConfigError: no limit is given, or the file's ending is unknown.
        RunError: the file cannot be written.
    """
    if not cost_limits:
        raise ConfigError("the scatter needs at least one cost limit.")
    path = check_figure_path(path)
    shares: dict[str, Any] = {"ratio": ratio, "top": top, "bottom": bottom, "include_short": include_short}
    longest = label_windows(trajectories, 0.0, **shares).length
    kind = "episode" if (trajectories.lengths <= longest).all() else "segment"
    rows = -(-len(cost_limits) // 4)
    columns = -(-len(cost_limits) // rows)
    with matplotlib.rc_context(STYLE):
        figure, panels = make_panels(rows, columns, width=max(3.1 * columns, 4.2), height=3.1 * rows, share=True)
        for panel, limit in zip(panels, cost_limits, strict=False):
            _scatter_panel(panel, trajectories, before, limit, **shares)
        for panel in panels[len(cost_limits) :]:
            panel.set_visible(False)
        for index, panel in enumerate(panels[: len(cost_limits)]):
            if index + columns >= len(cost_limits):
                panel.set_xlabel("episode cost" if kind == "episode" else "cost of a segment, per episode")
                panel.tick_params(labelbottom=True)
            if index % columns == 0:
                panel.set_ylabel(f"{kind} return")
        return save(figure, path)


def _scatter_panel(
    panel: Axes,
    trajectories: Trajectories,
    before: Trajectories | None,
    limit: float,
    **shares: Any,
) -> None:
    windows = label_windows(trajectories, limit, **shares)
    earlier = None if before is None else label_windows(before, limit, **shares)
    size = float(np.clip(9000 / len(windows.cost), 5, 20))
    kinds: tuple[tuple[int, str, str, dict[str, Any]], ...] = (  # from the back to the front
        (UNUSED, "unused", GREY, {"marker": "s", "s": 0.55 * size, "linewidths": 0, "alpha": 0.9}),
        (UNDESIRABLE, "undesirable", VERMILION, {"marker": "x", "s": size, "linewidths": 0.8, "alpha": 0.75}),
        (DESIRABLE, "desirable", BLUE, {"marker": "o", "s": size, "linewidths": 0.3, "edgecolors": "white"}),
    )
    drawn = [windows] if earlier is None else [windows, earlier]
    span = max(*(float(found.cost.max()) for found in drawn), limit, 1e-9)
    panel.axvspan(-0.05 * span, limit, color=SAFE_SHADE, zorder=0, linewidth=0)
    panel.axvline(limit, color="#333333", linewidth=1.1, linestyle="--", zorder=1)
    handles = []
    if earlier is not None:
        faint: dict[str, Any] = {"color": FAINT, "marker": "o", "s": 0.55 * size, "linewidths": 0, "zorder": 0.7}
        x, y = _some(earlier.cost), _some(earlier.value)
        handles.append(panel.scatter(x, y, label=f"before filters ({len(earlier.cost)})", **faint))
    for label, name, colour, look in kinds:
        chosen = windows.labels.label == label
        x, y = _some(windows.cost[chosen]), _some(windows.value[chosen])
        handles.append(panel.scatter(x, y, color=colour, label=f"{name} ({chosen.sum()})", **look))
    panel.set_xlim(-0.05 * span, 1.05 * span)
    panel.set_title(f"cost limit {exact(limit)}")
    panel.legend(handles=handles[::-1], loc="best", handletextpad=0.2, borderpad=0.4, markerscale=1.3)


def _some(values: np.ndarray) -> np.ndarray:
    """Evenly spread over the data set, no more than can be told apart."""
    return values[:: -(-len(values) // _MOST_POINTS) or 1]


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
