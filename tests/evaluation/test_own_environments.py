"""Policies in an environment of one's own: known returns, raw scores, and nothing that is silently normalised."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import safetrax.catalogue
from own_env import STEPS, gift, valve_policy, write_module
from safetrax.errors import ConfigError, SafeTraXWarning, SimulatorError, TaskError
from safetrax.evaluation.aggregates import aggregates, performance_profiles
from safetrax.evaluation.comparisons import compare
from safetrax.evaluation.rollout import evaluate
from safetrax.evaluation.run_scores import BEST_REWARD_SAFE, run_scores
from safetrax.evaluation.statistics import benchmark_table, summarise

NAME = "valves:Valve-v0"


@pytest.fixture(autouse=True)
def valves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process and its workers find the module; forget reference returns at the end."""
    monkeypatch.syspath_prepend(str(write_module(tmp_path)))
    monkeypatch.setattr(safetrax.catalogue, "_references", {})


def test_known_returns_by_name_and_by_a_function():
    from valves import Valve

    policies = [valve_policy(4.0), valve_policy(10.0)]
    named = evaluate(policies, NAME, episodes=3, seed=1, workers=1)
    for row in named.rows:
        opening = float(row.algorithm.removeprefix("Open"))
        assert row.return_ == pytest.approx(STEPS * opening / 10 + gift(100_000 + row.episode), abs=1e-5)
        assert row.cost == pytest.approx(STEPS * max(opening - 5, 0) / 10, abs=1e-5)
        assert (row.task, row.length) == (NAME, STEPS)
    made = evaluate(policies, Valve, episodes=3, seed=1, horizon=STEPS)
    assert {row.task for row in made.rows} == {"valves:Valve"}
    assert [(row.return_, row.cost) for row in made.rows] == [(row.return_, row.cost) for row in named.rows]


def test_scores_are_raw_where_nobody_says_what_returns_count():
    rows = evaluate([valve_policy(4.0), valve_policy(10.0)], NAME, episodes=2, workers=1)
    within, beyond = rows.summary()
    assert within.return_.mean == pytest.approx(1.6 + (gift(0) + gift(1)) / 2, abs=1e-5)
    assert math.isnan(within.normalised_return.mean)
    assert beyond.normalised_cost.mean == pytest.approx(1.0, abs=1e-5)  # 2 of 2
    assert within.safe
    line = next(line for line in str(rows).splitlines() if "Open4 " in line)
    assert line.split()[11:13] == ["-", "0.00"]
    assert NAME in line
    drawn = json.dumps(rows.plot().to_dict())
    assert '"return"' in drawn
    assert "normalised reward" not in drawn


def test_given_reference_returns_normalise():
    rows = evaluate([valve_policy(5.0)], NAME, episodes=1, workers=1)
    safetrax.catalogue.set_reference_returns(NAME, 0.0, 4.0)
    (summary,) = rows.summary()
    assert summary.normalised_return.mean == pytest.approx((2 + gift(0)) / 4, abs=1e-5)
    with pytest.raises(ConfigError, match="reference returns must be two finite numbers that rise, got 1 and 1"):
        safetrax.catalogue.set_reference_returns(NAME, 1.0, 1.0)
    with pytest.raises(ConfigError, match="the reference returns of BallRun are the benchmark's"):
        safetrax.catalogue.set_reference_returns("ballrun", 0.0, 1.0)


def test_who_ignores_the_limit_needs_one():
    blind = valve_policy(4.0, limit=None)
    with pytest.raises(ConfigError, match="Open4 ignores the cost limit and valves:Valve-v0 names none"):
        evaluate(blind, NAME)
    rows = evaluate(blind, NAME, cost_limits=(1, 2), episodes=1, workers=1)
    assert [summary.cost_limits for summary in rows.summary()] == [(1.0,), (2.0,)]
    for score in (summarise, benchmark_table, run_scores):
        with pytest.raises(ConfigError, match="names none to score it at; pass cost limits"):
            score(rows.rows)


def test_statistics_across_runs_leave_rewards_out():
    policies = [valve_policy(opening, seed=seed) for opening in (2.0, 4.0) for seed in range(3)]
    scores = run_scores(evaluate(policies, NAME, episodes=1, workers=1).rows, step=BEST_REWARD_SAFE)
    for found in aggregates(scores):
        assert math.isnan(found.iqm_return.value)
        assert math.isnan(found.mean_return.mean)
        assert (found.iqm_cost.value, found.safe_runs.value) == (0.0, 1.0)
    with pytest.raises(ConfigError, match="valves:Valve-v0 has no reference returns for a profile of returns"):
        performance_profiles(scores)
    assert performance_profiles(scores, "cost", [0.5])[0].share.tolist() == [1.0]
    better = compare(scores, "Open4", "Open2")
    assert (better.improvement_return.value, better.improvement_safe_return.value) == (1.0, 1.0)
    assert math.isnan(better.return_difference.value)
    assert better.cost_difference.value == 0.0


def test_units_of_actions_are_compared():
    with pytest.raises(
        TaskError, match=r"acts between \[-20.0\] and \[20.0\], as its log says, and valves:Valve-v0 bet"
    ):
        evaluate(valve_policy(4.0, box=(-20.0, 20.0)), NAME)
    with pytest.warns(SafeTraXWarning, match="check that both are in the same units"):
        evaluate(valve_policy(0.5, box=(0.0, 1.0)), NAME, episodes=1, workers=1)


def test_what_makes_no_environment():
    from gymnasium.vector import SyncVectorEnv
    from valves import Valve

    for made, kind in ((3, "int"), (SyncVectorEnv([Valve, Valve]), "SyncVectorEnv")):
        with pytest.raises(SimulatorError, match=f"makes a {kind}, which is not one Gymnasium environment; give"):
            evaluate(valve_policy(4.0), lambda made=made: made)
    with pytest.raises(ConfigError, match="give the name of an environment or a function that makes it, not <"):
        evaluate(valve_policy(4.0), Valve())
    with pytest.raises(ConfigError, match="a function makes its environment in this process"):
        evaluate(valve_policy(4.0), lambda: 3, simulator_python="python")
