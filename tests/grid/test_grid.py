"""A grid becomes jobs; whatever is wrong with it is said before anything runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import safetrax as st
from safetrax.algorithms.registry import ALGORITHMS
from safetrax.catalogue import get_task, tasks
from safetrax.errors import ConfigError, TaskError
from safetrax.grid.ablations import ABLATIONS
from safetrax.grid.grid import Grid, Job, algorithm_of
from safetrax.grid.protocols import PROTOCOLS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with something under the names of two tasks' data sets."""
    folder = tmp_path / "data"
    folder.mkdir()
    for task in ("BallRun", "AntVelocity"):
        (folder / get_task(task).dataset_file).write_bytes(b"x")
    return folder


def test_a_job_per_algorithm_and_task_with_the_protocol_of_dsrl(data):
    jobs = Grid(algorithms=("trac", "bc-safe"), tasks=("BallRun", "antvelocity"), data=str(data)).jobs()
    assert [job.name for job in jobs] == [
        "BallRun-trac",
        "BallRun-bc-safe",
        "AntVelocity-trac",
        "AntVelocity-bc-safe",
    ]
    assert {job.cost_limits for job in jobs[:2]} == {(10.0, 20.0, 40.0)}
    assert {job.cost_limits for job in jobs[2:]} == {(20.0, 40.0, 80.0)}
    assert {(job.seeds, job.episodes) for job in jobs} == {((0, 10, 20), 20)}
    assert algorithm_of(jobs[0]) == st.TraC.preset("bullet", "BallRun")
    assert algorithm_of(jobs[2]) == st.TraC.preset("safety_gymnasium", "AntVelocity")
    assert algorithm_of(jobs[1]).name == "BC-Safe"


def test_a_schedule_stands_before_the_settings(tmp_path):
    grid = Grid(("fisor",), ("BallRun",), data="demo", schedule="fast", settings={"fisor": {"updates": 7}})
    (job,) = grid.jobs()
    assert algorithm_of(job) == replace(st.FISOR.preset("bullet", "BallRun", schedule="fast"), updates=7)
    assert json.loads(json.dumps(job.settings)) == job.settings
    with pytest.raises(ConfigError, match="schedule is slow, but must be published or fast"):
        replace(grid, schedule="slow").jobs()


def test_an_algorithm_without_a_fast_schedule_is_refused_in_a_fast_grid(monkeypatch):
    monkeypatch.setattr(st.FISOR, "fast", {})
    grid = Grid(("bc-all", "fisor"), ("BallRun",), data="demo")
    assert len(grid.jobs()) == 2
    with pytest.raises(ConfigError, match="FISOR has no fast schedule; leave it out, and set its updates"):
        replace(grid, schedule="fast").jobs()


def test_two_jobs_of_one_name_are_refused(data):
    grid = Grid(ablations=("trac-pretraining", "trac-reference"), tasks=("BallRun",), data=str(data))
    with pytest.raises(ConfigError, match="2 jobs of the grid would be called BallRun-trac-pretrained"):
        grid.jobs()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": [0, 0.5]}, "seeds[1] is 0.5, but must be a whole number"),
        ({"seeds": [1.0]}, "seeds[0] is 1.0, but must be a whole number"),
        ({"seeds": [True]}, "seeds[0] is True, but must be a whole number"),
        ({"cost_limits": [10**400]}, "but must have less than 309 digits"),
        ({"cost_limits": None}, "cost_limits is None, but must be a tuple"),
        ({"filters": [[]]}, "filters[0] is [], but must be of type str"),
        ({"filters": [None]}, "filters[0] is None, but must be of type str"),
        ({"episodes": 0}, "episodes is 0, but must be positive"),
        ({"evaluate_every": None}, "evaluate_every is None, but must be a whole number"),
        ({"settings": [1]}, "settings is (1,), but must be of type"),
        ({"task": 3}, "task is 3, but must be of type str"),
    ],
)
def test_what_a_saved_job_holds_is_checked(data, change, sentence):
    (job,) = Grid(algorithms=("trac",), tasks=("BallRun",), data=str(data)).jobs()
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        Job.from_json({**job.to_json(), **change})


