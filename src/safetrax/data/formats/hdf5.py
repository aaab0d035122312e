"""HDF5 files in DSRL's format; `arrays.py` says what is in them.

The action box and the names of the features, if known, are attributes of the file. Every HDF5 file that the library
reads is opened here: one that would have HDF5 read further files is refused, for their bytes are in no recorded hash.
"""

from __future__ import annotations

import fcntl
import io
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from safetrax.data.formats.arrays import (
    BOX,
    CHOICES,
    NAMES,
    SPACE,
    Found,
    check_arrays,
    empty_column,
    feature_names,
    find_keys,
    keyed_arrays,
    spaces_told,
    told_parts,
    unused_keys,
)
from safetrax.data.formats.damage import DamagedError, check_unpacked, naming, parsing, plain_text
from safetrax.data.trajectories import ACTION_CHOICES, Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path
from safetrax.progress import Meter
from safetrax.spaces import PARTS

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_BLOCK_BYTES = 16 * 2**20  # of the file's dtype; much smaller blocks cost time, much larger ones memory
_ATTRIBUTE_BYTES = 1 << 20
_MOST_COUNTS = 1 << 16


def read_hdf5(path: Path, fields: Collection[str], *, meter: Meter) -> Found:
    """Read the arrays that are needed, block by block, straight into their final form.

    Raises:
        DataError: the file is damaged or names other files, or an array is missing or malformed.
    """
    with open_hdf5(path) as file:
        with parsing():
            present = list(file)
            groups = [key for key in present if isinstance(file.get(key), h5py.Group)]
        _check_flat(path, file, groups)
        present = _with_parts(file, present, groups)
        keys = find_keys(present, fields)
        datasets = {field: _dataset(file, key) for field, key in keys.items()}
        with parsing():
            choices_told = ACTION_CHOICES in file.attrs
        check_arrays(keys, datasets, meter, choices=choices_told)
        check_stored(path, datasets.values())
        columns = {field: _read(field, dataset, meter) for field, dataset in datasets.items()}
        facts = {name: _attribute(file, name) for name in (*SPACE, "task", *NAMES, PARTS)}
        choices = {key.partition("/")[2]: _counts(file, key) for key in present if key.startswith(f"{CHOICES}/")}
        return Found(
            parts=told_parts(columns, choices, facts[PARTS], path.stat().st_size),
            labels=columns.pop("labels", None),
            columns=columns,
            unused=unused_keys(present),
            box={name: facts[name] for name in SPACE},
            task=None if facts["task"] is None else plain_text(facts["task"]),
            names={name: list(map(plain_text, np.ravel(facts[name]))) for name in NAMES if facts[name] is not None},
        )


def write_hdf5(
    path: str | os.PathLike[str],
    trajectories: Trajectories,
    *,
    attributes: Mapping[str, str | int | float] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    compression: int = 4,
) -> None:
    """Write a data set in DSRL's format, atomically; `load` gives back the same arrays, bit for bit.

    Args:
        path: the file, which is replaced if it exists.
        trajectories: the data; next_observations are written if they are present.
        attributes: HDF5 attributes of the file, such as where the data comes from. The action box is added.
        extra: further arrays by key, which `load` ignores.
        compression: gzip level, 0 to 9.

    Raises:
        RunError: the file cannot be written.
    """
    with atomic_path(Path(path)) as temporary, _Output(temporary, "r+") as output:
        with h5py.File(output, "w") as file:
            for key, array in {**keyed_arrays(trajectories), **(extra or {})}.items():
                file.create_dataset(key, data=array, compression="gzip", compression_opts=compression, shuffle=True)
                output.check()
            file.attrs.update({**(attributes or {}), **{name: getattr(trajectories, name) for name in BOX}})
            file.attrs.update({**feature_names(trajectories), **spaces_told(trajectories)})
        output.check()


