"""The data of the page's tables as plain values for JSON: numbers rounded to what can be seen.

Equal settings are written once.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from safetrax.evaluation.aggregates import Aggregate
from safetrax.evaluation.bootstrap import Bounded
from safetrax.evaluation.statistics import Estimate, Summary
from safetrax.leaderboard.rendering import figure
from safetrax.report.summary import Cell, Group, Report, suite_name
from safetrax.runs import Training

MOST_BYTES = 5_000_000  # of the whole page: a picture that would make it larger is left out
_EVERY = 10  # thresholds of a profile between two that are told as numbers
_GIF_STARTS = (b"GIF87a", b"GIF89a")


def payload(report: Report) -> dict[str, Any]:
    """Everything but the pictures.

    Tasks and algorithms are numbers that point into their lists; an absent number is null.
    """
    place = {name: number for number, name in enumerate(report.algorithms)}
    task = {name: number for number, name in enumerate(report.tasks)}
    return {
        "title": report.title,
        "algorithms": list(report.algorithms),
        "tasks": [{"name": name, "suite": suite_name(name)} for name in report.tasks],
        "verdicts": [{"tasks": v.tasks, "safe": v.safe, "sentence": v.sentence} for v in report.verdicts],
        "cautions": [{"sentence": caution.sentence, "items": list(caution.items)} for caution in report.cautions],
        "results": [_cell(cell, place[cell.algorithm], task[cell.task]) for cell in report.cells],
        "groups": [_group(group, report.cells, place) for group in report.groups],
        "profiles": {
            "tasks": len(report.profiles.tasks),
            "common": report.profiles.common,
            "kinds": [
                {
                    "name": kind,
                    "x": _rounded(profiles[0].thresholds[::_EVERY]),
                    "lines": [{"a": place[line.algorithm], "y": _rounded(line.share[::_EVERY])} for line in profiles],
                }
                for kind, profiles in report.profiles.kinds.items()
            ],
        },
        **_runs(report.trainings),
        "gifs": [],
        "gifsLeftOut": [],
    }


def add_gifs(values: dict[str, Any], trainings: Iterable[Training], size: int) -> None:
    """Put the episodes' pictures into the payload, as long as the page stays within `MOST_BYTES`.

    Args:
        values: from `payload`; changed.
        trainings: whose run folders are looked into.
        size: bytes of the page without pictures.
    """
    for training in trainings:
        try:
            content = (training.folder / "episode.gif").read_bytes()
        except OSError:
            continue
        if not content.startswith(_GIF_STARTS):
            continue  # something else is called so
        needed = 4 * math.ceil(len(content) / 3) + 200
        if size + needed > MOST_BYTES:
            values["gifsLeftOut"].append(training.name)
            continue
        size += needed
        picture = f"data:image/gif;base64,{base64.b64encode(content).decode('ascii')}"
        values["gifs"].append({"name": training.name, "task": next(iter(training.tasks), ""), "picture": picture})


def to_json(values: Mapping[str, Any]) -> str:
    """JSON that ends no script element early: no <, > or & is left in it, nor anything but ASCII."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _cell(cell: Cell, algorithm: int, task: int) -> dict[str, Any]:
    limits = [_summary(summary) for summary in cell.by_limit]
    return {
        "a": algorithm,
        "t": task,
        **_summary(cell.summary),
        "safe": cell.safe,
        "verdict": cell.verdict,
        "best": cell.best,
        "certain": cell.certain,
        "label": cell.label,
        "byLimit": limits if len(limits) > 1 else [],
    }


def _summary(summary: Summary) -> dict[str, Any]:
    reward, cost = summary.normalised_return, summary.normalised_cost
    return {
        "limits": list(summary.cost_limits),
        "reward": _short(reward.mean, 7),
        "rewardError": _short(reward.error),
        "rewardText": reward_text(reward),
        "cost": _short(cost.mean, 7),
        "costError": _short(cost.error),
        "costText": cost_text(cost),
        "return": _short(summary.return_.mean),
        "rawCost": _short(summary.cost.mean),
        "safe": summary.safe,
        "seeds": summary.seeds,
        "episodes": summary.episodes,
    }


