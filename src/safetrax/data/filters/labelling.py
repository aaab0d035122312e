"""Filters that hide the costs of a log and leave labels of episodes: what is known where nobody defines a cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Int64

from safetrax.data.filters.base import Filter, FilterState
from safetrax.data.labels import SAFE, UNKNOWN, UNSAFE
from safetrax.data.segments import check_cost_limits, within_limit
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.settings import require


@dataclass(frozen=True)
class Demonstrations(Filter):
    """Hide the costs; label the safe episodes of highest return safe, the rest unknown.

    The setting of Diffusion-Guided Safe Policy Optimization (DSPO) from a data set without costs, with 10 to 15
    demonstrations that are safe and of high return. The paper does not say how they are picked; here they are the
    highest returns of those within the limit. Labels that the log had are gone. The costs become `hidden_costs`,
    which no algorithm is given.
    """

    name: ClassVar[str] = "demonstrations"
    k: int
    """How many demonstrations, at least 1."""
    cost_limit: float
    """Cost of an episode; those that cost no more are safe."""

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", self.k, "be at least 1")
        check_cost_limits((self.cost_limit,))

    def step(self, state: FilterState) -> FilterState:
        """Costs out, labels in."""
        safe = within_limit(state.data.cost_returns, self.cost_limit)
        chosen = _highest_returns(state.data, _enough(self, self.k, safe, "safe", "raise"), self.k)
        labels = np.full(len(safe), UNKNOWN, np.int8)
        labels[chosen] = SAFE
        return FilterState(_hidden(state.data, labels), state.outliers)


@dataclass(frozen=True)
class LabelsFromCosts(Filter):
    """Hide the costs; label so many episodes within the limit safe, so many above it unsafe.

    What a person would have marked, for algorithms that learn from labels. Labels that the log had are gone. The
    costs become `hidden_costs`, which no algorithm is given.
    """

    name: ClassVar[str] = "labels-from-costs"
    k: int | None = None
    """How many of each kind are labelled, at least 1; the others are unknown. None: all are labelled."""
    cost_limit: float = dataclasses.field(kw_only=True)
    """Cost of an episode; those that cost no more are safe."""
    by: Literal["chance", "return"] = "chance"
    """Which ones: any, or those of each kind with the highest return."""
    seed: int = 0
    """Decides which, by chance."""

    def __post_init__(self) -> None:
        require(self.k is None or self.k >= 1, "k", self.k, "be at least 1")
        check_cost_limits((self.cost_limit,))
        require(self.by in ("chance", "return"), "by", self.by, "be 'chance' or 'return'")
        require(self.seed >= 0, "seed", self.seed, "not be negative")

    def step(self, state: FilterState) -> FilterState:
        """Costs out, labels in."""
        data, rng = state.data, np.random.default_rng(self.seed)
        safe = within_limit(data.cost_returns, self.cost_limit)
        labels = np.full(len(safe), UNKNOWN, np.int8)
        for label, kind, those, change in ((SAFE, "safe", safe, "raise"), (UNSAFE, "unsafe", ~safe, "lower")):
            numbers = np.flatnonzero(those)
            if self.k is not None:
                numbers = _enough(self, self.k, those, kind, change)
                if self.by == "return":
                    numbers = _highest_returns(data, numbers, self.k)
                else:
                    numbers = rng.choice(numbers, self.k, replace=False)
            labels[numbers] = label
        return FilterState(_hidden(data, labels), state.outliers)


def _enough(
    entry: Filter, wanted: int, those: Bool[np.ndarray, " E"], kind: str, change: str
) -> Int64[np.ndarray, " n"]:
    numbers = np.flatnonzero(those)
    if len(numbers) < wanted:
        raise DataError(
            f"the filter {entry} needs {wanted} {kind} episodes, but only {len(numbers)} of {len(those)} are; "
            f"{change} its cost_limit, or ask for fewer."
        )
    return numbers


def _highest_returns(data: Trajectories, numbers: Int64[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " count"]:
    """Among equals, the first of the data."""
    return np.asarray(numbers[np.argsort(-data.returns[numbers], kind="stable")[:count]])


def _hidden(data: Trajectories, labels: np.ndarray) -> Trajectories:
    return dataclasses.replace(data, costs=None, hidden_costs=data.costs, labels=labels)
