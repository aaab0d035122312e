"""The data sets that runs were trained on, as episodes in the plane of cost and return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from safetrax.catalogue import get_task
from safetrax.data import load
from safetrax.data.demo_data import DEMO, demo_path
from safetrax.data.download import dataset_path, read_record, sha256_of
from safetrax.data.formats.damage import naming
from safetrax.data.formats.hdf5 import read_hdf5
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError, TaskError
from safetrax.progress import Meter
from safetrax.runs import Training

MOST_EPISODES = 2000  # drawn of a data set
_ALL_EPISODES = 40_000  # drawn of all data sets together
_FEWEST_EPISODES = 300
_MOST_BYTES = 256 * 2**20  # of a file that has to be read as a whole
_COLUMNS = ("rewards", "costs", "terminated", "truncated")


@dataclass(frozen=True, eq=False)
class Logged:
    """The episodes of a data set, as they were logged: before any filter.

    Attributes:
        task: that the runs were trained for.
        source: what the data set is called.
        episodes: how many it has.
        costs: of the episodes that are drawn.
        returns: of the same.
        limits: of the runs, rising.
        within: how many of all episodes cost at most each limit.
        filters: names of the filters of the runs.
        used: how much of it the runs used, a sentence each.
    """

    task: str
    source: str
    episodes: int
    costs: Float[np.ndarray, " drawn"]
    returns: Float[np.ndarray, " drawn"]
    limits: tuple[float, ...]
    within: tuple[int, ...]
    filters: tuple[str, ...]
    used: tuple[str, ...]


@dataclass(frozen=True)
class Unread:
    """A data set that is not drawn.

    Attributes:
        task: that the runs were trained for.
        reason: one sentence.
    """

    task: str
    reason: str


def read_logged(trainings: Sequence[Training]) -> tuple[list[Logged], list[Unread]]:
    """Every data set once, where its file is still the one that was trained on and quickly read."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for training in trainings:
        task = training.trained_for or next(iter(training.tasks), "its own log")
        groups.setdefault((task, str(training.data.get("sha256") or training.data_path)), []).append(training)
    most = min(MOST_EPISODES, max(_FEWEST_EPISODES, _ALL_EPISODES // max(len(groups), 1)))
    read: list[Logged] = []
    unread: list[Unread] = []
    for (task, _), group in groups.items():
        try:
            data = _read(task, group[0])
            if data.costs is None:
                raise DataError(f"the data of {task} hold no costs to draw their episodes by.")
            if np.isnan(data.returns).any() or np.isnan(data.cost_returns).any():
                raise DataError(
                    f"in the data of {task} rewards or costs are missing, as they are before the filters."
                )
        except DataError as error:
            unread.append(Unread(task, str(error)))
        else:
            read.append(_drawn(task, group, data, most))
    return read, unread


def _drawn(task: str, group: Sequence[Training], data: Trajectories, most: int) -> Logged:
    count = data.num_episodes
    chosen = np.arange(count)
    if count > most:
        chosen = np.sort(np.random.default_rng(0).choice(count, most, replace=False))
    limits = tuple(sorted({limit for training in group for limit in training.cost_limits}))
    return Logged(
        task=task,
        source=str(group[0].data.get("source") or group[0].data_path),
        episodes=count,
        costs=data.cost_returns[chosen].astype(np.float64),
        returns=data.returns[chosen].astype(np.float64),
        limits=limits,
        within=tuple(int((data.cost_returns <= limit).sum()) for limit in limits),
        filters=tuple(dict.fromkeys(name for training in group for name in training.filters)),
        used=tuple(f"{training.name}, {text}" for training in group for text in training.usage),
    )


def _read(task: str, training: Training) -> Trajectories:
    """The data set of a training.

    Raises:
        DataError: it cannot be read, is another one by now, or is too large to be read for a picture.
    """
    source, expected = training.data_path, training.data.get("sha256")
    if source is None:
        raise DataError(f"where the data of {task} lie was not recorded.")
    with _place(source) as path:
        if not path.is_file():
            raise DataError(f"the data of {task} are no longer at {source}.")
        if isinstance(expected, str) and _sha256(path) != expected:
            raise DataError(f"the data of {task} at {source} are not those that were trained on: their hash differs.")
        if h5py.is_hdf5(path):
            return _of_hdf5(path)
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise DataError(f"the data of {task} at {source} are {size / 1e9:.1f} GB, too much for a picture.")
        return load(path, task=task)


@contextmanager
def _place(source: str) -> Iterator[Path]:
    """The file that `safetrax.load` would read, which need not be there."""
    if source == DEMO:
        with demo_path() as path:
            yield path
        return
    path = Path(source)
    if not path.exists():
        with suppress(TaskError):
            path = dataset_path(get_task(source))
    yield path


def _of_hdf5(path: Path) -> Trajectories:
    """Episodes without their observations and actions, which are nearly all of a file."""
    columns: dict[str, Any] = {"costs": None, **read_hdf5(path, _COLUMNS, meter=Meter(path.name, show=False)).columns}
    blank = np.zeros((len(columns["rewards"]), 1), np.float32)
    with naming(path):
        return Trajectories.from_arrays(blank, blank, **columns)


def _sha256(path: Path) -> str:
    """Hash of a file; that of its download where the size is still the same."""
    try:
        record = read_record(path)
        if record is not None and record.size == path.stat().st_size:
            return record.sha256
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
