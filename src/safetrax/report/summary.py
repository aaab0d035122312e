"""What stands on the page: everything that is derived from the episodes, before any of it is drawn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from safetrax._version import __version__
from safetrax.catalogue import OWN, SUITES, get_task, tasks
from safetrax.errors import RunError
from safetrax.evaluation.aggregates import Aggregate, Profile, ProfileKind, aggregates, performance_profiles
from safetrax.evaluation.bootstrap import Bounded, wilson_interval
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.run_scores import RunScore, common_tasks, on_common_tasks, run_scores
from safetrax.evaluation.run_table import RunTable
from safetrax.evaluation.scores import SAFE_UP_TO
from safetrax.evaluation.statistics import Estimate, Summary, benchmark_table, summarise
from safetrax.leaderboard.own_results import limits_text
from safetrax.report.cautions import cautions
from safetrax.report.certified import Certified, read_certified
from safetrax.report.logged import Logged, Unread, read_logged
from safetrax.runs import Caution, Sources, Training, read_sources
from safetrax.training.curves import Panel, evaluation_panels, metric_panels, within_budget
from safetrax.training.logs import MetricRow, read_metrics

SUITE_NAMES = {
    "bullet": "Bullet-Safety-Gym",
    "safety_gymnasium": "Safety-Gymnasium",
    "metadrive": "MetaDrive",
    "reach_avoid": "Reach-avoid world",
    OWN: "Other environments",
}
_THRESHOLDS = np.linspace(0.0, 1.2, 61)
_CONFIDENCE = 0.9  # of both ends, so that 95 % are above the lower one
_KINDS: tuple[ProfileKind, ...] = ("return", "safe return")


@dataclass(frozen=True)
class Cell:
    """One algorithm on one task.

    Attributes:
        algorithm: its name.
        task: its name.
        summary: over limits and seeds, of the last evaluated step.
        by_limit: the same for each limit.
        p_safe: share of its runs whose mean cost is within the limit, with Wilson's 90 % interval; an algorithm that
            ignores the limit has one run per seed, whose share of limits counts.
        best: whether it has the highest reward of the safe ones on this task.
        certain: whether the cost is further from the limit than one standard error.
        steps: after how many updates the runs were evaluated, each number once; empty where unknown.
        planned: updates of the whole training; None where unknown.
    """

    algorithm: str
    task: str
    summary: Summary
    by_limit: tuple[Summary, ...]
    p_safe: Bounded
    best: bool
    certain: bool
    steps: tuple[int, ...]
    planned: int | None

    @property
    def safe(self) -> bool:
        """Whether the mean cost is within every limit, and the runs are enough to say so.

        That is: at every limit the mean normalised cost over seeds is at most 1, as a mean over limits can hide one
        that is exceeded; and the lower end of `p_safe` is above one half, so that with 95 % confidence another run is
        more probably safe than not. It takes three runs of three, six of seven or seven of nine; two never suffice.
        """
        return self.summary.safe and self.p_safe.low > 0.5

    @property
    def verdict(self) -> str:
        """`safe`, `unsafe at 10`, or `not shown safe: P(safe) 1.00 [0.43, 1.00]`."""
        if self.summary.unsafe_limits:
            return f"unsafe at {limits_text(self.summary.unsafe_limits)}"
        return "safe" if self.safe else f"not shown safe: P(safe) {self.p_safe.text(2)}"

    @property
    def label(self) -> str:
        """What the figures are of, where that is not the end of the training."""
        if self.planned is None or not self.steps or self.steps == (self.planned,):
            return ""
        return f"after {' and '.join(f'{step:,}' for step in self.steps)} of {self.planned:,} updates"


@dataclass(frozen=True)
class Verdict:
    """One algorithm in one sentence."""

    algorithm: str
    tasks: int
    safe: int
    sentence: str


@dataclass(frozen=True)
class Group:
    """Aggregates over tasks: of a suite, of all tasks, or of those that all algorithms have."""

    name: str
    tasks: tuple[str, ...]
    rows: tuple[Aggregate, ...]


@dataclass(frozen=True)
class Profiles:
    """Performance profiles of all algorithms on the same tasks, or of each on its own where they share none.

    Tasks without reference returns are left out; there may be no other.
    """

    tasks: tuple[str, ...]
    common: bool
    kinds: Mapping[ProfileKind, tuple[Profile, ...]]


@dataclass(frozen=True)
class Report:
    """All of the page.

    Attributes:
        title: of the page.
        made: when.
        version: of the package that made it.
        algorithms: in order of first appearance.
        tasks: in the catalogue's order.
        cells: by task and then by algorithm.
        verdicts: one per algorithm: where it is safe, see `Cell.safe`.
        groups: aggregates across tasks.
        profiles: across tasks.
        panels: learning curves of each task.
        curves_left_out: tasks whose metrics are not drawn, as the page would be too large.
        logged: data sets that are drawn.
        unread: data sets that are not.
        certified: what logs alone say of the policies.
        trainings: which it is all from.
        cautions: what a careful reader should know.
    """

    title: str
    made: datetime
    version: str
    algorithms: tuple[str, ...]
    tasks: tuple[str, ...]
    cells: tuple[Cell, ...]
    verdicts: tuple[Verdict, ...]
    groups: tuple[Group, ...]
    profiles: Profiles
    panels: Mapping[str, Sequence[Panel]]
    curves_left_out: tuple[str, ...]
    logged: tuple[Logged, ...]
    unread: tuple[Unread, ...]
    certified: tuple[Certified, ...]
    trainings: tuple[Training, ...]
    cautions: tuple[Caution, ...]


def gather(paths: Iterable[str | Path], *, title: str | None = None) -> Report:
    """Read folders and derive everything.

    Raises:
        ConfigError: two runs of one name have different configurations, or no folder is given.
        RunError: a folder is missing, damaged, of another kind or without results.
        DataError: results are damaged, incomplete or impossible.
        TaskError: an episode names an unknown task.
    """
    return derive(read_sources(paths), title=title)


def derive(sources: Sources, *, title: str | None = None) -> Report:
    """Everything that follows from what was read.

    Raises:
        DataError: an episode is impossible, see `safetrax.evaluation.episodes.require_possible`.
    """
    trainings = sources.trainings
    algorithms = tuple(dict.fromkeys(name for training in trainings for name in training.algorithms))
    rows: dict[str, list[EpisodeRow]] = defaultdict(list)
    for training in trainings:
        for row in training.rows:
            rows[row.task].append(row)
    names = tuple(sorted(rows, key=_task_order))
    limits = {task: _limits(task, trainings) for task in names}
    scores = [score for task in names for score in run_scores(rows[task], limits[task])]
    cells = tuple(
        cell for task in names for cell in _cells(task, trainings, rows[task], limits[task], algorithms, scores)
    )
    added: list[Caution] = []
    panels = {task: _panels(task, trainings, limits[task], added) for task in names}
    drawn = within_budget(panels)
    logged, unread = read_logged(trainings)
    certified = read_certified(trainings, added)
    return Report(
        title=title or _title(algorithms, names),
        made=datetime.now(UTC),
        version=__version__,
        algorithms=algorithms,
        tasks=names,
        cells=cells,
        verdicts=tuple(_verdict(name, cells, len(algorithms), certified) for name in algorithms),
        groups=tuple(_groups(scores, names)),
        profiles=_profiles(scores),
        panels=drawn,
        curves_left_out=tuple(t for t in names if _has_metrics(panels[t]) and not _has_metrics(drawn[t])),
        logged=tuple(logged),
        unread=tuple(unread),
        certified=certified,
        trainings=trainings,
        cautions=(*sources.cautions, *added, *cautions(trainings, cells, limits, logged)),
    )


def suite_name(task: str) -> str:
    """The suite of a task, for people."""
    suite = get_task(task).suite
    return SUITE_NAMES.get(suite, suite)


def _has_metrics(panels: Sequence[Panel]) -> bool:
    return any(panel.kind == "metric" for panel in panels)


def _panels(
    task: str, trainings: Sequence[Training], limits: Sequence[float], cautions: list[Caution]
) -> list[Panel]:
    """Reward and cost over updates where there are several evaluations, and the metrics of every training."""
    history = [entry for training in trainings for entry in training.history if entry.run.task == task]
    rows: list[MetricRow] = []
    losses: dict[str, tuple[str, ...]] = {}
    for training in trainings:
        file = training.folder / "metrics.csv"
        if task not in (training.trained_for, *training.tasks[:1]) or not file.is_file():
            continue
        try:
            read = read_metrics(file)
        except RunError as error:
            cautions.append(Caution(f"{str(error).rstrip('.')}; its metrics are not shown."))
            continue
        end = f" ({training.label})" if training.label else ""
        rows += [row._replace(algorithm=row.algorithm + end) for row in read] if end else read
        losses |= {name + end: training.losses for name in {row.algorithm for row in read}} | losses
    return [*evaluation_panels(task, history, limits), *metric_panels(rows, losses)]


def _task_order(task: str) -> tuple[int, int, str]:
    """By suite, then as in the catalogue."""
    suite = get_task(task).suite
    number = SUITES.index(suite) if suite in SUITES else len(SUITES)
    catalogue = [entry.name for entry in tasks()]
    return number, catalogue.index(task) if task in catalogue else len(catalogue), task


def _limits(task: str, trainings: Sequence[Training]) -> tuple[float, ...]:
    """Where algorithms that ignore the limit are scored: at the limits of the runs on that task, else the task's."""
    used = {limit for training in trainings if task in training.tasks for limit in training.cost_limits}
    return tuple(sorted(used)) or get_task(task).cost_limits


