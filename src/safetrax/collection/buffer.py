"""The episodes that are kept, a set of bounded size that covers the plane of cost and return; and the file that holds
them, with all else that a collection needs to go on, while it is unfinished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from safetrax.collection.recorder import Episode
from safetrax.data.filters.density import thin
from safetrax.errors import RunError
from safetrax.files import read_tensors, write_tensors
from safetrax.training.checkpoint import require_same

_ROOM = 1.5  # times the target, before the buffer is thinned
_FORMAT, _VERSION = "safetrax-collection", "1"
_COLUMNS = ("observations", "actions", "rewards", "costs")
_COUNTS = ("offered", "accepted", "steps")


@dataclass
class Buffer:
    """The episodes within the bounds, thinned to `target` whenever there are half as many more.

    Attributes:
        offered: episodes seen.
        accepted: of these, those within the bounds.
        steps: of all episodes seen.
    """

    target: int
    seed: int
    max_cost: float = np.inf
    min_return: float = -np.inf
    episodes: list[Episode] = field(default_factory=list)
    offered: int = 0
    accepted: int = 0
    steps: int = 0

    def add(self, episodes: Iterable[Episode]) -> None:
        """Keep what is within the bounds, for now."""
        for episode in episodes:
            self.offered += 1
            self.steps += len(episode)
            if episode.cost <= self.max_cost and episode.return_ >= self.min_return:
                self.accepted += 1
                self.episodes.append(episode)
                if len(self.episodes) >= _ROOM * self.target:
                    self._thin()

    def finish(self) -> list[Episode]:
        """At most `target` episodes."""
        self._thin()
        return self.episodes

    def _thin(self) -> None:
        if len(self.episodes) > self.target:
            returns, costs = (np.array([getattr(e, name) for e in self.episodes]) for name in ("return_", "cost"))
            # a generator for each time, so that a resumed collection draws the same
            rng = np.random.default_rng((self.seed, self.accepted))
            self.episodes = [self.episodes[i] for i in thin(returns, costs, self.target, rng)]


def save_state(
    path: Path, *, iteration: int, buffer: Buffer, source: Mapping[str, np.ndarray], signature: Mapping[str, Any]
) -> None:
    """Write what a collection needs to go on with `iteration`.

    Raises:
        RunError: the file cannot be written; the previous one stays.
    """
    episodes = buffer.episodes
    tensors = {f"source.{name}": np.ascontiguousarray(array) for name, array in source.items()}
    if episodes:
        for column in _COLUMNS:
            tensors[column] = np.concatenate([getattr(episode, column) for episode in episodes])
    facts = [(len(e), int(e.terminated), e.number, e.owner) for e in episodes]
    tensors["facts"] = np.array(facts, np.int64).reshape(-1, 4)
    position = {"iteration": iteration, **{name: getattr(buffer, name) for name in _COUNTS}}
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "position": json.dumps(position),
        "signature": json.dumps(signature, sort_keys=True),
    }
    write_tensors(path, tensors, header)


def load_state(path: Path, buffer: Buffer, signature: Mapping[str, Any]) -> tuple[int, dict[str, np.ndarray]]:
    """Fill an empty buffer; the iteration to go on with, and the source's arrays.

    Raises:
        RunError: there is no such file, it is damaged, or of another collection.
    """
    if not path.exists():
        raise RunError(f"there is no unfinished collection at {path}; leave out resume to begin one.")
    try:
        header, tensors = read_tensors(path)
        if (header.get("format"), header.get("version")) != (_FORMAT, _VERSION):
            raise RunError(f"{path} is no unfinished collection of this version; delete it and begin anew.")
        require_same(path, json.loads(header["signature"]), signature)
        return _fill(buffer, json.loads(header["position"]), tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}); delete it and begin anew.") from error


def _fill(buffer: Buffer, position: Any, tensors: Mapping[str, np.ndarray]) -> tuple[int, dict[str, np.ndarray]]:
    facts = np.asarray(tensors["facts"], np.int64).reshape(-1, 4)
    rows = np.cumsum([0, *facts[:, 0]])
    for name in _COLUMNS if len(facts) else ():
        expected = int(rows[-1]) + (len(facts) if name == "observations" else 0)
        if len(tensors[name]) != expected:
            raise ValueError(f"{name} has {len(tensors[name])} rows instead of {expected}")
    for e, (length, terminated, number, owner) in enumerate(facts.tolist()):
        steps = slice(rows[e], rows[e] + length)
        # an episode has one more observation than steps
        observations = tensors["observations"][steps.start + e : steps.stop + e + 1]
        actions, rewards, costs = (tensors[name][steps] for name in ("actions", "rewards", "costs"))
        buffer.episodes.append(Episode(observations, actions, rewards, costs, bool(terminated), number, owner))
    for name in _COUNTS:
        setattr(buffer, name, int(position[name]))
    prefix = "source."
    source = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    return int(position["iteration"]), source
