"""What all figures share: colours, fonts, panels side by side, and the ways out: a file, or SVG inside a page."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import vl_convert

from safetrax.errors import ConfigError
from safetrax.files import atomic_path

if TYPE_CHECKING:  # what a notebook shows
    import altair

# Each colour has a contrast of 3 on white and on the shade; style.css has their names, and their pairs for the dark.
COLOURS = ("#0072b2", "#d55e00", "#008060", "#b0508f", "#937000", "#4d5560", "#c0203f", "#6650c0")
BLUE, VERMILION, GREEN = COLOURS[:3]
INK, SOFT, EDGE, LINE, FAINT = "#1b1f24", "#555d68", "#7a828e", "#d9dde3", "#d6d6d6"
SHADE = 0.1  # of green: the safe side
DASHES: tuple[list[float], ...] = ([1, 0], [7, 3], [2.2, 2.6], [9, 3, 2, 3])
WIDTH, HEIGHT = 212, 161  # of a panel without its axes, in pixels
_NAMES = {colour: f"c{number}" for number, colour in enumerate(COLOURS)}
_NAMES |= {INK: "ink", SOFT: "soft", EDGE: "edge", LINE: "line", "white": "back"}
_ENDINGS = (".png", ".pdf", ".svg")
_DENSITY = 200  # pixels of a PNG per inch
_CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "Helvetica, Arial, Liberation Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "aria": False,
        "domainColor": EDGE,
        "gridColor": LINE,
        "labelColor": SOFT,
        "titleColor": SOFT,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 6,
        "tickCount": 5,
        "ticks": False,
        "labelPadding": 5,
        "labelFlush": False,
    },
    "title": {
        "anchor": "start",
        "frame": "group",
        "fontSize": 12,
        "color": INK,
        "offset": 6,
        "subtitleColor": SOFT,
        "subtitleFontSize": 11,
    },
    "header": {"title": None, "labelFontSize": 12, "labelColor": INK},
    "legend": {"orient": "bottom", "title": None, "labelColor": INK, "labelFontSize": 11, "symbolStrokeWidth": 2},
    "concat": {"spacing": 24},
}

Chart = dict[str, Any]  # a Vega-Lite specification


def dashes(place: int) -> list[float]:
    """Of the algorithm or limit at this place: with its colour, so that neither has to tell alone."""
    return DASHES[(place + place // len(COLOURS)) % len(DASHES)]


def check_figure_path(path: str | Path) -> Path:
    """The path, if its ending names a format that figures can be written in.

    Raises:
        ConfigError: it does not.
    """
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"cannot draw the figure {path}: its name must end in {', '.join(_ENDINGS)}.")
    return path


def beside(panels: Sequence[Chart], columns: int = 4, *, own_legends: bool = False) -> Chart:
    """Panels in rows of equal length; scales are each panel's own, a legend is all panels' or each one's.

    Layers lose their names: of two that share one, Vega draws the last one's marks in both places.
    """
    rows = -(-len(panels) // columns)
    apart = dict.fromkeys(("x", "y", "color", "shape") if own_legends else ("x", "y"), "independent")
    resolve = {"scale": apart, "legend": {name: apart[name] for name in apart.keys() - {"x", "y"}}}
    return {"concat": list(map(_nameless, panels)), "columns": -(-len(panels) // rows), "resolve": resolve}


def _nameless(chart: Chart) -> Chart:
    """Panels that are beside one another already are a chart as well."""
    if "concat" in chart:
        return {**chart, "concat": list(map(_nameless, chart["concat"]))}
    layers = [{key: value for key, value in layer.items() if key != "name"} for layer in chart["layer"]]
    return {**chart, "layer": layers}


def altair_chart(chart: Chart) -> altair.TopLevelMixin:
    """For a notebook, which shows it; its `save` writes PNG, PDF, SVG or HTML."""
    import altair

    return altair.Chart.from_dict({**chart, "config": _CONFIG})


def save(chart: Chart, path: str | Path) -> Path:
    """Write a chart as PNG, PDF or SVG, by the path's ending; the path.

    Raises:
        ConfigError: the ending is another one.
        RunError: the file cannot be written.
    """
    path = check_figure_path(path)
    spec = _spec(chart)
    ending = path.suffix.lower()
    if ending == ".png":
        content = vl_convert.vegalite_to_png(spec, ppi=_DENSITY)
    elif ending == ".pdf":
        content = vl_convert.vegalite_to_pdf(spec)
    else:
        content = vl_convert.vegalite_to_svg(spec).encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


_clips = itertools.count()
_DROPPED = {"aria-roledescription", "font-family", "font-size", "font-weight", "pointer-events", "stroke-miterlimit"}
_DEFAULTS = (("opacity", "1"), ("stroke-width", "1"), ("stroke-dasharray", "1,0"))
_CONTROL = re.compile(r"((?<!\\)(?:\\\\)*)(?:\\(?:u00[01]\w|[bf])|[\ufffe\uffff])")  # as JSON writes it
_PLACE = re.compile(r"translate\((\S+?),(\S+?)\)")


def page_svg(chart: Chart, label: str, size: tuple[int, int] = (270, 205)) -> str:
    """A chart with its axes as SVG of this shape inside a page, with the page's colours and fonts.

    Marks with a `description` have it as `aria-label`; marks of one group without one become a single path.
    """
    chart = {**chart, "width": size[0], "height": size[1], "padding": 4}
    chart["autosize"] = {"type": "fit", "contains": "padding"}
    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(_spec(chart)))
    clips: dict[str, str] = {}
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        if node.tag == "clipPath":
            clips[f"url(#{node.attrib['id']})"] = node.attrib["id"] = f"clip{next(_clips)}"
        for name, value in list(node.attrib.items()):
            if name in _DROPPED or (name, value) in _DEFAULTS or (node.tag == "text" and value == SOFT):
                del node.attrib[name]
            elif name in ("fill", "stroke"):
                node.attrib[name] = f"var(--{_NAMES[value]})" if value in _NAMES else value
            elif name in ("d", "transform", "x2", "y2"):
                node.attrib[name] = re.sub(r"-?\d+\.\d+(e-\d+)?", lambda found: f"{float(found[0]):.1f}", value)
    for node in list(root.iter()):
        node.attrib |= {name: f"url(#{clips[value]})" for name, value in node.attrib.items() if value in clips}
        if "aria-label" not in node.attrib:
            node.attrib.pop("role", None)
        if "readings_marks" in node.get("class", ""):  # style.css hides them
            for mark in node:
                mark.attrib = {name: mark.attrib[name] for name in ("aria-label", "role", "transform", "y2")}
        for child in list(node):
            if child.get("class") in ("background", "foreground") or (child.tag == "rect" and node is root):
                node.remove(child)
        told = any("aria-label" in child.attrib for child in node)
        if len(node) > 1 and not told and node.get("class", "").startswith(("mark-symbol", "mark-rule")):
            _join(node)
    box = root.attrib["viewBox"]
    root.attrib = {"class": "chart", "viewBox": box, "role": "group", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _join(group: ElementTree.Element) -> None:
    """Dots, or lines, of one look as one path: a tenth of the size. Dots are its round ends."""
    moves: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for child in list(group):
        look = {key: child.attrib[key] for key in child.attrib.keys() - {"transform", "x2", "y2", "d", "fill"}}
        if child.tag == "path":
            width = 2 * float(child.attrib["d"].partition(",")[0].lstrip("M"))
            look |= {"stroke": child.attrib["fill"], "stroke-width": f"{width:g}", "stroke-linecap": "round"}
        place = _PLACE.match(child.get("transform", ""))
        if place is not None:
            move = f"M{place[1]} {place[2]}l{child.get('x2', '0')} {child.get('y2', '0')}"
            moves.setdefault(tuple(sorted(look.items())), []).append(move)
        group.remove(child)
    for known, parts in moves.items():
        ElementTree.SubElement(group, "path", {**dict(known), "d": "".join(parts)})


def _spec(chart: Chart) -> str:
    """As JSON text; what is no character of XML, as a file name may have, becomes a question mark."""
    text = json.dumps({**chart, "config": _CONFIG}, ensure_ascii=False, allow_nan=False)
    return _CONTROL.sub(r"\1?", text).encode("utf-8", "replace").decode()
