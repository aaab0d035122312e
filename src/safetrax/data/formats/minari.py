"""Data sets of Minari, the Farama Foundation's collection for offline reinforcement learning (extra `minari`).

Minari keeps, per episode of T steps, T actions and rewards, T + 1 observations and, in `infos`, further arrays. The
costs, if there are any, are `infos["cost"]`: T numbers, or T + 1 of which the first came with the reset and is left
out, as it is no step's; so are `infos["hidden_cost"]` and, one number over and over, `infos["label"]`. Of
`infos["timestamp"]`, which tells when an observation was made, the last is left out. The action box is that of the
action space.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import operator
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safetrax.catalogue import catalogued_task
from safetrax.data.columns import chunks
from safetrax.data.formats.arrays import FLAGS, Found, empty_column
from safetrax.data.formats.damage import check_unpacked, naming, one_line, package, parsing
from safetrax.data.formats.hdf5 import all_arrays, check_stored, open_hdf5
from safetrax.data.labels import cell_labels, labels_of_rows
from safetrax.data.times import as_seconds
from safetrax.data.trajectories import ACTION_CHOICES, Trajectories
from safetrax.errors import ConfigError, DataError, TaskError
from safetrax.files import explain_os_errors
from safetrax.progress import Meter
from safetrax.spaces import Part, flatten, parts_of_space

PREFIX = "minari:"
"""What the name of a data set in Minari's local folder begins with, for `load`."""

_METADATA = "metadata.json"
_INFOS = {"cost": "costs", "hidden_cost": "hidden_costs", "label": "labels", "timestamp": "times"}
# optional, with their fields


def minari_folder(name: str) -> Path:
    """The folder of a data set in Minari's local folder (the environment variable MINARI_DATASETS_PATH).

    Raises:
        DataError: it is not there.
    """
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
    if not is_minari(root / name):
        raise DataError(
            f"there is no Minari data set {name!r} in {root}; minari download {name} fetches a published one, "
            "minari list local shows what is there."
        )
    return root / name


def is_minari(folder: Path) -> bool:
    """Whether a folder holds a Minari data set; its inner folder `data` will do, too."""
    return (_inner(folder) / _METADATA).is_file()


def minari_files(folder: Path) -> list[Path]:
    """The files with the data themselves, in the order of their names."""
    return sorted(path for path in _inner(folder).rglob("*") if path.is_file() and path.name != _METADATA)


def read_minari(folder: Path, *, next_observations: bool, meter: Meter) -> Found:
    """Read a data set, episode by episode, straight into the final arrays.

    Raises:
        DataError: Minari is not installed or cannot open it; its spaces are none that can be read; only some episodes
            have costs; a file of it would have HDF5 read other files.
    """
    minari = package("minari", extra="minari", purpose="reading a Minari data set")
    files = minari_files(folder)
    for file in files:  # before Minari opens them without asking
        if file.suffix == ".hdf5":
            with open_hdf5(file) as opened:
                check_stored(file, all_arrays(opened))
    size = sum(file.stat().st_size for file in files)
    with naming(folder):
        _check_episodes(_inner(folder) / _METADATA, size)
        with _minari():  # also what Gymnasium raises about spaces and environments
            dataset = minari.MinariDataset(_inner(folder))
            lengths = [
                int(entry["total_steps"]) for entry in dataset.storage.get_episode_metadata(dataset.episode_indices)
            ]
        if any(not 0 <= length <= size for length in lengths):
            raise DataError(f"an episode has {min(lengths)} to {max(lengths)} steps; write the data set again.")
        return _read(dataset, lengths, next_observations=next_observations, file_size=size, meter=meter)


