"""What CDT and B2R ask for at each cost limit, and other numbers that their authors chose task by task."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from safetrax.catalogue import get_task

_WHOLE = ("relabel_degree",)


def published(table: str, task: str) -> dict[str, Any]:
    """The settings for a task in one of the package's tables; none for a task that is not of the benchmark."""
    return dict(_all(table).get(get_task(task).name, {}))


@cache
def _all(table: str) -> Mapping[str, dict[str, Any]]:
    text = resources.files("safetrax").joinpath(table).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row.pop("task"): {name: _value(name, text) for name, text in row.items()} for row in rows}


def _value(name: str, text: str) -> int | float | tuple[float, ...]:
    if name.startswith("target_"):
        return tuple(float(x) for x in text.split("|"))
    return int(text) if name in _WHOLE else float(text)
