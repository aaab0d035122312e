"""Trajectories: flat arrays and episode offsets, the one in-memory form of a data set."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int64

from safetrax.data.columns import (
    Values,
    as_box,
    as_choices,
    as_flags,
    as_matrix,
    as_offsets,
    as_vector,
    check_ends,
    check_fit,
    find_offsets,
    mark_ends,
)
from safetrax.data.labels import SAFE, UNKNOWN, UNSAFE, Marks, as_labels, read_labels
from safetrax.data.times import as_seconds
from safetrax.errors import DataError
from safetrax.hub import push
from safetrax.spaces import PARTS, Part, difference, named_parts, parts_of

if TYPE_CHECKING:  # what a notebook shows
    from altair import TopLevelMixin

__all__ = ["SAFE", "UNKNOWN", "UNSAFE", "NoCostsError", "Trajectories"]

HUB_FILE, HUB_PREFIX = "trajectories.hdf5", "hub:"
ACTION_CHOICES = "action_choices"
"""The entry of `Trajectories.info`, and of a file, that tells how many there are."""

_REQUIRED = ("observations", "actions", "rewards")
_FLAGS = ("terminated", "truncated")
_OPTIONAL = ("costs", "next_observations", "hidden_costs", "times")
_PER_ROW = (*_REQUIRED, "costs", *_FLAGS, "next_observations", "hidden_costs", "times")
_DTYPES = {  # else float32
    "terminated": np.bool_,
    "truncated": np.bool_,
    "offsets": np.int64,
    "labels": np.int8,
    "times": np.float64,
}


class NoCostsError(DataError):
    """Costs are asked for of a log that holds none."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Trajectories:
    """Whole episodes, one after the other, in flat arrays.

    Episode e is the rows `offsets[e]:offsets[e + 1]`; exactly its last row is `terminated` or `truncated`.
    The arrays are read-only, so that they can be shared and their sums cached: for a changed data set use
    `select` or `dataclasses.replace`. Raw data come in through `from_arrays` or `from_episodes`.

    Attributes:
        observations: s_t, (N, O).
        actions: a_t as logged, (N, A), in the units of `action_low` and `action_high`.
        rewards: r_t, (N,).
        costs: c_t, (N,), not negative; None where the log holds none.
        terminated: the environment ended the episode at this row, (N,).
        truncated: a time limit ended the episode at this row, (N,).
        offsets: first row of every episode, then N, (E + 1,).
        next_observations: s_{t+1}, (N, O), or None where the log holds none.
        action_low: lower end of the action box, (A,).
        action_high: upper end of the action box, (A,).
        labels: of every episode, SAFE (1), UNSAFE (-1) or UNKNOWN (0), (E,); None where nobody has marked any.
        hidden_costs: costs for scores only, (N,), which no algorithm is given; None where there are none.
        times: of the steps, in seconds, (N,), which only filters look at; None where the log holds none.
        info: where the data came from, JSON-ready: source, sha256, task, tail_rows_dropped.

    Raises:
        DataError: the arrays contradict each other.
    """

    observations: Float32[np.ndarray, "N O"]
    actions: Float32[np.ndarray, "N A"]
    rewards: Float32[np.ndarray, " N"]
    costs: Float32[np.ndarray, " N"] | None = None
    terminated: Bool[np.ndarray, " N"]
    truncated: Bool[np.ndarray, " N"]
    offsets: Int64[np.ndarray, " boundaries"]
    next_observations: Float32[np.ndarray, "N O"] | None = None
    action_low: Float32[np.ndarray, " A"]
    action_high: Float32[np.ndarray, " A"]
    labels: Int8[np.ndarray, " E"] | None = None
    hidden_costs: Float32[np.ndarray, " N"] | None = None
    times: Float64[np.ndarray, " N"] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fit(self._rows())
        as_offsets(self.offsets, len(self.rewards))
        if self.offsets[-1] != len(self.rewards):
            raise DataError(
                f"offsets ends at {self.offsets[-1]}, but there are {len(self.rewards)} rows; drop the rest."
            )
        check_ends(self.terminated, self.truncated, self.offsets)
        if self.labels is not None:
            as_labels(self.labels, self.num_episodes)
        for name, array in self._arrays().items():
            object.__setattr__(self, name, _read_only(array.astype(_DTYPES.get(name, np.float32), copy=False)))
        object.__setattr__(self, "info", dict(self.info))

    @classmethod
    def from_arrays(
        cls,
        observations: Values,
        actions: Values,
        rewards: Values,
        costs: Values,
        terminated: Values,
        truncated: Values,
        *,
        offsets: Values = None,
        next_observations: Values = None,
        action_low: Values = None,
        action_high: Values = None,
        action_choices: Values = None,
        labels: Values = None,
        hidden_costs: Values = None,
        times: Values = None,
        info: Mapping[str, Any] | None = None,
    ) -> Trajectories:
        """Split flat arrays into episodes at the rows that are terminated, truncated, or both.

        Arrays that already have the right dtype are shared, not copied. Rows after the last complete episode
        are dropped and counted in `info["tail_rows_dropped"]`.

        Args:
            observations: (N, O), any real dtype.
            actions: (N, A).
            rewards: (N,) or (N, 1).
            costs: (N,) or (N, 1), or None.
            terminated: (N,) or (N, 1), booleans or zeros and ones.
            truncated: as `terminated`.
            offsets: first row of every episode and the end of the last, (E + 1,). With it, no flag may be set
                inside an episode, and a last row without a flag is marked truncated.
            next_observations: (N, O).
            action_low: (A,) or one number, -1 if omitted.
            action_high: (A,) or one number, +1 if omitted.
            action_choices: where an action is one of so many choices, and actions are their numbers from 0, (N,) or
                (N, 1), or one-hot; they are kept one-hot, and the box is [0, 1].
            labels: SAFE, UNSAFE or UNKNOWN for every complete episode, (E,).
            hidden_costs: as `costs`, for scores only.
            times: (N,) seconds, datetime64 or ISO texts.
            info: JSON-ready facts about the source.

        Raises:
            DataError: wrong shapes, lengths or dtypes, or no complete episode.
        """
        if action_choices is not None:
            actions, action_low, action_high = as_choices(actions, action_choices), 0.0, 1.0
            info = {**(info or {}), ACTION_CHOICES: int(action_choices)}
        given = (observations, actions, rewards, costs, terminated, truncated, next_observations, hidden_costs, times)
        columns = _checked(dict(zip(_PER_ROW, given, strict=True)))
        if offsets is None:
            starts = find_offsets(columns["terminated"], columns["truncated"])
        else:
            starts = as_offsets(offsets, len(columns["rewards"]))
            columns["truncated"] = mark_ends(columns["terminated"], columns["truncated"], starts)
        dropped = len(columns["rewards"]) - int(starts[-1])
        kept = {name: column[: starts[-1]] for name, column in columns.items()}
        low, high = as_box(action_low, action_high, columns["actions"].shape[1])
        facts = {**(info or {}), "tail_rows_dropped": dropped}
        marks = None if labels is None else as_labels(labels, len(starts) - 1)
        return cls(**kept, offsets=starts, action_low=low, action_high=high, labels=marks, info=facts)

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Mapping[str, Any]],
        *,
        action_low: Values = None,
        action_high: Values = None,
        action_choices: Values = None,
        info: Mapping[str, Any] | None = None,
    ) -> Trajectories:
        """Join episodes, each a mapping with observations, actions and rewards (one row per step).

        Optional keys: costs, next_observations, hidden_costs and times; terminated and truncated, either one boolean
        for the last row or one flag per row. A last row without a flag is marked truncated. `action_choices`: as in
        `from_arrays`.

        Raises:
            DataError: a key is missing or unknown, or the arrays of an episode do not fit together.
        """
        if action_choices is not None:
            episodes = (
                {**each, "actions": as_choices(each["actions"], action_choices)} if "actions" in each else each
                for each in episodes
            )
        parts = [_episode_columns(number, episode) for number, episode in enumerate(episodes)]
        if not parts:
            raise DataError("there are no episodes; pass at least one.")
        for number, part in enumerate(parts):
            _check_alike(number, part, parts[0])
        columns = {"costs": None, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}}
        offsets = np.cumsum([0, *(len(part["rewards"]) for part in parts)])
        box = {"action_low": action_low, "action_high": action_high, "action_choices": action_choices}
        return cls.from_arrays(**columns, offsets=offsets, **box, info=info)

    @classmethod
    def concatenate(cls, parts: Sequence[Trajectories]) -> Trajectories:
        """Several data sets, one after the other: a log and what was collected since, for instance.

        next_observations, hidden costs and times stay if all have them; where some have labels, the others' are
        unknown. `info` keeps the task if all agree on it, the parts of observations if all know them, and every
        source.

        Raises:
            DataError: there are none, their sizes, parts or action boxes differ, or only some have costs.
        """
        if not parts:
            raise DataError("there are no data sets to concatenate; pass at least one.")
        first = parts[0]
        known = [part.observation_parts for part in parts]
        for number, part in enumerate(parts):
            if other := difference(known[0], known[number]):
                raise DataError(f"data sets 0 and {number} observe other parts: {other}.")
            for name, ours, theirs in (
                ("observations", first.observation_size, part.observation_size),
                ("actions", first.action_size, part.action_size),
                ("lower action bounds", first.action_low.tolist(), part.action_low.tolist()),
                ("upper action bounds", first.action_high.tolist(), part.action_high.tolist()),
                ("choices of actions", first.action_choices, part.action_choices),
                ("costs", *("some" if each.costs is not None else "none" for each in (first, part))),
            ):
                if ours != theirs:
                    raise DataError(
                        f"data set {number} has other {name} than data set 0: {theirs} instead of {ours}."
                    )
        names = set.intersection(*(set(part._rows()) for part in parts))
        tasks = {part.info.get("task") for part in parts}
        marked = any(part.labels is not None for part in parts)
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
            offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]),
            action_low=first.action_low,
            action_high=first.action_high,
            labels=np.concatenate([part.marks for part in parts]) if marked else None,
            info={
                "task": tasks.pop() if len(tasks) == 1 else None,
                "parts": [dict(part.info) for part in parts],
                **(named_parts(known[0]) if all(known) else {}),
                **({ACTION_CHOICES: first.action_choices} if first.action_choices else {}),
            },
        )

    def push_to_hub(self, repo_id: str, *, license: str, private: bool = False) -> str:
        """Put the log into a repository of the Hugging Face hub, with a card; `load("hub:OWNER/NAME")` reads it.

        Args:
            repo_id: `OWNER/NAME`; made if there is none.
            license: as the hub names it, such as "cc-by-4.0".
            private: whether a new repository is.

        Returns:
            Its address.

        Raises:
            RunError: the hub refuses, or cannot be reached.
        """
        from safetrax.data.formats.hdf5 import write_hdf5

        task = self.info.get("task")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / HUB_FILE
            write_hdf5(file, self, attributes={"task": task} if task else None)
            card = (
                f"# {task or 'A log'}\n\n{self}\n\n```python\nimport safetrax as st\n\n"
                f"log = st.load({json.dumps(HUB_PREFIX + repo_id)})\n```\n\n"
                f"`{HUB_FILE}` is in DSRL's format: flat arrays, and flags where episodes end.\n"
            )
            tags = [task] if task else []
            return push(repo_id, "dataset", {HUB_FILE: file}, card, license=license, tags=tags, private=private)

    def plot(self, cost_limits: Sequence[float] = ()) -> TopLevelMixin:
        """Episodes by cost and return, with a line at each limit. A notebook shows the chart."""
        from safetrax.charts.drawing import altair_chart
        from safetrax.charts.panels import episodes

        limits, title = sorted(cost_limits), str(self.info.get("task") or "")
        return altair_chart(episodes(self.cost_returns, self.returns, limits, title))

    @cached_property
    def returns(self) -> Float64[np.ndarray, " E"]:
        """Undiscounted sum of rewards of every episode, added up in float64."""
        return _read_only(np.add.reduceat(self.rewards, self.offsets[:-1], dtype=np.float64))

    @cached_property
    def cost_returns(self) -> Float64[np.ndarray, " E"]:
        """Undiscounted sum of costs of every episode, added up in float64.

        Raises:
            NoCostsError: the log holds no costs.
        """
        return _read_only(np.add.reduceat(self.logged_costs, self.offsets[:-1], dtype=np.float64))

    @property
    def logged_costs(self) -> Float32[np.ndarray, " N"]:
        """The costs, where they are needed.

        Raises:
            NoCostsError: the log holds none.
        """
        if self.costs is None:
            raise NoCostsError(f"{self.without_costs}.")
        return self.costs

    @property
    def without_costs(self) -> str:
        """What to say, without a full stop, where costs are missing: what else the log has, and what to do."""
        if self.hidden_costs is not None:
            return "the log holds no costs but those that are for scores only; choose what needs none"
        unused = ", ".join(self.info.get("unused_columns") or ())
        where = f", unless in what is not read ({unused}): if one is the cost," if unused else "; if it has them,"
        return (
            f"the log holds no costs{where} call it cost (in HDF5 and NPZ costs) or name it (columns), else choose "
            "what needs none"
        )

    @cached_property
    def scored_cost_returns(self) -> Float64[np.ndarray, " E"] | None:
        """`cost_returns`, else those of the hidden costs, for a person to look at; None where there are neither."""
        costs = self.hidden_costs if self.costs is None else self.costs
        return None if costs is None else _read_only(np.add.reduceat(costs, self.offsets[:-1], dtype=np.float64))

    @property
    def marks(self) -> Int8[np.ndarray, " E"]:
        """The labels; UNKNOWN throughout where there are none."""
        return np.full(self.num_episodes, UNKNOWN, np.int8) if self.labels is None else self.labels

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " E"]:
        """Number of rows of every episode."""
        return _read_only(np.diff(self.offsets))

    @property
    def num_episodes(self) -> int:
        """How many episodes there are, E."""
        return len(self.offsets) - 1

    @property
    def num_transitions(self) -> int:
        """How many rows there are, N."""
        return len(self.rewards)

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has, O."""
        return int(self.observations.shape[1])

    @property
    def action_size(self) -> int:
        """How many numbers an action has, A."""
        return int(self.actions.shape[1])

    @property
    def action_choices(self) -> int | None:
        """Of how many choices an action is one, kept one-hot; None: it is continuous."""
        return self.info.get(ACTION_CHOICES)

    @property
    def observation_parts(self) -> tuple[Part, ...]:
        """What an observation is put together from; empty where the log does not say."""
        return parts_of(self.info.get(PARTS))

    def episodes_of(self, rows: Int64[np.ndarray, "*n"] | int) -> Int64[np.ndarray, "*n"]:
        """The numbers of the episodes that rows lie in."""
        return np.asarray(np.searchsorted(self.offsets, rows, side="right") - 1)

    @property
    def max_length(self) -> int:
        """Rows of the longest episode."""
        return int(self.lengths.max())

    def marked(self, labels: Marks) -> Trajectories:
        """The same episodes with other labels.

        Args:
            labels: a mapping such as `{"safe": [3, 7], "unsafe": [12]}` with numbers as `episode` takes them, from 0;
                or all of them, (E,); or what `load(labels=)` takes, with episodes by such numbers.

        Raises:
            DataError: an episode does not exist, a word is no label, or two contradict.
        """
        return replace(self, labels=read_labels(labels, self.num_episodes))

    def select(self, episodes: np.ndarray | Sequence[int] | Sequence[bool]) -> Trajectories:
        """A copy that holds only some episodes, in the order given.

        Args:
            episodes: one boolean per episode, or episode numbers (negative ones count from the end, repeated
                ones are repeated).

        Raises:
            DataError: nothing is selected, a mask has the wrong length, or an episode does not exist.
        """
        numbers = _episode_numbers(np.asarray(episodes), self.num_episodes)
        lengths = self.lengths[numbers]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(self.offsets[numbers] - offsets[:-1], lengths) + np.arange(offsets[-1])
        labels = None if self.labels is None else self.labels[numbers]
        kept = {name: array[rows] for name, array in self._rows().items()}
        return replace(self, **kept, offsets=offsets, labels=labels)

    def pieces(self, first: Int64[np.ndarray, " pieces"], last: Int64[np.ndarray, " pieces"]) -> Trajectories:
        """A copy whose episodes are pieces of these, each from a first to a last row of one episode.

        A piece that ends before its episode did is truncated. A part of an episode labelled unsafe is unknown.
        """
        episodes = self.episodes_of(first)
        lengths = last - first + 1
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(first - offsets[:-1], lengths) + np.arange(offsets[-1])
        kept: dict[str, Any] = {name: array[rows] for name, array in self._rows().items()}
        kept["truncated"] = mark_ends(kept["terminated"], kept["truncated"], offsets)
        labels = None
        if self.labels is not None:
            labels = self.labels[episodes]
            labels[(lengths < self.lengths[episodes]) & (labels == UNSAFE)] = UNKNOWN
        return replace(self, **kept, offsets=offsets, labels=labels)

    def episode(self, number: int) -> dict[str, np.ndarray]:
        """The rows of one episode by field name: read-only views, no copies.

        Raises:
            IndexError: there is no such episode.
        """
        if not -self.num_episodes <= number < self.num_episodes:
            raise IndexError(f"episode {number} does not exist: there are {self.num_episodes}.")
        number %= self.num_episodes
        rows = slice(self.offsets[number], self.offsets[number + 1])
        return {name: array[rows] for name, array in self._rows().items()}

    def fingerprint(self) -> str:
        """BLAKE2b (hex) of all arrays with their names and shapes; `times` and `info` do not enter."""
        return self._fingerprint

    def __len__(self) -> int:
        return self.num_episodes

    def __repr__(self) -> str:
        task = f"{self.info['task']}: " if self.info.get("task") else ""
        costs = "no costs"
        if self.costs is not None:
            costs = f"cost {self.cost_returns.min():.4g} to {self.cost_returns.max():.4g}"
        return (
            f"Trajectories({task}{self.num_episodes} episodes, {self.num_transitions} transitions, "
            f"{self.observation_size} observations, {self.action_size} actions, "
            f"return {self.returns.min():.4g} to {self.returns.max():.4g}, "
            f"{costs})"
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        """All arrays that are present, by field name."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "info"}
        return {name: value for name, value in values.items() if value is not None}

    def _rows(self) -> dict[str, np.ndarray]:
        """Those with one row per transition."""
        return {name: array for name, array in self._arrays().items() if name in _PER_ROW}

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=32)
        arrays = self._arrays()
        arrays.pop("times", None)
        for name, array in arrays.items():
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(array.data)
        return digest.hexdigest()


