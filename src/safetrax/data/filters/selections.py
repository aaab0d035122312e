"""Filters that select episodes by cost and return: those of behaviour cloning's variants, and the best k.

BC-Safe, BC-Risky, BC-Boundary and BC-Frontier are baselines of Liu et al., 2024 (arXiv:2306.09303), as in its code,
OSRL. C and R are cost return and return of an episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int64

from safetrax.data.filters.base import Selection
from safetrax.data.labels import WORDS, count_text
from safetrax.data.segments import ROUNDING, check_cost_limits, within_limit
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.settings import require


@dataclass(frozen=True)
class _AtLimit(Selection):
    cost_limit: float
    """Cost of an episode, at least 0."""

    def __post_init__(self) -> None:
        check_cost_limits((self.cost_limit,))


@dataclass(frozen=True)
class Safe(_AtLimit):
    """Keep the episodes within a cost limit, C <= cost_limit: BC-Safe's."""

    name: ClassVar[str] = "safe"

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """The safe ones."""
        return np.flatnonzero(within_limit(data.cost_returns, self.cost_limit))

    def advice(self, data: Trajectories) -> str:
        """The cheapest."""
        return f"the cheapest costs {data.cost_returns.min():.6g}; raise the limit."


@dataclass(frozen=True)
class Risky(_AtLimit):
    """Keep the episodes far beyond a cost limit, C >= 2 cost_limit: BC-Risky's."""

    name: ClassVar[str] = "risky"

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """The risky ones."""
        return np.flatnonzero(data.cost_returns >= 2 * self.cost_limit * (1 - ROUNDING) - ROUNDING)

    def advice(self, data: Trajectories) -> str:
        """The dearest."""
        return f"the dearest costs {data.cost_returns.max():.6g}, less than twice the limit; lower the limit."


@dataclass(frozen=True)
class Boundary(_AtLimit):
    """Keep the episodes near a cost limit, 0.5 cost_limit < C <= 1.5 cost_limit: BC-Boundary's."""

    name: ClassVar[str] = "boundary"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.cost_limit > 0, "cost_limit", self.cost_limit, "be positive, for the boundary has a width")

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """Those near the limit."""
        costs = data.cost_returns
        return np.flatnonzero(
            ~within_limit(costs, 0.5 * self.cost_limit) & within_limit(costs, 1.5 * self.cost_limit)
        )

    def advice(self, data: Trajectories) -> str:
        """The range of costs."""
        return f"their costs go from {data.cost_returns.min():.6g} to {data.cost_returns.max():.6g}; move the limit."


@dataclass(frozen=True)
class Labelled(Selection):
    """Keep the episodes that somebody has labelled so: of safe ones, BC-Safe's from labels."""

    name: ClassVar[str] = "labelled"
    label: Literal["safe", "unsafe", "unknown"] = "safe"
    """Of the episodes that are kept."""

    def __post_init__(self) -> None:
        require(self.label in WORDS.values(), "label", self.label, "be safe, unsafe or unknown")

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """Those with the label."""
        return np.flatnonzero([WORDS[int(mark)] == self.label for mark in data.marks])

    def advice(self, data: Trajectories) -> str:
        """What there is."""
        return f"they are {count_text(data.marks)}; label some (--labels)."


@dataclass(frozen=True)
class TopK(Selection):
    """Keep the k episodes of highest return or lowest cost, of all or of those within a cost limit.

    Among equals by the first criterion the other one decides, then the order of the data. All are kept if there are
    no more than k.
    """

    name: ClassVar[str] = "top-k"
    k: int
    """Episodes to keep, at least 1."""
    by: Literal["return", "cost"] = "return"
    """"return": the highest returns. "cost": the lowest costs."""
    cost_limit: float | None = None
    """Only episodes that cost no more. None: all."""

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", self.k, "be at least 1")
        require(self.by in ("return", "cost"), "by", self.by, "be 'return' or 'cost'")
        if self.cost_limit is not None:
            check_cost_limits((self.cost_limit,))

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """The best, in the order of the data."""
        numbers = np.arange(data.num_episodes)
        if self.cost_limit is not None:
            numbers = numbers[within_limit(data.cost_returns, self.cost_limit)]
        if self.by == "return" and data.costs is None:
            best_first = np.argsort(-data.returns[numbers], kind="stable")
        else:
            keys = (data.cost_returns[numbers], -data.returns[numbers])
            best_first = np.lexsort(keys if self.by == "return" else keys[::-1])
        return np.sort(numbers[best_first[: self.k]])

    def advice(self, data: Trajectories) -> str:
        """The cheapest."""
        return f"the cheapest costs {data.cost_returns.min():.6g}; raise the limit."


@dataclass(frozen=True)
class QualityMix(Selection):
    """Mix safe and unsafe episodes in a ratio: 8:1, 1:1 and 1:3 are BARS's data qualities.

    They are high, medium and low quality. The safe episodes are kept, or `safe_episodes` of them at random; u / s
    times as many unsafe ones, rounded, join them, s:u being the ratio. If there are more unsafe episodes than that, a
    random choice of them; if fewer, all as often as that number allows, and a random choice once more.

    "Rethinking Behavior Regularization in Offline Safe RL: A Region-Based Approach", Section 5 and Appendix D.1: per
    task a fixed number of safe samples, and unsafe data thinned or duplicated to the ratio.

    Deviations: the paper does not say what is counted; its Table 5 looks like single steps without and with a cost.
    Here it is whole episodes, within the limit or not, so that algorithms that need episodes or segments can be
    compared as well.
    """

    name: ClassVar[str] = "quality-mix"
    ratio: tuple[int, int]
    """Safe to unsafe, both at least 1."""
    cost_limit: float
    """Cost of an episode; those that cost no more are safe."""
    safe_episodes: int | None = None
    """How many safe episodes to keep, so that several mixes have as many. None: all."""
    seed: int = 0
    """Decides which are kept and which are repeated."""

    def __post_init__(self) -> None:
        require(len(self.ratio) == 2 and min(self.ratio) >= 1, "ratio", self.ratio, "be two numbers of at least 1")
        check_cost_limits((self.cost_limit,))
        number = self.safe_episodes
        require(number is None or number >= 1, "safe_episodes", number, "be at least 1")
        require(self.seed >= 0, "seed", self.seed, "not be negative")

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """Safe ones once, unsafe ones as often as the ratio asks."""
        within = within_limit(data.cost_returns, self.cost_limit)
        safe, unsafe = np.flatnonzero(within), np.flatnonzero(~within)
        for kind, found, change in (("safe", safe, "raise"), ("unsafe", unsafe, "lower")):
            if len(found) == 0:
                raise DataError(f"the filter {self} finds no {kind} episode to mix; {change} its cost_limit.")
        rng = np.random.default_rng(self.seed)
        if self.safe_episodes is not None:
            if self.safe_episodes > len(safe):
                raise DataError(
                    f"the filter {self} asks for {self.safe_episodes} safe episodes, but only {len(safe)} cost at "
                    f"most {self.cost_limit:g}; ask for fewer."
                )
            safe = rng.choice(safe, size=self.safe_episodes, replace=False)
        wanted = max(round(len(safe) * self.ratio[1] / self.ratio[0]), 1)
        copies, rest = divmod(wanted, len(unsafe))
        more = rng.choice(unsafe, size=rest, replace=False)
        return np.sort(np.concatenate([safe, np.repeat(unsafe, copies), more]))
