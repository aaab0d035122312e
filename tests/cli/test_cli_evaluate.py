"""`safetrax evaluate`: which policies are evaluated together, what is printed, and where the rows go."""

from __future__ import annotations

import itertools

import jax
import pytest

from safetrax.algorithms import BC, Spec
from safetrax.cli.main import main
from safetrax.cli.policy_sources import adjusted, load_sources
from safetrax.data import load
from safetrax.envs.lockstep import Lockstep
from safetrax.errors import ConfigError, SimulatorError
from safetrax.evaluation.episodes import EpisodeRow, merge_episodes, read_episodes
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId
from safetrax.training.run_folder import RunFolder


def make_policy(seed: int, *, limit: float | None = 20.0, hidden: int = 8, task: str | None = "BallRun") -> Policy:
    algorithm = BC(mode="safe", hidden=(hidden,), updates=5)
    actor = algorithm.actor(algorithm.init(jax.random.key(seed), Spec.of(load("demo"))))
    return Policy(actor, RunId("BC-Safe", task, limit, seed), {"updates": 5})


@pytest.fixture
def run(tmp_path):
    """A run folder with three policies."""
    folder = RunFolder.create(tmp_path / "run", {"cost_limits": [20.0, 40.0]})
    policies = [make_policy(0), make_policy(1), make_policy(0, limit=40.0)]
    folder.save_policies(Policies.stack(policies))
    return folder


@pytest.fixture
def conditioned(tmp_path):
    """A run folder as that of BC-Conditioned: two seeds, each at two limits."""
    folder = RunFolder.create(tmp_path / "conditioned", {"cost_limits": [20.0, 40.0]})
    algorithm = BC(mode="conditioned", hidden=(8,), updates=5)
    policies = []
    for seed in (0, 1):
        state = algorithm.init(jax.random.key(seed), Spec.of(load("demo")))
        trained = Policy(algorithm.actor(state), RunId(algorithm.name, "BallRun", None, seed), {"updates": 5})
        policies += [trained.adjusted(cost_limit=limit) for limit in (20.0, 40.0)]
    folder.save_policies(Policies.stack(policies))
    return folder


def test_a_folder_is_one_source_and_files_group_by_structure(run, tmp_path):
    files = []
    for name, policy in {
        "a": make_policy(0),
        "b": make_policy(1),
        "c": make_policy(2, hidden=4),
        "d": make_policy(3, task="BallCircle"),
    }.items():
        files.append(str(policy.save(tmp_path / f"{name}.safetensors")))
    sources = load_sources([str(run.path), *files], None)
    assert [len(source.policies) for source in sources] == [3, 2, 1, 1]
    assert [source.task for source in sources] == ["BallRun", "BallRun", "BallRun", "BallCircle"]
    assert [source.folder and source.folder.path for source in sources] == [run.path, None, None, None]
    assert sources[0].cost_limits == (20.0, 40.0)
    assert {source.step for source in sources} == {5}
    assert sources[1].title == f"{files[0]} and 1 more"


def test_files_of_the_same_run_are_not_averaged(tmp_path):
    files = [str(make_policy(0).save(tmp_path / f"{name}.safetensors")) for name in "ab"]
    with pytest.raises(ConfigError, match="are both called BC-Safe_limit-20_seed-0"):
        load_sources(files, None)


def test_a_policy_of_no_task_needs_one(tmp_path):
    path = str(make_policy(0, task=None).save(tmp_path / "a.safetensors"))
    with pytest.raises(ConfigError, match="pass --task"):
        load_sources([path], None)
    assert load_sources([path], "ballrun")[0].task == "BallRun"


def _row(step: int, env_seed: int, value: float) -> EpisodeRow:
    return EpisodeRow("BC-Safe", "BallRun", 20.0, 0, step, env_seed, env_seed, value, 0.0, 100)


def test_rows_of_the_same_episode_replace_each_other(tmp_path):
    path = tmp_path / "episodes.csv"
    merge_episodes(path, (_row(5, 0, 1.0), _row(5, 1, 2.0), _row(3, 0, 3.0)))
    merge_episodes(path, (_row(5, 1, 4.0), _row(5, 2, 5.0)))
    found = sorted((row.step, row.env_seed, row.return_) for row in read_episodes(path))
    assert found == [(3, 0, 3.0), (5, 0, 1.0), (5, 1, 4.0), (5, 2, 5.0)]


