"""`safetrax inspect`: what is in a data set, what is wrong with it, and how TraC would label it."""

from __future__ import annotations

import itertools
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from rich.table import Column, Table
from rich.text import Text

from safetrax.cli.console import plain_table, say
from safetrax.cli.open_log import cell_lines
from safetrax.cli.parsing import Filters, LabelWords, parse, shown
from safetrax.data import Trajectories, get_task, load, validate, write_hdf5
from safetrax.data.filters import Filter, filter_lines, filter_steps, parse_filters
from safetrax.data.gaps import missing
from safetrax.data.labels import SAFE, UNSAFE, count_text
from safetrax.data.segments import Ratio, check_cost_limits, within_limit
from safetrax.data.trajectories import NoCostsError
from safetrax.errors import ConfigError
from safetrax.files import exact
from safetrax.spaces import described

if TYPE_CHECKING:
    from safetrax.algorithms.base import Usage
    from safetrax.algorithms.trac import TraC

_PROG = "safetrax inspect"
_right = partial(Column, justify="right")
_PRESET = shown("FLOAT", "TraC's for the task")
_ABOUT = f"""Look at a data set before training on it. The exit code is 2 if it has errors that forbid training.

filters:
{filter_lines()}

A filter's other settings follow as KEY=VALUE, for instance outliers:0.05,cost-limit=20,seed=3. A filter that needs a
cost limit takes that of --cost-limits if it is one. docs/filters.md tells all."""


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """What to look at, and how to label it."""

    data: Annotated[tyro.conf.Positional[str], shown("PATH|TASK|demo")]
    """A data set (HDF5, NPZ, Parquet, CSV, Minari), a task whose file was downloaded, or demo, which ships along."""
    labels: LabelWords = ()
    """Which episodes somebody calls safe or unsafe, as in safetrax train."""
    task: Annotated[str | None, shown("NAME", "as the data's file name says")] = None
    """Benchmark task to check the data against."""
    cost_limits: Annotated[tuple[float, ...], shown("COST [COST ...]", "the task's")] = ()
    """Limits on the cost of an episode."""
    filters: Filters = ()
    """Apply these first, in this order, and show the data before and after each; as in safetrax train."""
    top: Annotated[float | None, _PRESET] = None
    """Share of the safe segments that is desirable, as in safetrax train trac."""
    bottom: Annotated[float | None, _PRESET] = None
    """Share of the safe segments that is undesirable."""
    segment_ratio: Annotated[Ratio | None, shown("FLOAT|whole", "TraC's for the task")] = None
    """Segment length over the longest episode's; whole: every episode as it is."""
    figure: Annotated[str | None, shown("FILE.png", "none")] = None
    """Draw the segments by cost and return, labelled, one panel per limit; before the filters in a faint grey."""
    save: Annotated[str | None, shown("FILE.hdf5", "none")] = None
    """Write the filtered data set, in DSRL's format."""


def run(argv: list[str]) -> int:
    """Inspect; the exit code."""
    options = parse(InspectOptions, argv, prog=_PROG, description=_ABOUT)
    filters = _check(options)
    # a file that is saved is for other tools, which may need next observations
    following, labels = options.save is not None, options.labels or None
    raw = load(options.data, task=options.task, next_observations=following, labels=labels, progress=True)
    say(_sizes(raw), _counts(raw))
    if not _say_findings(raw) and not filters:
        return 2
    task = raw.info.get("task")
    limits = options.cost_limits or (get_task(task).cost_limits if task else ())
    rule = _rule(options, task)
    if options.figure is not None and not limits:
        raise ConfigError("no task names cost limits for this data set; pass --cost-limits for the figure.")
    data = _filtered(raw, filters, limits)
    if filters and not _say_findings(data, "after the filters: "):
        return 2
    if data.labels is not None:
        _say_usage(replace(rule, label_source="labels").usage(data, math.inf))
    if data.costs is None:
        say("", "There are no costs to hold against a limit.")
    elif limits:
        _say_labels(data, limits, rule)
    else:
        say("", "No task names cost limits for this data set; pass --cost-limits to see how it would be labelled.")
    if options.figure is not None and data.costs is None:
        raise NoCostsError(f"the figure shows episodes by cost, and {data.without_costs}.")
    if options.figure is not None:
        from safetrax.charts.drawing import save
        from safetrax.data.segment_chart import segment_chart

        chart = segment_chart(
            data,
            limits,
            ratio=rule.segment_ratio,
            top=rule.top,
            bottom=rule.bottom,
            include_short=rule.short_episodes,
            before=raw if filters and not missing(raw) else None,
        )
        say(f"figure    {save(chart, options.figure)}")
    if options.save is not None:
        _save(data, options.save)
    _say_next(options, filters, task, _learner(data))
    return 0


def _check(options: InspectOptions) -> tuple[Filter, ...]:
    """Find faults of the flags before a large file is read; the filters."""
    _rule(options, options.task)
    check_cost_limits(options.cost_limits)
    if options.figure is not None:
        from safetrax.charts.drawing import check_figure_path

        check_figure_path(options.figure)
    if options.save is not None:
        if Path(options.save).suffix not in (".hdf5", ".h5"):
            raise ConfigError(f"cannot save as {options.save}: its name must end in .hdf5 or .h5.")
        if Path(options.save).resolve() == Path(options.data).resolve():
            raise ConfigError(f"--save {options.save} is the data set that is read; choose another name.")
    return parse_filters(options.filters, options.cost_limits)


def _say_findings(data: Trajectories, prefix: str = "") -> bool:
    """Say what is wrong with a data set; False if it cannot be trained on."""
    findings = validate(data)
    for finding in findings:
        say(f"{prefix}{finding.severity}: {finding.message}")
    if not findings:
        say(f"{prefix}no faults found")
    return all(finding.severity != "error" for finding in findings)


