"""Results of one's own runs for the leaderboard, each with what sets it apart from the published figures."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetrax.catalogue import SUITES, Task, get_task
from safetrax.errors import ConfigError, SafeTraXError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.scores import is_safe
from safetrax.evaluation.statistics import Summary, benchmark_table
from safetrax.files import exact
from safetrax.run_id import RunId
from safetrax.runs import Training, differing, read_place

SEEDS = 3  # of DSRL's protocol
EPISODES = 20
DSRL_DATA = "DSRL"
_SHOWN_SETTINGS = 5


@dataclass(frozen=True)
class OwnResult:
    """The mean of one algorithm on one task, over the limits and seeds of its runs.

    Attributes:
        title: the run folders or episode files that it comes from.
        summary: at the last update that was evaluated.
        data: equal for results on the same data; `DSRL_DATA` if these are certainly DSRL's.
        differences: what sets data or protocol apart from the published figures', in whole sentences.
    """

    title: str
    summary: Summary
    data: str
    differences: tuple[str, ...]


def own_results(paths: Iterable[str | Path]) -> tuple[OwnResult, ...]:
    """What run folders and episode files amount to, per algorithm and task.

    Folders whose runs differ in limits and seeds only are one result. Of each run the last evaluated update counts.

    Args:
        paths: run folders, folders of benchmarks, or CSV files of episodes as `safetrax evaluate --out` writes them.

    Raises:
        RunError: a path is missing or no run folder, its configuration is damaged, or it has no episodes.
        DataError: an episodes file is damaged.
        TaskError: an episode names an unknown task.
        ConfigError: a task has no reference returns.
    """
    read = [
        replace(training, place=path) for path in dict.fromkeys(map(str, paths)) for training in read_place(path)[0]
    ]
    found = []
    for training in _merged(read):
        groups: dict[tuple[str, str], list[EpisodeRow]] = defaultdict(list)
        for row in training.rows:
            groups[row.algorithm, row.task].append(row)
        for (_, name), rows in groups.items():
            task = get_task(name)
            if not task.has_reference_returns:
                raise ConfigError(
                    f"{name} has no reference returns, so that nothing can be compared with what is published; "
                    "safetrax report tabulates its raw returns."
                )
            (summary,) = benchmark_table(rows)
            differences = tuple(_differences(training, task, rows, summary))
            found.append(OwnResult(training.place, summary, _data_key(training, task), differences))
    return tuple(found)


def limits_difference(limits: Sequence[float], task: Task) -> str | None:
    """A sentence if the limits are not the benchmark's."""
    if tuple(limits) == task.cost_limits:
        return None
    if not limits:
        return "The source does not state its cost limits."
    words = "limit" if len(limits) == 1 else "limits"
    return (
        f"Scored at the cost {words} {limits_text(limits)}, not at the benchmark's {limits_text(task.cost_limits)}."
    )


def limits_text(limits: Sequence[float]) -> str:
    """For instance `10, 20, 40`; a question mark for none."""
    return ", ".join(map(exact, limits)) or "?"


def fewest(rows: Iterable[EpisodeRow]) -> tuple[int, int]:
    """Seeds of the limit that has the fewest, and episodes of the policy that has the fewest."""
    seeds: dict[float | None, set[int]] = defaultdict(set)
    episodes: dict[RunId, int] = defaultdict(int)
    for row in rows:
        seeds[row.cost_limit].add(row.seed)
        episodes[row.run] += 1
    return min(map(len, seeds.values())), min(episodes.values())


def _merged(trainings: Iterable[Training]) -> Iterable[Training]:
    """Trainings of the same settings and data become one, unless both have the same seed at the same limit."""
    merged: list[tuple[str, set[RunId], Training]] = []
    for training in trainings:
        # two variants of an ablation may have the same settings, and are two algorithms none the less
        key = f"{sorted(training.algorithms)} {training.signature}" if training.facts else training.place
        runs = {row.run for row in training.rows}
        for place, (other_key, other_runs, other) in enumerate(merged):
            if other_key == key and not other_runs & runs:
                title = other.place if training.place == other.place else f"{other.place}, {training.place}"
                merged[place] = key, other_runs | runs, replace(other, place=title, rows=other.rows + training.rows)
                break
        else:
            merged.append((key, runs, training))
    return [training for _, _, training in merged]


