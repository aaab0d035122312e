"""Programs that JAX has compiled, kept between commands in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

_MOST = 2**30  # bytes, of which those that were used longest ago go
_SECONDS = 0.2  # what takes less to compile is not kept


def keep_compiled_programs() -> None:
    """Have JAX look there first, unless its own settings say otherwise; to be called before JAX is imported.

    What one processor can run another may not, and a program may sum in another order for other numbers of threads:
    each kind has a folder of its own.
    """
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):  # nothing tells what the processor can do
        return
    threads = os.environ.get("NPROC") or len(os.sched_getaffinity(0))
    kind = f"{version('jaxlib')} {flags} {os.environ.get('XLA_FLAGS', '')} {threads}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "safetrax" / hashlib.sha256(kind.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_MOST))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(_SECONDS))
