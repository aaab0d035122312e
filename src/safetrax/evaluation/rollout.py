"""Evaluating policies in their environment, many episodes at once."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from safetrax.data.catalogue import Task
from safetrax.envs.make import require_task
from safetrax.envs.pool import GROUPS, EnvPool
from safetrax.envs.protocol import IDLE, STEP_ON, Answers
from safetrax.envs.suites import require_suite
from safetrax.errors import ConfigError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.inference import BatchedActors, Feed, require_finite, require_fit
from safetrax.evaluation.result import Evaluation
from safetrax.policy import Policies, Policy

__all__ = ["SEED_STRIDE", "Evaluation", "default_slots", "evaluate"]

SEED_STRIDE = 100_000  # episode e of evaluation seed s resets its environment with s * SEED_STRIDE + e
_SIDE_BY_SIDE = 8  # episodes per group, for which actions are computed at once
_SIDE_BY_SIDE_IF_FAST = 32
_MOST_POLICIES = 16  # more would need one environment each, at up to 85 MB


def evaluate(
    policies: Policies | Policy | Sequence[Policy],
    task: str,
    *,
    episodes: int = 20,
    seed: int = 0,
    workers: int | None = None,
    pool: EnvPool | None = None,
    step: int | None = None,
) -> Evaluation:
    """Run `episodes` whole episodes of every policy.

    Episode `e` resets its environment with `seed * 100_000 + e` and draws its random numbers from the key of
    (seed, e), for every policy alike: all policies face the same starts. An episode ends when it is terminated or
    truncated by the environment, at the latest after the task's horizon.

    The rows are bitwise the same for any number of workers, and when workers die on the way: which episodes share
    a batch depends on the number of policies alone (and on the slots of a pool that fixes them). Beside another
    number of policies, the last bits of a policy's actions may differ, as XLA multiplies matrices of other shapes in
    another order; over an episode the difference can grow.

    Args:
        policies: one policy, or several of one structure.
        task: name of the task; need not be the one that they were trained for, but must have its sizes.
        episodes: per policy.
        seed: of the evaluation; not the training's.
        workers: processes that step environments; by default one per usable core.
        pool: worker processes to use, and to leave running; else some are started and ended again.
        step: updates trained so far, for the rows.

    Raises:
        TaskError: the task is unknown, or its sizes are not the policies'.
        ConfigError: a number is out of range, or the pool is for another task.
        RunError: a policy gives actions that are not finite.
        SimulatorError: the simulator is missing or fails, or three workers died.
    """
    stack = _stack(policies)
    info = require_task(task)
    _check(info, episodes, seed, workers, pool)
    require_fit(stack, info)
    began = time.perf_counter()
    rows: list[EpisodeRow] = []
    with _borrowed(pool, info, workers) as lent:
        lent.begin(default_slots(info.name, len(stack)))
        for part in _parts(stack, lent.slots):
            rows += _Rollout(part, lent, episodes, seed, step).run()
    return Evaluation(tuple(rows), time.perf_counter() - began, sum(row.length for row in rows))


def default_slots(task: str, policies: int) -> int:
    """How many environments per group an evaluation of so many policies uses, whatever the number of workers.

    Raises:
        TaskError: there is no such task.
        SimulatorError: its suite is not supported by this version.
    """
    info = require_task(task)
    fast = info.env_id in require_suite(info.suite).fast
    together = min(policies, _MOST_POLICIES)
    return together * math.ceil((_SIDE_BY_SIDE_IF_FAST if fast else _SIDE_BY_SIDE) / together)


def _stack(policies: Policies | Policy | Sequence[Policy]) -> Policies:
    if isinstance(policies, Policies):
        return policies
    return Policies.stack([policies] if isinstance(policies, Policy) else list(policies))


def _check(task: Task, episodes: int, seed: int, workers: int | None, pool: EnvPool | None) -> None:
    if not 1 <= episodes <= SEED_STRIDE:
        raise ConfigError(f"episodes must be between 1 and {SEED_STRIDE}, got {episodes}.")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"the evaluation's seed must be between 0 and {2**31 - 1}, got {seed}.")
    if pool is not None and pool.task.name != task.name:
        raise ConfigError(f"the pool steps {pool.task.name}, but the evaluation is of {task.name}.")
    if pool is not None and workers is not None:
        raise ConfigError("give evaluate either workers or a pool, which has its workers already.")


@contextmanager
def _borrowed(pool: EnvPool | None, task: Task, workers: int | None) -> Iterator[EnvPool]:
    """The given pool, or one of our own for the time of the block."""
    if pool is not None:
        yield pool
        return
    with EnvPool(task.name, workers=workers) as own:
        yield own


def _parts(policies: Policies, most: int) -> Iterator[Policies]:
    """All policies, in as few parts of at most `most` as possible, and those of one size where that can be."""
    size = math.ceil(len(policies) / math.ceil(len(policies) / most))
    for first in range(0, len(policies), size):
        yield policies if size == len(policies) else policies[first : first + size]


class _Rollout:
    """All episodes of policies that fit into the pool side by side."""

    def __init__(self, policies: Policies, pool: EnvPool, episodes: int, seed: int, step: int | None) -> None:
        self._pool = pool
        self._groups = [_Group(policies, pool, g, episodes, seed, step) for g in range(GROUPS)]

    def run(self) -> list[EpisodeRow]:
        """The rows, by policy and then by episode."""
        running = [group for group in self._groups if group.start()]
        while running:
            for group in tuple(running):
                if not group.advance():
                    running.remove(group)
        rows = [numbered for group in self._groups for numbered in group.rows]
        return [row for _, row in sorted(rows, key=lambda numbered: (numbered[0], numbered[1].episode))]


class _Group:
    """Every second episode of each policy, stepped in lockstep: `P` policies x `n` slots.

    Which slot runs which episode follows from the lengths of the episodes before it, not from the workers' speed.

    Attributes:
        rows: `(policy, row)` of every finished episode.
    """

    def __init__(
        self, policies: Policies, pool: EnvPool, index: int, episodes: int, seed: int, step: int | None
    ) -> None:
        self.rows: list[tuple[int, EpisodeRow]] = []
        self._policies, self._pool, self._index = policies, pool, index
        self._seed, self._step = seed, step
        self._shape = shape = len(policies), pool.slots // len(policies)
        self._waiting = [deque(range(index, episodes, GROUPS)) for _ in policies.ids]
        self._actors = BatchedActors(policies.actor, shape[1], seed)
        self._episodes = np.zeros(shape, np.int32)
        self._commands = np.full(shape, IDLE, np.int64)
        self._sums = np.zeros((2, *shape))  # return and cost so far
        self._lengths = np.zeros(shape, np.int64)

    def start(self) -> bool:
        """Begin the first episodes, and compile while the environments are built; False if there are none."""
        for place in np.ndindex(self._shape):
            self._begin_next(place)
        if self._resting():
            return False
        self._send(np.zeros((*self._shape, self._pool.task.action_size), np.float32))
        self._actors.act(Feed.blank(*self._shape, self._pool.task.observation_size))
        return True

    def advance(self) -> bool:
        """Take the answers to the last commands and give the next ones; False when all episodes are done."""
        answers = self._receive()
        stepped = self._commands == STEP_ON
        ended = stepped & answers.ended
        self._sums[0] += answers.rewards  # zero for idle and restarted slots
        self._sums[1] += answers.costs
        self._lengths += stepped
        acting = (self._commands >= 0) | (stepped & ~ended)
        actions = self._act(answers, acting)
        self._commands[acting] = STEP_ON
        for policy, slot in np.argwhere(ended).tolist():
            self._finish((policy, slot))
            self._begin_next((policy, slot))
        if self._resting():
            return False
        self._send(actions)
        return True

    def _resting(self) -> bool:
        return bool((self._commands == IDLE).all())

    def _act(self, answers: Answers, acting: np.ndarray) -> np.ndarray:
        """Actions `(P, n, A)`, of which those at `acting` count."""
        if not acting.any():
            return np.zeros((*self._shape, self._pool.task.action_size), np.float32)
        feed = Feed.of(answers.observations, answers.rewards, answers.costs, self._episodes, self._lengths)
        actions = self._actors.act(feed)
        require_finite(actions, acting, self._policies)
        return actions

    def _begin_next(self, place: tuple[int, int]) -> None:
        """Have a slot reset for its policy's next episode, or rest."""
        waiting = self._waiting[place[0]]
        if not waiting:
            self._commands[place] = IDLE
            return
        self._episodes[place] = waiting.popleft()
        self._commands[place] = self._env_seed(place)
        self._sums[:, *place] = 0.0
        self._lengths[place] = 0

    def _finish(self, place: tuple[int, int]) -> None:
        """Write the row of an episode that has ended."""
        run = self._policies.ids[place[0]]
        returned, cost = self._sums[:, *place].tolist()
        row = EpisodeRow(
            algorithm=run.algorithm,
            task=self._pool.task.name,
            cost_limit=run.cost_limit,
            seed=run.seed,
            step=self._step,
            episode=int(self._episodes[place]),
            env_seed=self._env_seed(place),
            return_=returned,
            cost=cost,
            length=int(self._lengths[place]),
        )
        self.rows.append((place[0], row))

    def _env_seed(self, place: tuple[int, int]) -> int:
        return self._seed * SEED_STRIDE + int(self._episodes[place])

    def _send(self, actions: np.ndarray) -> None:
        """Fill the pool's slots; those beyond P x n rest."""
        slots, used = self._pool.slots, self._commands.size
        commands = np.full(slots, IDLE, np.int64)
        commands[:used] = self._commands.ravel()
        padded = np.zeros((slots, actions.shape[-1]), np.float32)
        padded[:used] = actions.reshape(used, -1)
        self._pool.send(self._index, commands, padded)

    def _receive(self) -> Answers:
        """The answers of the slots in use, each array `(P, n, ...)`."""
        answers, used = self._pool.receive(self._index), self._commands.size
        return Answers(
            answers.observations[:used].reshape(*self._shape, -1),
            answers.rewards[:used].reshape(self._shape),
            answers.costs[:used].reshape(self._shape),
            answers.ended[:used].reshape(self._shape),
        )
