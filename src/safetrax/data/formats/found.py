"""What every reader of a format gives back, and what all of them share."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from safetrax.data.columns import Values
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError, SafeTraXError

NAMES = ("observation_names", "action_names")
"""Entries of `Trajectories.info` that name the features, where the log does."""

_FIRST = 512  # bytes
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7-Zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"Rar!": "RAR",
}
_LONGEST = 300  # signs of a library's own words
_ALIGNMENT = 64  # bytes; what XLA asks of an array that it is to use in place


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a reader found.

    Attributes:
        columns: as `Trajectories.from_arrays` takes them, by field name.
        offsets: first row of every episode and the end of the last; None: the flags tell.
        action_low: lower end of the action box, if the source knows it.
        action_high: upper end, alike.
        task: name of the environment or task, if the source knows it.
        names: entries of `NAMES` that the source knows.
    """

    columns: Mapping[str, np.ndarray]
    offsets: np.ndarray | None = None
    action_low: Values = None
    action_high: Values = None
    task: str | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def trajectories(self, info: Mapping[str, Any] | None = None) -> Trajectories:
        """The data set; `info` is added to what is known of the names.

        Raises:
            DataError: the arrays do not fit together, or there is no complete episode.
        """
        return Trajectories.from_arrays(
            **self.columns,
            offsets=self.offsets,
            action_low=self.action_low,
            action_high=self.action_high,
            info={**(info or {}), **self.names},
        )


def empty_matrix(rows: int, width: int) -> Float32[np.ndarray, "rows width"]:
    """An array to read into, aligned so that training on a CPU uses it in place instead of copying it."""
    size = rows * width * 4
    raw = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first : first + size].view(np.float32).reshape(rows, width)


def feature_names(trajectories: Trajectories) -> dict[str, list[str]]:
    """The entries of `NAMES` that `trajectories.info` holds, if they still fit the data."""
    sizes = (trajectories.observation_size, trajectories.action_size)
    found = {entry: list(trajectories.info.get(entry) or ()) for entry in NAMES}
    return {entry: found[entry] for entry, size in zip(NAMES, sizes, strict=True) if len(found[entry]) == size}


@contextlib.contextmanager
def naming(source: object) -> Iterator[None]:
    """Every DataError of the block begins with the source's name."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{source}: {error}") from error


def first_bytes(path: Path) -> bytes:
    """Enough of a file to tell what it is.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(_FIRST)


def what_is_it(start: bytes) -> str:
    """What a file is that begins like this, and what to do, in words that follow its name; empty if unknown."""
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<error")):
        return "is a web page, not a data set; download it again from an address that gives the file itself"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the data set; git lfs pull puts the file in its place"
    packed = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if packed is not None:
        return f"is packed with {packed}; unpack it, and pass the file that comes out"
    return "" if start else "is empty; download or write it again"


class DamagedError(DataError):
    """The bytes of a file are not what its format demands."""


@contextlib.contextmanager
def parsing(*errors: type[Exception]) -> Iterator[None]:
    """Foreign bytes are read in the block: what a library raises about them is a DataError, not a traceback.

    Args:
        *errors: what it raises about damaged bytes, besides OSError.

    Raises:
        DamagedError: the bytes are damaged.
        DataError: the system cannot read the file, or the memory does not suffice.
    """
    try:
        yield
    except SafeTraXError:
        raise
    except MemoryError as error:
        raise DataError(
            "it asks for more memory than there is; close other programs, or write fewer rows."
        ) from error
    except (OSError, *errors) as error:  # type: ignore[misc]  # a tuple of unknown length
        if isinstance(error, OSError) and error.errno:  # HDF5's own faults have none
            raise DataError(f"it cannot be read ({error.strerror}); check the path and the disk.") from error
        raise DamagedError(
            f"the file is truncated or damaged ({_words(error)}); download or write it again."
        ) from error


def _words(error: Exception) -> str:
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def plain_text(value: object) -> str:
    """A text of a file, without what no encoding has."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.encode(errors="replace").decode()


def package(name: str, *, extra: str, purpose: str) -> Any:
    """Import an optional package.

    Raises:
        DataError: it is not installed; the sentence says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f'{purpose} needs the package {name.partition(".")[0]}: pip install "safetrax[{extra}]".'
        ) from error
