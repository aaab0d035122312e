"""Filters that corrupt episodes, to see how much of it an algorithm bears."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from safetrax.data.columns import chunks
from safetrax.data.filters.base import DSRL_SEED, Filter, FilterState, require_task
from safetrax.data.segments import check_cost_limits
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.settings import require


@dataclass(frozen=True)
class Outliers(Filter):
    """Turn some costly, rewarding episodes into outliers that look safe and better still.

    DSRL's outliers (Liu et al., 2024, arXiv:2306.09303, and its code). max(floor(E share), 1) of the episodes with
    C >= C_max / 2 and R >= R_max / 2 are chosen, C and R being cost return and return, C_max and R_max the task's
    reference values. Their costs become 0 but for m random steps that cost 1, with m uniform in 0, ...,
    floor(cost_limit) - 1, and their rewards are multiplied by 1.5.

    Deviations: m is at most the episode's length; DSRL goes on with the same generator to draw `Noise`.
    """

    name: ClassVar[str] = "outliers"
    share: float
    """Of all episodes, in (0, 1]; DSRL's `outliers_percent`, which is a share as well."""
    cost_limit: float
    """Cost of an episode that the outliers stay below, at least 1; DSRL's `target_cost`."""
    reward_factor: float = 1.5
    """Multiplies their rewards."""
    cost_max: float | None = None
    """C_max. None: the task's in the benchmark."""
    return_max: float | None = None
    """R_max. None: the task's in the benchmark."""
    seed: int = DSRL_SEED
    """Decides the episodes, their new costs and the steps."""

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share", self.share, "lie in (0, 1]")
        check_cost_limits((self.cost_limit,))
        require(self.cost_limit >= 1, "cost_limit", self.cost_limit, "be at least 1, for outliers cost less")
        for name in ("reward_factor", "cost_max", "return_max"):
            value = getattr(self, name)
            require(value is None or math.isfinite(value), name, value, "be finite")
        require(self.seed >= 0, "seed", self.seed, "not be negative")

    def step(self, state: FilterState) -> FilterState:
        """Change costs and rewards of the chosen ones, and remember which they are."""
        data, rng = state.data, np.random.default_rng(self.seed)
        count = max(int(data.num_episodes * self.share + 1e-9), 1)
        candidates = self._candidates(data)
        if len(candidates) < count:
            raise DataError(
                f"the filter {self} needs {count} of the {data.num_episodes} episodes, but only {len(candidates)} "
                "reach half of the reference cost and return; lower its share, cost_max or return_max."
            )
        # in the order in which DSRL's code draws, so that the same seed gives the same outliers
        chosen = rng.choice(candidates, size=count, replace=False)
        new_costs = rng.choice(np.arange(int(self.cost_limit)), size=count)
        costs, rewards = data.logged_costs.copy(), data.rewards.copy()
        for episode, cost in zip(chosen, new_costs, strict=True):
            start, length = int(data.offsets[episode]), int(data.lengths[episode])
            rows = slice(start, start + length)
            costs[rows] = 0
            costs[start + rng.choice(np.arange(length), size=min(int(cost), length), replace=False)] = 1
            with np.errstate(over="ignore"):  # becomes inf, which validate() names with its row
                rewards[rows] *= self.reward_factor
        outliers = state.outliers.copy()
        outliers[chosen] = True
        return FilterState(replace(data, costs=costs, rewards=rewards), outliers)

    def _candidates(self, data: Trajectories) -> Int64[np.ndarray, " candidates"]:
        cost_max, return_max = self.cost_max, self.return_max
        if cost_max is None or return_max is None:
            need = "the task's largest cost and return"
            task = require_task(self, data, need, "load it with its task, or set cost_max and return_max")
            cost_max = task.cost_max if cost_max is None else cost_max
            return_max = task.reward_max if return_max is None else return_max
        return np.flatnonzero((data.cost_returns >= cost_max / 2) & (data.returns >= return_max / 2))


@dataclass(frozen=True)
class Noise(Filter):
    """Add Gaussian noise to the observations.

    DSRL's noise (Liu et al., 2024, arXiv:2306.09303, and its code). Its standard deviation is `scale` times that of
    *all* numbers in the data set's observations together. Next observations get noise of their own, relative to their
    own standard deviation, so that the successor of a step and the observation of the next one differ.

    Deviations: none by itself; after `Outliers`, DSRL goes on with that one's generator, here each has its `seed`.
    """

    name: ClassVar[str] = "noise"
    scale: float
    """Standard deviations of noise per standard deviation of the observations, positive."""
    seed: int = DSRL_SEED
    """Decides the noise."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.scale) and self.scale > 0, "scale", self.scale, "be positive")
        require(self.seed >= 0, "seed", self.seed, "not be negative")

    def step(self, state: FilterState) -> FilterState:
        """Replace the observations."""
        rng, data = np.random.default_rng(self.seed), state.data
        noisy: dict[str, Any] = {"observations": self._noisy(data.observations, rng)}
        if data.next_observations is not None:
            noisy["next_observations"] = self._noisy(data.next_observations, rng)
        return FilterState(replace(data, **noisy), state.outliers)

    def _noisy(self, array: Float32[np.ndarray, "N O"], rng: np.random.Generator) -> Float32[np.ndarray, "N O"]:
        deviation, noisy = _deviation(array), array.copy()
        for rows in chunks(len(noisy)):
            noisy[rows] += self.scale * rng.normal(0.0, deviation, noisy[rows].shape)
        return noisy


def _deviation(array: Float32[np.ndarray, "N O"]) -> float:
    """Standard deviation of all numbers, in float64."""
    mean = array.mean(dtype=np.float64)
    total = sum(float(np.square(array[rows] - mean, dtype=np.float64).sum()) for rows in chunks(len(array)))
    return math.sqrt(total / array.size)