class _Output(io.FileIO):
    """A file that keeps its first error to itself until it is asked: HDF5 cannot close a file on a full disk, and
    says so again and again."""

    _error: OSError | None = None

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, block: Buffer, /) -> int:
        whole = len(rest := memoryview(block))
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return whole

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size) if self._error is None else 0
        except OSError as error:
            self._error = error
            return 0


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file that may be anybody's; every DataError of the block begins with its name.

    Raises:
        DataError: it is no HDF5 file, damaged, being written, or would have HDF5 read other files.
    """
    with naming(path), _shared(path):
        with parsing():
            if not h5py.is_hdf5(path):
                raise DataError("this is not an HDF5 file; check that it is the data set itself.")
            try:
                file = h5py.File(path, "r", locking=False)  # file systems without locks would refuse
            except OSError:
                file = h5py.File(path, "r")  # this process may have it open with locks
        with file:
            _check_alone(file)
            yield file


def all_arrays(file: h5py.File) -> list[h5py.Dataset]:
    """Every array of a file, whatever group it is in."""
    found: list[tuple[bytes, int]] = []
    with parsing():
        # an error inside the callback would be lost
        h5py.h5o.visit(file.id, lambda name, info: found.append((name, info.type)), info=True)
        return [h5py.Dataset(h5py.h5d.open(file.id, name)) for name, kind in found if kind == h5py.h5o.TYPE_DATASET]


def check_stored(path: Path, datasets: Iterable[h5py.Dataset]) -> None:
    """Find arrays that claim more than the file holds of them, before memory is asked for.

    Raises:
        DataError: rows were never written, which HDF5 would make up, cannot be unpacked, or are implausibly many.
    """
    total = 0
    for dataset in datasets:
        with parsing():
            name, chunks, stored = _name(dataset), dataset.chunks, dataset.id.get_storage_size()
            size = dataset.size * dataset.dtype.itemsize
            wanted, there = 1, int(stored > 0)
            if chunks is not None:
                blocks = (-(-length // chunk) for length, chunk in zip(dataset.shape, chunks, strict=True))
                wanted, there = math.prod(blocks), dataset.id.get_num_chunks()
            properties = dataset.id.get_create_plist()  # its filters are what has to be undone
            filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
        if size and there < wanted:
            raise DataError(
                f"{name} was never written as a whole ({there} of {wanted} blocks), and the rest would read as a "
                "fill value; write every row, or cut all arrays to the rows that are there (h5py: file[key].resize)."
            )
        if chunks is None and size > stored:
            raise DamagedError(f"the file is damaged ({name} should have {size} bytes, but has {stored}).")
        for code, _, _, filter_name in filters:
            if not h5py.h5z.filter_avail(code):
                raise DataError(
                    f"{name} is packed with the filter {plain_text(filter_name) or code}, which is not installed; "
                    "import hdf5plugin before loading, or pack it anew (h5repack -f GZIP=4)."
                )
        if chunks is not None:  # they are unpacked whole
            size = wanted * math.prod(chunks) * dataset.dtype.itemsize
        total += max(size, dataset.size * 4)
    check_unpacked(total, path.stat().st_size)


@contextmanager
def _shared(path: Path) -> Iterator[None]:
    """Keep other processes from writing, where the file system can."""
    with parsing():
        handle = path.open("rb")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError("it is being written by another process; wait until it is closed.") from None
        except OSError:
            pass  # there are no locks here
        yield


def _check_alone(file: h5py.File) -> None:
    """Raise DataError if HDF5 would read other files: their bytes are in no hash, and they may be anybody's."""
    found: list[tuple[bytes, int]] = []
    with parsing():
        file.id.links.visit(lambda name, info: found.append((name, info.type)), info=True)
        for name, kind in found:
            if kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
                other = file.id.links.get_val(name)[0] if kind == h5py.h5l.TYPE_EXTERNAL else "another file"
                raise _refers(plain_text(name), "a link to", other)
        for dataset in all_arrays(file):
            properties = dataset.id.get_create_plist()
            if properties.get_layout() == h5py.h5d.VIRTUAL:
                first = properties.get_virtual_filename(0) if properties.get_virtual_count() else "other files"
                raise _refers(_name(dataset), "a virtual array of rows in", first)
            if properties.get_external_count():
                raise _refers(_name(dataset), "stored in", properties.get_external(0)[0])


def _refers(name: str, how: str, other: str | bytes) -> DataError:
    return DataError(
        f"{name} is {how} {plain_text(other)}, which is not followed; where all of it is there, write the arrays "
        "themselves into one file (h5py: new[key] = old[key][()])."
    )


def _check_flat(path: Path, file: h5py.File, groups: Collection[str]) -> None:
    """Raise DataError where the arrays are in groups, as other collections have them."""
    if any(re.fullmatch(r"episode_\d+", group) for group in groups):
        raise DataError(
            "this is only the data file of a Minari data set; pass the folder that holds it and its metadata.json, "
            f"as {path.absolute().parent}."
        )
    if groups and not any(key in file for key in ("observations", "actions", "rewards")):
        example = min(groups, key=len)
        raise DataError(
            f"the arrays are in groups, such as {example}, but one flat array per key is needed; read the episodes "
            "with h5py and give them to Trajectories.from_episodes, then write_hdf5 keeps them."
        )


