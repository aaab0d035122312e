"""Panels: the plane of reward and cost, curves with bands, intervals, and episodes or segments by cost and return.

Each is a Vega-Lite specification as plain values: Altair's classes copy and check the data at every step, which takes
most of the time of a page with hundreds of figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from safetrax.charts.drawing import (
    BLUE,
    COLOURS,
    EDGE,
    FAINT,
    GREEN,
    HEIGHT,
    INK,
    SHADE,
    VERMILION,
    WIDTH,
    Chart,
    dashes,
)

Range = tuple[float, float]
Looks = dict[str, tuple[str, list[float]]]  # label: colour, dashes
_FEW = 12  # points of a line that are marked; with more they cover it
_BANDS = 6  # lines of a panel; with more, bands only cover one another
_NAMED = 14  # lines that are told at a place
_CROSS = "M-1,-.7L-.7,-1L0,-.3L.7,-1L1,-.7L.3,0L1,.7L.7,1L0,.3L-.7,1L-1,.7L-.3,0Z"
_SHAPES = ("circle", "diamond", "square", "cross", "triangle")
_TOLD = {name: {"field": "text", "type": "nominal"} for name in ("description", "tooltip")}
_MOST_POINTS = 4000  # of a kind in a panel


@dataclass(frozen=True)
class Mark:
    """A result in the plane of normalised cost and reward; errors are NaN where unknown."""

    cost: float
    reward: float
    cost_error: float
    reward_error: float
    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Curve:
    """A line with a band.

    Attributes:
        label: in the legend.
        x: rising.
        mean: the line.
        low: lower end of the band.
        high: upper end.
    """

    label: str
    x: Float[np.ndarray, " K"]
    mean: Float[np.ndarray, " K"]
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]


def looks(labels: Sequence[str]) -> Looks:
    """A colour and dashes for each label."""
    return {label: (COLOURS[place % len(COLOURS)], dashes(place)) for place, label in enumerate(labels)}


def padded(low: float, high: float, share: float = 0.06) -> Range:
    """A range with some room at both ends."""
    size = (high - low) * share or abs(low) * 0.1 or 0.5
    return low - size, high + size


def plane_range(marks: Iterable[Mark], most: float = 3.5, *, raw: bool = False) -> tuple[Range, Range]:
    """Of cost and of reward (`raw`: return), so that panels can be compared; what lies beyond is at the edge."""
    marks = list(marks)
    costs, rewards = [mark.cost for mark in marks], [mark.reward for mark in marks]
    right = max(1.5, min(1.06 * max(costs), most))
    if raw:
        return (0.0, right), padded(min(rewards), max(rewards), 0.2)
    return (0.0, right), (max(min(0.0, *rewards) - 0.04, -0.3), min(max(1.0, *rewards) + 0.05, 1.7))


def plane(
    marks: Sequence[Mark],
    cost: Range,
    reward: Range,
    *,
    kinds: Sequence[str] = ("safe", "not safe"),
    title: str | None = None,
    key: bool = False,
    raw: bool = False,
) -> Chart:
    """Normalised cost against normalised reward with standard errors, as Figure 2 of TraC (arXiv:2412.15429).

    Good is high, safe is left of the line at 1. Marks beyond a range are triangles at the edge.

    Args:
        marks: one each.
        cost: range of the axis.
        reward: range of the axis.
        kinds: of the marks, in the order of the legend.
        title: of the panel.
        key: whether there is a legend.
        raw: whether the rewards are returns that nothing normalises.
    """
    rows: list[dict[str, Any]] = []
    across: list[dict[str, float]] = []
    up: list[dict[str, float]] = []
    for mark in marks:
        x, y = min(mark.cost, cost[1]), min(max(mark.reward, reward[0]), reward[1])
        inside = (x, y) == (mark.cost, mark.reward)
        edge = "beyond-right" if x < mark.cost else "beyond-top" if y < mark.reward else "beyond-bottom"
        rows.append({"x": x, "y": y, "kind": mark.kind, "shape": mark.kind if inside else edge, "text": mark.text})
        if inside and math.isfinite(mark.cost_error):
            low, high = max(x - mark.cost_error, cost[0]), min(x + mark.cost_error, cost[1])
            across.append({"x": low, "x2": high, "y": y})
        if inside and math.isfinite(mark.reward_error):
            low, high = max(y - mark.reward_error, reward[0]), min(y + mark.reward_error, reward[1])
            up.append({"x": x, "y": low, "y2": high})
    shapes = [_SHAPES[place % len(_SHAPES)] for place in range(len(kinds))]
    edges = {"beyond-right": "triangle-right", "beyond-top": "triangle-up", "beyond-bottom": "triangle-down"}
    place = _axes(_axis(cost, "normalised cost"), _axis(reward, "return" if raw else "normalised reward"))
    whisker = {"type": "rule", "color": EDGE, "opacity": 0.75, "aria": False}
    points = _layer(
        rows,
        {"type": "point", "filled": True, "size": 62, "stroke": "white", "strokeWidth": 0.8, "opacity": 1},
        **place("x", "y"),
        color=_kind("kind", kinds, COLOURS, key),
        shape=_kind("shape", [*kinds, *edges], [*shapes, *edges.values()], key=False),
        **_TOLD,
    )
    return _layered(
        [
            _shade(x=(cost[0], min(1.0, cost[1]))),
            _rule(x=1.0),
            _layer(across, whisker, **place("x", "y"), x2={"field": "x2"}),
            _layer(up, whisker, **place("x", "y"), y2={"field": "y2"}),
            {**points, "name": "points"},
        ],
        title,
    )


def curves(
    lines: Sequence[Curve],
    look: Looks,
    *,
    x: str,
    y: str | None = None,
    x_range: Range | None = None,
    y_range: Range | None = None,
    limit: float | None = None,
    counted: bool = True,
    title: str | None = None,
    key: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Chart:
    """Lines with bands, and at every place of x a mark that tells all values there.

    Args:
        lines: one each.
        look: from `looks`, of all labels that the legend has.
        x: what the axis is.
        y: what the axis is.
        x_range: from 0 to the last place, if None.
        y_range: so that everything fits, if None.
        limit: a horizontal line, shaded below.
        counted: whether x counts something, so that thousands are written as k.
        title: of the panel.
        key: whether there is a legend.
        size: of the panel, in pixels.
    """
    rows = [
        {"label": line.label, "x": at, "y": mean, "low": low, "high": high}
        for line in lines
        for at, mean, low, high in zip(
            *(_short(values, 7) for values in (line.x, line.mean, line.low, line.high)), strict=True
        )
    ]
    values = [value for row in rows for name in ("y", "low", "high") if (value := row[name]) is not None]
    low, high = min(values), max(values)
    if limit is not None:
        low, high = min(low, 0.0), max(high, 1.2 * limit)
    x_range = x_range or (0.0, max(row["x"] for row in rows) or 1.0)
    y_range = y_range or ((0.0, 1.05 * high) if limit is not None and low >= 0 else padded(low, high))
    place = _axes(_axis(x_range, x, counted=counted), _axis(y_range, y))
    key_look = {"symbolType": "stroke", "symbolOpacity": 1, "columns": 6}
    both = {
        "color": _kind("label", list(look), [colour for colour, _ in look.values()], key, **key_look),
        "description": {"field": "label", "type": "nominal"},
    }
    dash = _kind("label", list(look), [pattern for _, pattern in look.values()], key, **key_look)
    layers = []
    if limit is not None and limit <= y_range[1]:
        layers += [_shade(y=(y_range[0], limit)), _rule(y=limit)]
    if len(lines) <= _BANDS and any(row["low"] != row["high"] for row in rows):
        band = {"type": "area", "opacity": 0.16, "clip": True}
        layers.append(_layer(rows, band, **place("x", "low"), y2={"field": "high"}, **both))
    line = {"type": "line", "strokeWidth": 1.8, "clip": True}
    layers.append(_layer(rows, line, **place("x", "y"), strokeDash=dash, **both))
    if max(len(line.x) for line in lines) <= _FEW:
        point = {"type": "point", "filled": True, "size": 26, "opacity": 1}
        layers.append(_layer(rows, point, **place("x", "y"), **both))
    told = [{"x": at, "text": text} for at, text in _readings(lines, x)]
    reading = {"type": "rule", "opacity": 0, "strokeWidth": max(2.0, size[0] / len(told)), "color": EDGE}
    layers.append({**_layer(told, reading, **place("x"), **_TOLD), "name": "readings"})
    return _layered(layers, title, *size)


def _readings(lines: Sequence[Curve], x: str) -> Iterable[tuple[float, str]]:
    """At every place, what each line is there or at the nearest place that it has."""
    for at in sorted({float(value) for line in lines for value in line.x}):
        near = [(line, int(np.abs(line.x - at).argmin())) for line in lines[:_NAMED]]
        told = [f"{line.label} {line.mean[place]:.3g}" for line, place in near]
        more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        yield at, "\n".join([f"{x} {at:,.6g}", *told, *more])


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    look: Looks,
    *,
    x: str,
    x_range: Range | None = None,
    limit: float | None = None,
    title: str | None = None,
    names: bool = True,
) -> Chart:
    """Values with intervals, one below the other.

    Args:
        rows: label, value, low, high; NaN where there is no interval.
        look: from `looks`.
        x: what the axis is.
        x_range: so that everything fits, if None.
        limit: a vertical line.
        title: of the panel.
        names: whether the labels are written.
    """
    values = [
        {"label": label, "x": value}
        | {"text": f"{label}\n{x} {value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if math.isfinite(low) else "")}
        for label, value, low, high in rows
    ]
    spans = [{"label": label, "x": low, "x2": high} for label, _, low, high in rows if math.isfinite(low)]
    ends = [number for row in rows for number in row[1:] if math.isfinite(number)] + (
        [] if limit is None else [limit]
    )
    place = _axes(_axis(x_range or padded(min(ends), max(ends)), x), {})
    y = {
        "field": "label",
        "type": "nominal",
        "scale": {"domain": [label for label, *_ in rows]},
        "title": None,
        "axis": {"labels": names, "grid": False, "domain": False, "labelColor": INK},
    }
    colour = _kind("label", list(look), [colour for colour, _ in look.values()], key=False)
    bar = {"type": "rule", "strokeWidth": 2.4, "aria": False}
    dot = {"type": "point", "filled": True, "size": 52, "opacity": 1}
    layers = [
        *([] if limit is None else [_rule(x=limit)]),
        _layer(spans, bar, **place("x"), x2={"field": "x2"}, y=y, color=colour),
        {**_layer(values, dot, **place("x"), y=y, color=colour, **_TOLD), "name": "points"},
    ]
    return _layered(layers, title, WIDTH, 22 * len(rows) + 8)


def episodes(
    costs: Float[np.ndarray, " n"],
    returns: Float[np.ndarray, " n"],
    limits: Sequence[float],
    title: str | None = None,
) -> Chart:
    """Episodes by cost and return; the side within the largest limit is shaded."""
    most = max(float(costs.max()), *limits, 1.0)
    x = _axis((-0.03 * most, 1.05 * most), "episode cost")
    y = _axis(padded(float(returns.min()), float(returns.max())), "episode return")
    rows = [{"x": cost, "y": value} for cost, value in zip(_short(costs), _short(returns), strict=True)]
    size = 6 if len(rows) > 800 else 11
    dot = {"type": "point", "filled": True, "size": size, "color": BLUE, "opacity": 0.5, "aria": False}
    return _layered(
        [
            *([_shade(x=(-0.03 * most, limits[-1]))] if limits else []),
            _layer(rows, dot, **_axes(x, y)("x", "y")),
            *(_rule(x=limit) for limit in limits),
        ],
        title,
    )


def segments(
    cost: Float[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
    kind: Int[np.ndarray, " n"],
    limit: float,
    *,
    kinds: dict[int, str],
    earlier: tuple[np.ndarray, np.ndarray] | None = None,
    behind: str = "before filters",
    unit: str,
    title: str | None = None,
) -> Chart:
    """Segments by cost and return, each kind with a colour and a shape; Figure 1 of TraC (arXiv:2412.15429).

    Args:
        cost: of each segment.
        value: its return.
        kind: a key of `kinds`.
        limit: a vertical line, shaded to its left.
        kinds: names, from the front to the back: desirable, undesirable, unused.
        earlier: costs and returns that are drawn faintly behind.
        behind: what these are.
        unit: what a point is: "episode" or "segment".
        title: of the panel.
    """
    groups = [
        (f"{name} ({(kind == key).sum():,})", cost[kind == key], value[kind == key]) for key, name in kinds.items()
    ]
    if earlier is not None:
        groups.append((f"{behind} ({len(earlier[0]):,})", *earlier))
    rows = [
        {"x": at, "y": up, "kind": name}
        for name, *columns in reversed(groups)
        for at, up in zip(*(_short(_some(values)) for values in columns), strict=True)
    ]
    span = max(*(float(values.max()) for _, values, _ in groups if len(values)), limit, 1e-9)
    ends = [float(number) for _, _, values in groups if len(values) for number in (values.min(), values.max())]
    x = _axis((-0.05 * span, 1.05 * span), f"{unit} cost" if unit == "episode" else f"cost of a {unit}, per episode")
    y = _axis(padded(min(ends), max(ends)), f"{unit} return")
    names = [name for name, *_ in groups]
    key = {"columns": 2, "symbolSize": 50, "symbolOpacity": 1}
    size = float(np.clip(9_000 / len(cost), 6, 26))
    dots = _layer(
        rows,
        {"type": "point", "filled": True, "size": size, "opacity": 0.8, "aria": False},
        **_axes(x, y)("x", "y"),
        color=_kind("kind", names, [BLUE, VERMILION, "#9a9a9a", FAINT], key=True, **key),
        shape=_kind("kind", names, ["circle", _CROSS, "square", "circle"], key=True, **key),
    )
    return _layered([_shade(x=(-0.05 * span, limit)), dots, _rule(x=limit)], title, 250, 220)


def _some(values: np.ndarray) -> np.ndarray:
    """Evenly spread over the data set, no more than can be told apart."""
    return values[:: -(-len(values) // _MOST_POINTS) or 1]


def _short(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Numbers for JSON, as exact as can be seen; None for what is not finite."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values.tolist()]


def _axis(domain: Range, title: str | None, *, counted: bool = False) -> Chart:
    scale = {"domain": list(domain), "nice": False, "zero": False}
    labels = {"labelExpr": "format(datum.value, '~s')"} if counted else {}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": {"grid": True, **labels}}


def _axes(x: Chart, y: Chart) -> Callable[..., Chart]:
    """From names of fields to encodings with these axes."""
    return lambda *fields: {
        name: {"field": field, **axis} for name, field, axis in zip("xy", fields, (x, y), strict=False)
    }


def _kind(field: str, domain: Sequence[str], range_: Sequence[Any], key: bool, **look: Any) -> Chart:
    """A nominal scale; a legend if there is to be one."""
    scale = {"domain": list(domain), "range": list(range_)[: len(domain)]}
    return {"field": field, "type": "nominal", "scale": scale, "legend": look if key else None}


def _layer(rows: Sequence[Mapping[str, Any]], mark: Chart, **encoding: Any) -> Chart:
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def _shade(*, x: Range | None = None, y: Range | None = None) -> Chart:
    """The safe side."""
    ends = {name: {"datum": value} for name, value in zip(("x", "x2"), x or (), strict=False)}
    ends |= {name: {"datum": value} for name, value in zip(("y", "y2"), y or (), strict=False)}
    return _layer([{}], {"type": "rect", "color": GREEN, "opacity": SHADE, "aria": False, "clip": True}, **ends)


def _rule(**place: float) -> Chart:
    """The line at a limit."""
    mark = {"type": "rule", "color": INK, "strokeDash": [5, 4], "strokeWidth": 1.1, "aria": False, "clip": True}
    return _layer([{}], mark, **{name: {"datum": value} for name, value in place.items()})


def _layered(layers: Sequence[Chart], title: str | None, width: int = WIDTH, height: int = HEIGHT) -> Chart:
    return {"layer": layers, "width": width, "height": height, **({"title": title} if title else {})}