@pytest.mark.parametrize("values", ["x", None, False, [0.0, 1.0], 3])
def test_what_is_no_job_is_refused(values):
    with pytest.raises(ConfigError, match=r"a job of the grid is damaged \(TypeError\(.it is "):
        Job.from_json(values)


def test_settings_of_an_algorithm_of_one_task_and_of_an_ablation(data):
    grid = Grid(
        algorithms=("trac",),
        ablations=("trac-eta",),
        tasks=("BallRun", "AntVelocity"),
        data=str(data),
        settings={"trac": {"updates": 7, "eta": 9.0, "hidden": [8, 8]}, "trac@BallRun": {"updates": 5}},
    )
    jobs = {job.name: algorithm_of(job) for job in grid.jobs()}
    assert len(jobs) == 10
    assert jobs["BallRun-trac"].updates == 5
    assert jobs["BallRun-trac"].hidden == (8, 8)
    assert jobs["AntVelocity-trac"].updates == 7
    assert [jobs[f"BallRun-trac-eta-{eta}"].eta for eta in ("0.25", "0.5", "1", "2")] == [0.25, 0.5, 1.0, 2.0]
    assert jobs["AntVelocity-trac"].eta == 9


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_is_possible_on_its_tasks(name, tmp_path):
    ablation = ABLATIONS[name]
    assert ablation.algorithm in ALGORITHMS
    for task in ablation.tasks:
        (tmp_path / get_task(task).dataset_file).touch()
    jobs = Grid(ablations=(name,), tasks=ablation.tasks, data=str(tmp_path)).jobs()
    assert len(jobs) == len(ablation.tasks) * len(ablation.variants)
    assert len({repr(algorithm_of(job)) for job in jobs if job.task == ablation.tasks[0]}) == len(ablation.variants)


def test_suites_and_protocols_by_name(tmp_path):
    for task in tasks("bullet"):
        (tmp_path / task.dataset_file).touch()
    grid = Grid(algorithms=("bc-all",), tasks=("bullet", "BallRun"), data=str(tmp_path), protocol="fisor")
    assert [job.task for job in grid.jobs()] == [task.name for task in tasks("bullet")]
    assert {job.cost_limits for job in grid.jobs()} == {(5.0,)}
    assert PROTOCOLS["dsrl"].limits(get_task("AntVelocity")) == (20.0, 40.0, 80.0)
    assert PROTOCOLS["bars"].limits(get_task("AntVelocity")) == (10.0,)


def test_a_file_says_the_same_as_arguments(data, tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text(
        f"""
        algorithms = ["trac"]
        tasks = ["BallRun"]
        data = "{data}"
        cost_limits = [10, 20]
        seeds = [1]
        episodes = 3
        [settings.trac]
        updates = 5
        """
    )
    jobs = Grid(
        algorithms=("trac",),
        tasks=("BallRun",),
        data=str(data),
        cost_limits=(10, 20),
        seeds=(1,),
        episodes=3,
        settings={"trac": {"updates": 5}},
    ).jobs()
    assert Grid.read(file).jobs() == jobs
    assert Job.from_json(json.loads(json.dumps(jobs[0].to_json()))) == jobs[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algorithms": ("tracc",)}, "there is no algorithm 'tracc'; did you mean trac?"),
        ({"ablations": ("trac-etta",)}, "there is no ablation 'trac-etta'; did you mean trac-eta?"),
        ({"protocol": "dsr"}, "there is no protocol 'dsr'; did you mean dsrl?"),
        ({"algorithms": ()}, "the grid is empty"),
        ({"tasks": ()}, "the grid is empty"),
        ({"episodes": 0}, "episodes is 0, but must be at least 1"),
        ({"evaluate_every": -1}, "evaluate_every is -1"),
        ({"seeds": (1, 1)}, "a seed is given twice"),
        ({"cost_limits": (5, 5)}, "a cost limit is given twice"),
        ({"cost_limits": (-5,)}, "-5"),
        ({"settings": {"trac": {"update": 3}}}, "trac has no setting 'update'; did you mean updates?"),
        ({"settings": {"trac": {"eta": -1}}}, "eta is -1"),
        ({"settings": {"lspc": {"updates": 1}}}, "settings names lspc, which is no algorithm of the grid"),
        ({"algorithms": ("bc-safe",), "settings": {"bc-safe": {"mode": "all"}}}, "bc-safe has no setting 'mode'"),
        ({"data": "no/such"}, "there is no folder no/such of data sets"),
        ({"data": "demo", "tasks": ("AntVelocity",)}, "ships with the package is of BallRun, not of AntVelocity"),
    ],
)
def test_faults_are_sentences(changes, words, data):
    grid = Grid(**{"algorithms": ("trac",), "tasks": ("BallRun",), "data": str(data), **changes})
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        grid.jobs()


