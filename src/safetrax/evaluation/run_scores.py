"""One score per run: what its episodes amount to at a cost limit, and which checkpoint they are of.

A run is one training seed at one cost limit. An algorithm that ignores the limit is scored at every limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from safetrax.catalogue import get_task
from safetrax.errors import ConfigError, nearest
from safetrax.evaluation.episodes import EpisodeRow, require_possible
from safetrax.evaluation.scores import is_safe, normalised_cost, normalised_return
from safetrax.evaluation.statistics import require_limits
from safetrax.run_id import RunId

LAST = "last"
BEST_REWARD_SAFE = "best-reward-safe"


@dataclass(frozen=True)
class RunScore:
    """What the episodes of one run amount to, at one cost limit.

    Attributes:
        algorithm: name of the algorithm.
        task: name of the task.
        cost_limit: that the costs were normalised with.
        seed: of the training.
        step: updates trained when it was evaluated, or None where unknown.
        checkpoint: how the step was chosen: `last`, `step 5000` or `best-reward-safe`. A table or figure says so
            where it is not the last.
        ignores_limit: whether the algorithm ignores the limit, so that its scores at other limits are of the same
            episodes.
        episodes: number of episodes.
        return_: mean undiscounted episode return.
        cost: mean undiscounted episode cost.
        normalised_return: mean, see `safetrax.evaluation.scores`; NaN where the task has no reference returns.
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
    def run(self) -> RunId:
        """The run that is scored, at the limit that it is scored at."""
        return RunId(self.algorithm, self.task, self.cost_limit, self.seed)

    @property
    def has_reference_returns(self) -> bool:
        """Whether returns on that task can be normalised."""
        return get_task(self.task).has_reference_returns

    @property
    def safe(self) -> bool:
        """Whether the mean normalised cost is at most 1."""
        return is_safe(self.normalised_cost)


def run_scores(
    rows: Iterable[EpisodeRow], cost_limits: Sequence[float] | None = None, *, step: int | str = LAST
) -> list[RunScore]:
    """One score per run, in order of first appearance; several where the algorithm ignores the limit, one per limit.

    Args:
        rows: episodes of any algorithms and tasks, of one or several training steps.
        cost_limits: where to score algorithms that ignore the limit; by default the task's own limits.
        step: `last` takes every run's last step, which is the headline. A number takes that step. `best-reward-safe`
            takes the step with most return among those that are safe, else the one with least cost, at every limit by
            itself for an algorithm that ignores it. That looks at the evaluations, so that its scores are too good.
            The scores are labelled accordingly.

    Raises:
        TaskError: a row names an unknown task.
        DataError: an episode is impossible, see `safetrax.evaluation.episodes.require_possible`.
        ConfigError: a run has not got the step or some of its steps are unknown, a limit is negative or not known,
            or an argument is none of the above.
    """
    known = (LAST, BEST_REWARD_SAFE)
    if isinstance(step, str) and step not in known:
        raise ConfigError(f"there is no step {step!r}; {nearest(step, known)}")
    step = step if isinstance(step, str) else int(step)
    given = tuple(dict.fromkeys(float(limit) for limit in cost_limits or ()))
    runs: dict[RunId, dict[int | None, list[EpisodeRow]]] = defaultdict(lambda: defaultdict(list))
    for row in require_possible(rows):
        runs[row.run][row.step].append(row)
    scores: list[RunScore] = []
    for run, steps in runs.items():
        own = run.cost_limit
        limits = sorted(require_limits([run], get_task(str(run.task)), given)) if own is None else [own]
        scores += [_chosen(steps, float(limit), step) for limit in limits]
    return scores


def _chosen(steps: dict[int | None, list[EpisodeRow]], limit: float, step: int | str) -> RunScore:
    """The score of one run at one limit."""
    first = next(iter(steps.values()))[0]
    if isinstance(step, int):
        if step not in steps:
            have = listed(steps)
            raise ConfigError(f"{first.run.text} has no episodes of step {step}, but of {have}.")
        return _score(steps[step], limit, f"step {step}")
    if None in steps and len(steps) > 1:
        raise ConfigError(
            f"some episodes of {first.run.text} name no training step, others do "
            f"({listed(steps)}); choose a step, or keep the rows of one of them."
        )
    if step == LAST:
        return _score(steps[max(steps, key=lambda known: known or 0)], limit, LAST)
    scores = [_score(rows, limit, BEST_REWARD_SAFE) for rows in steps.values()]
    safe = [score for score in scores if score.safe]
    if safe:
        return max(safe, key=lambda score: (score.return_, score.step or 0))
    return min(scores, key=lambda score: (score.normalised_cost, -(score.step or 0)))


def _score(rows: list[EpisodeRow], limit: float, checkpoint: str) -> RunScore:
    first = rows[0]
    returns = np.array([row.return_ for row in rows], np.float64)
    costs = np.array([row.cost for row in rows], np.float64)
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
    groups = by_algorithm(scores, algorithms)
    kept = [score for group in groups.values() for score in group]
    common = common_tasks(kept)
    if kept and not common:
        raise ConfigError(f"there is no task that all of {listed(groups)} were evaluated on.")
    return [score for score in kept if score.task in common]


def common_tasks(scores: Iterable[RunScore]) -> set[str]:
    """The tasks that all algorithms were evaluated on; there may be none."""
    own: dict[str, set[str]] = defaultdict(set)
    for score in scores:
        own[score.algorithm].add(score.task)
    return set.intersection(*own.values()) if own else set()


def by_algorithm(scores: Iterable[RunScore], algorithms: Sequence[str] | None) -> dict[str, list[RunScore]]:
    """The scores of each algorithm, in order of first appearance or as asked for; an unknown one is an error."""
    groups: dict[str, list[RunScore]] = defaultdict(list)
    for score in scores:
        groups[score.algorithm].append(score)
    for name in algorithms or ():
        if name not in groups:
            hint = nearest(name, groups) if groups else "there are none."
            raise ConfigError(f"there is no algorithm {name!r} among the scores; {hint}")
    return {name: groups[name] for name in (groups if algorithms is None else algorithms)}


def listed(names: Iterable[object]) -> str:
    """Names, for a message."""
    return ", ".join(map(str, names))
