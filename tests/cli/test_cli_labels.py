"""`--labels` and logs without costs: what `inspect` says, training from a hand-written file, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import toy_episodes
from safetrax.cli.main import main
from safetrax.data import load, to_pandas, write_hdf5
from safetrax.data.filters import Demonstrations, LabelsFromCosts, parse_filters
from safetrax.errors import ConfigError
from safetrax.training.run_folder import RunFolder

TINY = ("--updates", "3", "--hidden", "4", "--batch-size", "4", "--log-every", "3", "--no-evaluate")


@pytest.fixture
def bare_log(tmp_path: Path) -> Path:
    """Ten drives called 1 to 10 with a column that might be the cost."""
    frame = to_pandas(toy_episodes([10] * 10)).rename(columns={"cost": "collision"})
    path = tmp_path / "log.csv"
    frame.assign(episode=frame["episode"] + 1).to_csv(path, index=False)
    (tmp_path / "marks.csv").write_text("episode,label\n1,safe\n2,safe\n10,unsafe\n")
    return path


def test_inspect_names_what_is_not_read_and_counts_labels(bare_log, capsys):
    assert main(["inspect", str(bare_log)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "actions of 2, no costs" in out
    assert "warning: log.csv: the log holds no costs, unless in what is not read (collision)" in out
    assert "There are no costs to hold against a limit." in out
    assert f"safetrax train iql --data {bare_log}" in out
    labels = str(bare_log.with_name("marks.csv"))
    assert main(["inspect", str(bare_log), "--labels", labels, "--cost-limits", "3"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no costs; labels: 2 safe, 7 unknown, 1 unsafe" in out
    assert "TraC from labels: 2 desirable, 1 undesirable, 7 unused segments of 10 steps; 30.0% of the log's" in out
    assert f"safetrax train trac --data {bare_log} --cost-limits 3 --labels {labels}" in out
    assert main(["inspect", str(bare_log), "--cost-limits", "3", "--figure", "x.png"]) == 2
    assert "the figure shows episodes by cost, and the log holds no costs" in capsys.readouterr().err
    assert main(["inspect", str(bare_log), "--filters", "safe:3"]) == 2
    assert "the filter safe:3 needs costs, and the log holds no costs" in capsys.readouterr().err


def test_inspect_shows_hidden_costs_and_saves_them(tmp_path, capsys):
    write_hdf5(tmp_path / "log.hdf5", toy_episodes([10] * 10))
    saved = tmp_path / "demonstrations.hdf5"
    words = ("--cost-limits", "3", "--filters", "demonstrations:2", "--save", str(saved))
    assert main(["inspect", str(tmp_path / "log.hdf5"), *words]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    read = next(row for row in rows if row[:2] == ["as", "read"])
    after = next(row for row in rows if row[:1] == ["demonstrations:2,cost-limit=3"])
    assert after[1:] == read[2:]
    assert f"safetrax train bc-safe --data {saved}" in out
    data = load(saved)
    assert data.costs is None
    assert data.hidden_costs is not None
    assert data.marks.sum() == 2


def test_train_from_a_hand_written_file_and_resume(bare_log, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    words = ["trac", "--data", str(bare_log), "--labels", "marks.csv", "unsafe:9", "--out", str(out)]
    assert main(["train", *words, "--pretrain-updates", "2", *TINY]) == 0
    said = capsys.readouterr()
    assert "labels: 2 desirable, 2 undesirable, 6 unused segments of 10 steps; 40.0% of the log's steps" in said.err
    config = RunFolder.open(out).config()
    assert config["algorithm"]["label_source"] == "labels"
    assert config["record"]["options"]["labels"] == [str(tmp_path / "marks.csv"), "unsafe:9"]
    (policy,) = (out / "policies").iterdir()
    before = load_file(policy)
    policy.unlink()
    monkeypatch.chdir("/")
    assert main(["train", "--resume", str(out), "--no-evaluate"]) == 0
    for name, array in load_file(policy).items():
        np.testing.assert_array_equal(array, before[name])
    (tmp_path / "marks.csv").write_text("episode,label\n3,safe\n")
    assert main(["train", "--resume", str(out), "--no-evaluate"]) == 2
    assert "belongs to another configuration: data was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trac",), "TraC learns from costs, and the log holds no costs, unless in what is not read (collision)"),
        (("trac", "--labels", "safe:1,2"), "none is marked unsafe; mark some (--labels), or make labels of costs"),
        (("bc-safe", "--labels", "unsafe:1"), "BC-Safe learns from marked episodes and none is marked safe"),
        (("trac", "--labels", "safe:0"), "there is no episode '0'; the log's are called 1, 2, 3, 4, 5, ... 10."),
        (("trac", "--labels", "safe:1", "unsafe:1"), "calls episode 1 both safe and unsafe"),
        (("trac", "--labels", "gone.csv"), "gone.csv: this file of labels does not exist"),
        (("bc-risky", "--label-source", "labels"), "label_source is labels, but BC-Risky selects by cost"),
    ],
)
def test_bad_input_is_one_sentence(words, said, bare_log, tmp_path, capsys):
    algorithm, *rest = words
    assert main(["train", algorithm, "--data", str(bare_log), *rest, "--out", str(tmp_path / "run"), *TINY]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_words_of_filters():
    assert parse_filters(["demonstrations:15"], [20.0]) == (Demonstrations(15, 20),)
    assert parse_filters(["labels-from-costs:10,by=return,cost-limit=5"]) == (
        LabelsFromCosts(10, cost_limit=5, by="return"),
    )
    words = [
        "demonstrations:15,cost-limit=20",
        "labels-from-costs:10,cost-limit=20",
        "labels-from-costs:cost-limit=20",
    ]
    assert [str(entry) for entry in parse_filters(words)] == words
    with pytest.raises(ConfigError, match="write, for instance, demonstrations:15,cost-limit=20"):
        parse_filters(["demonstrations:15"])
