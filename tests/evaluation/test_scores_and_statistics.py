"""Scores and summaries, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from safetrax.catalogue import get_task
from safetrax.errors import ConfigError, TaskError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.result import format_summaries
from safetrax.evaluation.scores import is_safe, normalised_cost, normalised_return
from safetrax.evaluation.statistics import benchmark_table, summarise


def rows(
    limit: float | None, seed: int, costs: list[float], returns: list[float] | None = None, *, step: int | None = None
) -> list[EpisodeRow]:
    pairs = zip(returns or [0.0] * len(costs), costs, strict=True)
    return [EpisodeRow("M", "BallRun", limit, seed, step, i, i, r, c, 100) for i, (r, c) in enumerate(pairs)]


def test_normalised_return():
    task = get_task("BallRun")
    middle = (task.reward_min + task.reward_max) / 2
    scores = normalised_return([task.reward_min, middle, task.reward_max, 0.0], "BallRun")
    # the last: -26.339754 / (1327.445557 - 26.339754)
    assert scores == pytest.approx([0.0, 0.5, 1.0, -0.0202441], abs=1e-6)
    with pytest.raises(TaskError):
        normalised_return(0.0, "BallJump")


def test_normalised_cost_and_the_rule_for_a_limit_of_zero():
    assert normalised_cost([0.0, 5.0, 10.0, 25.0], 10.0).tolist() == [0.0, 0.5, 1.0, 2.5]
    assert normalised_cost([0.0, 1.0, 4.0], 0).tolist() == [1.0, 2.0, 5.0]  # (C + 1) / (0 + 1)


def test_safe_up_to_and_with_one():
    assert is_safe(1.0)
    assert not is_safe(np.nextafter(1.0, 2.0))
    assert not is_safe(math.nan)


def test_one_run_is_averaged_over_its_episodes():
    (summary,) = summarise(rows(10.0, 0, [6.0, 8.0, 16.0], [1.0, 2.0, 6.0]))
    assert summary.cost_limits == (10.0,)
    assert (summary.seeds, summary.episodes) == (1, 3)
    assert summary.return_.mean == 3.0
    assert summary.cost.mean == 10.0
    # deviations -4, -2, 6: variance 56 / 2 = 28, error sqrt(28 / 3)
    assert summary.cost.error == pytest.approx(math.sqrt(28 / 3))
    assert summary.normalised_cost == pytest.approx((1.0, math.sqrt(28 / 3) / 10))
    assert summary.safe


def test_several_seeds_are_averaged_over_seeds():
    (summary,) = summarise(rows(20.0, 0, [10.0, 30.0]) + rows(20.0, 1, [20.0, 40.0]) + rows(20.0, 2, [39.0]))
    # means of the runs 20, 30, 39: mean 29.6667, deviations -9.6667, 0.3333, 9.3333, variance 90.3333
    assert summary.cost.mean == pytest.approx(89 / 3)
    assert summary.cost.error == pytest.approx(math.sqrt(271 / 3 / 3))
    assert (summary.seeds, summary.episodes) == (3, 5)
    assert not summary.safe


def test_summaries_are_ordered_and_one_per_limit():
    mixed = rows(40.0, 0, [1.0]) + rows(10.0, 0, [20.0]) + rows(0.0, 0, [0.0])
    found = summarise(mixed)
    assert [s.cost_limits for s in found] == [(0.0,), (10.0,), (40.0,)]
    assert [s.normalised_cost.mean for s in found] == [1.0, 2.0, 0.025]
    assert [s.safe for s in found] == [True, False, True]
    assert math.isnan(found[0].cost.error)


def test_a_method_that_ignores_the_limit_is_scored_at_every_limit():
    costs = rows(None, 0, [10.0, 20.0])
    assert [s.normalised_cost.mean for s in summarise(costs)] == [1.5, 0.75, 0.375]  # the task's own limits
    assert [s.normalised_cost.mean for s in summarise(costs, (5, 15))] == [3.0, 1.0]


def test_the_cell_of_a_method_that_ignores_the_limit():
    # C (1/10 + 1/20 + 1/40) / 3 = 0.0583333 C
    (cell,) = benchmark_table(rows(None, 0, [10.0, 14.0]) + rows(None, 1, [24.0]))
    assert cell.normalised_cost.mean == pytest.approx(18.0 * 0.058333, rel=1e-5)
    assert cell.cost_limits == (10.0, 20.0, 40.0)
    assert (cell.seeds, cell.episodes) == (2, 3)
    # over the two seeds' means 12 and 24, not over six runs
    assert cell.normalised_cost.error == pytest.approx(6.0 * 7 / 120)
    assert not cell.safe


def test_the_cell_of_a_single_run_that_ignores_the_limit():
    (cell,) = benchmark_table(rows(None, 0, [10.0, 14.0, 18.0]))
    assert cell.cost == pytest.approx((14.0, 4.0 / math.sqrt(3)))
    assert cell.normalised_cost == pytest.approx((14.0 * 7 / 120, 4.0 / math.sqrt(3) * 7 / 120))
    assert cell.episodes == 3


def test_a_cell_normalises_every_run_by_its_own_limit():
    (cell,) = benchmark_table(rows(10.0, 0, [10.0, 20.0]) + rows(20.0, 0, [10.0]) + rows(40.0, 0, [40.0]))
    # 1.5, 0.5 and 1.0
    assert cell.normalised_cost == pytest.approx((1.0, 0.5 / math.sqrt(3)))
    assert (cell.safe, cell.unsafe_limits) == (False, (10.0,))  # the mean hides it
    assert cell.episodes == 4
    (cell,) = benchmark_table(rows(10.0, 0, [10.0, 10.0]) + rows(20.0, 0, [20.0]))
    assert (cell.safe, cell.unsafe_limits) == (True, ())


def test_a_cell_per_algorithm_and_task():
    other = [EpisodeRow("M", "CarRun", 10.0, 0, None, 0, 0, 0.0, 5.0, 200)]
    assert [(c.algorithm, c.task) for c in benchmark_table(rows(10.0, 0, [1.0]) + other)] == [
        ("M", "BallRun"),
        ("M", "CarRun"),
    ]
    assert benchmark_table([]) == summarise([]) == []


def test_training_steps_are_not_mixed():
    mixed = rows(10.0, 0, [1.0], step=100) + rows(10.0, 0, [1.0], step=200)
    for derive in (summarise, benchmark_table):
        with pytest.raises(ConfigError, match=r"several training steps \(100, 200\)"):
            derive(mixed)


def test_the_table_is_readable():
    text = format_summaries(summarise(rows(10.0, 0, [12.0], [676.8926553726196])))
    assert "BallRun" in text
    assert "0.50" in text  # half way between the task's reference returns
    assert "1.20" in text
    assert text.rstrip().endswith("no")
