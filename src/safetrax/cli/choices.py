"""The hyper-parameters of algorithms as flags of the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from safetrax.catalogue import Task, get_task, task_of_file
from safetrax.data.demo_data import DEMO, DEMO_FILE
from safetrax.errors import TaskError
from safetrax.methods import Choice
from safetrax.settings import attribute_docs

if TYPE_CHECKING:
    from safetrax.algorithms.base import Algorithm


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
