"""The filter that computes rewards and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float32

from safetrax.data.columns import as_vector
from safetrax.data.expressions import Expression, columns_of
from safetrax.data.filters.base import FUNCTION, Filter, FilterState
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError

Rule: TypeAlias = str | Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Relabel(Filter):
    """Compute rewards or costs of the steps from their columns.

    A rule is an expression such as `-abs(temperature - 21)` or `temperature > 24`, which is 1 where it is true; or a
    function of the columns by name, (N,) each, that gives (N,). Where a column that an expression names is missing,
    so is the value.
    """

    name: ClassVar[str] = "relabel"
    mends: ClassVar[bool] = True
    reward: Rule | None = None
    """Of a step; None: as logged."""
    cost: Rule | None = None
    """Of a step, 0 or more; None: as logged."""

    def __post_init__(self) -> None:
        rules = {name: rule for name in ("reward", "cost") if (rule := getattr(self, name)) is not None}
        if not rules:
            raise ConfigError("neither reward nor cost is given; write, for instance, cost=o0 > 24.")
        for name, rule in rules.items():
            if isinstance(rule, str) and rule.startswith(FUNCTION):
                raise ConfigError(
                    f"{name} was computed by the {rule}; apply it in Python, where the data are loaded."
                )
            if isinstance(rule, str):
                Expression(rule)

    def step(self, state: FilterState) -> FilterState:
        """Replace rewards, costs or both; both are computed from what there was before."""
        data = state.data
        rules = {"rewards": self.reward, "costs": self.cost}
        fields: dict[str, Any] = {field: _computed(data, rule) for field, rule in rules.items() if rule is not None}
        return FilterState(replace(data, **fields), state.outliers)


def _computed(data: Trajectories, rule: Rule) -> Float32[np.ndarray, " N"]:
    if isinstance(rule, str):
        values = Expression(rule)(data)
    else:
        known = {name: column for name, column in columns_of(data).items() if column is not None}
        values = rule(known)
    found = as_vector("what relabel computes", values)
    if len(found) != data.num_transitions:
        raise DataError(f"relabel computes {len(found)} values for {data.num_transitions} steps; give one per step.")
    return found
