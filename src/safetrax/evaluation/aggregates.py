"""Statistics across tasks and runs, of reward and of cost: what a method amounts to on a whole benchmark.

As in Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
(arXiv:2108.13264): interquartile means, performance profiles and probabilities of improvement, with intervals from a
bootstrap that resamples the runs within every task. New here is the cost: each of these exists for it too, a run
is safe or not, and two runs compare by safety first.

A run is one training seed at one cost limit. A method that ignores the limit is scored at every limit; its scores at
several limits are of the same episodes, so that it is its seeds that are resampled, each with all of its scores.
Every task counts alike, however many runs it has. An interval is NaN where some task has a single run (or a single
seed of a method that ignores the limit): its spread is then unknown, and an interval that left it out would be too
narrow.
"""

from __future__ import annotations

import difflib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int64

from safetrax.data.catalogue import get_task
from safetrax.errors import ConfigError
from safetrax.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    Bounded,
    Interval,
    any_alone,
    numbered,
    per_unit,
    shared_weights,
    weighted_interquartile_mean,
    wilson_interval,
)
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.scores import is_safe, normalised_cost, normalised_return
from safetrax.evaluation.statistics import Estimate

LAST = "last"
BEST_REWARD_SAFE = "best-reward-safe"

ProfileKind = Literal["return", "cost", "safe return"]

_THRESHOLDS = {"return": (0.0, 1.2), "cost": (0.0, 3.0), "safe return": (0.0, 1.2)}


@dataclass(frozen=True)
class RunScore:
    """What the episodes of one run amount to, at one cost limit.

    Attributes:
        algorithm: name of the method.
        task: name of the task.
        cost_limit: that the costs were normalised with.
        seed: of the training.
        step: updates trained when it was evaluated, or None where unknown.
        checkpoint: how the step was chosen: `last`, `step 5000` or `best-reward-safe`. A table or figure says so
            where it is not the last.
        ignores_limit: whether the method ignores the limit, so that its scores at other limits are of the same
            episodes.
        episodes: number of episodes.
        return_: mean undiscounted episode return.
        cost: mean undiscounted episode cost.
        normalised_return: mean, see `safetrax.evaluation.scores`.
        normalised_cost: mean, see `safetrax.evaluation.scores`.
        safe_episodes: share of the episodes whose cost is within the limit.
    """

    algorithm: str
    task: str
    cost_limit: float
    seed: int
    step: int | None
    checkpoint: str
    ignores_limit: bool
    episodes: int
    return_: float
    cost: float
    normalised_return: float
    normalised_cost: float
    safe_episodes: float

    @property
    def safe(self) -> bool:
        """Whether the mean normalised cost is at most 1."""
        return is_safe(self.normalised_cost)


@dataclass(frozen=True)
class Aggregate:
    """What the runs of one algorithm amount to, on one task or across several, each task counting alike.

    Attributes:
        algorithm: name of the method.
        tasks: those that it was evaluated on, sorted.
        missing: those that only other algorithms of the same call were evaluated on.
        single_run: tasks with a single run, or a single seed where the method ignores the limit. If there is one, the
            intervals are NaN.
        checkpoint: see `RunScore`.
        runs: number of (task, limit, seed); with a method that ignores the limit, of (task, seed).
        episodes: number of episodes; those of a method that ignores the limit count once.
        mean_return: normalised. On one task, the standard error is over runs as in `benchmark_table`, and NaN with
            one run. Across tasks it is that of the mean of the tasks' means, the tasks being given.
        mean_cost: normalised, each run by its own limit; errors likewise.
        iqm_return: interquartile mean over runs of the normalised return.
        iqm_cost: interquartile mean over runs of the normalised cost.
        safe_runs: share of the runs whose mean normalised cost is at most 1: the probability of being safe.
        safe_runs_wilson: Wilson's interval for it on one task, of which the bootstrap shows too little where all runs
            agree; None across tasks.
        safe_episodes: share of the episodes whose cost is within the limit, every run counting alike.
    """

    algorithm: str
    tasks: tuple[str, ...]
    missing: tuple[str, ...]
    single_run: tuple[str, ...]
    checkpoint: str
    runs: int
    episodes: int
    mean_return: Estimate
    mean_cost: Estimate
    iqm_return: Bounded
    iqm_cost: Bounded
    safe_runs: Bounded
    safe_runs_wilson: Interval | None
    safe_episodes: Bounded


