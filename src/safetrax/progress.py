"""How far long work is: one bar in a terminal, one line now and then elsewhere, or nothing."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from safetrax.errors import printable

if TYPE_CHECKING:
    from rich.progress import Task


class Reporter:
    """What long work tells while it runs. This one keeps it to itself; a subclass of yours listens.

    What a method raises ends the work, as an error of the work itself would.
    """

    def note(self, text: str) -> None:
        """Something to know."""

    def start(self, total: int | None, runs: int = 1, done: int = 0) -> None:
        """Work begins: `total` units, if that is known, of each of several runs; `done` were there before."""

    def advance(self, stage: str, done: int) -> None:
        """`done` units of each run are made by now; `stage` says what they are."""

    def logged(self, rows: Sequence[Any]) -> None:
        """The metrics of all runs over one interval of a training, rows of `safetrax.training.logs.MetricRow`."""

    def evaluated(self, text: str) -> None:
        """An evaluation ended; `text` sums it up."""

    def stop(self) -> None:
        """Work ended, or broke off."""


class Display(Reporter):
    """A rich bar with speed, time left and the last words in a terminal; elsewhere a line every so many seconds.

    Args:
        title: what the work is called.
        unit: what is counted, for instance "updates"; "bytes" are shown as sizes, and "jobs" without a speed.
        file: a text stream; standard error if omitted.
        seconds: between two lines.
        transient: whether the bar vanishes at the end.
    """

    def __init__(
        self, title: str, unit: str, *, file: Any = None, seconds: float = 20.0, transient: bool = False
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        file = file or sys.stderr
        texts = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("count", "pace"))
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            *texts,
            TimeElapsedColumn(),  # runs while the program compiles, which may take minutes
            TextColumn("{task.fields[words]}", style="dim", markup=False),
            console=Console(file=file, force_jupyter=False),
            get_time=time.monotonic,
            disable=not file.isatty(),
            transient=transient,
        )
        self._title, self._unit, self._seconds = title, unit, seconds
        # the first of updates is worth a line: until then it compiled
        self._printed = -math.inf if unit == "updates" else time.monotonic()
        self._runs, self._stage, self._last = 1, "", ""

    @property
    def live(self) -> bool:
        """Whether it is a bar."""
        return not self._bar.disable

    def note(self, text: str) -> None:
        """A line, above the bar; it is not wrapped, so that a path in it can be copied."""
        self._print(f"{self._title}: {text}")

    def start(self, total: int | None, runs: int = 1, done: int = 0) -> None:
        """Show a bar, one that is there already anew; or say what begins, if its size is known."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._runs, self._stage, self._last = runs, "", ""
        title = self._title + (f" x {runs} runs" if runs > 1 else "")
        pace = "compiling" if self._unit == "updates" else ""
        self._bar.add_task(title, total=total, completed=done, count=self._count(done, total), pace=pace, words="")
        if self.live:
            self._bar.start()
        elif total is not None:
            there = f", of which {self._amount(done)} are there" if done else ""
            each = f" of each of {runs} runs" if runs > 1 else ""
            self._print(f"[{self._title}] {self._amount(total)}{each}{there}")

    def advance(self, stage: str, done: int, total: int | None = None) -> None:
        """Move the bar; or a line, if the last one is old enough or the work is done. `total`, if it has changed."""
        (task,) = self._bar.tasks
        self._bar.update(task.id, completed=done, total=total)
        count, pace = self._count(done, task.total), self._pace(task)
        self._stage = stage
        self._bar.update(task.id, count=count, pace=pace, words=self._words())
        now = time.monotonic()
        if not self.live and (now - self._printed >= self._seconds or done == task.total):
            self._printed = now
            self._print(f"[{self._title}] " + ", ".join(filter(None, (f"{count} {stage}".strip(), pace))))

    def evaluated(self, text: str) -> None:
        """The last words behind the bar, or a line."""
        if self.live:
            self._last = text
            self._bar.update(self._bar.task_ids[0], words=self._words())
        else:
            self._print(f"[{self._title}] {text}")

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def _print(self, line: str) -> None:
        self._bar.console.print(printable(line), soft_wrap=True, markup=False, highlight=False, emoji=False)

    def _words(self) -> str:
        return printable("; ".join(filter(None, (self._stage, self._last))))

    def _amount(self, count: float) -> str:
        return size_text(count) if self._unit == "bytes" else f"{count:.0f} {self._unit}"

    def _count(self, done: float, total: float | None) -> str:
        if self._unit == "bytes":
            return size_text(done) + (f" of {size_text(total)}" if total else "")
        return f"{done:.0f}" if total is None else f"{done:.0f}/{total:.0f}"

    def _pace(self, task: Task) -> str:
        """Speed of all runs together and time left, as far as rich knows them."""
        if self._unit == "jobs" or not task.speed:
            return ""
        speed = task.speed * self._runs
        rate = size_text(speed) if self._unit == "bytes" else f"{speed:.3g} {self._unit}"
        return f"{rate}/s" + (f", {duration(task.time_remaining)} left" if task.time_remaining else "")


def make_reporter(
    title: str, show: bool | Reporter, unit: str = "updates", *, file: Any = None, seconds: float = 20.0
) -> Reporter:
    """What shows the work, or nothing if not asked for; or the reporter given."""
    if isinstance(show, Reporter):
        return show
    return Display(title, unit, file=file, seconds=seconds) if show else Reporter()


class Meter:
    """Counts bytes that are read and shows a bar for them, if that is a terminal and it takes long enough.

    Args:
        title: name of what is loaded.
        show: whether to show anything at all.
        file: where to; standard error if omitted.
        delay: seconds without a bar.
    """

    def __init__(self, title: str, show: bool, *, file: Any = None, delay: float = 1.0) -> None:
        self._title, self._file = title, file
        self._show = show and (file or sys.stderr).isatty()
        self._from = time.monotonic() + delay
        self._bar: Display | None = None
        self._total = self._done = 0

    def expect(self, size: int) -> None:
        """So many bytes more are to come."""
        self._total += size

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        if self._bar is None and self._show and time.monotonic() >= self._from:
            self._bar = Display(f"reading {self._title}", "bytes", file=self._file, transient=True)
            self._bar.start(self._total, done=self._done)
        elif self._bar is not None:
            self._bar.advance("", self._done, self._total)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def size_text(size: float) -> str:
    """`12.3 MB` for a number of bytes."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def duration(seconds: float) -> str:
    """For instance `3 h 05 min`, `12 min` or `40 s`."""
    minutes, hours = round(seconds / 60), int(seconds // 3600)
    if seconds >= 3570:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90 and not hours else f"{seconds:.0f} s"
