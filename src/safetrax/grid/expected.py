"""How long a grid will take, before any of it has run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetrax.catalogue import get_task
from safetrax.grid.grid import Job, algorithm_of

# Milliseconds of an update on one core of a 2.5 GHz Xeon, by docs/results.md (fast schedules) and docs/benchmarks.md
# (published ones, twice the time of two cores); None: never measured.
_MILLISECONDS: Mapping[str, tuple[float, float | None]] = {
    "lspc": (21, 70),
    "fisor": (5, 290),
    "bars": (7, 470),
    "cdt": (75, 6600),
    "cpq": (14, 72),
    "bcq-lag": (29, 152),
    "bear-lag": (27, 144),
    "coptidice": (9, 28),
    "dspo": (12, 800),
    "dwbc": (7, None),
    "rgm": (13, None),
    "cdt-v": (20, 600),
    "iql": (8, 7),
    "td3-bc": (6, 6),
    "cql": (49, 190),
    "bc-all": (3, 3),
    "bc-safe": (3, 3),
}
_TRAC_MICROSECONDS = 6.2  # of a step of a segment of the batch, in either schedule
_SECONDS_PER_JOB = 30.0  # a process, the data set, compiling


@dataclass(frozen=True)
class Expected:
    """Within a factor of two or three.

    Attributes:
        seconds: of all trainings on that many cores like the one that was measured; evaluations come on top.
        unknown: words of algorithms that are left out, for nobody has measured them.
    """

    seconds: float
    unknown: tuple[str, ...]


def expected(jobs: Sequence[Job], lanes: int, *, fast: bool) -> Expected:
    """How long these jobs take, none of which has begun.

    Args:
        jobs: at least one.
        lanes: jobs side by side, each on a core.
        fast: whether they have the fast schedule.
    """
    work: list[float] = []
    unknown: dict[str, None] = {}
    for job in jobs:
        algorithm = algorithm_of(job)
        seconds = _update_seconds(job, algorithm, fast)
        if seconds is None:
            unknown[job.algorithm] = None
            continue
        runs = len(job.seeds) * (len(job.cost_limits) if algorithm.uses_cost_limit else 1)
        work.append(_SECONDS_PER_JOB + runs * algorithm.total_updates * seconds)
    return Expected(max([sum(work) / max(1, min(lanes, len(jobs))), *work]), tuple(unknown))


def _update_seconds(job: Job, algorithm: Any, fast: bool) -> float | None:
    if job.algorithm == "trac":
        ratio = 1.0 if algorithm.segment_ratio == "whole" else algorithm.segment_ratio
        steps = float(algorithm.batch_size * max(1.0, ratio * get_task(job.task).horizon))
        return 1e-6 * _TRAC_MICROSECONDS * steps
    milliseconds = _MILLISECONDS.get(job.algorithm, (None, None))[0 if fast else 1]
    return None if milliseconds is None else 1e-3 * milliseconds