def _filtered(raw: Trajectories, filters: Sequence[Filter], limits: Sequence[float]) -> Trajectories:
    """The data set after the filters; a table tells what each did."""
    if not filters:
        return raw
    headings = ["episodes", "transitions", *(f"safe at {exact(limit)}" for limit in limits)]
    counts = plain_table("filters, one after the other", Column(overflow="fold"), *map(_right, headings))
    spreads = plain_table("min, median, max", Column(overflow="fold"), *map(_right, _per_episode(raw)))
    found: list[str] = []
    labels = ["as read", *map(str, filters)]
    for label, data in zip(labels, itertools.chain([raw], filter_steps(raw, filters)), strict=True):
        costs = data.scored_cost_returns
        safe = [
            "-" if costs is None or np.isnan(costs).any() else f"{within_limit(costs, limit).sum():,}"
            for limit in limits
        ]
        counts.add_row(label, f"{data.num_episodes:,}", f"{data.num_transitions:,}", *safe)
        ends = [(values.min(), np.median(values), values.max()) for values in _per_episode(data).values()]
        spreads.add_row(label, *(", ".join(f"{x:.5g}" for x in numbers) for numbers in ends))
        found += cell_lines(data) if data is not raw else []
    say("", counts, spreads, *found)
    return data


def _save(data: Trajectories, path: str) -> None:
    info = data.info
    facts = {key: str(info[key]) for key in ("source", "sha256", "task") if info.get(key)}
    write_hdf5(path, data, attributes={**facts, "filters": json.dumps(info.get("filters", []))})
    missing = " (without next_observations, which the source does not have)" if data.next_observations is None else ""
    say(f"saved     {path}{missing}")


def _rule(options: InspectOptions, task: str | None) -> TraC:
    """TraC's settings for the task's suite, and above them what was given."""
    from safetrax.algorithms.trac import TraC

    preset = TraC() if task is None else TraC.preset(get_task(task).suite)
    preset = replace(preset, label_source="costs")  # of labels it tells apart
    names = ("top", "bottom", "segment_ratio")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return replace(preset, **given)


def _sizes(data: Trajectories) -> Table:
    info = data.info
    name = info.get("source") or "data set"
    title = f"{name} ({info['task']})" if info.get("task") else str(name)
    table = plain_table(title, "", *map(_right, ("min", "median", "max")))
    for heading, values in _per_episode(data).items():
        table.add_row(heading, *(f"{x:.6g}" for x in (values.min(), np.median(values), values.max())))
    return table


def _per_episode(data: Trajectories) -> dict[str, np.ndarray]:
    costs = data.scored_cost_returns
    found = {"episode length": data.lengths, "episode return": data.returns}
    return found if costs is None else {**found, "episode cost": costs}


def _counts(data: Trajectories) -> str:
    ended = int(np.count_nonzero(data.terminated))
    parts, choices = described(data.observation_parts), data.action_choices
    actions = f"that are one of {choices} choices" if choices else f"of {data.action_size}"
    return (
        f"{data.num_episodes:,} episodes ({ended:,} terminated, {data.num_episodes - ended:,} truncated), "
        f"{data.num_transitions:,} transitions, observations of {data.observation_size} numbers"
        f"{': ' * bool(parts)}{parts}, "
        f"actions {actions}"
        f"{'' if data.costs is not None else ', no costs'}"
        f"{'' if data.labels is None else f'; labels: {count_text(data.labels)}'}"
    )


def _say_usage(usage: Usage) -> None:
    say("", f"TraC from {usage}", *(f"warning: {sentence}" for sentence in usage.warnings))


def _say_labels(data: Trajectories, limits: tuple[float, ...], rule: TraC) -> None:
    found = [rule.usage(data, limit) for limit in limits]
    headings = ("limit", "safe episodes", "best safe return", "desirable", "undesirable", "unused segments")
    title = f"labels (top {rule.top:g}, bottom {rule.bottom:g}, {found[0].unit})"
    table = plain_table(title, *map(_right, headings))
    for limit, usage in zip(limits, found, strict=True):
        safe = within_limit(data.cost_returns, limit)
        best = f"{data.returns[safe].max():.6g}" if safe.any() else "-"
        counts = [
            f"{count:,}" if count or name == "unused" else Text("none", style="bold red")
            for name, count in usage.counts.items()
        ]
        table.add_row(exact(limit), f"{safe.sum():,} ({safe.mean():.1%})", best, *counts)
    shares = ", ".join(
        f"{usage.share:.1%} at limit {exact(limit)}" for limit, usage in zip(limits, found, strict=True)
    )
    say("", table, f"steps of the log in desirable and undesirable segments: {shares}")
    for sentence in dict.fromkeys(sentence for usage in found for sentence in usage.warnings):
        say(f"warning: {sentence}")


def _learner(data: Trajectories) -> str:
    """The word of an algorithm that can be trained on it."""
    if data.costs is not None or {SAFE, UNSAFE} <= set(data.marks.tolist()):
        return "trac"
    return "bc-safe" if SAFE in data.marks else "iql"


def _say_next(options: InspectOptions, filters: Sequence[Filter], task: str | None, learner: str) -> None:
    saved = options.save is not None
    named = task if saved else options.task  # the name of a new file does not tell the task
    flags = "" if named is None else f" --task {named}"
    if options.cost_limits:
        flags += f" --cost-limits {' '.join(map(exact, options.cost_limits))}"
    if options.labels and not saved:
        flags += f" --labels {shlex.join(options.labels)}"
    if filters and not saved:
        flags += f" --filters {shlex.join(map(str, filters))}"
    say(f"next      safetrax train {learner} --data {shlex.quote(options.save or options.data)}{flags}")
