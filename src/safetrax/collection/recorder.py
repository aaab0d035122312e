"""Whole episodes: what one is, who makes them, and how every step of them is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import override

from safetrax.data.trajectories import Trajectories
from safetrax.envs.lockstep import Lockstep, Place, Start, run_all
from safetrax.envs.pool import GROUPS, EnvPool
from safetrax.envs.protocol import IDLE, Answers
from safetrax.policies.batched import Feed

SEED_STRIDE = 10_000_000  # episode e of a collection with seed s resets its environment with s * SEED_STRIDE + e
MOST_SEEDS = 200


@dataclass(frozen=True, eq=False)
class Episode:
    """A whole episode of `T` steps.

    Attributes:
        observations: float32 `(T + 1, O)`, the last one after the last step.
        actions: float32 `(T, A)`, as they were executed, in [-1, 1].
        rewards: float32 `(T,)`.
        costs: float32 `(T,)`.
        terminated: the environment ended it; else the time limit did.
        number: of the episode in its collection.
        owner: number of the agent, driver or policy that acted.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    costs: np.ndarray
    terminated: bool
    number: int
    owner: int

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def return_(self) -> float:
        """Undiscounted sum of rewards, added up in float64."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def cost(self) -> float:
        """Undiscounted sum of costs."""
        return float(self.costs.sum(dtype=np.float64))


# called with each episode as soon as it has ended
Keep = Callable[[Episode], object]
# group, owner, and steps of that owner in that group that are made or to be expected of the episodes under way -> the
# next episode, if any
Schedule = Callable[[int, int, int], Start | None]
# group and what it feeds -> rows float32 (P, n, row_size) whose first A numbers are actions, not yet cut to [-1, 1]
Act = Callable[[int, Feed], np.ndarray]


@dataclass(frozen=True)
class Tally:
    """Means over an iteration's episodes of one who acted, with the cost limit of the time, where there is one."""

    name: str
    return_: float
    cost: float
    limit: float | None = None

    @staticmethod
    def of(name: str, episodes: Sequence[Episode], limit: float | None = None) -> Tally:
        """Over these."""
        returned, cost = (float(np.mean([getattr(e, column) for e in episodes])) for column in ("return_", "cost"))
        return Tally(name, returned, cost, limit)

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" (limit {self.limit:.0f})"
        return f"{self.name}{limit}: return {self.return_:.1f}, cost {self.cost:.1f}"


class EpisodeMaker(ABC):
    """Makes episodes, iteration by iteration; between two iterations all that it knows is in its state.

    Attributes:
        iterations: how many are expected.
    """

    iterations: int

    @abstractmethod
    def done(self, iteration: int, steps: int) -> bool:
        """Whether so many iterations and steps are all."""

    @abstractmethod
    def run(self, pool: EnvPool, iteration: int, steps: int, keep: Keep) -> list[Episode]:
        """The episodes of an iteration, in the order of their numbers, after `steps` of all before it."""

    @abstractmethod
    def tally(self, episodes: Sequence[Episode]) -> list[Tally]:
        """A line for each who acted in them."""

    def state(self) -> dict[str, Any]:
        """Arrays by name that `restore` needs to go on."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:  # noqa: B027 (where the state is empty)
        """Go on from such a state."""


def episode_seed(seed: int, number: int) -> int:
    """What the environment of an episode is reset with."""
    return seed * SEED_STRIDE + number


# an episode, and float32 (T, A), the actions that its owner wanted before they were cut to [-1, 1]
Recorded = tuple[Episode, np.ndarray]


def record(pool: EnvPool, owners: int, act: Act, schedule: Schedule, keep: Keep) -> list[Recorded]:
    """Run all episodes that the schedule names, and return them in the order of their numbers."""
    groups = [_Group(pool, index, owners, act, schedule, keep) for index in range(GROUPS)]
    run_all(groups)
    return sorted((done for group in groups for done in group.done), key=lambda done: done[0].number)


class _Group(Lockstep):
    """One group's slots, with room for one episode each; `done`: the finished ones."""

    def __init__(self, pool: EnvPool, index: int, owners: int, act: Act, schedule: Schedule, keep: Keep) -> None:
        super().__init__(pool, index, owners)
        self.done: list[Recorded] = []
        self._act, self._schedule, self._keep = act, schedule, keep
        self._steps, self._ended = np.zeros((2, owners), np.int64)  # steps and number of finished episodes
        task = pool.task
        room = (*self.shape, task.horizon)
        self._observations = np.empty((*self.shape, task.horizon + 1, task.observation_size), np.float32)
        self._wanted, self._actions = np.empty((2, *room, task.action_size), np.float32)
        self._rewards, self._costs = np.empty((2, *room), np.float32)
        self._terminated = np.zeros(self.shape, bool)

    @override
    def next_episode(self, place: Place) -> Start | None:
        owner = place[0]
        busy = self._commands[owner] != IDLE
        busy[place[1]] = False
        usual = self._steps[owner] / self._ended[owner] if self._ended[owner] else self.pool.task.horizon
        return self._schedule(self.index, owner, int(self._steps[owner] + busy.sum() * usual))

    @override
    def observe(self, answers: Answers, stepped: np.ndarray) -> None:
        at = np.nonzero(stepped)
        step = self.lengths[at] - 1
        self._actions[(*at, step)] = answers.actions[at]
        self._rewards[(*at, step)], self._costs[(*at, step)] = answers.rewards[at], answers.costs[at]
        everywhere = tuple(np.indices(self.shape))
        self._observations[(*everywhere, self.lengths)] = answers.observations
        self._terminated = answers.terminated

    @override
    def act(self, answers: Answers, acting: np.ndarray) -> np.ndarray:
        feed = Feed.of(answers.observations, answers.rewards, answers.costs, self.numbers, self.lengths)
        wanted = self._act(self.index, feed)
        at = np.nonzero(acting)
        self._wanted[(*at, self.lengths[at])] = wanted[at][:, : self._wanted.shape[-1]]
        return np.clip(wanted, -1.0, 1.0)

    @override
    def finish(self, place: Place) -> None:
        length = int(self.lengths[place])
        observations = self._observations[place][: length + 1].copy()
        columns = self._actions, self._rewards, self._costs, self._wanted
        actions, rewards, costs, wanted = (column[place][:length].copy() for column in columns)
        terminated, number = bool(self._terminated[place]), int(self.numbers[place])
        episode = Episode(observations, actions, rewards, costs, terminated, number, place[0])
        self.done.append((episode, wanted))
        self._steps[place[0]] += length
        self._ended[place[0]] += 1
        self.lengths[place] = 0
        self._keep(episode)


def join(
    episodes: Sequence[Episode], *, action_low: np.ndarray, action_high: np.ndarray, info: dict[str, Any]
) -> Trajectories:
    """The episodes as a data set with next_observations, and actions in the units of the action box."""

    def in_units(actions: np.ndarray) -> np.ndarray:
        if (action_low == -1).all() and (action_high == 1).all():
            return actions
        stretched = action_low + (actions + 1) / 2 * (action_high - action_low)
        return np.asarray(np.clip(stretched, action_low, action_high))

    rows = (
        {
            "observations": episode.observations[:-1],
            "next_observations": episode.observations[1:],
            "actions": in_units(episode.actions),
            "rewards": episode.rewards,
            "costs": episode.costs,
            "terminated": episode.terminated,
        }
        for episode in episodes
    )
    return Trajectories.from_episodes(rows, action_low=action_low, action_high=action_high, info=info)
