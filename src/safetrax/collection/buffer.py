"""The episodes that are kept: a set of bounded size that covers the plane of cost and return."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from safetrax.collection.episodes import Episode
from safetrax.data.filters.density import thin

_ROOM = 1.5  # times the target, before the buffer is thinned


@dataclass
class Buffer:
    """Episodes, thinned to `target` whenever there are half as many more.

    Attributes:
        target: episodes to keep in the end.
        seed: of the thinning.
        max_cost: episodes of a higher cost are not kept.
        min_return: episodes of a lower return are not kept.
        episodes: those kept so far.
        offered: episodes seen.
        accepted: of these, those within the bounds.
        steps: of all episodes seen.
    """

    target: int
    seed: int
    max_cost: float = np.inf
    min_return: float = -np.inf
    episodes: list[Episode] = field(default_factory=list)
    offered: int = 0
    accepted: int = 0
    steps: int = 0

    def add(self, episodes: Iterable[Episode]) -> None:
        """Keep what is within the bounds, for now."""
        for episode in episodes:
            self.offered += 1
            self.steps += len(episode)
            if episode.cost <= self.max_cost and episode.return_ >= self.min_return:
                self.accepted += 1
                self.episodes.append(episode)
                if len(self.episodes) >= _ROOM * self.target:
                    self._thin()

    def finish(self) -> list[Episode]:
        """At most `target` episodes."""
        self._thin()
        return self.episodes

    def _thin(self) -> None:
        if len(self.episodes) > self.target:
            returns, costs = (np.array([getattr(e, name) for e in self.episodes]) for name in ("return_", "cost"))
            # a generator for each time, so that a resumed collection draws the same
            rng = np.random.default_rng((self.seed, self.accepted))
            self.episodes = [self.episodes[i] for i in thin(returns, costs, self.target, rng)]
