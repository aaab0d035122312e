"""DSRL's names for flat arrays, which HDF5 and NPZ files share.

One row per transition, episodes one after the other: `observations`, `next_observations`, `actions`, `rewards`,
`costs`, `terminals` (the environment ended the episode) and `timeouts` (a time limit did). It is D4RL's format
(Fu et al., 2020, arXiv:2004.07219) with costs (Liu et al., 2024, arXiv:2306.09303). `terminated` and `truncated`,
Gymnasium's names, are read too. Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
MATRICES = ("observations", "actions", "next_observations")
FLAGS = ("terminated", "truncated")
BOX = ("action_low", "action_high")


def find_keys(present: Iterable[str], *, next_observations: bool) -> dict[str, str]:
    """The key of every field that is to be read; next_observations may be wanted and not be there.

    Raises:
        DataError: another one is missing.
    """
    there = list(present)
    found = {}
    for field, keys in _KEYS.items():
        if field == "next_observations" and not next_observations:
            continue
        key = next((key for key in keys if key in there), None)
        if key is None and field == "next_observations":
            continue
        if key is None:
            raise DataError(f"the key {keys[0]} is missing; the file has {', '.join(there) or 'no keys'}.")
        found[field] = key
    return found


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


def keyed_arrays(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """The arrays of a data set under the keys that they are written with."""
    arrays = {keys[0]: getattr(trajectories, field) for field, keys in _KEYS.items()}
    return {key: array for key, array in arrays.items() if array is not None}
