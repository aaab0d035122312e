"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from safetrax.errors import RunError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and try again",
    errno.EDQUOT: "the disk quota is used up; free some space and try again",
    errno.EACCES: "permission was denied; choose a folder that you may write to",
    errno.EPERM: "permission was denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "a file stands where a folder is needed; choose another folder",
    errno.EFBIG: "the file would be larger than this file system allows",
}


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error of the block into one sentence that names `path` and the remedy.

    Raises:
        RunError: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {reason_of(error)}.") from error


def reason_of(error: OSError) -> str:
    """In words, with the remedy where there is a usual one."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def check_writable(path: Path) -> None:
    """Find out whether `path` can be written, and make its folder, before minutes are spent on its content.

    Raises:
        RunError: it cannot.
    """
    _require_file(path)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, fsync it and rename it over `path`.

    When the block raises, the temporary file is removed and `path` stays as it was.

    Raises:
        RunError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    _require_file(path)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result is an ordinary one
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_tensors(path: str | Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Write a safetensors file with text entries in its header, atomically.

    Raises:
        RunError: it cannot be written; what was there stays.
    """
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(header))
        except SafetensorError as error:  # holds the operating system's error as text
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else 0, str(error)) from error


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def drop_cut_line(path: Path) -> None:
    """Shorten a text file to its last whole line: a crash may have cut the one that was being appended."""
    with explain_os_errors(path), path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _require_file(path: Path) -> None:
    """Refuse to put a file in the place of a device, a pipe or a folder: as root that would succeed."""
    with explain_os_errors(path):
        there = path.exists() and not path.is_file()
    if there:
        raise RunError(f"cannot write {path}: a folder or a device has that name; choose another.")


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
