"""Results of one's own runs for the leaderboard, each with what sets it apart from the published figures."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetrax.algorithms import registry
from safetrax.catalogue import SUITES, Task, get_task
from safetrax.data.download import dataset_path, read_record
from safetrax.errors import SafeTraXError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.scores import is_safe
from safetrax.evaluation.statistics import Summary, benchmark_table, last_steps
from safetrax.files import exact
from safetrax.run_id import RunId
from safetrax.runs import config_table, read_place

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


@dataclass(frozen=True)
class _Run:
    """A run folder, or an episodes file without one: then the configuration is empty."""

    title: str
    config: Mapping[str, Any]
    rows: tuple[EpisodeRow, ...]

    @property
    def identities(self) -> set[RunId]:
        return {row.run for row in self.rows}

    @property
    def signature(self) -> str:
        """Equal for runs that differ in limits and seeds only."""
        signature = self.config.get("signature")
        if not isinstance(signature, dict):
            return self.title
        # two variants of an ablation may have the same settings, and are two algorithms none the less
        return " ".join(sorted({row.algorithm for row in self.rows})) + json.dumps(
            {key: value for key, value in signature.items() if key != "runs"}, sort_keys=True
        )


def own_results(paths: Iterable[str | Path]) -> tuple[OwnResult, ...]:
    """What run folders and episode files amount to, per algorithm and task.

    Folders whose runs differ in limits and seeds only are one result. Of each run the last evaluated update counts.

    Args:
        paths: run folders, folders of benchmarks, or CSV files of episodes as `safetrax evaluate --out` writes them.

    Raises:
        RunError: a path is missing or no run folder, its configuration is damaged, or it has no episodes.
        DataError: an episodes file is damaged.
        TaskError: an episode names an unknown task.
    """
    found = []
    found_runs = [
        _Run(path, training.config, training.rows)
        for path in dict.fromkeys(map(str, paths))
        for training in read_place(path)[0]
    ]
    for run in _merged(found_runs):
        groups: dict[tuple[str, str], list[EpisodeRow]] = defaultdict(list)
        for row in last_steps(run.rows):
            groups[row.algorithm, get_task(row.task).name].append(replace(row, task=get_task(row.task).name))
        for (_, task), rows in groups.items():
            (summary,) = benchmark_table(rows)
            differences = tuple(_differences(run.config, get_task(task), rows, summary))
            found.append(OwnResult(run.title, summary, _data_key(run, get_task(task)), differences))
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


def _merged(runs: Iterable[_Run]) -> list[_Run]:
    """Runs of the same settings and data become one, unless both have the same seed at the same limit."""
    merged: list[_Run] = []
    for run in runs:
        for place, other in enumerate(merged):
            if other.signature == run.signature and not other.identities & run.identities:
                title = other.title if run.title == other.title else f"{other.title}, {run.title}"
                merged[place] = replace(other, title=title, rows=other.rows + run.rows)
                break
        else:
            merged.append(run)
    return merged


def _differences(
    config: Mapping[str, Any], task: Task, rows: Sequence[EpisodeRow], summary: Summary
) -> Iterable[str]:
    if not config:
        yield "How it was trained is unknown: its episodes do not lie in a run folder."
    else:
        yield from _data_differences(config, task)
    limits = limits_difference(summary.cost_limits, task)
    if limits is not None:
        yield limits
    seeds, episodes = _fewest_seeds(rows), _fewest_episodes(rows)
    if summary.unsafe_limits and is_safe(summary.normalised_cost.mean):
        yield f"Safe on average, but not at the cost limit {limits_text(summary.unsafe_limits)}."
    if seeds < SEEDS:
        yield f"{_count(seeds, 'training seed')} per cost limit, where DSRL's protocol has {SEEDS}."
    if episodes < EPISODES:
        yield f"{_count(episodes, 'evaluation episode')} per policy, where DSRL's protocol has {EPISODES}."
    if config:
        yield from _training_differences(config, task, rows)


def _data_differences(config: Mapping[str, Any], task: Task) -> Iterable[str]:
    data = config_table(config.get("data"))
    trained = config.get("task")
    if trained is not None and trained != task.name:
        yield f"Trained for {trained}, evaluated on {task.name}."
        return
    if task.suite not in SUITES:
        return  # then nothing is published, and there is no file to differ from
    parts = data.get("parts") or [data]
    sources = [str(source) for part in parts if (source := config_table(part).get("source"))]
    if not sources:
        yield f"Which data it was trained on is not recorded; the published figures are for {task.dataset_file}."
    elif sources != [task.dataset_file]:
        yield f"Trained on {' and '.join(dict.fromkeys(sources))}, not on DSRL's {task.dataset_file}."
    elif not is_downloaded(config, task):
        yield (
            f"Trained on a file that is named {task.dataset_file} as DSRL's is, but no download on this machine "
            "confirms that it is DSRL's."
        )
    filters = [str(config_table(entry).get("name")) for entry in data.get("filters", ())]
    if filters:
        yield f"Its data were filtered before training: {', '.join(filters)}."


def _training_differences(config: Mapping[str, Any], task: Task, rows: Sequence[EpisodeRow]) -> Iterable[str]:
    if "start_from" in config_table(config.get("signature")):
        yield "Its training began with the networks of another run."
    steps = [row.step for row in rows if row.step is not None]
    step, planned = min(steps, default=None), config.get("updates")
    preset = _preset(config, task)
    published = None if preset is None else preset.total_updates
    if step is None:
        yield "After how many updates it was evaluated is unknown."
    elif published is not None and step < published:
        yield f"Evaluated after {step:,} updates, where the published settings have {published:,}."
    if step is not None and isinstance(planned, int) and step < planned:
        yield f"Its training goes on to {planned:,} updates; its last policy is not evaluated."
    changed = [] if preset is None else _changed_settings(preset, config_table(config.get("algorithm")))
    if changed:
        more = len(changed) - _SHOWN_SETTINGS
        shown = "; ".join(changed[:_SHOWN_SETTINGS]) + (f"; and {more} more" if more > 0 else "")
        yield f"Settings other than the published: {shown}."


def _preset(config: Mapping[str, Any], task: Task) -> Any:
    """The published settings of the run's algorithm; None if the package does not know the algorithm."""
    algorithm = registry.class_at_hand(str(config_table(config.get("algorithm")).get("class")))
    return None if algorithm is None else algorithm.preset(task.suite, task.name)


