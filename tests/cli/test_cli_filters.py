"""`--filters`: the words, what `inspect` shows and saves, and training with them, also resumed."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import toy_episodes
from safetrax.cli import inspect as inspect_module
from safetrax.cli import session
from safetrax.cli.main import main
from safetrax.data import Trajectories, load, write_hdf5
from safetrax.data.filters import (
    FILTERS,
    Density,
    Epsilon,
    Frontier,
    Inpaint,
    Noise,
    Outliers,
    QualityMix,
    Safe,
    Thin,
    TopK,
    apply_filters,
    filter_lines,
    parse_filters,
)
from safetrax.errors import ConfigError
from safetrax.policies.policy import Policy
from safetrax.training.run_folder import RunFolder

TINY = ("--updates", "6", "--hidden", "8", "--batch-size", "4", "--log-every", "3", "--no-evaluate")


# words


@pytest.mark.parametrize(
    ("word", "entry", "canonical"),
    [
        ("density:0.5", Density(0.5), "density:0.5"),
        ("density", Density(), "density"),
        ("density:cost-bins=5,most=3", Density(cost_bins=5, most=3), "density:cost-bins=5,most=3"),
        ("density:cost_range=0:80", Density(cost_range=(0, 80)), "density:cost-range=0:80"),
        ("outliers:0.05,seed=3", Outliers(0.05, 20, seed=3), "outliers:0.05,cost-limit=20,seed=3"),
        ("inpaint:0.25:0.5:0.5:1", Inpaint(((0.25, 0.5, 0.5, 1),)), "inpaint:0.25:0.5:0.5:1"),
        (
            "inpaint:0:0.1:0:1+0.9:1:0:1",
            Inpaint(((0, 0.1, 0, 1), (0.9, 1, 0, 1))),
            "inpaint:0:0.1:0:1+0.9:1:0:1",
        ),
        ("epsilon:-10", Epsilon(-10, 20), "epsilon:-10,cost-limit=20"),
        ("epsilon:-10.5,cost-limit=7", Epsilon(-10.5, 7), "epsilon:-10.5,cost-limit=7"),
        ("Noise:1e-3", Noise(0.001), "noise:0.001"),
        ("safe", Safe(20), "safe:20"),
        ("safe:10", Safe(10), "safe:10"),
        ("frontier", Frontier(), "frontier"),
        ("top_k:5,by=cost", TopK(5, by="cost"), "top-k:5,by=cost"),
        ("top-k:5,cost-limit=10", TopK(5, cost_limit=10), "top-k:5,cost-limit=10"),
        (
            "quality-mix:8:1,safe-episodes=40",
            QualityMix((8, 1), 20, 40),
            "quality-mix:8:1,cost-limit=20,safe-episodes=40",
        ),
        ("thin:100", Thin(100), "thin:100"),
    ],
)
def test_a_word_is_a_filter_and_back(word, entry, canonical):
    (parsed,) = parse_filters([word], cost_limits=(20.0,))
    assert parsed == entry
    assert str(parsed) == canonical
    assert parse_filters([canonical]) == (entry,)  # with its limit in it, it needs no other


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("densty:0.5", "there is no filter 'densty'; did you mean density?"),
        ("colour", "there is no filter 'colour'; choose one of density, outliers"),
        ("density:", "'density:' ends after its colon; write a value, such as density:0.5."),
        ("noise:much", "noise:much has 'much' for scale, which must be a number."),
        ("noise", "the filter noise needs scale: Standard deviations of noise"),
        ("top-k:1.5", "has '1.5' for k, which must be a whole number."),
        ("top-k:3,by=length", "has 'length' for by, which must be return or cost."),
        ("quality-mix:8", "has '8' for ratio, which must be 2 whole numbers joined by colons."),
        ("inpaint:0:1:0", "for ranges, which must be 4 numbers joined by colons, several of them joined by +."),
        ("noise:0.1,3", "has '3' without a key; only the first value needs none, so write seed=3"),
        ("noise:0.1,sed=3", "has no key 'sed'; did you mean seed?"),
        ("noise:0.1,seed=1,seed=2", "sets seed twice"),
        ("density:2", "the filter density:2: share is 2.0, but must lie between 0 and 1."),
        ("safe:-1", "the filter safe:-1: the cost limit -1 must be"),
        (
            "epsilon:3",
            "needs a cost limit of its own, for --cost-limits gives 3; write, for instance, epsilon:3,cost-limit",
        ),
        ("safe", "write, for instance, safe:20."),
        ("outliers:cost-limit=20", "needs share: Of all episodes"),
    ],
)
def test_wrong_words_are_one_sentence(word, message):
    with pytest.raises(ConfigError) as error:
        parse_filters([word], cost_limits=(10.0, 20.0, 40.0))
    assert message in str(error.value)


def test_help_has_a_line_for_every_filter(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["inspect", "--help"]) == 0
    out = capsys.readouterr().out
    lines = filter_lines().splitlines()
    assert [line.split()[0].split(":")[0] for line in lines] == list(FILTERS)
    assert all(line in out for line in lines)
    assert max(map(len, lines)) <= 118


# inspect


def rows(out: str, label: str) -> list[list[str]]:
    return [line.split()[len(label.split()) :] for line in out.splitlines() if line.startswith(f" {label} ")]


def test_inspect_shows_before_and_after_each_filter(tmp_path, capsys):
    figure = tmp_path / "scatter.svg"
    words = ["safe:40", "top-k:30", "noise:0.1"]
    assert main(["inspect", "demo", "--filters", *words, "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    assert rows(out, "as read")[0] == ["300", "30,000", "56", "87", "141"]
    assert rows(out, "safe:40")[0] == ["141", "14,100", "56", "87", "141"]
    top = rows(out, "top-k:30")
    assert top[0][:2] == ["30", "3,000"]
    assert top[1][:3] == ["100,", "100,", "100"]
    assert top[1][5] == "661.47"
    assert rows(out, "noise:0.1") == top
    assert "after the filters: no faults found" in out
    labels = next(line.split() for line in out.splitlines() if line.split()[:1] == ["40"])
    assert labels[1:4] == ["30", "(100.0%)", "661.47"]
    assert "safetrax train trac --data demo --filters safe:40 top-k:30 noise:0.1" in out
    drawing = figure.read_text()
    assert drawing.count(">before filters (300)<") == 3
    assert ">unused (30)<" not in drawing
    assert ">desirable (15)<" in drawing


def test_inspect_without_filters_shows_no_such_table(capsys):
    assert main(["inspect", "demo"]) == 0
    out = capsys.readouterr().out
    assert "as read" not in out
    assert "filters" not in out


def test_inspect_stops_where_a_filter_leaves_nothing(tmp_path, capsys):
    write_hdf5(tmp_path / "own.hdf5", toy_episodes([10] * 5))
    assert main(["inspect", str(tmp_path / "own.hdf5"), "--filters", "safe:5", "risky:50"]) == 2
    assert "the filter risky:50 keeps none of the" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # sums of infinities
def test_inspect_finds_what_a_filter_broke(capsys):
    assert main(["inspect", "demo", "--filters", "outliers:0.05,cost-limit=20,reward-factor=1e300"]) == 2
    assert "after the filters: error: SafetyBallRun-v0-demo.hdf5: rewards holds" in capsys.readouterr().out


def test_faults_of_the_words_are_found_before_the_data_are_read(capsys):
    assert main(["inspect", "nowhere.hdf5", "--filters", "densty:0.5"]) == 2
    assert "did you mean density?" in capsys.readouterr().err
    assert main(["train", "bc-all", "--data", "nowhere.hdf5", "--filters", "densty:0.5"]) == 2
    assert "did you mean density?" in capsys.readouterr().err


# saving


def test_inspect_saves_the_filtered_data(tmp_path, capsys):
    out = tmp_path / "small.hdf5"
    words = ["outliers:0.05,seed=3", "top-k:20"]
    assert main(["inspect", "demo", "--cost-limits", "20", "--filters", *words, "--save", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"saved     {out} (without next_observations" in said
    assert f"safetrax train trac --data {out} --task BallRun --cost-limits 20\n" in said
    expected = apply_filters(load("demo"), [Outliers(0.05, 20, seed=3), TopK(20)])
    assert load(out).fingerprint() == expected.fingerprint()
    with h5py.File(out) as file:
        assert json.loads(file.attrs["filters"]) == json.loads(json.dumps(expected.info["filters"]))
        assert (file.attrs["source"], file.attrs["task"]) == ("SafetyBallRun-v0-demo.hdf5", "BallRun")


def test_saved_data_keep_their_next_observations(tmp_path, capsys):
    toy = toy_episodes([10] * 5)
    episodes = [{**toy.episode(e), "next_observations": toy.episode(e)["observations"] + 1} for e in range(5)]
    write_hdf5(tmp_path / "own.hdf5", Trajectories.from_episodes(episodes))
    words = ["--cost-limits", "5", "--filters", "top-k:3", "noise:0.1", "--save", str(tmp_path / "new.hdf5")]
    assert main(["inspect", str(tmp_path / "own.hdf5"), *words]) == 0
    assert f"saved     {tmp_path / 'new.hdf5'}\n" in capsys.readouterr().out
    after = load(tmp_path / "new.hdf5", next_observations=True)
    assert after.num_episodes == 3
    assert np.abs(after.next_observations - after.observations - 1).max() > 0  # noise of their own


@pytest.mark.parametrize(
    ("name", "message"),
    [("new.csv", "its name must end in .hdf5 or .h5"), ("own.hdf5", "is the data set that is read; choose another")],
)
def test_a_bad_place_to_save_is_refused_at_once(name, message, tmp_path, capsys, monkeypatch):
    write_hdf5(tmp_path / "own.hdf5", toy_episodes([10] * 5))
    monkeypatch.setattr(inspect_module, "load", lambda *_, **__: pytest.fail("the data were read"))
    assert main(["inspect", str(tmp_path / "own.hdf5"), "--save", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


# training


@pytest.fixture
def own_data(tmp_path):
    path = tmp_path / "own.hdf5"
    write_hdf5(path, toy_episodes([10] * 12))
    return path


def parameters(out):
    """The arrays of all policies, as bytes by file and name."""
    files = (out / "policies").iterdir()
    return {(file.name, name): x.tobytes() for file in files for name, x in load_file(file).items()}


def test_train_with_filters_and_resume_without_naming_them(own_data, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--data", str(own_data), "--cost-limits", "4", "--filters", "quality-mix:1:1", "noise:0.1,seed=5"]
    assert main(["train", "bc-all", *words, "--out", str(out), *TINY]) == 0
    said = capsys.readouterr().out
    data = apply_filters(load(own_data), [QualityMix((1, 1), 4), Noise(0.1, seed=5)])
    assert f"filter    quality-mix:1:1,cost-limit=4: 12 episodes to {data.num_episodes}" in said
    config = RunFolder.open(out).config()
    assert config["data"]["filters"] == json.loads(json.dumps(data.info["filters"]))
    assert config["record"]["options"]["filters"] == ["quality-mix:1:1,cost-limit=4", "noise:0.1,seed=5"]
    assert config["signature"]["data"] == data.fingerprint() != load(own_data).fingerprint()
    policy = next((out / "policies").iterdir())
    assert [r["name"] for r in Policy.load(policy).metadata["data"]["filters"]] == ["quality-mix", "noise"]

    before = parameters(out)
    for path in (out / "policies").iterdir():
        path.unlink()
    assert main(["train", "--resume", str(out), "--no-evaluate"]) == 0
    assert "filter    noise:0.1,seed=5" in capsys.readouterr().out
    assert parameters(out) == before

    config["record"]["options"]["filters"] = ["quality-mix:1:1,cost-limit=4", "noise:0.1,seed=6"]
    (out / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(out), "--no-evaluate"]) == 2
    assert "belongs to another configuration: data was" in capsys.readouterr().err


def test_a_run_from_python_is_resumed_with_the_filters_of_its_data(tmp_path, monkeypatch):
    filtered = apply_filters(load("demo"), [TopK(8), Outliers(0.05, 20, cost_max=0, return_max=0)])
    config = {
        "algorithm": {"class": "BC"},
        "cost_limits": [20.0],
        "seeds": [0],
        "data": dict(filtered.info),
        "record": {"data_path": "demo"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    seen = []
    monkeypatch.setattr(session.Session, "run", lambda self: seen.append(self) or 0)
    assert main(["train", "--resume", str(tmp_path)]) == 0
    assert seen[0].options.filters == ("top-k:8", "outliers:0.05,cost-limit=20,cost-max=0,return-max=0")


def test_the_words_of_a_run_have_their_limit_in_them(monkeypatch):
    seen = []
    monkeypatch.setattr(session.Session, "run", lambda self: seen.append(self) or 0)
    assert main(["train", "bc-all", "--data", "demo", "--cost-limits", "20", "--filters", "safe", "epsilon:9"]) == 0
    assert seen[0].options.filters == ("safe:20", "epsilon:9,cost-limit=20")


# logs with gaps


@pytest.fixture
def gappy(tmp_path):
    """Eight episodes of ten steps; in the second an observation and a cost are missing, in the third an action."""
    data = toy_episodes([10] * 8)
    observations, actions, costs = data.observations.copy(), data.actions.copy(), data.costs.copy()
    observations[14, 0], costs[15], actions[23, 0] = np.nan, np.nan, np.nan
    write_hdf5(tmp_path / "log.hdf5", replace(data, observations=observations, actions=actions, costs=costs))
    return str(tmp_path / "log.hdf5")


def test_inspect_counts_gaps_and_ends_with_2_or_shows_what_mends_them(gappy, capsys):
    assert main(["inspect", gappy]) == 2
    out = capsys.readouterr().out
    assert (
        "error: log.hdf5: 3 values are missing (NaN): o0 in 1 cell of 1 episode, first in row 14 (episode 1);" in out
    )
    assert "; a0 in 1 cell of 1 episode, first in row 23 (episode 2); costs in 1 cell" in out
    assert main(["inspect", gappy, "--filters", "fill:1", "--cost-limits", "3"]) == 2
    out = capsys.readouterr().out
    assert "fill o0 in 1 cell of 1 episode, first in row 14 (episode 1)" in out
    assert rows(out, "as read")[0] == ["8", "80", "-"]  # how many are safe is not known
    assert "after the filters: error: log.hdf5: 1 value is missing (NaN): costs in 1 cell" in out
    assert main(["inspect", gappy, "--filters", "fill:1", "drop", "--cost-limits", "3"]) == 0
    out = capsys.readouterr().out
    assert rows(out, "drop")[0][:2] == ["7", "70"]
    assert "drop costs in 1 cell of 1 episode, first in row 15 (episode 1)" in out
    assert "--filters fill:1 drop" in out


def test_every_command_refuses_gaps_and_train_keeps_what_mended_them(gappy, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["train", "bc-all", "--data", gappy, "--out", out, *TINY]) == 2
    assert "3 values are missing (NaN): o0 in" in capsys.readouterr().err
    words = ("--filters", "fill:1,also=costs", "drop")
    assert main(["train", "bc-all", "--data", gappy, "--out", out, *TINY, *words]) == 0
    assert "fill costs in 1 cell of 1 episode" in capsys.readouterr().out
    records = RunFolder.open(out).config()["data"]["filters"]
    assert [entry["column"] for entry in records[0]["cells"]] == ["o0", "a0", "costs"]
    for verb in ("export", "monitor", "certify"):
        capsys.readouterr()
        assert main([verb, out, "--data", gappy]) == 2
        assert "3 values are missing (NaN)" in capsys.readouterr().err


def test_a_plants_log_from_csv_to_training(tmp_path, monkeypatch, capsys):
    """Twenty batches of thirty rows every 5 s: heat 0 to 29 but for a leap and an empty cell; no rewards or costs."""
    monkeypatch.chdir(tmp_path)
    lines = ["batch,timestamp,heat,valve"]
    for batch in range(20):
        for step in range(30):
            heat = {(3, 10): "9999", (4, 12): ""}.get((batch, step), str(step))
            moment = f"2025-03-01T{batch:02}:{step // 12:02}:{step % 12 * 5:02}Z"
            lines.append(f"B{batch},{moment},{heat},{step % 2}")
    (tmp_path / "plant.csv").write_text("\n".join(lines) + "\n")
    roles = {"observations": ["heat"], "actions": ["valve"], "episode": "batch", "action_low": 0}
    (tmp_path / "plant.columns.json").write_text(json.dumps(roles))
    assert main(["inspect", "plant.csv"]) == 2
    assert 'or compute it: columns={"reward": false} and the filter relabel' in capsys.readouterr().err
    (tmp_path / "plant.columns.json").write_text(json.dumps({**roles, "reward": False}))
    assert main(["inspect", "plant.csv"]) == 2
    assert "601 values are missing (NaN): heat in 1 cell of 1 episode, first in row 132 (episode 4)" in (
        capsys.readouterr().out
    )
    words = ["--filters", "spikes:20", "fill:3", "relabel:reward=-abs(heat - 20),cost=heat > 25", "resample:10s"]
    assert main(["inspect", "plant.csv", *words, "--cost-limits", "3"]) == 0
    out = capsys.readouterr().out
    assert rows(out, "resample:10s")[0] == ["20", "300", "0"]  # each costs 4, for 26 to 29
    assert "spikes heat in 1 cell of 1 episode, first in row 100 (episode 3)" in out
    quoted = "--filters spikes:20 fill:3 'relabel:-abs(heat - 20),cost=heat > 25' resample:10s"
    assert quoted in out
    assert main(["train", "bc-all", "--data", "plant.csv", "--out", "run", *TINY, *words]) == 0
    assert f"safetrax export run --data {tmp_path / 'plant.csv'} {quoted}" in capsys.readouterr().out