def _cells(
    task: str,
    trainings: Sequence[Training],
    rows: Sequence[EpisodeRow],
    limits: Sequence[float],
    order: Sequence[str],
    scores: Sequence[RunScore],
) -> list[Cell]:
    """The row of a published table: one task, every algorithm that has it."""
    table = {summary.algorithm: summary for summary in benchmark_table(rows, limits)}
    by_limit = summarise(rows, limits)
    cells = []
    for name in (name for name in order if name in table):
        steps = {row.step for row in rows if row.algorithm == name and row.step is not None}
        planned = [
            training.planned
            for training in trainings
            if training.planned is not None
            and any((row.algorithm, row.task) == (name, task) for row in training.rows)
        ]
        cells.append(
            Cell(
                algorithm=name,
                task=task,
                summary=table[name],
                by_limit=tuple(summary for summary in by_limit if summary.algorithm == name),
                p_safe=_p_safe([score for score in scores if (score.algorithm, score.task) == (name, task)]),
                best=False,
                certain=is_certain(table[name].normalised_cost),
                steps=tuple(sorted(steps)),
                planned=max(planned, default=None),
            )
        )
    best = max((cell.summary.return_.mean for cell in cells if cell.safe), default=math.nan)
    return [replace(cell, best=cell.safe and cell.summary.return_.mean == best) for cell in cells]


