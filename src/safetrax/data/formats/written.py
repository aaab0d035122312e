"""What a data set looks like as a table: the columns of `layout.py`, one row per transition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from safetrax.data.formats.found import NAMES, feature_names
from safetrax.data.formats.layout import numbered
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError


class Table:
    """A data set as named columns, made block by block.

    Args:
        trajectories: the data.
        observation_names: of the features; None: those in `info`, else their numbers.
        action_names: alike.

    Raises:
        DataError: there are too few, too many, or equal names.
    """

    def __init__(
        self,
        trajectories: Trajectories,
        observation_names: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
    ) -> None:
        self._data = trajectories
        known = feature_names(trajectories)
        observations, actions = (
            _checked(entry, known.get(entry) if given is None else given, size)
            for entry, given, size in zip(
                NAMES,
                (observation_names, action_names),
                (trajectories.observation_size, trajectories.action_size),
                strict=True,
            )
        )
        self._observations = [f"observation{name}" for name in observations]
        self._actions = [f"action{name}" for name in actions]

    def block(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Rows first to last - 1, by column."""
        data, rows = self._data, slice(first, last)
        numbers = np.arange(first, min(last, data.num_transitions))
        episode = np.searchsorted(data.offsets, numbers, side="right") - 1
        columns = {"episode": episode, "step": numbers - data.offsets[episode]}
        columns |= _split(self._observations, data.observations[rows])
        columns |= _split(self._actions, data.actions[rows])
        columns |= {"reward": data.rewards[rows], "cost": data.costs[rows]}
        columns |= {"terminated": data.terminated[rows], "truncated": data.truncated[rows]}
        if data.next_observations is not None:
            columns |= _split([f"next_{name}" for name in self._observations], data.next_observations[rows])
        return columns

    def blocks(self, rows: int) -> Iterator[dict[str, np.ndarray]]:
        """The whole table, so many rows at a time."""
        for first in range(0, self._data.num_transitions, rows):
            yield self.block(first, first + rows)


def _split(names: Sequence[str], matrix: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(matrix[:, i]) for i, name in enumerate(names)}


def _checked(entry: str, names: Sequence[str] | None, size: int) -> list[str]:
    """What follows `observation` or `action` in the name of each column."""
    if names is None:
        return [f"_{i}" for i in range(size)]
    if isinstance(names, str) or len(names) != size:
        raise DataError(f"{entry} is {names!r}, but there are {size} features; pass one name each.")
    for name in names:
        if list(names).count(name) > 1 or not name:
            raise DataError(f"{entry} holds {name!r} twice or an empty name; pass different ones.")
    if numbered(names) and (order := [int(name) for name in names]) != sorted(order):
        raise DataError(f"{entry} holds only numbers, and not in order; pass words, or rising numbers.")
    return [f".{name}" for name in names]