def test_evaluate_a_run_folder(run, tmp_path, capsys):
    pytest.importorskip("bullet_safety_gym")
    video = tmp_path / "episode.gif"
    assert main(["evaluate", str(run.path), "--episodes", "2", "--workers", "1", "--video", str(video)]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if line.startswith(" BC-Safe")]
    assert [line[1] for line in lines] == ["20", "40", "mean"]
    assert [line[2] for line in lines[:2]] == ["2", "1"]  # seeds
    assert all({"yes", "no"} & set(line) for line in lines)
    rows = read_episodes(run.episodes_file)
    assert len(rows) == 6
    assert {row.step for row in rows} == {5}
    assert video.read_bytes()[:4] == b"GIF8"

    assert main(["evaluate", str(run.path), "--episodes", "1", "--out", str(tmp_path / "rows.csv")]) == 0
    assert len(read_episodes(tmp_path / "rows.csv")) == 3
    assert read_episodes(run.episodes_file) == rows


def test_what_was_evaluated_before_a_simulator_fails_is_kept(run, tmp_path, capsys, monkeypatch):
    pytest.importorskip("bullet_safety_gym")
    advance, calls = Lockstep.advance, itertools.count()

    def failing(group):
        if next(calls) % 151 == 150:
            raise SimulatorError("the simulator is broken.")
        return advance(group)

    # 101 answers end the folder's episodes; the other policy is in the middle of its one
    file = str(make_policy(7, hidden=4).save(tmp_path / "other.safetensors"))
    monkeypatch.setattr(Lockstep, "advance", failing)
    command = ["evaluate", str(run.path), file, "--episodes", "1", "--workers", "1"]
    for place, extra in ((tmp_path / "rows.csv", ["--out", str(tmp_path / "rows.csv")]), (run.episodes_file, [])):
        assert main([*command, *extra]) == 2
        said = capsys.readouterr()
        assert "the simulator is broken" in said.err
        assert f"episodes  {place} (3)" in said.out
        assert len(read_episodes(place)) == 3


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["restriction"], "cannot take 'restriction'; write NAME=VALUE"),
        (["=3"], "cannot take '=3'"),
        (["restriction="], "cannot take 'restriction='"),
        (["restriction=wide"], "cannot set restriction to 'wide', which is not a finite number"),
        (["restriction=inf"], "cannot set restriction to 'inf'"),
        (["cost-limit=3", "cost_limit=4"], "sets cost_limit twice"),
    ],
)
def test_a_malformed_adjustment_is_refused_before_anything_is_loaded(capsys, words, fault):
    assert main(["evaluate", "nowhere", "--adjust", *words]) == 2
    said = capsys.readouterr().err
    assert fault in " ".join(said.split())


def test_adjustments_that_the_policies_do_not_have_are_refused(run, conditioned, capsys):
    assert main(["evaluate", str(run.path), "--adjust", "restriction=0.1"]) == 2
    assert "has no adjustable 'restriction'; it has nothing." in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(conditioned.path), "--adjust", "restriction=0.1"]) == 2
    assert "has no adjustable 'restriction'; it has cost_limit." in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(conditioned.path), "--adjust=cost-limit=-1"]) == 2
    assert "cost_limit is -1, but must lie between 0" in " ".join(capsys.readouterr().err.split())


def test_variants_that_become_the_same_are_evaluated_once(conditioned):
    (source,) = load_sources([str(conditioned.path)], None)
    assert len(source.policies) == 4
    assert adjusted(source, {}) is source
    changed = adjusted(source, {"cost_limit": 30.0}).policies
    assert [str(i) for i in changed.ids] == ["BC-Conditioned_limit-30_seed-0", "BC-Conditioned_limit-30_seed-1"]
    assert changed.actor.cost_limit.ravel().tolist() == [30.0, 30.0]
    weights = changed.actor.network.weights[0]
    assert float(abs(weights[0] - weights[1]).max()) > 0


def test_different_policies_that_would_be_called_the_same_are_refused(conditioned, tmp_path):
    (source,) = load_sources([str(conditioned.path)], None)
    other = source.policies[1].adjusted(cost_limit=7)  # of the other seed
    policies = Policies.stack([source.policies[0], Policy(other.actor, other.id._replace(seed=0), other.metadata)])
    files = [str(policy.save(tmp_path / f"{policy.id}.safetensors")) for policy in policies]
    (loose,) = load_sources(files, None)
    with pytest.raises(ConfigError, match="would both be called BC-Conditioned_limit-30_seed-0"):
        adjusted(loose, {"cost_limit": 30.0})


def test_adjusted_policies_join_the_others_in_the_folder(conditioned, capsys):
    pytest.importorskip("bullet_safety_gym")
    command = ["evaluate", str(conditioned.path), "--episodes", "1", "--workers", "1"]
    assert main(command) == 0
    assert main([*command, "--adjust", "cost-limit=30"]) == 0
    assert "BC-Conditioned" in capsys.readouterr().out
    found = sorted((row.cost_limit, row.seed) for row in read_episodes(conditioned.episodes_file))
    assert found == [(limit, seed) for limit in (20.0, 30.0, 40.0) for seed in (0, 1)]
