"""Validation: every error and warning is found, names its place and can be silent."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest

from safetrax.data import Finding, Trajectories, check, get_task, validate
from safetrax.errors import DataError, TaskError


def healthy(rows: int = 6, size: int = 7, **changes: Any) -> Trajectories:
    """Two episodes that look like BallRun and have nothing wrong."""
    rng = np.random.default_rng(0)
    ends = np.zeros(rows, bool)
    ends[[rows // 2 - 1, rows - 1]] = True
    raw: dict[str, Any] = {
        "observations": rng.standard_normal((rows, size)),
        "actions": rng.uniform(-1, 1, (rows, 2)),
        "rewards": np.ones(rows),
        "costs": np.ones(rows),
        "terminated": np.zeros(rows, bool),
        "truncated": ends,
    }
    return Trajectories.from_arrays(**(raw | changes))


def changed(data: Trajectories, name: str, place: Any, value: float) -> Trajectories:
    array = getattr(data, name).copy()
    array[place] = value
    return dataclasses.replace(data, **{name: array})


def only(findings: list[Finding], severity: str) -> str:
    assert [finding.severity for finding in findings] == [severity]
    return findings[0].message


def test_healthy_data_have_no_findings() -> None:
    assert validate(healthy(), "BallRun") == []
    assert check(healthy(next_observations=np.zeros((6, 7)))) == []


@pytest.mark.parametrize(
    ("name", "place"),
    [("observations", (4, 2)), ("actions", (4, 1)), ("rewards", 4), ("costs", 4), ("next_observations", (4, 0))],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_errors(name: str, place: Any, value: float) -> None:
    data = healthy(next_observations=np.zeros((6, 7)))
    findings = validate(changed(data, name, place, value))
    assert findings[0].severity == "error"
    column = {"observations": "o2", "actions": "a1", "next_observations": "next o0"}.get(name, name)
    words = f"{name} holds {value} in row 4 (episode 1), 1 row in all; remove"
    if np.isnan(value):
        words = f"1 value is missing (NaN): {column} in 1 cell of 1 episode, first in row 4 (episode 1); leave"
    assert words in findings[0].message


def test_rows_beyond_the_first_chunk_are_counted() -> None:
    rows = 150_000
    data = changed(healthy(rows), "rewards", [70_000, 149_999], np.nan)
    message = only(validate(data), "error")
    assert "rewards in 2 cells of 2 episodes, first in row 70000 (episode 0)" in message


def test_overflow_of_the_cast_to_float32_is_found() -> None:
    assert "rewards holds inf" in only(validate(healthy(rewards=np.full(6, 1e300))), "error")


def test_negative_costs_are_an_error() -> None:
    message = only(validate(changed(healthy(), "costs", [3, 5], -0.5)), "error")
    assert "costs is -0.5 in row 3 (episode 1), 2 rows in all" in message


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (-np.inf, 1), (-1, np.nan)])
def test_empty_or_infinite_action_box_is_an_error(low: float, high: float) -> None:
    data = healthy(action_low=[-1, low], action_high=[1, high])
    message = next(f.message for f in validate(data) if f.severity == "error")
    assert f"action_low is {low:g} and action_high {high:g} for action 1" in message


def test_sizes_must_fit_the_task() -> None:
    assert "observations has 8 columns but BallRun has 7" in only(validate(healthy(size=8), "BallRun"), "error")
    data = healthy(size=17)
    assert "actions has 2 columns but DroneRun has 4" in only(validate(data, get_task("DroneRun")), "error")


def test_choices_are_no_continuous_actions() -> None:
    findings = validate(healthy(actions=np.array([0, 1, 1, 0, 0, 1]), action_choices=2), "BallRun")
    assert "actions are one of 2 choices but those of BallRun are continuous" in findings[0].message


@pytest.mark.parametrize("size", [259, 261])
def test_metadrive_has_two_observation_sizes(size: int) -> None:
    assert validate(healthy(size=size), "easymean") == []


def test_metadrive_refuses_a_third_size() -> None:
    assert "has 261 or 259" in only(validate(healthy(size=260), "easymean"), "error")


def test_task_comes_from_info_if_it_is_not_given() -> None:
    data = healthy(size=8, info={"task": "BallRun", "source": "log.hdf5"})
    assert only(validate(data), "error").startswith("log.hdf5: observations has 8 columns")
    assert validate(data, "BallCircle") == []
    with pytest.raises(TaskError, match="BallRum"):
        validate(data, "BallRum")


def test_actions_outside_the_box_are_a_warning() -> None:
    data = changed(healthy(), "actions", (5, 1), -1.5)
    message = only(validate(data), "warning")
    assert (
        "actions is -1.5 in row 5 (episode 1), action 1, outside [-1, 1], 1 row in all; they will be clipped"
        in message
    )
    assert validate(dataclasses.replace(data, action_low=np.full(2, -2, np.float32))) == []
    assert validate(changed(healthy(), "actions", (5, 1), 1.0009)) == []


def test_overwritten_reset_observations_are_a_warning() -> None:
    data = healthy(next_observations=np.zeros((6, 7)))
    data = dataclasses.replace(data, next_observations=data.observations[[1, 2, 3, 4, 5, 5]])  # row 2 leads to row 3
    message = only(validate(data), "warning")
    assert "starts 100% of the episodes (first: episode 1)" in message


def test_a_constant_observation_is_no_overwritten_reset() -> None:
    zeros = np.zeros((6, 7))
    assert validate(healthy(observations=zeros, next_observations=zeros), "BallRun") == []


def test_episodes_beyond_the_horizon_are_a_warning() -> None:
    message = only(validate(healthy(rows=202), "BallRun"), "warning")
    assert "episode 0 has 101 rows but BallRun ends after 100 (so in 2 episodes)" in message


def test_no_cost_at_all_is_a_warning_and_fractions_are_none() -> None:
    assert "costs is 0 in all 6 rows" in only(validate(healthy(costs=np.zeros(6))), "warning")
    assert validate(healthy(costs=np.full(6, 0.013))) == []


def test_a_dropped_tail_is_a_warning() -> None:
    data = healthy(truncated=[0, 0, 1, 1, 0, 0])
    message = only(validate(data), "warning")
    assert "2 rows after the last terminated or truncated row" in message
    assert "timeouts" in message


def test_check_raises_the_first_error_and_counts_the_others() -> None:
    data = changed(changed(healthy(), "rewards", 1, np.nan), "costs", 1, -1)
    with pytest.raises(DataError, match=r"1 value is missing .* \(1 more error: safetrax.data.validate lists all.\)"):
        check(data)
    with pytest.raises(DataError, match=r"rewards and costs can be computed \(relabel\)\.$"):
        check(changed(healthy(), "rewards", 1, np.nan))


def test_check_returns_warnings() -> None:
    assert only(check(healthy(costs=np.zeros(6))), "warning")


def test_memory_stays_far_below_that_of_the_data() -> None:
    data = healthy(rows=400_000)
    size = data.observations.nbytes
    tracemalloc.start()
    try:
        validate(data, "BallRun")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.25 * size


# Numbers out of all proportion

MOST = float(np.finfo(np.float32).max)
FIELDS = ("observations", "actions", "rewards", "costs", "next_observations")


def logged(seed: int = 0, rows: int = 2000, **changes: Any) -> Trajectories:
    """As `healthy`, but with values that vary, next observations, and a wide action box."""
    rng = np.random.default_rng(seed)
    box: dict[str, Any] = {"action_low": -1e12, "action_high": 1e12}
    usual = {
        "observations": rng.standard_normal((rows, 7)),
        "next_observations": rng.standard_normal((rows, 7)),
        "rewards": rng.standard_normal(rows),
        "costs": (rng.random(rows) < 0.3).astype(float),
    }
    return healthy(rows, **(usual | box | changes))


def with_value(name: str, value: float, rows: Any) -> Trajectories:
    data = logged()
    return changed(data, name, rows if getattr(data, name).ndim == 1 else (rows, 1), value)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("value", "rows"), [(MOST, slice(40, 60)), (1e30, slice(40, 43)), (1e20, 40), (1e18, 40)])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_whose_squares_overflow_are_errors(name: str, value: float, rows: Any, sign: int) -> None:
    data = with_value(name, sign * value, rows)
    message = next(f.message for f in validate(data) if f.severity == "error" and "overflow" in f.message)
    column = (
        "" if data.rewards.ndim == getattr(data, name).ndim else f", {'action' if name == 'actions' else 'feature'} 1"
    )
    assert f"{name} is {sign * value:g} in row 40 (episode 0){column}" in message
    with pytest.raises(DataError):
        check(data)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [-9999.0, 999999.0, 9999.0, 1e12])
def test_a_value_repeated_far_outside_of_all_others_is_a_warning(name: str, value: float) -> None:
    if name == "costs":  # negative ones are another fault
        value = abs(value)
    messages = [f.message for f in validate(with_value(name, value, slice(40, 60))) if f.severity == "warning"]
    assert any(f"{name} is exactly {value:g} in row 40 (episode 0)" in message for message in messages)
    assert any("20 rows in all, far outside its other values" in message for message in messages)


@pytest.mark.parametrize("value", [300.0, -1e6])
def test_a_spike_is_a_warning_and_names_its_feature(value: float) -> None:
    names = [f"sensor_{i}" for i in range(7)]
    data = changed(logged(info={"observation_names": names}), "observations", (77, 3), value)
    message = only(validate(data), "warning")
    assert f"observations jumps to {value:g} in row 77 (episode 0), feature sensor_3, 1 row in all" in message


def test_one_column_in_another_unit_and_constant_ones_are_warnings() -> None:
    data = logged(rows=200)
    units = np.array([1, 1, 1e5, 1, 1, 1, 1], np.float32)
    message = only(validate(dataclasses.replace(data, observations=data.observations * units)), "warning")
    assert "observations differ in scale, feature 2: its standard deviation is" in message
    assert "training standardises observations unless standardise is switched off" in message
    known = dataclasses.replace(data, observations=data.observations * units)
    assert "set standardise" in only(validate(known, "BallRun"), "warning")
    units[2] = 1e-5
    assert "feature 2" in only(validate(dataclasses.replace(data, observations=data.observations * units)), "warning")
    units[[1, 2]] = 0
    flat = dataclasses.replace(data, observations=data.observations * units + np.float32(3))
    message = only(validate(flat), "warning")
    assert "observations never vary, feature 1, 3 in all rows (so in 2 columns); a policy will ignore it" in message
    assert validate(flat, "BallRun") == []


def test_ordinary_logs_have_no_such_findings() -> None:
    rng = np.random.default_rng(1)
    rows = 2000
    unit = np.ones((rows, 7))
    for observations in (
        np.where(rng.random((rows, 7)) < 0.015, rng.random((rows, 7)), 0),  # distances that are seldom seen
        (rng.random((rows, 7)) < [0.005, 0.5, 0.01, 0.9, 0.99, 0.3, 0.7]) * unit,  # flags
        (rng.random((rows, 7)) < 0.02) * 100 * unit,  # valves
        rng.standard_t(3, (rows, 7)),  # heavy tails
        np.exp(2 * rng.standard_normal((rows, 7))),
        rng.normal(101_325, 50, (rows, 7)),
    ):
        assert validate(logged(observations=observations, next_observations=observations)) == []
    for rewards in (
        np.where(rng.random(rows) < 0.003, 100.0, 0.05 * rng.random(rows)),  # a bonus at the goal
        np.where(rng.random(rows) < 0.003, 1.0, 0.0),
        rng.standard_t(2, rows),
    ):
        assert validate(logged(rewards=rewards)) == []


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.arange(2000)[:, None] % 4, "holds integers only, 0, 1, 2, 3, as if"),
        (np.eye(3)[np.arange(2000) % 3], "is one-hot over 3 choices"),
        (np.stack([np.arange(2000) % 2, np.arange(2000) % 7], axis=1), "holds integers only, 0, 1, 2, 3, ..., as if"),
    ],
)
def test_actions_that_look_like_choices_are_a_warning(actions: np.ndarray, said: str) -> None:
    message = only(validate(logged(actions=actions)), "warning")
    assert f"actions {said}" in message
    assert "if they are choices, say how many (action_choices)" in message
    assert validate(logged(actions=actions + 0.5)) == []


def test_actions_that_are_never_taken_look_like_nothing() -> None:
    assert validate(logged(actions=np.zeros((2000, 2)))) == []
