"""One bar and one line printer, for whatever takes long."""

from __future__ import annotations

import io
import time

import pytest

from safetrax.progress import Display, Meter, Reporter, duration, make_reporter, size_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    return Terminal()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("safetrax.progress.time.monotonic", lambda: now[0])
    return now


def test_lines_of_a_training(clock: list[float]) -> None:
    stream = io.StringIO()
    lines = Display("trac", "updates", file=stream, seconds=20.0)
    lines.note("episodes of one step are left out")
    lines.start(400, 6)
    for clock[0], done in ((1.0, 10), (11.0, 110), (21.0, 210)):
        lines.advance("policy", done)
    lines.evaluated("normalised return 0.8")
    clock[0] = 40.0
    lines.advance("policy", 400)
    lines.stop()
    assert stream.getvalue().splitlines() == [
        "trac: episodes of one step are left out",
        "[trac] 400 updates of each of 6 runs",
        "[trac] 10/400 policy",
        "[trac] 210/400 policy, 60 updates/s, 19 s left",
        "[trac] normalised return 0.8",
        "[trac] 400/400 policy, 60 updates/s",
    ]


def test_lines_of_a_download(clock: list[float]) -> None:
    stream = io.StringIO()
    lines = Display("BallRun", "bytes", file=stream, seconds=10.0)
    lines.start(5_000_000, done=1_000_000)
    for clock[0], done in ((0.0, 1_000_000), (5.0, 1_500_000), (10.0, 2_000_000), (20.0, 3_000_000)):
        lines.advance("", done)
    assert stream.getvalue().splitlines() == [
        "[BallRun] 5 MB, of which 1 MB are there",
        "[BallRun] 2 MB of 5 MB, 100 kB/s, 30 s left",
        "[BallRun] 3 MB of 5 MB, 100 kB/s, 20 s left",
    ]


def test_lines_of_work_whose_size_becomes_known(clock: list[float]) -> None:
    stream = io.StringIO()
    lines = Display("BallRun", "iterations", file=stream, seconds=0.0)
    lines.start(None)
    for clock[0], done, total in ((0.0, 1, 4), (10.0, 2, 4), (20.0, 3, 3)):
        lines.advance("9 of 12 episodes", done, total)
    assert stream.getvalue().splitlines() == [
        "[BallRun] 1/4 9 of 12 episodes",
        "[BallRun] 2/4 9 of 12 episodes, 0.1 iterations/s, 20 s left",
        "[BallRun] 3/3 9 of 12 episodes",
    ]


def test_of_jobs_no_speed_is_told(clock: list[float]) -> None:
    stream = io.StringIO()
    lines = Display("benchmark", "jobs", file=stream, seconds=0.0)
    lines.start(2)
    for clock[0], done in ((1.0, 0), (2.0, 1)):
        lines.advance("12 min left", done)
    assert stream.getvalue().splitlines()[1:] == ["[benchmark] 0/2 12 min left", "[benchmark] 1/2 12 min left"]


def test_a_bar(terminal: Terminal, clock: list[float]) -> None:
    bar = Display("trac", "updates", file=terminal)
    bar.note("a path [/tmp/x] stays \x1b[2Jas it is")
    bar.start(400, 3)
    assert "compiling" in terminal.getvalue()
    for clock[0], done in ((1.0, 100), (2.0, 200)):
        bar.advance("policy", done)
    bar.evaluated("return [0.8]")
    bar.stop()
    shown = terminal.getvalue()
    assert "trac: a path [/tmp/x] stays as it is" in shown
    assert "trac x 3 runs" in shown
    assert "200/400" in shown
    assert "300 updates/s, 2 s left" in shown
    assert "policy; return [0.8]" in shown


def test_a_bar_that_begins_anew(terminal: Terminal) -> None:
    bar = Display("BallRun", "bytes", file=terminal)
    bar.start(5_000_000, done=1_000_000)
    bar.start(7_000_000)
    bar.advance("", 7_000_000)
    bar.stop()
    assert "7 MB of 7 MB" in terminal.getvalue()
    assert len(bar._bar.tasks) == 1


def test_who_is_told(terminal: Terminal) -> None:
    own = Reporter()
    assert make_reporter("x", own) is own
    assert type(make_reporter("x", False)) is Reporter
    for file in (terminal, io.StringIO()):
        shown = make_reporter("x", True, file=file)
        assert isinstance(shown, Display)
        assert shown.live == (file is terminal)


def test_a_meter_shows_a_bar_after_some_time_on_a_terminal(terminal: Terminal) -> None:
    with Meter("log.hdf5", True, file=terminal, delay=0) as meter:
        meter.expect(1_000_000)
        meter.advance(500_000)
        meter.expect(1_000_000)
        meter.advance(500_000)
        time.sleep(0.15)
    assert "reading log.hdf5" in terminal.getvalue()
    assert "1 MB of 2 MB" in terminal.getvalue()


@pytest.mark.parametrize(("show", "there", "delay"), [(False, True, 0), (True, False, 0), (True, True, 60)])
def test_no_bar(show: bool, there: bool, delay: float, terminal: Terminal) -> None:
    shown = terminal if there else io.StringIO()
    with Meter("log.hdf5", show, file=shown, delay=delay) as meter:
        meter.expect(2)
        meter.advance(1)
    assert shown.getvalue() == ""


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (12_345_678, "12.3 MB"), (2.5e9, "2.5 GB")]
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3500, "58 min"), (3600, "1 h 00 min"), (11_100, "3 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
