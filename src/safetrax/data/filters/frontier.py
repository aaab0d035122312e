"""The frontier of cost and return: the most that was earned at each cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int64

from safetrax.data.filters.base import Selection
from safetrax.data.trajectories import Trajectories
from safetrax.settings import require

_GOOD_FIT = 0.9  # r^2 at which no higher degree is tried


@dataclass(frozen=True)
class Frontier(Selection):
    """Keep the episodes near the frontier of cost and return: BC-Frontier's.

    These are the episodes with |R - f(C)| <= (R_max - R_min) / 5, C and R being cost return and return. f is a
    polynomial through the Pareto set (see `pareto_set` and `fit_frontier`), R_max and R_min are the extreme returns
    of the data (Liu et al., 2024, arXiv:2306.09303, as in its code, OSRL).

    Deviations: where all returns of the Pareto set are equal, f is that number (OSRL: divides by zero).
    """

    name: ClassVar[str] = "frontier"
    tolerance: float = 0.2
    """Largest distance from the frontier, as a share of the range of returns, at least 0."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.tolerance) and self.tolerance >= 0, "tolerance", self.tolerance, "not be negative")

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """Those near the frontier."""
        returns, costs = data.returns, data.cost_returns
        front = pareto_set(returns, costs)
        polynomial = fit_frontier(returns[front], costs[front])
        reach = self.tolerance * np.ptp(returns)
        slack = 1e-9 * (1 + np.abs(returns).max())  # a fit through its points is off by rounding
        return np.flatnonzero(np.abs(returns - np.polyval(polynomial, costs)) <= reach + slack)

    def advice(self, data: Trajectories) -> str:
        """A larger distance."""
        return "none is so near to the frontier; raise its tolerance."


def pareto_set(returns: Float[np.ndarray, " E"], costs: Float[np.ndarray, " E"]) -> Bool[np.ndarray, " E"]:
    """Which episodes no other dominates: none has at least the return for at most the cost, and one of them better.

    Equal episodes do not dominate each other.

    Args:
        returns: return of every episode.
        costs: cost return of every episode.
    """
    levels, level = np.unique(costs, return_inverse=True)
    best = np.full(len(levels), -np.inf)
    np.maximum.at(best, level, returns)
    cheaper = np.concatenate([[-np.inf], np.maximum.accumulate(best)[:-1]])  # best return at a strictly lower cost
    return np.asarray((returns == best[level]) & (returns > cheaper[level]))


def fit_frontier(returns: Float[np.ndarray, " P"], costs: Float[np.ndarray, " P"]) -> Float[np.ndarray, " degrees"]:
    """The return as a polynomial of the cost, least squares: the lowest degree of 0, 1, 2 with r^2 >= 0.9, else 2.

    Args:
        returns: of the Pareto set.
        costs: of the Pareto set.

    Returns:
        Coefficients for `np.polyval`, the highest power first.
    """
    total = float(np.square(returns - returns.mean()).sum())
    if total == 0:
        return np.asarray([returns.mean()])
    fit = np.zeros(1)
    for degree in (1, 2):  # r^2 of degree 0 is 0
        fit = np.polyfit(costs, returns, degree)
        if 1 - float(np.square(returns - np.polyval(fit, costs)).sum()) / total >= _GOOD_FIT:
            break
    return fit
