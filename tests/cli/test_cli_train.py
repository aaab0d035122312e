"""`safetrax train`: what reaches the library, presets and their precedence, resuming, and one run from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from safetensors.numpy import load_file

import safetrax as st
from conftest import toy_episodes
from safetrax.algorithms.registry import ALGORITHMS
from safetrax.cli import session
from safetrax.cli.main import main
from safetrax.data import write_hdf5
from safetrax.errors import RunError, SimulatorError
from safetrax.evaluation.episodes import EpisodeRow, read_episodes
from safetrax.evaluation.result import Evaluation
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import DeterministicActor
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId
from safetrax.training.run_folder import RunFolder
from safetrax.training.train import Run, TrainingInterruptedError

TINY = ("--updates", "6", "--hidden", "8", "--batch-size", "4", "--log-every", "3")


@pytest.fixture
def planned(monkeypatch):
    """The session that a command would run."""
    seen = []
    monkeypatch.setattr(session.Session, "run", lambda self: seen.append(self) or 0)

    def plan(*words: str) -> session.Session:
        assert main(["train", *words]) == 0
        return seen[-1]

    return plan


@pytest.mark.parametrize(
    ("words", "discount", "top"),
    [
        (("--data", "demo"), 0.99, 0.5),  # Bullet's
        (("--data", "x.hdf5"), 0.99, 0.5),  # no task: the class's
        (("--data", "x.hdf5", "--task", "easysparse"), 1.0, 0.25),  # MetaDrive's
        (("--data", "x.hdf5", "--task=easysparse"), 1.0, 0.25),
        (("--task", "easysparse", "--data", "demo"), 1.0, 0.25),  # --task wins over the file's name
        (("--data", "x.hdf5", "--task", "easysparse", "--discount", "0.99"), 0.99, 0.25),  # given: stays
        (("--discount=0.99", "--top=0.5", "--task", "easysparse", "--data", "x.hdf5"), 0.99, 0.5),
    ],
)
def test_a_given_value_wins_over_the_preset_and_the_preset_over_the_class(words, discount, top, planned):
    algorithm = planned("trac", *words).algorithm
    assert (algorithm.discount, algorithm.top) == (discount, top)


def test_the_fast_schedule_stands_where_the_published_one_was(planned):
    words = ("--data", "demo", "--schedule", "fast", "--updates", "9")
    fast = st.TraC.preset("bullet", "BallRun", schedule="fast")
    assert planned("trac", *words).algorithm == replace(fast, updates=9)


def test_the_data_files_name_chooses_the_preset(planned):
    algorithm = planned("trac", "--data", "far/SafetyPointGoal1Gymnasium-v0-100-2022.hdf5").algorithm
    assert (algorithm.temperature, algorithm.segment_ratio) == (0.1, 0.75)


@pytest.mark.parametrize("word", ALGORITHMS)
def test_every_algorithm_is_offered_with_the_settings_that_its_word_stands_for(word, planned):
    algorithm = planned(word, "--data", "demo", "--updates", "7").algorithm
    assert algorithm.updates == 7
    assert type(algorithm).__name__ == ALGORITHMS[word].class_name
    assert all(getattr(algorithm, name) == value for name, value in ALGORITHMS[word].fixed.items())


def test_the_default_folder_is_named_after_task_and_algorithm(planned):
    assert planned("bc-all", "--data", "demo").options.out == "runs/BallRun-bc-all"
    assert planned("trac", "--data", "my/log.hdf5").options.out == "runs/log-trac"


def test_help_shows_defaults_and_docstrings(capsys):
    assert main(["train", "trac", "--task", "easysparse", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "gamma in Eq. 7, counted from the segment's first step. (default: 1.0)" in out
    assert "--seeds INT [INT ...] Training seeds. (default: 0)" in out
    assert "New folder for settings, checkpoints, metrics, policies and evaluation episodes." in out
    assert "the published settings for metadrive, as in easysparse" in out


def test_help_without_an_algorithm_lists_them(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"{word:<18}{choice.line}" in out for word, choice in ALGORITHMS.items())


@pytest.fixture
def own_data(tmp_path):
    """A data set of no known task."""
    path = tmp_path / "own.hdf5"
    write_hdf5(path, toy_episodes([10] * 12))
    return path


def weights(out):
    """The arrays of all policies, as bytes by file and name."""
    files = (out / "policies").iterdir()
    return {(file.name, name): x.tobytes() for file in files for name, x in load_file(file).items()}


def test_train_then_resume_with_no_other_flag(own_data, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["bc-safe", "--data", str(own_data), "--cost-limits", "2", "4", "--seeds", "3", "1", "--out", str(out)]
    assert main(["train", *words, *TINY]) == 0
    said = capsys.readouterr()
    assert "will not be evaluated: the data set names no task" in said.err
    assert "trained 4 policies of BC-Safe" in said.out
    assert f"safetrax certify {out} --data {own_data.resolve()}" in " ".join(said.out.split())
    assert (out / "curves.png").stat().st_size > 10_000

    config = RunFolder.open(out).config()
    assert config["record"]["data_path"] == str(own_data.resolve())
    assert (config["cost_limits"], config["seeds"]) == ([2.0, 4.0], [3, 1])

    before = weights(out)
    metrics = (out / "metrics.csv").read_text()
    for path in (out / "policies").iterdir():
        path.unlink()
    assert main(["train", "--resume", str(out), "--no-evaluate"]) == 0
    assert "will not be evaluated" not in capsys.readouterr().err
    assert weights(out) == before
    assert (out / "metrics.csv").read_text() == metrics

    assert RunFolder(out).state().attempts == 2
    result = (out / "result.json").read_text()
    (out / "result.json").write_text(result.replace('"attempts": 2', '"attempts": null'))
    assert main(["train", "--resume", str(out), "--no-evaluate"]) == 2  # now, not when all is trained
    assert "attempts is None, but must be a whole number); remove it" in capsys.readouterr().err
    (out / "result.json").write_text(result)

    other = tmp_path / "other.hdf5"
    write_hdf5(other, toy_episodes([10] * 12, seed=1))
    assert main(["train", "--resume", str(out), "--data", str(other)]) == 2
    assert "belongs to another configuration: data was" in capsys.readouterr().err


def test_resume_keeps_how_often_to_log_and_evaluate(tmp_path, monkeypatch, planned):
    config = {
        "algorithm": {"class": "TraC", "discount": 0.5, "hidden": [8]},
        "task": "BallRun",
        "seeds": [3, 1],
        "cost_limits": [10.0, 20.0],
        "record": {"data_path": "demo", "options": {"log_every": 7, "log_to": ["wandb"], "evaluate_every": 30}},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    plan = planned("--resume", str(tmp_path))
    assert plan.resume
    assert plan.algorithm == type(plan.algorithm)(discount=0.5, hidden=(8,))
    options = plan.options
    assert (options.data, options.task, options.out) == ("demo", "BallRun", str(tmp_path))
    assert (options.seeds, options.cost_limits) == ((3, 1), (10.0, 20.0))
    assert (options.log_every, options.log_to, options.evaluate_every) == (7, ("wandb",), 30)


def test_an_interrupt_prints_its_sentence_and_ends_with_130(own_data, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise TrainingInterruptedError("stopped at update 3 of 6 and saved; go on with: safetrax train --resume run")

    monkeypatch.setattr(session, "train", interrupted)
    assert main(["train", "bc-all", "--data", str(own_data), "--no-evaluate"]) == 130
    assert capsys.readouterr().err == (
        "safetrax: stopped at update 3 of 6 and saved; go on with: safetrax train --resume run\n"
    )


def test_a_missing_simulator_is_said_and_training_succeeds(tmp_path, monkeypatch, capsys):
    remedy = 'the bullet simulator cannot be imported; pip install "safetrax[bullet]".'

    def missing(suite: str) -> None:
        raise SimulatorError(remedy)

    monkeypatch.setattr("safetrax.envs.make.load_suite", missing)
    assert main(["train", "bc-all", "--data", "demo", "--out", str(tmp_path / "run"), *TINY]) == 0
    said = capsys.readouterr()
    assert f"safetrax: warning: the trained policies will not be evaluated: {remedy}\n" in said.err
    assert "trained 1 policy of BC-All" in said.out
    assert not (tmp_path / "run" / "episodes.csv").exists()

    out = str(tmp_path / "other")
    assert main(["train", "bc-all", "--data", "demo", "--out", out, "--evaluate-every", "3", *TINY]) == 2
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_rows_that_could_not_be_written_are_an_error_after_the_table(tmp_path, monkeypatch, planned, capsys):
    """A simulator that fails is a warning, for the policies are saved; a full disk is not."""
    row = EpisodeRow("BC-All", "BallRun", None, 0, 6, 0, 0, 500.0, 3.0, 100)

    def full(path, rows):
        raise RunError(f"cannot write {path}: the disk is full; free some space and try again.")

    monkeypatch.setattr("safetrax.evaluation.rollout.evaluate", lambda *args, **more: Evaluation((row,), 1.0, 100))
    monkeypatch.setattr("safetrax.training.run_folder.merge_episodes", full)
    folder = RunFolder.create(tmp_path / "run", {})
    actor = DeterministicActor(MLP.make(jax.random.key(0), (7, 2), output="tanh"), jnp.full(2, -1.0), jnp.ones(2))
    policies = Policies.stack([Policy(actor, RunId("BC-All", "BallRun", None, 0))])
    run = Run(policies, {}, (), (), folder)
    with pytest.raises(RunError, match="the disk is full"):
        planned("bc-all", "--data", "demo")._evaluate(run, folder)
    assert "BC-All" in capsys.readouterr().out


def test_from_the_shell_to_an_evaluated_policy(tmp_path):
    pytest.importorskip("bullet_safety_gym")
    out = tmp_path / "run"

    def shell(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from safetrax.cli.main import main; sys.exit(main())", *words],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout  # no colours in a pipe
        return done.stdout

    words = ("trac", "--data", "demo", "--cost-limits", "20", "40", "--out", str(out), "--evaluation-episodes", "2")
    text = shell("train", *words, "--pretrain-updates", "4", *TINY)
    assert "TraC" in text
    assert " mean " in text
    rows = read_episodes(out / "episodes.csv")
    assert {row.step for row in rows} == {10}
    assert sorted((row.cost_limit, row.episode) for row in rows) == [(20, 0), (20, 1), (40, 0), (40, 1)]
    policy = out / "policies" / "TraC_limit-20_seed-0.safetensors"
    text = shell("evaluate", str(policy), "--episodes", "2", "--out", str(tmp_path / "rows.csv"))
    again = read_episodes(tmp_path / "rows.csv")
    assert [row.env_seed for row in again] == [0, 1]
    assert [row.return_ for row in again] == pytest.approx([row.return_ for row in rows[:2]])
