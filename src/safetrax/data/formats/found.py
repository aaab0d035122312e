"""What every reader of a format gives back, and what all of them share."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from safetrax.data.columns import Values
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError

NAMES = ("observation_names", "action_names")
"""Entries of `Trajectories.info` that name the features, where the log does."""

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
    names: Mapping[str, list[str]] = field(default_factory=dict)

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
        raise DataError(f"{source}: {error}") from error


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
