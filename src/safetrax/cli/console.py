"""What the command line says: tables to standard output, one-line complaints to standard error."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from safetrax.errors import SafeTraXWarning, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Column, Table

_WIDTH_OF_PIPES = 110  # columns of a table that goes to a file or a pipe, which have no width of their own


def say(*things: RenderableType) -> None:
    """Print texts and tables to standard output; colours only in a terminal."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else _WIDTH_OF_PIPES, highlight=False, emoji=False)
    for thing in things:
        # a text is not wrapped, so that a path or a command in it can be copied
        shown = printable(thing) if isinstance(thing, str) else _Printable(thing)
        with naming_stdout():
            console.print(shown, soft_wrap=isinstance(thing, str), markup=False)


def plain_table(title: str, *columns: Column | str) -> Table:
    """An empty table: no borders, so that plain text stays readable in a log."""
    from rich import box
    from rich.table import Table

    return Table(
        *columns,
        title=title or None,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        title_style="bold",
    )


def write(text: str) -> None:
    """To standard output, as it is."""
    with naming_stdout():
        sys.stdout.write(text)


def wrapped(text: str) -> str:
    """Paragraphs in lines that fit the terminal.

    What is indented is a row of a list (a name, blanks, a text that hangs below itself), or an example, which stays
    whole so that it can be copied.
    """
    columns = max(40, shutil.get_terminal_size().columns)
    lines = []
    for line in re.sub(r"(?<=\S)\n(?=[^\W\d_])", " ", text).split("\n"):
        row = re.match(r" +\S+ {2,}", line)
        if line.startswith(" ") and row is None:
            lines.append(line)
        else:
            hanging = " " * (row.end() if row else 0)
            lines.append(textwrap.fill(line, columns, subsequent_indent=hanging, break_on_hyphens=False))
    return "\n".join(lines)


@dataclass(frozen=True)
class _Printable:
    """A table whose cells, which may come from files, cannot command the terminal."""

    thing: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for segment in console.render(self.thing, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


_PLAIN = {"±": "+-", "★": "*", "…": "...", "─": "-", "×": "x", "≤": "<=", "≥": ">="}  # noqa: RUF001 (what we print)


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    """For what a stream's encoding cannot say."""
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in wrong), error.end


codecs.register_error("safetrax", _in_plain_letters)


def prepare_streams() -> None:
    """Have standard output and error take any text, whatever their encoding is and whether they are open."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 (lives on)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="safetrax")


@contextlib.contextmanager
def naming_stdout() -> Iterator[None]:
    """Say in an operating-system error of the block which stream it is of, and write no more to it.

    Raises:
        OSError: the block's, with the stream as its file.
    """
    try:
        yield
    except OSError as error:
        give_up(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, error.strerror, "the standard output") from error


def give_up(stream: TextIO) -> None:
    """Have nothing more written to a stream that takes nothing, not even by the interpreter when it ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def complain(sentence: str, *, kind: str = "") -> None:
    """Print one line `safetrax: <sentence>` to standard error, whatever line breaks the sentence has."""
    line = " ".join(printable(sentence).split())
    try:
        print(f"safetrax: {kind}{line}", file=sys.stderr, flush=True)
    except OSError:  # then nobody can be told
        give_up(sys.stderr)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Inside the block, warnings of this library are complaints of one line; others look as always."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SafeTraXWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, SafeTraXWarning):
                complain(str(message), kind="warning: ")
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield
