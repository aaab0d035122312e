"""What every filter is: settings, a function from whole episodes to whole episodes, and a record of what it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int64

from safetrax.catalogue import Task, get_task
from safetrax.data.gaps import Cells, missing, said
from safetrax.data.trajectories import NoCostsError, Trajectories
from safetrax.errors import DataError
from safetrax.settings import settings_of

FUNCTION = "function "
"""What a record says before the name of a function, which it cannot hold."""

DSRL_SEED = 1234
"""Seed of the generator that DSRL's environments own, a PCG64 as numpy's default one is."""


@dataclass(frozen=True)
class FilterState:
    """What one filter hands to the next within a call of `apply_filters`.

    Attributes:
        data: the episodes.
        outliers: which of them `Outliers` made, (E,). `Inpaint` spares them.
        cells: what the last filter found in single columns, for its record.
    """

    data: Trajectories
    outliers: Bool[np.ndarray, " E"]
    cells: tuple[Cells, ...] = ()


@dataclass(frozen=True)
class Filter:
    """Whole episodes in, whole episodes out. Settings only: the same data and settings give the same result.

    Calling a filter is `apply_filters` with it alone. `str(filter)` is the word for it on the command line.
    """

    name: ClassVar[str] = ""
    """On the command line and in records."""
    mends: ClassVar[bool] = False
    """Whether it may be given data in which values are missing."""

    def __call__(self, data: Trajectories) -> Trajectories:
        """The filtered data set, as `apply_filters` returns it; it raises alike."""
        return apply_filters(data, (self,))

    def step(self, state: FilterState) -> FilterState:
        """What the filter does, for `apply_filters`."""
        raise NotImplementedError

    def __str__(self) -> str:
        """`name:value,key=value` with the settings that are not the defaults; the first needs no key."""
        parts = []
        for place, entry in enumerate(dataclasses.fields(self)):
            value = getattr(self, entry.name)
            if value != entry.default:
                key = f"{entry.name.replace('_', '-')}=" if place else ""
                parts.append(key + _text(value))
        return f"{self.name}:{','.join(parts)}" if parts else self.name


@dataclass(frozen=True)
class Selection(Filter):
    """A filter that keeps some episodes as they are, or repeats some."""

    def episodes(self, data: Trajectories) -> Int64[np.ndarray, " kept"]:
        """Numbers of the episodes that it keeps, ascending; a number that comes twice is an episode twice.

        Raises:
            DataError: the filter needs something that the data do not have.
        """
        raise NotImplementedError

    def advice(self, data: Trajectories) -> str:
        """How to keep some, for the sentence that says that none is left."""
        raise NotImplementedError

    def step(self, state: FilterState) -> FilterState:
        """Keep `episodes`."""
        return self._keep(state, self.episodes(state.data))

    def _keep(self, state: FilterState, numbers: np.ndarray) -> FilterState:
        count = state.data.num_episodes
        if len(numbers) == 0:
            raise DataError(f"the filter {self} keeps none of the {count} episodes: {self.advice(state.data)}")
        if np.array_equal(numbers, np.arange(count)):
            return state
        return FilterState(state.data.select(numbers), state.outliers[numbers])


def apply_filters(data: Trajectories, filters: Iterable[Filter]) -> Trajectories:
    """One filter after the other, each on what the one before left.

    Filters of one call know which episodes `Outliers` made, so that `Inpaint` can spare them.

    Args:
        data: whole episodes; not changed.
        filters: in order.

    Returns:
        The filtered data set. Its `info["filters"]` lists every filter applied so far, JSON-ready: `name`,
        `settings`, the numbers of `episodes` and `transitions`, each [before, after], and of what mends gaps the
        `cells` that were missing, spikes or filled, by column. `train` saves it with the run's configuration.

    Raises:
        DataError: a filter would leave no episode, or needs something that the data do not have.
        TaskError: the data name an unknown task.
    """
    for after in filter_steps(data, filters):
        data = after
    return data


def filter_steps(data: Trajectories, filters: Iterable[Filter]) -> Iterator[Trajectories]:
    """The data set after each filter, in turn; the last one is what `apply_filters` returns. It raises alike."""
    state = FilterState(data, np.zeros(data.num_episodes, np.bool_))
    for entry in filters:
        before = state.data
        if not entry.mends and (gaps := missing(before)):
            raise DataError(f"the filter {entry} needs whole data; {said(gaps)}; put what does before it.")
        try:
            state = entry.step(state)
        except NoCostsError as error:
            raise NoCostsError(f"the filter {entry} needs costs, and {error}") from error
        data = state.data
        record = {
            "name": entry.name,
            "settings": {key: _text(v) if callable(v) else v for key, v in settings_of(entry).items()},
            "episodes": [before.num_episodes, data.num_episodes],
            "transitions": [before.num_transitions, data.num_transitions],
            **({"cells": [vars(cells) for cells in state.cells]} if state.cells else {}),
        }
        data = dataclasses.replace(data, info={**data.info, "filters": [*data.info.get("filters", ()), record]})
        state = FilterState(data, state.outliers)
        yield data


def require_task(entry: Filter, data: Trajectories, need: str, instead: str) -> Task:
    """The benchmark task that the data are from, of which the filter `entry` has a `need`; `instead` is the remedy.

    Raises:
        DataError: the data name no task.
        TaskError: they name one that is unknown.
    """
    name = data.info.get("task")
    if not name:
        raise DataError(f"the filter {entry} needs {need}, but the data set names no task; {instead}.")
    task = get_task(name)
    if task.own:
        raise DataError(f"the filter {entry} needs {need}, which {name} has not; {instead}.")
    return task


def _text(value: Any) -> str:
    """A setting as a word: numbers of a tuple are joined by colons, tuples and words of a tuple by plus signs."""
    if isinstance(value, tuple):
        return ("+" if value and isinstance(value[0], tuple | str) else ":").join(map(_text, value))
    if callable(value):
        return f"{FUNCTION}{value.__module__}.{getattr(value, '__qualname__', type(value).__name__)}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
