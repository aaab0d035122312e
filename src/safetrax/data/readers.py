"""HDF5 files in DSRL's format, in and out.

The format is flat arrays, one row per transition, episodes one after the other: `observations`,
`next_observations`, `actions`, `rewards`, `costs`, `terminals` (the environment ended the episode) and
`timeouts` (a time limit did). Other keys are ignored. It is D4RL's format (Fu et al., 2020, arXiv:2004.07219)
with costs (Liu et al., 2024, arXiv:2306.09303).
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from safetrax.data.catalogue import get_task, task_of_file
from safetrax.data.columns import (
    Values,
    check_equal_rows,
    check_matrix_shape,
    check_numeric,
    check_vector_shape,
)
from safetrax.data.demo_data import DEMO, DEMO_FILE, demo_path
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path

_KEYS = {  # field of Trajectories: key in a file
    "observations": "observations",
    "actions": "actions",
    "rewards": "rewards",
    "costs": "costs",
    "terminated": "terminals",
    "truncated": "timeouts",
    "next_observations": "next_observations",
}
_MATRICES = ("observations", "actions", "next_observations")
_FLAGS = ("terminated", "truncated")
_BOX = ("action_low", "action_high")


def load(
    source: str | os.PathLike[str],
    *,
    next_observations: bool = False,
    task: str | None = None,
    action_low: Values = None,
    action_high: Values = None,
) -> Trajectories:
    """Read a data set; only the keys that are needed, straight into their final arrays.

    Args:
        source: an HDF5 file in DSRL's format, or `"demo"` for the small data set that ships with the package.
        next_observations: also read next_observations, which double the memory.
        task: the task that the data was recorded in; if omitted, it is guessed from the file's name.
        action_low: lower end of the action box, (A,) or one number; else the file's attribute, else -1.
        action_high: upper end, alike, else +1.

    Raises:
        DataError: the file is missing, unreadable or malformed.
        TaskError: there is no such task.
    """
    if source == DEMO:
        with demo_path() as path:  # out of an archive it is a temporary file, whose name says nothing
            return _load(path, DEMO_FILE, next_observations, task, action_low, action_high)
    path = Path(source)
    return _load(path, path.name, next_observations, task, action_low, action_high)


def _load(
    path: Path, name: str, next_observations: bool, task: str | None, action_low: Values, action_high: Values
) -> Trajectories:
    guess = get_task(task) if task else task_of_file(name)
    info = {"source": name, "sha256": _sha256(path), "task": guess.name if guess else None}
    fields = [field for field in _KEYS if next_observations or field != "next_observations"]
    with _open(path) as file:
        datasets = {field: _dataset(file, _KEYS[field]) for field in fields}
        _check_shapes(datasets)
        low, high = (
            file.attrs.get(bound) if given is None else given
            for bound, given in zip(_BOX, (action_low, action_high), strict=True)
        )
        columns = {field: _read(field, dataset) for field, dataset in datasets.items()}
        return Trajectories.from_arrays(**columns, action_low=low, action_high=high, info=info)


def write_hdf5(
    path: str | os.PathLike[str],
    trajectories: Trajectories,
    *,
    attributes: Mapping[str, str | int | float] | None = None,
    compression: int = 4,
) -> None:
    """Write a data set in DSRL's format, atomically; `load` gives back the same arrays, bit for bit.

    Args:
        path: the file, which is replaced if it exists.
        trajectories: the data; next_observations are written if they are present.
        attributes: HDF5 attributes of the file, such as where the data comes from. The action box is added.
        compression: gzip level, 0 to 9.

    Raises:
        RunError: the file cannot be written.
    """
    with atomic_path(Path(path)) as temporary, h5py.File(temporary, "w") as file:
        for name, key in _KEYS.items():
            array = getattr(trajectories, name)
            if array is not None:
                file.create_dataset(key, data=array, compression="gzip", compression_opts=compression, shuffle=True)
        file.attrs.update({**(attributes or {}), **{name: getattr(trajectories, name) for name in _BOX}})


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; every fault in the block names the file."""
    if not h5py.is_hdf5(path):
        raise DataError(f"{path} is not an HDF5 file; check that it is the data set itself, or download it again.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except BlockingIOError as error:
        raise DataError(f"{path} is being written by another process; wait until it is closed.") from error
    except OSError as error:
        raise DataError(f"{path} is truncated or damaged ({error}); download or write it again.") from error


def _sha256(path: Path) -> str:
    """Hash of a file, in hex; also the first access, so that plain file faults are told apart here."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; {_suggestion(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; pass one of the HDF5 files in it.") from error
    except PermissionError as error:
        raise DataError(f"{path} may not be read; ask for read permission (chmod u+r).") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path and the disk.") from error


def _suggestion(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either; check the path."
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".hdf5", ".h5")]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else "check the path."


def _dataset(file: h5py.File, key: str) -> h5py.Dataset:
    if key not in file:
        raise DataError(f"the key {key} is missing; the file has {', '.join(file) or 'no keys'}.")
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{key} is a group, not an array; store it as one flat array.")
    if dataset.shape is None:
        raise DataError(f"{key} is empty (a null dataset); store one row per transition.")
    return dataset


def _check_shapes(datasets: Mapping[str, h5py.Dataset]) -> None:
    """Find what is malformed before a byte is read."""
    for name, dataset in datasets.items():
        check_numeric(_KEYS[name], dataset.dtype)
        (check_matrix_shape if name in _MATRICES else check_vector_shape)(_KEYS[name], dataset.shape)
    check_equal_rows({_KEYS[name]: dataset.shape[0] for name, dataset in datasets.items()})


def _read(name: str, dataset: h5py.Dataset) -> np.ndarray:
    """One column: HDF5 converts to float32 block by block, so nothing but the result is allocated."""
    if name in _FLAGS or dataset.dtype.kind == "b":  # HDF5 cannot convert its booleans
        return np.asarray(dataset[()])
    array = np.empty(dataset.shape, dtype=np.float32)
    dataset.read_direct(array)
    return array
