"""Tables with named columns, in and out: pandas data frames, Parquet and CSV files, folders of them.

`table_sources.py` gives the columns of any of them as Arrow arrays, `table_columns.py` says what each column holds,
`table_cells.py` reads the cells, and `table_rows.py` puts the rows in order.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from safetrax.data.columns import Values
from safetrax.data.formats.arrays import BOX, SPACE, Found, feature_names
from safetrax.data.formats.damage import check_unpacked, first_bytes, naming, one_line, package, parsing, what_is_it
from safetrax.data.formats.table_columns import METADATA, find_layout, numbered
from safetrax.data.formats.table_rows import PLACE, Rows
from safetrax.data.labels import SAFE, UNKNOWN, UNSAFE, WORDS
from safetrax.data.trajectories import ACTION_CHOICES, Trajectories
from safetrax.errors import DataError
from safetrax.files import atomic_path
from safetrax.progress import Meter

if TYPE_CHECKING:
    import pandas as pd

    from safetrax.data.formats.table_sources import CsvSource, ParquetSource

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_SUFFIXES = (*CSV_SUFFIXES, ".parquet")
_OTHERS = (".hdf5", ".h5", ".npz")
_EXAMPLE = '{"actions": ["throttle"], "cost": "collision"}'
_ROWS = 1 << 17  # of a row group that is written


def from_pandas(
    frame: pd.DataFrame,
    *,
    observations: Sequence[str] | str | None = None,
    actions: Sequence[str] | str | None = None,
    reward: str | Literal[False] | None = None,
    cost: str | None = None,
    episode: Sequence[str] | str | None = None,
    step: str | None = None,
    time: str | Literal[False] | None = None,
    terminated: str | None = None,
    truncated: str | None = None,
    label: str | None = None,
    next_observations: Sequence[str] | str | bool = False,
    action_low: Values = None,
    action_high: Values = None,
    info: Mapping[str, Any] | None = None,
) -> Trajectories:
    """Make a data set out of a log with one row per transition and named columns.

    Columns that are not named are looked for under their usual names: `observation_*` (or `observation.*`,
    `obs_*`), `action_*`, `reward`, `cost`, `episode`, `step`, `time`, `terminated`, `truncated`, `label`. Levels of
    the index that have names are columns, too. A log without `cost` has no costs.

    Args:
        frame: the log. Columns are booleans, integers, floats, or lists of as many numbers in every row. Where a
            measurement is missing, it becomes NaN.
        observations: columns of s_t, or a pattern such as `"sensor_*"`.
        actions: columns of a_t, alike.
        reward: column of r_t; False: there is none, and rewards are NaN until the filter `relabel` computes them.
        cost: column of c_t, not negative.
        episode: column that tells the episodes apart, of any type, or several that do so together. Without one, the
            flags end them.
        step: column that orders the rows of an episode, numbers or times. Without one, they are as they come.
        time: column of numbers (seconds), dates, times or ISO texts, which `resample` needs; it may be that of
            `step`. False: none, whatever is called so.
        terminated: column that is 1 where the environment ended an episode.
        truncated: column that is 1 where a time limit did; a last row with neither is marked so.
        label: column that says safe, unsafe or unknown (also desirable, undesirable; 1, -1, 0), the same or nothing
            in all rows of an episode.
        next_observations: columns of s_{t+1}, or True: under their usual names.
        action_low: (A,) or one number, -1 if omitted.
        action_high: (A,) or one number, +1 if omitted.
        info: JSON-ready facts about the source; `observation_names` and `action_names` are added.

    Raises:
        DataError: a column is missing or ambiguous, or holds a text; what tells episodes, steps or ends is empty;
            rows cannot be put in order; pyarrow is not installed.
    """
    package("pyarrow", extra="pandas", purpose="a data frame")
    from safetrax.data.formats.table_sources import FrameSource

    given = {
        "observations": observations,
        "actions": actions,
        "reward": reward,
        "cost": cost,
        "episode": episode,
        "step": step,
        "time": time,
        "terminated": terminated,
        "truncated": truncated,
        "label": label,
        "next_observations": None if isinstance(next_observations, bool) else next_observations,
    }
    source = FrameSource(frame)
    named = {role: columns for role, columns in given.items() if columns is not None}
    layout = find_layout(source.names, named, next_observations=next_observations is not False)
    rows = Rows(layout, source.rows, source.widths(layout.used))
    for first, part in source.parts(layout):
        rows.put(first, part)
    return rows.found({"action_low": action_low, "action_high": action_high}).trajectories(info)


def to_pandas(
    trajectories: Trajectories,
    *,
    observation_names: Sequence[str] | None = None,
    action_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A data frame with one row per transition, which `from_pandas` turns into the same data set, bit for bit.

    Columns: `episode` and `step` from 0, `observation.NAME` (without names `observation_0`), `action.NAME`, `reward`,
    `terminated`, `truncated`, and, where there are such, `cost`, `hidden_cost`, `time` in seconds, `label` and
    `next_observation.NAME`.
    The action box is not in it.

    Args:
        trajectories: the data.
        observation_names: of the features, if `trajectories.info` has none or others.
        action_names: alike.

    Raises:
        DataError: pandas is not installed, or names do not fit.
    """
    frames = package("pandas", extra="pandas", purpose="a data frame")
    names = _column_names(trajectories, observation=observation_names, action=action_names)
    return frames.DataFrame(_block(trajectories, names, 0, trajectories.num_transitions), copy=False)


