"""A worker in another Python: this file is run by path, by an interpreter that need not have this library.

That one needs the simulator and numpy. The library's own source is found beside this file, without the packages that
are installed with it, which are this Python's; whatever is missing there is said to the pool in one sentence.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
import sys

OLDEST = (3, 11)
_FAILURE = struct.pack("=BB", 3, 0)  # as `safetrax.envs.protocol` has it, which may not be imported yet


def main() -> None:
    """Serve, or say why not."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (whatever the Python)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # noqa: PTH100
    if sys.version_info < OLDEST:
        _refuse(f"it is Python {sys.version_info[0]}.{sys.version_info[1]}; choose one of 3.11 or newer")
        return
    try:
        import numpy as np

        _find_library(os.path.dirname(here))  # noqa: PTH120
        worker = importlib.import_module("safetrax.envs.env_worker")
    except ImportError as error:
        _refuse(f"{error}; install it there with: {sys.executable} -m pip install {error.name or 'numpy'}")
        return
    np.seterr(all="ignore")
    worker.main()


def _find_library(folder: str) -> None:
    """Have `import safetrax` find the package in `folder`, and nothing else that lies beside it."""
    file = f"{folder}/__init__.py"
    spec = importlib.util.spec_from_file_location("safetrax", file, submodule_search_locations=[folder])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["safetrax"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _refuse(reason: str) -> None:
    text = reason.encode()
    sys.stdout.buffer.write(_FAILURE + struct.pack("=I", len(text)) + text)


if __name__ == "__main__":
    main()
