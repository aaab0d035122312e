"""`safetrax train`: from a data set to trained, evaluated policies; and `--resume`, to go on where a run stopped."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetrax.cli.choices import make_algorithm, settings_class, task_of
from safetrax.cli.options import ResumeOptions, TrainOptions
from safetrax.cli.parsing import parse, value_of
from safetrax.data.filters import filters_of, parse_filters
from safetrax.errors import ConfigError, DataError, RunError
from safetrax.methods import CHOICES, get_choice
from safetrax.settings import require_types

if TYPE_CHECKING:
    from safetrax.cli.session import Session

_CHOICE_LINES = "\n".join(f"  {word:<16}{choice.line}" for word, choice in CHOICES.items())
_ABOUT = f"""Train one policy per cost limit and seed.

algorithms:
{_CHOICE_LINES}

safetrax train ALGORITHM --help also shows the algorithm's own flags;
safetrax train --resume FOLDER goes on with a run that was stopped."""


def run(argv: list[str]) -> int:
    """Train; the exit code."""
    session = _resumed(argv) if any(word.partition("=")[0] == "--resume" for word in argv) else _new(argv)
    return session.run()


def _new(argv: list[str]) -> Session:
    if not argv or argv[0] in ("-h", "--help"):
        parse(TrainOptions, ["--help"], prog="safetrax train ALGORITHM", description=_ABOUT)
    word, rest = argv[0], argv[1:]
    if word.startswith("-"):
        raise ConfigError(
            f"the algorithm comes first: safetrax train ALGORITHM {' '.join(argv)}, with one of {', '.join(CHOICES)}."
        )
    choice = get_choice(word)
    task = task_of(value_of(rest, "--task"), value_of(rest, "--data"))
    members = [("shared", TrainOptions), (choice.algorithm, settings_class(choice, task))]
    options: Any = parse(
        dataclasses.make_dataclass("Train", members),
        rest,
        prog=f"safetrax train {word}",
        description=f"{word}: {choice.line}.",
    )
    shared: TrainOptions = options.shared
    algorithm = make_algorithm(choice, getattr(options, choice.algorithm))
    words = tuple(map(str, parse_filters(shared.filters, shared.cost_limits)))
    shared = dataclasses.replace(shared, filters=words)
    if shared.out is None:
        name = Path(shared.data).stem if task is None else task.name
        shared = dataclasses.replace(shared, out=str(Path("runs") / f"{name}-{word}"))
    from safetrax.cli.session import Session

    return Session(algorithm, shared, resume=False)


def _resumed(argv: list[str]) -> Session:
    if argv[0] in CHOICES:
        raise ConfigError(f"--resume takes the algorithm and its settings from the folder; leave out {argv[0]!r}.")
    if {"-h", "--help"} & set(argv):
        argv = ["--help"]
    options = parse(ResumeOptions, argv, prog="safetrax train", description="Go on with a run that was stopped.")
    from safetrax.algorithms import CLASSES
    from safetrax.cli.session import Session
    from safetrax.training.folder import RunFolder

    folder = RunFolder.open(options.resume)
    saved = _Saved(folder.config_file, folder.config())
    settings = saved.algorithm
    kind = str(settings.pop("class", None))
    if kind not in CLASSES:
        raise RunError(f"{folder.config_file} names the algorithm {kind!r}, which this version does not have.")
    data = options.data or saved.data
    if data is None:
        raise RunError(f"{folder.config_file} does not say where the data set is; pass --data.")
    if data == saved.data and Path(data).is_absolute() and not Path(data).exists():
        raise DataError(f"the data set of {folder.path} is no longer at {data}; pass its new place with --data.")
    shared = TrainOptions(
        **{
            **saved.loop,
            "data": data,
            "task": saved.task,
            "cost_limits": saved.cost_limits,
            "seeds": saved.seeds,
            "out": options.resume,
            "evaluate": options.evaluate,
        }
    )
    try:
        algorithm = CLASSES[kind].from_config(settings)
    except ConfigError as error:
        raise ConfigError(f"{folder.config_file}: {error}") from error
    return Session(algorithm, shared, resume=True)


@dataclass(frozen=True)
class _Saved:
    """What a run folder's configuration says about how it was started."""

    path: Path
    config: dict[str, Any]

    @property
    def algorithm(self) -> dict[str, Any]:
        """Class and settings, as a copy."""
        return dict(self._get("algorithm", dict))

    @property
    def task(self) -> str | None:
        """The task's name, if it was known."""
        task: str | None = self.config.get("task")
        return task

    @property
    def cost_limits(self) -> tuple[float, ...]:
        """In their order."""
        return tuple(float(limit) for limit in self._get("cost_limits", list))

    @property
    def seeds(self) -> tuple[int, ...]:
        """In their order."""
        return tuple(int(seed) for seed in self._get("seeds", list))

    @property
    def data(self) -> str | None:
        """Where the data set was, or "demo"."""
        path: str | None = self.config.get("record", {}).get("data_path")
        return path

    @property
    def loop(self) -> dict[str, Any]:
        """How to filter the data, and how often to log, evaluate and save, as far as the folder says."""
        known = {f.name for f in dataclasses.fields(TrainOptions)}
        options = dict(self.config.get("record", {}).get("options", {}))
        try:
            if "filters" not in options:  # the run was not started on the command line
                options["filters"] = list(map(str, filters_of(self.config.get("data", {}).get("filters", ()))))
            found = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if k in known}
            require_types(TrainOptions, found)
        except ConfigError as error:
            raise RunError(f"{self.path} is damaged ({str(error).rstrip('.')}).") from error
        return found

    def _get(self, key: str, kind: type) -> Any:
        value = self.config.get(key)
        if not isinstance(value, kind):
            raise RunError(f"{self.path} is damaged: it has no {key}; start again in a new folder.")
        return value
