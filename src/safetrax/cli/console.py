"""What the command line says: tables to standard output, one-line complaints to standard error."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from safetrax.errors import SafeTraXWarning

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDTH_OF_PIPES = 110  # columns of a table that goes to a file or a pipe, which have no width of their own


def say(*things: RenderableType) -> None:
    """Print texts and tables to standard output; colours only in a terminal."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else _WIDTH_OF_PIPES, highlight=False, emoji=False)
    for thing in things:
        # a text is not wrapped, so that a path or a command in it can be copied
        console.print(thing, soft_wrap=isinstance(thing, str), markup=False)


def complain(sentence: str, *, kind: str = "") -> None:
    """Print one line `safetrax: <sentence>` to standard error, whatever line breaks the sentence has."""
    line = " ".join(sentence.split())
    print(f"safetrax: {kind}{line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Inside the block, warnings of this library are complaints of one line; others look as always."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SafeTraXWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SafeTraXWarning):
                complain(str(message), kind="warning: ")
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
