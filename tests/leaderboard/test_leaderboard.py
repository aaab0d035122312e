"""The leaderboard: own results beside published ones, who is best, and which sentences stand beside whom."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from finished import finish
from safetrax.algorithms import BC, LSPC, Algorithm, TraC
from safetrax.catalogue import get_task
from safetrax.data.download import dataset_path, new_record, write_record
from safetrax.errors import ConfigError, DataError, RunError, TaskError
from safetrax.evaluation.episodes import EpisodeRow, write_episodes
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Job
from safetrax.leaderboard.leaderboard import Entry, Leaderboard, leaderboard
from safetrax.leaderboard.own_results import limits_difference, own_results
from safetrax.leaderboard.rendering import HEADINGS, Notes, cells, figure, to_json, to_markdown
from safetrax.training.run_folder import RunFolder

RUN = get_task("BallRun")
HALF = (RUN.reward_min + RUN.reward_max) / 2  # the return that scores 0.5
HASH = "ab" * 32
LAST_STEP = 100_000  # of TraC's preset on Bullet: 30,000 + 70,000


@pytest.fixture(autouse=True)
def datasets(monkeypatch, tmp_path) -> Path:
    """The folder of the downloaded data sets; empty."""
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


def record_download(datasets: Path, digest: str = HASH, url: str | None = "https://example.org/x.hdf5") -> None:
    datasets.mkdir(exist_ok=True)
    write_record(dataset_path(RUN), new_record(digest, 1, url))


def rows(
    limit: float | None,
    seed: int,
    costs: Sequence[float] = (0.0,) * 20,
    *,
    algorithm: str = "TraC",
    task: str = "BallRun",
    step: int | None = LAST_STEP,
    return_: float = HALF,
) -> list[EpisodeRow]:
    return [EpisodeRow(algorithm, task, limit, seed, step, i, i, return_, c, 100) for i, c in enumerate(costs)]


def as_published() -> list[EpisodeRow]:
    """Three limits, three seeds, twenty episodes."""
    return [row for limit in (10.0, 20.0, 40.0) for seed in (0, 10, 20) for row in rows(limit, seed)]


def make_run(
    path: Path,
    episodes: Sequence[EpisodeRow],
    *,
    algorithm: Algorithm | None = None,
    data: Mapping[str, Any] | None = None,
    fingerprint: str = "data-1",
    **config: Any,
) -> Path:
    """A run folder as `train` makes it, without networks."""
    algorithm = TraC.preset("bullet") if algorithm is None else algorithm
    settings = json.loads(json.dumps({"class": type(algorithm).__name__, **algorithm.config()}))
    facts = {
        "algorithm": settings,
        "task": "BallRun",
        "cost_limits": [10.0, 20.0, 40.0],
        "updates": algorithm.total_updates,
        "data": {"source": RUN.dataset_file, "sha256": HASH, "task": "BallRun"} if data is None else dict(data),
        "record": {"data_path": "BallRun"},
        "signature": {"algorithm": settings, "task": "BallRun", "runs": [[str(path), 0]], "data": fingerprint},
    }
    folder = RunFolder.create(path, facts | config)
    if episodes:
        write_episodes(folder.episodes_file, episodes)
    return path


def entry_of(board: Leaderboard, algorithm: str, source: str) -> Entry:
    (found,) = [e for task in board.boards for e in task.entries if e.algorithm == algorithm and source in e.sources]
    return found


def own_entry(*paths: Path) -> Entry:
    board = leaderboard(paths, task_names=["BallRun"])
    (found,) = [entry for entry in board.boards[0].entries if entry.own]
    return found


def test_without_runs_it_is_what_is_published():
    board = leaderboard()
    assert len(board.boards) == 38
    assert [task.task for task in board.boards[:2]] == ["PointButton1", "PointButton2"]
    assert [source.key for source in board.sources] == ["trac", "trac-repository", "lspc", "fisor", "bars", "b2r"]
    (task,) = leaderboard(task_names=["ballrun"]).boards
    assert (task.task, task.suite) == ("BallRun", "bullet")
    trac = entry_of(leaderboard(task_names=["BallRun"]), "TraC", "trac")
    assert (trac.reward, trac.cost, trac.cost_limits, trac.safe) == (0.27, 0.47, (10.0, 20.0, 40.0), True)
    assert (trac.own, trac.reward_error, trac.data) == (False, None, "DSRL")
    assert trac.differences == trac.remarks == ()


def test_safe_ones_come_first_and_copies_are_one_entry():
    (task,) = leaderboard(task_names=["BallRun"]).boards
    safe = [entry.safe for entry in task.entries]
    assert safe == sorted(safe, reverse=True)
    rewards = [entry.reward for entry in task.entries if entry.safe]
    assert rewards == sorted(rewards, reverse=True)
    clones = [entry for entry in task.entries if entry.algorithm == "BC-Safe"]
    assert [(entry.sources, entry.reward, entry.cost) for entry in clones] == [
        (("trac", "trac-repository", "lspc"), 0.27, 1.46)
    ]


def test_the_best_is_best_among_the_same_limits():
    (task,) = leaderboard(task_names=["BallRun"]).boards
    # safe at 10, 20, 40: TraC 0.27 (twice), FISOR 0.18, LSPC-O 0.14, LSPC-S 0.08; at 5: CDT 0.32 and FISOR 0.18
    assert [(entry.algorithm, entry.cost_limits) for entry in task.entries if entry.best] == [
        ("CDT", (5.0,)),
        ("TraC", (10.0, 20.0, 40.0)),
        ("TraC", (10.0, 20.0, 40.0)),
    ]
    (task,) = leaderboard(task_names=["easysparse"]).boards
    (unknown,) = [entry for entry in task.entries if entry.algorithm == "B2R"]
    assert unknown.cost_limits == ()
    assert unknown.safe
    assert not unknown.best  # the only one of its limits, which are unknown


def test_ablations_and_repeats_are_left_out():
    (task,) = leaderboard(task_names=["AntCircle"], algorithms=["trac"]).boards
    assert [(entry.reward, entry.cost) for entry in task.entries] == [(0.49, 0.91), (0.47, 0.98)]
    (task,) = leaderboard(task_names=["CarGoal2"], algorithms=["BARS"]).boards
    assert {(entry.cost_limits, entry.reward) for entry in task.entries} == {
        ((10.0,), 0.07),
        ((20.0,), 0.10),
        ((40.0,), 0.20),
    }


def test_published_entries_say_how_they_differ():
    board = leaderboard(task_names=["CarGoal2", "easysparse"])
    (bars,) = [e for e in board.boards[0].entries if e.algorithm == "BARS" and e.cost_limits == (10.0,)]
    assert bars.differences == (
        "Scored at the cost limit 10, not at the benchmark's 20, 40, 80.",
        "The source does not state its number of training seeds.",
    )
    fisor = entry_of(board, "FISOR", "b2r")
    assert fisor.sources == ("fisor", "b2r")
    assert fisor.differences == ("Scored at the cost limit 5, not at the benchmark's 10, 20, 40.",)
    assert "The source does not state its cost limits." in entry_of(board, "B2R", "b2r").differences
    for task in board.boards:
        for entry in task.entries:
            chosen = any("checkpoint" in sentence for sentence in entry.differences)
            assert chosen == (entry.algorithm in ("LSPC-S", "LSPC-O"))


def test_corrections_and_doubts_are_remarks():
    board = leaderboard(task_names=["easysparse", "CarButton1"])
    (cdt,) = [e for e in board.boards[1].entries if e.algorithm == "CDT" and "lspc" in e.sources]
    assert cdt.cost == 0.23
    assert cdt.remarks == (
        "lspc, Table 3: the cost is printed as 0.25; LSPC's Table 1, TraC's table and the printed average have 0.23.",
    )
    (paper,) = [e for e in board.boards[1].entries if e.algorithm == "TraC" and "trac" in e.sources]
    assert "incompatible MetaDrive" in paper.remarks[0]
    (fisor,) = [e for e in board.boards[0].entries if e.algorithm == "FISOR" and "lspc" in e.sources]
    assert fisor.cost == 0.076
    assert fisor.remarks[0].startswith("lspc, Table 4: the cost is printed as 0.04; inferred: ")


def test_selection_by_suite_method_and_source():
    board = leaderboard(suites=["metadrive"], algorithms=["lspc-o", "TraC"], sources=["LSPC", "trac-repository"])
    assert [task.task for task in board.boards][:2] == ["easysparse", "easymean"]
    assert len(board.boards) == 9
    assert {entry.algorithm for task in board.boards for entry in task.entries} == {"LSPC-O", "TraC"}
    assert [source.key for source in board.sources] == ["trac-repository", "lspc"]
    assert leaderboard(task_names=["PointButton1"], sources=["bars"]).boards == ()
    both = leaderboard(task_names=["BallRun"], suites=["metadrive"])
    assert len(both.boards) == 10


def test_unknown_names_have_a_neighbour():
    for arguments, kind, fault in (
        ({"task_names": ["BallRum"]}, TaskError, "there is no task 'BallRum'; did you mean BallRun"),
        ({"suites": ["bulet"]}, TaskError, "there is no suite 'bulet'; did you mean bullet?"),
        ({"algorithms": ["TraK"]}, ConfigError, "there is no algorithm 'TraK' here; did you mean trac?"),
        ({"algorithms": ["LSPC"]}, ConfigError, "there is no algorithm 'LSPC' here; did you mean lspc-o?"),
        ({"sources": ["lspcc"]}, ConfigError, "there is no source 'lspcc'; did you mean lspc?"),
    ):
        with pytest.raises(kind) as caught:
            leaderboard(**arguments)
        assert str(caught.value).startswith(fault)


def test_a_run_as_published_stands_beside_the_published(tmp_path, datasets):
    record_download(datasets)
    run = make_run(tmp_path / "run", as_published())
    board = leaderboard([run])
    assert [task.task for task in board.boards] == ["BallRun"]
    entry = own_entry(run)
    assert entry.differences == ()
    assert (entry.algorithm, entry.sources, entry.data) == ("TraC", (str(run),), "DSRL")
    assert entry.reward == pytest.approx(0.5)
    assert (entry.cost, entry.cost_limits) == (0.0, (10.0, 20.0, 40.0))
    assert (entry.safe, entry.best) == (True, True)  # 0.50 against the published 0.27
    published = [e for e in board.boards[0].entries if e.best and not e.own]
    assert [e.algorithm for e in published] == ["CDT"]  # of limit 5
    assert board.boards[0].entries[0] == entry


def test_means_and_errors_by_hand(tmp_path):
    """Costs 5, 10, 30 at limits 10, 20, 40: 0.5, 0.5, 0.75; one seed each."""
    episodes = [
        row for limit, cost in ((10.0, 5.0), (20.0, 10.0), (40.0, 30.0)) for row in rows(limit, 0, [cost] * 2)
    ]
    entry = own_entry(make_run(tmp_path / "run", episodes))
    assert entry.cost == pytest.approx(1.75 / 3)
    # deviations -1/12, -1/12, 1/6: variance (1/144 + 1/144 + 4/144) / 2 = 1/48
    assert entry.cost_error == pytest.approx(math.sqrt(1 / 48 / 3))
    assert entry.reward_error == pytest.approx(0.0)


def test_only_the_last_evaluated_update_counts(tmp_path):
    early = [row for limit in (10.0, 20.0, 40.0) for row in rows(limit, 0, [40.0] * 20, step=500, return_=0.0)]
    unknown = rows(10.0, 0, [40.0], step=None)
    run = make_run(tmp_path / "run", early + as_published() + unknown)
    entry = own_entry(run)
    assert entry.reward == pytest.approx(0.5)
    assert entry.cost == 0.0
    assert not any("updates" in sentence for sentence in entry.differences)


DIFFERS = {
    "data": "Trained on mine.hdf5, not on DSRL's SafetyBallRun-v0-80-940.hdf5.",
    "seeds": "2 training seeds per cost limit, where DSRL's protocol has 3.",
    "episodes": "19 evaluation episodes per policy, where DSRL's protocol has 20.",
    "limits": "Scored at the cost limits 10, 20, not at the benchmark's 10, 20, 40.",
    "updates": "Evaluated after 5,000 updates, where the published settings have 100,000.",
}


def _fewer(change: str) -> list[EpisodeRow]:
    found = as_published()
    if change == "seeds":
        return [row for row in found if (row.cost_limit, row.seed) != (20.0, 10)]
    if change == "episodes":
        return found[:-1]
    if change == "limits":
        return [row for row in found if row.cost_limit != 40.0]
    if change == "updates":
        return [row for limit in (10.0, 20.0, 40.0) for seed in (0, 1, 2) for row in rows(limit, seed, step=5000)]
    return found


@pytest.mark.parametrize("change", DIFFERS)
def test_each_difference_has_its_sentence_and_no_other(change, tmp_path, datasets):
    record_download(datasets)
    config: dict[str, Any] = {}
    if change == "data":
        config["data"] = {"source": "mine.hdf5", "sha256": "cd" * 32, "task": "BallRun"}
    if change == "updates":
        config["updates"] = 5000
    entry = own_entry(make_run(tmp_path / "run", _fewer(change), **config))
    assert entry.differences == (DIFFERS[change],)


def test_a_file_that_only_bears_dsrls_name(tmp_path, datasets):
    run = make_run(tmp_path / "run", as_published())
    sentence = (
        "Trained on a file that is named SafetyBallRun-v0-80-940.hdf5 as DSRL's is, but no download on this machine "
        "confirms that it is DSRL's."
    )
    assert own_entry(run).differences == (sentence,)
    assert own_entry(run).data == HASH
    record_download(datasets, "cd" * 32)  # another file was downloaded
    assert own_entry(run).differences == (sentence,)
    record_download(datasets, url=None)  # put there by hand
    assert own_entry(run).differences == (sentence,)
    (datasets / f"{RUN.dataset_file}.sha256.json").write_text("{")
    assert own_entry(run).differences == (sentence,)
    nowhere = make_run(tmp_path / "nowhere", as_published(), record={"data_path": ""})
    assert own_entry(nowhere).differences == (sentence,)
    record_download(datasets)
    assert own_entry(run).differences == ()


def test_a_record_beside_the_file_that_was_trained_on_confirms_it_too(tmp_path):
    elsewhere = tmp_path / "elsewhere" / RUN.dataset_file
    elsewhere.parent.mkdir()
    write_record(elsewhere, new_record(HASH, 1, "https://example.org/x.hdf5"))
    run = make_run(tmp_path / "run", as_published(), record={"data_path": str(elsewhere)})
    assert own_entry(run).differences == ()


def test_other_data_are_told_apart(tmp_path, datasets):
    record_download(datasets)
    dsrl = {"source": RUN.dataset_file, "sha256": HASH}
    filtered = {**dsrl, "filters": [{"name": "density"}, {"name": "outliers"}]}
    joined = {"task": "BallRun", "parts": [dsrl, {"source": "collected.hdf5", "sha256": "1"}]}
    entry = own_entry(make_run(tmp_path / "filtered", as_published(), data=filtered, fingerprint="f"))
    assert entry.differences == ("Its data were filtered before training: density, outliers.",)
    assert entry.data == f'{HASH} [{{"name": "density"}}, {{"name": "outliers"}}]'
    entry = own_entry(make_run(tmp_path / "joined", as_published(), data=joined))
    assert entry.differences == (
        "Trained on SafetyBallRun-v0-80-940.hdf5 and collected.hdf5, not on DSRL's SafetyBallRun-v0-80-940.hdf5.",
    )
    entry = own_entry(make_run(tmp_path / "unknown", as_published(), data={}))
    assert entry.differences == (
        "Which data it was trained on is not recorded; the published figures are for SafetyBallRun-v0-80-940.hdf5.",
    )
    entry = own_entry(make_run(tmp_path / "transferred", as_published(), task="BallCircle"))
    assert entry.differences == ("Trained for BallCircle, evaluated on BallRun.",)


def test_own_data_have_a_best_of_their_own(tmp_path):
    mine = {"source": "mine.hdf5", "sha256": "1"}
    # the fingerprint is of the arrays that an algorithm reads, some of next observations too
    good = make_run(tmp_path / "good", as_published(), data=mine, fingerprint="with next observations")
    clones = [EpisodeRow(**{**vars(row), "algorithm": "BC-Safe", "return_": 0.0}) for row in as_published()]
    poor = make_run(tmp_path / "poor", clones, algorithm=BC(mode="safe"), data=mine)
    (task,) = leaderboard([good, poor]).boards
    own = {entry.algorithm: entry for entry in task.entries if entry.own}
    assert own["TraC"].best
    assert not own["BC-Safe"].best
    # a reward of 0.5 on other data does not outrank the published 0.27
    assert [e.reward for e in task.entries if e.best and e.data == "DSRL" and len(e.cost_limits) == 3] == [0.27, 0.27]


def test_settings_are_compared_with_the_preset(tmp_path, datasets):
    record_download(datasets)
    changed = TraC.preset("bullet")
    changed = type(changed)(**{**vars(changed), "batch_size": 7, "eta": 3.0})
    entry = own_entry(make_run(tmp_path / "run", as_published(), algorithm=changed))
    preset = TraC.preset("bullet")
    assert len(entry.differences) == 1
    sentence = entry.differences[0]
    assert sentence.startswith("Settings other than the published: ")
    assert set(sentence.removeprefix("Settings other than the published: ").rstrip(".").split("; ")) == {
        f"batch_size 7 instead of {preset.batch_size}",
        f"eta 3.0 instead of {preset.eta}",
    }


def test_a_setting_that_names_the_method_is_no_difference(tmp_path, datasets):
    record_download(datasets)
    episodes = [EpisodeRow(**{**vars(row), "algorithm": "BC-Safe"}) for row in as_published()]
    entry = own_entry(make_run(tmp_path / "run", episodes, algorithm=BC(mode="safe")))
    assert entry.differences == ()
    episodes = [EpisodeRow(**{**vars(row), "step": 3000}) for row in episodes]
    short = make_run(tmp_path / "short", episodes, algorithm=BC(mode="safe", updates=3000))
    assert own_entry(short).differences == (
        "Evaluated after 3,000 updates, where the published settings have 100,000.",
    )


def test_many_changed_settings_are_cut_short(tmp_path, datasets):
    record_download(datasets)
    preset = TraC.preset("bullet")
    other = {"batch_size": 7, "eta": 3.0, "discount": 0.5, "top": 0.3, "bottom": 0.1, "weight_floor": 0.2}
    run = make_run(tmp_path / "run", as_published(), algorithm=type(preset)(**{**vars(preset), **other}))
    (sentence,) = own_entry(run).differences
    assert sentence.endswith("; and 1 more.")
    assert sentence.count(" instead of ") == 5


def test_unfinished_and_continued_trainings_say_so(tmp_path, datasets):
    record_download(datasets)
    half = [row for limit in (10.0, 20.0, 40.0) for seed in (0, 1, 2) for row in rows(limit, seed, step=50_000)]
    entry = own_entry(make_run(tmp_path / "half", half))
    assert entry.differences == (
        "Evaluated after 50,000 updates, where the published settings have 100,000.",
        "Its training goes on to 100,000 updates; its last policy is not evaluated.",
    )
    settings = {"class": "TraC", **TraC.preset("bullet").config()}
    signature = {"algorithm": settings, "data": "d", "start_from": "x"}
    entry = own_entry(make_run(tmp_path / "warm", as_published(), signature=signature))
    assert entry.differences == ("Its training began with the networks of another run.",)


def test_one_training_of_lspc_is_two_entries(tmp_path, datasets):
    record_download(datasets)
    step = LSPC.preset("bullet", "BallRun").total_updates
    episodes = [
        row
        for name in ("LSPC-O", "LSPC-S")
        for seed in (0, 1, 2)
        for row in rows(None, seed, [9.0] * 20, algorithm=name, step=step)
    ]
    run = make_run(tmp_path / "run", episodes, algorithm=LSPC.preset("bullet", "BallRun"))
    (task,) = leaderboard([run]).boards
    own = [entry for entry in task.entries if entry.own]
    assert {entry.algorithm for entry in own} == {"LSPC-O", "LSPC-S"}
    for entry in own:
        assert entry.differences == ()
        assert entry.cost == pytest.approx(9 * 0.0583333, abs=1e-5)  # 9 (1/10 + 1/20 + 1/40) / 3


def test_folders_of_other_seeds_and_limits_are_one_result(tmp_path, datasets):
    record_download(datasets)
    parts = [
        make_run(tmp_path / f"seed-{seed}", [row for row in as_published() if row.seed == seed])
        for seed in (0, 10, 20)
    ]
    (result,) = own_results([*parts, parts[0]])
    assert result.title == ", ".join(map(str, parts))
    assert result.summary.seeds == 3
    assert result.differences == ()
    # the same seed once more, or other data, is another result
    again = make_run(tmp_path / "again", [row for row in as_published() if row.seed == 0])
    other = make_run(tmp_path / "other", [row for row in as_published() if row.seed == 10], fingerprint="data-2")
    assert len(own_results([parts[0], again])) == 2
    assert len(own_results([parts[0], other])) == 2


def test_an_episodes_file_without_a_run(tmp_path):
    path = tmp_path / "episodes.csv"
    write_episodes(path, as_published())
    entry = own_entry(path)
    assert entry.differences == ("How it was trained is unknown: its episodes do not lie in a run folder.",)
    assert entry.data == str(path)


def test_a_task_outside_the_benchmark_has_own_entries_only(tmp_path):
    limits = get_task("ReachAvoid").cost_limits
    episodes = [row for limit in limits for row in rows(limit, 0, task="ReachAvoid", return_=5.46)]
    run = make_run(tmp_path / "run", episodes, task="ReachAvoid", data={"source": "generated"})
    (task,) = leaderboard([run]).boards
    (entry,) = task.entries
    assert (task.task, entry.reward) == ("ReachAvoid", pytest.approx(1.0))
    assert "DSRL's" not in " ".join(entry.differences).replace("DSRL's protocol", "")


def test_faults_of_runs_are_one_sentence(tmp_path):
    with pytest.raises(
        RunError, match=r"there is no benchmark, no run folder and no episodes file at .*nowhere; check the path"
    ):
        leaderboard([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"neither a benchmark \(no grid.json\) nor a run folder"):
        leaderboard([tmp_path / "empty"])
    fresh = make_run(tmp_path / "fresh", [])
    with pytest.raises(RunError, match=r"has no evaluation episodes; run safetrax evaluate .*fresh first\."):
        leaderboard([fresh])
    write_episodes(fresh / "episodes.csv", [])
    with pytest.raises(RunError, match="has no evaluation episodes"):
        leaderboard([fresh])
    broken = make_run(tmp_path / "broken", as_published())
    with (broken / "episodes.csv").open("a") as file:
        file.write("TraC,BallRun,10.0,0\n")
    with pytest.raises(DataError, match=r"episodes\.csv, line 182: 4 cells, expected 10; is the line cut off"):
        leaderboard([broken])
    (fresh / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        leaderboard([fresh])
    empty = tmp_path / "episodes.csv"
    write_episodes(empty, [])
    with pytest.raises(RunError, match="has no evaluation episodes"):
        leaderboard([empty])
    write_episodes(empty, rows(10.0, 0, task="BallJump"))
    with pytest.raises(TaskError, match="there is no task 'BallJump'"):
        leaderboard([empty])


def test_a_configuration_that_somebody_edited(tmp_path):
    strange = {"algorithm": "TraC", "data": 3, "signature": None, "record": [], "updates": "many"}
    run = make_run(tmp_path / "run", as_published())
    (run / "config.json").write_text(json.dumps(strange))
    with pytest.raises(RunError, match=r"config.json is damaged \(algorithm is 'TraC', but must be of type dict"):
        own_results([run])


def test_limits_in_words():
    assert limits_difference((10.0, 20.0, 40.0), RUN) is None
    assert limits_difference((7.5,), RUN) == "Scored at the cost limit 7.5, not at the benchmark's 10, 20, 40."
    assert limits_difference((), RUN) == "The source does not state its cost limits."


def test_figures():
    assert figure(0.276, None) == "0.28"
    assert figure(-0.001, 0.004) == "0.00 ± 0.00"
    assert figure(1.004, None) == "1.004"  # 1.00 would look safe
    assert figure(1.0, None) == "1.00"
    assert figure(0.999, None) == "1.00"


def test_notes_are_numbered_once():
    board = leaderboard(
        task_names=["BallRun"], sources=["fisor", "lspc"], algorithms=["FISOR", "CPQ", "LSPC-S", "LSPC-O"]
    )
    notes = Notes()
    shown = {(e.algorithm, e.sources): cells(e, notes)[-1] for e in board.boards[0].entries}
    assert shown["FISOR", ("fisor",)] == shown["CPQ", ("fisor",)] == "1"
    assert shown["LSPC-S", ("lspc",)] == shown["LSPC-O", ("lspc",)] == "2"
    assert shown["FISOR", ("lspc",)] == ""
    assert [number for number, _ in notes.lines()] == [1, 2]


def test_markdown(tmp_path, datasets):
    record_download(datasets)
    run = make_run(tmp_path / "a|b", as_published()[:-1])
    text = to_markdown(leaderboard([run], algorithms=["TraC", "BC-Safe"], sources=["trac"]))
    lines = text.splitlines()
    assert lines[0] == "## BallRun"
    assert lines[2] == "| algorithm | limits | reward | cost | safe | source | notes |"
    assert lines[3] == "|---" * len(HEADINGS) + "|"
    own = str(run).replace("|", "\\|")
    assert lines[4:7] == [
        f"| **TraC** | 10, 20, 40 | **0.50 ± 0.00** | **0.00 ± 0.00** | **best** | own: {own} | 1 |",
        "| TraC | 10, 20, 40 | **0.27** | **0.47** | yes | trac |  |",
        "| BC-Safe | 10, 20, 40 | 0.27 | 1.46 | no | trac |  |",
    ]
    assert f"1. {DIFFERS['episodes']}" in lines
    assert lines[-1].startswith("* trac: Z. Gong, ")
    assert text.endswith("\n")
    bare = to_markdown(leaderboard(task_names=["BallRun"], algorithms=["TraC"], sources=["trac"]))
    assert "Notes:" not in bare


def test_json(tmp_path):
    run = make_run(tmp_path / "run", as_published())
    value = json.loads(to_json(leaderboard([run], algorithms=["TraC"])))
    assert set(value) == {"tasks", "sources"}
    (task,) = value["tasks"]
    assert (task["task"], task["suite"]) == ("BallRun", "bullet")
    (own,) = [entry for entry in task["entries"] if entry["own"]]
    assert own["reward"] == pytest.approx(0.5)
    assert own["cost"] == 0.0
    (paper,) = [entry for entry in task["entries"] if entry["sources"] == ["trac"]]
    assert paper["cost_limits"] == [10.0, 20.0, 40.0]
    assert (paper["reward"], paper["cost"], paper["safe"], paper["best"]) == (0.27, 0.47, True, True)
    assert [source["key"] for source in value["sources"]] == ["trac", "trac-repository"]
    assert value["sources"][0]["faults"]


def test_a_benchmark_folder_is_read_as_a_whole(tmp_path):
    task = get_task("BallRun")
    span = task.reward_max - task.reward_min
    jobs = [
        Job(f"BallRun-{word}", word, "", {}, "BallRun", "demo", (10.0,), (0,), 2, 0) for word in ("trac", "bc-safe")
    ]
    folder = BenchmarkFolder.make(tmp_path / "b", jobs)
    with pytest.raises(RunError, match=r"no job of .* is done yet"):
        own_results([folder.path])
    for job, algorithm, reward in zip(jobs, ("TraC", "BC-Safe"), (0.5, 0.25), strict=True):
        rows = tuple(
            EpisodeRow(algorithm, "BallRun", 10.0, 0, step, n, n, task.reward_min + value * span, 1.0, 100)
            for step, value in ((5, 9.0), (10, reward))
            for n in range(2)
        )
        finish(folder, job, rows)
    found = {result.summary.algorithm: result for result in own_results([folder.path])}
    assert found["TraC"].summary.normalised_return.mean == pytest.approx(0.5)
    assert found["BC-Safe"].summary.normalised_return.mean == pytest.approx(0.25)
    assert found["TraC"].title == str(folder.path)