def _changed_settings(preset: Any, settings: Mapping[str, Any]) -> list[str]:
    """What differs from the preset, but for settings that name the algorithm or tell the number of updates."""
    changed = []
    for name, published in preset.config().items():
        ours = settings.get(name, published)
        if ours == published:
            continue
        with contextlib.suppress(SafeTraXError, TypeError, ValueError):  # on its own it may contradict the others
            other = replace(preset, **{name: tuple(ours) if isinstance(ours, list) else ours})
            if other.name != preset.name or other.total_updates != preset.total_updates:
                continue
        changed.append(f"{name} {ours} instead of {published}")
    return changed


def _fewest_seeds(rows: Iterable[EpisodeRow]) -> int:
    """Seeds of the limit that has the fewest."""
    seeds: dict[float | None, set[int]] = defaultdict(set)
    for row in rows:
        seeds[row.cost_limit].add(row.seed)
    return min(len(found) for found in seeds.values())


def _fewest_episodes(rows: Iterable[EpisodeRow]) -> int:
    """Episodes of the policy that has the fewest."""
    episodes: dict[RunId, int] = defaultdict(int)
    for row in rows:
        episodes[row.run] += 1
    return min(episodes.values())


def _data_key(run: _Run, task: Task) -> str:
    """Equal for results that were obtained on the same data."""
    data = config_table(run.config.get("data"))
    if not data.get("filters") and run.config.get("task") == task.name and is_downloaded(run.config, task):
        return DSRL_DATA
    if data.get("sha256"):  # the arrays' own fingerprint depends on which of them an algorithm reads
        filters = json.dumps(data["filters"], sort_keys=True) if data.get("filters") else ""
        return f"{data['sha256']} {filters}".strip()
    return str(config_table(run.config.get("signature")).get("data") or run.title)


def is_downloaded(config: Mapping[str, Any], task: Task) -> bool:
    """Whether the data are the file that was downloaded under DSRL's name: nobody publishes its hash, so a record of
    the download has to tell."""
    digest = config_table(config.get("data")).get("sha256")
    places = [dataset_path(task)]
    recorded = config_table(config.get("record")).get("data_path")
    if isinstance(recorded, str):
        places.append(Path(recorded))
    for place in places:
        with contextlib.suppress(ValueError, OSError):  # a damaged record, or a path that is no file's
            record = read_record(place)
            if record is not None and record.url is not None and record.sha256 == digest:
                return place.name == task.dataset_file
    return False


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
