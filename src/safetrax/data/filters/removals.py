"""Filters that remove a region of the plane of cost and return."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int64

from safetrax.data.filters.base import FilterState, Selection, require_task
from safetrax.data.segments import ROUNDING, check_cost_limits, within_limit
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.settings import require

Range = tuple[float, float]
"""A setting: lower and higher end of costs or returns."""


@dataclass(frozen=True)
class Inpaint(Selection):
    """Cut rectangles out of the plane of cost and return.

    DSRL's inpainting (Liu et al., 2024, arXiv:2306.09303, and its code). For each of `ranges`, (p, q, u, v), one
    after the other: of the episodes that are left, those with a cost between the fractions p and q of the reference
    range [C_min, C_max] are looked at, and of these the ones are removed whose return is between the fractions u and
    v of *their* range of returns. Episodes that `Outliers` made earlier in the same call of `apply_filters` count for
    that range, but come back in the end.

    Deviations: a rectangle without episodes removes none (DSRL: fails); episodes stay in their order.
    """

    name: ClassVar[str] = "inpaint"
    ranges: tuple[tuple[float, float, float, float], ...]
    """One or more of (lowest cost, highest cost, lowest return, highest return), as fractions, ends included."""
    cost_range: Range | None = None
    """C_min and C_max. None: the task's in the benchmark."""

    def __post_init__(self) -> None:
        require(len(self.ranges) > 0, "ranges", self.ranges, "hold at least one range")
        for each in self.ranges:
            require(len(each) == 4, "ranges", each, "hold four numbers per range")
            require(all(map(math.isfinite, each)), "ranges", each, "be finite")
            require(
                each[0] <= each[1] and each[2] <= each[3], "ranges", each, "go from low to high, cost then return"
            )
        require_range("cost_range", self.cost_range)

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """Those outside of the rectangles."""
        if self.cost_range is None:
            instead = "load it with its task, or set cost_range"
            task = require_task(self, data, "the task's range of costs", instead)
            low, high = task.cost_min, task.cost_max
        else:
            low, high = self.cost_range
        kept = np.arange(data.num_episodes)
        for p, q, u, v in self.ranges:
            costs, returns = data.cost_returns[kept], data.returns[kept]
            looked_at = _fraction_between(costs, p, q, low, high)
            if looked_at.any():
                worst, best = float(returns[looked_at].min()), float(returns[looked_at].max())
                kept = kept[~(looked_at & _fraction_between(returns, u, v, worst, best))]
        return kept

    def advice(self, data: Trajectories) -> str:
        """Smaller rectangles."""
        return "its ranges cover them all; choose smaller ones."

    def step(self, state: FilterState) -> FilterState:
        """Keep `episodes`, and the outliers."""
        kept = state.outliers.copy()
        kept[self.episodes(state.data)] = True
        return self._keep(state, np.flatnonzero(kept))


@dataclass(frozen=True)
class Epsilon(Selection):
    """Remove the best safe episodes (above 0: harder data) or the best unsafe ones (below 0: easier).

    DSRL's epsilon (Liu et al., 2024, arXiv:2306.09303, and its code). For epsilon > 0 the safe episodes with
    R >= R_best - epsilon go, R_best being the best return of a safe one; for epsilon < 0 the unsafe episodes with
    R >= R_best - |epsilon|, R_best being the best return of an unsafe one. Safe is a cost within the limit.

    Deviations: also right after `Inpaint`, where DSRL's code mixes up the numbers of episodes.
    """

    name: ClassVar[str] = "epsilon"
    epsilon: float
    """In units of return, not 0: positive for harder data, negative for easier ones."""
    cost_limit: float
    """Cost of an episode, at least 0; DSRL's `target_cost`."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.epsilon) and self.epsilon != 0, "epsilon", self.epsilon, "be finite and not 0")
        check_cost_limits((self.cost_limit,))

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """All but the best of one side."""
        safe = within_limit(data.cost_returns, self.cost_limit)
        side = safe if self.epsilon > 0 else ~safe
        if not side.any():
            kind, change = ("safe", "raise") if self.epsilon > 0 else ("unsafe", "lower")
            raise DataError(f"the filter {self} finds no {kind} episode to remove; {change} its cost_limit.")
        return np.flatnonzero(~(side & (data.returns >= data.returns[side].max() - abs(self.epsilon))))

    def advice(self, data: Trajectories) -> str:
        """A smaller epsilon."""
        return f"their returns differ by {np.ptp(data.returns):.6g} only; choose an epsilon nearer to 0."


def between(values: Float[np.ndarray, " E"], low: float, high: float) -> Bool[np.ndarray, " E"]:
    """Whether each value is in [low, high], forgiving float32 rounding, as the benchmark's references have it."""
    slack = ROUNDING * (1 + max(abs(low), abs(high)))
    return np.asarray((values >= low - slack) & (values <= high + slack))


def _fraction_between(
    values: Float[np.ndarray, " E"], first: float, last: float, low: float, high: float
) -> Bool[np.ndarray, " E"]:
    """Whether each value is between two fractions of [low, high], ends included."""
    span = high - low
    return between(values, low + first * span, low + last * span)


def require_range(name: str, value: Range | None) -> None:
    """Raise ConfigError unless a setting is None, or goes from a lower to a higher finite number."""
    if value is not None:
        low, high = value
        require(-math.inf < low < high < math.inf, name, value, "go from low to high")
