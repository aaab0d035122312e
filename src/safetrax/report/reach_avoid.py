"""Pictures of the reach-avoid world: where episodes went, and a learned feasible region beside the true one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrow, Patch

from safetrax.data.trajectories import Trajectories
from safetrax.envs.reach_avoid.world import ReachAvoid
from safetrax.errors import ConfigError
from safetrax.report.style import BLUE, GREEN, STYLE, VERMILION, check_figure_path, make_panels, save

_HAZARD, _INK, _LOST = "#FAE3D6", "#333333", "#FAE3D6"
_SAFE_TO_UNSAFE = LinearSegmentedColormap.from_list(
    "safe to unsafe", [BLUE, "#9CC3DE", "#F7F7F7", "#EDB48C", VERMILION]
)
_SIDE = 2.9  # inches of a panel


def trajectory_map(
    groups: Mapping[str, Trajectories], path: str | Path, *, world: ReachAvoid | None = None, most: int = 150
) -> Path:
    """Episodes over the hazards, one panel per group; steps that cost something stand out.

    Args:
        groups: by title: data sets of the world, or what `safetrax.envs.reach_avoid.dataset.drive` gives.
        path: the figure's file.
        world: whose hazards are drawn; None: the default one.
        most: episodes drawn per panel, evenly spread over the group's.

    Raises:
        ConfigError: there is no group, or the file's ending is unknown.
        RunError: the file cannot be written.
    """
    if not groups:
        raise ConfigError("there are no episodes to draw.")
    world, path = world or ReachAvoid(), check_figure_path(path)
    rows = -(-len(groups) // 4)
    columns = -(-len(groups) // rows)
    with matplotlib.rc_context(STYLE):
        figure, panels = make_panels(
            rows,
            columns,
            width=_SIDE * columns + 0.4,
            height=_SIDE * rows + (0.95 if columns == 1 else 0.75),
            share=True,
        )
        for panel, (title, data) in zip(panels, groups.items(), strict=False):
            _arena(panel, world)
            _lines(panel, data, most)
            panel.set_title(f"{title}: mean cost {data.cost_returns.mean():.1f}")
        _label(panels, len(groups), columns)
        lines = (("without cost", BLUE), ("in a hazard", VERMILION))
        handles: list[Any] = [Line2D([], [], color=colour, label=name) for name, colour in lines]
        handles.append(Line2D([], [], color=_INK, marker="o", markersize=3, linestyle="", label="start"))
        handles.append(Patch(facecolor=_HAZARD, edgecolor=VERMILION, label="hazard"))
        handles.append(Patch(facecolor=GREEN, alpha=0.55, label="goal"))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3 * columns))
        return save(figure, path)


def feasible_region(
    value: Callable[[Float[np.ndarray, "n O"]], Any],
    path: str | Path,
    *,
    v: float,
    theta: float,
    threshold: float = 0.0,
    world: ReachAvoid | None = None,
    cells: int = 161,
) -> float:
    """A learned feasible region over the positions at one speed and heading, beside the true one.

    Args:
        value: one number per observation, float32 `(n, O)`, which is safe if at most `threshold`.
        path: the figure's file.
        v: speed in m/s.
        theta: heading in radians.
        threshold: see `value`.
        world: None: the default one.
        cells: positions along each axis.

    Returns:
        The share of the positions on which the two regions agree.

    Raises:
        ConfigError: `value` gives something else than one number per observation, `cells` is below 2, or the file's
            ending is unknown.
        RunError: the file cannot be written.
    """
    world, path = world or ReachAvoid(), check_figure_path(path)
    if cells < 2:
        raise ConfigError(f"cells is {cells}, but must be at least 2.")
    axis = np.linspace(-world.arena, world.arena, cells, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    states = np.stack([x, y, np.full_like(x, v), np.full_like(x, theta)], axis=-1)
    observations = world.observe(states.reshape(-1, 4))
    learned = np.asarray(value(observations), np.float64)
    if learned.shape not in ((len(observations),), (len(observations), 1)):
        raise ConfigError(
            f"the value function gave the shape {learned.shape} for {len(observations)} observations; "
            "it must give one number for each."
        )
    learned = learned.reshape(x.shape)
    from safetrax.envs.reach_avoid import feasible_region  # late: with JAX

    margin = np.asarray(feasible_region.margin(world, states))
    agreement = float(((learned <= threshold) == (margin >= 0)).mean())
    with matplotlib.rc_context(STYLE):
        figure, panels = make_panels(1, 2, width=2 * _SIDE + 1.2, height=_SIDE + 0.75, share=True)
        for panel in panels:
            _arena(panel, world, filled=False)
            _heading(panel, world, v, theta)
        shades = panels[0].pcolormesh(
            axis, axis, learned, cmap=_SAFE_TO_UNSAFE, norm=_norm(learned, threshold), zorder=0, rasterized=True
        )
        figure.colorbar(shades, ax=panels[0], shrink=0.9, label="learned value")
        panels[0].set_title(f"learned: safe up to {threshold:.3g}")
        panels[1].contourf(axis, axis, margin, [-np.inf, 0.0], colors=[_LOST], zorder=0)
        panels[1].set_title(f"true: the same for {agreement:.1%}")
        _label(panels, 2, 2)
        for panel in panels:
            panel.contour(axis, axis, margin, [0.0], colors=_INK, linewidths=1.2, linestyles="--")
            if learned.min() <= threshold < learned.max():
                panel.contour(axis, axis, learned, [threshold], colors=BLUE, linewidths=1.4)
        handles: list[Any] = [
            Line2D([], [], color=BLUE, linewidth=1.4, label="learned boundary"),
            Line2D([], [], color=_INK, linewidth=1.2, linestyle="--", label="true boundary"),
            Patch(facecolor=_LOST, edgecolor=_INK, linewidth=0.5, label="a hazard is unavoidable"),
            Patch(facecolor="none", edgecolor=VERMILION, label="hazard"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        save(figure, path)
    return agreement


def _arena(panel: Axes, world: ReachAvoid, *, filled: bool = True) -> None:
    """Hazards, goal and limits."""
    for centre in world.hazards:
        panel.add_patch(
            Circle(centre, world.hazard_radius, facecolor=_HAZARD if filled else "none", zorder=1, linewidth=0)
        )
        panel.add_patch(Circle(centre, world.hazard_radius, fill=False, edgecolor=VERMILION, linewidth=1.0, zorder=3))
    panel.add_patch(Circle(world.goal, world.goal_radius, facecolor=GREEN, alpha=0.55, linewidth=0, zorder=1))
    panel.set(xlim=(-world.arena, world.arena), ylim=(-world.arena, world.arena), aspect="equal")
    panel.set_xticks(np.arange(-2, 3, 2), minor=False)
    panel.set_yticks(np.arange(-2, 3, 2), minor=False)
    panel.grid(visible=False)
    for side in ("top", "right"):
        panel.spines[side].set_visible(True)  # the arena ends there


def _lines(panel: Axes, data: Trajectories, most: int) -> None:
    chosen = np.unique(np.linspace(0, data.num_episodes - 1, min(most, data.num_episodes)).round().astype(int))
    free: list[np.ndarray] = []
    costly: list[np.ndarray] = []
    for number in chosen.tolist():
        episode = data.episode(number)
        points = episode["observations"][:, :2]
        if "next_observations" in episode:
            points = np.concatenate([points, episode["next_observations"][-1:, :2]])
        segments = np.stack([points[:-1], points[1:]], axis=1)
        paid = episode["costs"][: len(segments)] > 0
        free += list(segments[~paid])
        costly += list(segments[paid])
        panel.plot(*points[0], color=_INK, marker="o", markersize=1.5, markeredgewidth=0, linestyle="", zorder=4)
    alpha = float(np.clip(3 / np.sqrt(len(chosen)), 0.25, 0.9))  # many lines are fainter
    panel.add_collection(LineCollection(free, colors=BLUE, linewidths=0.9, alpha=alpha, zorder=2))
    panel.add_collection(
        LineCollection(costly, colors=VERMILION, linewidths=0.9, alpha=2 * alpha / (1 + alpha), zorder=2)
    )


def _heading(panel: Axes, world: ReachAvoid, v: float, theta: float) -> None:
    """An arrow as long as half a second's way, in a corner."""
    corner = -0.85 * world.arena
    dx, dy = 0.5 * v * np.cos(theta), 0.5 * v * np.sin(theta)
    start = (corner - min(dx, 0.0), corner - min(dy, 0.0))
    panel.add_patch(
        FancyArrow(*start, dx, dy, width=0.03, head_width=0.2, length_includes_head=True, color=_INK, zorder=5)
    )
    panel.text(
        0.03, 0.97, f"v = {v:g} m/s, θ = {np.degrees(theta):.0f}°", transform=panel.transAxes, va="top", fontsize=8,
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}, zorder=6,
    )  # fmt: skip


def _norm(values: Float[np.ndarray, "n n"], threshold: float) -> TwoSlopeNorm:
    """White at the threshold, full colours at the extremes."""
    low, high = (float(extreme(values)) for extreme in (np.nanmin, np.nanmax))
    return TwoSlopeNorm(threshold, min(low, threshold - 1e-6), max(high, threshold + 1e-6))


def _label(panels: list[Axes], used: int, columns: int) -> None:
    for panel in panels[used:]:
        panel.set_visible(False)
    for index, panel in enumerate(panels[:used]):
        if index + columns >= used:
            panel.set_xlabel("x (m)")
            panel.tick_params(labelbottom=True)
        if index % columns == 0:
            panel.set_ylabel("y (m)")