def to_minari(trajectories: Trajectories, dataset_id: str, *, env_id: str | None = None, **metadata: Any) -> Path:
    """Write a data set into Minari's local folder; `load("minari:" + dataset_id)` gives back the same arrays.

    Args:
        trajectories: the data. Each next observation must be the observation of the row that follows, for Minari
            keeps no other but the one after the last step. Where next_observations are not loaded, an episode's
            last observation stands there again, as `Store.transitions` takes it.
        dataset_id: its name in Minari, such as `ball/run-v0`.
        env_id: the Gymnasium environment that the data come from, if it is registered.
        **metadata: more for `minari.create_dataset_from_buffers`: author, author_email, algorithm_name,
            code_permalink, description, data_format and so on.

    Returns:
        The folder of the data set.

    Raises:
        DataError: Minari is not installed, or it cannot hold these data.
        ConfigError: the name or the environment is none, or the name is taken.
        RunError: it cannot be written.
    """
    minari = package("minari", extra="minari", purpose="writing a Minari data set")
    gymnasium = package("gymnasium", extra="minari", purpose="writing a Minari data set")
    _check_following(trajectories)
    folder = _new_folder(dataset_id)
    if env_id is not None and env_id not in gymnasium.registry:
        raise ConfigError(
            f"Gymnasium knows no environment {env_id!r}; import the package that registers it, or pass none."
        )
    size, box = trajectories.observation_size, gymnasium.spaces.Box
    try:
        with explain_os_errors(folder), warnings.catch_warnings():
            # it asks for an author and so on, which this function's docstring names
            warnings.filterwarnings("ignore", "`?[a-z_]+`? is (set to )?None", UserWarning)
            minari.create_dataset_from_buffers(
                dataset_id,
                _buffers(trajectories),
                env=env_id,
                observation_space=box(-np.inf, np.inf, (size,), np.float32),
                action_space=(
                    box(trajectories.action_low, trajectories.action_high, dtype=np.float32)
                    if trajectories.action_choices is None
                    else gymnasium.spaces.Discrete(trajectories.action_choices)
                ),
                **metadata,
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half a data set
        raise
    return folder


def _check_episodes(metadata: Path, size: int) -> None:
    """Raise DataError if the metadata are no JSON object, or promise more episodes than there are bytes."""
    try:
        episodes = json.loads(metadata.read_text(encoding="utf-8"))["total_episodes"]
        if not 0 <= int(episodes) <= size:
            raise ValueError(f"total_episodes is {episodes}")
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{metadata.name} cannot be used ({one_line(error)}); download or write the data set again."
        ) from error


