"""What CDT asks for and how it relabels, task by task."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

from safetrax.catalogue import get_task


def published(task: str) -> dict[str, Any]:
    """OSRL's settings for a task; none for one that is not of the benchmark."""
    return dict(_all().get(get_task(task).name, {}))


@lru_cache(maxsize=1)
def _all() -> Mapping[str, dict[str, Any]]:
    text = resources.files("safetrax").joinpath("cdt_tasks.csv").read_text(encoding="utf-8")
    return {
        row["task"]: {
            "target_limits": tuple(float(x) for x in row["target_limits"].split("|")),
            "target_returns": tuple(float(x) for x in row["target_returns"].split("|")),
            "relabel_degree": int(row["relabel_degree"]),
            **{name: float(row[name]) for name in ("relabel_ceiling", "relabel_margin", "relabel_decrease")},
        }
        for row in csv.DictReader(text.splitlines())
    }
