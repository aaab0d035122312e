"""A grid of algorithms x tasks x limits x seeds, and the jobs that it consists of."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from safetrax.algorithms import registry
from safetrax.catalogue import SUITES, Task, get_task, task_of_file, tasks
from safetrax.data.demo_data import DEMO, DEMO_FILE
from safetrax.data.download import dataset_path
from safetrax.data.filters import parse_filters
from safetrax.data.segments import check_cost_limits
from safetrax.errors import ConfigError, TaskError, look_up, nearest
from safetrax.files import exact, file_name
from safetrax.grid.ablations import ABLATIONS
from safetrax.grid.protocols import PROTOCOLS
from safetrax.settings import Count, Whole, require, require_ranges_of, require_whole

_ENDINGS = (".hdf5", ".h5", ".npz", ".parquet")
_LONGEST_NAME = 200  # of a job; files are called after it


@dataclass(frozen=True)
class Job:
    """One training of all limits and seeds in one compiled program, and its evaluation.

    Attributes:
        name: unique within a grid, fit for a file name.
        algorithm: its word, as in `safetrax.algorithms.registry`.
        label: of an ablation's variant; stands behind the algorithm's name in the results. Empty: none.
        settings: what differs from the preset of the task's suite.
        task: name of the task.
        data: what `safetrax.load` reads.
        cost_limits: of the training, and of the scores.
        seeds: of the training.
        episodes: per policy.
        evaluate_every: updates between evaluations while training; 0: only the trained policies are evaluated.
        filters: words of the filters that its data go through first.
    """

    name: str
    algorithm: str
    label: str
    settings: Mapping[str, Any]
    task: str
    data: str
    cost_limits: tuple[float, ...]
    seeds: tuple[int, ...]
    episodes: Count
    evaluate_every: Whole
    filters: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @staticmethod
    def from_json(values: Any) -> Job:
        """The inverse of `to_json`, of what need not be a job.

        Raises:
            ConfigError: something is missing or of another type.
        """
        try:
            if not isinstance(values, Mapping):
                raise TypeError(f"it is {values!r:.40}")
            values = {"filters": [], **values}  # an older version had none
            plain = _with_tuples({entry.name: values[entry.name] for entry in fields(Job)})
            require_ranges_of(Job, plain)
            if not 0 < len(plain["name"]) < _LONGEST_NAME or "/" in plain["name"]:
                raise ValueError(f"{plain['name']!r} is no file name")
            plain["cost_limits"] = tuple(map(float, plain["cost_limits"]))
            plain["filters"] = tuple(map(str, parse_filters(plain["filters"])))
            return Job(**plain)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"a job of the grid is damaged ({error!r}).") from None


@dataclass(frozen=True)
class Grid:
    """What to compare.

    Attributes:
        algorithms: words, as in `safetrax.algorithms.registry`.
        tasks: names of tasks, of suites for all of theirs, and of environments of one's own.
        ablations: names, as in `safetrax.grid.ablations.ABLATIONS`.
        data: folder of data sets, each named after its task as DSRL's are (one's own environment's as `collect`
            names it: `my_package%3AMyEnv-v0-...`); or "demo"; None: where `download` puts them.
        protocol: name, as in `safetrax.grid.protocols.PROTOCOLS`.
        cost_limits: instead of the protocol's; empty: the protocol's.
        seeds: instead of the protocol's, alike.
        episodes: instead of the protocol's; None: the protocol's.
        evaluate_every: updates between evaluations while training, for learning curves; 0: none.
        schedule: "published", or "fast" for minutes on two cores, see `Algorithm.preset`.
        settings: by algorithm, or by algorithm@task, what differs from that.
        filters: what the data go through first, as words: `density:0.5`.
    """

    algorithms: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    ablations: tuple[str, ...] = ()
    data: str | None = None
    protocol: str = "dsrl"
    cost_limits: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    episodes: int | None = None
    evaluate_every: int = 0
    schedule: str = "published"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    filters: tuple[str, ...] = ()

    @staticmethod
    def read(path: str | Path) -> Grid:
        """A grid from a TOML file whose keys are the attributes.

        Raises:
            ConfigError: the file is missing or no TOML, or a key of it is unknown or of the wrong kind.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"there is no grid file {path}.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as TOML ({error}).") from None
        known = [f.name for f in fields(Grid)]
        for key, value in values.items():
            if key not in known:
                raise ConfigError(f"{path}: there is no key {key!r}; {nearest(key, known)}")
            _check_kind(path, key, value)
        return Grid(**_with_tuples(values))

    def jobs(self) -> tuple[Job, ...]:
        """Every job, task by task. Everything that is known to be wrong is found here.

        Raises:
            ConfigError: an algorithm, ablation, protocol, limit, seed or setting is unknown or out of range, or the
                grid is empty, or a data set is missing.
            TaskError: there is no such task or suite.
        """
        protocol = look_up(self.protocol, PROTOCOLS, "protocol")
        check_cost_limits(self.cost_limits)
        for seed in self.seeds:
            require_whole("seed", seed)
        seeds = tuple(map(int, self.seeds or protocol.seeds))
        if len(set(seeds)) < len(seeds):
            raise ConfigError(f"a seed is given twice: {', '.join(map(str, seeds))}.")
        if len(set(self.cost_limits)) < len(self.cost_limits):
            raise ConfigError(f"a cost limit is given twice: {', '.join(map(exact, self.cost_limits))}.")
        episodes = protocol.episodes if self.episodes is None else self.episodes
        require(episodes >= 1, "episodes", episodes, "be at least 1")
        require(self.evaluate_every >= 0, "evaluate_every", self.evaluate_every, "be at least 0")
        require(self.schedule in ("published", "fast"), "schedule", self.schedule, "be published or fast")
        schedule = cast(Literal["published", "fast"], self.schedule)
        filters = tuple(map(str, parse_filters(self.filters, self.cost_limits)))
        self._check_settings()
        found = list(dict.fromkeys(entry for word in self.tasks for entry in _tasks_of(word)))
        variants = list(self._variants())
        if not found or not variants:
            raise ConfigError("the grid is empty: it needs a task or suite, and an algorithm or ablation.")
        for entry in found:
            if not (self.cost_limits or protocol.limits(entry)):
                raise ConfigError(
                    f"{entry.name} names no cost limits; say at which to train and score (cost_limits)."
                )
        places = {entry: self._data_of(entry) for entry in found}
        made = [
            Job(
                name=_slug(file_name(entry.name), word, label),
                algorithm=word,
                label=label,
                settings={
                    **_as_a_file_has_it(registry.get(word).load().settings_of_schedule(schedule)),
                    **self.settings.get(word, {}),
                    **self.settings.get(f"{word}@{entry.name}", {}),
                    **settings,
                },
                task=entry.name,
                data=places[entry],
                cost_limits=self.cost_limits or protocol.limits(entry),
                seeds=seeds,
                episodes=episodes,
                evaluate_every=self.evaluate_every,
                filters=filters,
            )
            for entry in found
            for word, label, settings in variants
        ]
        for job in made:
            algorithm_of(job)  # an impossible setting is found now
        for name, count in Counter(job.name for job in made).items():
            if count > 1:
                raise ConfigError(f"{count} jobs of the grid would be called {name}; give each a grid of its own.")
        return tuple(made)

    def _variants(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """(algorithm, label, settings), each once."""
        for word in dict.fromkeys(self.algorithms):
            registry.chosen(word)
            yield word, "", {}
        for name in dict.fromkeys(self.ablations):
            ablation = look_up(name, ABLATIONS, "ablation")
            for label, settings in ablation.variants.items():
                yield ablation.algorithm, label, settings

    @property
    def words(self) -> set[str]:
        """Of every algorithm that it trains."""
        return {*self.algorithms, *(look_up(name, ABLATIONS, "ablation").algorithm for name in self.ablations)}

    def _check_settings(self) -> None:
        used = self.words
        for key in self.settings:
            word, at, task = key.partition("@")
            registry.get(word)
            if at:
                get_task(task)
            if word not in used:
                raise ConfigError(f"settings names {word}, which is no algorithm of the grid.")

    def _data_of(self, task: Task) -> str:
        """Where the data set of a task is."""
        if self.data == DEMO:
            shipped = task_of_file(DEMO_FILE)
            if shipped != task:
                name = shipped.name if shipped else "another task"
                raise ConfigError(f"the data set that ships with the package is of {name}, not of {task.name}.")
            return DEMO
        if self.data is None:
            if task.own or not (task.dataset_urls or dataset_path(task).is_file()):
                raise ConfigError(f"nobody publishes data of {task.name}; say in which folder they are (data).")
            if not dataset_path(task).is_file():
                raise ConfigError(
                    f"the data set of {task.name} is not at {dataset_path(task)}; run safetrax download {task.name}, "
                    "or say in which folder the data sets are (data)."
                )
            return task.name
        folder = Path(self.data).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder} of data sets.")
        begin = re.compile(re.escape(file_name(task.name)) + r"[-._]") if task.own else None
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix in _ENDINGS and (begin.match(file.name) if begin else task_of_file(file.name) == task)
        )
        if not files:
            example = task.dataset_file or f"{file_name(task.name)}-collected.hdf5"
            raise ConfigError(f"the folder {folder} has no data set of {task.name}, such as {example}.")
        if len(files) > 1:
            raise ConfigError(
                f"the folder {folder} has {len(files)} data sets of {task.name} ({files[0].name}, {files[1].name}); "
                "keep one of them."
            )
        return str(files[0].resolve())


