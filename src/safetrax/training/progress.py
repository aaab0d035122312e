"""Showing how far training is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter:
    """What the loop tells while it runs. This one keeps it to itself."""

    def note(self, text: str) -> None:
        """Something to know before it begins."""

    def start(self, total: int, runs: int) -> None:
        """Training of `total` updates per run begins."""

    def advance(self, stage: str, done: int) -> None:
        """`done` updates of each run are made by now, in the named stage."""

    def evaluated(self, text: str) -> None:
        """An evaluation ended; `text` sums it up."""

    def stop(self) -> None:
        """Training ended, or broke off."""


class Bar(Reporter):
    """A rich progress bar with rate, time left and the last evaluation."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._title = title
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[stage]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),  # runs while the program compiles, which may take minutes
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[last]}"),
            console=console or Console(stderr=True),
        )
        self._rate = _Rate()

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(f"{self._title}: {text}", soft_wrap=True, markup=False, highlight=False)

    def start(self, total: int, runs: int) -> None:
        """Show an empty bar."""
        self._rate.runs = runs
        title = self._title + (f" x {runs} runs" if runs > 1 else "")
        self._task = self._bar.add_task(title, total=total, stage="", rate="compiling", last="")
        self._bar.start()

    def advance(self, stage: str, done: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, stage=stage, rate=self._rate.text(done))

    def evaluated(self, text: str) -> None:
        """Show the summary behind the bar."""
        self._bar.update(self._task, last=text)

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


class Lines(Reporter):
    """One line every so many seconds, for logs and pipes."""

    def __init__(self, title: str, seconds: float = 20.0) -> None:
        self._title, self._seconds = title, seconds
        self._rate = _Rate()
        self._last = time.monotonic()
        self._total = 0

    def note(self, text: str) -> None:
        """A line."""
        self._print(text)

    def start(self, total: int, runs: int) -> None:
        """Say what begins."""
        self._total = total
        self._rate.runs = runs
        self._print(f"{total} updates" + (f" of each of {runs} runs" if runs > 1 else ""))

    def advance(self, stage: str, done: int) -> None:
        """A line, if the last one is old enough or training is done."""
        rate = self._rate.text(done)
        now = time.monotonic()
        if now - self._last >= self._seconds or done == self._total:
            self._last = now
            words = f"{done}/{self._total} {stage}", rate, self._rate.remaining(self._total - done)
            self._print(", ".join(word for word in words if word))

    def evaluated(self, text: str) -> None:
        """A line."""
        self._print(text)

    def _print(self, text: str) -> None:
        print(f"[{self._title}] {text}", file=sys.stderr, flush=True)


def make_reporter(title: str, show: bool | Reporter) -> Reporter:
    """A bar in a terminal, lines elsewhere, nothing if not asked for; or the reporter given."""
    if isinstance(show, Reporter):
        return show
    if not show:
        return Reporter()
    return Bar(title) if sys.stderr.isatty() else Lines(title)


class _Rate:
    """Updates per second over all runs, smoothed over some seconds, without the first call, which compiles."""

    def __init__(self) -> None:
        self.runs = 1
        self._seen: list[tuple[float, int]] = []

    def text(self, done: int) -> str:
        self._seen = [*self._seen[-19:], (time.monotonic(), done)]
        speed = self._speed()
        return "" if speed is None else f"{speed * self.runs:.3g} updates/s"

    def remaining(self, updates: int) -> str:
        speed = self._speed()
        return f"{updates / speed:.0f} s left" if speed and updates else ""

    def _speed(self) -> float | None:
        (t0, d0), (t1, d1) = self._seen[0], self._seen[-1]
        return (d1 - d0) / (t1 - t0) if t1 > t0 and d1 > d0 else None
