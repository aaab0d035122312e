"""The arrays of a file by name: DSRL's keys, that they fit together, and what every reader of a format hands back.

One row per transition, episodes one after the other: `observations`, `next_observations`, `actions`, `rewards`,
`costs`, `terminals` (the environment ended the episode) and `timeouts` (a time limit did). It is D4RL's format
(Fu et al., 2020, arXiv:2004.07219) with costs (Liu et al., 2024, arXiv:2306.09303). `terminated` and `truncated`,
Gymnasium's names, are read too. One of the two flags may be missing, and costs may. `labels` holds one number for
every complete episode, 1 (safe), -1 (unsafe) or 0 (nobody says), `hidden_costs` what no algorithm is given, `times`
(or `timestamps`) seconds, datetime64 or ISO texts. Other keys are ignored.

Observations of several parts (a group of HDF5, `observations/KEY` in NPZ) are put side by side in the order of
`safetrax.spaces`; what `choices/KEY` says the number of choices of is made one-hot.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from safetrax.data.columns import (
    Values,
    check_equal_rows,
    check_matrix_shape,
    check_numeric,
    check_part_shape,
    check_vector_shape,
)
from safetrax.data.formats.damage import check_unpacked, plain_text
from safetrax.data.trajectories import ACTION_CHOICES, Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.progress import Meter
from safetrax.spaces import PARTS, Part, entries_of, named_parts, parts_of

MATRICES = ("observations", "actions", "next_observations")
FLAGS = ("terminated", "truncated")
BOX = ("action_low", "action_high")
SPACE = (*BOX, ACTION_CHOICES)
"""What is told of actions."""
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
_IN_PARTS = ("observations", "next_observations")
CHOICES = "choices"
"""The group, or what the keys begin with, that tells the number of choices of parts."""

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
        box: entries of `BOX` and the number of choices that the source knows; None: not known.
        task: name of the environment or task, if the source knows it.
        names: entries of `NAMES` that the source knows.
        parts: what an observation is put together from, as far as the source tells.
        labels: of every complete episode.
        episodes: what the source calls its episodes, in their order; None: by numbers from 0.
        unused: keys or columns that hold nothing that is read.
    """

    columns: Mapping[str, np.ndarray]
    offsets: np.ndarray | None = None
    box: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    task: str | None = None
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    parts: Sequence[Part] = ()
    labels: np.ndarray | None = None
    episodes: Sequence[str] | None = None
    unused: Collection[str] = ()

    def trajectories(self, info: Mapping[str, Any] | None) -> Trajectories:
        """The data set; `info` is added to what is known of the names.

        Raises:
            DataError: the arrays do not fit together, or there is no complete episode.
        """
        flags = dict.fromkeys(FLAGS, np.zeros(len(self.columns["rewards"]), np.bool_))
        info = {**(info or {}), **named_parts(self.parts), **self.names}
        columns: dict[str, Any] = {"costs": None, **flags, **self.columns}
        if columns["costs"] is None and self.unused:
            info["unused_columns"] = [plain_text(name) for name in sorted(self.unused)[:_SHOWN]]
        return Trajectories.from_arrays(**columns, offsets=self.offsets, **self.box, labels=self.labels, info=info)


def wanted_fields(*, next_observations: bool) -> tuple[str, ...]:
    """The fields that `load` reads of a file."""
    return tuple(field for field in _KEYS if next_observations or field != "next_observations")


def find_keys(present: Iterable[str], fields: Iterable[str]) -> dict[str, str]:
    """The key of every field that is to be read and that the file has; of each part, `observations/KEY`, itself.

    What is optional may be missing, and one of the two flags: such ends were not met, then.

    Raises:
        DataError: another one is missing; the sentence says what to do.
    """
    there = set(present)
    found: dict[str, str] = {}
    for field in fields:
        if field in _IN_PARTS and (parts := sorted(name for name in there if name.startswith(f"{field}/"))):
            if field in there:
                raise DataError(f"there are both {field} and {parts[0]}; keep either the array or its parts.")
            found |= {part: part for part in parts}
            continue
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
    used = set(present).difference(*_KEYS.values(), SPACE, NAMES, (PARTS,))
    return {key for key in used if key.partition("/")[0] not in (*_IN_PARTS, CHOICES)}


