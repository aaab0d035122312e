"""Drivers and trained policies: they act as they do, and learn nothing from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from safetrax.collection.episodes import Episode
from safetrax.collection.recorder import record
from safetrax.collection.source import Keep, Tally, episode_seed
from safetrax.envs.lockstep import Start
from safetrax.envs.pool import GROUPS, EnvPool
from safetrax.policies.batched import BatchedActors, Feed, require_finite
from safetrax.policies.policy import Policies

Box = tuple[np.ndarray, np.ndarray]  # lower and upper bounds of actions, float32 (A,) each

_DRIVES = 50  # episodes of an iteration of drivers


class Performers:
    """So many episodes in all, in iterations of at most `each`; the state is empty, for an episode needs no other.

    Attributes:
        iterations: until `episodes` are made.
        owners: 1: one at a time acts.
    """

    owners = 1

    def __init__(self, episodes: int, each: int, seed: int) -> None:
        self.iterations = -(-episodes // each)
        self._episodes, self._each, self._seed = episodes, each, seed

    def done(self, iteration: int, steps: int) -> bool:
        """After all iterations."""
        return iteration >= self.iterations

    def run(self, pool: EnvPool, iteration: int, steps: int, keep: Keep) -> list[Episode]:
        """The iteration's episodes."""
        pool.begin()
        first = iteration * self._each
        waiting = [
            [n for n in range(first, min(first + self._each, self._episodes)) if n % GROUPS == group]
            for group in range(GROUPS)
        ]

        def schedule(group: int, owner: int, steps: int) -> Start | None:
            return self._start(waiting[group].pop(0)) if waiting[group] else None

        def owned(episode: Episode) -> Episode:
            return replace(episode, owner=self._owner(episode.number))

        recorded = record(pool, 1, self._acting(pool, iteration), schedule, lambda episode: keep(owned(episode)))
        return [owned(each.episode) for each in recorded]

    def tally(self, episodes: Sequence[Episode]) -> list[Tally]:
        """One line on all."""
        returned, cost = (float(np.mean([getattr(e, name) for e in episodes])) for name in ("return_", "cost"))
        return [Tally("mean", len(episodes), returned, cost)]

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Nothing to do."""

    def _start(self, number: int) -> Start:
        return Start(number, episode_seed(self._seed, number))

    def _owner(self, number: int) -> int:
        raise NotImplementedError

    def _acting(self, pool: EnvPool, iteration: int) -> Any:
        raise NotImplementedError


class Drivers(Performers):
    """The simulator's own driver, with each of its parameter sets in turn."""

    def __init__(self, parameters: Sequence[tuple[float, ...]], episodes: int, seed: int) -> None:
        super().__init__(episodes, _DRIVES, seed)
        self._parameters = tuple(parameters)

    def act(self, group: int, feed: Feed) -> np.ndarray:
        """Nothing that counts: the environments' drivers act."""
        return np.zeros((*feed.counts.shape[:2], self._row_size), np.float32)

    def _start(self, number: int) -> Start:
        return Start(number, episode_seed(self._seed, number), self._parameters[self._owner(number)])

    def _owner(self, number: int) -> int:
        return number % len(self._parameters)

    def _acting(self, pool: EnvPool, iteration: int) -> Drivers:
        self._row_size = pool.row_size
        return self


class Trained(Performers):
    """Trained policies, one after the other, with Gaussian noise on their actions if wanted."""

    def __init__(
        self,
        policies: Policies,
        episodes: int,
        noise: float,
        seed: int,
        box: Box,
    ) -> None:
        """`noise`: standard deviation, where the action box `box` is scaled to [-1, 1]."""
        super().__init__(episodes, -(-episodes // len(policies)), seed)
        self._policies, self._noise, self._box = policies, noise, box

    def _owner(self, number: int) -> int:
        return number // self._each

    def _acting(self, pool: EnvPool, iteration: int) -> _Noisy:
        policy = self._policies[iteration : iteration + 1]
        return _Noisy(policy, pool.slots, self._box, self._noise, (self._seed, iteration))


class _Noisy:
    """One policy in all slots of both groups."""

    def __init__(
        self,
        policy: Policies,
        slots: int,
        box: Box,
        noise: float,
        seed: tuple[int, int],
    ) -> None:
        self._policy, self._noise = policy, noise
        self._low, self._high = box
        self._is_unit = bool((self._low == -1).all() and (self._high == 1).all())
        self._actors = [BatchedActors(policy.actor, slots, seed[0]) for _ in range(GROUPS)]
        self._draws = [np.random.default_rng((*seed, group)) for group in range(GROUPS)]

    def act(self, group: int, feed: Feed) -> np.ndarray:
        """The policy's actions, scaled to [-1, 1], and the noise."""
        actions = self._actors[group].act(feed)
        require_finite(actions, np.ones(actions.shape[:2], bool), self._policy)
        if not self._is_unit:
            actions = 2.0 * (actions - self._low) / (self._high - self._low) - 1.0
        noise = self._draws[group].standard_normal(actions.shape, np.float32)
        return np.asarray(actions + self._noise * noise, np.float32)
