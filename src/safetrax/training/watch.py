"""What the metrics say of the runs while they train: which have diverged, and what their algorithm finds wrong."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from safetrax.algorithms.base import Algorithm
from safetrax.errors import SafeTraXWarning
from safetrax.policies.policy import Policies
from safetrax.run_id import RunId
from safetrax.training.logs import MetricRow
from safetrax.training.plan import Plan
from safetrax.training.run_folder import RunFolder


class Watch:
    """Warns of each fault of each run of the plan once; `remedy` is what to do if one diverges."""

    def __init__(self, algorithm: Algorithm, plan: Plan, remedy: str) -> None:
        self._algorithm, self._plan, self._remedy = algorithm, plan, remedy
        self._diverged: dict[RunId, MetricRow] = {}
        self._said: set[tuple[RunId, str]] = set()
        self._history: defaultdict[tuple[Any, ...], defaultdict[str, list[float]]]
        self._history = defaultdict(lambda: defaultdict(list))

    @property
    def all_diverged(self) -> bool:
        """Whether every run has."""
        return len(self._diverged) == len(self._plan.ids)

    def see(self, rows: Iterable[MetricRow], *, warn: bool = True) -> None:
        """New rows, in order; warn of runs that diverge in them."""
        for row in rows:
            self._history[row.stage, row.cost_limit, row.seed][row.metric].append(row.value)
            first = not math.isfinite(row.value) and self._diverged.setdefault(self._run(row), row) is row
            if first and warn:
                warnings.warn(f"{self._words(row)}; {self._remedy}.", SafeTraXWarning, stacklevel=2)

    def diagnose(self, stage: str) -> None:
        """Say what the algorithm finds wrong with each run."""
        for run in self._plan.ids:
            for sentence in self._algorithm.diagnose(self._history[stage, run.cost_limit, run.seed]):
                if (run, sentence) not in self._said:
                    self._said.add((run, sentence))
                    warnings.warn(f"{run}: {sentence}", SafeTraXWarning, stacklevel=2)

    def divergence(self, policies: Policies, folder: RunFolder | None) -> str:
        """Which runs have diverged and when, what becomes of the others, and what to do."""
        bad = np.any(~policies.finite.reshape(-1, len(self._plan.ids)), axis=0)
        runs = [run for run, diverged in zip(self._plan.ids, bad, strict=True) if diverged]
        first = self._diverged.get(runs[0])
        said = f"{runs[0]} diverged" if first is None else self._words(first)
        more = f" (and {len(runs) - 1} more of {len(self._plan.ids)} runs)" if len(runs) > 1 else ""
        kept = ""
        if not bad.all():
            where = "" if folder is None else f" in {folder.policies_folder}"
            kept = f" The policies of the other {len(bad) - len(runs)} runs are kept{where}."
        elif folder is not None and folder.checkpoint_file.exists():
            kept = f" The last checkpoint before that stays in {folder.path}."
        return f"{said}{more}; its parameters are not finite, so it gives no policy: {self._remedy}.{kept}"

    def _run(self, row: MetricRow) -> RunId:
        return RunId(row.algorithm, self._plan.task, row.cost_limit, row.seed)

    def _words(self, row: MetricRow) -> str:
        return f"{self._run(row)} diverged: {row.metric} is {row.value} at update {row.update}"
