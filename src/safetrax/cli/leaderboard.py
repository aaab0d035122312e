"""`safetrax leaderboard`: own results beside the published ones."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from safetrax.cli.console import plain_table, say, write
from safetrax.cli.parsing import parse
from safetrax.errors import ConfigError
from safetrax.files import atomic_path, check_writable
from safetrax.leaderboard.leaderboard import Entry, Leaderboard, leaderboard
from safetrax.leaderboard.rendering import HEADINGS, LEGEND, Notes, cells, source_lines, to_json, to_markdown

Format = Literal["table", "markdown", "json"]

_PROG = "safetrax leaderboard"
_ABOUT = (
    "Compare trained policies with published results, task by task, and say what makes a comparison unfair. Without "
    "runs, show what is published."
)
_FORMATS: dict[str, Format] = {".md": "markdown", ".json": "json"}
_RIGHT = ("reward", "cost")
_WIDTH_OF_FILES = 118


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions:
    """What to compare."""

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN ...", help_behavior_hint="(default: none)")
    ] = ()
    """Run folders with evaluation episodes, or CSV files that safetrax evaluate --out wrote."""
    task: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="NAME [NAME ...]", help_behavior_hint="(default: the runs' tasks, else all)"),
    ] = ()
    """Only these benchmark tasks."""
    suite: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]", help_behavior_hint="(default: as --task says)")
    ] = ()
    """All tasks of bullet, safety_gymnasium or metadrive."""
    algorithms: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]", help_behavior_hint="(default: all)")
    ] = ()
    """Only these algorithms, such as TraC BC-Safe LSPC-O."""
    sources: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]", help_behavior_hint="(default: all)")
    ] = ()
    """Only these of trac, trac-repository, lspc, fisor, bars and b2r."""
    format: Annotated[
        Format | None,
        tyro.conf.arg(metavar="{table,markdown,json}", help_behavior_hint="(default: by --out's ending, else table)"),
    ] = None
    """How to write it."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: standard output)")] = None
    """Write it to this file."""


def run(argv: list[str]) -> int:
    """Compare; the exit code."""
    options = parse(LeaderboardOptions, argv, prog=_PROG, description=_ABOUT)
    board = leaderboard(
        options.runs,
        task_names=options.task,
        suites=options.suite,
        algorithms=options.algorithms,
        sources=options.sources,
    )
    if not board.boards:
        raise ConfigError(
            f"no source has results of these algorithms on these tasks; {_PROG} without flags shows all."
        )
    if options.out is None:
        _print(board, options.format or "table")
        return 0
    path = Path(options.out)
    check_writable(path)
    text = _text(board, options.format or _FORMATS.get(path.suffix.lower(), "table"))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"written   {path}")
    return 0


def _print(board: Leaderboard, form: Format) -> None:
    if form == "table":
        say(_tables(board))
    else:
        write(_text(board, form))


def _text(board: Leaderboard, form: Format) -> str:
    if form == "markdown":
        return to_markdown(board)
    if form == "json":
        return to_json(board)
    text = io.StringIO()
    Console(file=text, width=_WIDTH_OF_FILES, highlight=False, emoji=False).print(_tables(board), markup=False)
    return text.getvalue()


def _tables(board: Leaderboard) -> Group:
    """One table per task; then what the words, the numbers of the notes and the sources mean."""
    notes = Notes()
    shown: list[Table | Text] = []
    for task in board.boards:
        table = plain_table(f"{task.task} ({task.suite})")
        for name in HEADINGS:
            table.add_column(name, justify="right" if name in _RIGHT else "left", overflow="fold")
        for entry in task.entries:
            table.add_row(*map(Text, cells(entry, notes)), style=_style(entry))
        shown.append(table)
    shown.append(Text(f"{LEGEND}\n"))
    for lines in ([(str(number), sentence) for number, sentence in notes.lines()], source_lines(board)):
        grid = Table.grid(padding=(0, 1))
        for name, sentence in lines:
            grid.add_row(Text(name), Text(sentence))
        shown += [grid, Text()] if grid.row_count else []
    return Group(*shown[:-1])


def _style(entry: Entry) -> str:
    """Safe is bold, as in papers; the best is green."""
    return "bold green" if entry.best else "bold" if entry.safe else ""
