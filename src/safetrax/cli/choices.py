"""The algorithms that the command line offers, and their hyper-parameters as flags."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from safetrax.cli.console import nearest
from safetrax.cli.parsing import attribute_docs
from safetrax.data.catalogue import Task, get_task, task_of_file
from safetrax.data.demo_data import DEMO, DEMO_FILE
from safetrax.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from safetrax.algorithms.base import Algorithm


@dataclass(frozen=True)
class Choice:
    """One word of the command line.

    Attributes:
        algorithm: name of a class in `safetrax.algorithms.CLASSES`.
        line: what it is.
        fixed: settings that the word stands for; they are no flags.
    """

    algorithm: str
    line: str
    fixed: Mapping[str, Any] = field(default_factory=dict)


CHOICES = {
    "trac": Choice("TraC", "trajectory classification: near desirable episodes, away from undesirable ones"),
    "lspc": Choice(
        "LSPC", "a latent space that decodes to safe actions, for LSPC-S and LSPC-O; ignores the cost limit"
    ),
    "fisor": Choice("FISOR", "a diffusion policy that avoids every violation that it can; ignores the cost limit"),
    "bars": Choice("BARS", "a diffusion policy that clones in safe states and escapes from unsafe ones"),
    "cpq": Choice("CPQ", "constraints penalised Q-learning: unknown actions count as costly"),
    "bcq-lag": Choice("BCQLag", "batch-constrained Q-learning with a Lagrange multiplier"),
    "bear-lag": Choice("BEARLag", "Q-learning near the log's actions (MMD) with a Lagrange multiplier"),
    "coptidice": Choice("COptiDICE", "cloning with weights that correct the log towards the constrained optimum"),
    "iql": Choice("IQL", "implicit Q-learning; ignores costs"),
    "td3-bc": Choice("TD3BC", "TD3 with a cloning term; ignores costs"),
    "cql": Choice("CQL", "conservative Q-learning; ignores costs"),
    "bc-all": Choice("BC", "behaviour cloning of every episode; ignores the cost limit", {"mode": "all"}),
    "bc-safe": Choice("BC", "behaviour cloning of the episodes within the cost limit", {"mode": "safe"}),
    "bc-risky": Choice("BC", "behaviour cloning of the episodes at twice the limit and more", {"mode": "risky"}),
    "bc-boundary": Choice("BC", "behaviour cloning of the episodes near the limit", {"mode": "boundary"}),
    "bc-frontier": Choice("BC", "behaviour cloning of the best episodes at every cost", {"mode": "frontier"}),
    "bc-conditioned": Choice("BC", "behaviour cloning that is told the episode's cost", {"mode": "conditioned"}),
}


def get_choice(word: str) -> Choice:
    """The choice of that name.

    Raises:
        ConfigError: there is none.
    """
    if word not in CHOICES:
        raise ConfigError(f"there is no algorithm {word!r}; {nearest(word, CHOICES)}")
    return CHOICES[word]


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
            return get_task(data)  # the name of a task stands for its downloaded data set
    return task_of_file(Path(data).name)


def settings_class(choice: Choice, task: Task | None) -> type:
    """A dataclass of the algorithm's settings without the fixed ones; its defaults are the preset of the suite.

    It checks nothing: faults are found by the algorithm's own class, in `make_algorithm`.
    """
    import tyro

    algorithm = _class(choice)
    preset = algorithm() if task is None else algorithm.preset(task.suite, task.name)
    hints, docs = typing.get_type_hints(algorithm), attribute_docs(algorithm)
    names = [f.name for f in dataclasses.fields(algorithm) if f.name not in choice.fixed]
    members = [
        (name, Annotated[hints[name], tyro.conf.arg(help=docs.get(name))], field(default=getattr(preset, name)))
        for name in names
    ]
    about = (algorithm.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")
    suite = "no suite in particular; name a task or its data" if task is None else f"{task.suite}, as in {task.name}"
    namespace = {"__doc__": f"{about}. The defaults are the published settings for {suite}."}
    return dataclasses.make_dataclass(f"{algorithm.__name__}Settings", members, frozen=True, namespace=namespace)


def make_algorithm(choice: Choice, settings: Any) -> Algorithm:
    """The algorithm with the settings of an instance of `settings_class`.

    Raises:
        ConfigError: a setting is out of range.
    """
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return _class(choice)(**values, **choice.fixed)


def _class(choice: Choice) -> type[Algorithm]:
    from safetrax.algorithms import CLASSES

    return CLASSES[choice.algorithm]
