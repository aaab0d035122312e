"""Two algorithms run by run: how probably one improves on the other, and by how much.

As in Agarwal et al., NeurIPS 2021 (arXiv:2108.13264); see `safetrax.evaluation.aggregates`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from safetrax.errors import ConfigError
from safetrax.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    Bounded,
    any_alone,
    numbered,
    per_unit,
    shared_weights,
)
from safetrax.evaluation.run_scores import RunScore, by_algorithm
from safetrax.evaluation.run_table import RunTable, checkpoint_of, unit_of


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
        return_difference: mean difference in normalised return over the pairs; NaN without pairs, or where one of
            the tasks has no reference returns.
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
    algorithm ignores the limit, the pairs of a seed stay together.

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
    sides = by_algorithm(scores, (first, second))
    checkpoint = checkpoint_of(score for side in sides.values() for score in side)
    cells = [{_cell(score, match_limits) for score in side} for side in sides.values()]
    tasks = [{cell[0] for cell in found} for found in cells]
    common = cells[0] & cells[1]
    if not common:
        what = "task and limit" if match_limits and tasks[0] & tasks[1] else "task"
        raise ConfigError(f"there is no {what} that both {first} and {second} were evaluated on.")
    tables = [RunTable.of([s for s in side if _cell(s, match_limits) in common]) for side in sides.values()]
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


def _cell(score: RunScore, match_limits: bool) -> tuple[str, float]:
    """Within which runs of two algorithms meet."""
    return score.task, score.cost_limit if match_limits else 0.0


def _improvement(
    first: RunTable, second: RunTable, match_limits: bool, bootstrap: Bootstrap
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


def _strata(runs: RunTable, match_limits: bool) -> Int64[np.ndarray, " U"]:
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
        rewards = [s.normalised_return if s.has_reference_returns else s.return_ for s in scores]
        return np.array([rewards, [-s.normalised_cost for s in scores], [s.safe for s in scores]], np.float64)

    ours, theirs = columns(first), columns(second)
    returns, costs, safety = (np.sign(np.subtract.outer(a, b)) for a, b in zip(ours, theirs, strict=True))
    both_safe = ours[2][:, None] > 0
    lexicographic = np.where(safety != 0, safety, np.where(both_safe, returns, costs))
    return np.asarray(0.5 * (1 + np.stack([returns, costs, lexicographic], axis=-1)))


def _pairs(first: RunTable, second: RunTable) -> list[tuple[RunScore, RunScore]]:
    """The runs that both have, sorted by task."""

    def key(score: RunScore) -> tuple[str, float, int]:
        return score.task, score.cost_limit, score.seed

    theirs = {key(score): score for score in second.scores}
    return [(score, theirs[key(score)]) for score in first.scores if key(score) in theirs]


def _differences(pairs: Sequence[tuple[RunScore, RunScore]], bootstrap: Bootstrap) -> list[Bounded]:
    """Mean difference in return and in cost, with intervals."""
    if not pairs:
        return [Bounded(math.nan, math.nan, math.nan)] * 2
    values = np.array(
        [(a.normalised_return - b.normalised_return, a.normalised_cost - b.normalised_cost) for a, b in pairs]
    )
    task = numbered([a.task for a, _ in pairs])
    unit = numbered([unit_of(a, a.ignores_limit or b.ignores_limit) for a, b in pairs])
    unit_task = per_unit(task, unit)
    point = shared_weights(np.ones((1, len(unit_task))), unit, task) @ values
    known = not any_alone(unit_task)
    samples = shared_weights(bootstrap.counts(unit_task), unit, task) @ values if known else None
    return bootstrap.bounded(point[0], samples)
