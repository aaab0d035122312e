"""Evaluations while training: the same rows as at its end, never a reason to choose a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from safetrax.catalogue import get_task
from safetrax.data.trajectories import Trajectories
from safetrax.data.validation import check
from safetrax.envs.make import require_simulator, require_task
from safetrax.envs.pool import EnvPool
from safetrax.errors import ConfigError, RunError, SimulatorError, TaskError
from safetrax.evaluation.episodes import EpisodeRow, append_episodes, read_episodes, write_episodes
from safetrax.evaluation.rollout import evaluate
from safetrax.evaluation.statistics import require_limits
from safetrax.files import drop_cut_line
from safetrax.policies.policy import Policies
from safetrax.run_id import RunId


def require_playable(task: str, data: Trajectories) -> None:
    """Check that what is trained on a log can be evaluated in a task.

    Raises:
        SimulatorError: its simulator is not installed, or one's own environment cannot be made.
        DataError: the log's observations or actions are not the task's.
    """
    require_simulator(task)
    check(data, require_task(task))


class Evaluator:
    """Evaluates on one task every so many updates (0: never) and keeps its simulators warm in between.

    `rows` are those of all evaluations so far, those before a resume included; they are appended to `path`, if given.
    """

    def __init__(
        self,
        task: str | None,
        every: int,
        episodes: int,
        path: Path | None,
        runs: Sequence[RunId],
        cost_limits: Sequence[float],
        data: Trajectories,
    ) -> None:
        """`runs`: the policies' ids. `cost_limits`: where those that ignore the limit are scored. `data`: the log."""
        if every and task is None:
            raise ConfigError("evaluating while training needs a task; pass task, or set evaluate_every to 0.")
        self.every = every
        self.rows: list[EpisodeRow] = []
        self._task, self._episodes, self._path, self._cost_limits = task, episodes, path, tuple(cost_limits)
        self._pool: EnvPool | None = None
        if every and task is not None:
            require_limits(runs, get_task(task), cost_limits)
            require_playable(task, data)

    def evaluate(self, policies: Policies, update: int) -> str:
        """Roll the policies out and return one line on how they did."""
        assert self._task is not None
        if self._pool is None:
            self._pool = EnvPool(self._task)
        try:
            result = evaluate(
                policies,
                self._task,
                cost_limits=self._cost_limits,
                episodes=self._episodes,
                pool=self._pool,
                step=update,
            )
        except (RunError, SimulatorError, TaskError) as error:  # training goes on
            return f"no evaluation at {update}: {error}"
        self.rows += result.rows
        if self._path is not None:
            append_episodes(self._path, result.rows)
        summaries = result.summary()
        reward = sum(s.normalised_return.mean for s in summaries) / len(summaries)
        cost = sum(s.normalised_cost.mean for s in summaries) / len(summaries)
        earned = f"reward {reward:.2f}"
        if math.isnan(reward):
            earned = f"return {sum(s.return_.mean for s in summaries) / len(summaries):.1f}"
        return f"{earned}, cost {cost:.2f} at {update}"

    def forget_after(self, update: int) -> None:
        """Drop rows that a resumed run will write again."""
        if self._path is not None and self._path.exists():
            drop_cut_line(self._path)  # the header too, if that is all
            kept = [row for row in read_episodes(self._path) if row.step is None or row.step <= update]
            write_episodes(self._path, kept)
            self.rows = kept

    def close(self) -> None:
        """Stop the simulators."""
        if self._pool is not None:
            self._pool.close()
