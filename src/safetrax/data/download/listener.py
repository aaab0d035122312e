"""What a download tells while it runs: a bar in a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class Listener:
    """This one keeps everything to itself."""

    def begin(self, name: str, host: str, done: int, total: int | None) -> None:
        """Bytes of the data set `name` flow from now on: `done` are there, of `total`, if that is known."""

    def advance(self, done: int) -> None:
        """`done` bytes are there by now."""

    def end(self) -> None:
        """They flow no longer: all have come, or the connection broke off."""

    def note(self, sentence: str) -> None:
        """Something that the user should know."""


class _Spoken(Listener):
    """Notes are lines on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, sentence: str) -> None:
        """A line, not wrapped, so that a path in it can be copied."""
        self._console.print(sentence, soft_wrap=True, markup=False, highlight=False, emoji=False)


class Bar(_Spoken):
    """A rich progress bar with size, speed and time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress: Progress | None = None

    def begin(self, name: str, host: str, done: int, total: int | None) -> None:
        """Show a bar."""
        self.end()
        columns = BarColumn(bar_width=28), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True)
        self._progress = Progress(TextColumn("{task.description}", markup=False), *columns, console=self._console)
        self._task = self._progress.add_task(f"{name} from {host}", total=total, completed=done)
        self._progress.start()

    def advance(self, done: int) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def end(self) -> None:
        """Leave the bar as it is."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Lines(_Spoken):
    """A line when bytes begin to flow, and one every so many seconds, for logs and pipes."""

    def __init__(self, console: Console, seconds: float = 10.0) -> None:
        super().__init__(console)
        self._seconds = seconds

    def begin(self, name: str, host: str, done: int, total: int | None) -> None:
        """A line."""
        self._name, self._total = name, total
        self._first = self._last = (time.monotonic(), done)
        size = "a file of unknown size" if total is None else size_text(total)
        self.note(f"{name}: {size} from {host}" + (f", of which {size_text(done)} are there" if done else ""))

    def advance(self, done: int) -> None:
        """A line, if the last one is old enough."""
        now = time.monotonic()
        if now - self._last[0] < self._seconds:
            return
        self._last = now, done
        speed = (done - self._first[1]) / (now - self._first[0])
        words = [size_text(done) + (f" of {size_text(self._total)}" if self._total else ""), f"{size_text(speed)}/s"]
        if self._total and speed:
            words.append(f"{(self._total - done) / speed:.0f} s left")
        self.note(f"{self._name}: {', '.join(words)}")


def make_listener(console: Console) -> Listener:
    """A bar if the console is a terminal, else lines."""
    return Bar(console) if console.is_terminal else Lines(console)


def size_text(size: float) -> str:
    """`12.3 MB` for a number of bytes."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