def _read(dataset: Any, lengths: list[int], *, next_observations: bool, file_size: int, meter: Meter) -> Found:
    """Fill the columns with one episode after the other."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = int(offsets[-1])
    if not rows:
        raise DataError("the data set has no steps; record some episodes.")
    with _as_data_error():
        parts = parts_of_space(dataset.observation_space, "the observations")
    choices = _choices(dataset.action_space)
    boxes = _boxes("actions", dataset.action_space) if choices is None else [((), dataset.action_space)]
    sizes = {
        "observations": sum(part.size for part in parts),
        "actions": sum(math.prod(box.shape or ()) for _, box in boxes),
    }
    check_unpacked(4 * rows * sum(sizes.values()), file_size)
    if next_observations:
        sizes["next_observations"] = sizes["observations"]
    shapes: dict[str, tuple[int, ...]] = {name: (rows, size) for name, size in sizes.items()}
    shapes |= dict.fromkeys(("rewards", *_INFOS.values(), *FLAGS), (rows,))
    dtypes = {"times": np.dtype(np.float64)}
    columns = {
        name: empty_column(name, shape, dtypes.get(name, np.dtype(np.bool_))) for name, shape in shapes.items()
    }
    total = sum(column.nbytes for column in columns.values())
    meter.expect(total)
    with _minari():
        episodes = dataset.iterate_episodes()
    infos: Mapping[str, Any] | None = None  # of the first episode
    for number, steps in enumerate(lengths):
        first = int(offsets[number])
        with _minari():
            episode = next(episodes)
        with naming(f"episode {number}"), np.errstate(over="ignore"):
            found = _episode(episode, parts, boxes, steps)
            if steps:
                infos = _infos(episode) if infos is None else infos
                if other := set(infos).symmetric_difference(_infos(episode)).intersection(_INFOS):
                    raise DataError(f"only some episodes have {min(other)} in their infos; record all of them alike.")
            for name, values in found.items():
                if name not in columns:
                    continue
                if values.shape[1:] != columns[name].shape[1:]:
                    raise DataError(
                        f"{name} have {values.shape[-1]} numbers per step, but their space has "
                        f"{columns[name].shape[-1]}; write the data set again."
                    )
                columns[name][first : first + steps] = values
        meter.advance(total * steps // rows)
    box = (
        {ACTION_CHOICES: choices}
        if choices is not None
        else {
            f"action_{end}": np.concatenate([np.ravel(getattr(part, end)) for _, part in boxes])
            for end in ("low", "high")
        }
    )
    task = None
    with contextlib.suppress(TaskError, AttributeError):  # an environment of no benchmark, or none at all
        task = catalogued_task(dataset.env_spec.id).name
    offsets = np.unique(offsets)  # without empty episodes
    absent = {field for name, field in _INFOS.items() if name not in (infos or {})}
    columns = {name: column for name, column in columns.items() if name not in absent}
    labels = columns.pop("labels", None)
    marks = None if labels is None else labels_of_rows(labels.astype(np.int8), offsets)
    unused = set(infos or {}).difference(_INFOS)
    named = () if [part.name for part in parts] == [""] and not parts[0].choices else parts
    return Found(columns=columns, offsets=offsets, parts=named, labels=marks, unused=unused, box=box, task=task)


def _episode(
    episode: Any, parts: Sequence[Part], boxes: list[tuple[tuple[Any, ...], Any]], steps: int
) -> dict[str, np.ndarray]:
    with _as_data_error():
        observations = np.atleast_2d(flatten(parts, episode.observations))
    columns = {
        "actions": _rows(boxes, episode.actions),
        "rewards": _numbers(episode.rewards).reshape(-1),
        "terminated": _numbers(episode.terminations).astype(np.bool_).reshape(-1),
        "truncated": _numbers(episode.truncations).astype(np.bool_).reshape(-1),
    }
    for name, values in _infos(episode).items():
        if name == "timestamp":
            columns["times"] = as_seconds(name, values)[:steps]
        elif name in _INFOS:
            found = np.asarray(values).reshape(-1) if name == "label" else _numbers(values).reshape(-1)
            columns[_INFOS[name]] = found[1:] if len(found) == steps + 1 else found
    if "labels" in columns:
        entries, codes = np.unique(columns["labels"], return_inverse=True)
        columns["labels"] = cell_labels("label", entries.tolist())[codes]
    if len(observations) != steps + 1:
        raise DataError(f"there are {len(observations)} observations, but {steps} steps need {steps + 1}.")
    for name, values in columns.items():
        if len(values) != steps:
            raise DataError(f"{name} has {len(values)} entries, but there are {steps} steps.")
    return {**columns, "observations": observations[:-1], "next_observations": observations[1:]}


def _infos(episode: Any) -> dict[str, Any]:
    return episode.infos if isinstance(episode.infos, dict) else {}


def _inner(folder: Path) -> Path:
    return folder if (folder / _METADATA).is_file() else folder / "data"


def _boxes(name: str, space: Any, at: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """The boxes that a space is made of, in Gymnasium's order of flattening, each after the keys that lead to it."""
    spaces = getattr(space, "spaces", None)
    if spaces is not None:
        parts = spaces.items() if hasattr(spaces, "items") else enumerate(spaces)
        return [box for key, part in parts for box in _boxes(name, part, (*at, key))]
    if type(space).__name__ != "Box":
        raise DataError(
            f"{name} come from the space {space}, but only Discrete, boxes, and dictionaries and tuples of boxes can "
            "be read; convert them to numbers with Trajectories.from_episodes."
        )
    return [(at, space)]


