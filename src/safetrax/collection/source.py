"""What makes episodes: the contract, and what its makers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from safetrax.collection.episodes import Episode
from safetrax.envs.pool import EnvPool

SEED_STRIDE = 10_000_000  # episode e of a collection with seed s resets its environment with s * SEED_STRIDE + e
MOST_SEEDS = 200

Keep = Callable[[Episode], object]


@dataclass(frozen=True)
class Tally:
    """One line on the episodes of an iteration.

    Attributes:
        name: of whoever acted.
        episodes: how many.
        return_: their mean return.
        cost: their mean cost.
        limit: the cost limit of the time, where there is one.
    """

    name: str
    episodes: int
    return_: float
    cost: float
    limit: float | None = None

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" (limit {self.limit:.0f})"
        return f"{self.name}{limit}: return {self.return_:.1f}, cost {self.cost:.1f}"


@runtime_checkable
class Source(Protocol):
    """Makes episodes, iteration by iteration; between two iterations all that it knows is in its state."""

    iterations: int
    owners: int

    def done(self, iteration: int, steps: int) -> bool:
        """Whether so many iterations and steps are all; `iterations` is how many are expected."""
        ...

    def run(self, pool: EnvPool, iteration: int, steps: int, keep: Keep) -> list[Episode]:
        """The episodes of an iteration, in the order of their numbers.

        Args:
            pool: where they are run.
            iteration: its number, from 0.
            steps: of all episodes before it.
            keep: called with each episode as soon as it has ended.
        """
        ...

    def tally(self, episodes: Sequence[Episode]) -> list[Tally]:
        """A few words on them."""
        ...

    def state(self) -> dict[str, Any]:
        """Arrays by name."""
        ...

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from such a state."""
        ...


def episode_seed(seed: int, number: int) -> int:
    """What the environment of an episode is reset with."""
    return seed * SEED_STRIDE + number
