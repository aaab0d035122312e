"""`safetrax train`: from a data set to trained, evaluated policies; and `--resume`, to go on where a run stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from safetrax.algorithms import registry
from safetrax.catalogue import Task, catalogued_task, get_task, task_of_file
from safetrax.cli.parsing import Filters, LabelWords, parse, shown, value_of
from safetrax.data.demo_data import DEMO, DEMO_FILE
from safetrax.data.filters import filters_of, parse_filters
from safetrax.errors import ConfigError, DataError, RunError, TaskError
from safetrax.files import file_name
from safetrax.settings import attribute_docs, require_types

if TYPE_CHECKING:
    from safetrax.algorithms.base import Algorithm
    from safetrax.cli.session import Session

_ABOUT = """Train one policy per cost limit and seed.

algorithms:
{algorithms}

safetrax train ALGORITHM --help also shows the algorithm's own flags;
safetrax train --resume FOLDER goes on with a run that was stopped."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The same for every algorithm."""

    data: Annotated[str, shown("PATH|TASK|demo")]
    """A data set (HDF5, NPZ, Parquet, CSV, Minari), a task whose file was downloaded, or demo, which ships along."""
    task: Annotated[str | None, shown("NAME", "as the data's file name says")] = None
    """Benchmark task: gives the presets, the cost limits, and the simulator to evaluate in. Or an environment of your
    own to evaluate in, such as my_package:MyEnv-v0: any of Gymnasium's with a cost in info."""
    cost_limits: Annotated[tuple[float, ...], shown("COST [COST ...]", "the task's")] = ()
    """Limits on the cost of an episode; one policy is trained for each, and for each seed."""
    filters: Filters = ()
    """Applied to the data first, in this order; safetrax inspect lists them (--help) and shows their effect."""
    labels: LabelWords = ()
    """Which episodes somebody calls safe or unsafe: a file with columns episode and label, or safe:3,7 unsafe:12."""
    seeds: Annotated[tuple[int, ...], shown("INT [INT ...]")] = (0,)
    """Training seeds."""
    schedule: Literal["published", "fast"] = "published"
    """fast: updates, rates and sizes for minutes on two cores, in place of the published ones."""
    out: Annotated[str | None, shown("FOLDER", "runs/<task>-<algorithm>")] = None
    """New folder for settings, checkpoints, metrics, policies and evaluation episodes."""
    start_from: Annotated[str | None, shown("FOLDER", "fresh networks")] = None
    """Begin with the networks of this finished run of the same algorithm, sizes, limits and seeds."""
    evaluate: bool = True
    """Evaluate the trained policies in the simulator, if it is installed."""
    evaluation_episodes: int = 20
    """Episodes per policy and evaluation."""
    evaluate_every: int = 0
    """Updates between evaluations while training; 0: only at the end. Never used to choose a checkpoint."""
    log_every: int = 100
    """Updates between rows of metrics.csv."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Of matrix products: tensorfloat32 is faster and coarser on a GPU, bfloat16 also on a CPU that has it."""
    log_to: Annotated[
        tuple[Literal["tensorboard", "wandb"], ...], shown("{tensorboard,wandb} ...", "nowhere else")
    ] = ()
    """Further places for the metrics; WANDB_PROJECT, WANDB_NAME and WANDB_ENTITY say where in Weights & Biases."""


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """Go on with a run that was stopped."""

    resume: Annotated[str, shown("FOLDER")]
    """Folder of the run to go on with."""
    data: Annotated[str | None, shown("PATH|TASK|demo", "where it was")] = None
    """Where the data set is now, if it was moved."""
    evaluate: bool = True
    """Evaluate the trained policies in the simulator, if it is installed."""


def run(argv: list[str]) -> int:
    """Train; the exit code."""
    session = _resumed(argv) if any(word.partition("=")[0] == "--resume" for word in argv) else _new(argv)
    return session.run()