def algorithm_of(job: Job) -> Any:
    """The algorithm of a job: the preset of the task's suite with its settings.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    entry = registry.get(job.algorithm)
    preset = entry.load().preset(get_task(job.task).suite, job.task)
    known = {f.name for f in fields(preset)} - set(entry.fixed)
    for name in job.settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" did you mean {near[0]}?" if near else f" safetrax train {job.algorithm} --help shows all."
            raise ConfigError(f"{job.algorithm} has no setting {name!r};{hint}")
    try:
        return replace(preset, **entry.fixed, **_with_tuples(job.settings))
    except TypeError:
        raise ConfigError(f"a setting of {job.algorithm} is of the wrong kind: {dict(job.settings)}.") from None


def _tasks_of(word: str) -> Sequence[Task]:
    """A suite's, or one."""
    if word in SUITES:
        return tasks(word)
    try:
        return (get_task(word),)
    except TaskError:
        near = difflib.get_close_matches(word.casefold(), SUITES, n=1, cutoff=0.7)
        if near:
            raise TaskError(f"there is no task or suite {word!r}; did you mean {near[0]}?") from None
        raise


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a file lists, as a dataclass has it."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _as_a_file_has_it(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_with_tuples`."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _slug(*words: str) -> str:
    text = "-".join(filter(None, words)).replace(" ", "-")
    return re.sub(r"[^\w.=%-]", "", text)


def _check_kind(path: Path, key: str, value: Any) -> None:
    kinds: Mapping[str, tuple[str, Any]] = {
        **dict.fromkeys(("algorithms", "tasks", "ablations", "filters"), ("a list of words", str)),
        "cost_limits": ("a list of numbers", (int, float)),
        "seeds": ("a list of whole numbers", int),
    }
    if key in kinds:
        words, kind = kinds[key]
        fits = isinstance(value, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)
    elif key == "settings":
        words = "a table of tables"
        fits = isinstance(value, dict) and all(isinstance(v, dict) for v in value.values())
    elif key in ("episodes", "evaluate_every"):
        words, fits = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    else:
        words, fits = "a text", isinstance(value, str)
    if not fits:
        raise ConfigError(f"{path}: {key} must be {words}.")
