"""The log that a command works on: read, filtered, and whole."""

from __future__ import annotations

from collections.abc import Sequence

from safetrax.cli.console import say
from safetrax.data import Trajectories, load
from safetrax.data.filters import filter_steps, parse_filters
from safetrax.data.gaps import Cells, missing, said
from safetrax.errors import DataError


def open_log(
    source: str,
    *,
    task: str | None,
    filters: Sequence[str] = (),
    cost_limits: Sequence[float] = (),
    labels: Sequence[str] = (),
    next_observations: bool = False,
) -> Trajectories:
    """The data set of a source of `load` after the filters; what each of them does is said.

    Raises:
        ConfigError: a word is no filter.
        DataError: it cannot be read or filtered, or values are missing after the filters.
    """
    entries = parse_filters(filters, cost_limits)
    data = load(source, task=task, next_observations=next_observations, labels=labels or None, progress=True)
    for entry, after in zip(entries, filter_steps(data, entries), strict=True):
        say(f"filter    {entry}: {data.num_episodes:,} episodes to {after.num_episodes:,}", *cell_lines(after))
        data = after
    if cells := missing(data):
        raise DataError(f"{data.info.get('source')}: {said(cells)}.")
    return data


def cell_lines(data: Trajectories) -> list[str]:
    """A line for each column in which the last filter found something."""
    record = data.info["filters"][-1]
    return [f"          {record['name']} {Cells(**cells)}" for cells in record.get("cells", ())]
