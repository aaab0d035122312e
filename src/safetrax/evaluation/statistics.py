"""From rows per episode to means, standard errors and verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from safetrax.catalogue import Task, get_task
from safetrax.errors import ConfigError
from safetrax.evaluation.episodes import EpisodeRow, require_possible
from safetrax.evaluation.scores import is_safe, normalised_cost, normalised_return
from safetrax.run_id import RunId


class Estimate(NamedTuple):
    """A mean and its standard error; the error is NaN where one sample cannot tell."""

    mean: float
    error: float

    def text(self, digits: int) -> str:
        """For instance `0.24 ± 0.01`; without an error where there is none, and `-` where there is no mean."""
        if math.isnan(self.mean):
            return "-"
        error = "" if math.isnan(self.error) else f" ± {self.error:.{digits}f}"
        return f"{self.mean:.{digits}f}{error}"


@dataclass(frozen=True)
class Summary:
    """What the episodes of one (algorithm, task, cost limit), or of one table cell, amount to.

    Where there are several runs, means and standard errors are taken over runs: a run is one training seed at one
    limit, and counts by the mean of its episodes. Where there is one run, they are taken over its episodes.

    Attributes:
        algorithm: name of the algorithm.
        task: name of the task.
        cost_limits: the limits that the costs were normalised with; one, or several in a table cell.
        seeds: number of different training seeds.
        episodes: number of episodes; those of an algorithm that ignores the limit count once.
        return_: undiscounted episode return.
        cost: undiscounted episode cost.
        normalised_return: see `safetrax.evaluation.scores`; NaN where the task has no reference returns.
        normalised_cost: each run by its own limit.
        unsafe_limits: those at which the mean normalised cost is above 1.
    """

    algorithm: str
    task: str
    cost_limits: tuple[float, ...]
    seeds: int
    episodes: int
    return_: Estimate
    cost: Estimate
    normalised_return: Estimate
    normalised_cost: Estimate
    unsafe_limits: tuple[float, ...]

    @property
    def has_reference_returns(self) -> bool:
        """Whether returns on that task can be normalised."""
        return not math.isnan(self.normalised_return.mean)

    @property
    def safe(self) -> bool:
        """Whether the mean normalised cost is at most 1 at every limit: a mean over limits can hide one."""
        return not self.unsafe_limits


def summarise(rows: Iterable[EpisodeRow], cost_limits: Sequence[float] | None = None) -> list[Summary]:
    """One summary per (algorithm, task, cost limit), in order of first appearance and rising limit.

    Args:
        rows: episodes of any algorithms and tasks.
        cost_limits: where to score algorithms that ignore the limit; by default the task's own limits.

    Raises:
        TaskError: a row names an unknown task.
        DataError: an episode is impossible, see `safetrax.evaluation.episodes.require_possible`.
        ConfigError: the rows of one run come from several training steps, or a limit is negative or not known.
    """
    groups: dict[tuple[str, str, float], list[EpisodeRow]] = defaultdict(list)
    for row in _at_limits(require_possible(rows), cost_limits):
        groups[row.algorithm, row.task, row.cost_limit or 0.0].append(row)
    order = {key[:2]: rank for rank, key in reversed(list(enumerate(groups)))}
    return [_summary(groups[key]) for key in sorted(groups, key=lambda key: (order[key[:2]], key[2]))]


def benchmark_table(rows: Iterable[EpisodeRow], cost_limits: Sequence[float] | None = None) -> list[Summary]:
    """One summary per (algorithm, task): the cell of a published table, the mean over limits x seeds.

    Every run is normalised with its own limit. An algorithm that ignores the limit is scored at every limit, so that
    its normalised cost is C * mean(1 / kappa): C * 0.058333 at the limits 10, 20, 40. Its standard error then is one
    over training seeds, as scoring the same episodes again adds no information.

    Args:
        rows: episodes of any algorithms and tasks.
        cost_limits: where to score algorithms that ignore the limit; by default the task's own limits.

    Raises:
        TaskError: a row names an unknown task.
        DataError: an episode is impossible, see `safetrax.evaluation.episodes.require_possible`.
        ConfigError: the rows of one run come from several training steps, or a limit is negative or not known.
    """
    groups: dict[tuple[str, str], list[EpisodeRow]] = defaultdict(list)
    for row in require_possible(rows):
        groups[row.algorithm, row.task].append(row)
    return [_cell(group, cost_limits) for group in groups.values()]


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of one run, while or after it was trained.

    Attributes:
        run: which.
        step: updates by then.
        return_: mean undiscounted episode return.
        cost: mean undiscounted episode cost.
    """

    run: RunId
    step: int
    return_: float
    cost: float


