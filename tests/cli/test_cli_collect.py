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


_SUITE = """
agents = 1
next_observations = false
steps = 200
[BallRun]
episodes = 1
max_cost = 1000
[CarRun]
max-cost = 1000
min_return = 1e9
"""


def test_a_suite_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, folder = tmp_path / "mine.toml", tmp_path / "data"
    file.write_text(_SUITE)
    words = ["collect", str(file), "--out", str(folder), "--workers", "1"]
    assert main(words) == 2
    assert "1 of 2 sets failed: CarRun" in capsys.readouterr().err
    made = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert made == {"SafetyBallRun-v0-collected.hdf5", "BallRun.json", "BallRun.md", "BallRun.png", "index.md"}
    data = load(folder / "SafetyBallRun-v0-collected.hdf5")
    page = (folder / "BallRun.md").read_text()
    assert "| episodes | 1 of 2 made | 940 |" in page
    assert "| steps | 100 | - |" in page
    assert f"| {data.returns[0]:.4g} to {data.returns[0]:.4g} ({data.returns[0]:.4g}) | 26.34 to 1327.4 |" in page
    safe = data.cost_returns[0] <= 20
    assert f"| safe at 20 | {100 if safe else 0}.0%" in page
    index = (folder / "index.md").read_text()
    assert "| [BallRun](BallRun.md) | 1 | 100 | 0 |" in index
    assert "* CarRun: none of the 1 episodes is within" in index

    kept = (folder / "SafetyBallRun-v0-collected.hdf5").read_bytes()
    (folder / "BallRun.md").unlink()  # as if it had been killed before the page
    file.write_text(_SUITE.replace("min_return = 1e9", ""))
    assert main(words) == 0
    assert "is there already" in capsys.readouterr().out
    assert (folder / "SafetyBallRun-v0-collected.hdf5").read_bytes() == kept
    assert "| time | not known | - |" in (folder / "BallRun.md").read_text()
    assert (folder / "SafetyCarRun-v0-collected.hdf5").exists()
    assert "Not here" not in (folder / "index.md").read_text()

    file.write_text(_SUITE.replace("episodes = 1", "episodes = 2").replace("min_return = 1e9", ""))
    assert main(words) == 2
    assert "was collected with episodes 1 and not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("steps = 5", [], "no data set"),
        ("[BallRun]\nstepz = 3", [], "[BallRun]: safetrax collect has no flag --stepz; did you mean --steps?"),
        ("[BallRun]\n[ballrun]", [], "names BallRun twice"),
        ("[BallJump]", [], "did you mean BallRun"),
        ("[BallRun]\nout = 'x'", [], "a flag of the command"),
        ("[BallRun]\nsteps = 'x'", [], "--steps"),
        ("[BallRun]\nsteps = 0", ["--steps", "5"], "write it into the file"),
        ("x = [", [], "cannot be read as TOML"),
    ],
)
def test_faults_of_a_suite_are_sentences(
    text: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mine.toml").write_text(text)
    assert main(["collect", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "data"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_the_suite_of_the_studies_can_be_read():
    from safetrax.cli.collect import CollectOptions
    from safetrax.cli.collection_suite import flags_of
    from safetrax.cli.parsing import parse

    sets = flags_of(Path(__file__).parents[2] / "studies" / "suite.toml")
    read = [parse(CollectOptions, [name, *words], prog="safetrax collect") for name, words in sets.items()]
    assert len(read) == 18
    assert all(not options.next_observations for options in read)
