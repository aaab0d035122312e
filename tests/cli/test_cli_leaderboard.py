"""`safetrax leaderboard`: what is printed and written, and which sentence says what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from safetrax.catalogue import get_task
from safetrax.cli.leaderboard import run
from safetrax.errors import ConfigError, DataError, RunError, TaskError
from safetrax.evaluation.episodes import EpisodeRow, write_episodes
from safetrax.training.run_folder import RunFolder

RUN = get_task("BallRun")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run folder with one episode at each limit, on own data."""
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create(
        "mine", {"algorithm": {"class": "TraC"}, "task": "BallRun", "updates": 50, "data": {"source": "log.hdf5"}}
    )
    write_episodes(
        folder.episodes_file,
        [EpisodeRow("TraC", "BallRun", limit, 0, 50, 0, 0, RUN.reward_max, 0.0, 100) for limit in (10.0, 20.0, 40.0)],
    )
    return "mine"


def test_published_results_without_runs(capsys):
    assert run(["--task", "BallRun", "--sources", "trac", "--algorithms", "TraC", "bc-safe"]) == 0
    out = capsys.readouterr().out
    assert "BallRun (bullet)" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["TraC", "10,", "20,", "40", "0.27", "0.47", "best", "trac"] in lines
    assert ["BC-Safe", "10,", "20,", "40", "0.27", "1.46", "no", "trac"] in lines
    assert "arXiv:2412.15429" in out
    assert "benchmark's" not in out  # no notes


def test_all_tasks(capsys):
    assert run([]) == 0
    out = capsys.readouterr().out
    assert out.count(" algorithm ") == 38
    assert "Scored at the cost limit 10, not at the benchmark's 20, 40, 80." in out


def test_own_runs_beside_published_ones(trained, capsys):
    assert run([trained, "--sources", "trac"]) == 0
    out = capsys.readouterr().out
    assert out.count(" algorithm ") == 1  # the run's task
    (own,) = [" ".join(line.split()) for line in out.splitlines() if "own: mine" in line]
    assert own == "TraC 10, 20, 40 1.00 ± 0.00 0.00 ± 0.00 yes own: mine 1 2 3 4"
    flat = " ".join(out.split())
    for sentence in (
        "1 Trained on log.hdf5, not on DSRL's SafetyBallRun-v0-80-940.hdf5.",
        "2 1 training seed per cost limit, where DSRL's protocol has 3.",
        "3 1 evaluation episode per policy, where DSRL's protocol has 20.",
        "4 Evaluated after 50 updates, where the published settings have 100,000.",
    ):
        assert sentence in flat


def test_markdown_and_json_on_standard_output(trained, capsys):
    assert run([trained, "--algorithms", "TraC", "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("## BallRun\n\n| algorithm | limits | reward | cost | safe | source | notes |\n|---|")
    assert "| own: mine | 1 2 3 4 |" in out
    assert run([trained, "--algorithms", "TraC", "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [entry["algorithm"] for entry in value["tasks"][0]["entries"]] == ["TraC"] * 3


@pytest.mark.parametrize(
    ("name", "flags", "start"),
    [
        ("board.md", [], "## BallRun\n"),
        ("board.json", [], "{\n"),
        ("board.txt", [], "BallRun (bullet)"),
        ("board", ["--format", "json"], "{\n"),
        ("new/board.md", ["--format", "table"], "BallRun (bullet)"),
    ],
)
def test_the_ending_of_the_file_tells_the_format(name, flags, start, tmp_path, capsys):
    path = tmp_path / name
    assert run(["--task", "BallRun", "--out", str(path), *flags]) == 0
    assert capsys.readouterr().out == f"written   {path}\n"
    assert path.read_text(encoding="utf-8").startswith(start)


@pytest.mark.parametrize(
    ("words", "kind", "fault"),
    [
        (["--task", "BallRum"], TaskError, "there is no task 'BallRum'; did you mean BallRun"),
        (["--suite", "bulet"], TaskError, "there is no suite 'bulet'; did you mean bullet?"),
        (["--algorithms", "TraK"], ConfigError, "there is no algorithm 'TraK' here; did you mean trac?"),
        (["--sources", "fisr"], ConfigError, "there is no source 'fisr'; did you mean fisor?"),
        (["--task", "BallRun", "--sources", "bars"], ConfigError, "no source has results of these algorithms"),
        (
            ["nowhere"],
            RunError,
            "there is no benchmark, no run folder and no episodes file at nowhere;",
        ),
        (["--format", "html"], ConfigError, "--format"),
        (["--sort", "x"], ConfigError, "has no flag --sort"),
    ],
)
def test_faults(words, kind, fault, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        run(words)
    assert fault in str(caught.value)
    assert capsys.readouterr().out == ""


def test_runs_without_episodes_and_damaged_ones(trained, tmp_path):
    episodes = tmp_path / trained / "episodes.csv"
    text = episodes.read_text()
    episodes.write_text(text.replace("100\n", "long\n", 1))
    with pytest.raises(DataError, match="line 2: length is 'long', expected a whole number"):
        run([trained])
    episodes.unlink()
    with pytest.raises(RunError, match=r"mine has no evaluation episodes; run safetrax evaluate mine first\."):
        run([trained])
    out = tmp_path / "board.md"
    with pytest.raises(RunError):
        run([trained, "--out", str(out)])
    assert not out.exists()


def test_published_results_need_no_jax():
    code = (
        "import sys; from safetrax.cli.leaderboard import run; run(['--task', 'BallRun']); "
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
