"""Odd commands, files and streams: a sentence and exit code 2, or an answer; never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from safetrax.cli.main import VERBS, main
from safetrax.errors import DataError, printable

WORDS = (
    "", " ", "-", "--", "---", "-1", "--=", "=", "\x1b[31mred\x1b[0m", "a\nb", "zero\0byte", "\udcff.hdf5",
    "\u202egnp", "x" * 5000, "/dev/null", "/dev/full", "/proc/self/mem", ".", "..", "~", "~nobody/x", "1e400",
    "https://example.org/x.hdf5", "99999999999999999999999", "nan", "--help=1", "--out", "--data=", "--seeds=-1",
    "\U0001f600",
)  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "sets"))
    monkeypatch.setattr("safetrax.training.program.Program.init", None)  # no compute is spent


def said_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    code = main(list(words))
    said = capsys.readouterr()
    assert code in (0, 2), words
    if code:
        assert said.err.startswith("safetrax: ")
        last = said.err.rstrip("\n").rsplit("\n", 1)[-1]
        assert last.startswith("safetrax: ")
        assert last.isprintable()
        assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("doctor", "download", "tasks")])
def test_odd_words(verb: str, capsys: pytest.CaptureFixture[str]):
    for word in WORDS:
        said_of((verb, word), capsys)


@pytest.mark.parametrize("words", [WORDS[::4], pytest.param(WORDS, marks=pytest.mark.slow)], ids=["some", "all"])
def test_odd_values(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    for command in (
        ("train", "bc-all", "--data", "demo", "--updates"),
        ("train", "bc-all", "--data", "demo", "--seeds"),
        ("train", "bc-all", "--data"),
        ("evaluate", ".", "--episodes"),
        ("evaluate", ".", "--step-timeout"),
        ("leaderboard", "--out"),
        ("inspect", "demo", "--filters"),
        ("collect", "BallRun", "--cost-limits", "9", "3", "--out"),
    ):
        for word in (w for w in words if not w.startswith("/dev")):
            if command[1:2] == ("bc-all",) and word.strip() in ("", "1e400"):
                continue
            said_of((*command, word), capsys)


def test_a_device_is_never_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert main(["leaderboard", "--task", "BallRun", "--out", "pipe"]) == 2
    assert "a folder or a device has that name" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()


def test_what_a_message_quotes_cannot_command_the_terminal():
    assert str(DataError("a \x1b[31mred\x1b[0m\x07 \x1b]0;title\x07cell\r\n")) == "a red  cell \n"
    assert printable("caf\u00e9 \u00b1 \udcff") == "caf\u00e9 \u00b1 ?"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            MemoryError("Unable to allocate 9 TiB"),
            "there is not enough memory (Unable to allocate 9 TiB); use smaller",
        ),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes.\nx"), "there is not enough memory (RES"),
        (OSError(28, "No space left on device"), "cannot use a file or stream: the disk is full; free some space"),
        (PermissionError(13, "Permission denied", "x.csv"), "cannot use x.csv: permission was denied; choose"),
    ],
)
def test_what_others_raise_is_one_sentence(
    raised: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(argv: list[str]) -> int:
        raise raised

    monkeypatch.setattr("safetrax.cli.tasks.run", broken)
    assert main(["tasks"]) == 2
    assert capsys.readouterr().err.startswith(f"safetrax: {said}")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def broken(argv: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("safetrax.cli.tasks.run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["tasks"])


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
def test_streams_that_take_nothing_or_little():
    def run(shell: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = shell.replace("ST", f"{sys.executable} -m safetrax")
        return subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, env={**os.environ, **variables}, check=False
        )

    full = run("ST leaderboard --task BallRun > /dev/full")
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
    assert "cannot use the standard output: the disk is full" in full.stderr
    head = run("ST leaderboard --task BallRun --format json | head -1; exit ${PIPESTATUS[0]}")
    assert (head.returncode, head.stdout, head.stderr) == (0, "{\n", "")
    ascii_only = run("ST leaderboard --task BallRun", PYTHONIOENCODING="ascii")
    assert (ascii_only.returncode, ascii_only.stderr) == (0, "")
    assert "+- is one standard error" in " ".join(ascii_only.stdout.split())
    closed = run("ST leaderboard --task BallRun >&- 2>&-")
    assert closed.returncode == 0


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("verb", ["", "train", "inspect", "benchmark"])
def test_help_fits_the_terminal(
    columns: int, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*verb.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("  safetrax ")) <= columns


def test_an_example_in_the_help_stays_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLUMNS", "60")
    main(["--help"])
    example = "  safetrax train trac --data demo --cost-limits 10 20 40 --seeds 0 1 2 --out runs/first"
    assert example in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("verb", ["train", "evaluate", "collect", "benchmark", "doctor"])
def test_a_platform_that_is_not_there_is_said_first(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("safetrax.cli.doctor.ask", lambda code: (None, "AssertionError"))
    said = said_of((verb, "x"), capsys)
    assert "JAX_PLATFORMS is cuda, but JAX finds no such device here (AssertionError)" in said
    assert "safetrax[cuda]" in said
