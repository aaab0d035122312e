"""Algorithms that tell good episodes from bad ones by costs and a limit, or by what somebody has marked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from safetrax.algorithms.base import Algorithm
from safetrax.data.trajectories import Trajectories
from safetrax.errors import SafeTraXWarning

_A = TypeVar("_A", bound="FromLabels")


@dataclass(frozen=True)
class FromLabels(Algorithm):
    """One that can also learn from labels; then nothing in it depends on costs or their limit."""

    label_source: Literal["auto", "costs", "labels"] = field(default="auto", kw_only=True)
    """What says which episodes went well. "costs": their costs against the cost limit. "labels": what somebody has
    marked; one run then serves every limit. "auto": labels where the log has some, else costs."""

    def resolved(self: _A, trajectories: Trajectories) -> _A:
        """With a source that is decided; a log that has both is said."""
        if self.label_source != "auto":
            return self
        if not (self._can_use_labels and trajectories.marks.any()):
            return replace(self, label_source="costs")
        if trajectories.costs is not None:
            warnings.warn(
                f"the log has costs and labels, and {self.name} learns from the labels, whatever the cost limit; "
                "label_source=costs does otherwise.",
                SafeTraXWarning,
                stacklevel=3,
            )
        return replace(self, label_source="labels")

    @property
    def uses_cost_limit(self) -> bool:
        """Not where labels say it."""
        return self.label_source != "labels"

    @property
    def needs_costs(self) -> bool:
        """Not where labels say it."""
        return self.label_source != "labels"

    @property
    def _can_use_labels(self) -> bool:
        return True
