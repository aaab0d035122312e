"""The catalogue of tasks: complete, and found under every name that is in use."""

from __future__ import annotations

import pytest

from safetrax.catalogue import catalogued_task, task_of_file
from safetrax.data import get_task, tasks
from safetrax.errors import TaskError


def test_thirty_eight_tasks_in_three_suites() -> None:
    assert len(tasks()) == 38
    assert [len(tasks(suite)) for suite in ("safety_gymnasium", "bullet", "metadrive")] == [21, 8, 9]
    assert len({task.name.casefold() for task in tasks()}) == 38
    assert tasks() is tasks()


def test_horizons() -> None:
    short = {
        "BallRun": 100,
        "CarRun": 200,
        "DroneRun": 200,
        "AntRun": 200,
        "BallCircle": 200,
        "CarCircle": 300,
        "DroneCircle": 300,
        "AntCircle": 500,
        "PointCircle1": 500,
        "PointCircle2": 500,
        "CarCircle1": 500,
        "CarCircle2": 500,
    }
    assert {task.name: task.horizon for task in tasks() if task.horizon != 1000} == short


def test_cost_limits_per_suite() -> None:
    limits = {
        suite: {task.cost_limits for task in tasks(suite)} for suite in ("safety_gymnasium", "bullet", "metadrive")
    }
    assert limits["safety_gymnasium"] == {(20.0, 40.0, 80.0)}
    assert limits["bullet"] == limits["metadrive"] == {(10.0, 20.0, 40.0)}


def test_one_task_in_full() -> None:
    task = get_task("BallRun")
    assert (task.suite, task.env_id, task.horizon) == ("bullet", "SafetyBallRun-v0", 100)
    assert (task.observation_size, task.action_size) == (7, 2)
    assert (task.reward_min, task.reward_max) == (26.339754104614258, 1327.445556640625)
    assert (task.cost_min, task.cost_max) == (0.0, 80.0)
    assert task.dataset_file == "SafetyBallRun-v0-80-940.hdf5"
    assert task.observation_sizes == (7,)


def test_ranges_are_ranges() -> None:
    for task in tasks():
        assert task.reward_min < task.reward_max
        assert 0 <= task.cost_min < task.cost_max
        assert task.observation_size > 0
        assert task.action_size > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ballrun", "BallRun"),
        ("OfflineBallRun-v0", "BallRun"),
        ("SafetyBallRun-v0", "BallRun"),
        ("CarCircle", "CarCircle"),
        ("SafetyCarCircle-v0", "CarCircle"),
        ("CarCircle1", "CarCircle1"),
        ("OfflineCarCircle1Gymnasium-v0", "CarCircle1"),
        ("SafetyCarCircle1Gymnasium-v0", "CarCircle1"),
        ("SafetyCarCircle1-v0", "CarCircle1"),
        ("offlineHOPPERvelocityGymnasium-v1", "HopperVelocity"),
        ("SafetyHopperVelocity-v1", "HopperVelocity"),
        ("OfflineMetadrive-hardmean-v0", "hardmean"),
        ("SafeMetaDrive-hardmean-v0", "hardmean"),
    ],
)
def test_names_of_a_task(name: str, expected: str) -> None:
    assert get_task(name).name == expected


def test_every_task_is_found_by_its_names_and_its_file() -> None:
    for task in tasks():
        assert get_task(task.name) is get_task(task.env_id) is get_task(task.dataset_prefix) is task
        assert task_of_file(task.dataset_file) is task


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("SafetyBallRun-v0-demo.hdf5", "BallRun"),
        ("safetyballrun-v0.h5", "BallRun"),
        ("SafetyCarCircle-v0-1-2.hdf5", "CarCircle"),
        ("SafetyCarCircle1Gymnasium-v0-1-2.hdf5", "CarCircle1"),
        ("SafetyPointGoal1-v0-mine.hdf5", "PointGoal1"),
        ("SafetyBallRun-v01.hdf5", None),
        ("BallRun.hdf5", None),
        ("robot.hdf5", None),
    ],
)
def test_task_of_file(file_name: str, expected: str | None) -> None:
    task = task_of_file(file_name)
    assert (task.name if task else None) == expected


@pytest.mark.parametrize("name", ["ReachAvoid", "ReachAvoid-FISOR", "ReachAvoid-Hazard"])
def test_the_reach_avoid_world_is_known_but_no_part_of_the_benchmark(name: str) -> None:
    task = get_task(name.lower())
    assert (task.name, task.env_id, task.suite) == (name, f"{name}-v0", "reach_avoid")
    assert (task.horizon, task.observation_size, task.action_size) == (300, 11, 2)
    assert 0 == task.reward_min < task.reward_max
    assert get_task(task.env_id) is task
    assert task_of_file(f"{name}-v0-mine.hdf5") is task_of_file(task.dataset_file) is task
    assert task not in tasks()


def test_unknown_tasks_and_suites() -> None:
    with pytest.raises(TaskError, match="there is no task 'BalRun'; did you mean BallRun"):
        get_task("BalRun")
    with pytest.raises(TaskError, match=r"there is no task 'zzzzzz'; .* lists all"):
        get_task("zzzzzz")
    with pytest.raises(TaskError, match="there is no suite 'mujoco'; choose one of bullet"):
        tasks("mujoco")


@pytest.mark.parametrize("name", ["my_package:MyEnv-v0", "my.package:MyEnv", "Pendulum-v1", "lab/Valve-v12"])
def test_any_other_environment_is_a_task_of_exactly_that_name(name: str) -> None:
    task = get_task(name)
    assert (task.name, task.env_id, task.own, task.has_reference_returns) == (name, name, True, False)
    assert (task.horizon, task.observation_size, task.action_size, task.cost_limits) == (0, 0, 0, ())
    assert task == get_task(name)
    with pytest.raises(TaskError, match="there is no task"):
        catalogued_task(name)


@pytest.mark.parametrize(
    "name", ["MyEnv", "SafetyBalRun-v0", "minari:", "a b:C-v0", "../x-v0", "1a:B", "x:y\nz", "-v0", ""]
)
def test_what_is_no_name_or_a_slip_is_no_task(name: str) -> None:
    with pytest.raises(TaskError, match="there is no task"):
        get_task(name)
