"""Files that are damaged, or not what they are taken for: one sentence that says so, and what to do."""

from __future__ import annotations

import contextlib
import importlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetrax.errors import DataError, SafeTraXError

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
_FREE = 256 * 2**20  # bytes of arrays that any file may ask for
_DENSEST = 64  # bytes of arrays beyond that for one of the file; logs have 1 to 20, as whole files
_DAMAGE = (  # what h5py, zipfile, zlib and numpy raise about damaged bytes, besides OSError
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, EOFError, SyntaxError),
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError, SystemError),
)


class DamagedError(DataError):
    """The bytes of a file are not what its format demands."""


@contextlib.contextmanager
def naming(source: object) -> Iterator[None]:
    """Every DataError of the block begins with the source's name."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{source}: {error}") from error


@contextlib.contextmanager
def parsing(damage: tuple[type[Exception], ...] = _DAMAGE) -> Iterator[None]:
    """Foreign bytes are read in the block: what a library raises about them is a DataError, not a traceback.

    Args:
        damage: what it raises about damaged bytes, besides OSError.

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
    except (OSError, *damage) as error:  # type: ignore[misc]  # a tuple of unknown length
        if isinstance(error, OSError) and error.errno:  # HDF5's own faults have none
            raise DataError(f"it cannot be read ({error.strerror}); check the path and the disk.") from error
        raise DamagedError(
            f"the file is truncated or damaged ({one_line(error)}); download or write it again."
        ) from error


def one_line(error: Exception) -> str:
    """A library's own words, without its line breaks and last full stop."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def plain_text(value: object) -> str:
    """A text of a file, without what no encoding has."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.encode(errors="replace").decode()


def first_bytes(path: Path) -> bytes:
    """Enough of a file to tell what it is; raises OSError."""
    with path.open("rb") as file:
        return file.read(_FIRST)


def what_is_it(start: bytes, *, gzip: bool = False) -> str:
    """What a file is that begins like this, and what to do, in words that follow its name; empty if unknown.

    With `gzip`, it may be packed so.
    """
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<error")):
        return "is a web page, not a data set; download it again from an address that gives the file itself"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the data set; git lfs pull puts the file in its place"
    packed = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if packed and not (gzip and packed == "gzip"):
        return f"is packed with {packed}; unpack it, and pass the file that comes out"
    return "" if start else "is empty; download or write it again"


def check_unpacked(size: int, file_size: int) -> None:
    """Raise DataError where a file of few bytes asks for arrays of many: sizes are declared, and may not be true."""
    if size > max(_FREE, _DENSEST * file_size):
        raise DataError(
            f"its arrays would take {size / 1e6:,.0f} MB, {size // max(1, file_size):,} times the file, which a log "
            "does not; check where it is from, or write it without compression if it is as uniform as that."
        )


def package(name: str, *, extra: str, purpose: str) -> Any:
    """Import an optional package; where it is not installed, a DataError says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f'{purpose} needs the package {name.partition(".")[0]}: pip install "safetrax[{extra}]".'
        ) from error
