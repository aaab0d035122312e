"""The arrays of a file by name: DSRL's keys, that they fit together, and what every reader of a format hands back.

One row per transition, episodes one after the other: `observations`, `next_observations`, `actions`, `rewards`,
`costs`, `terminals` (the environment ended the episode) and `timeouts` (a time limit did). It is D4RL's format
(Fu et al., 2020, arXiv:2004.07219) with costs (Liu et al., 2024, arXiv:2306.09303). `terminated` and `truncated`,
Gymnasium's names, are read too. One of the two flags may be missing, and costs may. `labels` holds one number for
every complete episode, 1 (safe), -1 (unsafe) or 0 (nobody says), `hidden_costs` what no algorithm is given, `times`
(or `timestamps`) seconds, datetime64 or ISO texts. Other keys are ignored.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from safetrax.data.columns import Values, check_equal_rows, check_matrix_shape, check_numeric, check_vector_shape
from safetrax.data.formats.damage import plain_text
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.progress import Meter

MATRICES = ("observations", "actions", "next_observations")
FLAGS = ("terminated", "truncated")
BOX = ("action_low", "action_high")
NAMES = ("observation_names", "action_names")
"""Entries of `Trajectories.info` that name the features, where the log does."""

_KEYS = {  # field of Trajectories: its keys in a file; the first is what is written
    "observations": ("observations",),
    "actions": ("actions",),
    "rewards": ("rewards",),
    "costs": ("costs",),
    "terminated": ("terminals", "terminated"),
    "truncated": ("timeouts", "truncated"),
    "next_observations": ("next_observations",),
    "hidden_costs": ("hidden_costs",),
    "labels": ("labels",),
    "times": ("times", "timestamps"),
}
_OPTIONAL = (*FLAGS, "costs", "next_observations", "hidden_costs", "labels", "times")
_OTHERS = {  # what other collections call them
    "observations": ("observation", "obs", "states", "state"),
    "actions": ("action", "acts"),
    "rewards": ("reward",),
    "costs": ("cost",),
    "labels": ("label",),
    "terminated": ("done", "dones", "terminal", "terminations"),
}
_SHOWN = 24  # names that a sentence lists
_ALIGNMENT = 64  # bytes; what XLA asks of an array that it is to use in place


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a reader found.

    Attributes:
        columns: as `Trajectories.from_arrays` takes them, by field name; a flag that is left out was never met.
        offsets: first row of every episode and the end of the last; None: the flags tell.
        box: entries of `BOX` that the source knows; None: not known.
        task: name of the environment or task, if the source knows it.
        names: entries of `NAMES` that the source knows.
        labels: of every complete episode.
        episodes: what the source calls its episodes, in their order; None: by numbers from 0.
        unused: keys or columns that hold nothing that is read.
    """

    columns: Mapping[str, np.ndarray]
    offsets: np.ndarray | None = None
    box: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    task: str | None = None
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    labels: np.ndarray | None = None
    episodes: Sequence[str] | None = None
    unused: Collection[str] = ()

    def trajectories(self, info: Mapping[str, Any] | None) -> Trajectories:
        """The data set; `info` is added to what is known of the names.

        Raises:
            DataError: the arrays do not fit together, or there is no complete episode.
        """
        flags = dict.fromkeys(FLAGS, np.zeros(len(self.columns["rewards"]), np.bool_))
        info = {**(info or {}), **self.names}
        columns: dict[str, Any] = {"costs": None, **flags, **self.columns}
        if columns["costs"] is None and self.unused:
            info["unused_columns"] = [plain_text(name) for name in sorted(self.unused)[:_SHOWN]]
        return Trajectories.from_arrays(**columns, offsets=self.offsets, **self.box, labels=self.labels, info=info)


def wanted_fields(*, next_observations: bool) -> tuple[str, ...]:
    """The fields that `load` reads of a file."""
    return tuple(field for field in _KEYS if next_observations or field != "next_observations")


def find_keys(present: Iterable[str], fields: Iterable[str]) -> dict[str, str]:
    """The key of every field that is to be read and that the file has.

    What is optional may be missing, and one of the two flags: such ends were not met, then.

    Raises:
        DataError: another one is missing; the sentence says what to do.
    """
    there = set(present)
    found = {}
    for field in fields:
        key = next((key for key in _KEYS[field] if key in there), None)
        if key is not None:
            found[field] = key
        elif field not in _OPTIONAL or (field not in FLAGS and there.intersection(_OTHERS.get(field, ()))):
            raise _missing(field, there)
    if not any(flag in found for flag in FLAGS):
        raise _missing("terminated", there)
    return found


def unused_keys(present: Iterable[str]) -> set[str]:
    """Those that no field is read of."""
    return set(present).difference(*_KEYS.values(), BOX, NAMES)


def check_arrays(keys: Mapping[str, str], arrays: Mapping[str, Any], meter: Meter) -> None:
    """Find what is malformed before a byte is read, and tell the meter how much is to come.

    Both are by field. Of an array only the dtype and the shape are looked at: it is not read yet.

    Raises:
        DataError: a dtype, a shape or a length is wrong.
    """
    for field, array in arrays.items():
        if field != "times":
            check_numeric(keys[field], array.dtype)
        elif array.dtype.kind not in "biufmMSU":  # HDF5 may never come back from damaged texts of any length
            raise DataError(
                f"{keys[field]} has dtype {array.dtype}; write seconds, or ISO texts of fixed length (numpy's S)."
            )
        (check_matrix_shape if field in MATRICES else check_vector_shape)(keys[field], array.shape)
    check_equal_rows({keys[field]: array.shape[0] for field, array in arrays.items() if field != "labels"})
    meter.expect(sum(4 * math.prod(array.shape) for array in arrays.values()))


def keyed_arrays(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """The arrays of a data set under the keys that they are written with."""
    arrays = {keys[0]: getattr(trajectories, field) for field, keys in _KEYS.items()}
    return {key: array for key, array in arrays.items() if array is not None}


def empty_column(field: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array to read a field into: float32, but flags and times keep their dtype, which is checked later."""
    if field in MATRICES:
        return empty_matrix(*shape)
    return np.empty(shape, dtype if field in (*FLAGS, "times") else np.float32)


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


def listed(names: Sequence[str], what: str) -> str:
    """Names of keys or columns for a sentence, the first ones if there are many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else f"no {what}"


def _missing(field: str, there: Collection[str]) -> DataError:
    key = _KEYS[field][0]
    other = next((name for name in _OTHERS.get(field, ()) if name in there), None)
    if other:
        remedy = f"rename {other} to {key}"
    elif field == "terminated":
        remedy = "add terminals or timeouts, 1 on the last row of each episode and 0 elsewhere"
    else:
        remedy = f"add one {'row' if field in MATRICES else 'number'} per transition"
    return DataError(
        f"the key {key} is missing; the file has {listed(sorted(there), 'keys')}; {remedy}, or build the data "
        "set with Trajectories.from_arrays."
    )
