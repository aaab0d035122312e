"""`safetrax report`: benchmarks and runs as one HTML page, with figures for print beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from safetrax.cli.console import say
from safetrax.cli.evaluate import set_references
from safetrax.cli.parsing import parse, shown
from safetrax.errors import ConfigError

_PROG = "safetrax report"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write the results of benchmarks and runs as one HTML page: tables, figures, learning curves, data sets,
    configurations, and what weakens the numbers. It opens from disk and loads nothing from anywhere.

    example:
      safetrax report runs/first runs/second --out report.html
    """

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("FOLDER ...")]
    """Folders that safetrax benchmark or safetrax train made; runs need evaluation episodes or certificates."""
    out: Annotated[str, shown("FILE.html")] = "report.html"
    """The page; -o for short."""
    title: Annotated[str | None, shown("TEXT", "how many algorithms and tasks")] = None
    """Of the page."""
    reference_returns: Annotated[tuple[float, float] | None, shown("LOW HIGH", "none")] = None
    """Returns that count as 0 and 1, for an environment of your own; without them returns are not normalised."""
    figures: bool = True
    """Also write every figure as PNG and SVG, into the folder NAME_figures beside the page."""


def run(argv: list[str]) -> int:
    """Write the page; the exit code."""
    words = [f"--out{word[2:]}" if word == "-o" or word.startswith("-o=") else word for word in argv]
    options = parse(ReportOptions, words, prog=_PROG)
    if not options.runs:
        raise ConfigError(f"{_PROG} needs a benchmark folder or run folders, for instance: {_PROG} runs/first")
    from safetrax.report.page import report_page
    from safetrax.runs import read_place

    if options.reference_returns is not None:
        read = [training for path in options.runs for training in read_place(path)[0]]
        set_references(options.reference_returns, [task for training in read for task in training.tasks])
    page, *figures = report_page(options.runs, options.out, title=options.title, figures=options.figures)
    say(f"report    {page} ({Path(page).stat().st_size / 1e6:.1f} MB)")
    if figures:
        say(f"figures   {figures[0].parent} ({len(figures)} files)")
    return 0
