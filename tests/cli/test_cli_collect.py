"""`safetrax collect`: from the command to a data set that the other verbs read."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetrax.cli.main import main
from safetrax.data import load


def test_from_nothing_to_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["collect", "ballrun", "--steps", "2950", "--agents", "1", "--episodes", "30", "--max-cost", "1000"])
        == 0
    )
    out, err = capsys.readouterr()
    assert "3,000 steps" in out
    assert "kept 30" in out
    assert "safetrax inspect SafetyBallRun-v0-collected.hdf5" in out
    assert "[ballrun] 1/1" in err
    assert "2,950 steps are no whole number of episodes of 100 steps; 3,000 will be made" in err
    assert load("SafetyBallRun-v0-collected.hdf5").info["task"] == "BallRun"
    assert main(["inspect", "SafetyBallRun-v0-collected.hdf5"]) == 0
    assert "no faults found" in capsys.readouterr().out
    assert main(["collect", "BallRun"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BallJump"], "did you mean"),
        (["BallRun", "--noise", "0.1"], "--policy"),
        (["BallRun", "--method", "driver"], "no driver"),
        (["BallRun", "--policy", "nowhere"], "nowhere"),
        (["BallRun", "--steps", "0"], "steps must be at least 1"),
        (["BallRun", "--cost-limits", "5"], "--cost-limits"),
        ([], "needs"),
    ],
)
def test_faults_are_sentences(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(["collect", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
