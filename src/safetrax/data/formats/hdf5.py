"""HDF5 files in DSRL's format; `keys.py` says what is in them.

The action box and the names of the features, if known, are attributes of the file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from safetrax.data.formats.found import NAMES, Found, empty_matrix, feature_names, naming
from safetrax.data.formats.keys import BOX, FLAGS, MATRICES, check_arrays, find_keys, keyed_arrays
from safetrax.data.formats.meter import Meter
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_BLOCK_BYTES = 16 * 2**20  # of the file's dtype; much smaller blocks cost time, much larger ones memory


def read_hdf5(path: Path, *, next_observations: bool, meter: Meter) -> Found:
    """Read the keys that are needed, block by block, straight into their final arrays.

    Raises:
        DataError: the file is damaged, or an array is missing or malformed.
    """
    with _open(path) as file, naming(path):
        keys = find_keys(file, next_observations=next_observations)
        datasets = {field: _dataset(file, key) for field, key in keys.items()}
        check_arrays(
            keys,
            {field: dataset.dtype for field, dataset in datasets.items()},
            {field: dataset.shape for field, dataset in datasets.items()},
        )
        for dataset in datasets.values():
            meter.expect(dataset.size * 4)
        return Found(
            columns={field: _read(field, dataset, meter) for field, dataset in datasets.items()},
            action_low=file.attrs.get(BOX[0]),
            action_high=file.attrs.get(BOX[1]),
            task=str(file.attrs["task"]) if "task" in file.attrs else None,
            names={name: [str(entry) for entry in file.attrs[name]] for name in NAMES if name in file.attrs},
        )


def write_hdf5(
    path: str | os.PathLike[str],
    trajectories: Trajectories,
    *,
    attributes: Mapping[str, str | int | float] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    compression: int = 4,
) -> None:
    """Write a data set in DSRL's format, atomically; `load` gives back the same arrays, bit for bit.

    Args:
        path: the file, which is replaced if it exists.
        trajectories: the data; next_observations are written if they are present.
        attributes: HDF5 attributes of the file, such as where the data comes from. The action box is added.
        extra: further arrays by key, which `load` ignores.
        compression: gzip level, 0 to 9.

    Raises:
        RunError: the file cannot be written.
    """
    with atomic_path(Path(path)) as temporary, _Output(temporary) as output:
        with h5py.File(output, "w") as file:
            for key, array in {**keyed_arrays(trajectories), **(extra or {})}.items():
                file.create_dataset(key, data=array, compression="gzip", compression_opts=compression, shuffle=True)
                output.check()
            file.attrs.update({**(attributes or {}), **{name: getattr(trajectories, name) for name in BOX}})
            file.attrs.update(feature_names(trajectories))
        output.check()


class _Output(io.FileIO):
    """A file that keeps its first error to itself until it is asked: HDF5 cannot close a file on a full disk, and
    says so again and again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+")
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error

    def write(self, block: Buffer, /) -> int:
        """All of it, if nothing has gone wrong."""
        whole = len(rest := memoryview(block))
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return whole

    def truncate(self, size: int | None = None, /) -> int:
        """To that size, if nothing has gone wrong."""
        try:
            return super().truncate(size) if self._error is None else 0
        except OSError as error:
            self._error = error
            return 0


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; faults of the file itself become sentences."""
    if not h5py.is_hdf5(path):
        raise DataError(f"{path} is not an HDF5 file; check that it is the data set itself, or download it again.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BlockingIOError as error:
        raise DataError(f"{path} is being written by another process; wait until it is closed.") from error
    except OSError as error:
        raise DataError(f"{path} is truncated or damaged ({error}); download or write it again.") from error


def _dataset(file: h5py.File, key: str) -> h5py.Dataset:
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{key} is a group, not an array; store it as one flat array.")
    if dataset.shape is None:
        raise DataError(f"{key} is empty (a null dataset); store one row per transition.")
    return dataset


def _read(field: str, dataset: h5py.Dataset, meter: Meter) -> np.ndarray:
    """One column. HDF5 converts to float32 on the way, so nothing but the result and a block is in memory."""
    if field in FLAGS:
        meter.advance(dataset.size * 4)
        return np.asarray(dataset[()])
    shape = dataset.shape
    out = empty_matrix(shape[0], shape[1]) if field in MATRICES else np.empty(shape, dtype=np.float32)
    for block in _blocks(shape, dataset.chunks, dataset.dtype.itemsize):
        if dataset.dtype.kind == "b":  # HDF5 cannot convert its booleans
            out[block] = dataset[block]
        else:
            dataset.read_direct(out, block, block)
        meter.advance(out[block].nbytes)
    return out


def _blocks(shape: tuple[int, ...], chunks: tuple[int, ...] | None, itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array of one or two dimensions into blocks of whole chunks, so that no chunk is decompressed twice.

    Blocks span all columns, unless the chunks are so tall that this would be too much at once.
    """
    rows, width = shape[0], shape[1] if len(shape) == 2 else 1
    tall, wide = (chunks or (1,))[0], chunks[1] if chunks and len(chunks) == 2 else width
    most = max(1, _BLOCK_BYTES // itemsize)
    if tall * width <= most:
        tall, wide = most // width // tall * tall, width
    else:
        wide *= max(1, most // (tall * wide))
    for row in range(0, rows, tall):
        for column in range(0, width, wide):
            block = slice(row, min(row + tall, rows)), slice(column, min(column + wide, width))
            yield block[: len(shape)]
