"""What a collected data set is made of: a page in Markdown with a figure, and one over all sets of a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Real

from safetrax.catalogue import Task, get_task
from safetrax.charts.drawing import save
from safetrax.charts.panels import episodes
from safetrax.data.segments import within_limit
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.evaluation.scores import normalised_return
from safetrax.files import exact, file_name, read_json, write_json, write_text
from safetrax.progress import duration

INDEX = "index.md"


def collection_settings(path: Path) -> dict[str, Any]:
    """Every setting that a collected file was made with.

    Raises:
        DataError: it is none of `collect`.
    """
    try:
        with h5py.File(path) as file:
            settings = json.loads(str(file.attrs["collection"]))
            return {**settings, "made": int(file.attrs["episodes_made"])}
    except (OSError, KeyError, TypeError, ValueError):
        raise DataError(f"{path} is no data set of safetrax collect; move it away.") from None


def describe_set(path: Path, data: Trajectories, seconds: float | None) -> dict[str, Any]:
    """Numbers on a collected data set, JSON-ready.

    Args:
        path: its file.
        data: what is in it.
        seconds: that its collection took; None: not known.

    Raises:
        DataError: the file is none of `collect`.
    """
    settings = collection_settings(path)
    task = get_task(settings["environment"])
    safe = {limit: within_limit(data.cost_returns, limit) for limit in task.cost_limits}
    return {
        "task": task.name,
        "file": path.name,
        "method": settings["method"],
        "episodes": data.num_episodes,
        "made": settings["made"],
        "steps": data.num_transitions,
        "terminated": int(np.count_nonzero(data.terminated)),
        "length": _spread(data.lengths),
        "return": _spread(data.returns),
        "normalised": _spread(normalised_return(data.returns, task)) if task.has_reference_returns else None,
        "cost": _spread(data.cost_returns),
        "safe": {exact(limit): float(inside.mean()) for limit, inside in safe.items()},
        "best": {exact(limit): float(data.returns[inside].max()) for limit, inside in safe.items() if inside.any()},
        "seconds": seconds,
        "settings": settings,
    }


def write_set_page(folder: Path, data: Trajectories, facts: Mapping[str, Any]) -> Path:
    """Write TASK.json, TASK.png and last TASK.md, which is returned.

    Raises:
        RunError: a file cannot be written.
    """
    task, name = get_task(facts["task"]), file_name(facts["task"])
    costs, returns = data.cost_returns.astype(np.float64), data.returns.astype(np.float64)
    write_json(folder / f"{name}.json", dict(facts))
    title = f"{task.name}: {facts['episodes']:,} episodes"
    save(episodes(costs, returns, sorted(task.cost_limits), title), folder / f"{name}.png")
    settings = {key: value for key, value in facts["settings"].items() if key not in ("environment", "made")}
    lines = [
        f"# {task.name}",
        "",
        f"`{facts['file']}`, collected by {facts['method']}.",
        "",
        f"![Cost against return of the episodes]({name}.png)",
        "",
        "Lines are the task's limits; what lies within the largest is shaded.",
        "",
        "| | here | DSRL's file |",
        "| --- | --- | --- |",
        *(f"| {heading} | {here} | {there} |" for heading, here, there in _rows(task, facts)),
        "",
        "Ranges are minimum to maximum (median).",
        "",
        "```",
        *(f"{key} = {json.dumps(value)}" for key, value in settings.items()),
        "```",
    ]
    page = folder / f"{name}.md"
    write_text(page, "\n".join(lines) + "\n")
    return page


def write_index(folder: Path, names: Sequence[str], failed: Mapping[str, str]) -> Path:
    """A page over the sets of these tasks that have theirs, and why others failed.

    Raises:
        DataError: what a set's page left is damaged.
        RunError: it cannot be written.
    """
    lines = [
        "# Collected data sets",
        "",
        "| set | episodes | steps | terminated | return | normalised | cost | safe at the task's limits | time |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    missing = []
    for name in names:
        page = folder / f"{file_name(name)}.md"
        if not page.exists():
            missing.append(f"* {name}: {failed.get(name, 'not collected yet')}")
            continue
        try:
            facts = read_json(page.with_suffix(".json"))
            safe = ", ".join(f"{exact(float(key))}: {share:.0%}" for key, share in facts["safe"].items()) or "-"
            time = "-" if facts["seconds"] is None else duration(facts["seconds"])
            counts = (f"{facts[key]:,}" for key in ("episodes", "steps", "terminated"))
            spreads = (_range(facts[key]) for key in ("return", "normalised", "cost"))
            lines.append(f"| [{name}]({page.name}) | {' | '.join((*counts, *spreads, safe, time))} |")
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{page.with_suffix('.json')} is damaged ({error}); remove {page}, and it is made again."
            ) from None
    if missing:
        lines += ["", "Not here:", "", *missing]
    lines += ["", "Ranges are minimum to maximum (median)."]
    index = folder / INDEX
    write_text(index, "\n".join(lines) + "\n")
    return index


def _rows(task: Task, facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Of a set's table: what, here, in DSRL's file."""
    counted = re.search(r"-(\d+)\.hdf5$", task.dataset_file)
    known = not task.own
    seconds, safe, best = facts["seconds"], facts["safe"], facts["best"]
    return [
        ("episodes", f"{facts['episodes']:,} of {facts['made']:,} made", f"{int(counted[1]):,}" if counted else "-"),
        ("steps", f"{facts['steps']:,}", "-"),
        ("terminated before the time limit", f"{facts['terminated']:,}", "-"),
        ("length", _range(facts["length"]), f"at most {task.horizon:,}" if known else "-"),
        ("return", _range(facts["return"]), f"{task.reward_min:.5g} to {task.reward_max:.5g}" if known else "-"),
        ("normalised return", _range(facts["normalised"]), "0 to 1" if known else "-"),
        ("cost", _range(facts["cost"]), f"{task.cost_min:.3g} to {task.cost_max:.3g}" if known else "-"),
        *(
            (
                f"safe at {limit}",
                f"{share:.1%}" + (f", return at most {best[limit]:.5g}" if limit in best else ""),
                "-",
            )
            for limit, share in safe.items()
        ),
        ("time", "not known" if seconds is None else f"{seconds:.0f} s", "-"),
    ]


def _spread(values: Real[np.ndarray, " E"]) -> list[float]:
    """Minimum, median, maximum."""
    return [float(x) for x in np.quantile(np.asarray(values, np.float64), (0.0, 0.5, 1.0))]


def _range(spread: Sequence[float] | None) -> str:
    if spread is None:
        return "-"
    low, middle, high = (f"{x:.4g}" for x in spread)
    return f"{low} to {high} ({middle})"
