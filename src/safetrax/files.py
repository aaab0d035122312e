"""Writing files so that a reader never sees half of one, and so that only one process writes them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from safetrax.errors import RunError, SafeTraXWarning

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
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # some network file systems
_PART = f"{'[a-z0-9_]' * 8}.part"  # how the name of a temporary file ends
_PATIENCE = 3.0  # seconds that a process which was killed may take to let its locks go
_HASH = "sha256"


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

    When the block raises, the temporary file is removed and `path` stays as it was. What a killed process left of
    `path` is removed first.

    Raises:
        RunError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    _require_file(path)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        handle, temporary = _temporary(path)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; a result is an ordinary one
            temporary.replace(path)
            sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files that killed processes left in a folder, of the file `name` or of all.

    Those that somebody writes now are locked, and stay.
    """
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.{_PART}"):
        # an error: of others, gone meanwhile, or on a file system that only reads
        with contextlib.suppress(OSError), path.open("rb+", buffering=0) as file:
            if _try_lock(file.fileno()):
                path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, atomically.

    Raises:
        RunError: it cannot be written; what was there stays.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The inverse of `write_json`, of what need not be such a file: all its numbers are finite, as floats too.

    Raises:
        ValueError: it holds something else.
        OSError: it cannot be read.
    """

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text:.20}{'...' if len(text) > 20 else ''} is no finite number")
        return int(text) if text.removeprefix("-").isdigit() else value

    text = Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text, parse_int=number, parse_float=number, parse_constant=number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def append_text(path: str | Path, text: str, *, header: str = "", durable: bool = False) -> None:
    """Add whole lines to a text file: all of them or, if that fails, none.

    Args:
        path: the file, which need not exist.
        text: what to add.
        header: comes first where the file is empty.
        durable: wait until the disk has it.

    Raises:
        RunError: it cannot be written; what was there stays.
    """
    path = Path(path)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                rest = memoryview(((header if size == 0 else "") + text).encode())
                while rest:  # a nearly full disk takes a part, and says so at the next write
                    rest = rest[os.write(file.fileno(), rest) :]
                if durable:
                    os.fsync(file.fileno())
            except BaseException:
                file.truncate(size)
                raise


def drop_cut_line(path: Path) -> None:
    """Shorten a text file to its last whole line: a crash may have cut the one that was being appended."""
    with explain_os_errors(path), path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def write_tensors(path: str | Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Write a safetensors file with text entries in its header and a hash of all that it holds, atomically.

    Raises:
        RunError: it cannot be written; what was there stays.
    """
    plain = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    # in memory, because the library's own way to a file leaves a second temporary file behind when it is killed
    content = save(plain, {**header, _HASH: content_hash(plain, header)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The header and the tensors of a safetensors file; what an older version wrote has no hash to check.

    Raises:
        SafetensorError: it is damaged, or does not hold what was written.
        OSError: it cannot be read.
    """
    with safe_open(path, framework="numpy") as file:
        header: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    written = header.pop(_HASH, None)
    if written is not None and written != content_hash(tensors, header):
        raise SafetensorError("its content has changed since it was written")
    return header, tensors


def content_hash(tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> str:
    """SHA-256 of tensors and text entries, in hex, whatever their order."""
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape} ".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: Path, place: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock inside the block, against other processes and other threads. It dies with its holder.

    Args:
        path: the lock file, made for the time of the block.
        place: what is locked, for the message.
        waiting: called before waiting for somebody else who holds it; None: that is an error.

    Raises:
        RunError: the folder cannot be written to, or somebody else holds the lock.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path, place, waiting)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            path.unlink()  # while it is held, so that nobody else's is removed
        os.close(handle)


def place_of_this_process() -> str:
    """`<computer> <process>`."""
    return f"{socket.gethostname()} {os.getpid()}"


def _acquire(path: Path, place: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path, place, waiting)
            if _is_at(handle, path):
                with contextlib.suppress(OSError):  # a full disk; it is only for the message
                    os.ftruncate(handle, 0)
                    os.write(handle, place_of_this_process().encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder has removed it meanwhile


def _lock(handle: int, path: Path, place: Path, waiting: Callable[[], None] | None) -> None:
    deadline = time.monotonic() + _PATIENCE
    try:
        while not _try_lock(handle):
            if waiting is not None:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
                return
            if time.monotonic() > deadline:
                holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "unknown"
                raise RunError(f"another safetrax command works in {place} ({holder}); wait for it, or stop it.")
            time.sleep(0.05)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        warnings.warn(
            f"{path.parent} lies on a file system without locks; see that no second command works in {place}.",
            SafeTraXWarning,
            stacklevel=2,
        )


def _try_lock(handle: int) -> bool:
    """Lock an open file; whether that went well."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, open and locked as far as the file system can."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with contextlib.suppress(OSError):
            _try_lock(handle)
        if _is_at(handle, Path(name)):
            return handle, Path(name)
        os.close(handle)  # somebody swept it before it was locked


def _require_file(path: Path) -> None:
    """Refuse to put a file in the place of a device, a pipe or a folder: as root that would succeed."""
    with explain_os_errors(path):
        if path.exists() and not path.is_file():
            raise RunError(f"cannot write {path}: a folder or a device has that name; choose another.")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_name(text: str) -> str:
    """A name of letters, digits and `_.-~` alone, from which `urllib.parse.unquote` makes the text again."""
    return quote(text, safe="")


def exact(value: float) -> str:
    """A number as a word of its own: the shortest text that no other number has, such as 20 or 40.00001."""
    short = f"{value:g}"
    if float(short) == value:
        return short
    return str(int(value)) if float(value).is_integer() else repr(float(value))
