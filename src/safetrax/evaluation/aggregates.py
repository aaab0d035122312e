"""Statistics across tasks and runs, of reward and of cost: what an algorithm amounts to on a whole benchmark.

As in Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
(arXiv:2108.13264): interquartile means, performance profiles and probabilities of improvement, with intervals from a
bootstrap that resamples the runs within every task. New here is the cost: each of these exists for it too, a run
is safe or not, and two runs compare by safety first.

A run is one training seed at one cost limit. An algorithm that ignores the limit is scored at every limit; its
scores at several limits are of the same episodes, so that it is its seeds that are resampled, each with all of its
scores. Every task counts alike, however many runs it has. An interval is NaN where some task has a single run (or a
single seed of an algorithm that ignores the limit): its spread is then unknown, and an interval without it would be
too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from safetrax.errors import ConfigError, nearest
from safetrax.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    Bounded,
    Interval,
    any_alone,
    per_unit,
    shared_weights,
    weighted_interquartile_mean,
    wilson_interval,
)
from safetrax.evaluation.run_scores import RunScore
from safetrax.evaluation.run_table import RunTable, run_tables, without_rounding
from safetrax.evaluation.statistics import Estimate

ProfileKind = Literal["return", "cost", "safe return"]

_THRESHOLDS = {"return": (0.0, 1.2), "cost": (0.0, 3.0), "safe return": (0.0, 1.2)}


@dataclass(frozen=True)
class Aggregate:
    """What the runs of one algorithm amount to, on one task or across several, each task counting alike.

    Attributes:
        algorithm: name of the algorithm.
        tasks: those that it was evaluated on, sorted.
        missing: those that only other algorithms of the same call were evaluated on.
        single_run: tasks with a single run, or a single seed where the algorithm ignores the limit. If there is one,
            the intervals are NaN.
        checkpoint: see `RunScore`.
        runs: number of (task, limit, seed); with an algorithm that ignores the limit, of (task, seed).
        episodes: number of episodes; those of an algorithm that ignores the limit count once.
        mean_return: normalised; NaN where a task has no reference returns, as is `iqm_return`. On one task, the
            standard error is over runs as in `benchmark_table`, and NaN with one run. Across tasks it is that of the
            mean of the tasks' means, the tasks being given.
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

    @property
    def p_safe(self) -> Bounded:
        """`safe_runs`, with Wilson's interval where there is one."""
        return (
            self.safe_runs if self.safe_runs_wilson is None else Bounded(self.safe_runs.value, *self.safe_runs_wilson)
        )


@dataclass(frozen=True, eq=False)
class Profile:
    """The share of an algorithm's runs that reach each threshold, each task counting alike.

    Attributes:
        algorithm: name of the algorithm.
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
    return [_aggregate(runs, missing, bootstrap) for runs, missing in run_tables(scores, algorithms)]


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
        ConfigError: as for `aggregates`; or the kind is unknown, the thresholds are not rising, or a task has no
            reference returns for a profile of them.
    """
    if kind not in get_args(ProfileKind):
        raise ConfigError(f"there is no profile {kind!r}; {nearest(kind, get_args(ProfileKind))}")
    levels = np.linspace(*_THRESHOLDS[kind], 121) if thresholds is None else np.array(thresholds, np.float64)
    if levels.ndim != 1 or not levels.size or not np.isfinite(levels).all() or (np.diff(levels) <= 0).any():
        raise ConfigError("the thresholds of a profile must be a rising sequence of finite numbers.")
    found = list(scores)
    raw = sorted({score.task for score in found if kind != "cost" and not score.has_reference_returns})
    if raw:
        raise ConfigError(
            f"{raw[0]} has no reference returns for a profile of returns; set_reference_returns names them."
        )
    return [_profile(runs, missing, kind, levels, bootstrap) for runs, missing in run_tables(found, algorithms)]


def _aggregate(runs: RunTable, missing: tuple[str, ...], bootstrap: Bootstrap) -> Aggregate:
    returns, costs = runs.column("normalised_return"), runs.column("normalised_cost")
    shares = np.stack([runs.column("safe"), runs.column("safe_episodes")], axis=1)

    def statistics(counts: Float[np.ndarray, "B U"]) -> Float[np.ndarray, "B 4"]:
        weights = shared_weights(counts, runs.unit, runs.task)
        means = [weighted_interquartile_mean(values, weights) for values in (returns, costs)]
        return np.column_stack([*means, without_rounding(weights @ shares)])

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
    runs: RunTable,
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
    share = without_rounding(shared_weights(np.ones((1, len(runs.unit_task))), runs.unit, runs.task) @ hits)[0]
    low, high = np.full((2, len(thresholds)), math.nan)
    if not any_alone(runs.unit_task):
        weights = shared_weights(bootstrap.counts(runs.unit_task), runs.unit, runs.task)
        low, high = bootstrap.ends(without_rounding(weights @ hits))
    first = runs.scores[0]
    return Profile(first.algorithm, kind, runs.tasks, missing, first.checkpoint, thresholds, share, low, high)