def _with_parts(file: h5py.File, present: list[str], groups: Collection[str]) -> list[str]:
    """The keys, with the paths of the arrays in place of a group of parts."""
    opened = {key: _paths(file, key) for key in groups if key in ("observations", "next_observations", CHOICES)}
    return [path for key in present for path in opened.get(key) or (key,)]


def _paths(file: h5py.File, path: str) -> list[str]:
    """Of all that is no group, below one."""
    with parsing():  # a group may hold itself
        node = file.get(path)
        return [p for key in node for p in _paths(file, f"{path}/{key}")] if isinstance(node, h5py.Group) else [path]


def _counts(file: h5py.File, key: str) -> np.ndarray:
    dataset = _dataset(file, key)
    if dataset.size > _MOST_COUNTS:
        raise DataError(f"{key} has {dataset.size} entries; write one per column.")
    with parsing():
        return np.asarray(dataset[()])


def _name(dataset: h5py.Dataset) -> str:
    return plain_text(dataset.name or "an array").lstrip("/")


def _dataset(file: h5py.File, key: str) -> h5py.Dataset:
    with parsing():
        link, dataset = file.get(key, getlink=True), file.get(key)
        if isinstance(link, h5py.SoftLink) and dataset is None:
            raise DataError(
                f"{key} is a link to {plain_text(link.path)}, which is not in the file; write the array itself."
            )
        if dataset is None:
            raise KeyError(key)
        if not isinstance(dataset, h5py.Dataset):
            held = ", ".join(list(dataset)[:5]) if isinstance(dataset, h5py.Group) else "a type"
            raise DataError(
                f"{key} is a group, not an array; put what it holds ({held}) side by side into one array."
            )
        if dataset.shape is None:
            raise DataError(f"{key} is empty (a null dataset); store one row per transition.")
        try:
            dataset.dtype  # noqa: B018 (it is made now)
        except TypeError as error:
            raise DataError(f"{key} has a type that numpy lacks ({error}); convert it to float32.") from error
    return dataset


def _attribute(file: h5py.File, name: str) -> Any:
    """What the file says of itself under that name, None if nothing."""
    with parsing():
        if name not in file.attrs:
            return None
        size = file.attrs.get_id(name).get_storage_size()
        if size > _ATTRIBUTE_BYTES:
            raise DataError(f"the attribute {name} has {size} bytes; write one entry per feature.")
        return file.attrs[name]


def _read(field: str, dataset: h5py.Dataset, meter: Meter) -> np.ndarray:
    """One column. HDF5 converts to float32 on the way, so nothing but the result and a block is in memory."""
    with parsing():
        out = empty_column(field, dataset.shape, dataset.dtype)
        convertible = dataset.id.get_type().get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
    for block in _blocks(dataset.shape, dataset.chunks, dataset.dtype.itemsize):
        with parsing():
            if convertible:
                dataset.read_direct(out, block, block)
            else:  # booleans and other enumerations
                out[block] = dataset[block]
        meter.advance(4 * out[block].size)
    return out


def _blocks(shape: tuple[int, ...], chunks: tuple[int, ...] | None, itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array of one or two dimensions into blocks of whole chunks, so that no chunk is decompressed twice; one
    of more into rows.

    Blocks span all columns, unless the chunks are so tall that this would be too much at once.
    """
    if len(shape) > 2:
        step = max(1, _BLOCK_BYTES // itemsize // math.prod(shape[1:]))
        yield from ((slice(row, min(row + step, shape[0])),) for row in range(0, shape[0], step))
        return
    rows, width = shape[0], shape[1] if len(shape) == 2 else 1
    tall, wide = (chunks or (1,))[0], chunks[1] if chunks and len(chunks) == 2 else width
    most = max(1, _BLOCK_BYTES // itemsize)
    if tall * width <= most:
        tall, wide = most // width // tall * tall, width
    else:
        wide *= max(1, most // (tall * wide))
    for row in range(0, rows, tall):
        for column in range(0, width, wide):
            block = slice(row, min(row + tall, rows)), slice(column, min(column + wide, width))
            yield block[: len(shape)]
