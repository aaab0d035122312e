"""Which run something is of."""

from __future__ import annotations

from typing import NamedTuple

from safetrax.files import exact


class RunId(NamedTuple):
    """One run: algorithm, task, cost limit and seed; no limit where it is ignored, no task where none is known."""

    algorithm: str
    task: str | None
    cost_limit: float | None
    seed: int

    def __str__(self) -> str:
        """Usable as a file name, for instance `TraC_limit-20_seed-0`."""
        limit = "" if self.cost_limit is None else f"_limit-{exact(self.cost_limit)}"
        return f"{self.algorithm}{limit}_seed-{self.seed}"

    @property
    def text(self) -> str:
        """For a message: `TraC on BallRun, limit 20, seed 0`."""
        return f"{self.algorithm} on {self.task}, {limit_text(self.cost_limit)}, seed {self.seed}"

    def adjusted(self, **values: float) -> RunId:
        """The id of an adjusted policy: a new cost limit is its cost limit, anything else joins the name."""
        others = {name: value for name, value in values.items() if name != "cost_limit"}
        name = self.algorithm + "".join(f"@{key}={exact(value)}" for key, value in others.items())
        return self._replace(algorithm=name, cost_limit=values.get("cost_limit", self.cost_limit))


def limit_text(limit: float | None) -> str:
    """For instance `limit 20`."""
    return "no limit" if limit is None else f"limit {exact(limit)}"
