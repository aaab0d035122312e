"""The report page: one HTML file that holds everything, opens from disk and asks no network for anything.

Its script, style and data stand in the file itself, and its content security policy lets it load nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from safetrax.errors import ConfigError
from safetrax.files import atomic_path, check_writable
from safetrax.report.blocks import blocks
from safetrax.report.payload import add_gifs, payload, to_json
from safetrax.report.summary import Report, gather

__all__ = ["Report", "gather", "render_page", "report_page"]

_ENDINGS = (".html", ".htm")


def report_page(
    runs: Iterable[str | Path], path: str | Path, *, title: str | None = None, figures: bool = True
) -> tuple[Path, ...]:
    """Write the results of benchmarks and runs as one HTML file, and its figures for print beside it.

    Args:
        runs: folders of `safetrax benchmark` and of `safetrax train`.
        path: the page; its name ends in .html.
        title: of the page; None: how many algorithms on how many tasks.
        figures: also write every figure as PNG and SVG into the folder `NAME_figures` beside the page.

    Returns:
        The page, and then the figures.

    Raises:
        ConfigError: the path has another ending, no folder is given, or two runs of one name have different
            configurations.
        RunError: a folder is missing, damaged, of another kind or without results, or a file cannot be written.
        DataError: results are damaged, incomplete or impossible.
        TaskError: an episode names an unknown task.
    """
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"cannot write the report {path}: its name must end in .html.")
    check_writable(path)
    report = gather(runs, title=title)
    text = render_page(report)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # a title may hold what is no text
    if not figures:
        return (path,)
    from safetrax.report.figures import draw_figures

    return (path, *draw_figures(report, path.with_name(f"{path.stem}_figures")))


def render_page(report: Report) -> str:
    """The whole page as text."""
    values, drawn = payload(report), blocks(report)
    text = _filled(report, to_json(values), drawn)
    add_gifs(values, report.trainings, len(text))
    return _filled(report, to_json(values), drawn) if values["gifs"] or values["gifsLeftOut"] else text


def _filled(report: Report, data: str, drawn: Mapping[str, str]) -> str:
    style, script = _part("style.css"), _part("script.js")
    made = report.made.strftime("%Y-%m-%d %H:%M UTC")
    entries = {
        "title": html.escape(report.title),
        "made": made,
        "version": html.escape(report.version),
        "policy": (
            "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
        ),
        "style": style,
        "script": script,
        "data": data,
        **drawn,
    }
    # in one pass, so that nothing inside an entry is taken for a place to fill
    return re.sub(r"\{\{(\w+)\}\}", lambda match: entries[match[1]], _part("template.html"))


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8").strip()


def _digest(text: str) -> str:
    """As content security policies name an element's text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
