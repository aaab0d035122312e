"""NPZ files with DSRL's keys; `arrays.py` says what is in them.

An array is decompressed as a stream, block by block, into its final place: `numpy.load` would first hold it whole, in
the file's dtype. Nothing is unpickled, whatever the file says.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from safetrax.data.formats.arrays import (
    BOX,
    CHOICES,
    NAMES,
    SPACE,
    Found,
    check_arrays,
    empty_column,
    feature_names,
    find_keys,
    keyed_arrays,
    spaces_told,
    told_parts,
    unused_keys,
)
from safetrax.data.formats.damage import DamagedError, check_unpacked, first_bytes, naming, parsing, plain_text
from safetrax.data.trajectories import ACTION_CHOICES, Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path
from safetrax.progress import Meter
from safetrax.spaces import PARTS

_BLOCK_BYTES = 4 * 2**20
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL = 1 << 20  # bytes of a name or a bound


@dataclass(frozen=True)
class _Header:
    """What an array in the file is, before it is read."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def read_npz(path: Path, fields: Collection[str], *, meter: Meter) -> Found:
    """Read the arrays that are needed.

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
        check_arrays(keys, headers, meter, choices=ACTION_CHOICES in members)
        sizes = (max(header.nbytes, 4 * math.prod(header.shape)) for header in headers.values())
        check_unpacked(sum(sizes), path.stat().st_size)
        columns = {field: _column(archive, key, field, meter) for field, key in keys.items()}
        facts = {name: _small(archive, name) for name in (*SPACE, *NAMES, PARTS) if name in members}
        choices = {key.partition("/")[2]: _small(archive, key) for key in members if key.startswith(f"{CHOICES}/")}
        with parsing():  # texts of impossible letters
            names = {name: list(map(plain_text, np.ravel(facts.pop(name)))) for name in NAMES if name in facts}
        labels, text = columns.pop("labels", None), facts.pop(PARTS, None)
        parts = told_parts(columns, choices, None if text is None else text[()], path.stat().st_size)
        return Found(columns=columns, parts=parts, labels=labels, unused=unused_keys(members), box=facts, names=names)


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
    names = {**feature_names(trajectories), **spaces_told(trajectories)}
    arrays |= {name: np.array(entries) for name, entries in names.items()}
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)  # type: ignore[arg-type]


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    with parsing():
        if not zipfile.is_zipfile(path):
            if first_bytes(path).startswith(b"PK"):
                raise DamagedError("the file is truncated or damaged; download or write it again.")
            raise DataError("this is not an NPZ file; check that it is the data set itself (numpy.savez writes one).")
        archive = zipfile.ZipFile(path)
    with archive:
        yield archive


@contextmanager
def _member(archive: zipfile.ZipFile, key: str) -> Iterator[tuple[_Header, Any]]:
    """An array's header, and the bytes that follow it."""
    with parsing():
        info = archive.getinfo(f"{key}.npy")
        if info.compress_type not in _PACKINGS or info.flag_bits & 1:
            raise DataError(f"{key} is encrypted or packed in a way that numpy does not write; use numpy.savez.")
        stream = archive.open(info)
    with stream:
        with parsing():
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
        if header.nbytes > info.file_size:  # before so much memory is asked for
            raise DamagedError(
                f"the file is truncated or damaged ({key} should have {header.nbytes} bytes, but has "
                f"{info.file_size})."
            )
        yield header, stream


def _header(archive: zipfile.ZipFile, key: str) -> _Header:
    with _member(archive, key) as (header, _):
        return header


def _small(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """An array of which there is one entry per feature, at most."""
    with _member(archive, key) as (header, stream):
        if header.nbytes > _SMALL:
            raise DataError(f"{key} has {header.nbytes} bytes; write one entry per feature.")
        values = _exactly(stream, header.dtype, (math.prod(header.shape),))
        return values.reshape(header.shape, order="F" if header.by_columns else "C")


def _column(archive: zipfile.ZipFile, key: str, field: str, meter: Meter) -> np.ndarray:
    """One column, block by block."""
    with _member(archive, key) as (header, stream):
        out = empty_column(field, header.shape, header.dtype)
        target = out.T if header.by_columns else out  # what is stored by columns is filled by columns
        step = max(1, _BLOCK_BYTES // (header.dtype.itemsize * math.prod(target.shape[1:])))
        for first in range(0, len(target), step):
            block = target[first : first + step]
            with np.errstate(over="ignore"):  # becomes inf, which validate() names with its row
                block[...] = _exactly(stream, header.dtype, block.shape)
            meter.advance(block.size * 4)
        return out


def _exactly(stream: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    with parsing():
        size = dtype.itemsize * math.prod(shape)
        data = stream.read(size)
        if len(data) < size:
            raise EOFError("the file ends inside an array")
        return np.frombuffer(data, dtype).reshape(shape)
