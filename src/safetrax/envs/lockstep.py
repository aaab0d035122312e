"""Whole episodes in a pool's slots, one after the other in each, for whoever decides and keeps the books."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safetrax.envs.pool import EnvPool
from safetrax.envs.protocol import IDLE, STEP_ON, Answers
from safetrax.errors import SimulatorError

Place = tuple[int, int]  # owner and slot


@dataclass(frozen=True)
class Start:
    """An episode to begin: its number, what resets its environment, and the parameters of that one's own driver."""

    number: int
    seed: int
    parameters: tuple[float, ...] = ()


class Lockstep(ABC):
    """One group of a pool: `P` owners (policies, agents) x `n` slots, all stepped together.

    Which slot runs which episode follows from the lengths of the episodes before it, not from the workers' speed.

    Attributes:
        pool: where the environments are.
        index: of the group, 0 or 1.
        shape: `(P, n)`.
        numbers: int32 `(P, n)`, the episode of each slot.
        lengths: int64 `(P, n)`, steps made in it.
        seeds: int64 `(P, n)`, which its environment was reset with.
        given_up: bool `(P, n)`, set by `act`: whose episode ends here, by decision of whoever acts.
    """

    def __init__(self, pool: EnvPool, index: int, owners: int) -> None:
        self.pool, self.index = pool, index
        self.shape = owners, pool.slots // owners
        self.numbers = np.zeros(self.shape, np.int32)
        self.lengths = np.zeros(self.shape, np.int64)
        self.seeds = np.zeros(self.shape, np.int64)
        self.given_up = np.zeros(self.shape, bool)
        self._commands = np.full(self.shape, IDLE, np.int64)

    @abstractmethod
    def next_episode(self, place: Place) -> Start | None:
        """The episode that a free slot runs next; None: it rests for good."""

    @abstractmethod
    def observe(self, answers: Answers, stepped: np.ndarray) -> None:
        """Keep the books. Arrays of `answers` are `(P, n, ...)`; rewards and costs are 0 where not `stepped`."""

    @abstractmethod
    def act(self, answers: Answers, acting: np.ndarray) -> np.ndarray:
        """Actions, float32 `(P, n, A)` or rows of the pool's `row_size`, of which those at `acting` count."""

    @abstractmethod
    def finish(self, place: Place) -> None:
        """The episode in a slot has ended."""

    def warm_up(self) -> None:  # noqa: B027 (need not do anything)
        """Whatever can be done while the environments are built."""

    def start(self) -> bool:
        """Begin the first episodes; False if there are none."""
        actions = self._no_actions()
        for place in np.ndindex(self.shape):
            self._begin(place, actions)
        is_busy = self._send(actions)
        if is_busy:
            self.warm_up()
        return is_busy

    def advance(self) -> bool:
        """Take the answers to the last commands and give the next ones; False when all episodes are done.

        Raises:
            SimulatorError: an environment answered with what cannot be.
        """
        answers = self.pool.receive(self.index).take(self._commands.size, self.shape)
        stepped = self._commands == STEP_ON
        ended = stepped & answers.ended
        self.lengths += stepped
        self._require_possible(answers)
        acting = (self._commands >= 0) | (stepped & ~ended)
        self.observe(answers, stepped)
        actions = self.act(answers, acting) if acting.any() else self._no_actions()
        self._commands[acting] = STEP_ON
        for owner, slot in np.argwhere(ended | (self.given_up & acting)).tolist():
            self.finish((owner, slot))
            self._begin((owner, slot), actions)
        return self._send(actions)

    def _begin(self, place: Place, actions: np.ndarray) -> None:
        """Have a slot reset for its next episode, or rest."""
        start = self.next_episode(place)
        if start is None:
            self._commands[place] = IDLE
            return
        actions[place][: len(start.parameters)] = start.parameters
        self._commands[place], self.numbers[place], self.lengths[place] = start.seed, start.number, 0
        self.seeds[place] = start.seed

    def _require_possible(self, answers: Answers) -> None:
        """Costs are finite and not negative, all else is finite; rows of resting slots are zero."""
        whole = np.isfinite(answers.observations).all(axis=-1)
        fine = whole & np.isfinite(answers.rewards) & np.isfinite(answers.costs) & (answers.costs >= 0)
        if fine.all():
            return
        place = tuple(np.argwhere(~fine)[0].tolist())
        what = "an observation that is not finite"
        if whole[place]:
            reward, cost = answers.rewards[place].item(), answers.costs[place].item()
            what = f"the cost {cost}" if np.isfinite(reward) else f"the reward {reward}"
        raise SimulatorError(
            f"{self.pool.task.name} answered step {self.lengths[place]} of episode {self.numbers[place]} (environment"
            f" seed {self.seeds[place]}) with {what}; rewards and observations must be finite, costs not negative "
            "either, so mend the environment."
        )

    def _no_actions(self) -> np.ndarray:
        return np.zeros((*self.shape, self.pool.row_size), np.float32)

    def _send(self, actions: np.ndarray) -> bool:
        """Fill the pool's slots, of which those beyond P x n rest; False, and nothing is sent, if all would."""
        if (self._commands == IDLE).all():
            return False
        slots, used = self.pool.slots, self._commands.size
        commands = np.full(slots, IDLE, np.int64)
        commands[:used] = self._commands.ravel()
        padded = np.zeros((slots, actions.shape[-1]), np.float32)
        padded[:used] = actions.reshape(used, -1)
        self.pool.send(self.index, commands, padded)
        return True


def run_all(groups: Sequence[Lockstep]) -> None:
    """Run every episode of all groups: while the workers step one, the other's actions are computed."""
    running = [group for group in groups if group.start()]
    while running:
        for group in tuple(running):
            if not group.advance():
                running.remove(group)