def _choices(space: Any) -> int | None:
    """How many there are; None where actions are none."""
    if type(space).__name__ != "Discrete":
        return None
    if space.start != 0:
        raise DataError(f"actions come from the space {space}; number the choices from 0.")
    return int(space.n)


def _rows(boxes: list[tuple[tuple[Any, ...], Any]], values: Any) -> np.ndarray:
    """One flat row per step, as gymnasium.spaces.flatten would make it."""
    with parsing():
        parts = [_numbers(functools.reduce(operator.getitem, at, values)) for at, _ in boxes]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _numbers(values: Any) -> np.ndarray:
    with parsing():  # of unequal lengths
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise DataError(f"it holds entries of type {array.dtype}, which are no numbers; convert them to float32.")
    return array


@contextlib.contextmanager
def _as_data_error() -> Iterator[None]:
    """What is said of a space is said of the data."""
    try:
        yield
    except ConfigError as error:
        raise DataError(str(error)) from error


@contextlib.contextmanager
def _minari() -> Iterator[None]:
    """Whatever Minari raises about what it reads becomes a sentence."""
    try:
        yield
    except Exception as error:
        remedy = "if it is damaged, download or write it again"
        if "lock file" in str(error):  # Minari insists on locks
            remedy = "set the environment variable HDF5_USE_FILE_LOCKING to FALSE"
        raise DataError(f"Minari cannot read it ({one_line(error)}); {remedy}.") from error


def _check_following(trajectories: Trajectories) -> None:
    """Raise DataError unless every next observation, but an episode's last, is the observation of the next row."""
    after = trajectories.next_observations
    if after is None:
        return
    ends = trajectories.terminated | trajectories.truncated
    following = trajectories.observations[1:]
    for rows in chunks(len(following)):
        same = after[rows].view(np.int32) == following[rows].view(np.int32)
        odd = ~same.all(axis=1) & ~ends[rows]
        if odd.any():
            raise DataError(
                f"next_observations of row {rows.start + int(np.argmax(odd))} are not the observations of the next "
                "row, though the episode goes on there; Minari cannot hold both, so write HDF5, NPZ or Parquet."
            )


def _new_folder(dataset_id: str) -> Path:
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage.datasets_root_dir import get_dataset_path

    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{dataset_id!r} is no name for a Minari data set; give one such as ball/run-v0."
        ) from error
    folder = Path(get_dataset_path(dataset_id))
    if folder.exists():
        raise ConfigError(f"there is a Minari data set {dataset_id} already, in {folder}; raise the version.")
    return folder


def _buffers(trajectories: Trajectories) -> Iterator[Any]:
    """One buffer per episode, made when Minari writes it: a list of all would double the memory."""
    from minari.data_collector import EpisodeBuffer

    for number in range(trajectories.num_episodes):
        episode = trajectories.episode(number)
        last = episode.get("next_observations", episode["observations"])
        # as Minari's collector has it, beginning with the reset; its Arrow format cannot read back flat arrays
        infos = {key: [np.float32(0), *episode[name]] for key, name in _INFOS.items() if name in episode}
        if trajectories.times is not None:
            infos["timestamp"] = [*episode["times"], episode["times"][-1]]
        if trajectories.labels is not None:
            infos["label"] = [trajectories.labels[number]] * (len(last) + 1)
        yield EpisodeBuffer(
            id=number,
            observations=np.concatenate([episode["observations"], last[-1:]]),
            actions=episode["actions"] if trajectories.action_choices is None else episode["actions"].argmax(axis=1),
            rewards=episode["rewards"],
            terminations=episode["terminated"],
            truncations=episode["truncated"],
            infos=infos,
        )
