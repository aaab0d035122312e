"""`safetrax inspect`: what is in a data set, what is wrong with it, and how TraC would label it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text

from safetrax.cli.console import say
from safetrax.cli.parsing import parse
from safetrax.cli.plain import plain_table
from safetrax.data import Trajectories, get_task, load, validate
from safetrax.data.segments import check_cost_limits, segment_length, within_limit
from safetrax.errors import DataError

if TYPE_CHECKING:
    from safetrax.algorithms.trac import TraC

_PROG = "safetrax inspect"
_PRESET = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: TraC's for the task)")
_ABOUT = "Look at a data set before training on it. The exit code is 2 if it has errors that forbid training."


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """What to look at, and how to label it."""

    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATH|demo")]
    """An HDF5 file in DSRL's format, or demo: the small data set that ships with the package."""
    task: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: as the data's file name says)")
    ] = None
    """Benchmark task to check the data against."""
    cost_limits: Annotated[
        tuple[float, ...], tyro.conf.arg(metavar="COST [COST ...]", help_behavior_hint="(default: the task's)")
    ] = ()
    """Limits on the cost of an episode."""
    top: Annotated[float | None, _PRESET] = None
    """Share of the safe segments that is desirable, as in safetrax train trac."""
    bottom: Annotated[float | None, _PRESET] = None
    """Share of the safe segments that is undesirable."""
    segment_ratio: Annotated[float | None, _PRESET] = None
    """Segment length over the longest episode's."""
    figure: Annotated[str | None, tyro.conf.arg(metavar="FILE.png", help_behavior_hint="(default: none)")] = None
    """Draw the episodes by cost and return, labelled, one panel per limit."""


def run(argv: list[str]) -> int:
    """Inspect; the exit code."""
    options = parse(InspectOptions, argv, prog=_PROG, description=_ABOUT)
    _check(options)
    data = load(options.data, task=options.task)
    findings = validate(data)
    say(_sizes(data), _counts(data))
    for finding in findings:
        say(f"{finding.severity}: {finding.message}")
    if not findings:
        say("no faults found")
    if any(finding.severity == "error" for finding in findings):
        return 2
    task = data.info.get("task")
    limits = options.cost_limits or (get_task(task).cost_limits if task else ())
    rule = _rule(options, task)
    if limits:
        say("", _labels(data, limits, rule))
    else:
        say("", "No task names cost limits for this data set; pass --cost-limits to see how it would be labelled.")
    if options.figure is not None:
        from safetrax.report.plots import cost_return_scatter

        shares = {"top": rule.top, "bottom": rule.bottom, "floor": rule.weight_floor}
        say(f"figure    {cost_return_scatter(data, limits, options.figure, **shares)}")
    _say_next(options)
    return 0


def _check(options: InspectOptions) -> None:
    """Find faults of the flags before a large file is read."""
    _rule(options, options.task)
    check_cost_limits(options.cost_limits)
    if options.figure is not None:
        from safetrax.report.plots import check_figure_path

        check_figure_path(options.figure)


def _rule(options: InspectOptions, task: str | None) -> TraC:
    """TraC's settings for the task's suite, and above them what was given."""
    from safetrax.algorithms.trac import TraC

    preset = TraC() if task is None else TraC.preset(get_task(task).suite)
    names = ("top", "bottom", "segment_ratio")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return replace(preset, **given)


def _sizes(data: Trajectories) -> Table:
    info = data.info
    name = info.get("source") or "data set"
    table = plain_table(f"{name} ({info['task']})" if info.get("task") else str(name))
    table.add_column("")
    for heading in ("min", "median", "max"):
        table.add_column(heading, justify="right")
    for heading, values in (
        ("episode length", data.lengths),
        ("episode return", data.returns),
        ("episode cost", data.cost_returns),
    ):
        table.add_row(heading, *(f"{x:.6g}" for x in (values.min(), np.median(values), values.max())))
    return table


def _counts(data: Trajectories) -> str:
    ended = int(np.count_nonzero(data.terminated))
    return (
        f"{data.num_episodes:,} episodes ({ended:,} terminated, {data.num_episodes - ended:,} truncated), "
        f"{data.num_transitions:,} transitions, observations of {data.observation_size} numbers, "
        f"actions of {data.action_size}"
    )


def _labels(data: Trajectories, limits: tuple[float, ...], rule: TraC) -> Table:
    length = segment_length(rule.segment_ratio, data.max_length)
    table = plain_table(f"labels (top {rule.top:g}, bottom {rule.bottom:g}, segments of {length} steps)")
    table.add_column("limit", justify="right")
    for heading in ("safe episodes", "best safe return", "desirable", "undesirable", "unused segments"):
        table.add_column(heading, justify="right")
    for limit in limits:
        safe = within_limit(data.cost_returns, limit)
        best = f"{data.returns[safe].max():.6g}" if safe.any() else "-"
        share = f"{safe.sum():,} ({safe.mean():.1%})"
        table.add_row(f"{limit:g}", share, best, *_segment_counts(data, limit, rule))
    return table


def _segment_counts(data: Trajectories, limit: float, rule: TraC) -> tuple[str | Text, ...]:
    try:
        segments = rule.segments(data, limit)
    except DataError:  # no segment is safe at this limit; others may be
        return Text("none", style="bold red"), "-", "-"
    desirable = int(segments.desirable.sum())
    labelled = segments.desirable.size
    return f"{desirable:,}", f"{labelled - desirable:,}", f"{segments.num_windows - labelled:,}"


def _say_next(options: InspectOptions) -> None:
    flags = "" if options.task is None else f" --task {options.task}"
    if options.cost_limits:
        flags += f" --cost-limits {' '.join(f'{limit:g}' for limit in options.cost_limits)}"
    say(f"next      safetrax train trac --data {shlex.quote(options.data)}{flags}")
