"""Thinning: of many episodes, a subset that covers the plane of return and cost evenly.

So FSRL's buffer of trajectories keeps what its agents did while they were trained, which is how the data sets of
DSRL came about (Liu et al., 2024, arXiv:2306.09303).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int64

from safetrax.errors import ConfigError, DataError

_SLACK = 1e-9  # in cells: rounding must not push a value on a cell's lower edge into the cell below


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


def _shuffled_cells(cell: Int64[np.ndarray, " E"], rng: np.random.Generator) -> list[list[int]]:
    """The episodes of every cell that has any; cells and their episodes in random order."""
    members: dict[int, list[int]] = {}
    for episode in rng.permutation(len(cell)).tolist():
        members.setdefault(int(cell[episode]), []).append(episode)
    cells = list(members.values())  # in order of appearance: random, but full cells tend to come first
    return [cells[number] for number in rng.permutation(len(cells))]
