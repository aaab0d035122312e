"""One process at a time: a lock that dies with its holder and leaves no file behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetrax.files import explain_os_errors


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path` inside the block, against other processes and other threads.

    Args:
        path: made for the time of the block; its folder exists.
        waiting: called when somebody else holds it.

    Raises:
        RunError: the folder cannot be written to.
    """
    with explain_os_errors(path):
        handle = _acquire(path, waiting)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held, so that nobody else's is removed
        os.close(handle)


def _acquire(path: Path, waiting: Callable[[], None]) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder has removed it meanwhile


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
