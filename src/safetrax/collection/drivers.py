"""Drivers and trained policies: they act as they do, and learn nothing from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from typing_extensions import override

from safetrax.collection.recorder import Act, Episode, EpisodeMaker, Keep, Tally, episode_seed, record
from safetrax.envs.lockstep import Start
from safetrax.envs.pool import GROUPS, EnvPool
from safetrax.policies.batched import BatchedActors, Feed, require_finite
from safetrax.policies.policy import Policies

Box = tuple[np.ndarray, np.ndarray]  # lower and upper bounds of actions, float32 (A,) each

_DRIVES = 50  # episodes of an iteration of drivers


class Performers(EpisodeMaker):
    """So many episodes in all, in iterations of at most `each`; the state is empty, for an episode needs no other."""

    def __init__(self, episodes: int, each: int, seed: int) -> None:
        self.iterations = -(-episodes // each)
        self._episodes, self._each, self._seed = episodes, each, seed

    @abstractmethod
    def owner(self, number: int) -> int:
        """Which driver or policy acts in an episode."""

    @abstractmethod
    def acting(self, pool: EnvPool, iteration: int) -> Act:
        """How it acts, in all slots of both groups."""

    def parameters(self, owner: int) -> tuple[float, ...]:
        """What its environment is to know of it."""
        return ()

    @override
    def done(self, iteration: int, steps: int) -> bool:
        return iteration >= self.iterations

    @override
    def run(self, pool: EnvPool, iteration: int, steps: int, keep: Keep) -> list[Episode]:
        pool.begin()
        first = iteration * self._each
        waiting = [
            [n for n in range(first, min(first + self._each, self._episodes)) if n % GROUPS == group]
            for group in range(GROUPS)
        ]

        def schedule(group: int, slots: int, steps: int) -> Start | None:
            if not waiting[group]:
                return None
            number = waiting[group].pop(0)
            return Start(number, episode_seed(self._seed, number), self.parameters(self.owner(number)))

        def owned(episode: Episode) -> Episode:
            return replace(episode, owner=self.owner(episode.number))

        recorded = record(pool, 1, self.acting(pool, iteration), schedule, lambda episode: keep(owned(episode)))
        return [owned(episode) for episode, _ in recorded]

    @override
    def tally(self, episodes: Sequence[Episode]) -> list[Tally]:
        return [Tally.of("mean", episodes)]


class Drivers(Performers):
    """The simulator's own driver, with each of its parameter sets in turn."""

    def __init__(self, parameters: Sequence[tuple[float, ...]], episodes: int, seed: int) -> None:
        super().__init__(episodes, _DRIVES, seed)
        self._parameters = tuple(parameters)

    @override
    def owner(self, number: int) -> int:
        return number % len(self._parameters)

    @override
    def parameters(self, owner: int) -> tuple[float, ...]:
        return self._parameters[owner]

    @override
    def acting(self, pool: EnvPool, iteration: int) -> Act:
        # nothing that counts: the environments' drivers act
        return lambda group, feed: np.zeros((*feed.counts.shape[:2], pool.row_size), np.float32)


class Trained(Performers):
    """Trained policies, one after the other, with Gaussian noise on their actions if wanted."""

    def __init__(self, policies: Policies, episodes: int, noise: float, seed: int, box: Box) -> None:
        """`noise`: standard deviation, where the action box `box` is scaled to [-1, 1]."""
        super().__init__(episodes, -(-episodes // len(policies)), seed)
        self._policies, self._noise, self._box = policies, noise, box

    @override
    def owner(self, number: int) -> int:
        return number // self._each

    @override
    def acting(self, pool: EnvPool, iteration: int) -> Act:
        policy = self._policies[iteration : iteration + 1]
        low, high = self._box
        actors = [BatchedActors(policy.actor, pool.slots, self._seed) for _ in range(GROUPS)]
        draws = [np.random.default_rng((self._seed, iteration, group)) for group in range(GROUPS)]

        def act(group: int, feed: Feed) -> np.ndarray:
            actions = actors[group].act(feed)
            require_finite(actions, np.ones(actions.shape[:2], bool), policy)
            if (low != -1).any() or (high != 1).any():
                actions = 2.0 * (actions - low) / (high - low) - 1.0
            noise = draws[group].standard_normal(actions.shape, np.float32)
            return np.asarray(actions + self._noise * noise, np.float32)

        return act