def write_parquet(
    path: str | os.PathLike[str],
    trajectories: Trajectories,
    *,
    observation_names: Sequence[str] | None = None,
    action_names: Sequence[str] | None = None,
) -> None:
    """Write a data set as a table, atomically; `load` gives back the same arrays, bit for bit, and the names.

    The columns are those of `to_pandas`. The action box is in the metadata of the file.

    Args:
        path: the file, which is replaced if it exists.
        trajectories: the data; next_observations are written if they are present.
        observation_names: of the features, if `trajectories.info` has none or others.
        action_names: alike.

    Raises:
        DataError: pyarrow is not installed, or names do not fit.
        RunError: the file cannot be written.
    """
    arrow = package("pyarrow", extra="pandas", purpose="writing Parquet files")
    parquet = package("pyarrow.parquet", extra="pandas", purpose="writing Parquet files")
    names = _column_names(trajectories, observation=observation_names, action=action_names)
    box: dict[str, Any] = {name: [float(bound) for bound in getattr(trajectories, name)] for name in BOX}
    if trajectories.action_choices is not None:
        box[ACTION_CHOICES] = trajectories.action_choices
    schema = arrow.table(_block(trajectories, names, 0, 1)).schema.with_metadata({METADATA: json.dumps(box).encode()})
    with (
        atomic_path(Path(path)) as temporary,
        parquet.ParquetWriter(temporary, schema, use_dictionary=["episode"], compression="zstd") as writer,
    ):
        for first in range(0, trajectories.num_transitions, _ROWS):
            writer.write_table(arrow.table(_block(trajectories, names, first, first + _ROWS), schema=schema))


def table_files(folder: Path) -> list[Path]:
    """The CSV or Parquet files in a folder and below it, but hidden ones; numbers in names are put in order.

    None where other data sets lie beside them, for then they are no log of their own.
    """
    if not folder.is_dir() or any(path.name.lower().endswith(_OTHERS) for path in folder.iterdir()):
        return []
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    shown = [name for name in found if not re.search(r"(^|[\\/])[._]", name) and name.lower().endswith(_SUFFIXES)]
    return [found[name] for name in sorted(shown, key=_natural)]


def read_tables(path: Path, given: Mapping[str, Any], *, next_observations: bool, meter: Meter) -> Found:
    """Read the columns that are needed of a CSV or Parquet file, or of a folder of either: one log in many files.

    Episodes of different files are different, whatever their numbers; where a folder is called `episode=3`, all
    files in it are that episode. What a file of columns beside it says holds where nothing else is `given`.

    Raises:
        DataError: a column is missing or ambiguous, or holds what it should not; a file cannot be parsed.
    """
    told, box = _read_sidecar(path)
    given = {**told, **given}
    package("pyarrow", extra="pandas", purpose=f"reading {_kind(path)} files")
    files = table_files(path) if path.is_dir() else [path]
    if len(kinds := sorted(set(map(_kind, files)))) > 1:
        raise DataError(
            f"{path} holds {kinds[0]} and {kinds[1]} files; put those of one log into a folder of its own."
        )
    sources: dict[Path, CsvSource | ParquetSource] = {}
    for file in files:
        with _reading(file):
            sources[file] = _open(file)
            if sources[file].box != sources[files[0]].box:
                raise DataError(
                    f"its action box is not that of {files[0]}; load both, and put the actions into one box."
                )
    rows: Rows | None = None
    before = 0
    for file in [file for file in files if sources[file].rows] or files[:1]:
        source, folders = sources[file], _folders(file, path)
        with _reading(file):
            layout = find_layout(source.names, given, next_observations=next_observations, folders=tuple(folders))
            widths = source.widths(layout.used)
            if rows is None:
                rows = Rows(layout, sum(each.rows for each in sources.values()), widths)
                check_unpacked(rows.nbytes, sum(each.stat().st_size for each in files))
                meter.expect(rows.nbytes)
            if different := rows.differs(layout, widths):
                raise DataError(
                    f"its columns are not those of {files[0]} ({different} differs); log the same in every file, or "
                    "load them one by one and join them by Trajectories.concatenate."
                )
            if "episode" in given and layout.folders:
                rows.mark(before, source.rows, {f"{key}=": folders[key] for key in layout.folders})
            elif len(files) > 1 or layout.folders:
                rows.mark(before, source.rows, {PLACE: str(file.parent if layout.folders else file)})
            for first, part in source.parts(layout):
                meter.advance(rows.put(first, part, before=before, text=source.text))
            before += source.rows
    assert rows is not None  # there is a file
    own = sources[files[0]].box
    with _reading(path):
        return rows.found({name: own.get(name) if box.get(name) is None else box[name] for name in SPACE})


