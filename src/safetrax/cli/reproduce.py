"""`safetrax reproduce`: a paper's table or figure by its name, from the grid to the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from safetrax.cli.benchmark import BenchmarkOptions, grid_of, run_jobs
from safetrax.cli.console import complain, plain_table, say
from safetrax.cli.parsing import parse, shown
from safetrax.errors import ConfigError, look_up
from safetrax.progress import duration

if TYPE_CHECKING:
    from safetrax.grid.grid import Job

_PROG = "safetrax reproduce"


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Run a table or figure of the papers of TraC, LSPC, BARS or DSPO: its grid, its figure, and whether the results
    bear out what the paper finds there.

    The same command goes on where it stopped, as safetrax benchmark does; the folder is a benchmark's, which status,
    report and leaderboard read. NAME.md in it has the finding, the verdict with its intervals and what sets the runs
    apart from the paper's.

    example:
      safetrax reproduce trac-eta --data DATA --tasks BallRun --out reproduced/trac-eta
    """

    name: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("NAME", "none")] = ()
    """Such as trac-eta or bars-table-1."""
    list: bool = False
    """Print all names with what the papers find, and run nothing."""
    data: Annotated[str, shown("FOLDER|dsrl|demo")] = "dsrl"
    """Folder of data sets, each named after its task as DSRL's are; dsrl: DSRL's own, where download puts them."""
    schedule: Literal["fast", "published"] = "fast"
    """fast: settings for minutes on two cores; published: the papers' updates."""
    set: Annotated[tuple[str, ...], shown("ALGORITHM[@TASK].SETTING=VALUE ...", "the schedule's")] = ()
    """Settings that differ from these, such as trac.updates=800; the page says so."""
    tasks: Annotated[tuple[str, ...], shown("NAME|SUITE ...", "the paper's")] = ()
    """Instead of the paper's, for instance those that there are data of."""
    cost_limits: Annotated[tuple[float, ...], shown("COST ...", "the paper's")] = ()
    """Instead of the paper's."""
    seeds: Annotated[tuple[int, ...], shown("INT ...", "0 10 20")] = ()
    """Of the training; fewer than three decide nothing."""
    out: Annotated[str | None, shown("FOLDER", "reproduced/NAME")] = None
    """Where everything is kept."""
    workers: Annotated[int | None, shown("INT", "one per processor")] = None
    """Jobs side by side."""
    retry: bool = False
    """Run failed jobs again."""


def run(argv: list[str]) -> int:
    """Run, judge and draw; the exit code."""
    options = parse(ReproduceOptions, argv, prog=_PROG)
    if options.list:
        return _list()
    if len(options.name) != 1:
        raise ConfigError(f"{_PROG} takes one name, not {len(options.name)}; {_PROG} --list shows all.")
    from safetrax.catalogue import get_task
    from safetrax.grid.benchmark_folder import BenchmarkFolder
    from safetrax.grid.experiments import EXPERIMENTS
    from safetrax.report.reproduction import write_reproduction

    (name,) = options.name
    experiment = look_up(name, EXPERIMENTS, "table or figure")
    if experiment.filters and len(options.cost_limits) > 1:
        raise ConfigError(
            f"the data of {name} are filtered by a cost limit, so --cost-limits takes one, not "
            f"{len(options.cost_limits)}; run it once for each, in a folder of its own."
        )
    grid = BenchmarkOptions(
        out=options.out or f"reproduced/{name}",
        algorithms=experiment.algorithms,
        ablations=experiment.ablations,
        tasks=options.tasks or experiment.tasks,
        data=None if options.data == "dsrl" else options.data,
        filters=experiment.filters,
        protocol=experiment.protocol,
        cost_limits=options.cost_limits or experiment.cost_limits,
        seeds=options.seeds,
        schedule=options.schedule,
        set=options.set,
        retry=options.retry,
        workers=options.workers,
    )
    jobs = grid_of(grid).jobs()
    for task in dict.fromkeys(job.task for job in jobs):
        if not get_task(task).has_reference_returns:
            raise ConfigError(
                f"{task} has no reference returns, by which the papers' rewards are normalised; name other tasks."
            )
    say(f"{experiment.source}: {experiment.finding}")
    _announce(jobs, options)
    code = run_jobs(jobs, grid)
    whole, files = write_reproduction(BenchmarkFolder.open(grid.out), name, experiment, jobs)
    say(f"verdict   {whole.sentence}", f"written   {', '.join(map(str, files))}")
    return code


def _announce(jobs: Sequence[Job], options: ReproduceOptions) -> None:
    """What is about to run, how long it may take, and whether it can decide anything."""
    from safetrax.grid.expected import expected
    from safetrax.grid.local import lanes
    from safetrax.report.verdicts import SEEDS

    places = len(lanes(options.workers, 0, len(jobs)))
    found = expected(jobs, places, fast=options.schedule == "fast")
    left_out = f", without {', '.join(found.unknown)}, which nobody has measured" if found.unknown else ""
    say(
        f"schedule  {options.schedule}: {len(jobs)} jobs, {places} side by side, about {duration(found.seconds)} of "
        f"training if none is done{left_out}; a factor of three either way is possible"
    )
    seeds = len(jobs[0].seeds)
    if seeds < SEEDS:
        complain(f"a verdict needs at least {SEEDS} seeds, and this has {seeds}.", kind="warning: ")


def _list() -> int:
    from safetrax.grid.experiments import EXPERIMENTS

    table = plain_table("", "name", "is", "on", "the paper finds")
    for name, experiment in EXPERIMENTS.items():
        table.add_row(name, experiment.source, ", ".join(experiment.tasks), experiment.finding)
    say(table)
    return 0
