"""The one reader of what was trained and evaluated: run folders, folders of benchmarks, files of episodes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetrax.algorithms import registry
from safetrax.catalogue import Task, get_task
from safetrax.certification.certificate import FILE as CERTIFICATES
from safetrax.data.download import dataset_path, read_record
from safetrax.errors import ConfigError, DataError, RunError, SafeTraXError, TaskError
from safetrax.evaluation.episodes import COLUMNS, EpisodeRow, read_episodes
from safetrax.evaluation.statistics import Evaluated, evaluations, last_steps
from safetrax.files import atomic_path
from safetrax.grid.benchmark_folder import BenchmarkFolder, State
from safetrax.grid.grid import Job
from safetrax.run_id import RunId, limit_text
from safetrax.training.run_folder import JobState, RunFolder, promised

if TYPE_CHECKING:
    from safetrax.algorithms.base import Algorithm

_MOST_NAMED = 3  # settings in a sentence


@dataclass(frozen=True)
class Caution:
    """Something that a careful reader should know.

    Attributes:
        sentence: what it is, whole.
        items: where it is so; may be empty.
    """

    sentence: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Training:
    """One job of a benchmark, or one run folder.

    Attributes:
        name: the job's name, or the folder's.
        place: the path that it was read from.
        folder: its run folder; need not exist.
        config: settings, data, versions, of the types that `RunFolder.config` checks; empty where unknown.
        rows: the episodes of every run's last evaluated step.
        history: every evaluation whose step is known, in order.
        label: of an ablation's variant, as behind the algorithm's name; empty for most.
        cost_limits: of the training; empty where unknown.
        seconds: wall clock of "training" and "evaluation"; empty where nobody wrote it down.
        attempts: how often it was begun; None where unknown.
        warnings: what the library warned of.
    """

    name: str
    place: str
    folder: Path
    config: Mapping[str, Any]
    rows: tuple[EpisodeRow, ...]
    history: tuple[Evaluated, ...] = ()
    label: str = ""
    cost_limits: tuple[float, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    attempts: int | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def algorithms(self) -> tuple[str, ...]:
        """Names of the algorithms that it gave."""
        names = [row.algorithm for row in self.rows] or [name for name, _, _ in promised(self.config)]
        return tuple(dict.fromkeys(names))

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """On which it was evaluated."""
        return tuple(dict.fromkeys(row.task for row in self.rows))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The algorithm's, with its class."""
        return self._table("algorithm")

    @property
    def losses(self) -> tuple[str, ...]:
        """The metrics that its algorithm calls its losses."""
        algorithm = self._algorithm()
        return ("loss",) if algorithm is None else algorithm.losses

    def preset(self, task: Task) -> Algorithm | None:
        """The published settings of its algorithm for a task; None if no package here knows the algorithm."""
        algorithm = self._algorithm()
        return None if algorithm is None else algorithm.preset(task.suite, task.name)

    @property
    def data(self) -> Mapping[str, Any]:
        """What is known of the data set."""
        return self._table("data")

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a training must have in common with another to go on from its checkpoint."""
        return self._table("signature")

    @property
    def warm(self) -> bool:
        """Whether it began with the networks of another run."""
        return "start_from" in self.facts

    @property
    def usage(self) -> tuple[str, ...]:
        """What of its data it used, a sentence for each cost limit; empty where nobody wrote it down."""
        return tuple(str(entry["text"]) for entry in self.config.get("usage", ()) if "text" in entry)

    @property
    def little_used(self) -> tuple[str, ...]:
        """What the library warned of when it used next to nothing."""
        said = [entry.get("warnings") for entry in self.config.get("usage", ())]
        return tuple(dict.fromkeys(str(text) for texts in said if isinstance(texts, list) for text in texts))

    @property
    def data_path(self) -> str | None:
        """What `safetrax.load` read."""
        return self._table("record").get("data_path")

    @property
    def trained_for(self) -> str | None:
        """The task that it was trained for."""
        return self.config.get("task")

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of what its data went through before the training."""
        return tuple(str(entry.get("name")) for entry in self.data.get("filters", ()))

    @property
    def planned(self) -> int | None:
        """Updates of the whole training."""
        return self.config.get("updates")

    @property
    def signature(self) -> str:
        """Equal for trainings that differ in limits and seeds only."""
        if "signature" in self.config:
            kept = {key: value for key, value in self.facts.items() if key != "runs"}
        else:
            kept = {key: self.config.get(key) for key in ("algorithm", "task", "updates", "data")}
        return json.dumps(kept, sort_keys=True, default=str)

    def is_of_download(self, task: Task) -> bool:
        """Whether its data are the file that was downloaded under DSRL's name: nobody publishes its hash, so a record
        of the download has to tell."""
        places = [dataset_path(task)]
        if self.data_path is not None:
            places.append(Path(self.data_path))
        for place in places:
            with contextlib.suppress(ValueError, OSError):  # a damaged record, or a path that is no file's
                record = read_record(place)
                if record is not None and record.url is not None and record.sha256 == self.data.get("sha256"):
                    return place.name == task.dataset_file
        return False

    def _table(self, key: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.config.get(key, {})
        return found

    def _algorithm(self) -> type[Algorithm] | None:
        return registry.class_at_hand(str(self.settings.get("class")))  # brings JAX


@dataclass(frozen=True)
class Sources:
    """Everything that was read.

    Attributes:
        trainings: in the order of their folders and jobs.
        cautions: about jobs that are not done, files that are left out, and runs that are there twice.
    """

    trainings: tuple[Training, ...]
    cautions: tuple[Caution, ...]


def read_sources(paths: Iterable[str | Path]) -> Sources:
    """Read benchmark folders and run folders; no run is there twice.

    Raises:
        ConfigError: no folder is given, or two runs of one name have different configurations.
        RunError: a folder is missing, is neither kind, is damaged, or has no results yet.
        DataError: results are damaged or incomplete.
        TaskError: an episode names an unknown task.
    """
    places = list({Path(path).resolve(): Path(path) for path in paths}.values())
    if not places:
        raise ConfigError("a report needs at least one benchmark folder or run folder.")
    trainings: list[Training] = []
    cautions: list[Caution] = []
    for place in places:
        if place.is_file():
            raise RunError(f"{place} is neither a benchmark (no grid.json) nor a run folder (no config.json).")
        found, doubts = read_place(place, certified=True)
        trainings += found
        cautions += doubts
    kept, repeated = _each_once(trainings)
    return Sources(kept, (*cautions, *repeated))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Which settings differ, for a sentence: `eta 1.0 instead of 0.25`."""
    names = differing(before, after)
    shown = [f"{name} {after.get(name)} instead of {before.get(name)}" for name in names[:_MOST_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of settings that differ; what was "auto" is whatever the log decides."""
    return [name for name in {**before, **after} if before.get(name) not in (after.get(name), "auto")]


def read_place(path: str | Path, *, certified: bool = False) -> tuple[list[Training], list[Caution]]:
    """The trainings of a benchmark folder, a run folder or a CSV file of episodes, whose training is unknown.

    Args:
        path: the place.
        certified: whether a run without episodes will do, if it has certificates.

    Raises:
        RunError: there is nothing, it is of another kind or damaged, or it has no results yet.
        DataError: episodes are damaged or incomplete.
        TaskError: an episode names an unknown task.
    """
    path = Path(path)
    if not path.exists():
        raise RunError(f"there is no benchmark, no run folder and no episodes file at {path}; check the path.")
    if (path / "grid.json").exists():
        return _benchmark(path)
    if path.is_dir() and not RunFolder(path).config_file.is_file():
        raise RunError(f"{path} is neither a benchmark (no grid.json) nor a run folder (no config.json).")
    remedy = f"safetrax evaluate {path}" if path.is_dir() else f"safetrax evaluate with --out {path}"
    training = read_run(path) if path.is_dir() else _training(path, path, {}, read_episodes(path))
    if not training.rows:
        if certified and (path / CERTIFICATES).is_file():
            return [training], []
        other = f", or safetrax certify {path} where there is no simulator" if certified else ""
        raise RunError(f"{path} has no evaluation episodes; run {remedy} first{other}.")
    there = {(row.algorithm, row.cost_limit, row.seed) for row in training.rows}
    missing = tuple(
        f"{algorithm}, {limit_text(limit)}, seed {seed}"
        for algorithm, limit, seed in _promised(training)
        if (algorithm, limit, seed) not in there
    )
    sentence = f"Some policies of {path} have no episodes; {remedy} adds them."
    return [training], [Caution(sentence, missing)] if missing else []


def read_run(path: str | Path, job: Job | None = None) -> Training:
    """A run folder, whoever made it; it may be without episodes.

    Args:
        path: the folder.
        job: whose it is; None: as its configuration says.

    Raises:
        RunError: it is none, or damaged.
        DataError: its episodes are damaged.
        TaskError: an episode names an unknown task.
    """
    folder = RunFolder.open(path)
    config, details = folder.config(), folder.state()
    recorded = config.get("record", {}).get("job") if job is None else job.to_json()
    label = str(recorded.get("label", "")) if isinstance(recorded, dict) else ""
    return _training(folder.path, folder.episodes_file, config, _episodes(folder, label), label, details)


def read_job(folder: BenchmarkFolder, job: Job) -> Training:
    """A job that is done.

    Raises:
        RunError: its run folder is damaged.
        DataError: it has other limits, seeds or settings than grid.json, or not all episodes.
    """
    place = folder.run_folder(job)
    remedy = f"remove {place.result_file}, and that job runs again."
    training = read_run(place.path, job)
    recorded = training.config.get("record", {}).get("job")
    if recorded not in (json.loads(json.dumps(job.to_json())), job.name):  # a name: of version 0.1
        raise DataError(
            f"the run folder {place.path} is of another job than grid.json has; remove it, and that job runs again."
        )
    counts = Counter(row.run for row in training.rows)
    for algorithm, limit, seed in _promised(training):
        count = counts[RunId(algorithm, job.task, limit, seed)]
        if count < job.episodes:
            raise DataError(
                f"the run folder {place.path} is incomplete: {algorithm}, {limit_text(limit)}, seed {seed} has "
                f"{count} of {job.episodes} episodes; {remedy}"
            )
    if not training.rows:
        raise DataError(f"the run folder {place.path} holds no episodes; {remedy}")
    return training


def job_states(folder: BenchmarkFolder) -> tuple[State, ...]:
    """How far every job is by all that it left: one that says it is done may be damaged, or have lost policies.

    Raises:
        RunError: the list of jobs is damaged.
    """

    def checked(state: State) -> State:
        try:
            read_job(folder, state.job)
            ended = folder.run_folder(state.job).has_ended()
        except SafeTraXError as error:
            return State(state.job, replace(state.details, name="damaged", error=str(error)))
        return state if ended else State(state.job, replace(state.details, name="stopped"))

    return tuple(checked(state) if state.name == "done" else state for state in folder.states())


def require_undamaged(states: Iterable[State]) -> None:
    """Refuse to go on with a job of which nobody can tell how far it is.

    Raises:
        RunError: a job is damaged.
    """
    for state in states:
        if state.name == "damaged":
            raise RunError(state.details.error)


def _benchmark(path: Path) -> tuple[list[Training], list[Caution]]:
    """All jobs that are done; the others are cautions."""
    folder = BenchmarkFolder.open(path)
    states = folder.states()
    require_undamaged(states)
    done = [state for state in states if state.name == "done"]
    if not done:
        raise RunError(f"no job of {path} is done yet; {folder.advice()}.")
    unfinished = [caution for caution in _unfinished(folder, states) if caution.items]
    return [read_job(folder, state.job) for state in done], unfinished


def _training(
    folder: Path,
    place: Path,
    config: Mapping[str, Any],
    found: Sequence[EpisodeRow],
    label: str = "",
    details: JobState | None = None,
) -> Training:
    try:
        named = _named(found)
    except TaskError as error:
        raise TaskError(f"{place}: {error}") from error
    known = {row.run for row in named if row.step is not None}
    kept = [row for row in named if row.step is not None or row.run not in known]  # of such a run only those count
    return Training(
        name=folder.resolve().name,
        place=str(folder),
        folder=folder,
        config=config,
        rows=tuple(last_steps(kept)),
        history=evaluations(kept),
        label=label,
        cost_limits=tuple(map(float, config.get("cost_limits", ()))),
        seconds=details.seconds if details else {},
        attempts=details.attempts or None if details else None,
        warnings=details.warnings if details else (),
    )


def _episodes(folder: RunFolder, label: str) -> list[EpisodeRow]:
    """All that a run folder has; two variants of an ablation may have the same settings, and have two names here."""
    rows = read_episodes(folder.episodes_file) if folder.episodes_file.exists() else []
    return [replace(row, algorithm=labelled(row.algorithm, label)) for row in rows] if label else rows


def labelled(algorithm: str, label: str) -> str:
    """The name of an ablation's variant."""
    return f"{algorithm} ({label})" if label else algorithm


def _promised(training: Training) -> list[tuple[str, float | None, int]]:
    """Algorithm, limit and seed of every policy, where the configuration says so; else what all runs would be."""
    found = [(labelled(name, training.label), limit, seed) for name, limit, seed in promised(training.config)]
    if found or not training.config:
        return found
    seeds = [seed for seed in training.config.get("seeds", ()) if isinstance(seed, int)]
    expected = []
    for algorithm in training.algorithms:
        runs = [row for row in training.rows if row.algorithm == algorithm]
        limits = (None,) if all(row.cost_limit is None for row in runs) else sorted(training.cost_limits)
        expected += [(algorithm, limit, seed) for limit in limits for seed in seeds]
    return expected


def _unfinished(folder: BenchmarkFolder, states: Sequence[State]) -> Iterator[Caution]:
    """Jobs that are not done, and run folders without a job."""
    whole = f"of {len(states)} jobs of {folder.path}"
    failed = tuple(f"{state.job.name}: {state.details.error}" for state in states if state.name == "failed")
    yield Caution(f"{len(failed)} {whole} failed, and are missing here.", failed)
    missing = tuple(f"{state.job.name}: {state.name}" for state in states if state.name not in ("done", "failed"))
    yield Caution(f"{len(missing)} {whole} are not done yet.", missing)
    names = {state.job.name for state in states}
    extra = tuple(
        path.name for path in sorted((folder.path / "runs").iterdir()) if path.is_dir() and path.name not in names
    )
    yield Caution(f"Run folders in {folder.path / 'runs'} of jobs that grid.json does not have are left out.", extra)


def _named(rows: Iterable[EpisodeRow]) -> list[EpisodeRow]:
    """With the catalogue's names of the tasks."""
    names: dict[str, str] = {}
    for row in rows:
        if row.task not in names:
            names[row.task] = get_task(row.task).name
    return [row if names[row.task] == row.task else replace(row, task=names[row.task]) for row in rows]


def export_episodes(path: str | Path, file: str | Path) -> int:
    """Write all episodes of a benchmark's jobs that are done into one Parquet file; how many there are.

    Raises:
        RunError: the folder is no benchmark's, no job is done, or the file cannot be written.
        DataError: a job is damaged or incomplete.
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError('Parquet needs pyarrow; install it with pip install "safetrax[benchmark]".') from None
    trainings, _ = _benchmark(Path(path))
    rows = [row for training in trainings for row in _episodes(RunFolder(training.folder), training.label)]
    names = zip(COLUMNS, fields(EpisodeRow), strict=True)
    columns = {column: [getattr(row, entry.name) for row in rows] for column, entry in names}
    with atomic_path(file) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")
    return len(rows)


def _each_once(trainings: Sequence[Training]) -> tuple[tuple[Training, ...], list[Caution]]:
    """The first of runs that are there twice.

    Raises:
        ConfigError: they have different configurations.
    """
    owners: dict[RunId, Training] = {}
    kept: list[Training] = []
    repeated: list[str] = []
    for training in trainings:
        runs = dict.fromkeys(row.run for row in training.rows)
        known = [run for run in runs if run in owners]
        for run in known:
            _require_alike(run, owners[run], training)
        if known:
            first = owners[known[0]]
            repeated.append(f"{known[0].text}: {first.place}, {training.place}")
            gone = set(known)
            training = replace(
                training,
                rows=tuple(row for row in training.rows if row.run not in gone),
                history=tuple(entry for entry in training.history if entry.run not in gone),
            )
        owners |= {run: training for run in runs if run not in owners}
        if training.rows or not runs:
            kept.append(training)
    sentence = "Runs that are in two of the folders are counted once, with the episodes of the first folder."
    return tuple(kept), [Caution(sentence, tuple(repeated))] if repeated else []


def _require_alike(run: RunId, first: Training, second: Training) -> None:
    if first.signature == second.signature:
        return
    how = changed(first.settings, second.settings) or "in what is recorded of data or updates"
    raise ConfigError(
        f"{first.place} and {second.place} both hold {run.text}, but with different configurations ({how}); "
        "report on them one at a time."
    )