def sidecar_path(path: Path) -> Path:
    """`log.columns.json` of `log.parquet`, `log.csv`, `log.csv.gz` or the folder `log`."""
    name = path.name if path.is_dir() else re.sub(r"(\.[ct]sv)?\.\w+$", "", path.name, flags=re.IGNORECASE)
    return path.with_name(name + ".columns.json")


def _read_sidecar(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns by role, as `load(..., columns=)` takes them, and the action box; both may be empty."""
    place = sidecar_path(path)
    if not place.is_file():
        return {}, {}
    try:
        entries = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{place} cannot be read as JSON ({error}); write one object, such as {_EXAMPLE}.") from error
    if not isinstance(entries, dict):
        raise DataError(f"{place} is no JSON object; write one, such as {_EXAMPLE}.")
    box = {name: entries.pop(name) for name in SPACE if name in entries}
    return entries, box


def _kind(path: Path) -> str:
    """The kind of a file by its name; whatever has another ending begins as Parquet does."""
    return "CSV" if path.name.lower().endswith(CSV_SUFFIXES) else "Parquet"


def _open(path: Path) -> CsvSource | ParquetSource:
    from safetrax.data.formats.table_sources import CsvSource, ParquetSource

    csv_file = _kind(path) == "CSV"
    if words := what_is_it(first_bytes(path), gzip=csv_file):
        raise DataError(f"the file {words}.")
    return CsvSource(path) if csv_file else ParquetSource(path)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file is a DataError that names it."""
    import pyarrow

    with naming(path), parsing((pyarrow.ArrowException, EOFError, zlib.error, ValueError, RecursionError)):
        try:
            yield
        except (pyarrow.ArrowException, csv.Error, UnicodeError) as error:
            if _kind(path) != "CSV":
                raise
            raise DataError(
                f"it cannot be parsed as CSV ({one_line(error)}); write one row per transition under a header, in "
                "UTF-8."
            ) from error


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts `episode_10` after `episode_2`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _folders(file: Path, within: Path) -> dict[str, str]:
    """The values of `key=value` among the folders that a file is in."""
    parents = file.parent.parts if file == within else file.relative_to(within.parent).parent.parts
    return dict(part.split("=", 1) for part in parents if re.fullmatch(r"[^=]+=[^=]+", part))


def _block(data: Trajectories, names: Mapping[str, list[str]], first: int, last: int) -> dict[str, np.ndarray]:
    """Rows first to last - 1, by column."""
    rows = slice(first, last)
    numbers = np.arange(first, min(last, data.num_transitions))
    episode = data.episodes_of(numbers)
    columns = {"episode": episode, "step": numbers - data.offsets[episode]}
    columns |= zip(names["observation"], data.observations[rows].T.copy(), strict=True)
    columns |= zip(names["action"], data.actions[rows].T.copy(), strict=True)
    columns |= {"reward": data.rewards[rows]}
    for name, array in (("cost", data.costs), ("hidden_cost", data.hidden_costs), ("time", data.times)):
        columns |= {} if array is None else {name: array[rows]}
    columns |= {"terminated": data.terminated[rows], "truncated": data.truncated[rows]}
    if data.labels is not None:
        words = np.array([WORDS[label] for label in (UNSAFE, UNKNOWN, SAFE)], object)
        columns["label"] = words[data.labels[episode] - UNSAFE]
    if data.next_observations is not None:
        after = [f"next_{name}" for name in names["observation"]]
        columns |= zip(after, data.next_observations[rows].T.copy(), strict=True)
    return columns


def _column_names(data: Trajectories, **given: Sequence[str] | None) -> dict[str, list[str]]:
    """The columns of each kind of feature: as given, else as the data know them, else numbered."""
    sizes = {"observation": data.observation_size, "action": data.action_size}
    known = feature_names(data)
    return {
        kind: _names_of(kind, known.get(f"{kind}_names") if names is None else names, sizes[kind])
        for kind, names in given.items()
    }


def _names_of(kind: str, names: Sequence[str] | None, size: int) -> list[str]:
    if names is None:
        return [f"{kind}_{i}" for i in range(size)]
    entry = f"{kind}_names"
    if isinstance(names, str) or len(names) != size:
        raise DataError(f"{entry} is {names!r}, but there are {size} features; pass one name each.")
    names = [name.strip() for name in names]
    for name in names:
        if names.count(name) > 1 or not name:
            raise DataError(f"{entry} holds {name!r} twice or an empty name; pass different ones.")
    if numbered(names) and (order := [int(name) for name in names]) != sorted(order):
        raise DataError(f"{entry} holds only numbers, and not in order; pass words, or rising numbers.")
    return [f"{kind}.{name}" for name in names]
