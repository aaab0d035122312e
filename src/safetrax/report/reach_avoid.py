"""Pictures of the reach-avoid world: where episodes went, and a learned feasible region beside the true one."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from jaxtyping import Float
from PIL import Image

from safetrax.charts.drawing import BLUE, EDGE, GREEN, INK, VERMILION, Chart, beside, check_figure_path, save
from safetrax.data.trajectories import Trajectories
from safetrax.envs.reach_avoid.world import ReachAvoid
from safetrax.errors import ConfigError

_HAZARD = "#fae3d6"
_SAFE_TO_UNSAFE = (BLUE, "#9cc3de", "#f7f7f7", "#edb48c", VERMILION)
_SIDE = 280  # pixels of a panel
_IN_PIECES = {"detail": {"field": "piece"}, "order": {"field": "step"}}  # lines


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
    panels = []
    for title, data in groups.items():
        ways, starts = _ways(data, most)
        kinds = ["without cost", "in a hazard"]
        faint = float(np.clip(3 / np.sqrt(len(starts)), 0.25, 0.9))  # many lines are fainter
        way = {"type": "line", "strokeWidth": 1, "opacity": faint, "aria": False}
        start = {"type": "point", "filled": True, "size": 7, "color": INK, "opacity": 1, "aria": False}
        colour = {
            "field": "kind",
            "type": "nominal",
            "scale": {"domain": kinds, "range": [BLUE, VERMILION]},
            "legend": {"symbolType": "stroke", "symbolOpacity": 1, "symbolStrokeWidth": 2},
        }
        lines = _layer(world, ways, way, **_IN_PIECES, color=colour)
        layers = [*_arena(world, filled=True), lines, _layer(world, starts, start)]
        panels.append(_panel(layers, f"{title}: mean cost {data.cost_returns.mean():.1f}"))
    return save(beside(panels), path)


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
    low, high = min(float(learned.min()), threshold - 1e-6), max(float(learned.max()), threshold + 1e-6)
    stops = [low, (low + threshold) / 2, threshold, (threshold + high) / 2, high]
    scale = {"domain": stops, "range": list(_SAFE_TO_UNSAFE), "type": "linear"}
    key = {"title": "learned value", "gradientLength": 180, "format": ".3~g", "values": [low, threshold, high]}
    colour = {"field": "value", "type": "quantitative", "scale": scale, "legend": key}
    ends = [{"x": 0.0, "y": 0.0, "value": value} for value in (low, high)]
    unseen = _layer(world, ends, {"type": "point", "opacity": 0, "aria": False}, color=colour)
    pixels = np.stack([np.interp(learned, stops, channel) for channel in _channels(_SAFE_TO_UNSAFE)], axis=-1)
    lost = np.where((margin < 0)[..., None], _channels((_HAZARD,)).T, 255.0)
    true_edge = _contour(axis, margin, 0.0, INK, world, dashed=True)
    own_edge = _contour(axis, learned, threshold, BLUE, world)
    heading = _heading(world, v, theta)
    own = {"text": f"learned: safe up to {threshold:.3g}", "subtitle": "blue: its boundary"}
    true = {"text": f"true: the same for {agreement:.1%}"}
    true["subtitle"] = "dashed: the true boundary; shaded: a hazard is unavoidable"
    left = [_image(pixels), unseen, *_arena(world, filled=False), true_edge, own_edge, *heading]
    right = [_image(lost), *_arena(world, filled=False), true_edge, own_edge, *heading]
    save(beside([_panel(left, own), _panel(right, true)]), path)
    return agreement


def _arena(world: ReachAvoid, *, filled: bool) -> list[Chart]:
    """Hazards and goal."""
    hazards = [{"x": float(x), "y": float(y)} for x, y in world.hazards]
    hazard = {
        "type": "circle",
        "size": _area(world, world.hazard_radius),
        "fill": _HAZARD if filled else "transparent",
        "stroke": VERMILION,
        "opacity": 1,
        "aria": False,
    }
    goal = {"type": "circle", "size": _area(world, world.goal_radius), "color": GREEN, "opacity": 0.55, "aria": False}
    centre = [{"x": float(world.goal[0]), "y": float(world.goal[1])}]
    return [_layer(world, hazards, hazard), _layer(world, centre, goal)]


def _area(world: ReachAvoid, radius: float) -> float:
    """Of a circle on the page."""
    return math.pi * (radius * _SIDE / (2 * world.arena)) ** 2


def _ways(data: Trajectories, most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Points of the lines, in pieces with and without cost, and where they start."""
    chosen = np.unique(np.linspace(0, data.num_episodes - 1, min(most, data.num_episodes)).round().astype(int))
    rows: list[dict[str, Any]] = []
    starts: list[dict[str, Any]] = []
    piece = 0
    for number in chosen.tolist():
        episode = data.episode(number)
        points = episode["observations"][:, :2].astype(np.float64).round(4)
        if "next_observations" in episode:
            points = np.concatenate([points, episode["next_observations"][-1:, :2].astype(np.float64).round(4)])
        paid = episode["costs"][: len(points) - 1] > 0
        cuts = [0, *(np.flatnonzero(np.diff(paid)) + 1), len(paid)]
        for first, end in itertools.pairwise(cuts):
            kind = "in a hazard" if len(paid) and paid[first] else "without cost"
            rows += [
                {"x": x, "y": y, "step": step, "piece": piece, "kind": kind}
                for step, (x, y) in enumerate(points[first : end + 1].tolist())
            ]
            piece += 1
        starts.append({"x": points[0, 0], "y": points[0, 1]})
    return rows, starts


