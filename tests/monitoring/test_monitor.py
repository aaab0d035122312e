"""The monitor: hand-worked scores, conformal thresholds, alarms of faults, files that are not believed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from safetrax.certification.calibration import fit_monitor
from safetrax.certification.certificate import Certificate
from safetrax.data import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.files import read_tensors, write_tensors
from safetrax.monitoring.monitor import LogModel, Monitor
from safetrax.run_id import RunId

ONE = np.ones(1, np.float32)


def line_model(network: tuple[np.ndarray, ...] = ()) -> LogModel:
    """One number, mean 2 and deviation 2, actions in [0, 4]. Standardised: in states 0 and 1 the actions 0 and 1 were
    taken, and a step changes the state by half of the action.
    """
    return LogModel(
        mean=2 * ONE,
        std=2 * ONE,
        low=0 * ONE,
        high=4 * ONE,
        states=np.array([[0.0], [1.0]], np.float32),
        actions=np.array([[0.0], [1.0]], np.float32),
        frequencies=np.zeros((2, 0), np.float32),
        phases=np.zeros(0, np.float32),
        weights=np.array([[0.0], [0.0], [0.5]], np.float32),
        errors=0.5 * ONE,
        network=network,
    )


def test_scores_by_hand():
    clone = (np.array([[0.0]], np.float32), np.array([np.arctanh(0.5)], np.float32))  # always 0.5
    log = line_model(clone)
    states, actions = log.standardised(np.array([[3.0]])), log.unit(np.array([[3.0]]))
    assert states.item() == 0.5
    assert actions.item() == 0.5
    before = np.array([[-1.0]], np.float32), np.array([[1.0]], np.float32)
    proposals = np.array([[0.0]], np.float32)
    distance, reach, wrong, ratio = log.scores(states, 2 * actions, actions, proposals, *before)[0]
    assert distance == 0.5  # to both
    assert reach == 0.0  # 1 was taken
    assert wrong == pytest.approx((0.5 + 1.0 - 0.5) / 0.5)  # went 1.5, half an action was expected
    assert ratio == pytest.approx(0.25 - 0.0, abs=1e-6)  # (0.5 - 0)^2 - (0.5 - 0.5)^2


def test_scores_are_averaged_over_about_ten_steps_and_held_against_thresholds():
    monitor = Monitor(line_model(), np.array([0.5, 0.0, 1.0]), np.array([1.0, 0.5, 2.0]), {})
    # distance 2 in every step: the average is 0.5 + 1.5 (1 - 0.9^t), the threshold half a unit above 0.5
    scores = [monitor.judge(np.array([[8.0]]), np.array([[4.0]])).scores[0, 0] for _ in range(5)]
    expected = [3 * (1 - 0.9**t) for t in range(1, 6)]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    alarms = monitor.judge(np.array([[8.0]]), np.array([[4.0]]))
    assert alarms.names == ("observation", "action", "transition", "budget")
    assert alarms.alarms[0, 0] == (3 * (1 - 0.9**6) > 1)


def test_the_budget_is_what_was_spent_and_is_certified_to_come():
    facts = {"cost_limit": 3.0, "cost_to_come": 2.0, "horizon": 4}
    monitor = Monitor(line_model(), np.zeros(3), np.full(3, 1e3), facts)
    found = []
    for cost in (1.0, 1.0, 1.0, 1.0):
        found.append(monitor.judge(np.array([[2.0]]), np.array([[2.0]])))
        monitor.observe(cost)
    np.testing.assert_allclose([f.scores[0, -1] * 3 for f in found], [2.0, 1 + 1.5, 2 + 1.0, 3 + 0.5])
    assert [bool(f.alarms[0, -1]) for f in found] == [False, False, False, True]
    monitor.begin(np.array([True]))
    assert not monitor.judge(np.array([[2.0]]), np.array([[2.0]])).alarms.any()


def test_a_cost_that_is_no_cost_is_not_forgotten():
    monitor = Monitor(line_model(), np.zeros(3), np.ones(3), {"cost_limit": 3.0})
    monitor.judge(np.array([[2.0]]), np.array([[2.0]]))
    for cost in (np.nan, np.inf, -1.0):
        with pytest.raises(ConfigError, match="finite and not negative"):
            monitor.observe(cost)


def walks(episodes: int, seed: int, *, steps: int = 30, costly: float = 0.3) -> Trajectories:
    """A point that its actions push, and noise; some episodes cost 1 a step."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(episodes):
        state, rows = rng.normal(0, 1, 2), []
        for _ in range(steps):
            action = np.clip(-0.3 * state + rng.normal(0, 0.3, 2), -1, 1)
            rows.append((state, action))
            state = state + action + rng.normal(0, 0.05, 2)
        cost = float(rng.random() < costly)
        found.append(
            {
                "observations": np.stack([s for s, _ in rows]),
                "actions": np.stack([a for _, a in rows]),
                "rewards": np.ones(steps),
                "costs": np.full(steps, cost),
            }
        )
    return Trajectories.from_episodes(found)


def test_false_alarms_are_as_rare_as_stated():
    """Over 16 logs of 200 episodes: exact conformal validity, so the share is within three standard errors."""
    alarms, others, logs = 0, 0, 16
    for seed in range(logs):
        monitor = fit_monitor(walks(200, seed), cost_limit=5, false_alarms=0.2, seed=seed)
        alarms, others = alarms + monitor.facts["verified_alarms"], others + monitor.facts["verified"]
        assert monitor.facts["calibrated"] >= 30
    # each log's threshold is random too: its level's deviation is about sqrt(.2 * .8 / 42)
    error = (0.2 * 0.8 * (1 / others + 1 / (logs * 42))) ** 0.5
    assert alarms / others < 0.2 + 3 * error
    assert alarms / others > 0.2 - 3 * error - 1 / 43


