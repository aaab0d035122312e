"""The runs of an algorithm as columns, checked, with what is resampled together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from safetrax.errors import ConfigError
from safetrax.evaluation.bootstrap import numbered, per_unit
from safetrax.evaluation.run_scores import LAST, RunScore, by_algorithm, listed
from safetrax.evaluation.statistics import Estimate


@dataclass(frozen=True, eq=False)
class RunTable:
    """The scores of one algorithm, sorted by task, limit and seed, and which of them are resampled together.

    Attributes:
        scores: N of them.
        tasks: sorted.
        task: of every score the number of its task.
        unit: of every score the number of its unit. A unit is what is drawn as a whole: a run, or all scores of a
            seed where the algorithm ignores the limit.
        unit_task: of every unit the number of its task.
    """

    scores: tuple[RunScore, ...]
    tasks: tuple[str, ...]
    task: Int64[np.ndarray, " N"]
    unit: Int64[np.ndarray, " N"]
    unit_task: Int64[np.ndarray, " U"]

    @classmethod
    def of(cls, scores: Iterable[RunScore]) -> RunTable:
        """Of the scores of one algorithm, in any order.

        Raises:
            ConfigError: a run appears twice, a score is not finite, or some runs ignore the limit and others do not.
        """
        kept = tuple(sorted(scores, key=lambda score: (score.task, score.cost_limit, score.seed)))
        _check(kept)
        task = numbered([score.task for score in kept])
        unit = numbered([unit_of(score, score.ignores_limit) for score in kept])
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
    """Refuse what no statistic would be right for; scores of one algorithm, sorted."""
    for task, group in itertools.groupby(scores, key=lambda score: score.task):
        own = list(group)
        first = own[0]
        if any(score.ignores_limit != first.ignores_limit for score in own):
            raise ConfigError(
                f"some runs of {first.algorithm} on {task} have a cost limit of their own and some ignore it; "
                "name the two algorithms apart."
            )
        for score, following in itertools.pairwise(own):
            if score.run == following.run:
                raise ConfigError(f"{score.run.text} appears twice among the scores; keep one of them.")
        for score in own:
            reward = score.normalised_return if score.has_reference_returns else score.return_
            if not all(map(math.isfinite, (reward, score.normalised_cost, score.safe_episodes))):
                raise ConfigError(f"{score.run.text} has a score that is not finite.")
        seeds, limits = {score.seed for score in own}, {score.cost_limit for score in own}
        if first.ignores_limit and len(own) < len(seeds) * len(limits):
            raise ConfigError(
                f"{first.algorithm} on {task} ignores the limit, but its seeds are scored at different limits; "
                "score all at the same."
            )


def run_tables(
    scores: Iterable[RunScore], algorithms: Sequence[str] | None
) -> list[tuple[RunTable, tuple[str, ...]]]:
    """Every algorithm's runs, with the tasks that it has not got and another has."""
    groups = by_algorithm(scores, algorithms)
    checkpoint_of(score for group in groups.values() for score in group)
    tables = [RunTable.of(group) for group in groups.values()]
    tasks = set[str]().union(*(runs.tasks for runs in tables))
    return [(runs, tuple(sorted(tasks - set(runs.tasks)))) for runs in tables]


def checkpoint_of(scores: Iterable[RunScore]) -> str:
    """The one label of all scores, else an error: the last step of one run and the best of another do not compare."""
    labels = sorted({score.checkpoint for score in scores})
    if len(labels) > 1:
        raise ConfigError(f"the scores are of different checkpoints ({listed(labels)}); keep those of one.")
    return labels[0] if labels else LAST


def unit_of(score: RunScore, whole_seed: bool) -> tuple[object, ...]:
    """What is drawn as a whole."""
    return (score.task, score.seed) if whole_seed else (score.task, score.seed, score.cost_limit)


def without_rounding(shares: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B K"]:
    """Sums of weights, without the rounding error of none and all."""
    nearest = np.rint(shares)
    return np.where(np.abs(shares - nearest) < 1e-12, nearest, shares)