def evaluations(rows: Iterable[EpisodeRow]) -> tuple[Evaluated, ...]:
    """Every evaluation whose step is known, in order; episodes of all steps would fill the memory."""
    sums: dict[tuple[RunId, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for row in rows:
        if row.step is not None:
            total = sums[row.run, row.step]
            total[0] += 1
            total[1] += row.return_
            total[2] += row.cost
    found = [
        Evaluated(run, step, returned / count, cost / count) for (run, step), (count, returned, cost) in sums.items()
    ]
    return tuple(sorted(found, key=lambda entry: entry.step))


def last_steps(rows: Iterable[EpisodeRow]) -> list[EpisodeRow]:
    """Of each run, the episodes after most updates: those of the trained policy."""
    kept = list(rows)
    last: dict[RunId, int] = {}
    for row in kept:
        last[row.run] = max(last.get(row.run, -1), -1 if row.step is None else row.step)
    return [row for row in kept if (-1 if row.step is None else row.step) == last[row.run]]


def _cell(rows: list[EpisodeRow], cost_limits: Sequence[float] | None) -> Summary:
    """A table's cell; rows of one (algorithm, task)."""
    groups: dict[float, list[EpisodeRow]] = defaultdict(list)
    for row in _at_limits(rows, cost_limits):
        groups[row.cost_limit or 0.0].append(row)
    unsafe = tuple(limit for limit in sorted(groups) if not _summary(groups[limit]).safe)
    kept = [row for group in groups.values() for row in group]
    cell = _summary(kept, shared=all(row.cost_limit is None for row in rows))
    return replace(cell, unsafe_limits=unsafe)


def _at_limits(rows: Iterable[EpisodeRow], cost_limits: Sequence[float] | None) -> Iterable[EpisodeRow]:
    """Every row with a limit: rows without one appear once at each."""
    for row in rows:
        if row.cost_limit is not None:
            yield row
        else:
            for limit in require_limits([row.run], get_task(row.task), cost_limits or ()):
                yield replace(row, cost_limit=float(limit))


def require_limits(runs: Iterable[RunId], task: Task, cost_limits: Sequence[float]) -> tuple[float, ...]:
    """Where runs that ignore the limit are scored: at the limits given, else the task's.

    Raises:
        ConfigError: there are none, and a run ignores the limit.
    """
    limits = tuple(map(float, cost_limits or task.cost_limits))
    blind = next((run for run in runs if run.cost_limit is None), None)
    if blind is not None and not limits:
        raise ConfigError(
            f"{blind.algorithm} ignores the cost limit and {task.name} names none to score it at; pass cost limits."
        )
    return limits


def _summary(rows: list[EpisodeRow], *, shared: bool = False) -> Summary:
    """The summary of rows with limits. `shared`: the same episodes appear at every limit, so pool a seed's limits."""
    runs: dict[object, list[EpisodeRow]] = defaultdict(list)
    for row in rows:
        runs[row.seed if shared else (row.seed, row.cost_limit)].append(row)
    for run in runs.values():
        steps = {row.step for row in run}
        if len(steps) > 1:  # a mean over them would mix several policies
            raise ConfigError(
                f"the episodes of {run[0].algorithm} on {run[0].task}, seed {run[0].seed}, come from several "
                f"training steps ({', '.join(map(str, sorted(steps, key=str)))}); keep the rows of one of them."
            )
    columns = [_columns(run) for run in runs.values()]
    if len(columns) > 1:
        samples = np.stack([column.mean(axis=1) for column in columns], axis=1)
    else:
        samples = _pool_limits(columns[0], rows) if shared else columns[0]
    returned, cost, scaled_return, scaled_cost = (_estimate(values) for values in samples)
    first = rows[0]
    limits = tuple(sorted({float(row.cost_limit) for row in rows if row.cost_limit is not None}))
    return Summary(
        first.algorithm,
        first.task,
        limits,
        len({row.seed for row in rows}),
        len(rows) // (len(limits) if shared else 1),
        returned,
        cost,
        scaled_return,
        scaled_cost,
        () if is_safe(scaled_cost.mean) else limits,
    )


def _columns(rows: list[EpisodeRow]) -> np.ndarray:
    """Return, cost, normalised return and normalised cost of every row, `(4, rows)`."""
    returns, costs = [row.return_ for row in rows], [row.cost for row in rows]
    scaled_costs = [float(normalised_cost(row.cost, row.cost_limit or 0.0)) for row in rows]
    return np.array([returns, costs, normalised_return(returns, rows[0].task), scaled_costs])


def _pool_limits(columns: np.ndarray, rows: list[EpisodeRow]) -> np.ndarray:
    """Average the copies of each episode over the limits that it was scored at: `(4, rows)` to `(4, episodes)`."""
    episodes = np.array([row.episode for row in rows])
    return np.stack([columns[:, episodes == episode].mean(axis=1) for episode in np.unique(episodes)], axis=1)


def _estimate(values: np.ndarray) -> Estimate:
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Estimate(float(values.mean()), error)