def _differences(training: Training, task: Task, rows: Sequence[EpisodeRow], summary: Summary) -> Iterable[str]:
    if not training.config:
        yield "How it was trained is unknown: its episodes do not lie in a run folder."
    else:
        yield from _data_differences(training, task)
    limits = limits_difference(summary.cost_limits, task)
    if limits is not None:
        yield limits
    if summary.unsafe_limits and is_safe(summary.normalised_cost.mean):
        yield f"Safe on average, but not at the cost limit {limits_text(summary.unsafe_limits)}."
    seeds, episodes = fewest(rows)
    if seeds < SEEDS:
        yield f"{_count(seeds, 'training seed')} per cost limit, where DSRL's protocol has {SEEDS}."
    if episodes < EPISODES:
        yield f"{_count(episodes, 'evaluation episode')} per policy, where DSRL's protocol has {EPISODES}."
    if training.config:
        yield from _training_differences(training, task, rows)


def _data_differences(training: Training, task: Task) -> Iterable[str]:
    if training.trained_for not in (None, task.name):
        yield f"Trained for {training.trained_for}, evaluated on {task.name}."
        return
    if task.suite not in SUITES:
        return  # then nothing is published, and there is no file to differ from
    parts = [part for part in training.data.get("parts") or [training.data] if isinstance(part, dict)]
    sources = [str(part["source"]) for part in parts if part.get("source")]
    if not sources:
        yield f"Which data it was trained on is not recorded; the published figures are for {task.dataset_file}."
    elif sources != [task.dataset_file]:
        yield f"Trained on {' and '.join(dict.fromkeys(sources))}, not on DSRL's {task.dataset_file}."
    elif not training.is_of_download(task):
        yield (
            f"Trained on a file that is named {task.dataset_file} as DSRL's is, but no download on this machine "
            "confirms that it is DSRL's."
        )
    if training.filters:
        yield f"Its data were filtered before training: {', '.join(training.filters)}."


def _training_differences(training: Training, task: Task, rows: Sequence[EpisodeRow]) -> Iterable[str]:
    if training.warm:
        yield "Its training began with the networks of another run."
    step = min((row.step for row in rows if row.step is not None), default=None)
    preset = training.preset(task)
    if step is None:
        yield "After how many updates it was evaluated is unknown."
    elif preset is not None and step < preset.total_updates:
        yield f"Evaluated after {step:,} updates, where the published settings have {preset.total_updates:,}."
    if step is not None and training.planned is not None and step < training.planned:
        yield f"Its training goes on to {training.planned:,} updates; its last policy is not evaluated."
    changed = [] if preset is None else _changed_settings(preset, training.settings)
    if changed:
        more = len(changed) - _SHOWN_SETTINGS
        shown = "; ".join(changed[:_SHOWN_SETTINGS]) + (f"; and {more} more" if more > 0 else "")
        yield f"Settings other than the published: {shown}."


def _changed_settings(preset: Any, settings: Mapping[str, Any]) -> list[str]:
    """What differs from the preset, but for settings that name the algorithm or tell the number of updates."""
    changed, published = [], preset.config()
    for name in differing(published, {key: settings.get(key, value) for key, value in published.items()}):
        ours = settings[name]
        with contextlib.suppress(SafeTraXError, TypeError, ValueError):  # on its own it may contradict the others
            other = replace(preset, **{name: tuple(ours) if isinstance(ours, list) else ours})
            if other.name != preset.name or other.total_updates != preset.total_updates:
                continue
        changed.append(f"{name} {ours} instead of {published[name]}")
    return changed


def _data_key(training: Training, task: Task) -> str:
    """Equal for results that were obtained on the same data."""
    data = training.data
    if not data.get("filters") and training.trained_for == task.name and training.is_of_download(task):
        return DSRL_DATA
    if data.get("sha256"):  # the arrays' own fingerprint depends on which of them an algorithm reads
        filters = json.dumps(data["filters"], sort_keys=True) if data.get("filters") else ""
        return f"{data['sha256']} {filters}".strip()
    return str(training.facts.get("data") or training.place)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
