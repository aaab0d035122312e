"""Each fault of a user: its sentence, exit code 2, nothing on standard output and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.cli.main import main
from safetrax.data import write_hdf5


@pytest.fixture
def fault(capsys, tmp_path, monkeypatch):
    """Run a command that must fail in an empty folder; its sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("safetrax.training.program.Program.init", None)  # no compute is spent

    def run(*words: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(list(words)) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("safetrax: ")
        assert said.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return said.err.removeprefix("safetrax: ").rstrip("\n")

    return run


TRAIN = ("train", "trac", "--data", "demo")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("train", "tarc", "--data", "demo"), "there is no algorithm 'tarc'; did you mean trac?"),
        (("train", "bc", "--data", "demo"), "did you mean bc-all?"),
        (("train", "--data", "demo"), "the algorithm comes first"),
        (("train", "trac"), "safetrax train trac needs --data PATH|TASK|demo: A data set"),
        ((*TRAIN, "--segment-ration", "0.5"), "has no flag --segment-ration; did you mean --segment-ratio?"),
        ((*TRAIN, "--zzz", "0.5"), "has no flag --zzz; safetrax train trac --help shows all."),
        ((*TRAIN, "--seeds", "0", "--seeds", "1"), "--seeds is given twice"),
        ((*TRAIN, "--seeds"), "--seeds needs a value: Training seeds."),
        ((*TRAIN, "--seeds", "one"), "error parsing --seeds: Could not find valid parse for arguments: ['one']."),
        ((*TRAIN, "--top", "x"), "error parsing --top: could not convert string to float: 'x'."),
        ((*TRAIN, "--log-to", "paper"), "invalid choice 'paper'"),
        ((*TRAIN, "again"), "unrecognized options: again."),
        (("train", "trac", "--data", "no/such.hdf5"), "no/such.hdf5 does not exist"),
        ((*TRAIN, "--task", "BalRun"), "there is no task 'BalRun'; did you mean BallRun"),
        ((*TRAIN, "--task", "AntRun"), "observations has 7 columns but AntRun has"),
        ((*TRAIN, "--cost-limits", "10", "-20"), "the cost limit -20 must be a finite number, zero or positive."),
        ((*TRAIN, "--segment-ratio", "1.5"), "segment_ratio is 1.5, but must lie in (0, 1]."),
        ((*TRAIN, "--segment-ratio", "0"), "segment_ratio is 0.0, but must lie in (0, 1]."),
        ((*TRAIN, "--log-every", "0"), "log_every is 0, but must be at least 1."),
        (("train", "bc-all", "--data", "demo", "--mode", "safe"), "has no flag --mode"),
        (("train", "--resume", "no/run"), "no/run is no run folder: it has no config.json; check the path"),
        (("train", "--resume"), "--resume needs a value"),
        (("train", "trac", "--resume", "run"), "leave out 'trac'"),
        (("evaluate",), "needs a run folder or policy files"),
        (("evaluate", "no/run"), "there is no run folder and no policy file at no/run"),
        (("evaluate", "x", "--task", "BalRun"), "did you mean BallRun"),
        (("evaluate", "x", "--video", "x.mp4"), "must be a file that ends in .gif"),
        (("evaluate", "x", "--cost-limits", "-1"), "the cost limit -1 must be"),
        (("inspect",), "safetrax inspect needs PATH|TASK|demo: A data set"),
        (("inspect", "no/such.hdf5"), "no/such.hdf5 does not exist"),
        (("inspect", "demo", "--figure", "x.bmp"), "its name must end in .png, .pdf, .svg."),
        (("inspect", "demo", "--cost-limits", "-1"), "the cost limit -1 must be"),
        (("inspect", "demo", "--top", "2"), "top is 2.0, but must lie in [0, 1]."),
        (("inspect", "demo", "--segment-ratio", "2"), "segment_ratio is 2.0"),
        (("doctor", "now"), "unrecognized options: now."),
    ],
)
def test_sentence(words, sentence, fault):
    assert sentence in fault(*words)


def test_a_file_that_is_not_hdf5(fault, tmp_path):
    (tmp_path / "notes.txt").write_text("no data")
    assert "notes.txt is not an HDF5 file" in fault("train", "trac", "--data", "notes.txt", "--out", "run")
    assert "notes.txt is not an HDF5 file" in fault("inspect", "notes.txt")
    assert "notes.txt is damaged or not a policy file" in fault("evaluate", "notes.txt")


def test_a_limit_of_zero_that_no_segment_meets(fault, tmp_path):
    data = toy_episodes([10] * 5)
    rows = [{**data.episode(e), "costs": [1.0] * 10} for e in range(5)]
    write_hdf5(tmp_path / "costly.hdf5", type(data).from_episodes(rows))
    words = ("train", "trac", "--data", "costly.hdf5", "--cost-limits", "0", "--no-evaluate")
    assert "no segment of 10 steps meets the cost limit 0" in fault(*words)


