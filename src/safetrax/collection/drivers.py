"""Drivers, trained policies and those of other libraries: they act as they do, and learn nothing from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from typing_extensions import override

from safetrax.collection.recorder import Act, Episode, EpisodeMaker, Keep, Tally, episode_seed, record
from safetrax.envs.lockstep import Start
from safetrax.envs.pool import GROUPS, EnvPool
from safetrax.errors import RunError
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
        add_noise = noise_adder(self._noise, self._box, (self._seed, iteration))
        actors = [BatchedActors(policy.actor, pool.slots, self._seed) for _ in range(GROUPS)]

        def act(group: int, feed: Feed) -> np.ndarray:
            actions = actors[group].act(feed)
            require_finite(actions, np.ones(actions.shape[:2], bool), policy)
            return add_noise(group, actions)

        return act


@runtime_checkable
class Predictor(Protocol):
    """A policy of another library, with the method that Stable-Baselines3's models have."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """For observations (n, O): actions in the environment's own units (n, A), or choices (n,); and its memory."""


class Predicted(Performers):
    """A policy of another library, by its most likely actions, with Gaussian noise if wanted."""

    def __init__(self, policy: Predictor, episodes: int, noise: float, seed: int, box: Box, choices: int) -> None:
        """`noise`: see `Trained`. `choices`: number of actions to choose from, 0 where the box is what counts."""
        super().__init__(episodes, episodes, seed)
        self._policy, self._noise, self._box, self._choices = policy, noise, box, choices

    @override
    def owner(self, number: int) -> int:
        return 0

    @override
    def acting(self, pool: EnvPool, iteration: int) -> Act:
        add_noise = noise_adder(self._noise, self._box, (self._seed, iteration))
        memories: list[Any] = [None] * GROUPS

        def act(group: int, feed: Feed) -> np.ndarray:
            numbers, counts = np.asarray(feed.numbers), np.asarray(feed.counts)
            actions, memories[group] = self._policy.predict(
                numbers[0, :, :-2], state=memories[group], episode_start=counts[0, :, 1] == 0, deterministic=True
            )
            if self._choices:
                actions = np.eye(self._choices)[np.asarray(actions, int)]
            actions, shape = np.asarray(actions, np.float32), (pool.slots, pool.task.action_size)
            if actions.shape != shape or not np.isfinite(actions).all():
                raise RunError(
                    f"predict of {type(self._policy).__name__} gave an array of shape {actions.shape}, or numbers "
                    f"that are not finite; it must give finite actions {shape}, one row for each observation."
                )
            return add_noise(group, actions[None])

        return act


def noise_adder(noise: float, box: Box, seed: tuple[int, ...]) -> Callable[[int, np.ndarray], np.ndarray]:
    """What scales actions from their box to [-1, 1] and adds noise there, drawn for each group by itself."""
    low, high = box
    draws = [np.random.default_rng((*seed, group)) for group in range(GROUPS)]

    def add(group: int, actions: np.ndarray) -> np.ndarray:
        if (low != -1).any() or (high != 1).any():
            actions = 2.0 * (actions - low) / (high - low) - 1.0
        return np.asarray(actions + noise * draws[group].standard_normal(actions.shape, np.float32), np.float32)

    return add
