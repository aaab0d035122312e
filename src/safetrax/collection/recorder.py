"""Running whole episodes and keeping every step of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from safetrax.collection.episodes import Episode
from safetrax.collection.source import Keep
from safetrax.envs.lockstep import Lockstep, Place, Start, run_all
from safetrax.envs.pool import GROUPS, EnvPool
from safetrax.envs.protocol import IDLE, Answers
from safetrax.policies.batched import Feed

# group, owner, and steps of that owner in that group that are made or to be expected of the episodes under way -> the
# next episode, if any
Schedule = Callable[[int, int, int], Start | None]


@runtime_checkable
class Acting(Protocol):
    """Who decides."""

    def act(self, group: int, feed: Feed) -> np.ndarray:
        """Rows float32 `(P, n, row_size)` whose first A numbers are actions, not yet cut to [-1, 1]."""
        ...


@dataclass(frozen=True)
class Recorded:
    """An episode and what its owner wanted to do.

    Attributes:
        episode: as it went.
        wanted: float32 `(T, A)`, the actions before they were cut to [-1, 1].
    """

    episode: Episode
    wanted: np.ndarray


def record(pool: EnvPool, owners: int, acting: Acting, schedule: Schedule, keep: Keep) -> list[Recorded]:
    """Run all episodes that the schedule names, and return them in the order of their numbers.

    `keep` is called with each as soon as it has ended.
    """
    groups = [_Group(pool, index, owners, acting, schedule, keep) for index in range(GROUPS)]
    run_all(groups)
    return sorted((done for group in groups for done in group.done), key=lambda done: done.episode.number)


class _Group(Lockstep):
    """One group's slots, with room for one episode each.

    Attributes:
        done: the finished episodes.
    """

    def __init__(
        self, pool: EnvPool, index: int, owners: int, acting: Acting, schedule: Schedule, keep: Keep
    ) -> None:
        super().__init__(pool, index, owners)
        self.done: list[Recorded] = []
        self._acting, self._schedule, self._keep = acting, schedule, keep
        self._steps, self._ended = np.zeros((2, owners), np.int64)  # steps and number of finished episodes
        task = pool.task
        room = (*self.shape, task.horizon)
        self._observations = np.empty((*self.shape, task.horizon + 1, task.observation_size), np.float32)
        self._wanted = np.empty((*room, task.action_size), np.float32)
        self._actions = np.empty((*room, task.action_size), np.float32)
        self._rewards, self._costs = np.empty(room, np.float32), np.empty(room, np.float32)
        self._terminated = np.zeros(self.shape, bool)

    def next_episode(self, place: Place) -> Start | None:
        """As the schedule says."""
        owner = place[0]
        busy = self._commands[owner] != IDLE
        busy[place[1]] = False
        usual = self._steps[owner] / self._ended[owner] if self._ended[owner] else self.pool.task.horizon
        return self._schedule(self.index, owner, int(self._steps[owner] + busy.sum() * usual))

    def observe(self, answers: Answers, stepped: np.ndarray) -> None:
        """Keep the step."""
        at = np.nonzero(stepped)
        step = self.lengths[at] - 1
        self._actions[(*at, step)] = answers.actions[at]
        self._rewards[(*at, step)], self._costs[(*at, step)] = answers.rewards[at], answers.costs[at]
        everywhere = tuple(np.indices(self.shape))
        self._observations[(*everywhere, self.lengths)] = answers.observations
        self._terminated = answers.terminated

    def act(self, answers: Answers, acting: np.ndarray) -> np.ndarray:
        """The owners' actions, cut to [-1, 1]."""
        feed = Feed.of(answers.observations, answers.rewards, answers.costs, self.numbers, self.lengths)
        wanted = self._acting.act(self.index, feed)
        at = np.nonzero(acting)
        self._wanted[(*at, self.lengths[at])] = wanted[at][:, : self._wanted.shape[-1]]
        return np.clip(wanted, -1.0, 1.0)

    def finish(self, place: Place) -> None:
        """Copy the episode out of its slot."""
        length = int(self.lengths[place])
        episode = Episode(
            observations=self._observations[place][: length + 1].copy(),
            actions=self._actions[place][:length].copy(),
            rewards=self._rewards[place][:length].copy(),
            costs=self._costs[place][:length].copy(),
            terminated=bool(self._terminated[place]),
            number=int(self.numbers[place]),
            owner=place[0],
        )
        self.done.append(Recorded(episode, self._wanted[place][:length].copy()))
        self._steps[place[0]] += length
        self._ended[place[0]] += 1
        self.lengths[place] = 0
        self._keep(episode)
