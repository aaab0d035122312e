"""NPZ files with DSRL's keys; `keys.py` says what is in them.

An array is decompressed as a stream, block by block, into its final place: `numpy.load` would first hold it whole, in
the file's dtype. Nothing is unpickled, whatever the file says.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from safetrax.data.formats.found import NAMES, Found, empty_matrix, feature_names, naming
from safetrax.data.formats.keys import BOX, MATRICES, check_arrays, find_keys, keyed_arrays
from safetrax.data.formats.meter import Meter
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path

_BLOCK_BYTES = 4 * 2**20
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


def read_npz(path: Path, *, next_observations: bool, meter: Meter) -> Found:
    """Read the keys that are needed.

    Raises:
        DataError: the file is damaged or holds pickles, or an array is missing or malformed.
    """
    with _open(path) as archive, naming(path):
        members = {name.removesuffix(".npy") for name in archive.namelist()}
        keys = find_keys(sorted(members), next_observations=next_observations)
        headers = {field: _header(archive, key) for field, key in keys.items()}
        check_arrays(
            keys,
            {field: header.dtype for field, header in headers.items()},
            {field: header.shape for field, header in headers.items()},
        )
        for header in headers.values():
            meter.expect(math.prod(header.shape) * 4)
        low, high = (_small(archive, name) if name in members else None for name in BOX)
        return Found(
            columns={field: _read(archive, keys[field], field, meter) for field in keys},
            action_low=low,
            action_high=high,
            names={name: [str(entry) for entry in _small(archive, name)] for name in NAMES if name in members},
        )


def write_npz(path: str | os.PathLike[str], trajectories: Trajectories, *, compress: bool = True) -> None:
    """Write a data set as plain arrays, atomically; `load` gives back the same arrays, bit for bit.

    `numpy.load` reads the file too: DSRL's keys, `action_low`, `action_high` and, where they are known,
    `observation_names` and `action_names`. The same data give the same bytes.

    Args:
        path: the file, which is replaced if it exists.
        trajectories: the data; next_observations are written if they are present.
        compress: deflate the arrays, which takes a while and saves about half of the space.

    Raises:
        RunError: the file cannot be written.
    """
    arrays = keyed_arrays(trajectories)
    arrays |= {name: getattr(trajectories, name) for name in BOX}
    arrays |= {name: np.array(entries) for name, entries in feature_names(trajectories).items()}
    with atomic_path(Path(path)) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy")  # dated 1980, so that the bytes do not depend on the day
            member.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            with archive.open(member, "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)  # type: ignore[no-untyped-call]


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an NPZ file; faults of the file itself become sentences."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            begins = file.read(2) == b"PK"
        if begins:
            raise DataError(f"{path} is truncated or damaged; download or write it again.")
        raise DataError(f"{path} is not an NPZ file; check that it is the data set itself (numpy.savez writes one).")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataError:  # is a ValueError too
        raise
    except _FAULTS as error:
        raise DataError(f"{path} is truncated or damaged ({error}); download or write it again.") from error


@dataclass(frozen=True)
class _Header:
    """What an array in the file is, before it is read."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype


def _header(archive: zipfile.ZipFile, key: str) -> _Header:
    with archive.open(f"{key}.npy") as stream:
        header = _read_header(stream, key)
    size = header.dtype.itemsize * math.prod(header.shape)
    if size > archive.getinfo(f"{key}.npy").file_size:
        raise EOFError(f"{key} should be of {size} bytes")  # before so much memory is asked for
    return header


def _read_header(stream: Any, key: str) -> _Header:
    version = npy.read_magic(stream)  # type: ignore[no-untyped-call]
    read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    header = _Header(*read(stream))
    if header.dtype.hasobject:
        raise DataError(
            f"{key} holds pickled Python objects, which are not read because they could run any code; "
            "save a plain array of numbers."
        )
    return header


def _small(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))  # type: ignore[no-untyped-call]


def _read(archive: zipfile.ZipFile, key: str, field: str, meter: Meter) -> np.ndarray:
    """One column, as float32; flags keep their dtype, which is checked later."""
    with archive.open(f"{key}.npy") as stream:
        header = _read_header(stream, key)
        if field not in MATRICES:
            out = np.empty(header.shape, header.dtype if field in ("terminated", "truncated") else np.float32)
        else:
            out = empty_matrix(*header.shape)
        # an array that is stored by columns is filled by columns
        target = out.T if header.by_columns else out
        size = header.dtype.itemsize * math.prod(target.shape[1:])
        step = max(1, _BLOCK_BYTES // size)
        for first in range(0, len(target), step):
            block = target[first : first + step]
            values = np.frombuffer(_exactly(stream, len(block) * size), header.dtype).reshape(block.shape)
            with np.errstate(over="ignore"):  # becomes inf, which validate() names with its row
                block[...] = values
            meter.advance(block.size * 4)
        return out


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise EOFError("the file ends inside an array")
    return data
