"""Evaluating policies in their environment, many episodes at once."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from safetrax.catalogue import Task
from safetrax.data.segments import check_cost_limits
from safetrax.envs.local_handle import MakeEnv, describe_local
from safetrax.envs.lockstep import Lockstep, Place, Start, run_all
from safetrax.envs.make import require_task
from safetrax.envs.pool import GROUPS, STEP_TIMEOUT, EnvPool
from safetrax.envs.protocol import Answers
from safetrax.envs.suites import require_suite
from safetrax.errors import ConfigError
from safetrax.evaluation.compiled import play_compiled
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.guarded import GuardedActors, Supervision
from safetrax.evaluation.result import Evaluation
from safetrax.evaluation.statistics import require_limits
from safetrax.monitoring.interventions import Intervention, OnAlarm
from safetrax.monitoring.monitor import Monitor
from safetrax.policies.batched import BatchedActors, Feed, require_finite, require_fit
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId
from safetrax.settings import require_whole

__all__ = ["SEED_STRIDE", "Evaluation", "default_slots", "evaluate"]

SEED_STRIDE = 100_000  # episode e of evaluation seed s resets its environment with s * SEED_STRIDE + e
_SIDE_BY_SIDE = 8  # episodes per group, for which actions are computed at once
_SIDE_BY_SIDE_IF_FAST = 32
_SIDE_BY_SIDE_IF_ALONE = 2  # each is a process of hundreds of MB
_MOST_POLICIES = 16  # more would need one environment each, at up to 85 MB


def evaluate(
    policies: Policies | Policy | Sequence[Policy],
    task: str | MakeEnv,
    *,
    cost_limits: Sequence[float] = (),
    episodes: int = 20,
    seed: int = 0,
    horizon: int | None = None,
    workers: int | None = None,
    pool: EnvPool | None = None,
    step: int | None = None,
    step_timeout: float = STEP_TIMEOUT,
    simulator_python: str | None = None,
    on_episode: Callable[[EpisodeRow], object] = lambda row: None,
    monitor: Monitor | Mapping[RunId, Monitor] | None = None,
    fallback: Policy | None = None,
    on_alarm: OnAlarm | None = None,
) -> Evaluation:
    """Run `episodes` whole episodes of every policy.

    Episode `e` resets its environment with `seed * 100_000 + e` and draws its random numbers from the key of
    (seed, e), for every policy alike: all policies face the same starts. An episode ends when it is terminated or
    truncated by the environment, at the latest after the task's horizon.

    The rows are bitwise the same for any number of workers, and when workers die on the way: which episodes share
    a batch depends on the number of policies alone (and on the slots of a pool that fixes them). Beside another
    number of policies, the last bits of a policy's actions may differ, as XLA multiplies matrices of other shapes in
    another order; over an episode the difference can grow.

    A world that is itself a JAX program, which the reach-avoid world is, needs no workers: all steps of all episodes
    are one program, unless `workers` are asked for. Rows of the two ways differ by rounding.

    Args:
        policies: one policy, or several of one structure.
        task: name of the task; need not be the one that they were trained for, but must have its sizes. Or an
            environment of one's own, with a cost in every `info`: the name that `gymnasium.make` takes, such as
            `my_package:MyEnv-v0`, or a function that makes it, which then is stepped in this process.
        cost_limits: where to score policies that ignore the limit; by default the task's own limits.
        episodes: per policy.
        seed: of the evaluation; not the training's.
        horizon: steps after which an episode of one's own environment is truncated; by default as registered.
        workers: processes that step environments; by default one per usable core, or none where none are needed.
        pool: worker processes to use, and to leave running; else some are started and ended again. Where none are
            needed, it is left alone.
        step: updates trained so far, for the rows.
        step_timeout: seconds that an environment may take for a step or a reset; a given pool has its own.
        simulator_python: path of the interpreter that has the simulator, if this one has not; it needs numpy, and
            nothing of this library.
        on_episode: called with each row as soon as its episode has ended, for whoever wants to keep those that an
            evaluation had when it failed.
        monitor: watches every policy, or one for each, by its id; the result then has `interventions`.
        fallback: who acts from an alarm on until the episode ends; led along from its beginning.
        on_alarm: "fall-back", "stop" (the episode ends, in its second step at the earliest) or "record"; by default
            "fall-back" where there is one, else "record".

    Raises:
        TaskError: the task is unknown, or its sizes are not the policies'.
        ConfigError: a number is out of range, the pool is for another task, or no limit is known to score a policy
            at.
        RunError: a policy gives actions that are not finite.
        SimulatorError: the simulator is missing or fails, three workers died, or an environment answered with a cost
            that is negative or anything that is not finite; the text names the episode and the step.
    """
    stack = _stack(policies)
    check_cost_limits(cost_limits)
    make = None if isinstance(task, str) else task
    info = _described(task, horizon, simulator_python, pool)
    _check(info, episodes, seed, workers, pool)
    limits = require_limits(stack.ids, info, cost_limits)
    require_fit(stack, info)
    began = time.perf_counter()
    compiled = require_suite(info.suite).compiled
    supervision = None if monitor is None else Supervision.of(stack, monitor, fallback, on_alarm)
    if supervision is None and (fallback is not None or on_alarm is not None):
        raise ConfigError("a fallback needs a monitor that raises the alarm; give one.")
    if compiled is not None and workers is None and supervision is None and simulator_python is None:
        rows = _play(compiled, stack, info, episodes, seed, step)
        for row in rows:
            on_episode(row)
        return Evaluation(tuple(rows), time.perf_counter() - began, sum(row.length for row in rows), (), limits)
    rows, interventions = [], []
    own_or_given: AbstractContextManager[EnvPool] = (
        nullcontext(pool)
        if pool is not None
        else EnvPool(info, workers=workers, step_timeout=step_timeout, python=simulator_python, make=make)
    )
    with own_or_given as lent:
        lent.begin(default_slots(info, len(stack)))
        for part in _parts(stack, lent.slots):
            groups = [
                _Group(part, lent, index, episodes, seed, step, on_episode, supervision) for index in range(GROUPS)
            ]
            run_all(groups)
            ended = [place_and_row for group in groups for place_and_row in group.rows]
            rows += [row for _, row in sorted(ended, key=lambda entry: (entry[0], entry[1].episode))]
            interventions += [row for group in groups for row in group.interventions]
    steps = sum(row.length for row in rows)
    return Evaluation(tuple(rows), time.perf_counter() - began, steps, tuple(interventions), limits)


def _described(task: str | MakeEnv, horizon: int | None, simulator_python: str | None, pool: EnvPool | None) -> Task:
    """Where to evaluate; of one's own environment, a pool knows it already."""
    if not isinstance(task, str):
        if not callable(task):
            raise ConfigError(f"give the name of an environment or a function that makes it, not {task!r:.80}.")
        if simulator_python is not None or pool is not None:
            raise ConfigError(
                "a function makes its environment in this process; leave out the pool and other Pythons."
            )
        return describe_local(task, horizon)
    if pool is not None and pool.task.name == task and horizon is None:
        return pool.task
    return require_task(task, horizon=horizon, python=simulator_python)