def test_results_that_could_not_be_written(fault, tmp_path):
    (tmp_path / "file").write_text("")
    for flag, name in (("--out", "file/rows.csv"), ("--video", "file/x.gif")):
        assert f"cannot write {name}: " in fault("evaluate", "x", flag, name)


def test_data_of_no_task_need_limits(fault, tmp_path):
    write_hdf5(tmp_path / "own.hdf5", toy_episodes([10] * 5))
    assert "needs cost limits" in fault("train", "trac", "--data", "own.hdf5", "--no-evaluate")


def test_a_run_folder_that_exists(fault, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    assert "the run folder run exists and is not empty" in fault(*TRAIN, "--out", "run")


def test_a_folder_that_cannot_be_written(fault, tmp_path):
    Path(tmp_path / "file").write_text("")
    assert "a part of the path is a file, not a folder" in fault(*TRAIN, "--out", "file/run")


def test_a_moved_data_set(fault, tmp_path):
    config = '{"algorithm": {"class": "BC"}, "task": null, "runs": [[null, 0]], "cost_limits": []'
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config + ', "record": {"data_path": "/gone/data.hdf5"}}')
    sentence = fault("train", "--resume", "run")
    assert sentence == "the data set of run is no longer at /gone/data.hdf5; pass its new place with --data."
    (tmp_path / "run" / "config.json").write_text(config + ', "record": {}}')
    assert "does not say where the data set is; pass --data." in fault("train", "--resume", "run")
    (tmp_path / "run" / "config.json").write_text('{"algorithm": {"class": "GPT"}, "runs": []}')
    assert "names the algorithm 'GPT', which neither this version nor" in fault("train", "--resume", "run")


def _broken(name: str, change) -> str:
    """A copy of a good file of BallRun's sizes, with one thing wrong."""
    data = toy_episodes([10] * 5, observation_size=7)
    write_hdf5(name, data)
    with h5py.File(name, "r+") as file:
        change(file)
    return name


def _without_costs(file):
    del file["costs"]


def _with_short_rewards(file):
    rewards = file["rewards"][:-1]
    del file["rewards"]
    file["rewards"] = rewards


def _with_nan(file):
    file["observations"][3, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_costs, "costs"),
        (_with_short_rewards, "rewards"),
        (_with_nan, "1 value is missing (NaN): o0 in 1 cell of 1 episode, first in row 3 (episode 0); "),
    ],
)
def test_data_with_something_wrong(fault, change, words, capsys):
    file = _broken("data.hdf5", change)
    if change is _without_costs:  # the file is read all the same, with a warning that names what was looked for
        assert main(["train", "trac", "--data", file, "--task", "BallRun", "--out", "run"]) == 2
        warning, error = capsys.readouterr().err.splitlines()
        assert "warning: data.hdf5: the log holds no costs" in warning
        assert "TraC learns from costs, and the log holds no costs" in error
        return
    assert words in fault("train", "trac", "--data", file, "--task", "BallRun", "--out", "run")


def test_data_of_another_task(fault):
    file = _broken("data.hdf5", lambda file: None)
    assert "observations" in fault("train", "trac", "--data", file, "--task", "AntRun", "--out", "run")


def test_a_truncated_file(fault):
    file = Path(_broken("data.hdf5", lambda file: None))
    file.write_bytes(file.read_bytes()[:-2000])
    assert "data.hdf5" in fault("train", "trac", "--data", str(file), "--out", "run")


def test_a_limit_of_zero_or_segments_that_fit_nothing(fault):
    assert "segment_ratio is 1.5" in fault(*TRAIN, "--segment-ratio", "1.5")
    assert "less than one step" in fault(*TRAIN, "--segment-ratio", "0.001")


def test_a_checkpoint_of_another_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = ["--updates", "1", "--batch-size", "4", "--hidden", "4", "--no-evaluate"]
    assert main(["train", "bc-all", "--data", "demo", "--out", "run", *tiny]) == 0
    config = json.loads(Path("run/config.json").read_text())
    config["algorithm"]["learning_rate"] = 0.5
    Path("run/config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 2
    assert "learning_rate was 0.001 and is now 0.5" in capsys.readouterr().err


def test_a_disk_that_fills_up(tmp_path):
    """Files may grow to 100 kB, which is less than a checkpoint."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from safetrax.cli.main import main\n"
        "sys.exit(main(['train', 'bc-all', '--data', 'demo', '--out', 'run', '--updates', '1', '--no-evaluate']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("safetrax: cannot write run/checkpoint.safetensors: the file would be larger")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["config.json", "metrics.csv"]
