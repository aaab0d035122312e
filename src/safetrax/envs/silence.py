"""Silence for simulators that print from C, below Python's streams."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def silenced() -> Iterator[None]:
    """Send everything printed inside the block, from Python and from C, to the null device.

    The whole process is silent for that time, so keep the block short.
    """
    streams = sys.stdout, sys.stderr
    _flush(*streams)
    saved = [(fd, os.dup(fd)) for fd in (1, 2) if _is_open(fd)]
    null = os.open(os.devnull, os.O_WRONLY)
    # Real files in place of the streams: Bullet-Safety-Gym asks them for a descriptor, which notebooks' lack.
    with os.fdopen(null, "w") as sink:
        sys.stdout = sys.stderr = sink
        try:
            for fd, _ in saved:
                os.dup2(null, fd)
            yield
        finally:
            _flush(sink)  # C's buffers too, or their text appears as soon as the descriptors are back
            for fd, copy in saved:
                os.dup2(copy, fd)
                os.close(copy)
            sys.stdout, sys.stderr = streams


def _is_open(fd: int) -> bool:
    with suppress(OSError):
        os.fstat(fd)
        return True
    return False


def _flush(*streams: object) -> None:
    for stream in streams:
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()  # type: ignore[attr-defined]
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