def default_slots(task: str | Task, policies: int) -> int:
    """How many environments per group an evaluation of so many policies uses, whatever the number of workers.

    Raises:
        TaskError: there is no such task.
        SimulatorError: its suite is not supported by this version.
    """
    info = require_task(task) if isinstance(task, str) else task
    suite = require_suite(info.suite)
    if suite.one_per_process:
        return _SIDE_BY_SIDE_IF_ALONE
    together = min(policies, _MOST_POLICIES)
    wanted = _SIDE_BY_SIDE_IF_FAST if info.env_id in suite.fast else _SIDE_BY_SIDE
    return together * math.ceil(wanted / together)


def _stack(policies: Policies | Policy | Sequence[Policy]) -> Policies:
    if isinstance(policies, Policies):
        return policies
    return Policies.stack([policies] if isinstance(policies, Policy) else list(policies))


def _check(task: Task, episodes: int, seed: int, workers: int | None, pool: EnvPool | None) -> None:
    require_whole("episodes", episodes)
    require_whole("the evaluation's seed", seed)
    if not 1 <= episodes <= SEED_STRIDE:
        raise ConfigError(f"episodes must be between 1 and {SEED_STRIDE}, got {episodes}.")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"the evaluation's seed must be between 0 and {2**31 - 1}, got {seed}.")
    if pool is not None and pool.task.name != task.name:
        raise ConfigError(f"the pool steps {pool.task.name}, but the evaluation is of {task.name}.")
    if pool is not None and workers is not None:
        raise ConfigError("give evaluate either workers or a pool, which has its workers already.")


