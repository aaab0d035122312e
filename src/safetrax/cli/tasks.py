"""`safetrax tasks`: the benchmark's tasks, whether they can be simulated here, and which data sets are on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table
from rich.text import Text

from safetrax.catalogue import Task, tasks
from safetrax.cli.console import plain_table, say
from safetrax.cli.doctor import ask_suites
from safetrax.cli.parsing import parse
from safetrax.data.download import FOLDER_VARIABLE, dataset_folder, dataset_path, fault_of, find_dataset, unfinished
from safetrax.progress import size_text

_PROG = "safetrax tasks"
_ABOUT = "List the tasks of the DSRL benchmark: sizes, cost limits, and what of them is on this machine."


@dataclass(frozen=True, kw_only=True)
class TasksOptions:
    """Which tasks."""

    suite: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: all)")] = None
    """Only those of bullet, safety_gymnasium or metadrive."""


def run(argv: list[str]) -> int:
    """List; the exit code."""
    options = parse(TasksOptions, argv, prog=_PROG, description=_ABOUT)
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
    table = plain_table()
    for name in ("task", "suite", "O", "A", "horizon", "limits", "sim", "data"):
        table.add_column(name, justify="right" if name in ("O", "A", "horizon", "limits") else "left", no_wrap=True)
    for task in listed:
        limits = " ".join(f"{limit:g}" for limit in task.cost_limits)
        sizes = str(task.observation_size), str(task.action_size), str(task.horizon)
        table.add_row(task.name, task.suite, *sizes, limits, _simulator(usable[task.suite]), _data(task))
    return table


def _simulator(usable: bool) -> Text:
    return Text("yes", style="green") if usable else Text("no", style="yellow")


def _data(task: Task) -> Text:
    path = dataset_path(task)
    if path.exists():
        whole = not fault_of(path)
        return Text(size_text(path.stat().st_size), style="green") if whole else Text("damaged", style="red")
    return Text("part", style="yellow") if unfinished(path) else Text("no", style="dim")