@dataclass(frozen=True, eq=False)
class Profile:
    """The share of an algorithm's runs that reach each threshold, each task counting alike.

    Attributes:
        algorithm: name of the method.
        kind: `return`: runs whose normalised return is above the threshold. `cost`: whose normalised cost is at most
            the threshold. `safe return`: as `return`, an unsafe run being below every threshold.
        tasks: those that it was evaluated on, sorted.
        missing: those that only other algorithms of the same call were evaluated on.
        checkpoint: see `RunScore`.
        thresholds: rising, normalised.
        share: between 0 and 1.
        low: lower end of the pointwise interval; NaN where there is none.
        high: its upper end.
    """

    algorithm: str
    kind: ProfileKind
    tasks: tuple[str, ...]
    missing: tuple[str, ...]
    checkpoint: str
    thresholds: Float[np.ndarray, " K"]
    share: Float[np.ndarray, " K"]
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]


class TaskComparison(NamedTuple):
    """The probabilities of improvement on one task; see `Comparison`."""

    task: str
    cost_limits: tuple[float, ...]
    improvement_return: float
    improvement_cost: float
    improvement_safe_return: float


@dataclass(frozen=True)
class Comparison:
    """Two algorithms on the tasks that both were evaluated on, each task counting alike.

    A probability of improvement is that of a run of the first beating a run of the second, a tie being half a win;
    0.5 is a draw. A difference is first minus second, over the runs that both have.

    Attributes:
        first: name of the algorithm.
        second: name of the one that it is compared with.
        checkpoint: see `RunScore`.
        tasks: those compared, sorted.
        only_first: tasks that only the first was evaluated on.
        only_second: tasks that only the second was evaluated on.
        no_common_limit: tasks that both were evaluated on, but at no common limit; not compared.
        improvement_return: probability of more normalised return.
        improvement_cost: probability of less normalised cost.
        improvement_safe_return: probability of winning where safe beats unsafe, two safe runs compare by their
            return (more) and two unsafe ones by their cost (less).
        by_task: the three for every task.
        pairs: number of (task, limit, seed) that both have.
        paired_tasks: the tasks that these are of.
        return_difference: mean difference in normalised return over the pairs; NaN without pairs.
        cost_difference: likewise in normalised cost; negative where the first costs less.
    """

    first: str
    second: str
    checkpoint: str
    tasks: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    no_common_limit: tuple[str, ...]
    improvement_return: Bounded
    improvement_cost: Bounded
    improvement_safe_return: Bounded
    by_task: tuple[TaskComparison, ...]
    pairs: int
    paired_tasks: tuple[str, ...]
    return_difference: Bounded
    cost_difference: Bounded


