"""`safetrax leaderboard`: own results beside the published ones."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text

from safetrax.cli.console import plain_table, say, write
from safetrax.cli.parsing import parse, shown
from safetrax.errors import ConfigError
from safetrax.files import check_writable, write_text
from safetrax.leaderboard.leaderboard import Leaderboard, leaderboard
from safetrax.leaderboard.rendering import HEADINGS, LEGEND, Notes, cells, source_lines, to_json, to_markdown

Format = Literal["table", "markdown", "json"]

_PROG = "safetrax leaderboard"
_FORMATS: dict[str, Format] = {".md": "markdown", ".json": "json"}
_RIGHT = ("reward", "cost")
_WIDTH_OF_FILES = 118


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions:
    """Compare trained policies with published results, task by task, and say what makes a comparison unfair. Without
    runs, show what is published.
    """

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("RUN ...", "none")] = ()
    """Run folders with evaluation episodes, or CSV files that safetrax evaluate --out wrote."""
    task: Annotated[tuple[str, ...], shown("NAME [NAME ...]", "the runs' tasks, else all")] = ()
    """Only these benchmark tasks."""
    suite: Annotated[tuple[str, ...], shown("NAME [NAME ...]", "as --task says")] = ()
    """All tasks of bullet, safety_gymnasium or metadrive."""
    algorithms: Annotated[tuple[str, ...], shown("NAME [NAME ...]", "all")] = ()
    """Only these algorithms, such as TraC BC-Safe LSPC-O."""
    sources: Annotated[tuple[str, ...], shown("NAME [NAME ...]", "all")] = ()
    """Only these of trac, trac-repository, lspc, fisor, bars and b2r."""
    format: Annotated[Format | None, shown("{table,markdown,json}", "by --out's ending, else table")] = None
    """How to write it."""
    out: Annotated[str | None, shown("FILE", "standard output")] = None
    """Write it to this file."""


def run(argv: list[str]) -> int:
    """Compare; the exit code."""
    options = parse(LeaderboardOptions, argv, prog=_PROG)
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
        if options.format in (None, "table"):
            say(_tables(board))
        else:
            write(_text(board, options.format))
        return 0
    path = Path(options.out)
    check_writable(path)
    write_text(path, _text(board, options.format or _FORMATS.get(path.suffix.lower(), "table")))
    say(f"written   {path}")
    return 0


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
        columns = (Column(n, justify="right" if n in _RIGHT else "left", overflow="fold") for n in HEADINGS)
        table = plain_table(f"{task.task} ({task.suite})", *columns)
        for entry in task.entries:
            style = "bold green" if entry.best else "bold" if entry.safe else ""  # safe is bold, as in papers
            table.add_row(*map(Text, cells(entry, notes)), style=style)
        shown.append(table)
    shown.append(Text(f"{LEGEND}\n"))
    for lines in ([(str(number), sentence) for number, sentence in notes.lines()], source_lines(board)):
        grid = Table.grid(padding=(0, 1))
        for name, sentence in lines:
            grid.add_row(Text(name), Text(sentence))
        shown += [grid, Text()] if grid.row_count else []
    return Group(*shown[:-1])