def _read_only(array: np.ndarray) -> np.ndarray:
    """A contiguous view that cannot be written through."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _checked(values: Mapping[str, Values]) -> dict[str, np.ndarray]:
    """The columns of one row per transition, by field name."""
    kinds = {
        **dict.fromkeys(("rewards", "costs", "hidden_costs"), as_vector),
        **dict.fromkeys(_FLAGS, as_flags),
        "times": as_seconds,
    }
    wanted = [name for name, array in values.items() if array is not None or name not in _OPTIONAL]
    columns = {name: kinds.get(name, as_matrix)(name, values[name]) for name in wanted}
    check_fit(columns)
    return columns


def _episode_columns(number: int, episode: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The checked columns of one episode, its flags as one boolean per row."""
    given = ", ".join(map(str, episode)) or "none"
    for name in _REQUIRED:
        if name not in episode:
            raise DataError(f"episode {number} has no {name} (its keys: {given}); add it.")
    for name in episode:
        if name not in _PER_ROW:
            known = ", ".join(_PER_ROW)
            raise DataError(f"episode {number} has the unknown key {name}; the known ones are {known}.")
    try:
        columns = _checked({name: episode.get(name) for name in _PER_ROW if name not in _FLAGS})
        for name in _FLAGS:
            flag = episode.get(name, False)
            if np.ndim(flag) == 0:  # of the last row
                flag = np.append(np.zeros(len(columns["rewards"]) - 1, np.bool_), as_flags(name, [flag]))
            columns[name] = as_flags(name, flag)
        check_fit(columns)
    except DataError as error:
        raise DataError(f"episode {number}: {error}") from error
    return columns


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


def _episode_numbers(selection: np.ndarray, num_episodes: int) -> Int64[np.ndarray, " selected"]:
    """Episode numbers, not negative, out of a boolean mask or of integers."""
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