def run_scores(
    rows: Iterable[EpisodeRow], cost_limits: Sequence[float] | None = None, *, step: int | str = LAST
) -> list[RunScore]:
    """One score per run, in order of first appearance; several where the method ignores the limit, one per limit.

    Args:
        rows: episodes of any algorithms and tasks, of one or several training steps.
        cost_limits: where to score methods that ignore the limit; by default the task's own limits.
        step: `last` takes every run's last step, which is the headline. A number takes that step. `best-reward-safe`
            takes the step with most return among those that are safe, else the one with least cost, at every limit by
            itself for a method that ignores it. That looks at the evaluations, so that its scores are too good. The
            scores are labelled accordingly.

    Raises:
        TaskError: a row names an unknown task.
        ConfigError: a return or cost is not finite, a run has not got the step or some of its steps are unknown, or
            an argument is none of the above.
    """
    known = (LAST, BEST_REWARD_SAFE)
    if isinstance(step, str) and step not in known:
        raise ConfigError(f"there is no step {step!r}; {_nearest(step, known) or f'choose one of {_listed(known)}.'}")
    step = step if isinstance(step, str) else int(step)
    given = tuple(dict.fromkeys(float(limit) for limit in cost_limits or ()))
    runs: dict[tuple[str, str, float | None, int], dict[int | None, list[EpisodeRow]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        runs[row.algorithm, row.task, row.cost_limit, row.seed][row.step].append(row)
    scores: list[RunScore] = []
    for (_, task, own, _), steps in runs.items():
        limits = sorted(given or get_task(task).cost_limits) if own is None else [own]
        scores += [_chosen(steps, float(limit), step) for limit in limits]
    return scores


def _chosen(steps: dict[int | None, list[EpisodeRow]], limit: float, step: int | str) -> RunScore:
    """The score of one run at one limit."""
    first = next(iter(steps.values()))[0]
    if isinstance(step, int):
        if step not in steps:
            have = _listed(steps)
            raise ConfigError(f"{_run(first, first.cost_limit)} has no episodes of step {step}, but of {have}.")
        return _score(steps[step], limit, f"step {step}")
    if None in steps and len(steps) > 1:
        raise ConfigError(
            f"some episodes of {_run(first, first.cost_limit)} name no training step, others do ({_listed(steps)}); "
            "choose a step, or keep the rows of one of them."
        )
    if step == LAST:
        return _score(steps[max(steps, key=lambda known: known or 0)], limit, LAST)
    scores = [_score(rows, limit, BEST_REWARD_SAFE) for rows in steps.values()]
    safe = [score for score in scores if score.safe]
    if safe:
        return max(safe, key=lambda score: (score.normalised_return, score.step or 0))
    return min(scores, key=lambda score: (score.normalised_cost, -(score.step or 0)))


def _score(rows: list[EpisodeRow], limit: float, checkpoint: str) -> RunScore:
    first = rows[0]
    returns = np.array([row.return_ for row in rows], np.float64)
    costs = np.array([row.cost for row in rows], np.float64)
    if not (np.isfinite(returns).all() and np.isfinite(costs).all()):
        raise ConfigError(f"an episode of {_run(first, first.cost_limit)} has a return or cost that is not finite.")
    if not (math.isfinite(limit) and limit >= 0):
        raise ConfigError(f"the cost limit of {_run(first, limit)} is {limit:g}, but must not be negative.")
    scaled = normalised_cost(costs, limit)
    return RunScore(
        algorithm=first.algorithm,
        task=first.task,
        cost_limit=limit,
        seed=first.seed,
        step=first.step,
        checkpoint=checkpoint,
        ignores_limit=first.cost_limit is None,
        episodes=len(rows),
        return_=float(returns.mean()),
        cost=float(costs.mean()),
        normalised_return=float(normalised_return(returns, first.task).mean()),
        normalised_cost=float(scaled.mean()),
        safe_episodes=sum(map(is_safe, scaled.tolist())) / len(rows),
    )


def on_common_tasks(scores: Iterable[RunScore], algorithms: Sequence[str] | None = None) -> list[RunScore]:
    """The scores of the tasks that all algorithms were evaluated on, for a comparison on equal terms.

    Args:
        scores: see `run_scores`.
        algorithms: those to keep; by default all.

    Raises:
        ConfigError: an algorithm is unknown, or there is no common task.
    """
    groups = _by_algorithm(scores, algorithms)
    if not groups:
        return []
    common = set.intersection(*({score.task for score in group} for group in groups.values()))
    if not common:
        raise ConfigError(f"there is no task that all of {_listed(groups)} were evaluated on.")
    return [score for group in groups.values() for score in group if score.task in common]


def aggregates(
    scores: Iterable[RunScore],
    *,
    algorithms: Sequence[str] | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> list[Aggregate]:
    """One summary per algorithm, across all tasks that it was evaluated on.

    The result for an algorithm depends neither on the order of the scores nor on the other algorithms, save for
    `missing`. To have all on the same tasks, pass `on_common_tasks(scores)`.

    Args:
        scores: see `run_scores`.
        algorithms: which; by default all, in order of first appearance.
        bootstrap: how the intervals are made.

    Raises:
        ConfigError: an algorithm is unknown, a run appears twice, a score is not finite, or checkpoints are mixed.
    """
    return [_aggregate(runs, missing, bootstrap) for runs, missing in _tables(scores, algorithms)]


def task_aggregates(
    scores: Iterable[RunScore],
    *,
    algorithms: Sequence[str] | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> list[Aggregate]:
    """One summary per (algorithm, task): algorithms in order of first appearance, tasks sorted.

    Arguments and errors are those of `aggregates`.
    """
    found = []
    for runs, _ in _tables(scores, algorithms):
        groups: dict[str, list[RunScore]] = defaultdict(list)
        for score in runs.scores:
            groups[score.task].append(score)
        found += [_aggregate(_Runs.of(group), (), bootstrap) for group in groups.values()]
    return found


def performance_profiles(
    scores: Iterable[RunScore],
    kind: ProfileKind = "return",
    thresholds: npt.ArrayLike | None = None,
    *,
    algorithms: Sequence[str] | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> list[Profile]:
    """One profile per algorithm: which share of its runs reaches each threshold, with a pointwise band.

    Source: Agarwal et al., 2021 (score distributions).

    Args:
        scores: see `run_scores`.
        kind: `return`, `cost` or `safe return`; see `Profile`.
        thresholds: K rising numbers; by default 121 from 0 to 1.2 for returns, and from 0 to 3 for costs.
        algorithms: which; by default all, in order of first appearance.
        bootstrap: how the bands are made.

    Raises:
        ConfigError: as for `aggregates`; or the kind is unknown, or the thresholds are not rising.
    """
    if kind not in get_args(ProfileKind):
        kinds = get_args(ProfileKind)
        hint = _nearest(kind, kinds) or f"choose one of {_listed(kinds)}."
        raise ConfigError(f"there is no profile {kind!r}; {hint}")
    levels = np.linspace(*_THRESHOLDS[kind], 121) if thresholds is None else np.array(thresholds, np.float64)
    if levels.ndim != 1 or not levels.size or not np.isfinite(levels).all() or (np.diff(levels) <= 0).any():
        raise ConfigError("the thresholds of a profile must be a rising sequence of finite numbers.")
    return [_profile(runs, missing, kind, levels, bootstrap) for runs, missing in _tables(scores, algorithms)]


def compare(
    scores: Iterable[RunScore],
    first: str,
    second: str,
    *,
    match_limits: bool = True,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> Comparison:
    """How probably the first algorithm improves on the second, and by how much.

    The probability on a task is the Mann-Whitney statistic U / (m n) of its m and n runs, and the result is the mean
    over tasks. Its interval resamples the runs of both algorithms, that of a difference resamples pairs; where either
    method ignores the limit, the pairs of a seed stay together.

    Source: Agarwal et al., 2021 (probability of improvement).

    Args:
        scores: see `run_scores`; other algorithms are left out.
        first: name of the algorithm.
        second: name of the one that it is compared with.
        match_limits: whether only runs at the same limit meet, as a limit changes what can be earned. The statistic
            is then one per (task, limit), its mean over the limits that both have is the task's, and runs are
            resampled within (task, limit). Otherwise all runs of a task meet and are resampled together, as in the
            source.
        bootstrap: how the intervals are made.

    Raises:
        ConfigError: as for `aggregates`; or the algorithms are the same, or have no task and limit in common.
    """
    if first == second:
        raise ConfigError(f"{first} is compared with itself; name two algorithms.")
    sides = _by_algorithm(scores, (first, second))
    checkpoint = _checkpoint(score for side in sides.values() for score in side)
    cells = [{_cell(score, match_limits) for score in side} for side in sides.values()]
    tasks = [{cell[0] for cell in found} for found in cells]
    common = cells[0] & cells[1]
    if not common:
        what = "task and limit" if match_limits and tasks[0] & tasks[1] else "task"
        raise ConfigError(f"there is no {what} that both {first} and {second} were evaluated on.")
    tables = [_Runs.of([s for s in side if _cell(s, match_limits) in common]) for side in sides.values()]
    improvement, by_task = _improvement(tables[0], tables[1], match_limits, bootstrap)
    pairs = _pairs(tables[0], tables[1])
    differences = _differences(pairs, bootstrap)
    compared = tables[0].tasks
    return Comparison(
        first=first,
        second=second,
        checkpoint=checkpoint,
        tasks=compared,
        only_first=tuple(sorted(tasks[0] - tasks[1])),
        only_second=tuple(sorted(tasks[1] - tasks[0])),
        no_common_limit=tuple(sorted((tasks[0] & tasks[1]) - set(compared))),
        improvement_return=improvement[0],
        improvement_cost=improvement[1],
        improvement_safe_return=improvement[2],
        by_task=by_task,
        pairs=len(pairs),
        paired_tasks=tuple(sorted({one.task for one, _ in pairs})),
        return_difference=differences[0],
        cost_difference=differences[1],
    )


@dataclass(frozen=True, eq=False)
class _Runs:
    """The scores of one algorithm, sorted by task, limit and seed, and which of them are resampled together.

    Attributes:
        scores: N of them.
        tasks: sorted.
        task: of every score the number of its task.
        unit: of every score the number of its unit. A unit is what is drawn as a whole: a run, or all scores of a
            seed where the method ignores the limit.
        unit_task: of every unit the number of its task.
    """

    scores: tuple[RunScore, ...]
    tasks: tuple[str, ...]
    task: Int64[np.ndarray, " N"]
    unit: Int64[np.ndarray, " N"]
    unit_task: Int64[np.ndarray, " U"]

    @classmethod
    def of(cls, scores: Iterable[RunScore]) -> _Runs:
        kept = tuple(sorted(scores, key=lambda score: (score.task, score.cost_limit, score.seed)))
        _check(kept)
        task = numbered([score.task for score in kept])
        unit = numbered([_unit(score, score.ignores_limit) for score in kept])
        return cls(kept, tuple(dict.fromkeys(score.task for score in kept)), task, unit, per_unit(task, unit))

    def column(self, name: str) -> Float[np.ndarray, " N"]:
        """A number of every score."""
        return np.array([getattr(score, name) for score in self.scores], np.float64)

    def unit_means(self, values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " U"]:
        """The mean over the scores of every unit."""
        return np.asarray(np.bincount(self.unit, values) / np.bincount(self.unit))

    def estimate(self, values: Float[np.ndarray, " N"]) -> Estimate:
        """The mean of the tasks' means over units, and its standard error."""
        of_unit = self.unit_means(values)
        means, variances = [], []
        for number in range(len(self.tasks)):
            samples = of_unit[self.unit_task == number]
            means.append(samples.mean())
            variances.append(samples.var(ddof=1) / len(samples) if len(samples) > 1 else math.nan)
        return Estimate(float(np.mean(means)), math.sqrt(sum(variances)) / len(means))


def _check(scores: tuple[RunScore, ...]) -> None:
    """Refuse what no statistic would be right for; scores of one algorithm."""
    seen: set[tuple[str, float, int]] = set()
    ignoring: dict[str, bool] = {}
    limits: dict[tuple[str, int], set[float]] = defaultdict(set)
    for score in scores:
        key = (score.task, score.cost_limit, score.seed)
        if ignoring.setdefault(score.task, score.ignores_limit) != score.ignores_limit:
            raise ConfigError(
                f"some runs of {score.algorithm} on {score.task} have a cost limit of their own and some ignore it; "
                "name the two methods apart."
            )
        if key in seen:
            raise ConfigError(f"{_run(score, score.cost_limit)} appears twice among the scores; keep one of them.")
        seen.add(key)
        if not all(map(math.isfinite, (score.normalised_return, score.normalised_cost, score.safe_episodes))):
            raise ConfigError(f"{_run(score, score.cost_limit)} has a score that is not finite.")
        if score.ignores_limit:
            limits[score.task, score.seed].add(score.cost_limit)
    expected: dict[str, set[float]] = {}
    for (task, _), found in limits.items():
        if expected.setdefault(task, found) != found:
            raise ConfigError(
                f"{scores[0].algorithm} on {task} ignores the limit, but its seeds are scored at different limits; "
                "score all at the same."
            )


def _by_algorithm(scores: Iterable[RunScore], algorithms: Sequence[str] | None) -> dict[str, list[RunScore]]:
    groups: dict[str, list[RunScore]] = defaultdict(list)
    for score in scores:
        groups[score.algorithm].append(score)
    for name in algorithms or ():
        if name not in groups:
            hint = _nearest(name, tuple(groups)) or f"there are {_listed(groups) or 'none'}."
            raise ConfigError(f"there is no algorithm {name!r} among the scores; {hint}")
    return {name: groups[name] for name in (groups if algorithms is None else algorithms)}


def _tables(scores: Iterable[RunScore], algorithms: Sequence[str] | None) -> list[tuple[_Runs, tuple[str, ...]]]:
    """Every algorithm's runs, with the tasks that it has not got and another has."""
    groups = _by_algorithm(scores, algorithms)
    _checkpoint(score for group in groups.values() for score in group)
    tables = [_Runs.of(group) for group in groups.values()]
    tasks = set[str]().union(*(runs.tasks for runs in tables))
    return [(runs, tuple(sorted(tasks - set(runs.tasks)))) for runs in tables]


def _checkpoint(scores: Iterable[RunScore]) -> str:
    """The one label of all scores, else an error: the last step of one run and the best of another do not compare."""
    labels = sorted({score.checkpoint for score in scores})
    if len(labels) > 1:
        raise ConfigError(f"the scores are of different checkpoints ({_listed(labels)}); keep those of one.")
    return labels[0] if labels else LAST


def _unit(score: RunScore, whole_seed: bool) -> tuple[object, ...]:
    """What is drawn as a whole."""
    return (score.task, score.seed) if whole_seed else (score.task, score.seed, score.cost_limit)


def _aggregate(runs: _Runs, missing: tuple[str, ...], bootstrap: Bootstrap) -> Aggregate:
    returns, costs = runs.column("normalised_return"), runs.column("normalised_cost")
    shares = np.stack([runs.column("safe"), runs.column("safe_episodes")], axis=1)

    def statistics(counts: Float[np.ndarray, "B U"]) -> Float[np.ndarray, "B 4"]:
        weights = shared_weights(counts, runs.unit, runs.task)
        means = [weighted_interquartile_mean(values, weights) for values in (returns, costs)]
        return np.column_stack([*means, _whole(weights @ shares)])

    point = statistics(np.ones((1, len(runs.unit_task))))[0]
    single = tuple(runs.tasks[number] for number in np.flatnonzero(np.bincount(runs.unit_task) == 1))
    samples = None if single else statistics(bootstrap.counts(runs.unit_task))
    iqm_return, iqm_cost, safe_runs, safe_episodes = bootstrap.bounded(point, samples)
    safe = runs.unit_means(shares[:, 0])
    return Aggregate(
        algorithm=runs.scores[0].algorithm,
        tasks=runs.tasks,
        missing=missing,
        single_run=single,
        checkpoint=runs.scores[0].checkpoint,
        runs=len(safe),
        episodes=int(per_unit(runs.column("episodes").astype(np.int64), runs.unit).sum()),
        mean_return=runs.estimate(returns),
        mean_cost=runs.estimate(costs),
        iqm_return=iqm_return,
        iqm_cost=iqm_cost,
        safe_runs=safe_runs,
        safe_runs_wilson=(
            wilson_interval(float(safe.sum()), len(safe), bootstrap.confidence) if len(runs.tasks) == 1 else None
        ),
        safe_episodes=safe_episodes,
    )


def _profile(
    runs: _Runs,
    missing: tuple[str, ...],
    kind: ProfileKind,
    thresholds: Float[np.ndarray, " K"],
    bootstrap: Bootstrap,
) -> Profile:
    if kind == "cost":
        reached = runs.column("normalised_cost")[:, None] <= thresholds
    else:
        reached = runs.column("normalised_return")[:, None] > thresholds
    if kind == "safe return":
        reached &= runs.column("safe")[:, None] > 0
    hits = reached.astype(np.float64)
    share = _whole(shared_weights(np.ones((1, len(runs.unit_task))), runs.unit, runs.task) @ hits)[0]
    low, high = np.full((2, len(thresholds)), math.nan)
    if not any_alone(runs.unit_task):
        weights = shared_weights(bootstrap.counts(runs.unit_task), runs.unit, runs.task)
        low, high = bootstrap.ends(_whole(weights @ hits))
    first = runs.scores[0]
    return Profile(first.algorithm, kind, runs.tasks, missing, first.checkpoint, thresholds, share, low, high)


def _whole(shares: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B K"]:
    """Sums of weights, without the rounding error of none and all."""
    nearest = np.rint(shares)
    return np.where(np.abs(shares - nearest) < 1e-12, nearest, shares)


def _cell(score: RunScore, match_limits: bool) -> tuple[str, float]:
    """Within which runs of two algorithms meet."""
    return score.task, score.cost_limit if match_limits else 0.0


def _improvement(
    first: _Runs, second: _Runs, match_limits: bool, bootstrap: Bootstrap
) -> tuple[list[Bounded], tuple[TaskComparison, ...]]:
    """The three probabilities with their intervals, and for every task. Both sides have the same cells."""
    sides = (first, second)
    spans = [_spans([_cell(score, match_limits) for score in side.scores]) for side in sides]
    strata = [_strata(side, match_limits) for side in sides]
    known = not any(map(any_alone, strata))
    counts = [np.ones((1, len(side.unit_task))) for side in sides]
    if known:  # the first row is the estimate itself
        # streams go by name, so that swapping the two mirrors the result
        swapped = first.scores[0].algorithm > second.scores[0].algorithm
        streams = (2, 1) if swapped else (1, 2)
        counts = [
            np.concatenate([one, bootstrap.counts(stratum, stream)])
            for one, stratum, stream in zip(counts, strata, streams, strict=True)
        ]
    drawn = [count[:, side.unit] for count, side in zip(counts, sides, strict=True)]
    cells: dict[str, list[Float[np.ndarray, "B 3"]]] = defaultdict(list)
    for cell in spans[0]:
        ours, theirs = spans[0][cell], spans[1][cell]
        wins = _wins(first.scores[ours], second.scores[theirs])
        m, n, _ = wins.shape
        expected = (drawn[0][:, ours] @ wins.reshape(m, n * 3)).reshape(-1, n, 3)
        cells[cell[0]].append((expected * drawn[1][:, theirs, None]).sum(axis=1) / (m * n))
    of_task = {task: np.mean(found, axis=0) for task, found in cells.items()}
    samples = np.mean(list(of_task.values()), axis=0)
    limits: dict[str, set[float]] = defaultdict(set)
    for score in (*first.scores, *second.scores):
        limits[score.task].add(score.cost_limit)
    by_task = tuple(
        TaskComparison(task, tuple(sorted(limits[task])), *map(float, values[0])) for task, values in of_task.items()
    )
    return bootstrap.bounded(samples[0], samples[1:] if known else None), by_task


def _spans(cells: Sequence[tuple[str, float]]) -> dict[tuple[str, float], slice]:
    """Where each cell lies; the scores of a cell are next to one another."""
    starts = [i for i, cell in enumerate(cells) if i == 0 or cell != cells[i - 1]]
    return {cells[a]: slice(a, b) for a, b in zip(starts, [*starts[1:], len(cells)], strict=True)}


def _strata(runs: _Runs, match_limits: bool) -> Int64[np.ndarray, " U"]:
    """Of every unit the number of its stratum: its cell, or its task where it is in all cells of the task."""
    of_score = numbered(
        [
            (score.task, score.cost_limit if match_limits and not score.ignores_limit else None)
            for score in runs.scores
        ]
    )
    return per_unit(of_score, runs.unit)


def _wins(first: Sequence[RunScore], second: Sequence[RunScore]) -> Float[np.ndarray, "m n 3"]:
    """1, 1/2 or 0 for every two runs: by return, by cost, and by safety first."""

    def columns(scores: Sequence[RunScore]) -> Float[np.ndarray, "3 _"]:
        return np.array([(s.normalised_return, -s.normalised_cost, s.safe) for s in scores], np.float64).T

    ours, theirs = columns(first), columns(second)
    returns, costs, safety = (np.sign(np.subtract.outer(a, b)) for a, b in zip(ours, theirs, strict=True))
    both_safe = ours[2][:, None] > 0
    lexicographic = np.where(safety != 0, safety, np.where(both_safe, returns, costs))
    return np.asarray(0.5 * (1 + np.stack([returns, costs, lexicographic], axis=-1)))


def _pairs(first: _Runs, second: _Runs) -> list[tuple[RunScore, RunScore]]:
    """The runs that both have, sorted by task."""
    theirs = {(score.task, score.cost_limit, score.seed): score for score in second.scores}
    keys = [(score.task, score.cost_limit, score.seed) for score in first.scores]
    return [(score, theirs[key]) for score, key in zip(first.scores, keys, strict=True) if key in theirs]


def _differences(pairs: Sequence[tuple[RunScore, RunScore]], bootstrap: Bootstrap) -> list[Bounded]:
    """Mean difference in return and in cost, with intervals."""
    if not pairs:
        return [Bounded(math.nan, math.nan, math.nan)] * 2
    values = np.array(
        [(a.normalised_return - b.normalised_return, a.normalised_cost - b.normalised_cost) for a, b in pairs]
    )
    task = numbered([a.task for a, _ in pairs])
    unit = numbered([_unit(a, a.ignores_limit or b.ignores_limit) for a, b in pairs])
    unit_task = per_unit(task, unit)
    point = shared_weights(np.ones((1, len(unit_task))), unit, task) @ values
    known = not any_alone(unit_task)
    samples = shared_weights(bootstrap.counts(unit_task), unit, task) @ values if known else None
    return bootstrap.bounded(point[0], samples)


def _run(row: EpisodeRow | RunScore, limit: float | None) -> str:
    """A run, for a message."""
    return f"{row.algorithm} on {row.task}, {'no limit' if limit is None else f'limit {limit:g}'}, seed {row.seed}"


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


def _nearest(name: str, names: Sequence[str]) -> str:
    """A question whether the nearest name was meant, or nothing where none is near."""
    by_case = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), by_case, n=1, cutoff=0.5)
    return f"did you mean {by_case[near[0]]}?" if near else ""
