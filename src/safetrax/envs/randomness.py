"""numpy's global generator, from which simulators draw though it is not theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def global_numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator for the block; afterwards it is as if nothing had been drawn."""
    state = np.random.get_state()  # noqa: NPY002 (simulators draw from it)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
