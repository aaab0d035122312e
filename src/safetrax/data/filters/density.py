"""Filters that even out how densely the episodes cover the plane of cost and return."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int64

from safetrax.catalogue import DensitySetting, get_task
from safetrax.data.filters.base import DSRL_SEED, Selection, require_task
from safetrax.data.filters.removals import Range, between, require_range
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.settings import require

_SLACK = 1e-9  # in cells: rounding must not push a value on a cell's lower edge into the cell below
_DEFAULT_GRID = DensitySetting(cost_bins=10, return_bins=50, most=5, fewest=2)


@dataclass(frozen=True)
class Density(Selection):
    """Thin crowded cells of a grid over cost and return, and drop nearly empty ones.

    The grid of Liu et al., 2024 (arXiv:2306.09303): it spans the part of the data's ranges that lies in the task's
    reference ranges; episodes outside are dropped. A cell is floor((x - x_min) / width), so that the largest cost and
    return have a cell of their own. A cell with more than `most` episodes keeps `most` of them at random; a cell with
    at most `fewest` is dropped.

    Deviations: the random choice comes from `seed` (DSRL: Python's global generator); episodes stay in their order
    (DSRL: sorted by cell); a value that only rounding puts below an edge or outside of the range counts as on it.
    """

    name: ClassVar[str] = "density"
    share: float | None = None
    """Choose the task's grid of this name, about the share of episodes that it keeps. None: DSRL's default grid."""
    cost_bins: int | None = None
    """Cells along the cost. None: as in the task's grid, or 10 without `share`."""
    return_bins: int | None = None
    """Cells along the return. None: as in the task's grid, or 50."""
    most: int | None = None
    """Episodes kept of a cell that has more. None: as in the task's grid, or 5."""
    fewest: int | None = None
    """A cell with no more than these is dropped. None: as in the task's grid, or 2."""
    cost_range: Range | None = None
    """Costs that the grid may span. None: the task's in the benchmark; without a task, the data's."""
    return_range: Range | None = None
    """Returns that the grid may span. None: the task's in the benchmark; without a task, the data's."""
    seed: int = DSRL_SEED
    """Decides which episodes of a crowded cell are kept."""

    def __post_init__(self) -> None:
        if self.share is not None:
            require(0 < self.share < 1, "share", self.share, "lie between 0 and 1")
        for name, least in (("cost_bins", 1), ("return_bins", 1), ("most", 1), ("fewest", 0)):
            value = getattr(self, name)
            require(value is None or value >= least, name, value, f"be at least {least}")
        require_range("cost_range", self.cost_range)
        require_range("return_range", self.return_range)
        require(self.seed >= 0, "seed", self.seed, "not be negative")

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """The thinned cells' episodes."""
        grid = self._grid(data)
        rng = np.random.default_rng(self.seed)
        kept = []
        for members in self._cells(data, grid):
            if len(members) > grid.most:
                kept.append(rng.choice(members, size=grid.most, replace=False))
            elif len(members) > grid.fewest:
                kept.append(members)
        return np.sort(np.concatenate(kept, dtype=np.int64)) if kept else np.zeros(0, np.int64)

    def advice(self, data: Trajectories) -> str:
        """Which cells there are."""
        cells = self._cells(data, self._grid(data))
        if not cells:
            return "all lie outside of the reference ranges; check the task, or set cost_range and return_range."
        fullest = max(map(len, cells))
        return f"the fullest cell has {fullest}, and cells with at most `fewest` are dropped; lower it or the bins."

    def _grid(self, data: Trajectories) -> DensitySetting:
        base = _DEFAULT_GRID
        if self.share is not None:
            instead = "load it with its task, or set the bins, most and fewest in place of share"
            task = require_task(self, data, "a grid of the benchmark", instead)
            found = [grid for share, grid in task.density_settings.items() if math.isclose(share, self.share)]
            if not found:
                known = " and ".join(f"{share:g}" for share in task.density_settings)
                have = f"has grids for the shares {known} only" if known else "has no grid in the benchmark"
                raise DataError(f"{task.name} {have}, not for {self.share:g}; {instead}.")
            base = found[0]
        names = ("cost_bins", "return_bins", "most", "fewest")
        return replace(base, **{name: value for name in names if (value := getattr(self, name)) is not None})

    def _cells(self, data: Trajectories, grid: DensitySetting) -> list[Int64[np.ndarray, " members"]]:
        """The episodes of every cell that has any."""
        costs, returns = data.cost_returns, data.returns
        cost_span, return_span = map(_common, (costs, returns), self._ranges(data))
        numbers = np.flatnonzero(between(costs, *cost_span) & between(returns, *return_span))
        if len(numbers) == 0:
            return []
        row = grid_cells(costs[numbers], *cost_span, grid.cost_bins)
        column = grid_cells(returns[numbers], *return_span, grid.return_bins)
        cell = row * (grid.return_bins + 1) + column
        order = np.argsort(cell, kind="stable")
        return np.split(numbers[order], np.flatnonzero(np.diff(cell[order])) + 1)

    def _ranges(self, data: Trajectories) -> tuple[Range, Range]:
        everything = (-math.inf, math.inf)
        cost_range, return_range = self.cost_range or everything, self.return_range or everything
        name = data.info.get("task")
        task = get_task(name) if name else None
        if task is not None and not task.own:
            cost_range = self.cost_range or (task.cost_min, task.cost_max)
            return_range = self.return_range or (task.reward_min, task.reward_max)
        return cost_range, return_range


@dataclass(frozen=True)
class Thin(Selection):
    """Keep so many episodes, spread evenly over the plane of cost and return.

    The rule by which DSRL's data sets were thinned while they were recorded; `thin` says how it deviates.
    """

    name: ClassVar[str] = "thin"
    target: int
    """Episodes to keep, at least 1; all are kept if there are no more."""
    seed: int = 0
    """Decides which episodes of a crowded cell are kept."""

    def __post_init__(self) -> None:
        require(self.target >= 1, "target", self.target, "be at least 1")
        require(self.seed >= 0, "seed", self.seed, "not be negative")

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """An even cover."""
        return thin(data.returns, data.cost_returns, self.target, np.random.default_rng(self.seed))


def grid_cells(values: Float[np.ndarray, " E"], low: float, high: float, cells: int) -> Int64[np.ndarray, " E"]:
    """The cell of each value, floor((value - low) / width), of `cells` equal cells from `low` to `high`.

    `high` itself is in cell number `cells`, one beyond the others, as in DSRL's grid. Where `low` is `high`, all are
    in cell 0.

    Args:
        values: numbers in [low, high].
        low: lower edge of the first cell.
        high: upper edge of the last cell.
        cells: how many, at least 1.
    """
    if not high > low:
        return np.zeros(len(values), np.int64)
    position = (np.asarray(values, np.float64) - low) / (high - low) * cells
    return np.clip(np.floor(position + _SLACK), 0, cells).astype(np.int64)


def thin(
    returns: Float[np.ndarray, " E"], costs: Float[np.ndarray, " E"], target: int, rng: np.random.Generator
) -> Int64[np.ndarray, " kept"]:
    """Which episodes to keep so that `target` of them cover the (return, cost) plane about evenly.

    So FSRL's buffer of trajectories keeps what its agents did while they were trained, which is how the data sets of
    DSRL came about (Liu et al., 2024, arXiv:2306.09303).

    A grid with ceil(sqrt(target)) cells per axis is laid over the data's ranges. One random episode of every cell
    that has any is kept; then a random cell with episodes left gives a random one of them, until there are `target`.
    Takes time in proportion to E.

    Deviations from FSRL's `TrajectoryBuffer.filter_points`: the largest value is in the last cell, not in one of its
    own; an episode is drawn from a cell at random, not the newest first; and if there are more cells with episodes
    than `target`, a random choice of the cells gives one each, not those that were filled first.

    Args:
        returns: return of every episode.
        costs: cost return of every episode.
        target: number of episodes to keep, at least 1; all are kept if there are no more.
        rng: decides, the only source of chance.

    Returns:
        Numbers of the kept episodes, ascending: min(target, E) of them.

    Raises:
        ConfigError: the target is less than 1.
        DataError: a return or cost is not finite, or they differ in number.
    """
    if target < 1:
        raise ConfigError(f"the number of episodes to keep is {target}, but must be at least 1.")
    if len(returns) != len(costs):
        raise DataError(f"there are {len(returns)} returns but {len(costs)} costs; pass one of each per episode.")
    if not (np.isfinite(returns).all() and np.isfinite(costs).all()):
        raise DataError("a return or cost is not finite; remove or repair that episode before thinning.")
    if len(returns) <= target:
        return np.arange(len(returns), dtype=np.int64)
    per_axis = math.isqrt(target - 1) + 1  # ceil(sqrt(target)), exactly
    row, column = (
        np.minimum(grid_cells(values, values.min(), values.max(), per_axis), per_axis - 1)
        for values in (returns, costs)
    )
    cells = _shuffled_cells(row * per_axis + column, rng)
    kept = [cell.pop() for cell in cells[:target]]
    left = [cell for cell in cells if cell]
    while len(kept) < target:
        chosen = int(rng.integers(len(left)))
        kept.append(left[chosen].pop())
        if not left[chosen]:
            left[chosen] = left[-1]
            left.pop()
    return np.sort(np.asarray(kept, dtype=np.int64))


def _common(values: Float[np.ndarray, " E"], reference: Range) -> Range:
    """The part of a reference range that the values span."""
    return max(float(values.min()), reference[0]), min(float(values.max()), reference[1])


def _shuffled_cells(cell: Int64[np.ndarray, " E"], rng: np.random.Generator) -> list[list[int]]:
    """The episodes of every cell that has any; cells and their episodes in random order."""
    members: dict[int, list[int]] = {}
    for episode in rng.permutation(len(cell)).tolist():
        members.setdefault(int(cell[episode]), []).append(episode)
    cells = list(members.values())  # in order of appearance: random, but full cells tend to come first
    return [cells[number] for number in rng.permutation(len(cells))]
