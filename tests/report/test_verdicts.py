"""Verdicts on papers' claims: never more than the interval over seeds says."""

from __future__ import annotations

import numpy as np
import pytest

from safetrax.evaluation.run_scores import RunScore
from safetrax.grid.experiments import Claim, Experiment
from safetrax.report.verdicts import judge, judge_all, verdict_chart

MORE = Claim("more reward", "A", "B")
LESS = Claim("less cost", "A", "B")


def score(name: str, seed: int, reward: float = 0.0, cost: float = 0.0, task: str = "BallRun", limit: float = 10.0):
    return RunScore(name, task, limit, seed, 9, "last", False, 20, 100 * reward, cost * limit, reward, cost, 0.5)


def sides(first: list[float], second: list[float], **of: object) -> list[RunScore]:
    """Rewards, and costs of the same size, of A and B for each seed."""
    values = {"A": first, "B": second}
    return [score(name, seed, own, own, **of) for name in values for seed, own in enumerate(values[name])]


def test_a_difference_is_judged_by_its_interval_over_seeds():
    # differences 0.3, 0.2, 0.4: mean 0.3, deviation 0.1, so 0.3 ± 4.303 * 0.1 / sqrt(3)
    found = judge(MORE, sides([0.5, 0.5, 0.5], [0.2, 0.3, 0.1]))
    assert found.answer == "agree"
    assert found.sentence == (
        "A earns more than B: agree (difference in normalised reward 0.300 [0.052, 0.548], 3 seeds; on BallRun)"
    )
    assert judge(LESS, sides([0.5, 0.5, 0.5], [0.2, 0.3, 0.1])).answer == "disagree"
    assert judge(MORE, sides([0.2, 0.3, 0.1], [0.5, 0.5, 0.5])).answer == "disagree"
    less = judge(LESS, sides([0.2, 0.3, 0.1], [0.5, 0.5, 0.5]))
    assert less.answer == "agree"
    assert "difference in normalised cost -0.300 [-0.548, -0.052]" in less.sentence
    # mean 0.1, deviation 0.1: the interval holds 0, though no seed says otherwise
    assert judge(MORE, sides([0.5, 0.5, 0.5], [0.4, 0.5, 0.3])).answer == "not decidable"
    assert judge(MORE, sides([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])).answer == "not decidable"


def test_few_seeds_and_missing_results_decide_nothing():
    found = judge(MORE, sides([0.9, 0.8], [0.1, 0.1]))
    assert found.answer == "not decidable"
    assert "2 seeds of at least 3" in found.sentence
    lacking = judge(MORE, [score("A", seed) for seed in range(3)])
    assert lacking.sentence == "A earns more than B: not decidable, for there are no results of B"
    elsewhere = Claim("more reward", "A", "B", ("AntCircle",))
    assert "no results of A on AntCircle" in judge(elsewhere, sides([1, 1, 1], [0, 0, 0])).sentence
    apart = sides([1, 1, 1], [0, 0, 0])
    apart = [own if own.algorithm == "A" else score("B", own.seed, task="CarRun") for own in apart]
    assert judge(MORE, apart).answer == "not decidable"
    # a seed that one side lacks is no pair
    assert "2 seeds" in judge(MORE, sides([0.9, 0.8, 0.9], [0.1, 0.1])).sentence


def test_returns_that_cannot_be_normalised_decide_nothing():
    assert judge(MORE, sides([float("nan")] * 3, [0.0] * 3)).answer == "not decidable"
    assert judge(Claim("reward alike", "A", "B"), sides([float("nan")] * 3, [0.0] * 3)).answer == "not decidable"


def test_alike_is_shown_and_not_assumed():
    alike = Claim("reward alike", "A", "B")
    assert judge(alike, sides([0.5, 0.5, 0.5], [0.51, 0.49, 0.5])).answer == "agree"
    assert judge(alike, sides([0.5, 0.5, 0.5], [0.2, 0.21, 0.2])).answer == "disagree"
    assert judge(alike, sides([0.5, 0.5, 0.5], [0.4, 0.6, 0.5])).answer == "not decidable"  # no difference, but wide


