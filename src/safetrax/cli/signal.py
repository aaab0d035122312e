"""`safetrax signal`: which episodes a run of DSPO takes for safe, and how often that is right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from rich.table import Column, Table

from safetrax.cli.console import plain_table, say
from safetrax.cli.open_log import open_log
from safetrax.cli.parsing import Filters, LabelWords, parse, shown
from safetrax.data import Trajectories, get_task
from safetrax.data.labels import SAFE
from safetrax.data.segments import check_cost_limits, within_limit
from safetrax.data.trajectories import NoCostsError
from safetrax.errors import ConfigError
from safetrax.evaluation.detection import Detection, detection, found_by_one_alone
from safetrax.files import exact

if TYPE_CHECKING:
    from safetrax.charts.drawing import Chart

_PROG = "safetrax signal"
_KINDS = ("found here alone", "demonstration", "taken for safe", "other")
_SHOWN = 8  # episodes that are listed


@dataclass(frozen=True, kw_only=True)
class SignalOptions:
    """Show the safety signal D of runs of DSPO on a log: how many of its episodes each takes for safe (D of at least
    0.5), and, where the log has costs, which of these are. Episodes that are marked safe are left out of all numbers.
    """

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("FOLDER ...")]
    """Run folders of DSPO."""
    data: Annotated[str, shown("PATH|TASK|demo")]
    """The log that they were trained on, or another one of its kind."""
    filters: Filters = ()
    """Applied to the log first, as in safetrax train."""
    labels: LabelWords = ()
    """Which episodes somebody calls safe or unsafe, as in safetrax train."""
    task: Annotated[str | None, shown("NAME", "as the data's file name says")] = None
    """Benchmark task that the log is of."""
    cost_limit: Annotated[float | None, shown("FLOAT", "the task's middle one")] = None
    """An episode is safe up to this cost."""
    figure: Annotated[str | None, shown("FILE.png", "none")] = None
    """Draw the episodes by cost and return, one panel per run."""


def run(argv: list[str]) -> int:
    """Show; the exit code."""
    options = parse(SignalOptions, argv, prog=_PROG)
    if not options.runs:
        raise ConfigError(f"{_PROG} needs folders of runs of DSPO, for instance: {_PROG} runs/dspo --data LOG")
    limits = () if options.cost_limit is None else (options.cost_limit,)
    check_cost_limits(limits)
    if options.figure is not None:
        from safetrax.charts.drawing import check_figure_path, save

        check_figure_path(options.figure)
    data = open_log(
        options.data, task=options.task, filters=options.filters, cost_limits=limits, labels=options.labels
    )
    costs = data.scored_cost_returns
    if options.figure is not None and costs is None:
        raise NoCostsError(f"the figure shows episodes by cost, and {data.without_costs}.")
    asked = data.marks != SAFE
    if not asked.any():
        raise ConfigError("every episode of the log is marked safe, so there is none to ask about.")
    limit = 0.0 if costs is None else _limit(options, data)
    from safetrax.training.generated import safety_signal

    signals = [np.asarray(safety_signal(folder, data), np.float64) for folder in options.runs]
    if costs is None:
        say(_counts(options.runs, signals, data))
        return 0
    safe = within_limit(costs, limit)
    rows = [detection(signal[asked], safe[asked], data.returns[asked]) for signal in signals]
    say(_table(options.runs, rows, int(asked.sum()), int(safe[asked].sum()), limit))
    for place, folder in enumerate(options.runs):
        found = found_by_one_alone(signals, place, asked & safe)
        if len(options.runs) > 1 and len(found):
            say(
                f"safe, and found by {folder} alone: {found.size:,} episodes",
                _episodes(found, signals, data, options.runs),
            )
    if options.figure is not None:
        say(f"figure    {save(_chart(options.runs, signals, data, costs, asked, limit), options.figure)}")
    return 0


def _limit(options: SignalOptions, data: Trajectories) -> float:
    if options.cost_limit is not None:
        return options.cost_limit
    task = data.info.get("task")
    limits = get_task(task).cost_limits if task else ()
    if not limits:
        raise ConfigError("no task names cost limits for this log; pass --cost-limit.")
    return limits[len(limits) // 2]


_right = partial(Column, justify="right")


def _counts(runs: tuple[str, ...], signals: list[np.ndarray], data: Trajectories) -> Table:
    table = plain_table(
        "the log has no costs to hold D against", "run", *map(_right, ("taken for safe", "of", "median D"))
    )
    asked = data.marks != SAFE
    for folder, signal in zip(runs, signals, strict=True):
        table.add_row(
            folder, f"{(signal[asked] >= 0.5).sum():,}", f"{asked.sum():,}", f"{np.median(signal[asked]):.2f}"
        )
    return table


def _table(runs: tuple[str, ...], rows: list[Detection], asked: int, safe: int, limit: float) -> Table:
    title = f"{asked:,} episodes that are not marked safe, {safe:,} of them within {exact(limit)}"
    names = ("AUC", "accuracy", "recall", "precision", "F1", "correlation with return")
    table = plain_table(title, "run", *map(_right, names))
    for folder, row in zip(runs, rows, strict=True):
        table.add_row(folder, *(f"{value:.2f}" if np.isfinite(value) else "-" for value in row))
    return table


def _episodes(found: np.ndarray, signals: list[np.ndarray], data: Trajectories, runs: tuple[str, ...]) -> Table:
    table = plain_table(
        "", _right("episode"), *map(_right, ("cost", "return", *(f"D of {folder}" for folder in runs)))
    )
    costs = data.scored_cost_returns
    assert costs is not None
    for episode in found[:_SHOWN]:
        numbers = (costs[episode], data.returns[episode])
        table.add_row(f"{episode}", *(f"{x:.4g}" for x in numbers), *(f"{signal[episode]:.2f}" for signal in signals))
    return table


def _chart(
    runs: tuple[str, ...],
    signals: list[np.ndarray],
    data: Trajectories,
    costs: np.ndarray,
    asked: np.ndarray,
    limit: float,
) -> Chart:
    """Figure 5 of the paper, on a whole log."""
    from safetrax.charts.drawing import beside
    from safetrax.charts.panels import segments

    panels = []
    for place, (folder, signal) in enumerate(zip(runs, signals, strict=True)):
        alone = np.zeros(len(signal), bool)
        if len(runs) > 1:
            alone[found_by_one_alone(signals, place, asked & within_limit(costs, limit))] = True
        kind = np.select([alone, ~asked, signal >= 0.5], [0, 1, 2], 3)
        kinds = {number: name for number, name in enumerate(_KINDS) if number or len(runs) > 1}
        panels.append(segments(costs, data.returns, kind, limit, kinds=kinds, unit="episode", title=folder))
    return beside(panels, own_legends=True)