def test_missing_and_ambiguous_data_sets(data, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="has no data set of CarRun, such as"):
        Grid(algorithms=("trac",), tasks=("CarRun",), data=str(data)).jobs()
    (data / "SafetyBallRun-v0-again.hdf5").touch()
    with pytest.raises(ConfigError, match="has 2 data sets of BallRun"):
        Grid(algorithms=("trac",), tasks=("BallRun",), data=str(data)).jobs()
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="run safetrax download CarRun"):
        Grid(algorithms=("trac",), tasks=("CarRun",)).jobs()


@pytest.mark.parametrize(("word", "near"), [("bulet", "bullet"), ("BalRun", "BallRun")])
def test_unknown_tasks_and_suites(word, near, data):
    with pytest.raises(TaskError, match=f"did you mean {near}"):
        Grid(algorithms=("trac",), tasks=(word,), data=str(data)).jobs()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("algorithm = ['trac']", "there is no key 'algorithm'; did you mean algorithms?"),
        ("algorithms = 'trac'", "algorithms must be a list of words"),
        ("seeds = [0.5]", "seeds must be a list of whole numbers"),
        ("cost_limits = [true]", "cost_limits must be a list of numbers"),
        ("episodes = '3'", "episodes must be a whole number"),
        ("settings = {trac = 3}", "settings must be a table of tables"),
        ("protocol = 3", "protocol must be a text"),
        ("x = = 3", "cannot be read as TOML"),
    ],
)
def test_faults_of_a_file(text, words, tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        Grid.read(file)
    with pytest.raises(ConfigError, match="there is no grid file"):
        Grid.read(tmp_path / "other.toml")


STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))
GRIDS = [path for path in STUDIES if path.name != "suite.toml"]  # that one is for collect


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.name)
def test_grids_of_studies_are_possible(path, tmp_path):
    grid = Grid.read(path)
    for task in grid.tasks:
        (tmp_path / get_task(task).dataset_file).touch()
    grid = replace(grid, data=str(tmp_path))
    assert len(grid.jobs()) == len(grid.tasks) * len(grid.algorithms)


def test_filters_of_a_grid_are_those_of_every_job(data):
    grid = Grid(
        algorithms=("bc-all",), tasks=("BallRun",), data=str(data), filters=("Quality_Mix:8:1,cost-limit=20",)
    )
    (job,) = grid.jobs()
    assert job.filters == ("quality-mix:8:1,cost-limit=20",)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    with pytest.raises(ConfigError, match="there is no filter"):
        replace(grid, filters=("quality:1",)).jobs()


def test_an_environment_of_ones_own(data):
    grid = Grid(algorithms=("bc-safe",), tasks=("lab:Valve-v0",), data=str(data), cost_limits=(2.0,))
    with pytest.raises(ConfigError, match=r"no data set of lab:Valve-v0, such as lab%3AValve-v0-collected\.hdf5"):
        grid.jobs()
    (data / "lab%3AValve-v0-collected.hdf5").write_bytes(b"x")
    (data / "lab%3AValve-v01.hdf5").write_bytes(b"x")  # of another
    (job,) = grid.jobs()
    assert (job.name, job.task, job.cost_limits) == ("lab%3AValve-v0-bc-safe", "lab:Valve-v0", (2.0,))
    assert Path(job.data).name == "lab%3AValve-v0-collected.hdf5"
    assert Job.from_json(job.to_json()) == job
    with pytest.raises(ConfigError, match="lab:Valve-v0 names no cost limits"):
        replace(grid, cost_limits=()).jobs()
    with pytest.raises(ConfigError, match="nobody publishes data of lab:Valve-v0"):
        replace(grid, data=None).jobs()
