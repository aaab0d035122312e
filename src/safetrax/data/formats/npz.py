"""NPZ files with DSRL's keys; `keys.py` says what is in them.

An array is decompressed as a stream, block by block, into its final place: `numpy.load` would first hold it whole, in
the file's dtype. Nothing is unpickled, whatever the file says.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from safetrax.data.formats.found import (
    NAMES,
    DamagedError,
    Found,
    empty_matrix,
    feature_names,
    first_bytes,
    naming,
    parsing,
    plain_text,
)
from safetrax.data.formats.keys import (
    BOX,
    FLAGS,
    MATRICES,
    check_arrays,
    check_unpacked,
    find_keys,
    keyed_arrays,
)
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path
from safetrax.progress import Meter

_BLOCK_BYTES = 4 * 2**20
# what zipfile, zlib and numpy's parser of headers raise about damaged bytes, besides OSError
_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    EOFError,
    RuntimeError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    SystemError,  # numpy, about texts of impossible letters
)
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL = 1 << 20  # bytes of a name or a bound


def read_npz(path: Path, fields: Collection[str], *, meter: Meter) -> Found:
    """Read the arrays that are needed.

    Args:
        path: the file.
        fields: of `Trajectories`, see `find_keys`.
        meter: is told how far it is.

    Raises:
        DataError: the file is damaged or holds pickles, or an array is missing or malformed.
    """
    with naming(path), _open(path) as archive:
        members = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        if not members:
            inside = ", ".join(archive.namelist()[:3]) or "nothing"
            raise DataError(f"this is an archive of {inside}; unpack it, and pass the file that comes out.")
        keys = find_keys(members, fields)
        headers = {field: _header(archive, key) for field, key in keys.items()}
        check_arrays(
            keys,
            {field: header.dtype for field, header in headers.items()},
            {field: header.shape for field, header in headers.items()},
        )
        check_unpacked(
            sum(math.prod(header.shape) * max(4, header.dtype.itemsize) for header in headers.values()),
            path.stat().st_size,
        )
        for header in headers.values():
            meter.expect(math.prod(header.shape) * 4)
        columns = {field: _read(archive, keys[field], field, meter) for field in keys}
        for flag in FLAGS:
            columns.setdefault(flag, np.zeros(len(columns["rewards"]), np.bool_))
        low, high = (_small(archive, name) if name in members else None for name in BOX)
        return Found(
            columns=columns,
            action_low=low,
            action_high=high,
            names={name: _texts(archive, name) for name in NAMES if name in members},
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
    with parsing(*_FAULTS):
        if not zipfile.is_zipfile(path):
            if first_bytes(path).startswith(b"PK"):
                raise DamagedError("the file is truncated or damaged; download or write it again.")
            raise DataError("this is not an NPZ file; check that it is the data set itself (numpy.savez writes one).")
        archive = zipfile.ZipFile(path)
    with archive:
        yield archive


@contextmanager
def _member(archive: zipfile.ZipFile, key: str) -> Iterator[Any]:
    """The bytes of an array in the file."""
    with parsing(*_FAULTS):
        info = archive.getinfo(f"{key}.npy")
        if info.compress_type not in _PACKINGS or info.flag_bits & 1:
            raise DataError(f"{key} is encrypted or packed in a way that numpy does not write; use numpy.savez.")
        stream = archive.open(info)
    with stream:
        yield stream


@dataclass(frozen=True)
class _Header:
    """What an array in the file is, before it is read."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype


def _header(archive: zipfile.ZipFile, key: str) -> _Header:
    with _member(archive, key) as stream:
        header = _read_header(stream, key)
    size, there = header.dtype.itemsize * math.prod(header.shape), archive.getinfo(f"{key}.npy").file_size
    if size > there:  # before so much memory is asked for
        raise DamagedError(f"the file is truncated or damaged ({key} should have {size} bytes, but has {there}).")
    return header


def _read_header(stream: Any, key: str) -> _Header:
    with parsing(*_FAULTS):
        version = npy.read_magic(stream)  # type: ignore[no-untyped-call]
        read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        header = _Header(*read(stream))
        if any(length < 0 for length in header.shape):
            raise ValueError(f"{key} has shape {header.shape}")
    if header.dtype.hasobject:
        raise DataError(
            f"{key} holds pickled Python objects, which are not read because they could run any code; "
            "save a plain array of numbers."
        )
    return header


def _small(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    header = _header(archive, key)
    size = header.dtype.itemsize * math.prod(header.shape)
    if size > _SMALL:
        raise DataError(f"{key} has {size} bytes; write one entry per feature.")
    with _member(archive, key) as stream, parsing(*_FAULTS):
        return np.asarray(npy.read_array(stream, allow_pickle=False))  # type: ignore[no-untyped-call]


def _texts(archive: zipfile.ZipFile, key: str) -> list[str]:
    entries = np.ravel(_small(archive, key))
    with parsing(*_FAULTS):
        return [plain_text(entry) for entry in entries]


def _read(archive: zipfile.ZipFile, key: str, field: str, meter: Meter) -> np.ndarray:
    """One column, as float32; flags keep their dtype, which is checked later."""
    with _member(archive, key) as stream:
        header = _read_header(stream, key)
        if field not in MATRICES:
            out = np.empty(header.shape, header.dtype if field in FLAGS else np.float32)
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
    with parsing(*_FAULTS):
        data: bytes = stream.read(size)
        if len(data) < size:
            raise EOFError("the file ends inside an array")
    return data
