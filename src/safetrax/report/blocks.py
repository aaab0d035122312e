"""The page's figures as HTML; every text in it is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from safetrax.charts.drawing import COLOURS, DASHES, Chart, page_svg
from safetrax.files import exact
from safetrax.report.certified import table
from safetrax.report.figures import Figures
from safetrax.report.logged import Logged
from safetrax.report.summary import Report
from safetrax.training.curves import Panel

_WIDE = (480, 290)
_PROFILES = {"return": "Normalised return", "safe return": "Normalised return, safe runs only"}


def blocks(report: Report) -> dict[str, str]:
    """HTML for the places of the template."""
    made = Figures(report)
    names = report.algorithms
    compared = {
        line.label for own in report.panels.values() for panel in own if panel.by_algorithm for line in panel.lines
    }
    return {
        "certified": table(report.certified),
        "planes": "".join(_planes(made)),
        "groups": "".join(_groups(made)),
        "profiles": "".join(
            _figure(chart, f"{_PROFILES[kind]} of runs", f"<b>{_PROFILES[kind]}</b>", kind="compares", size=_WIDE)
            for kind, chart in made.profiles()
        ),
        "profile_legend": _legend(names, [p.algorithm for p in report.profiles.kinds.get("return", ())]),
        "curves": "".join(
            _curves(made, task, panels, first=number == 0)
            for number, (task, panels) in enumerate((task, own) for task, own in report.panels.items() if own)
        ),
        "curve_note": (
            f"Metrics left out, as the page would be too large: {', '.join(report.curves_left_out)}."
            if report.curves_left_out
            else ""
        ),
        "curve_legend": _legend(names, compared),
        "logged": "".join(_logged(data, chart) for data, chart in zip(report.logged, made.logged(), strict=True)),
        "unread": "".join(f"<li>Not drawn: {escape(data.reason)}</li>" for data in report.unread),
    }


def _planes(made: Figures) -> Iterator[str]:
    for name, chart in made.planes():
        own = [c for c in made.report.cells if c.algorithm == name and c.summary.has_reference_returns]
        safe = sum(cell.safe for cell in own)
        caption = f"<b>{escape(name)}</b> safe on {safe} of {len(own)}"
        tasks = _plural(len(own), "task")
        yield _figure(chart, f"{name}: normalised cost and reward on {tasks}", caption)


def _groups(made: Figures) -> Iterator[str]:
    """A place for the table of each group, and its intervals."""
    for group in made.report.groups:
        size = (270, 22 * len(group.rows) + 52)
        figures = (_figure(chart, f"{group.name}: intervals", "", size=size) for chart in made.intervals(group))
        yield f'<div class="group"><div class="grid intervals">{"".join(figures)}</div></div>'


def _curves(made: Figures, task: str, panels: Sequence[Panel], *, first: bool) -> str:
    charts = made.curves(panels, [panel.title for panel in panels])
    figures = (
        _figure(
            chart,
            f"{task}, {panel.title} over updates",
            f"<b>{escape(panel.title)}</b>",
            kind="compares" if panel.by_algorithm else "",
            below="" if panel.by_algorithm or len(panel.lines) < 2 else _key(line.label for line in panel.lines),
        )
        for panel, chart in zip(panels, charts, strict=True)
    )
    count = _plural(len(panels), "figure")
    return (
        f"<details{' open' if first else ''}><summary>{escape(task)}<span> {count}</span></summary>"
        f'<div class="grid">{"".join(figures)}</div></details>'
    )


def _logged(data: Logged, chart: Chart) -> str:
    drawn, every = len(data.costs), _plural(data.episodes, "episode")
    count = every if drawn == data.episodes else f"{drawn:,} of {every}"
    within = ", ".join(
        f"{found:,} within {exact(limit)}" for limit, found in zip(data.limits, data.within, strict=True)
    )
    filters = f" Filtered before training: {', '.join(data.filters)}." if data.filters else ""
    notes = [f"{count}; {within}.{filters}" if within else f"{count}.{filters}", *(f"{text}." for text in data.used)]
    return _figure(
        chart,
        f"{data.task}: cost and return of {_plural(data.episodes, 'logged episode')}",
        f"<b>{escape(data.task)}</b> {escape(data.source)}",
        below="".join(f"<figcaption>{escape(note)}</figcaption>" for note in notes),
    )


def _figure(
    chart: Chart,
    label: str,
    caption: str,
    *,
    kind: str = "",
    below: str = "",
    size: tuple[int, int] = (270, 205),
) -> str:
    above = f"<figcaption>{caption}</figcaption>" if caption else ""
    attribute = f' class="{kind}"' if kind else ""
    return f"<figure{attribute}>{above}{page_svg(chart, label, size)}{below}</figure>"


def _swatch(place: int) -> str:
    dash = (place + place // len(COLOURS)) % len(DASHES)
    return (
        '<svg class="swatch" viewBox="0 0 24 12" aria-hidden="true">'
        f'<path class="line c{place % len(COLOURS)} d{dash}" d="M0 6H24"/></svg>'
    )


def _legend(names: Sequence[str], shown: Iterable[str]) -> str:
    """Buttons that bring out one algorithm."""
    kept = set(shown)
    return "".join(
        f'<li><button type="button" aria-pressed="false">{_swatch(place)}{escape(name)}</button></li>'
        for place, name in enumerate(names)
        if name in kept
    )


def _key(labels: Iterable[str]) -> str:
    entries = "".join(f"<li>{_swatch(place)}{escape(label)}</li>" for place, label in enumerate(labels))
    return f'<ul class="legend small">{entries}</ul>'


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
