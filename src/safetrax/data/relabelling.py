"""Episodes that are told other returns and costs than their own: CDT's augmentation, as two numbers per episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from safetrax.data.filters.density import Density
from safetrax.data.filters.frontier import pareto_set
from safetrax.data.trajectories import Trajectories

Pairing = Literal["position", "own"]

_EVERYTHING = (-1e300, 1e300)
_TEMPERING = 1.0  # added to a distance whose inverse is a probability, in units of return and cost


@dataclass(frozen=True)
class Relabelled:
    """Episodes with what they are said to return and to cost.

    Attributes:
        episodes: number of each.
        returns: instead of the episode's own.
        costs: instead of the episode's own.
    """

    episodes: Int[np.ndarray, " M"]
    returns: Float[np.ndarray, " M"]
    costs: Float[np.ndarray, " M"]

    @staticmethod
    def none() -> Relabelled:
        """No episode."""
        return Relabelled(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def relabel(
    trajectories: Trajectories,
    *,
    share: float,
    degree: int,
    margin: float,
    ceiling: float | None = None,
    decrease: float | None = None,
    pairing: Pairing = "position",
    seed: int = 0,
) -> Relabelled:
    """Targets beyond the frontier of cost and return, each with an episode of the log that comes near to it.

    Section 4.2 of Liu et al., ICML 2023 (arXiv:2302.07351), with the numbers of its code, OSRL:

    1. The plane of cost and return is thinned: of 10 x 50 cells, crowded ones keep 10 episodes, those with at most
       two keep none. n episodes are left.
    2. A polynomial f of `degree` is fitted to those that no other dominates.
    3. floor(`share` n) costs c are spaced evenly over the costs; the return of each is uniform between f(c) +
       `margin` and `ceiling`, whichever is greater.
    4. Each target chooses the nearest episode that costs no more than it. Where several choose one, the others take
       an episode that costs no more and returns at most `decrease` less, with a probability in proportion to
       1 / (1 + distance).

    Deviations: where the grid leaves no episode, all are taken; f has at most as many coefficients as there are
    costs; the random choice comes from `seed` (OSRL: NumPy's global generator).

    Args:
        trajectories: E episodes.
        share: of the thinned episodes, in [0, 1].
        degree: of f.
        margin: least distance of a target above the frontier, in units of return.
        ceiling: greatest return of a target. None: the greatest of the log.
        decrease: in units of return. None: a tenth of the range of the log's returns.
        pairing: which target an episode gets. "position": step 4 lists the episodes grouped by who chose them, and
            the list is laid beside the targets as it is (OSRL). "own": each target keeps the episode that it chose.
        seed: decides, the only source of chance.
    """
    grid = Density(cost_bins=10, return_bins=50, most=10, cost_range=_EVERYTHING, return_range=_EVERYTHING, seed=seed)
    kept = grid.episodes(trajectories)
    if not kept.size:
        kept = np.arange(trajectories.num_episodes)
    count = int(share * kept.size)
    if not count:
        return Relabelled.none()
    rng = np.random.default_rng(seed)
    costs, returns = trajectories.cost_returns[kept], trajectories.returns[kept]
    front = pareto_set(returns, costs)
    levels = np.unique(costs[front]).size
    frontier = np.polynomial.Polynomial.fit(costs[front], returns[front], min(degree, levels - 1))
    asked_costs = np.linspace(costs.min(), costs.max(), count)
    least = frontier(asked_costs) + margin
    most = trajectories.returns.max() if ceiling is None else ceiling
    # OSRL gives NumPy an interval that may be the wrong way round, which NumPy turns without a word
    asked_returns = rng.uniform(np.minimum(least, most), np.maximum(least, most))
    nearest = _nearest(returns, costs, asked_returns, asked_costs)
    give_up = 0.1 * np.ptp(trajectories.returns) if decrease is None else decrease
    chosen = _spread(nearest, returns, costs, float(give_up), pairing, rng)
    return Relabelled(kept[chosen], asked_returns, asked_costs)


def _nearest(
    returns: Float[np.ndarray, " n"],
    costs: Float[np.ndarray, " n"],
    asked_returns: Float[np.ndarray, " M"],
    asked_costs: Float[np.ndarray, " M"],
) -> Int[np.ndarray, " M"]:
    """For each target the nearest of those that cost no more; the cheapest costs no more than any target."""
    cheapest = costs.min()
    distance = np.hypot(costs - asked_costs[:, None], returns - asked_returns[:, None])
    allowed = costs <= np.maximum(asked_costs, cheapest)[:, None]
    return np.asarray(np.argmin(np.where(allowed, distance, np.inf), axis=1))


def _spread(
    nearest: Int[np.ndarray, " M"],
    returns: Float[np.ndarray, " n"],
    costs: Float[np.ndarray, " n"],
    decrease: float,
    pairing: Pairing,
    rng: np.random.Generator,
) -> Int[np.ndarray, " M"]:
    """Of those that chose one episode, all but the first take others."""
    groups: dict[int, list[int]] = {}
    for place, number in enumerate(nearest.tolist()):
        groups.setdefault(number, []).append(place)
    listed: list[int] = []
    for number, places in groups.items():
        listed.append(number)
        if len(places) > 1:
            near = np.flatnonzero((costs <= costs[number]) & (returns >= returns[number] - decrease))
            weight = 1 / (np.hypot(costs[near] - costs[number], returns[near] - returns[number]) + _TEMPERING)
            listed += rng.choice(near, size=len(places) - 1, p=weight / weight.sum()).tolist()
    chosen = np.asarray(listed, np.int64)
    return chosen if pairing == "position" else chosen[_inverse(list(groups.values()))]


def _inverse(groups: Sequence[Sequence[int]]) -> Int[np.ndarray, " M"]:
    """Where in the list of all groups each place is."""
    return np.argsort(np.concatenate([np.asarray(group, np.int64) for group in groups]))
