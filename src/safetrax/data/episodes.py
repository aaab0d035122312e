"""Whole episodes: joining them into flat columns, and naming some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64

from safetrax.data.columns import Values, as_flags, as_matrix, as_vector, check_fit
from safetrax.errors import DataError

if TYPE_CHECKING:
    from safetrax.data.trajectories import Trajectories

_MATRICES = ("observations", "actions")
_VECTORS = ("rewards", "costs")
_FLAGS = ("terminated", "truncated")
_KEYS = (*_MATRICES, *_VECTORS, *_FLAGS, "next_observations")


def join_episodes(
    episodes: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, np.ndarray], Int64[np.ndarray, " boundaries"]]:
    """Flat columns by field name, and the episode offsets.

    Raises:
        DataError: a key is missing or unknown, or arrays do not fit together.
    """
    parts = [_episode_columns(number, episode) for number, episode in enumerate(episodes)]
    if not parts:
        raise DataError("there are no episodes; pass at least one.")
    for number, part in enumerate(parts):
        _check_alike(number, part, parts[0])
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    offsets = np.cumsum([0, *(len(part["rewards"]) for part in parts)], dtype=np.int64)
    return columns, offsets


def concatenated(parts: Sequence[Trajectories]) -> dict[str, Any]:
    """The fields of several data sets as one.

    Raises:
        DataError: there are none, or their sizes or action boxes differ.
    """
    if not parts:
        raise DataError("there are no data sets to concatenate; pass at least one.")
    first, names = parts[0], [*_KEYS]
    for number, part in enumerate(parts):
        for name, ours, theirs in (
            ("observations", first.observation_size, part.observation_size),
            ("actions", first.action_size, part.action_size),
            ("lower action bounds", first.action_low.tolist(), part.action_low.tolist()),
            ("upper action bounds", first.action_high.tolist(), part.action_high.tolist()),
        ):
            if ours != theirs:
                raise DataError(f"data set {number} has other {name} than data set 0: {theirs} instead of {ours}.")
    if any(part.next_observations is None for part in parts):
        names.remove("next_observations")
    tasks = {part.info.get("task") for part in parts}
    return {
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        "offsets": np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]),
        "action_low": first.action_low,
        "action_high": first.action_high,
        "info": {
            "task": tasks.pop() if len(tasks) == 1 else None,
            "parts": [dict(part.info) for part in parts],
        },
    }


def episode_numbers(selection: np.ndarray, num_episodes: int) -> Int64[np.ndarray, " selected"]:
    """Episode numbers, not negative, out of a boolean mask or of integers.

    Raises:
        DataError: nothing is selected, a mask has the wrong length, or an episode does not exist.
    """
    if selection.ndim != 1 or (selection.size and selection.dtype.kind not in "biu"):
        raise DataError(
            f"the selection has dtype {selection.dtype} and shape {selection.shape}; "
            f"pass a boolean mask of shape ({num_episodes},) or integer episode numbers."
        )
    if selection.dtype.kind == "b":
        if len(selection) != num_episodes:
            raise DataError(
                f"the mask has {len(selection)} entries but there are {num_episodes} episodes; pass one each."
            )
        selection = np.flatnonzero(selection)
    if len(selection) == 0:
        raise DataError(f"no episode is selected out of {num_episodes}; loosen the selection.")
    numbers = selection.astype(np.int64)
    outside = (numbers < -num_episodes) | (numbers >= num_episodes)
    if outside.any():
        raise DataError(
            f"episode {numbers[outside][0]} does not exist: there are {num_episodes}; pass lower numbers."
        )
    return numbers % num_episodes


def _episode_columns(number: int, episode: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The checked columns of one episode, its flags as one boolean per row."""
    given = ", ".join(map(str, episode)) or "none"
    for name in (*_MATRICES, *_VECTORS):
        if name not in episode:
            raise DataError(f"episode {number} has no {name} (its keys: {given}); add it.")
    for name in episode:
        if name not in _KEYS:
            raise DataError(f"episode {number} has the unknown key {name}; the known ones are {', '.join(_KEYS)}.")
    try:
        columns = {name: as_matrix(name, episode[name]) for name in _MATRICES}
        columns |= {name: as_vector(name, episode[name]) for name in _VECTORS}
        if episode.get("next_observations") is not None:
            columns["next_observations"] = as_matrix("next_observations", episode["next_observations"])
        rows = len(columns["observations"])
        columns |= {name: _episode_flags(name, episode.get(name, False), rows) for name in _FLAGS}
        check_fit(columns)
    except DataError as error:
        raise DataError(f"episode {number}: {error}") from error
    return columns


def _episode_flags(name: str, value: Values, rows: int) -> Bool[np.ndarray, " N"]:
    """One flag per row out of one flag for the last row or one per row."""
    if np.ndim(value) > 0:
        return as_flags(name, value)
    flags = np.zeros(rows, dtype=np.bool_)
    flags[-1] = as_flags(name, [value])[0]
    return flags


def _check_alike(number: int, part: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray]) -> None:
    """Raise DataError unless an episode has the same fields and sizes as episode 0."""
    for name in sorted(set(part) ^ set(first)):
        raise DataError(f"only one of episodes 0 and {number} has {name}; pass it for all episodes or for none.")
    for name in part:
        if part[name].shape[1:] != first[name].shape[1:]:
            raise DataError(
                f"{name} of episode {number} has {part[name].shape[1]} columns but that of episode 0 has "
                f"{first[name].shape[1]}; log the same features in every episode."
            )