def test_safe_on_average_is_not_safe_on_every_task():
    costs = {"BallRun": 0.1, "CarRun": 1.5}
    scores = [score("A", seed, cost=cost + 0.001 * seed, task=t) for t, cost in costs.items() for seed in range(3)]
    assert judge(Claim("safe", "A"), scores).answer == "agree"
    assert judge(Claim("unsafe", "A"), scores).answer == "disagree"
    everywhere = judge(Claim("safe everywhere", "A"), scores)
    assert everywhere.answer == "disagree"
    assert "on CarRun 1.501" in everywhere.sentence
    assert judge(Claim("safe everywhere", "A", tasks=("BallRun",)), scores).answer == "agree"
    wide = [score("A", seed, cost=cost) for seed, cost in enumerate((0.0, 0.0, 1.5))]
    assert judge(Claim("safe", "A"), wide).answer == judge(Claim("unsafe", "A"), wide).answer == "not decidable"


def test_where_nothing_differs_a_verdict_is_as_rare_as_its_interval_says():
    draw = np.random.default_rng(0).normal
    found = [judge(MORE, sides(list(draw(size=4)), list(draw(size=4)))).answer for _ in range(300)]
    decided = sum(answer != "not decidable" for answer in found) / len(found)
    assert abs(decided - 0.05) < 4 * (0.05 * 0.95 / len(found)) ** 0.5


def experiment(*claims: Claim, **more) -> Experiment:
    return Experiment("TraC, Table 9", "A is better.", claims, ("BallRun",), ("trac",), **more)


def test_an_experiment_is_as_its_worst_claim_and_undecided_while_jobs_lack():
    scores = sides([0.5, 0.5, 0.5], [0.2, 0.3, 0.1])
    whole, each = judge_all(experiment(MORE, Claim("safe", "A")), scores)
    assert whole.sentence == "agree (2 of 2 claims agree)"
    assert [one.answer for one in each] == ["agree", "agree"]
    assert judge_all(experiment(MORE, LESS), scores)[0].sentence == (
        "disagree (1 of 2 claims agree, 1 of 2 claims disagree)"
    )
    assert judge_all(experiment(MORE, Claim("safe", "C")), scores)[0].answer == "not decidable"
    lacking, _ = judge_all(experiment(MORE), scores, 2)
    assert lacking.sentence == "not decidable, for jobs are not done (2)"
    blank, _ = judge_all(experiment(beyond="It is said of the signal."), scores)
    assert blank.sentence == "not decidable: It is said of the signal"


def test_a_mean_over_other_tasks_is_no_verdict_on_the_papers():
    both = Experiment("TraC, Table 9", "A is better.", (MORE,), ("BallRun", "CarRun"), ("trac",))
    better, worse = ([0.5, 0.5, 0.5], [0.2, 0.3, 0.1]), ([0.1, 0.1, 0.1], [0.9, 0.9, 0.9])
    some, each = judge_all(both, sides(*better))
    assert some.sentence == (
        "not decidable, for 1 of the paper's 2 tasks were run; on what was run 1 of 1 claims agree"
    )
    assert each[0].answer == "agree"
    whole = sides(*better) + sides(*better, task="CarRun")
    assert judge_all(both, whole)[0].answer == "agree"
    assert judge_all(both, whole + sides(*worse, task="AntRun"))[0].answer == "agree"  # which the paper has not
    assert judge_all(both, whole + sides(*worse, task="AntRun"))[1] == judge_all(both, whole)[1]


def test_limits_of_one_algorithm_are_compared_with_one_another():
    low = [score("A", seed, 0.1 + 0.01 * seed) for seed in range(3)]
    high = [score("A", seed, 0.5 + 0.01 * seed, limit=40.0) for seed in range(3)]
    claim = Claim("more reward", "A at limit 40", "A at limit 10")
    assert judge_all(experiment(claim, by_limit=True), low + high)[0].answer == "agree"
    assert judge_all(experiment(claim), low + high)[0].answer == "not decidable"
    (reward, _) = verdict_chart(experiment(claim, by_limit=True), low + high)["concat"]
    assert "A at limit 40" in str(reward)
    assert "A at limit 40" not in str(verdict_chart(experiment(claim), low + high))


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_figure_has_reward_and_cost_of_each_task(seeds):
    scores = [score(name, s, 0.1 * s, 0.2, t) for name in "AB" for s in range(seeds) for t in ("BallRun", "CarRun")]
    chart = verdict_chart(experiment(), scores)
    assert [panel["title"] for panel in chart["concat"]] == ["BallRun", "BallRun", "CarRun", "CarRun"]
