"""One's own results beside the published ones, task by task, with what makes a comparison unfair.

`leaderboard` gives plain data; `rendering.py` writes them as Markdown or JSON, the command line as a table.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetrax.catalogue import Task, get_task, tasks
from safetrax.errors import ConfigError, nearest
from safetrax.leaderboard.own_results import DSRL_DATA, OwnResult, limits_difference, own_results
from safetrax.leaderboard.published import (
    SOURCES,
    PublishedRow,
    PublishedSource,
    get_source,
    published,
    published_algorithms,
    require_suite_name,
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One algorithm on one task, as one or several who agree on the figures say.

    Attributes:
        algorithm: its name.
        cost_limits: over which reward and cost are means; empty if unknown.
        reward: normalised return.
        cost: normalised cost, each by its own limit.
        reward_error: standard error of an own result; None if one sample cannot tell, or it is published.
        cost_error: of the cost, alike.
        safe: whether the cost is at most 1; of an own result, at every limit.
        best: whether it has the highest reward of all safe entries of the task with the same limits and data; False
            where the limits are unknown or there is no other such entry.
        own: whether it is an own result.
        sources: keys in `SOURCES`; of an own result its run folders, as one text.
        data: equal for entries on the same data; "DSRL" for DSRL's.
        differences: what sets data or protocol apart from the benchmark's, in whole sentences.
        remarks: corrections and doubts about the figures, in whole sentences.
    """

    algorithm: str
    cost_limits: tuple[float, ...]
    reward: float
    cost: float
    reward_error: float | None = None
    cost_error: float | None = None
    safe: bool
    best: bool = False
    own: bool
    sources: tuple[str, ...]
    data: str
    differences: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskBoard:
    """All entries of one task: safe ones first, then by falling reward.

    Attributes:
        task: its name.
        suite: its suite.
        entries: at least one.
    """

    task: str
    suite: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Boards of tasks, in the order of the catalogue, and the sources that they quote.

    Attributes:
        boards: tasks without any entry are left out.
        sources: of the published entries, in the order of `SOURCES`.
    """

    boards: tuple[TaskBoard, ...]
    sources: tuple[PublishedSource, ...]


def leaderboard(
    runs: Iterable[str | Path] = (),
    *,
    task_names: Sequence[str] = (),
    suites: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> Leaderboard:
    """Compare own runs with what is published. Ablations are left out: `published` has them.

    Published entries with the same algorithm, limits and figures become one with several sources: papers copy the
    columns of their baselines.

    Args:
        runs: own run folders, or CSV files of episodes.
        task_names: which tasks; empty: those of `suites`, else those of the runs, else all.
        suites: all tasks of these.
        algorithms: which algorithms, own and published, whatever the case; empty: all.
        sources: which keys of `SOURCES`; empty: all.

    Raises:
        TaskError: there is no such task or suite.
        ConfigError: there is no such algorithm or source; the message names the nearest ones.
        RunError: a run folder is missing or damaged, or has no episodes.
        DataError: an episodes file is damaged.
    """
    asked = [get_task(name) for name in task_names]
    for suite in suites:
        require_suite_name(suite)
        asked += tasks(suite)
    keys = {get_source(name).key for name in sources} or set(SOURCES)
    own = own_results(runs)
    wanted = asked or [get_task(result.summary.task) for result in own] or list(tasks())
    names = _algorithms(algorithms, own)
    listed = tasks()
    boards = []
    # tasks that are not of the benchmark come last
    for task in sorted(dict.fromkeys(wanted), key=lambda task: listed.index(task) if task in listed else len(listed)):
        rows = [row for row in published(task=task.name) if row.kind == "result" and row.source in keys]
        entries = _merge(_published_entry(row, task) for row in rows)
        entries += [_own_entry(result) for result in own if result.summary.task == task.name]
        entries = _mark_best([entry for entry in entries if not names or entry.algorithm.casefold() in names])
        if entries:
            entries.sort(key=lambda entry: (not entry.safe, -entry.reward, entry.cost))
            boards.append(TaskBoard(task.name, task.suite, tuple(entries)))
    quoted = {key for board in boards for entry in board.entries if not entry.own for key in entry.sources}
    return Leaderboard(tuple(boards), tuple(source for key, source in SOURCES.items() if key in quoted))


def _algorithms(asked: Iterable[str], own: Iterable[OwnResult]) -> set[str]:
    known = {name.casefold() for name in (*published_algorithms(), *(result.summary.algorithm for result in own))}
    for name in asked:
        if name.casefold() not in known:
            raise ConfigError(f"there is no algorithm {name!r} here; {nearest(name, sorted(known))}")
    return {name.casefold() for name in asked}


def _published_entry(row: PublishedRow, task: Task) -> Entry:
    source = SOURCES[row.source]
    differences = []
    limits = limits_difference(row.cost_limits, task)
    if limits is not None:
        differences.append(limits)
    if source.seeds is None:
        differences.append("The source does not state its number of training seeds.")
    if not source.checkpoint_stated and row.algorithm in source.algorithms:
        differences.append(
            "Perhaps the checkpoint that did best in the environment: the source does not say which one it took. Own "
            "results are the last."
        )
    return Entry(
        algorithm=row.algorithm,
        cost_limits=row.cost_limits,
        reward=row.reward,
        cost=row.cost,
        safe=row.safe,
        own=False,
        sources=(row.source,),
        data=DSRL_DATA,
        differences=tuple(differences),
        remarks=_remarks(row),
    )


def _remarks(row: PublishedRow) -> tuple[str, ...]:
    """One sentence on what is odd about the cell, if anything."""
    if not row.note:
        return ()
    printed = [
        f"the {name} is printed as {wrong:.2f}"
        for name, wrong in (("reward", row.reward_printed), ("cost", row.cost_printed))
        if wrong is not None
    ]
    return (f"{row.source}, {row.table}: {'; '.join([*printed, row.note])}.",)


def _merge(entries: Iterable[Entry]) -> list[Entry]:
    """Entries that say the same become one; whoever is first in `SOURCES` measured it, and the others quote."""
    merged: dict[tuple[object, ...], Entry] = {}
    order = list(SOURCES)
    for entry in sorted(entries, key=lambda entry: order.index(entry.sources[0])):
        key = (entry.algorithm, entry.cost_limits, entry.reward, entry.cost)
        if key in merged:
            first = merged[key]
            entry = replace(first, sources=first.sources + entry.sources, remarks=first.remarks + entry.remarks)
        merged[key] = entry
    return list(merged.values())


def _own_entry(result: OwnResult) -> Entry:
    summary = result.summary
    reward, cost = summary.normalised_return, summary.normalised_cost
    return Entry(
        algorithm=summary.algorithm,
        cost_limits=summary.cost_limits,
        reward=reward.mean,
        cost=cost.mean,
        reward_error=None if math.isnan(reward.error) else reward.error,
        cost_error=None if math.isnan(cost.error) else cost.error,
        safe=summary.safe,
        own=True,
        sources=(result.title,),
        data=result.data,
        differences=result.differences,
    )


def _mark_best(entries: Sequence[Entry]) -> list[Entry]:
    """Like is compared with like: a best one among several of the same known limits and the same data."""
    groups: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.cost_limits, entry.data].append(entry)
    highest = {
        key: max((entry.reward for entry in group if entry.safe), default=math.inf)
        for key, group in groups.items()
        if key[0] and len(group) > 1
    }
    return [
        replace(entry, best=entry.safe and entry.reward == highest.get((entry.cost_limits, entry.data)))
        for entry in entries
    ]
