"""Reading a data set, whatever it is stored in: `load` finds the format, the file and the task."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from safetrax.catalogue import Task, catalogued_task, get_task, task_of_file, tasks
from safetrax.data.columns import Values
from safetrax.data.demo_data import DEMO, DEMO_FILE, demo_path
from safetrax.data.download import dataset_folder, find_dataset
from safetrax.data.formats.arrays import Found, wanted_fields
from safetrax.data.formats.damage import first_bytes, naming, what_is_it
from safetrax.data.formats.hdf5 import read_hdf5
from safetrax.data.formats.minari import PREFIX, is_minari, minari_files, minari_folder, read_minari
from safetrax.data.formats.npz import read_npz
from safetrax.data.formats.tables import CSV_SUFFIXES, read_tables, table_files
from safetrax.data.labels import Marks, names_episodes, read_labels
from safetrax.data.trajectories import HUB_FILE, HUB_PREFIX, Trajectories
from safetrax.errors import DataError, TaskError
from safetrax.hub import fetch
from safetrax.progress import Meter

_SUFFIXES = {
    ".hdf5": "HDF5",
    ".h5": "HDF5",
    ".npz": "NPZ",
    ".parquet": "Parquet",
    **dict.fromkeys(CSV_SUFFIXES, "CSV"),
}
_MAGIC = {b"\x89HDF": "HDF5", b"PAR1": "Parquet", b"PK\x03\x04": "NPZ"}
_TABLES = ("Parquet", "CSV")
_HASH_BYTES = 1 << 20


def load(
    source: str | os.PathLike[str],
    *,
    next_observations: bool = False,
    task: str | None = None,
    action_low: Values = None,
    action_high: Values = None,
    action_choices: int | None = None,
    columns: Mapping[str, Any] | None = None,
    labels: Marks = None,
    progress: bool = False,
) -> Trajectories:
    """Read a data set; only what is needed, straight into its final arrays.

    A value that is missing is NaN, which training refuses: filters leave such episodes out or mend them. Memory stays
    near that of the arrays, whatever the format. `info["sha256"]` is the hash of the file (of a Minari
    data set: of its data files, one after the other).

    Args:
        source: a file in DSRL's HDF5 format (.hdf5, .h5), the same arrays as .npz, a log with named columns
            (.parquet, .csv, .tsv, .csv.gz) or a folder of such, or the folder of a Minari data set; `"minari:NAME"`
            for one in Minari's local folder; `"hub:OWNER/NAME"` for one that
            `Trajectories.push_to_hub` put there; the name of a benchmark task for its downloaded data set; or
            `"demo"` for the small one that ships with the package.
        next_observations: also read next_observations where the log has them; they double the memory.
        task: the task that the data was recorded in; if omitted, it is guessed from the file's name.
        action_low: lower end of the action box, (A,) or one number; else what the file says, else -1.
        action_high: upper end, alike, else +1.
        action_choices: how many there are where an action is one of them, logged as their numbers from 0; else what
            the file says.
        columns: which columns of a log hold what, where they have other than the usual names: `observations` and
            `actions` (a list, or a pattern such as `"sensor_*"`), `reward`, `cost`, `episode` (or a list of several),
            `step`, `time`, `terminated`, `truncated`, `label`, `next_observations`. See `from_pandas`. A file
            `NAME.columns.json` beside the log may say the same.
        labels: which episodes went well or did not, in place of what the log itself says: a CSV file with the columns
            `episode` and `label`, or `"safe:3,7,12"`, or several of these, or what `Trajectories.marked` takes. An
            episode is called what the log calls it (its column `episode`), else by its number from 0.
        progress: show a bar on standard error, if that is a terminal and it takes longer than a second.

    Raises:
        DataError: the source or the file of labels is missing, unreadable or malformed, or needs a package that is
            not installed; labels name no episode of the log, or contradict.
        TaskError: there is no such task.
    """
    with _located(source) as (path, name, named):
        told = task or named
        known = get_task(told) if told else None
        kind = _kind(path)
        if columns is not None and kind not in _TABLES:
            raise DataError(f"{path} is no table, but columns was given; leave it out.")
        files = minari_files(path) if kind == "Minari" else table_files(path) or [path]
        with Meter(name, progress) as meter:
            meter.expect(sum(file.stat().st_size for file in files))
            found = _read(path, kind, columns or {}, next_observations, meter)
            digest = _sha256(files, meter)
        with contextlib.suppress(TaskError):
            known = known or get_task(found.task or "")
        known = known or task_of_file(name)
        given = {"action_low": action_low, "action_high": action_high, "action_choices": action_choices}
        box = {**found.box, **{end: value for end, value in given.items() if value is not None}}
        info = {"source": name, "sha256": digest, "task": known.name if known else None}
        with naming(path):
            data = replace(found, box=box).trajectories(info)
        if labels is None:
            return data
        return replace(data, labels=read_labels(labels, data.num_episodes, found.episodes))


@contextlib.contextmanager
def _located(source: str | os.PathLike[str]) -> Iterator[tuple[Path, str, str | None]]:
    """Where a source is, what it is called, and the task that it names."""
    text = os.fspath(source)
    path = Path(text)
    if source == DEMO:
        with demo_path() as path:  # out of an archive it is a temporary file, whose name says nothing
            yield path, DEMO_FILE, None
    elif text.startswith(PREFIX):
        yield minari_folder(text.removeprefix(PREFIX)), text, None
    elif text.startswith(HUB_PREFIX):
        yield fetch(text.removeprefix(HUB_PREFIX), "dataset", HUB_FILE, None), text, None
    elif os.path.lexists(path) or (task := _task_named(text)) is None:
        yield path, path.name, None
    elif (downloaded := find_dataset(task)) is None:
        raise DataError(
            f"there is no data set of {task.name} in {dataset_folder()}; safetrax download {task.name} fetches it."
        )
    else:
        yield downloaded, downloaded.name, task.name


def _read(path: Path, kind: str, columns: Mapping[str, Any], next_observations: bool, meter: Meter) -> Found:
    if kind == "Minari":
        return read_minari(path, next_observations=next_observations, meter=meter)
    if kind in _TABLES:
        return read_tables(path, columns, next_observations=next_observations, meter=meter)
    read = read_npz if kind == "NPZ" else read_hdf5
    return read(path, wanted_fields(next_observations=next_observations), meter=meter)


def absolute_source(source: str | os.PathLike[str]) -> str:
    """A source of `load` in a form that means the same in any working folder: a path becomes absolute."""
    text = os.fspath(source)
    if text == DEMO or text.startswith((PREFIX, HUB_PREFIX)):
        return text
    named = not os.path.lexists(text) and _task_named(text) is not None
    return text if named else str(Path(text).resolve())


def absolute_labels(words: Iterable[str]) -> list[str]:
    """Words of `load(labels=)` in such a form, alike."""
    return [word if names_episodes(word) else str(Path(word).resolve()) for word in words]


def _kind(path: Path) -> str:
    """The format, by the content or else the name; also the first access, where plain file faults are told apart."""
    if path.is_dir() and is_minari(path):
        return "Minari"
    if table_files(path):
        return "CSV"
    named = next((kind for suffix, kind in _SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError(f"{path} is a pipe or a device; write what comes out of it to a file, and pass that.")
        start = first_bytes(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; {_suggestion(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; pass one of the HDF5 files in it.") from error
    except PermissionError as error:
        raise DataError(f"{path} may not be read; ask for read permission (chmod u+r).") from error
    except (OSError, ValueError) as error:  # the latter where the name holds a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read ({reason}); check the path and the disk.") from error
    if words := what_is_it(start, gzip=named == "CSV"):
        raise DataError(f"{path} {words}.")
    if named == "CSV":
        return named
    kind = _MAGIC.get(start[:4]) or named
    if kind is None and not h5py.is_hdf5(path):
        raise DataError(
            f"{path} is not an HDF5 file, nor NPZ, nor Parquet, nor called .csv; check that it is the data set."
        )
    return kind or "HDF5"


def _sha256(files: Iterable[Path], meter: Meter) -> str:
    """Hash of files, one after the other, in hex."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                while block := file.read(_HASH_BYTES):
                    digest.update(block)
                    meter.advance(len(block))
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check the path and the disk.") from error
    return digest.hexdigest()


def _task_named(text: str) -> Task | None:
    with contextlib.suppress(TaskError):
        return catalogued_task(text)
    return None


def _suggestion(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either; check the path."
    names = [entry.name for entry in path.parent.iterdir() if entry.name.lower().endswith(tuple(_SUFFIXES))]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.4)
    if not near and not path.suffix and path == Path(path.name):
        known = {task.name.casefold(): f"the task {task.name}" for task in tasks()}
        near = [known[name] for name in difflib.get_close_matches(path.name.casefold(), known, n=1)]
    return f"did you mean {near[0]}?" if near else "check the path."
