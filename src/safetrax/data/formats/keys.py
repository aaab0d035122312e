"""DSRL's names for flat arrays, which HDF5 and NPZ files share.

One row per transition, episodes one after the other: `observations`, `next_observations`, `actions`, `rewards`,
`costs`, `terminals` (the environment ended the episode) and `timeouts` (a time limit did). It is D4RL's format
(Fu et al., 2020, arXiv:2004.07219) with costs (Liu et al., 2024, arXiv:2306.09303). `terminated` and `truncated`,
Gymnasium's names, are read too. One of the two flags may be missing. Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from safetrax.data.columns import check_equal_rows, check_matrix_shape, check_numeric, check_vector_shape
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError

_KEYS = {  # field of Trajectories: its keys in a file; the first is what is written
    "observations": ("observations",),
    "actions": ("actions",),
    "rewards": ("rewards",),
    "costs": ("costs",),
    "terminated": ("terminals", "terminated"),
    "truncated": ("timeouts", "truncated"),
    "next_observations": ("next_observations",),
}
_OTHERS = {  # what other collections call them
    "observations": ("observation", "obs", "states", "state"),
    "actions": ("action", "acts"),
    "rewards": ("reward",),
    "costs": ("cost",),
    "terminated": ("done", "dones", "terminal", "terminations"),
}
_SHOWN = 24  # keys that an error lists
_FREE = 256 * 2**20  # bytes of arrays that any file may ask for
_DENSEST = 64  # bytes of arrays beyond that for one of the file; logs have 1 to 20, as whole files
MATRICES = ("observations", "actions", "next_observations")
FLAGS = ("terminated", "truncated")
BOX = ("action_low", "action_high")


def wanted_fields(*, next_observations: bool) -> tuple[str, ...]:
    """The fields that `load` reads of a file."""
    return tuple(field for field in _KEYS if next_observations or field != "next_observations")


def find_keys(present: Iterable[str], fields: Iterable[str]) -> dict[str, str]:
    """The key of every field that is to be read and that the file has.

    next_observations may be missing, and one of the two flags: such ends were not met, then.

    Raises:
        DataError: another one is missing; the sentence says what to do.
    """
    there = set(present)
    found = {}
    for field in fields:
        key = next((key for key in _KEYS[field] if key in there), None)
        if key is not None:
            found[field] = key
        elif field not in (*FLAGS, "next_observations"):
            raise _missing(field, there)
    if not any(flag in found for flag in FLAGS):
        raise _missing("terminated", there)
    return found


def _missing(field: str, there: Collection[str]) -> DataError:
    key = _KEYS[field][0]
    names = sorted(there)
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    other = next((name for name in _OTHERS.get(field, ()) if name in there), None)
    if other:
        remedy = f"rename {other} to {key}"
    elif field == "costs":
        remedy = "add one number per transition (zeros if nothing was unsafe)"
    elif field == "terminated":
        remedy = "add terminals or timeouts, 1 on the last row of each episode and 0 elsewhere"
    else:
        remedy = f"add one {'row' if field in MATRICES else 'number'} per transition"
    return DataError(
        f"the key {key} is missing; the file has {shown or 'no keys'}; {remedy}, or build the data set with "
        "Trajectories.from_arrays."
    )


def check_arrays(
    keys: Mapping[str, str], dtypes: Mapping[str, np.dtype], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Find what is malformed before a byte is read.

    Args:
        keys: key by field, from `find_keys`.
        dtypes: by field.
        shapes: by field.

    Raises:
        DataError: a dtype, a shape or a length is wrong.
    """
    for field, key in keys.items():
        check_numeric(key, dtypes[field])
        (check_matrix_shape if field in MATRICES else check_vector_shape)(key, shapes[field])
    check_equal_rows({keys[field]: shape[0] for field, shape in shapes.items()})


def check_unpacked(size: int, file_size: int) -> None:
    """Raise DataError where a small file asks for much memory: its sizes are declared, and may not be true.

    Args:
        size: bytes of all arrays, unpacked.
        file_size: bytes of the file.
    """
    if size > max(_FREE, _DENSEST * file_size):
        raise DataError(
            f"its arrays would take {size / 1e6:,.0f} MB, {size // max(1, file_size):,} times the file, which a log "
            "does not; check where it is from, or write it without compression if it is as uniform as that."
        )


def keyed_arrays(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """The arrays of a data set under the keys that they are written with."""
    arrays = {keys[0]: getattr(trajectories, field) for field, keys in _KEYS.items()}
    return {key: array for key, array in arrays.items() if array is not None}