def told_parts(
    columns: dict[str, np.ndarray], choices: Mapping[str, Any], told: Any, file_size: int
) -> tuple[Part, ...]:
    """Put the parts among the columns together, in place, and say what they are.

    Args:
        columns: by field; parts as `observations/KEY`.
        choices: how many each part has, by its key: a number, or one for each of its columns.
        told: of a file whose observations are put together already, the text of its entry `PARTS`; None without.
        file_size: bytes that all came from.

    Raises:
        DataError: the parts contradict each other, or what is told of them.
    """
    found: dict[str, tuple[Part, ...]] = {}
    try:
        for field in _IN_PARTS:
            arrays = {key: columns.pop(key) for key in list(columns) if key.startswith(f"{field}/")}
            if not arrays:
                continue
            parts = {key: _part(key.partition("/")[2], array, choices) for key, array in arrays.items()}
            order = sorted(arrays, key=lambda key: _place(key, arrays))
            found[field] = tuple(parts[key] for key in order)
            rows, width, first = len(arrays[order[0]]), sum(part.size for part in found[field]), 0
            check_unpacked(4 * rows * width, file_size)
            out = empty_matrix(rows, width)
            for key in order:
                size = parts[key].size
                out[:, first : first + size] = parts[key].flat(arrays.pop(key))
                first += size
            columns[field] = out
        observed = found.get("observations", ())
        if unknown := sorted(set(choices) - {part.name for part in observed}):
            raise DataError(f"{CHOICES}/{unknown[0]} belongs to no part of the observations; rename or remove it.")
        if found.get("next_observations", observed) != observed:
            raise DataError("next_observations and observations have other parts; log the same in both.")
        if observed or told is None:
            return observed
        return parts_of(json.loads(plain_text(told)), columns["observations"].shape[1])
    except DataError:
        raise
    except ConfigError as error:
        raise DataError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{PARTS} is no JSON; remove it, or write the file again.") from error


def _part(name: str, array: np.ndarray, choices: Mapping[str, Any]) -> Part:
    if name not in choices:
        return Part(name, array.shape[1:])
    counts = np.asarray(choices[name])
    if counts.dtype.kind not in "iu" or counts.size not in (1, math.prod(array.shape[1:])) or (counts < 1).any():
        raise DataError(
            f"{CHOICES}/{name} must hold a whole number of choices, or one for each column of {name}, from 1 on."
        )
    return Part(name, array.shape[1:], tuple(np.broadcast_to(counts.ravel(), math.prod(array.shape[1:])).tolist()))


def _place(key: str, keys: Iterable[str]) -> tuple[Any, ...]:
    """Where it comes: keys by the alphabet, but in order of number where a level's are 0, 1, ... as a tuple's are."""
    place: list[Any] = []
    names = key.split("/")
    for depth, name in enumerate(names):
        level = {k.split("/")[depth] for k in keys if k.split("/")[:depth] == names[:depth] and k.count("/") >= depth}
        place.append(int(name) if level == {str(number) for number in range(len(level))} else name)
    return tuple(place)


def check_arrays(keys: Mapping[str, str], arrays: Mapping[str, Any], meter: Meter, *, choices: bool) -> None:
    """Find what is malformed before a byte is read, and tell the meter how much is to come.

    Both are by field; with `choices`, actions may be numbers of choices. Of an array only the dtype and the shape are
    looked at: it is not read yet.

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
        if "/" in field:
            check_part_shape(field, array.shape, array.dtype)
        elif field in MATRICES and not (field == "actions" and choices and len(array.shape) == 1):
            check_matrix_shape(keys[field], array.shape, array.dtype)
        else:
            check_vector_shape(keys[field], array.shape)
    check_equal_rows({keys[field]: array.shape[0] for field, array in arrays.items() if field != "labels"})
    meter.expect(sum(4 * math.prod(array.shape) for array in arrays.values()))


def keyed_arrays(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """The arrays of a data set under the keys that they are written with."""
    arrays = {keys[0]: getattr(trajectories, field) for field, keys in _KEYS.items()}
    return {key: array for key, array in arrays.items() if array is not None}


def empty_column(field: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array to read a field into: float32, but flags and times keep their dtype, which is checked later."""
    if field in MATRICES and len(shape) == 2:
        return empty_matrix(*shape)
    return np.empty(shape, dtype if field in (*FLAGS, "times") else np.float32)


def empty_matrix(rows: int, width: int) -> Float32[np.ndarray, "rows width"]:
    """An array to read into, aligned so that training on a CPU uses it in place instead of copying it."""
    size = rows * width * 4
    raw = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first : first + size].view(np.float32).reshape(rows, width)


def spaces_told(trajectories: Trajectories) -> dict[str, str | int]:
    """The entry `PARTS` of a file, where the parts are known and still fit the data, and the number of choices."""
    parts = trajectories.observation_parts
    fits = sum(part.size for part in parts) == trajectories.observation_size
    told: dict[str, str | int] = {PARTS: json.dumps(entries_of(parts))} if fits else {}
    return told if trajectories.action_choices is None else {**told, ACTION_CHOICES: trajectories.action_choices}


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
