"""From the shell, in an environment of one's own: a log that names it, training, evaluation, pictures, the page."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import safetrax.catalogue
from own_env import valve_policy, write_module
from safetrax.algorithms import BC
from safetrax.cli.main import main
from safetrax.data import Trajectories, load, write_hdf5
from safetrax.errors import DataError
from safetrax.evaluation.episodes import read_episodes
from safetrax.report.payload import payload
from safetrax.report.summary import gather
from safetrax.training.train import train

NAME = "valves:Valve-v0"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the module."""
    monkeypatch.syspath_prepend(str(write_module(tmp_path)))
    monkeypatch.setattr(safetrax.catalogue, "_references", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_log(path: Path) -> None:
    """Twelve episodes of one opening each, as `collect` would write them."""
    episodes = (
        {
            "observations": np.stack([np.arange(4.0), np.full(4, opening)], axis=1),
            "actions": np.full((4, 1), opening),
            "rewards": np.full(4, opening / 10),
            "costs": np.full(4, max(opening - 5, 0) / 10),
        }
        for opening in np.linspace(0.5, 9.5, 12)
    )
    box = {"action_low": np.zeros(1, np.float32), "action_high": np.full(1, 10, np.float32)}
    write_hdf5(path, Trajectories.from_episodes(episodes, **box), attributes={"task": NAME})


def each_episode(data: Trajectories) -> list[dict[str, np.ndarray]]:
    """Its columns."""
    names = ("actions", "rewards", "costs")
    bounds = zip(data.offsets[:-1], data.offsets[1:], strict=True)
    return [{name: getattr(data, name)[a:b] for name in names} for a, b in bounds]


def test_a_log_that_names_its_environment_needs_nothing_more(place: Path, capsys: pytest.CaptureFixture[str]):
    write_log(place / "log.hdf5")
    data = load("log.hdf5")
    assert data.info["task"] == NAME
    run = train(BC(mode="safe", hidden=(4,), updates=2), data, cost_limits=(2,), evaluate_every=1, out="run")
    assert run.evaluate(2).cost_limits == (2.0,)
    assert {row.task for row in read_episodes("run/episodes.csv")} == {NAME}
    report = gather(["run"])
    assert [(cell.task, cell.summary.has_reference_returns) for cell in report.cells] == [(NAME, False)]
    assert not report.profiles.kinds
    assert any("Tasks without reference returns" in caution.sentence for caution in report.cautions)
    assert {panel.title for panel in report.panels[NAME] if panel.kind == "reward"} == {"return"}
    (row,) = payload(report)["results"]
    assert (row["rewardText"], row["reward"]) == ("-", None)
    assert row["return"] is not None
    assert main(["leaderboard", "run"]) == 2
    assert "has no reference returns, so that nothing can be compared" in capsys.readouterr().err


def test_a_log_of_another_environment_is_refused_before_training(place: Path, capsys: pytest.CaptureFixture[str]):
    write_log(place / "log.hdf5")
    data = load("log.hdf5")
    wide = Trajectories.from_episodes(
        [{**episode, "observations": np.arange(12.0).reshape(4, 3)} for episode in each_episode(data)],
        action_low=data.action_low,
        action_high=data.action_high,
        info={"task": NAME},
    )
    write_hdf5("wide.hdf5", wide, attributes={"task": NAME})
    sentence = f"observations has 3 columns but {NAME} has 2"
    words = ["train", "bc-all", "--data", "wide.hdf5", "--cost-limits", "2", "--updates", "2", "--out", "run"]
    assert main(words) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("run").exists()
    with pytest.raises(DataError, match=sentence):
        train(BC(updates=2), wide, cost_limits=(2,), evaluate_every=1, out="run")
    assert not Path("run").exists()
    assert main([*words, "--no-evaluate"]) == 0


def test_evaluate_with_pictures_references_and_another_python(place: Path, capsys: pytest.CaptureFixture[str]):
    path = str(valve_policy(5.0).save(place / "policy.safetensors"))
    words = ["evaluate", path, "--episodes", "1", "--out", "rows.csv"]
    assert main([*words, "--video", "episode.gif"]) == 0
    assert "-  0.00" in capsys.readouterr().out
    assert Path("episode.gif").stat().st_size > 0
    assert main([*words, "--reference-returns", "0", "4"]) == 0
    out = capsys.readouterr().out
    assert f"of {NAME}: 0 is the return 0, 1 is 4, as --reference-returns says" in out
    (row,) = read_episodes("rows.csv")
    assert f"{row.return_ / 4:.2f}" in out
    python = place / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={place} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert main([*words, "--simulator-python", str(python)]) == 0
    assert read_episodes("rows.csv") == [row]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--task", "Pendulum-v1"], 'Pendulum-v1 reports no info["cost"]'),
        (
            ["--task", "BallRun", "--reference-returns", "0", "1"],
            "of one environment that is no benchmark's, and here is",
        ),
        (["--video", "a.gif", "--simulator-python", "python"], "a video needs the simulator in this Python"),
        (["--simulator-python", "./none"], "the Python ./none cannot be run (No such file or directory)"),
        (["--task", "SafetyBalRun-v0"], "did you mean BallRun"),
    ],
)
def test_faults_are_one_sentence(words: list[str], sentence: str, place: Path, capsys: pytest.CaptureFixture[str]):
    path = str(valve_policy(5.0).save(place / "policy.safetensors"))
    assert main(["evaluate", path, *words]) == 2
    assert sentence in capsys.readouterr().err
