"""Where DSRL's data sets are on disk: in the folder that DSRL itself uses, so that the files are shared with it."""

from __future__ import annotations

import os
from pathlib import Path

from safetrax.catalogue import Task, get_task

FOLDER_VARIABLE = "DSRL_DATASET_DIR"
"""The environment variable that DSRL and this library take the folder from."""


def dataset_folder() -> Path:
    """The folder of the data sets: the environment variable DSRL_DATASET_DIR, else `~/.dsrl/datasets`.

    It need not exist.
    """
    return Path(os.environ.get(FOLDER_VARIABLE) or "~/.dsrl/datasets").expanduser()


def dataset_path(task: str | Task, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where the task's file belongs, whether or not it is there.

    Args:
        task: the task, or its name.
        folder: where the data sets are; None: `dataset_folder()`.

    Raises:
        TaskError: there is no such task.
    """
    found = get_task(task) if isinstance(task, str) else task
    return (dataset_folder() if folder is None else Path(folder).expanduser()) / found.dataset_file


def find_dataset(task: str | Task, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """The task's data set on disk; None if it is not there, truncated, or no data set at all.

    Only the file's structure is looked at (milliseconds, whatever its size); `download` compares its hash, too.

    Args:
        task: the task, or its name.
        folder: where the data sets are; None: `dataset_folder()`.

    Raises:
        TaskError: there is no such task.
    """
    from safetrax.data.download.contents import fault_of

    path = dataset_path(task, folder)
    return path if path.is_file() and not fault_of(path) else None
