"""`safetrax tasks`: the benchmark's tasks, whether they can be simulated here, and which data sets are on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from rich.table import Column, Table
from rich.text import Text

from safetrax.catalogue import Task, tasks
from safetrax.cli.console import plain_table, say
from safetrax.cli.doctor import ask_suites
from safetrax.cli.parsing import parse, shown
from safetrax.data.download import FOLDER_VARIABLE, dataset_folder, dataset_path, fault_of, find_dataset, unfinished
from safetrax.progress import size_text

_PROG = "safetrax tasks"


@dataclass(frozen=True, kw_only=True)
class TasksOptions:
    """List the tasks of the DSRL benchmark: sizes, cost limits, and what of them is on this machine."""

    suite: Annotated[str | None, shown("NAME", "all")] = None
    """Only those of bullet, safety_gymnasium or metadrive."""


def run(argv: list[str]) -> int:
    """List; the exit code."""
    options = parse(TasksOptions, argv, prog=_PROG)
    listed = tasks(options.suite)
    status = ask_suites(dict.fromkeys(task.suite for task in listed))
    say(_table(listed, {suite: works for suite, works, _ in status}))
    for _, works, remedy in status:
        if not works:
            say(f"sim       {remedy}")
    there = sum(find_dataset(task) is not None for task in listed)
    say(f"data      {there} of {len(listed)} in {dataset_folder()} (set {FOLDER_VARIABLE} for another folder)")
    say("get them  safetrax download TASK ..., or --suite NAME, or --all")
    return 0


def _table(listed: Iterable[Task], usable: Mapping[str, bool]) -> Table:
    """One line per task, 80 columns wide."""
    left, right = partial(Column, no_wrap=True), partial(Column, no_wrap=True, justify="right")
    numbers = map(right, ("O", "A", "horizon", "limits"))
    table = plain_table("", left("task"), left("suite"), *numbers, left("sim"), left("data"))
    for task in listed:
        limits = " ".join(f"{limit:g}" for limit in task.cost_limits)
        sizes = str(task.observation_size), str(task.action_size), str(task.horizon)
        simulator = Text("yes", style="green") if usable[task.suite] else Text("no", style="yellow")
        table.add_row(task.name, task.suite, *sizes, limits, simulator, _data(task))
    return table


def _data(task: Task) -> Text:
    path = dataset_path(task)
    if path.exists():
        whole = not fault_of(path)
        return Text(size_text(path.stat().st_size), style="green") if whole else Text("damaged", style="red")
    return Text("part", style="yellow") if unfinished(path) else Text("no", style="dim")