def reward_text(value: Estimate) -> str:
    """With two digits; `-` where nothing normalises it."""
    return Estimate(round(value.mean, 2) + 0.0, value.error).text(2)  # + 0.0: there is no -0.00


def cost_text(value: Estimate) -> str:
    """With a third digit where two would round an unsafe cost to 1."""
    return figure(value.mean, None if math.isnan(value.error) else value.error)


def _group(group: Group, cells: Sequence[Cell], place: Mapping[str, int]) -> dict[str, Any]:
    own = {
        row.algorithm: [cell for cell in cells if cell.algorithm == row.algorithm and cell.task in group.tasks]
        for row in group.rows
    }
    # a star only among those that are safe on every task of the group
    safe = [row.mean_return.mean for row in group.rows if not row.missing and all(c.safe for c in own[row.algorithm])]
    best = max(safe) if safe and len(group.rows) > 1 else None
    return {
        "name": group.name,
        "tasks": list(group.tasks),
        "rows": [_aggregate(row, own[row.algorithm], place[row.algorithm], best) for row in group.rows],
    }


def _aggregate(row: Aggregate, own: Sequence[Cell], algorithm: int, best: float | None) -> dict[str, Any]:
    safe = all(cell.safe for cell in own)
    return {
        "a": algorithm,
        "tasks": len(row.tasks),
        "missing": len(row.missing),
        "runs": row.runs,
        "safeTasks": sum(cell.safe for cell in own),
        "reward": _short(row.mean_return.mean),
        "best": safe and not row.missing and row.mean_return.mean == best,
        "rewardText": reward_text(row.mean_return),
        "cost": _short(row.mean_cost.mean),
        "costText": cost_text(row.mean_cost),
        "safe": safe,
        "iqmReward": _bounded(row.iqm_return),
        "iqmCost": _bounded(row.iqm_cost),
        "safeRuns": _bounded(row.p_safe),
        "safeEpisodes": _bounded(row.safe_episodes),
    }


def _bounded(value: Bounded) -> list[float | None]:
    return [_short(number) for number in value]


def _runs(trainings: Sequence[Training]) -> dict[str, Any]:
    """The trainings; settings and versions that several have are written once."""
    made = [dict(training.config.get("made_with", {})) for training in trainings]
    commands = [facts.pop("command", None) for facts in made]
    settings, settings_of = _each_once([training.settings for training in trainings])
    versions, versions_of = _each_once(made)
    runs = []
    for number, training in enumerate(trainings):
        runs.append(
            {
                "name": training.name,
                "place": training.place,
                "algorithms": list(training.algorithms),
                "tasks": list(training.tasks),
                "trainedFor": training.trained_for,
                "limits": list(training.cost_limits),
                "seeds": sorted({row.seed for row in training.rows}),
                "updates": training.planned,
                "precision": training.facts.get("precision"),
                "source": training.data.get("source"),
                "sha256": training.data.get("sha256"),
                "dataPath": training.data_path,
                "filters": list(training.filters),
                "training": _short(training.seconds.get("training", math.nan)),
                "evaluation": _short(training.seconds.get("evaluation", math.nan)),
                "attempts": training.attempts,
                "usage": list(training.usage),
                "warnings": list(training.warnings),
                "command": commands[number],
                "settings": settings_of[number],
                "versions": versions_of[number],
            }
        )
    return {"runs": _finite(runs), "settings": _finite(settings), "versions": _finite(versions)}


def _each_once(tables: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[int]]:
    """The different ones of some tables, and of every table the number of its equal among them."""
    keys = [json.dumps(table, sort_keys=True, default=str) for table in tables]
    different = dict(zip(keys, tables, strict=True))
    places = {key: place for place, key in enumerate(different)}
    return list(different.values()), [places[key] for key in keys]


def _finite(value: Any) -> Any:
    """A configuration may hold what JSON cannot: NaN and infinity become words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def _rounded(values: np.ndarray, digits: int = 4) -> list[float | None]:
    return [_short(value, digits) for value in values.tolist()]


def _short(value: float, digits: int = 4) -> float | int | None:
    """So many significant digits; a whole number without its point; None for what is not finite."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short
