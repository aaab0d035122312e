"""Whether a file is a whole data set in DSRL's format, told from its structure alone."""

from __future__ import annotations

from pathlib import Path

from safetrax.data.formats.damage import DamagedError, first_bytes, what_is_it
from safetrax.errors import DataError

_KEYS = ("observations", "actions", "rewards", "costs", "terminals", "timeouts")


def fault_of(path: Path) -> str:
    """What is wrong with a file, in words that follow its name; empty if it is a whole data set.

    HDF5 notes its own length in its first bytes, so a truncated file is found out without reading it.
    """
    import h5py

    from safetrax.data.formats.hdf5 import all_arrays, open_hdf5

    try:
        start = first_bytes(path)
        if not h5py.is_hdf5(path):
            return what_is_it(start).partition(";")[0] or "is no HDF5 file"
        with open_hdf5(path) as file:
            there = {dataset.name for dataset in all_arrays(file)}
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except DamagedError as error:
        return "is truncated" if "truncated file" in str(error) else "is damaged"
    except DataError as error:
        return f"is refused ({str(error).removeprefix(f'{path}: ').rstrip('.')})"
    missing = [key for key in _KEYS if f"/{key}" not in there]
    return f"lacks {', '.join(missing)}" if missing else ""