def _contour(
    axis: np.ndarray, values: np.ndarray, level: float, colour: str, world: ReachAvoid, *, dashed: bool = False
) -> Chart:
    """Where the values cross a level; nowhere, perhaps."""
    lines = contourpy.contour_generator(axis, axis, values).lines(level)
    rows = [
        {"x": x, "y": y, "piece": piece, "step": step}
        for piece, line in enumerate(lines)
        for step, (x, y) in enumerate(np.asarray(line).round(4).tolist())
    ]
    mark = {"type": "line", "color": colour, "strokeWidth": 1.4, "aria": False}
    if dashed:
        mark["strokeDash"] = [5, 4]
    return _layer(world, rows, mark, **_IN_PIECES)


def _heading(world: ReachAvoid, v: float, theta: float) -> list[Chart]:
    """An arrow as long as half a second's way, in a corner, and what it means."""
    corner = -0.85 * world.arena
    dx, dy = 0.5 * v * math.cos(theta), 0.5 * v * math.sin(theta)
    x, y = corner - min(dx, 0.0), corner - min(dy, 0.0)
    text = f"v = {v:g} m/s, θ = {math.degrees(theta):.0f}°"
    line = [{"x": x, "y": y}, {"x": x + dx, "y": y + dy}]
    head = {"type": "point", "shape": "triangle", "filled": True, "size": 60, "color": INK, "opacity": 1}
    label = {"type": "text", "align": "left", "baseline": "top", "fontSize": 11, "color": INK}
    where = [{"x": -0.95 * world.arena, "y": 0.95 * world.arena, "text": text}]
    return [
        _layer(world, line, {"type": "line", "color": INK, "aria": False}),
        _layer(world, line[1:], {**head, "angle": 90 - math.degrees(theta), "aria": False}),
        _layer(world, where, label, text={"field": "text"}),
    ]


def _image(pixels: Float[np.ndarray, "n n 3"]) -> Chart:
    """A picture that fills the panel; its first row is the lowest."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[::-1].round().astype(np.uint8)).save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    mark = {"type": "image", "width": _SIDE, "height": _SIDE, "aspect": False, "aria": False}
    middle = {name: {"value": _SIDE / 2} for name in ("x", "y")}
    encoding = {**middle, "url": {"field": "url", "type": "nominal"}}
    return {"data": {"values": [{"url": url}]}, "mark": mark, "encoding": encoding}


def _channels(colours: tuple[str, ...]) -> Float[np.ndarray, "3 K"]:
    """Red, green and blue of some colours."""
    return np.array([[int(colour[i : i + 2], 16) for colour in colours] for i in (1, 3, 5)], np.float64)


def _layer(world: ReachAvoid, rows: list[dict[str, Any]], mark: dict[str, Any], **encoding: Any) -> Chart:
    """Marks in the arena."""
    scale = {"domain": [-world.arena, world.arena], "nice": False}
    axis = {"grid": False, "values": [-2, 0, 2], "zindex": 1}
    places = {
        name: {"field": name, "type": "quantitative", "scale": scale, "axis": axis, "title": f"{name} (m)"}
        for name in ("x", "y")
    }
    return {"data": {"values": rows}, "mark": mark, "encoding": {**places, **encoding}}


def _panel(layers: list[Chart], title: str | dict[str, str]) -> Chart:
    return {"layer": layers, "title": title, "width": _SIDE, "height": _SIDE, "view": {"stroke": EDGE}}
