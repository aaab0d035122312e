"""What all figures share: colours, sizes, file formats, and the meaning of colours and markers.

Figures are made without pyplot, so nothing is shown and no global state changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from safetrax.errors import ConfigError
from safetrax.files import atomic_path, exact

# Okabe and Ito's colours (2008), told apart with any kind of colour vision, in an order of falling contrast.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
GREY = "#9A9A9A"
FAINT = "#D6D6D6"
SAFE_SHADE = "#EAF4EE"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", ":", "-.")
STYLE: Any = {  # matplotlib's stubs differ in the type of such a dictionary
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": True,
    "legend.framealpha": 0.92,
    "legend.edgecolor": "#CCCCCC",
    "legend.fancybox": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
}
_FORMATS = (".png", ".pdf", ".svg")


def check_figure_path(path: str | Path) -> Path:
    """The path, if its ending names a format that figures can be written in.

    Raises:
        ConfigError: it does not.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"cannot draw the figure {path}: its name must end in {', '.join(_FORMATS)}.")
    return path


class Key:
    """Which colour is which limit, and which marker and dash pattern which algorithm."""

    def __init__(self, algorithms: Sequence[str], limits: Sequence[float | None]) -> None:
        self._algorithms = list(algorithms)
        self._limits = sorted({limit for limit in limits if limit is not None})
        self._without = any(limit is None for limit in limits)

    def colour(self, limit: float | None) -> str:
        """Of a limit; None is for an algorithm that ignores it, or a mean over limits."""
        return "#4D4D4D" if limit is None else PALETTE[self._limits.index(limit) % len(PALETTE)]

    def marker(self, algorithm: str) -> str:
        """Of an algorithm."""
        return _MARKERS[self._algorithms.index(algorithm) % len(_MARKERS)]

    def dashes(self, algorithm: str) -> str:
        """Of an algorithm's lines."""
        return _DASHES[self._algorithms.index(algorithm) % len(_DASHES)]

    def handles(self, *, lines: bool) -> list[Line2D]:
        """Legend entries: limits by colour, then algorithms by dash pattern or marker, in black."""
        limits = [(f"limit {exact(limit)}", self.colour(limit)) for limit in self._limits]
        limits += [("all limits", self.colour(None))] if self._without else []
        handles = [
            Line2D([], [], color=c, label=name, linestyle="-" if lines else "", marker="" if lines else "o")
            for name, c in limits
        ]
        if len(self._algorithms) > 1 or not lines:
            for name in self._algorithms:
                look: dict[str, Any] = (
                    {"linestyle": self.dashes(name)} if lines else {"linestyle": "", "marker": self.marker(name)}
                )
                handles.append(Line2D([], [], color="black", label=name, **look))
        return handles


def mark_threshold(panel: Axes, *, vertical: bool) -> None:
    """The line at the limit, and a shade on its safe side."""
    low, high = panel.get_xlim() if vertical else panel.get_ylim()
    low, high = min(low, 0.0), max(high, 1.15)
    line, span = (panel.axvline, panel.axvspan) if vertical else (panel.axhline, panel.axhspan)
    span(low, 1.0, color=SAFE_SHADE, zorder=0, linewidth=0)
    line(1.0, color="#333333", linewidth=1.1, linestyle="--", zorder=1)
    (panel.set_xlim if vertical else panel.set_ylim)(low, high)


def make_panels(rows: int, columns: int, *, width: float, height: float, share: bool) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of axes that neither overlap nor crowd each other."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.03))
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    return figure, list(grid.flat)


def save(figure: Figure, path: Path) -> Path:
    """Write the figure in the format that the path's ending names; returns the path."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower()[1:])
    return path


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order of first appearance."""
    return list(dict.fromkeys(values))
