"""`safetrax download`: DSRL's data sets, from the internet to the folder where DSRL looks for them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from safetrax.catalogue import Task, catalogued_task, tasks
from safetrax.cli.console import complain, say
from safetrax.cli.parsing import parse, shown
from safetrax.data.download import dataset_path, download
from safetrax.errors import ConfigError, SafeTraXError
from safetrax.progress import make_reporter

_PROG = "safetrax download"


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Get DSRL's data sets, or check those that are there. An interrupted download from the Hugging Face hub goes on
    where it stopped when the command is given again. The exit code is 2 if a data set is missing in the end.
    """

    tasks: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="TASK ...", help_behavior_hint="")]
    """Benchmark tasks; safetrax tasks lists them."""
    suite: Annotated[str | None, shown("NAME", "none")] = None
    """All tasks of bullet, safety_gymnasium or metadrive."""
    all: bool = False
    """All 38 tasks."""
    folder: Annotated[str | None, shown("FOLDER", "$DSRL_DATASET_DIR, else ~/.dsrl/datasets")] = None
    """Where the data sets are and go."""
    offline: bool = False
    """Only check what is there."""
    url: Annotated[str | None, shown("URL", "the known mirrors")] = None
    """A folder on the web that holds DSRL's files under their names, in place of the known mirrors."""
    accept_changed: bool = False
    """Record a file that is not the one that was recorded, instead of refusing it."""


def run(argv: list[str]) -> int:
    """Download; the exit code."""
    options = parse(DownloadOptions, argv, prog=_PROG)
    wanted = _wanted(options)
    try:
        done = [task for task in wanted if _download(task, options)]
    except KeyboardInterrupt:
        say("data sets that are whole are kept; the same command goes on there")
        raise
    if done:
        in_place = options.folder is None
        data = done[0].name if in_place else shlex.quote(str(dataset_path(done[0], options.folder)))
        say(f"next      safetrax train trac --data {data}")
    return 0 if len(done) == len(wanted) else 2


def _wanted(options: DownloadOptions) -> list[Task]:
    named = [catalogued_task(name) for name in options.tasks]
    suite = tasks(options.suite) if options.suite is not None else ()
    wanted = list(dict.fromkeys([*named, *suite, *(tasks() if options.all else ())]))
    if not wanted:
        raise ConfigError(f"{_PROG} needs tasks, for instance: {_PROG} BallCircle; safetrax tasks lists them.")
    return wanted


def _download(task: Task, options: DownloadOptions) -> Path | None:
    """The file; None after a complaint, so that the other tasks have their turn."""
    try:
        path = download(
            task,
            folder=options.folder,
            urls=None if options.url is None else (options.url,),
            offline=options.offline,
            accept_changed=options.accept_changed,
            progress=make_reporter(task.name, True, "bytes", file=sys.stdout, seconds=10.0),
        )
    except ConfigError:  # a fault of the flags, which all tasks share
        raise
    except SafeTraXError as error:
        complain(str(error))
        return None
    say(f"data      {path}")
    return path
