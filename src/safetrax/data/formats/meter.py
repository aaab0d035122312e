"""How far the loading of a large file is: a bar on a terminal, after a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Meter:
    """Counts bytes and shows them on standard error, if that is a terminal and loading takes long enough.

    Args:
        title: name of what is loaded.
        show: whether to show anything at all.
        console: where to; standard error if omitted.
        delay: seconds without a bar.
    """

    def __init__(self, title: str, show: bool, *, console: Console | None = None, delay: float = 1.0) -> None:
        self._title, self._console = title, console
        self._show = show and (sys.stderr.isatty() if console is None else console.is_terminal)
        self._from = time.monotonic() + delay
        self._bar: Progress | None = None
        self._total = self._done = 0

    def expect(self, size: int) -> None:
        """So many bytes more are to come."""
        self._total += size

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        if self._show and self._bar is None and time.monotonic() >= self._from:
            self._bar = self._start()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, total=self._total)

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = TextColumn("{task.description}"), BarColumn(bar_width=28), DownloadColumn(), TransferSpeedColumn()
        bar = Progress(*columns, console=self._console or Console(stderr=True), transient=True)
        bar.add_task(f"reading {self._title}", total=self._total)
        bar.start()
        return bar
