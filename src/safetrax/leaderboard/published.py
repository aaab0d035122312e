"""Published tables of results on DSRL's tasks, as data: results.csv and averages.csv beside this file.

Every figure is as printed, unless it is a misprint or a wrong conversion: then the right value stands in its place,
the printed one beside it, and a note says why. `SOURCES` says where each table is from, by which protocol its figures
were obtained, and what else is wrong with it.

results.csv has the cells. `kind` is `result`; `repeat` for a cell that another table of the same source has too; or
`ablation` where `variant` says what was changed of the algorithm or the data. An empty `cost_limit` is the mean over
the three limits of the task's suite. What the papers call BC and train on everything is BC-All here. averages.csv has
the means over a suite that the papers print.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, TypeVar, cast, get_args

from safetrax.catalogue import SUITES, get_task
from safetrax.errors import ConfigError, DataError, TaskError, nearest
from safetrax.evaluation.scores import is_safe
from safetrax.leaderboard.papers import SOURCES, PublishedSource

__all__ = [
    "SOURCES",
    "PublishedAverage",
    "PublishedRow",
    "PublishedSource",
    "get_source",
    "published",
    "published_algorithms",
    "published_averages",
]

Kind = Literal["result", "repeat", "ablation"]
_UNSTATED = "unstated"  # in the column cost_limit


@dataclass(frozen=True, kw_only=True)
class Printed:
    """What a source prints of an algorithm.

    Attributes:
        source: key in `SOURCES`.
        table: where in the source.
        algorithm: its name.
        reward: normalised return.
        cost: normalised cost, each by its own limit.
        reward_printed: what is printed, where that is wrong; else None.
        cost_printed: what is printed, where that is wrong; else None.
        note: why it was corrected, or what else is odd about it.
    """

    source: str
    table: str
    algorithm: str
    reward: float
    cost: float
    reward_printed: float | None
    cost_printed: float | None
    note: str


@dataclass(frozen=True, kw_only=True)
class PublishedRow(Printed):
    """One cell of a published table.

    Attributes:
        kind: "result"; "repeat" if another table of the source has the cell too; "ablation" if `variant` is set.
        task: name in the catalogue.
        variant: what was changed of the algorithm or the data; empty for nothing.
        cost_limits: over which the cell is a mean; empty if the source does not state them.
        reward_std: the source's spread of the reward; None if not given.
        cost_std: the source's spread of the cost; None if not given.
    """

    kind: Kind
    task: str
    variant: str
    cost_limits: tuple[float, ...]
    reward_std: float | None
    cost_std: float | None

    @property
    def safe(self) -> bool:
        """Whether the cost is at most 1."""
        return is_safe(self.cost)

    @property
    def corrected(self) -> bool:
        """Whether a figure differs from the printed one."""
        return self.reward_printed is not None or self.cost_printed is not None


@dataclass(frozen=True, kw_only=True)
class PublishedAverage(Printed):
    """A mean over the tasks of a suite, as a source prints it.

    Attributes:
        suite: whose tasks; of a table that has not all of them, those that it has.
    """

    suite: str


_Row = TypeVar("_Row", bound=Printed)


def published(
    source: str | None = None, task: str | None = None, algorithm: str | None = None
) -> tuple[PublishedRow, ...]:
    """The published cells of one source, task and algorithm, whatever the case of the names; None: of all.

    Raises:
        ConfigError: there is no such source or algorithm; the message names the nearest ones.
        TaskError: there is no such task.
    """
    name = None if task is None else get_task(task).name
    return tuple(row for row in _selected(_results(), source, algorithm) if name in (None, row.task))


def published_averages(
    source: str | None = None, suite: str | None = None, algorithm: str | None = None
) -> tuple[PublishedAverage, ...]:
    """The published means over suites of one source, suite and algorithm; None: of all.

    Raises:
        ConfigError: there is no such source or algorithm; the message names the nearest ones.
        TaskError: there is no such suite.
    """
    if suite is not None:
        require_suite_name(suite)
    return tuple(row for row in _selected(_averages(), source, algorithm) if suite in (None, row.suite))


def require_suite_name(suite: str) -> None:
    """Refuse what is no suite of the benchmark.

    Raises:
        TaskError: the message names the nearest one.
    """
    if suite not in SUITES:
        raise TaskError(f"there is no suite {suite!r}; {nearest(suite, SUITES)}")


def published_algorithms() -> tuple[str, ...]:
    """The names of all algorithms that have published cells, in order of the alphabet."""
    return tuple(sorted({row.algorithm for row in _results()}, key=str.casefold))


def get_source(name: str) -> PublishedSource:
    """The source of that key, whatever the case.

    Raises:
        ConfigError: there is none; the message names the nearest one.
    """
    found = SOURCES.get(name.casefold())
    if found is None:
        raise ConfigError(f"there is no source {name!r}; {nearest(name, SOURCES)}")
    return found


def _selected(rows: Iterable[_Row], source: str | None, algorithm: str | None) -> list[_Row]:
    key = None if source is None else get_source(source).key
    column = None
    if algorithm is not None:
        known = {name.casefold(): name for name in published_algorithms()}
        if algorithm.casefold() not in known:
            raise ConfigError(f"there is no published algorithm {algorithm!r}; {nearest(algorithm, known)}")
        column = known[algorithm.casefold()]
    return [row for row in rows if key in (None, row.source) and column in (None, row.algorithm)]


@lru_cache(maxsize=1)
def _results() -> tuple[PublishedRow, ...]:
    return tuple(_result(place, cells) for place, cells in _read("results.csv"))


@lru_cache(maxsize=1)
def _averages() -> tuple[PublishedAverage, ...]:
    return tuple(_average(place, cells) for place, cells in _read("averages.csv"))


def _read(name: str) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Each line with its place, for errors."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    for number, cells in enumerate(csv.DictReader(text.splitlines()), start=2):
        yield f"the shipped {name}, line {number}", cells


def _result(place: str, cells: Mapping[str, str]) -> PublishedRow:
    kind = cells["kind"]
    _require(kind in get_args(Kind), place, f"the kind {kind!r} is unknown")
    _require(
        (kind == "ablation") == bool(cells["variant"]), place, "an ablation has a variant, and nothing else does"
    )
    task = get_task(cells["task"])
    _require(task.name == cells["task"], place, f"the task is called {task.name}")
    limit = cells["cost_limit"]
    limits = () if limit == _UNSTATED else task.cost_limits if not limit else (_number(place, limit),)
    return PublishedRow(
        kind=cast(Kind, kind),
        task=task.name,
        variant=cells["variant"],
        cost_limits=limits,
        reward_std=_optional(place, cells["reward_std"]),
        cost_std=_optional(place, cells["cost_std"]),
        **_shared(place, cells),
    )


def _average(place: str, cells: Mapping[str, str]) -> PublishedAverage:
    _require(cells["suite"] in SUITES, place, f"the suite {cells['suite']!r} is unknown")
    return PublishedAverage(suite=cells["suite"], **_shared(place, cells))


def _shared(place: str, cells: Mapping[str, str]) -> dict[str, Any]:
    """What both files have."""
    _require(cells["source"] in SOURCES, place, f"the source {cells['source']!r} is unknown")
    found: dict[str, Any] = {name: cells[name] for name in ("source", "table", "algorithm", "note")}
    for column in ("reward", "cost"):
        found[column] = right = _number(place, cells[column])
        found[f"{column}_printed"] = wrong = _optional(place, cells[f"{column}_printed"])
        if wrong is not None:
            _require(wrong != right, place, f"the {column} is no correction")
            _require(bool(cells["note"]), place, f"the corrected {column} has no note")
    return found


def _optional(place: str, text: str) -> float | None:
    return _number(place, text) if text else None


def _number(place: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    _require(math.isfinite(value), place, f"{text!r} is no number")
    return value


def _require(condition: bool, place: str, fault: str) -> None:
    """The files are part of the package, so that a fault means a damaged installation."""
    if not condition:
        raise DataError(f"{place}: {fault}; install the package anew.")
