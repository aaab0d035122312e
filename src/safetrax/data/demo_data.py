"""The small real data set that ships with the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

DEMO = "demo"
"""The name under which `load` knows the data set."""

DEMO_FILE = "SafetyBallRun-v0-demo.hdf5"


@contextlib.contextmanager
def demo_path() -> Iterator[Path]:
    """A path to the shipped file, valid inside the block (a package may be installed as an archive)."""
    with resources.as_file(resources.files("safetrax.data").joinpath("demo", DEMO_FILE)) as path:
        yield path
