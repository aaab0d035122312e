"""Statistics across tasks and runs, against numbers worked out by hand and resamples counted out."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetrax.catalogue import get_task
from safetrax.errors import ConfigError, TaskError
from safetrax.evaluation.aggregates import Aggregate, aggregates, performance_profiles
from safetrax.evaluation.bootstrap import (
    Bootstrap,
    Bounded,
    interquartile_mean,
    shared_weights,
    student_interval,
    student_quantile,
    weighted_interquartile_mean,
    wilson_interval,
)
from safetrax.evaluation.comparisons import compare
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.run_scores import RunScore, on_common_tasks, run_scores
from safetrax.evaluation.statistics import benchmark_table

finite = st.floats(-100, 100)


def rows(
    limit: float | None,
    seed: int,
    costs: list[float],
    returns: list[float] | None = None,
    *,
    step: int | None = None,
    algorithm: str = "M",
    task: str = "BallRun",
) -> list[EpisodeRow]:
    pairs = zip(returns or [0.0] * len(costs), costs, strict=True)
    return [EpisodeRow(algorithm, task, limit, seed, step, i, i, r, c, 100) for i, (r, c) in enumerate(pairs)]


def score(
    reward: float = 0.5,
    cost: float = 0.5,
    *,
    algorithm: str = "M",
    task: str = "BallRun",
    limit: float = 10.0,
    seed: int = 0,
    ignores: bool = False,
    safe_episodes: float = 1.0,
) -> RunScore:
    return RunScore(
        algorithm=algorithm,
        task=task,
        cost_limit=limit,
        seed=seed,
        step=100,
        checkpoint="last",
        ignores_limit=ignores,
        episodes=20,
        return_=0.0,
        cost=0.0,
        normalised_return=reward,
        normalised_cost=cost,
        safe_episodes=safe_episodes,
    )


def scores_of(rewards: list[float], costs: list[float] | None = None, **others) -> list[RunScore]:
    """One score per seed."""
    pairs = zip(rewards, costs or [0.5] * len(rewards), strict=True)
    return [score(reward, cost, seed=seed, **others) for seed, (reward, cost) in enumerate(pairs)]


def of_each_task(scores: list[RunScore]) -> list[Aggregate]:
    groups: dict[tuple[str, str], list[RunScore]] = {}
    for one in scores:
        groups.setdefault((one.algorithm, one.task), []).append(one)
    return [aggregates(group)[0] for group in groups.values()]


def no_interval(found: Bounded) -> bool:
    return math.isnan(found.low) and math.isnan(found.high) and not math.isnan(found.value)


# run scores


def test_the_score_of_a_run():
    task = get_task("BallRun")
    half = (task.reward_min + task.reward_max) / 2
    (found,) = run_scores(rows(10.0, 3, [6.0, 8.0, 13.0, 10.0], [half] * 4, step=500))
    assert (found.algorithm, found.task, found.cost_limit, found.seed, found.step) == ("M", "BallRun", 10.0, 3, 500)
    assert (found.checkpoint, found.ignores_limit, found.episodes) == ("last", False, 4)
    assert (found.return_, found.cost) == pytest.approx((half, 9.25))
    assert (found.normalised_return, found.normalised_cost) == pytest.approx((0.5, 0.925))
    assert found.safe_episodes == 0.75  # a cost of exactly the limit is within it
    assert found.safe


def test_a_limit_of_zero_is_normalised_as_in_the_benchmark():
    (found,) = run_scores(rows(0.0, 0, [0.0, 1.0]))
    assert found.normalised_cost == 1.5  # (C + 1) / (0 + 1)
    assert found.safe_episodes == 0.5


def test_a_method_that_ignores_the_limit_is_scored_at_every_limit():
    found = run_scores(rows(None, 0, [10.0, 20.0]))
    assert [s.cost_limit for s in found] == [10.0, 20.0, 40.0]  # the task's
    assert [s.normalised_cost for s in found] == [1.5, 0.75, 0.375]
    assert [s.safe_episodes for s in found] == [0.5, 1.0, 1.0]
    assert all(s.ignores_limit for s in found)
    assert [s.cost_limit for s in run_scores(rows(None, 0, [1.0]), (15, 5, 15))] == [5.0, 15.0]
    # an algorithm that knows its limit keeps it
    assert [s.cost_limit for s in run_scores(rows(20.0, 0, [1.0]), (5, 15))] == [20.0]


def test_the_headline_is_every_runs_last_step():
    several = rows(10.0, 0, [1.0], step=200) + rows(10.0, 0, [2.0], step=100) + rows(10.0, 1, [3.0], step=150)
    found = run_scores(several)
    assert [(s.seed, s.step, s.cost, s.checkpoint) for s in found] == [(0, 200, 1.0, "last"), (1, 150, 3.0, "last")]


def test_a_given_step_is_labelled():
    several = rows(10.0, 0, [1.0], step=200) + rows(10.0, 0, [2.0], step=100)
    (found,) = run_scores(several, step=100)
    assert (found.step, found.cost, found.checkpoint) == (100, 2.0, "step 100")
    with pytest.raises(
        ConfigError, match=r"M on BallRun, limit 10, seed 0 has no episodes of step 50, but of 200, 100"
    ):
        run_scores(several, step=50)


def test_the_best_safe_step_is_labelled():
    several = (
        rows(10.0, 0, [20.0], [900.0], step=1)
        + rows(10.0, 0, [9.0], [500.0], step=2)
        + rows(10.0, 0, [1.0], [400.0], step=3)
    )
    (found,) = run_scores(several, step="best-reward-safe")
    assert (found.step, found.checkpoint) == (2, "best-reward-safe")
    unsafe = rows(10.0, 0, [20.0], [900.0], step=1) + rows(10.0, 0, [15.0], [100.0], step=2)
    assert run_scores(unsafe, step="best-reward-safe")[0].step == 2  # the least cost
    # each limit chooses by itself where the algorithm ignores it
    free = [replace(row, cost_limit=None) for row in several]
    assert [s.step for s in run_scores(free, step="best-reward-safe")] == [2, 1, 1]


def test_what_run_scores_refuses():
    with pytest.raises(ConfigError, match=r"name no training step, others do \(None, 5\)"):
        run_scores(rows(10.0, 0, [1.0]) + rows(10.0, 0, [1.0], step=5))
    with pytest.raises(ConfigError, match="there is no step 'best-safe'; did you mean best-reward-safe"):
        run_scores([], step="best-safe")
    with pytest.raises(ConfigError, match="choose one of last, best-reward-safe"):
        run_scores([], step="qqq")
    with pytest.raises(ConfigError, match=r"is -5\.0, but must be finite and not negative"):
        run_scores(rows(None, 0, [1.0]), (-5,))
    with pytest.raises(TaskError):
        run_scores(rows(10.0, 0, [1.0], task="BallJump"))
    assert run_scores([]) == []


def test_unknown_steps_alone_are_fine():
    (found,) = run_scores(rows(10.0, 0, [1.0, 2.0]))
    assert (found.step, found.checkpoint, found.episodes) == (None, "last", 2)


# interquartile mean


def test_interquartile_mean_by_hand():
    assert interquartile_mean([8, 1, 100, 3, 4, 5, 6, -50]) == 4.5  # of 3, 4, 5, 6
    assert interquartile_mean([9, 1, 2, 3, 4, 5, 6, 7, 80]) == 5.0  # two off each end of nine: 3, 4, 5, 6, 7
    assert interquartile_mean([1, 2, 6]) == 3.0  # nothing to take away
    assert interquartile_mean([7]) == 7.0
    for bad in ([], [1.0, math.nan]):
        with pytest.raises(ConfigError):
            interquartile_mean(bad)


@given(st.lists(finite, min_size=1, max_size=40))
def test_the_interquartile_mean_is_between_the_quartiles(values):
    low, high = np.quantile(values, (0.25, 0.75))
    assert low - 1e-9 <= interquartile_mean(values) <= high + 1e-9


@given(st.lists(finite, min_size=1, max_size=12), st.data())
def test_weights_that_are_counts_repeat_the_values(values, data):
    n = len(values)
    drawn = data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    weights = np.bincount(drawn, minlength=n)[None] / n
    (found,) = weighted_interquartile_mean(np.array(values), weights)
    assert found == pytest.approx(interquartile_mean([values[i] for i in drawn]), abs=1e-9)


# Wilson's interval


def test_wilson_interval():
    assert wilson_interval(3, 10) == pytest.approx((0.1078, 0.6032), abs=5e-5)
    low, high = wilson_interval(0, 10)
    assert (low, high) == (0.0, pytest.approx(3.8415 / 13.8415, abs=1e-5))  # z^2 / (n + z^2)
    assert wilson_interval(10, 10).high == 1.0
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    with pytest.raises(ConfigError, match=r"successes is 4, but must be between 0 and the number of trials, 3"):
        wilson_interval(4, 3)
    with pytest.raises(ConfigError, match="confidence is 95"):
        wilson_interval(1, 3, confidence=95)


@given(st.integers(1, 200), st.floats(0, 1))
def test_wilson_contains_the_share(trials, share):
    low, high = wilson_interval(share * trials, trials)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


# resampling


def test_a_resample_keeps_the_size_of_every_stratum():
    strata = np.array([0, 1, 0, 2, 1, 1, 0, 3])
    counts = Bootstrap(resamples=500).counts(strata)
    assert counts.shape == (500, 8)
    for number, size in enumerate(np.bincount(strata)):
        assert (counts[:, strata == number].sum(axis=1) == size).all()
    # each is drawn once on average; three draws of three: variance 3 (1/3) (2/3)
    assert counts.mean(axis=0) == pytest.approx(np.ones(8), abs=0.15)
    assert counts[:, 1].var() == pytest.approx(2 / 3, abs=0.15)


def test_resamples_are_a_function_of_the_seed():
    strata = np.repeat([0, 1], 4)
    one = Bootstrap(resamples=50, seed=3)
    assert (one.counts(strata) == Bootstrap(resamples=50, seed=3).counts(strata)).all()
    assert (one.counts(strata) != Bootstrap(resamples=50, seed=4).counts(strata)).any()
    assert (one.counts(strata) != one.counts(strata, stream=1)).any()


def test_every_group_weighs_the_same():
    unit, group = np.array([0, 1, 0, 2, 3]), np.array([0, 0, 0, 1, 1])
    weights = shared_weights(np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 2.0]]), unit, group)
    assert weights[0] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 4])
    assert weights[1] == pytest.approx([1 / 4, 0, 1 / 4, 0, 1 / 2])


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 95.0}, {"seed": -1}])
def test_settings_of_the_bootstrap_are_checked(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Bootstrap(**wrong)


def test_bounded_as_text():
    assert Bounded(0.625, 0.5, 0.75).text(2) == "0.62 [0.50, 0.75]"
    assert Bounded(0.625, math.nan, math.nan).text(1) == "0.6"


# aggregates


@pytest.mark.parametrize(("confidence", "expected"), [(0.4, (0.5, 0.5)), (0.6, (0.0, 1.0))])
def test_the_interval_of_two_runs(confidence, expected):
    # the mean of a resample is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4
    (found,) = aggregates(scores_of([0.0, 1.0]), bootstrap=Bootstrap(confidence=confidence))
    assert found.iqm_return == (0.5, *expected)


def test_the_interval_of_two_tasks_with_all_resamples_counted_out():
    costs = {"BallRun": [0.5, 0.6, 2.0], "CarRun": [0.5, 2.0, 3.0]}
    some = [s for task, of_task in costs.items() for s in scores_of([0.0] * 3, of_task, task=task)]
    safe = [[cost <= 1 for cost in of_task] for of_task in costs.values()]
    shares = sorted(
        np.mean([np.mean(a), np.mean(b)])
        for a in itertools.product(safe[0], repeat=3)
        for b in itertools.product(safe[1], repeat=3)
    )
    for confidence in (0.5, 0.8, 0.95):
        (found,) = aggregates(some, bootstrap=Bootstrap(resamples=20_000, confidence=confidence))
        ends = np.quantile(shares, ((1 - confidence) / 2, (1 + confidence) / 2), method="inverted_cdf")
        assert found.safe_runs == pytest.approx((0.5, *ends))


def test_aggregates_by_hand():
    some = [
        *scores_of([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 10.0], [0.2] * 6 + [1.0, 1.5], safe_episodes=0.8),
        *scores_of([0.5, 0.7], [2.0, 1.0], algorithm="other", task="CarRun"),
    ]
    found, other = aggregates(some)
    assert (found.algorithm, found.tasks, found.missing, found.checkpoint) == ("M", ("BallRun",), ("CarRun",), "last")
    assert (found.runs, found.episodes, found.single_run) == (8, 160, ())
    assert found.iqm_return.value == pytest.approx(0.35)  # of 0.2 to 0.5
    assert found.iqm_cost.value == pytest.approx(0.2)
    assert found.mean_return.mean == pytest.approx(12.1 / 8)
    assert found.safe_runs.value == 7 / 8
    assert found.safe_runs_wilson == wilson_interval(7, 8)
    assert found.safe_episodes == pytest.approx((0.8, 0.8, 0.8))
    assert found.iqm_return.low < 0.35 < found.iqm_return.high
    assert (other.algorithm, other.missing, other.safe_runs.value) == ("other", ("BallRun",), 0.5)


def test_all_runs_safe_is_exactly_one():
    some = [s for task in ("BallRun", "CarRun", "AntRun") for s in scores_of([0.1] * 7, task=task)]
    (found,) = aggregates(some)
    assert found.safe_runs == (1.0, 1.0, 1.0)
    assert of_each_task(some)[0].safe_runs_wilson == wilson_interval(7, 7)


def test_tasks_count_alike_however_many_runs_they_have():
    some = scores_of([1.0] * 6, [2.0] * 6) + scores_of([0.0] * 2, [0.5] * 2, task="CarRun")
    (found,) = aggregates(some)
    assert found.mean_return.mean == 0.5
    assert found.safe_runs.value == 0.5
    # of 8 values, 2 / 8 of the weight goes at each end, where a run of CarRun has 1 / 4 and one of BallRun 1 / 12
    assert found.iqm_return.value == pytest.approx(0.5)


def test_errors_across_tasks():
    some = scores_of([0.0, 0.2]) + scores_of([0.5, 0.9], task="CarRun")
    (found,) = aggregates(some)
    # standard errors 0.1 and 0.2 of independent means: sqrt(0.01 + 0.04) / 2
    assert found.mean_return == pytest.approx((0.4, math.sqrt(0.05) / 2))


@pytest.mark.parametrize("limits", [(None,), (10.0, 20.0, 40.0)])
def test_means_agree_with_the_benchmarks_table(limits):
    rng = np.random.default_rng(1)
    some = [
        row
        for algorithm, task, seed, limit in itertools.product(("A", "B"), ("BallRun", "CarRun"), range(3), limits)
        for row in rows(
            limit, seed, [*rng.uniform(0, 30, 5)], [*rng.uniform(0, 500, 5)], algorithm=algorithm, task=task
        )
    ]
    table = benchmark_table(some)
    found = of_each_task(run_scores(some))
    assert len(table) == len(found) == 4
    for cell, one in zip(table, found, strict=True):
        assert (cell.algorithm, (cell.task,), cell.episodes) == (one.algorithm, one.tasks, one.episodes)
        assert one.mean_return == pytest.approx(cell.normalised_return)
        assert one.mean_cost == pytest.approx(cell.normalised_cost)
        assert one.runs == 3 * len(limits)


def test_seeds_and_not_copies_are_resampled_where_the_limit_is_ignored():
    some = run_scores(rows(None, 0, [0.0], [0.0]) + rows(None, 1, [30.0], [0.0]))
    (found,) = aggregates(some, bootstrap=Bootstrap(confidence=0.7))
    assert (found.runs, found.episodes) == (2, 2)
    # safe at (10, 20, 40): all three, and one of three; a resample has twice the one, both, or twice the other
    # with probability 1/4, 1/2, 1/4, and the ends are at 0.15 and 0.85. Copies would give an interval within these.
    assert found.safe_runs == pytest.approx((2 / 3, 1 / 3, 1.0))
    (copies,) = aggregates([replace(s, ignores_limit=False) for s in some], bootstrap=Bootstrap(confidence=0.7))
    assert copies.runs == 6
    assert copies.safe_runs.low > 0.4
    # and what a single task's interval is of is two trials, with 4/3 successes
    assert found.safe_runs_wilson == wilson_interval(4 / 3, 2, 0.7)


def test_one_run_has_no_interval():
    for some in (run_scores(rows(10.0, 0, [1.0, 2.0])), run_scores(rows(None, 0, [1.0, 2.0]))):
        (found,) = aggregates(some)
        assert all(map(no_interval, (found.iqm_return, found.iqm_cost, found.safe_runs, found.safe_episodes)))
        assert math.isnan(found.mean_return.error)
        assert (found.runs, found.episodes, found.single_run) == (1, 2, ("BallRun",))
        assert found.safe_runs_wilson == wilson_interval(1, 1)
        (profile,) = performance_profiles(some)
        assert np.isnan(profile.low).all()
        assert not np.isnan(profile.share).any()


def test_no_interval_where_one_task_of_several_has_one_run():
    some = [*scores_of([0.0, 1.0]), score(0.5, task="CarRun")]
    (found,) = aggregates(some)
    assert no_interval(found.iqm_return)
    assert found.single_run == ("CarRun",)
    assert [no_interval(one.iqm_return) for one in of_each_task(some)] == [False, True]


def test_intervals_depend_neither_on_order_nor_on_other_algorithms():
    rng = np.random.default_rng(2)
    some = [
        s
        for algorithm in "AB"
        for task in ("BallRun", "CarRun")
        for s in scores_of([*rng.normal(size=5)], [*rng.uniform(0, 2, 5)], algorithm=algorithm, task=task)
    ]
    all_of = aggregates(some)
    assert all_of == aggregates(some)
    assert aggregates(some, algorithms=["B"]) == [all_of[1]]
    assert aggregates(some[::-1])[::-1] == all_of
    assert aggregates(some, bootstrap=Bootstrap(seed=1)) != all_of
    assert compare(some, "A", "B") == compare(some[::-1], "A", "B")


def test_coverage_is_sane():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        some = [
            s
            for centre, task in ((0.2, "BallRun"), (0.5, "CarRun"), (0.8, "AntRun"))
            for s in scores_of([*rng.normal(centre, 0.1, 8)], task=task)
        ]
        (found,) = performance_profiles(some, thresholds=[0.5], bootstrap=Bootstrap(resamples=300, seed=seed))
        # above 0.5 are 0.13 %, half and 99.87 % of the runs
        covered += bool(found.low[0] <= 0.5 <= found.high[0])
    assert 170 <= covered <= 200  # percentile intervals of few runs cover somewhat less than they say


def test_what_aggregates_refuse():
    some = scores_of([0.1, 0.2], algorithm="TraC") + scores_of([0.1, 0.2], algorithm="FISOR")
    with pytest.raises(ConfigError, match="no algorithm 'trak' among the scores; did you mean TraC"):
        aggregates(some, algorithms=["trak"])
    with pytest.raises(ConfigError, match="no algorithm 'xyz' among the scores; choose one of TraC, FISOR"):
        aggregates(some, algorithms=["xyz"])
    with pytest.raises(ConfigError, match="no algorithm 'TraC' among the scores; there are none"):
        performance_profiles([], algorithms=["TraC"])
    with pytest.raises(ConfigError, match="TraC on BallRun, limit 10, seed 1 appears twice"):
        aggregates([*some, some[1]])
    with pytest.raises(ConfigError, match=r"different checkpoints \(best-reward-safe, last\)"):
        aggregates([*some, replace(some[0], seed=7, checkpoint="best-reward-safe")])
    with pytest.raises(ConfigError, match="TraC on BallRun, limit 10, seed 0 has a score that is not finite"):
        aggregates([replace(some[0], normalised_return=math.nan)])
    with pytest.raises(
        ConfigError, match="some runs of M on BallRun have a cost limit of their own and some ignore it"
    ):
        aggregates(run_scores(rows(10.0, 0, [1.0]) + rows(None, 0, [1.0])))
    with pytest.raises(
        ConfigError, match="M on BallRun ignores the limit, but its seeds are scored at different limits"
    ):
        aggregates(run_scores(rows(None, 0, [1.0])) + run_scores(rows(None, 1, [1.0]), (5,)))


def test_nothing_in_nothing_out():
    assert aggregates([]) == performance_profiles([]) == on_common_tasks([]) == []


def test_on_common_tasks():
    some = [
        *scores_of([0.1], algorithm="A"),
        *scores_of([0.1], algorithm="A", task="CarRun"),
        *scores_of([0.1], algorithm="B", task="CarRun"),
        *scores_of([0.1], algorithm="C", task="AntRun"),
    ]
    assert {(s.algorithm, s.task) for s in on_common_tasks(some, ["A", "B"])} == {("A", "CarRun"), ("B", "CarRun")}
    with pytest.raises(ConfigError, match="no task that all of A, B, C were evaluated on"):
        on_common_tasks(some)
    with pytest.raises(ConfigError, match="no algorithm 'D'"):
        on_common_tasks(some, ["D"])


# performance profiles


def test_profiles_by_hand():
    some = scores_of([0.1, 0.5, 0.9], [1.0, 0.5, 1.5])
    (returns,) = performance_profiles(some, "return", [-1.0, 0.1, 0.5, 0.9])
    assert returns.share == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])  # above, not at
    (costs,) = performance_profiles(some, "cost", [0.4, 0.5, 1.0, 2.0])
    assert costs.share == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])  # at most
    (safe,) = performance_profiles(some, "safe return", [-1.0, 0.1, 0.5, 0.9])
    assert safe.share == pytest.approx([2 / 3, 1 / 3, 0.0, 0.0])
    assert (safe.algorithm, safe.kind, safe.tasks, safe.missing, safe.checkpoint) == (
        "M", "safe return", ("BallRun",), (), "last",
    )  # fmt: skip


def test_a_band_with_all_resamples_counted_out():
    (found,) = performance_profiles(
        scores_of([0.0, 1.0]), thresholds=[-1, 0.5, 1], bootstrap=Bootstrap(confidence=0.6)
    )
    assert found.low.tolist() == [1.0, 0.0, 0.0]
    assert found.high.tolist() == [1.0, 1.0, 0.0]


def test_the_default_thresholds():
    some = scores_of([0.2, 0.8])
    (costs,) = performance_profiles(some, "cost")
    assert 1.0 in costs.thresholds.tolist()  # exactly the limit
    (returns,) = performance_profiles(some)
    assert (returns.thresholds[0], returns.thresholds[-1], len(returns.thresholds)) == (0.0, 1.2, 121)


@given(st.lists(st.tuples(finite, st.floats(0, 5)), min_size=2, max_size=12), st.integers(0, 5))
def test_profiles_are_monotone(pairs, seed):
    some = scores_of([a for a, _ in pairs], [b for _, b in pairs])
    settings = {"bootstrap": Bootstrap(resamples=20, seed=seed)}
    levels = np.linspace(-100, 100, 21)
    (returns,) = performance_profiles(some, "return", levels, **settings)
    (safe,) = performance_profiles(some, "safe return", levels, **settings)
    (costs,) = performance_profiles(some, "cost", np.linspace(0, 5, 11), **settings)
    for found, sign in ((returns, -1), (safe, -1), (costs, 1)):
        for line in (found.share, found.low, found.high):
            assert (sign * np.diff(line) >= -1e-12).all()  # sums of weights are rounded
            assert ((line >= 0) & (line <= 1)).all()
    assert (safe.share <= returns.share + 1e-12).all()


def test_what_profiles_refuse():
    for wrong in ([], [0.5, 0.5], [1.0, 0.0], [math.nan], [[0.0, 1.0]]):
        with pytest.raises(ConfigError, match="must be a rising sequence"):
            performance_profiles(scores_of([0.1, 0.2]), thresholds=wrong)


# comparisons


def both(ours: list[RunScore], theirs: list[RunScore]) -> list[RunScore]:
    return [replace(s, algorithm="X") for s in ours] + [replace(s, algorithm="Y") for s in theirs]


def test_the_probability_of_improvement_with_ties():
    found = compare(both(scores_of([1.0, 2.0, 3.0], [0.3] * 3), scores_of([2.0, 2.0, 0.0], [0.3] * 3)), "X", "Y")
    assert found.improvement_return.value == pytest.approx(6 / 9)  # 1 + (1/2 + 1/2 + 1) + 3 of nine pairs
    assert found.improvement_cost == (0.5, 0.5, 0.5)
    assert found.improvement_safe_return == found.improvement_return  # all safe
    assert found.by_task == (("BallRun", (10.0,), pytest.approx(6 / 9), 0.5, pytest.approx(6 / 9)),)


def test_less_cost_and_safety_first():
    ours, theirs = scores_of([0.9, 0.5], [2.0, 0.5]), scores_of([0.4, 0.1], [1.0, 3.0])
    found = compare(both(ours, theirs), "X", "Y")
    assert found.improvement_return.value == 1.0
    assert found.improvement_cost.value == 0.75  # 2 < 3, 0.5 < 1, 0.5 < 3
    # unsafe against safe: lost; 2 against 3, both unsafe: won; 0.5 against 0.4, both safe: won; safe against unsafe:
    # won
    assert found.improvement_safe_return.value == 0.75


@pytest.mark.parametrize(("confidence", "expected"), [(0.4, (0.5, 0.5)), (0.6, (0.0, 1.0))])
def test_the_interval_of_a_comparison(confidence, expected):
    # the first has twice the worse, both, or twice the better with probability 1/4, 1/2, 1/4
    found = compare(
        both(scores_of([0.0, 2.0]), scores_of([1.0, 1.0])), "X", "Y", bootstrap=Bootstrap(confidence=confidence)
    )
    assert found.improvement_return == (0.5, *expected)


def test_comparisons_are_the_mean_over_tasks():
    ours = scores_of([1.0, 1.0]) + scores_of([0.0, 0.0, 2.0, 2.0], task="CarRun") + scores_of([5.0], task="AntRun")
    theirs = scores_of([0.0, 0.0]) + scores_of([1.0, 1.0], task="CarRun") + scores_of([5.0], task="DroneRun")
    found = compare(both(ours, theirs), "X", "Y")
    assert found.tasks == ("BallRun", "CarRun")
    assert (found.only_first, found.only_second, found.no_common_limit) == (("AntRun",), ("DroneRun",), ())
    assert [one.improvement_return for one in found.by_task] == [1.0, 0.5]
    assert found.improvement_return.value == 0.75
    assert (found.pairs, found.paired_tasks) == (4, ("BallRun", "CarRun"))
    assert found.return_difference.value == 0.0  # 1 on BallRun, -1 on CarRun


def test_swapping_the_two_mirrors_the_result():
    rng = np.random.default_rng(5)
    ours = scores_of([*rng.normal(size=4)], [*rng.uniform(0, 2, 4)])
    some = both(ours, scores_of([*rng.normal(size=5)], [*rng.uniform(0, 2, 5)]))
    one, other = compare(some, "X", "Y"), compare(some, "Y", "X")
    for name in ("improvement_return", "improvement_cost", "improvement_safe_return"):
        value, low, high = getattr(one, name)
        assert getattr(other, name) == pytest.approx((1 - value, 1 - high, 1 - low))
    assert other.return_difference.value == -one.return_difference.value


def test_runs_meet_at_the_same_limit():
    ours = scores_of([0.2, 0.2]) + scores_of([0.6, 0.6], limit=20.0) + scores_of([0.6], task="CarRun")
    theirs = scores_of([0.1, 0.1]) + scores_of([0.5, 0.5], limit=20.0) + scores_of([0.6], task="CarRun", limit=20.0)
    some = both(ours, theirs)
    matched = compare(some, "X", "Y")
    assert matched.improvement_return == (1.0, 1.0, 1.0)
    assert (matched.tasks, matched.no_common_limit) == (("BallRun",), ("CarRun",))
    assert matched.by_task[0].cost_limits == (10.0, 20.0)
    mixed = compare(some, "X", "Y", match_limits=False)
    assert mixed.tasks == ("BallRun", "CarRun")
    assert mixed.improvement_return.value == (0.75 + 0.5) / 2
    with pytest.raises(ConfigError, match="no task and limit that both X and Y were evaluated on"):
        compare([s for s in some if s.task == "CarRun"], "X", "Y")


def test_one_seed_at_several_limits():
    some = both(
        [score(reward, limit=limit) for reward, limit in ((0.2, 10.0), (0.4, 20.0), (0.6, 40.0))],
        [score(reward, limit=limit) for reward, limit in ((0.1, 10.0), (0.2, 20.0), (0.3, 40.0))],
    )
    matched = compare(some, "X", "Y")
    assert no_interval(matched.improvement_return)
    assert matched.return_difference.value == pytest.approx(0.2)
    assert 0.1 <= matched.return_difference.low < 0.2 < matched.return_difference.high <= 0.3
    # rewards 0.2, 0.4, 0.6 against 0.1, 0.2, 0.3: 1 1/2, 3 and 3 of nine pairs
    mixed = compare(some, "X", "Y", match_limits=False)
    assert mixed.improvement_return.value == pytest.approx(7.5 / 9)
    assert mixed.improvement_return.low < 7.5 / 9


def test_a_method_that_ignores_the_limit_in_a_comparison():
    free = run_scores(rows(None, 0, [0.0], [0.0], algorithm="X") + rows(None, 1, [30.0], [800.0], algorithm="X"))
    other = [score(0.3, 0.9, algorithm="Y", limit=limit, seed=seed) for limit in (10.0, 20.0) for seed in range(2)]
    found = compare(free + other, "X", "Y", bootstrap=Bootstrap(confidence=0.6))
    assert found.by_task[0].cost_limits == (10.0, 20.0)
    # seed 1 earns more at either limit, and a resample has it twice, once or never
    assert found.improvement_return == pytest.approx((0.5, 0.0, 1.0))
    assert found.pairs == 4
    # both limits of a seed stay together, so that the ends are the seeds' own differences
    at = [s.normalised_return - 0.3 for s in free[::3]]
    assert found.return_difference == pytest.approx((np.mean(at), *sorted(at)))


def test_paired_differences():
    ours, theirs = scores_of([0.5, 0.9, 7.0], [0.5, 0.5, 0.5]), scores_of([0.4, 0.5], [1.0, 2.0])
    found = compare(both(ours, theirs), "X", "Y", bootstrap=Bootstrap(confidence=0.6))
    assert found.pairs == 2
    assert found.return_difference == pytest.approx((0.25, 0.1, 0.4))
    assert found.cost_difference == pytest.approx((-1.0, -1.5, -0.5))
    apart = compare(both(scores_of([0.5, 0.9]), [replace(s, seed=s.seed + 10) for s in theirs]), "X", "Y")
    assert (apart.pairs, apart.paired_tasks) == (0, ())
    assert math.isnan(apart.return_difference.value)
    assert not math.isnan(apart.improvement_return.low)


def test_one_run_each_compares_without_an_interval():
    found = compare(both(scores_of([0.5]), scores_of([0.4])), "X", "Y")
    assert found.improvement_return.value == 1.0
    assert no_interval(found.improvement_return)
    assert no_interval(found.return_difference)


def test_what_compare_refuses():
    some = both(scores_of([0.5]), scores_of([0.4], task="CarRun"))
    with pytest.raises(ConfigError, match="no task that both X and Y were evaluated on"):
        compare(some, "X", "Y")
    with pytest.raises(ConfigError, match="X is compared with itself"):
        compare(some, "X", "X")
    with pytest.raises(ConfigError, match=r"no algorithm 'x' among the scores; did you mean X\?$"):
        compare(some, "x", "Y")
    with pytest.raises(ConfigError, match="there are none"):
        compare([], "X", "Y")
    mixed = both(scores_of([0.5]), [replace(s, checkpoint="step 5") for s in scores_of([0.4])])
    with pytest.raises(ConfigError, match=r"different checkpoints \(last, step 5\)"):
        compare(mixed, "X", "Y")


@given(st.lists(finite, min_size=2, max_size=6), st.lists(finite, min_size=2, max_size=6))
def test_probabilities_against_a_count_of_the_pairs(ours, theirs):
    found = compare(both(scores_of(ours), scores_of(theirs)), "X", "Y", bootstrap=Bootstrap(resamples=20))
    wins = [(x > y) + 0.5 * (x == y) for x in ours for y in theirs]
    assert found.improvement_return.value == pytest.approx(np.mean(wins))
    assert 0 <= found.improvement_return.low <= found.improvement_return.high + 1e-12 <= 1 + 2e-12


def test_students_interval_is_the_tables():
    for freedom, printed in {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042}.items():
        assert student_quantile(freedom, 0.95) == pytest.approx(printed, abs=5e-4)
    found = student_interval([1.0, 2.0, 3.0])  # deviation 1
    assert found == pytest.approx((2.0, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert student_interval([1.0]).value == 1
    for values in ([], [1.0], [1.0, math.nan]):
        assert math.isnan(student_interval(values).low)
    with pytest.raises(ConfigError, match="confidence"):
        student_interval([1.0, 2.0], 1.0)
