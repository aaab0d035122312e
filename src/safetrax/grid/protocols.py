"""How papers evaluate: limits, seeds and episodes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safetrax.catalogue import Task


@dataclass(frozen=True)
class Protocol:
    """What a cell of a table is the mean of.

    Attributes:
        cost_limits: by suite; a suite that is missing has the limits of its tasks in the catalogue.
        seeds: of the training.
        episodes: per policy.
        source: who uses it.
    """

    cost_limits: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    episodes: int
    source: str

    def limits(self, task: Task) -> tuple[float, ...]:
        """Of one task."""
        return self.cost_limits.get(task.suite, task.cost_limits)


PROTOCOLS: Mapping[str, Protocol] = {
    "dsrl": Protocol({}, (0, 10, 20), 20, "DSRL's constraint variation, three limits per task: TraC, LSPC"),
    "fisor": Protocol(
        {"bullet": (5.0,), "safety_gymnasium": (10.0,), "metadrive": (5.0,)},
        (0, 10, 20),
        20,
        "FISOR's own paper: one strict limit",
    ),
    "bars": Protocol(
        dict.fromkeys(("bullet", "safety_gymnasium", "metadrive", "reach_avoid"), (10.0,)),
        (0, 10, 20),
        20,
        "BARS: a limit of 10 everywhere; its seeds and episodes are not stated, and are DSRL's here",
    ),
}