def _new(argv: list[str]) -> Session:
    if not argv or argv[0] in ("-h", "--help"):
        parse(
            TrainOptions,
            ["--help"],
            prog="safetrax train ALGORITHM",
            description=_ABOUT.format(algorithms=registry.lines()),
        )
    word, rest = argv[0], argv[1:]
    if word.startswith("-"):
        order = f"safetrax train ALGORITHM {' '.join(argv)}"
        raise ConfigError(f"the algorithm comes first: {order}, with one of {', '.join(registry.known())}.")
    entry = registry.chosen(word)
    kind = entry.load()
    task = task_of(value_of(rest, "--task"), value_of(rest, "--data"))
    schedule: Any = value_of(rest, "--schedule")
    preset = (kind() if task is None else kind.preset(task.suite, task.name)).scheduled(
        "fast" if schedule == "fast" else "published"
    )
    members = [("shared", TrainOptions), ("settings", settings_class(preset, task, entry.fixed))]
    options: Any = parse(
        dataclasses.make_dataclass("Train", members),
        rest,
        prog=f"safetrax train {word}",
        description=f"{word}: {entry.summary()}.",
    )
    shared: TrainOptions = options.shared
    algorithm = kind(**vars(options.settings), **entry.fixed)
    words = tuple(map(str, parse_filters(shared.filters, shared.cost_limits)))
    shared = dataclasses.replace(shared, filters=words)
    if shared.out is None:
        name = Path(shared.data).stem if task is None else file_name(task.name)
        shared = dataclasses.replace(shared, out=str(Path("runs") / f"{name}-{word}"))
    from safetrax.cli.session import Session

    return Session(algorithm, shared, resume=False)


def _resumed(argv: list[str]) -> Session:
    if argv[0] in registry.known():
        raise ConfigError(f"--resume takes the algorithm and its settings from the folder; leave out {argv[0]!r}.")
    if {"-h", "--help"} & set(argv):
        argv = ["--help"]
    options = parse(ResumeOptions, argv, prog="safetrax train")
    from safetrax.cli.session import Session
    from safetrax.training.run_folder import RunFolder

    folder = RunFolder.open(options.resume)
    file, config = folder.config_file, folder.config()
    settings = dict(_saved(file, config, "algorithm", dict))
    name = str(settings.pop("class", None))
    kind = registry.class_named(name)
    if kind is None:
        raise RunError(
            f"{file} names the algorithm {name!r}, which neither this version nor a package that is installed has."
        )
    known = config.get("record", {}).get("data_path")
    data = options.data or known
    if data is None:
        raise RunError(f"{file} does not say where the data set is; pass --data.")
    if data == known and Path(data).is_absolute() and not Path(data).exists():
        raise DataError(f"the data set of {folder.path} is no longer at {data}; pass its new place with --data.")
    shared = TrainOptions(
        **{
            **_loop(file, config),
            "data": data,
            "task": config.get("task"),
            "cost_limits": tuple(map(float, _saved(file, config, "cost_limits", list))),
            "seeds": tuple(map(int, _saved(file, config, "seeds", list))),
            "out": options.resume,
            "evaluate": options.evaluate,
        }
    )
    try:
        algorithm = kind.from_config(settings)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return Session(algorithm, shared, resume=True)


def _saved(file: Path, config: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(config.get(key), kind):
        raise RunError(f"{file} is damaged: it has no {key}; start again in a new folder.")
    return config[key]


def _loop(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """How to filter the data, and how often to log, evaluate and save, as far as the run folder says."""
    options = dict(config.get("record", {}).get("options", {}))
    try:
        if "filters" not in options:  # the run was not started on the command line
            options["filters"] = list(map(str, filters_of(config.get("data", {}).get("filters", ()))))
        known = {f.name for f in dataclasses.fields(TrainOptions)}
        found = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if k in known}
        require_types(TrainOptions, found)
    except ConfigError as error:
        raise RunError(f"{file} is damaged ({str(error).rstrip('.')}).") from error
    return found


def task_of(task: str | None, data: str | None) -> Task | None:
    """The task named, else the one that the data's file name tells, else None.

    Raises:
        TaskError: `task` is unknown.
    """
    if task:
        return get_task(task)
    if data is None or data == DEMO:
        return task_of_file(DEMO_FILE) if data else None
    if not Path(data).exists():
        with contextlib.suppress(TaskError):
            return catalogued_task(data)  # the name of a task stands for its downloaded data set
    return task_of_file(Path(data).name)


def settings_class(preset: Algorithm, task: Task | None, fixed: Collection[str] = ()) -> type:
    """A dataclass of an algorithm's settings without the fixed ones; its defaults are those of the preset.

    It checks nothing: faults are found by the algorithm's own class.
    """
    algorithm = type(preset)
    hints, docs = typing.get_type_hints(algorithm), attribute_docs(algorithm)
    members = [
        (name, Annotated[hints[name], tyro.conf.arg(help=docs.get(name))], field(default=getattr(preset, name)))
        for name in (entry.name for entry in dataclasses.fields(algorithm))
        if name not in fixed
    ]
    about = (algorithm.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")
    suite = "no suite in particular; name a task or its data" if task is None else f"{task.suite}, as in {task.name}"
    namespace = {
        "__doc__": f"{about}. The defaults are the published settings for {suite}, unless --schedule is fast."
    }
    return dataclasses.make_dataclass(f"{algorithm.__name__}Settings", members, frozen=True, namespace=namespace)
