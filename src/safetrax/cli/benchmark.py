"""`safetrax benchmark`: a grid of algorithms, tasks, limits and seeds, resumable; and how far it is."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from safetrax.cli.console import complain, plain_table, say, write
from safetrax.cli.parsing import Filters, parse, shown
from safetrax.errors import ConfigError
from safetrax.files import exact
from safetrax.progress import Display, duration

if TYPE_CHECKING:
    from safetrax.grid.benchmark_folder import BenchmarkFolder, State
    from safetrax.grid.grid import Grid, Job
    from safetrax.grid.status import Status

_PROG = "safetrax benchmark"
_LINES_SECONDS = 30.0  # between two lines where there is no terminal


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Train and evaluate a grid: algorithms x tasks x cost limits x seeds.

    The same command goes on where it stopped. All limits and seeds of an algorithm on a task are one job, trained in
    one compiled program; a job that fails is recorded, and the others go on.

    safetrax benchmark status FOLDER              what is done, running and failed, and the time left
    safetrax benchmark export FOLDER --out FILE   all episodes in one Parquet file
    safetrax benchmark names                      protocols, ablations and suites

    example:
      safetrax benchmark --algorithms trac bc-safe --tasks bullet --data DATA --out runs/first
    """

    grid: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("[GRID.toml]")] = ()
    """A file with the same settings: algorithms, tasks, data, protocol, ...; it stands first, flags overrule it."""
    out: Annotated[str, shown("FOLDER")]
    """Where results, runs and the state of each job are kept."""
    algorithms: Annotated[tuple[str, ...], shown("NAME ...", "none")] = ()
    """As in safetrax train, such as trac and bc-safe."""
    tasks: Annotated[tuple[str, ...], shown("NAME|SUITE ...", "none")] = ()
    """Tasks, or suites for all of theirs: bullet, safety_gymnasium, metadrive."""
    ablations: Annotated[tuple[str, ...], shown("NAME ...", "none")] = ()
    """Such as trac-eta; safetrax benchmark names lists them."""
    data: Annotated[str | None, shown("FOLDER|demo", "where download puts them")] = None
    """Folder of the data sets, each named after its task as DSRL's are."""
    filters: Filters = ()
    """Applied to all data first, in this order; safetrax inspect --help lists them."""
    protocol: Annotated[str | None, shown("NAME", "dsrl")] = None
    """Limits, seeds and episodes."""
    cost_limits: Annotated[tuple[float, ...], shown("COST ...", "the protocol's")] = ()
    """Instead of the protocol's."""
    seeds: Annotated[tuple[int, ...], shown("INT ...", "the protocol's")] = ()
    """Instead of the protocol's."""
    episodes: Annotated[int | None, shown("INT", "the protocol's")] = None
    """Instead of the protocol's, per policy."""
    evaluate_every: Annotated[int | None, shown("INT", "0")] = None
    """Updates between evaluations while training, for learning curves; 0: none."""
    schedule: Annotated[Literal["published", "fast"] | None, shown("{published,fast}", "published")] = None
    """fast: settings for minutes on two cores; safetrax train --help tells of it."""
    set: Annotated[tuple[str, ...], shown("ALGORITHM[@TASK].SETTING=VALUE ...", "the presets")] = ()
    """Settings that differ from the published ones, such as trac.updates=2000."""
    retry: bool = False
    """Run failed jobs again."""
    workers: Annotated[int | None, shown("INT", "one per processor, or per card")] = None
    """Jobs side by side on this computer."""
    gpus: int = 0
    """Graphics cards of this computer to use; with Ray, cards per job."""
    executor: Literal["local", "ray"] = "local"
    """Where jobs run."""
    ray_address: Annotated[str | None, shown("ADDRESS", "a cluster on this computer")] = None
    """Join this Ray cluster: host:port, or auto for the one of this computer."""
    job_cpus: int = 1
    """Processors per job. Results are the same, to the last bit, for the same number of them."""
    job_memory: float = 2.0
    """With Ray: GiB of memory per job, beside its data set."""


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """How far a benchmark is."""

    folder: Annotated[tyro.conf.Positional[str], shown("FOLDER")]
    """Its folder."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkExportOptions:
    """All episodes in one Parquet file."""

    folder: Annotated[tyro.conf.Positional[str], shown("FOLDER")]
    """Folder of the benchmark."""
    out: Annotated[str, shown("FILE.parquet")]
    """One row per episode, of all evaluations of the jobs that are done."""


def run(argv: list[str]) -> int:
    """Run a grid, or say how far one is; the exit code."""
    if argv[:1] == ["status"]:
        return _status(argv[1:])
    if argv[:1] == ["export"]:
        return _export(argv[1:])
    if argv[:1] == ["names"]:
        return _names()
    options = parse(BenchmarkOptions, argv, prog=_PROG)
    return run_jobs(grid_of(options).jobs(), options)


def parse_settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings by algorithm, or algorithm@task, out of words such as `trac.updates=2000`.

    Raises:
        ConfigError: a word has another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        left, equals, text = word.partition("=")
        owner, dot, name = left.rpartition(".")
        if not (equals and dot and owner and name and text):
            raise ConfigError(
                f"--set cannot take {word!r}; write ALGORITHM.SETTING=VALUE, such as trac.updates=2000."
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = {"True": True, "False": False}.get(text, text)  # a word needs no quotes
        found.setdefault(owner, {})[name.replace("-", "_")] = value
    return found


def run_jobs(jobs: Sequence[Job], options: BenchmarkOptions) -> int:
    """Do these jobs of `grid_of(options)`, or what is left of them; the exit code."""
    from safetrax.envs.make import require_simulator
    from safetrax.grid.benchmark_folder import BenchmarkFolder
    from safetrax.grid.local import lanes, run_locally

    if options.executor == "ray":
        from safetrax.grid.ray import Needs, host_and_port, require_ray, run_on_ray

        if options.ray_address not in (None, "auto"):
            host_and_port(options.ray_address)
        require_ray()
        needs = Needs(options.job_cpus, options.gpus, options.job_memory)
    elif options.ray_address is not None:
        raise ConfigError("--ray-address belongs to --executor ray.")
    gpus = options.gpus if options.executor == "local" else 0
    places = lanes(options.workers, gpus, len(jobs), options.job_cpus)
    for task in dict.fromkeys(job.task for job in jobs):
        require_simulator(task)
    with BenchmarkFolder(Path(options.out)).locked():
        folder = BenchmarkFolder.make(options.out, jobs)
        todo = _todo(folder, jobs, options.retry)
        if todo:
            with _shown(folder, len(places), jobs) as refresh:
                if options.executor == "ray":
                    run_on_ray(
                        folder, todo, needs, address=options.ray_address, workers=options.workers, report=refresh
                    )
                else:
                    run_locally(folder, todo, places, report=refresh)
    return _close(folder, jobs)


def grid_of(options: BenchmarkOptions) -> Grid:
    """What the file says, and the flags over it."""
    from safetrax.grid.grid import Grid

    if len(options.grid) > 1:
        raise ConfigError(f"{_PROG} takes one grid file, not {len(options.grid)}.")
    grid = Grid.read(options.grid[0]) if options.grid else Grid()
    given = {name: value for name, value in vars(options).items() if value not in ((), None)}
    over = {entry.name: given[entry.name] for entry in dataclasses.fields(Grid) if entry.name in given}
    left_out = grid.words - dataclasses.replace(grid, **over).words  # of a file's algorithms, by the flags
    settings = {key: dict(value) for key, value in grid.settings.items() if key.partition("@")[0] not in left_out}
    for key, value in parse_settings(options.set).items():
        settings.setdefault(key, {}).update(value)
    return dataclasses.replace(grid, **over, settings=settings)


def _todo(folder: BenchmarkFolder, jobs: Sequence[Job], retry: bool) -> list[Job]:
    """Jobs that are not done, without the failed ones unless asked for."""
    from safetrax.runs import job_states, require_undamaged

    states = {state.job.name: state for state in job_states(folder)}
    require_undamaged(states[job.name] for job in jobs)
    failed = [job for job in jobs if states[job.name].name == "failed"]
    if failed and not retry:
        complain(f"{len(failed)} failed jobs stay as they are; --retry runs them again.", kind="warning: ")
    skipped = {"done"} if retry else {"done", "failed"}
    todo = [job for job in jobs if states[job.name].name not in skipped]
    say(f"{len(jobs)} jobs, {len(jobs) - len(todo)} of them done or failed before; all in {folder.path}")
    return todo


@contextlib.contextmanager
def _shown(folder: BenchmarkFolder, lanes: int, jobs: Sequence[Job]) -> Iterator[Callable[[], None]]:
    """Yield a function that shows how far these jobs are, if the last time is long enough ago."""
    from safetrax.grid.status import status

    reporter = Display("benchmark", "jobs", seconds=0.0)
    seconds, names = 2.0 if reporter.live else _LINES_SECONDS, {job.name for job in jobs}
    last = 0.0

    def refresh() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            found = status([state for state in folder.states() if state.job.name in names], lanes=lanes)
            running = "; ".join(_share_done(state) for state in found.states if state.name == "running")
            reporter.advance(", ".join(filter(None, [*_summary(found), running])), found.count().get("done", 0))

    reporter.start(len(jobs))
    try:
        yield refresh
    finally:
        reporter.stop()


def _share_done(state: State) -> str:
    updates, total = state.details.updates, state.details.total
    return f"{state.job.name} {updates / total:.0%}" if total else state.job.name


def _summary(status: Status) -> list[str]:
    counts = [f"{count} {name}" for name, count in status.count().items()]
    if status.seconds_left is None:
        return [*counts, "time left unknown"]
    return [*counts, f"{duration(status.seconds_left)} left"] if status.seconds_left else counts


def _close(folder: BenchmarkFolder, jobs: Sequence[Job]) -> int:
    """The last words: a table of the results, what failed, and the exit code."""
    from safetrax.cli.results_table import NOTE, results_table
    from safetrax.runs import read_job

    states = {state.job.name: state for state in folder.states()}
    done = [job for job in jobs if states[job.name].name == "done"]
    found = {job.name: read_job(folder, job) for job in done}
    for task in dict.fromkeys(job.task for job in done):
        rows = [row for job in done for row in found[job.name].rows if job.task == row.task == task]
        limits = next(job.cost_limits for job in done if job.task == task)
        say(results_table(rows, limits, title=task))
    if done:
        say(NOTE)
    failed = [states[job.name] for job in jobs if states[job.name].name == "failed"]
    for state in failed:
        complain(f"{state.job.name} failed: {state.details.error}")
    say(f"{len(done)} of {len(jobs)} jobs are done; run folders in {folder.path / 'runs'}")
    return 2 if failed else 0


def _status(argv: list[str]) -> int:
    options = parse(StatusOptions, argv, prog=f"{_PROG} status")
    from safetrax.grid.benchmark_folder import BenchmarkFolder
    from safetrax.grid.status import status
    from safetrax.runs import job_states

    found = status(job_states(BenchmarkFolder.open(options.folder)))
    damaged = [state for state in found.states if state.name == "damaged"]
    for state in damaged:
        complain(f"{state.job.name} is damaged: {state.details.error}")
    if options.json:
        import json

        jobs = [{"job": state.job.name, **dataclasses.asdict(state.details)} for state in found.states]
        values = {
            "jobs": [{**job, "state": job.pop("name")} for job in jobs],
            "counts": found.count(),
            "seconds_left": found.seconds_left,
        }
        write(json.dumps(values, indent=2, allow_nan=False) + "\n")
        return 2 if damaged else 0
    table = plain_table("", "job", "state", "updates", "since", "where")
    now = time.time()
    for state in found.states:
        at, alive = state.details, state.name in ("running", "stopped")
        share = f"{at.updates:,} of {at.total:,}" if at.total and state.name != "done" else ""
        since = duration(now - at.started) if at.started and alive else ""
        table.add_row(state.job.name, state.name, share, since, "" if state.name == "done" else at.place)
    say(table)
    for state in found.states:
        if state.name == "failed":
            say(f"{state.job.name} failed: {state.details.error}")
    say(", ".join(_summary(found)))
    return 2 if damaged else 0


def _export(argv: list[str]) -> int:
    options = parse(BenchmarkExportOptions, argv, prog=f"{_PROG} export")
    from safetrax.runs import export_episodes

    say(f"{export_episodes(options.folder, options.out):,} episodes in {options.out}")
    return 0


def _names() -> int:
    """Everything that a grid takes by name."""
    from safetrax.algorithms import registry
    from safetrax.catalogue import SUITES, tasks
    from safetrax.grid.ablations import ABLATIONS
    from safetrax.grid.protocols import PROTOCOLS

    table = plain_table("ablations", "name", "compares", "as in", "on")
    for name, ablation in ABLATIONS.items():
        table.add_row(name, ", ".join(ablation.variants), ablation.source, ", ".join(ablation.tasks))
    say(table)
    table = plain_table("protocols", "name", "limits", "seeds", "episodes", "of")
    for name, protocol in PROTOCOLS.items():
        limits = {suite: "/".join(map(exact, protocol.limits(tasks(suite)[0]))) for suite in SUITES}
        text = ", ".join(f"{suite} {each}" for suite, each in limits.items())
        table.add_row(name, text, " ".join(map(str, protocol.seeds)), str(protocol.episodes), protocol.source)
    say(table)
    say("suites      " + ", ".join(f"{suite} ({len(tasks(suite))} tasks)" for suite in SUITES))
    say("algorithms  " + ", ".join(registry.known()))
    return 0