def _play(
    module: str, policies: Policies, task: Task, episodes: int, seed: int, step: int | None
) -> list[EpisodeRow]:
    """The rows, by policy and then by episode, without workers."""
    env_seeds = range(seed * SEED_STRIDE, seed * SEED_STRIDE + episodes)
    columns = play_compiled(module, policies, task, seed, env_seeds)
    return [
        _row(run, task, seed, step, number, *(column[place, number].item() for column in columns))
        for place, run in enumerate(policies.ids)
        for number in range(episodes)
    ]


def _parts(policies: Policies, most: int) -> Iterator[Policies]:
    """All policies, in as few parts of at most `most` as possible, and those of one size where that can be."""
    size = math.ceil(len(policies) / math.ceil(len(policies) / most))
    for first in range(0, len(policies), size):
        yield policies if size == len(policies) else policies[first : first + size]


class _Group(Lockstep):
    """Every second episode of each policy.

    Attributes:
        rows: `(policy, row)` of every finished episode.
    """

    def __init__(
        self,
        policies: Policies,
        pool: EnvPool,
        index: int,
        episodes: int,
        seed: int,
        step: int | None,
        on_episode: Callable[[EpisodeRow], object],
        supervision: Supervision | None,
    ) -> None:
        super().__init__(pool, index, len(policies))
        self.rows: list[tuple[int, EpisodeRow]] = []
        self._policies, self._seed, self._step, self._on_episode = policies, seed, step, on_episode
        self._waiting = [deque(range(index, episodes, GROUPS)) for _ in policies.ids]
        self._actors = BatchedActors(policies.actor, self.shape[1], seed)
        self._guarded = None if supervision is None else GuardedActors(self._actors, policies.ids, seed, supervision)
        self._sums = np.zeros((2, *self.shape))  # return and cost so far

    @property
    def interventions(self) -> list[Intervention]:
        """Of all finished episodes."""
        return [] if self._guarded is None else self._guarded.interventions

    def warm_up(self) -> None:
        self._actors.act(Feed.blank(*self.shape, self.pool.task.observation_size))

    def next_episode(self, place: Place) -> Start | None:
        waiting = self._waiting[place[0]]
        if not waiting:
            return None
        self._sums[:, *place] = 0.0
        number = waiting.popleft()
        return Start(number, self._seed * SEED_STRIDE + number)

    def observe(self, answers: Answers, stepped: np.ndarray) -> None:
        self._sums[0] += answers.rewards
        self._sums[1] += answers.costs

    def act(self, answers: Answers, acting: np.ndarray) -> np.ndarray:
        feed = Feed.of(answers.observations, answers.rewards, answers.costs, self.numbers, self.lengths)
        if self._guarded is None:
            actions = self._actors.act(feed)
        else:
            actions = self._guarded.act(feed, acting)
            self.given_up = self._guarded.stopped & (self.lengths > 0)
        require_finite(actions, acting, self._policies)
        return actions.copy()

    def finish(self, place: Place) -> None:
        run = self._policies.ids[place[0]]
        returned, cost = self._sums[:, *place].tolist()
        number = int(self.numbers[place])
        row = _row(run, self.pool.task, self._seed, self._step, number, returned, cost, int(self.lengths[place]))
        self.rows.append((place[0], row))
        self._on_episode(row)


def _row(
    run: RunId, task: Task, seed: int, step: int | None, number: int, returned: float, cost: float, length: int
) -> EpisodeRow:
    env_seed = seed * SEED_STRIDE + number
    return EpisodeRow(
        run.algorithm, task.name, run.cost_limit, run.seed, step, number, env_seed, returned, cost, length
    )
