"""Whether a file is a whole data set in DSRL's format, told from its structure alone."""

from __future__ import annotations

from pathlib import Path

_KEYS = ("observations", "actions", "rewards", "costs", "terminals", "timeouts")


def fault_of(path: Path) -> str:
    """What is wrong with a file, in words that follow its name; empty if it is a whole data set.

    HDF5 notes its own length in its first bytes, so a truncated file is found out without reading it.
    """
    import h5py

    try:
        start = _start(path)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not h5py.is_hdf5(path):
        return "is a web page, not a data set" if b"<html" in start or b"<!doctype" in start else "is no HDF5 file"
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in _KEYS if not isinstance(file.get(key), h5py.Dataset)]
    except (OSError, KeyError, RuntimeError) as error:  # the latter two where the table of contents is damaged
        return "is truncated" if "truncated file" in str(error) else "is damaged"
    return f"lacks {', '.join(missing)}" if missing else ""


def _start(path: Path) -> bytes:
    """The first bytes, in lower case."""
    with path.open("rb") as file:
        return file.read(512).lower()