def _p_safe(scores: Sequence[RunScore]) -> Bounded:
    runs = RunTable.of(scores)
    safe = runs.unit_means(runs.column("safe"))
    return Bounded(float(safe.mean()), *wilson_interval(float(safe.sum()), len(safe), _CONFIDENCE))


def is_certain(cost: Estimate) -> bool:
    """Whether a mean normalised cost is further from the limit than its standard error, which must be known."""
    return abs(cost.mean - SAFE_UP_TO) > cost.error  # never, for an error of NaN


def _verdict(algorithm: str, cells: Sequence[Cell], algorithms: int, certified: Sequence[Certified]) -> Verdict:
    own = [cell for cell in cells if cell.algorithm == algorithm]
    if not own:
        bounds = [entry.certificate.safe for entry in certified if entry.certificate.policy.algorithm == algorithm]
        return Verdict(algorithm, 0, 0, f"not evaluated; bounded within the limit in {sum(bounds)} of {len(bounds)}.")
    safe = [cell for cell in own if cell.safe]
    unsure = sum(not cell.certain for cell in safe)
    best = sum(cell.best for cell in own)
    parts = [f"safe on {len(safe)} of {len(own)} task{'s' if len(own) > 1 else ''}"]
    if len(own) == 1 and not safe:
        parts = [own[0].verdict]
    if unsure:
        parts.append(f"{'one' if unsure == 1 else unsure} of them within one standard error of the limit")
    if best and algorithms > 1:
        where = "it" if len(own) == 1 else f"{best}"
        parts.append(f"the best safe one on {where}")
    return Verdict(algorithm, len(own), len(safe), f"{', '.join(parts)}.")


def _groups(scores: Sequence[RunScore], names: Sequence[str]) -> list[Group]:
    """All tasks, those that all algorithms have, and each suite; none where no run has episodes."""
    if not scores:
        return []
    groups = [Group("All tasks" if len(names) > 1 else names[0], tuple(names), tuple(aggregates(scores)))]
    common = common_tasks(scores)
    if common and len(common) < len(names):
        kept = [score for score in scores if score.task in common]
        shared = tuple(name for name in names if name in common)
        groups.append(Group("Tasks that all algorithms have", shared, tuple(aggregates(kept))))
    suites = dict.fromkeys(map(suite_name, names))
    for suite in suites if len(suites) > 1 else ():
        kept = [score for score in scores if suite_name(score.task) == suite]
        members = tuple(name for name in names if suite_name(name) == suite)
        groups.append(Group(suite, members, tuple(aggregates(kept))))
    return groups


def _profiles(scores: Sequence[RunScore]) -> Profiles:
    scores = [score for score in scores if score.has_reference_returns]
    if not scores:
        return Profiles((), common=False, kinds={})
    common = bool(common_tasks(scores))
    kept = on_common_tasks(scores) if common else list(scores)
    found = {kind: tuple(performance_profiles(kept, kind, _THRESHOLDS)) for kind in _KINDS if kept}
    return Profiles(tuple(dict.fromkeys(score.task for score in kept)), common, found)


def _title(algorithms: Sequence[str], names: Sequence[str]) -> str:
    left = algorithms[0] if len(algorithms) == 1 else f"{len(algorithms)} algorithms"
    if not names:
        return f"{left}, certified from a log"
    right = names[0] if len(names) == 1 else f"{len(names)} tasks"
    return f"{left} on {right}"
