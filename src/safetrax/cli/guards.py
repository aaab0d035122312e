"""Evaluation under guard, for `safetrax evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safetrax.cli.console import plain_table, say
from safetrax.cli.monitor import SUFFIX
from safetrax.evaluation.episodes import EpisodeRow, write_episodes
from safetrax.evaluation.result import Evaluation
from safetrax.monitoring.interventions import Intervention, write_interventions
from safetrax.monitoring.monitor import Monitor
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId

if TYPE_CHECKING:
    from safetrax.cli.evaluate import EvaluateOptions
    from safetrax.cli.policy_sources import Source


@dataclass(frozen=True)
class Guards:
    """The monitors of one source's policies.

    Attributes:
        folder: where they are, and the rows go.
        monitors: by policy.
        fallback: who takes over.
    """

    folder: Path
    monitors: Mapping[RunId, Monitor]
    fallback: Policy | None

    @staticmethod
    def of(source: Source, options: EvaluateOptions) -> Guards:
        """Load them, before any episode is run.

        Raises:
            DataError: one is missing or damaged.
        """
        folder = Path(str(options.monitor))
        monitors = {run: Monitor.load(folder / f"{run}{SUFFIX}") for run in source.policies.ids}
        return Guards(folder, monitors, None if options.fallback is None else Policy.load(options.fallback))

    def show(self, without: Sequence[EpisodeRow], result: Evaluation) -> None:
        """The same episodes without and under guard: a table of both, and a file of each."""
        self._say(without, result)
        write_episodes(self.folder / "episodes.csv", result.rows)
        write_interventions(self.folder / "interventions.csv", result.interventions)
        say(f"interventions  {self.folder / 'interventions.csv'} ({len(result.interventions)})")

    def _say(self, without: Sequence[EpisodeRow], result: Evaluation) -> None:
        from rich.table import Column

        first: dict[tuple[str, int], Intervention] = {}
        for row in result.interventions:
            first.setdefault((row.policy, row.episode), row)
        right = [
            Column(name, justify="right")
            for name in ("return", "cost", "with guard", "cost", "alarms", "false", "step")
        ]
        table = plain_table("under guard", "policy", *right, "causes")
        for run in self.monitors:
            limit = self.monitors[run].facts.get("cost_limit")
            own, guarded = ([row for row in rows if row.run == run] for rows in (without, result.rows))
            alarms = [first[str(run), row.episode] for row in own if (str(run), row.episode) in first]
            false = sum((str(run), row.episode) in first and row.cost <= (limit or 0) for row in own)
            causes = sorted({row.cause for row in alarms})
            table.add_row(
                str(run),
                *(f"{np.mean(values):.1f}" for rows in (own, guarded) for values in _columns(rows)),
                f"{len(alarms)} of {len(own)}",
                "-" if limit is None else str(false),
                f"{np.median([row.step for row in alarms]):.0f}" if alarms else "-",
                ", ".join(causes),
            )
        say(
            table,
            "return and cost are means of the same episodes without and with guard; an alarm is false where the cost "
            "without guard is within the limit; step is the median of the first alarms.",
        )


def _columns(rows: Sequence[EpisodeRow]) -> tuple[list[float], list[float]]:
    return [row.return_ for row in rows], [row.cost for row in rows]