@pytest.mark.parametrize("fault", ["stuck", "far", "pushed"])
def test_faults_raise_alarms(fault):
    monitor = fit_monitor(walks(200, 0), cost_limit=5, false_alarms=0.1)
    rng = np.random.default_rng(1)
    n, state = 50, rng.normal(0, 1, (50, 2))
    alarmed = np.zeros((2, n), bool)  # before and after
    for step in range(60):
        seen = state.copy()
        if step >= 20:
            if fault == "stuck":
                seen[:, 0] = 1.5
            if fault == "far":
                seen += 4
        action = np.clip(-0.3 * seen + rng.normal(0, 0.3, (n, 2)), -1, 1)
        alarmed[int(step >= 20)] |= monitor.judge(seen, action).alarms.any(axis=1)
        monitor.observe(np.zeros(n))
        state = state + action * (-1 if fault == "pushed" and step >= 20 else 1) + rng.normal(0, 0.05, (n, 2))
    assert alarmed[0].mean() <= 0.3
    assert alarmed[1].mean() >= 0.9


def certificate(bound: float | None) -> Certificate:
    run = RunId("BC", None, 5.0, 0)
    return Certificate(
        run, 5.0, 0.95, 1.0, bound, 30.0, 29.0, "world model", 0.9, 20.0, 0.0, 0.1, 19, 20, 30, 30, "hash"
    )


def test_a_certified_cost_to_come_counts_only_if_it_raises_few_false_alarms():
    log = walks(200, 0, costly=0.0)
    assert fit_monitor(log, cost_limit=5, certificate=certificate(2.0)).facts["cost_to_come"] == 2.0
    assert fit_monitor(log, cost_limit=5, certificate=certificate(6.0)).facts["cost_to_come"] == 0.0
    assert fit_monitor(log, cost_limit=5, certificate=certificate(None)).facts["cost_to_come"] == 0.0
    costs = np.tile([1.0] + 29 * [0.0], 200).astype(np.float32)  # 1 in the first step, of at most 1
    spent = Trajectories(**{**log._arrays(), "costs": costs})
    assert fit_monitor(spent, cost_limit=1, certificate=certificate(0.5)).facts["cost_to_come"] == 0.0


def test_what_cannot_be_calibrated_is_refused():
    log = walks(40, 0)
    with pytest.raises(DataError, match=r"too few for a rate of 0\.01, which takes 99; state a higher rate, or give"):
        fit_monitor(log, cost_limit=5, false_alarms=0.01)
    with pytest.raises(DataError, match="within the limit of 0 are too few"):
        fit_monitor(walks(40, 0, costly=1.0), cost_limit=0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        fit_monitor(log, false_alarms=1.0)
    without = Trajectories(**{k: v for k, v in log._arrays().items() if k != "costs"})
    with pytest.raises(ConfigError, match="no costs"):
        fit_monitor(without, cost_limit=5)
    assert fit_monitor(without).facts["cost_limit"] is None
    with pytest.raises(DataError):
        fit_monitor(walks(1, 0), cost_limit=5)


def test_a_file_says_the_same(tmp_path):
    monitor = fit_monitor(walks(100, 0), cost_limit=5)
    again = Monitor.load(monitor.save(tmp_path / "a.monitor"))
    assert again.facts == monitor.facts
    rows, actions = np.random.default_rng(0).normal(size=(2, 7, 2)).clip(-1, 1)
    for one, other in zip(monitor.judge(rows, actions), again.judge(rows, actions), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "2"}, "another version"),
        ({"format": "safetrax-policy"}, "no monitor"),
        ({"facts": '{"cost_limit": -1}'}, "cost_limit is -1"),
        ({"facts": '{"cost_limit": "20"}'}, "cost_limit is '20'"),
        ({"facts": "[]"}, "damaged"),
        ({"threshold": np.zeros(3)}, "damaged"),
        ({"std": np.zeros(2, np.float32)}, "damaged"),
        ({"states": np.full((10, 2), np.nan, np.float32)}, "damaged"),
        ({"weights": np.zeros((3, 2), np.float32)}, "damaged"),
        ({"network.0": np.zeros((2, 2), np.float32)}, "damaged"),
    ],
)
def test_a_damaged_file_is_refused(change, words, tmp_path):
    path = fit_monitor(walks(60, 0), cost_limit=5).save(tmp_path / "a.monitor")
    header, tensors = read_tensors(path)
    for name, value in change.items():
        if isinstance(value, str):
            header[name] = value
        else:
            tensors[name] = value
    write_tensors(path, tensors, header)
    with pytest.raises(DataError, match=words):
        Monitor.load(path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match="make one with safetrax monitor"):
        Monitor.load(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="damaged or no monitor"):
        Monitor.load(tmp_path / "text")


def test_sizes_are_checked():
    monitor = Monitor(line_model(), np.zeros(3), np.ones(3), {})
    for observations, actions in (
        ([[1.0, 2.0]], [[1.0]]),
        ([[np.nan]], [[1.0]]),
        ([[1.0]], [[np.inf]]),
        ([1.0], [1.0]),
    ):
        with pytest.raises(ConfigError, match=r"finite observations \(n, 1\)"):
            monitor.judge(np.array(observations), np.array(actions))
    with pytest.raises(ConfigError, match="before judge"):
        Monitor(line_model(), np.zeros(3), np.ones(3), {}).observe(0.0)


def test_a_monitor_at_work_needs_no_jax():
    code = "import sys, safetrax.monitoring; sys.exit(bool({'jax', 'equinox', 'pandas', 'h5py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
