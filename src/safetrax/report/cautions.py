"""What a careful reader should know before trusting the numbers, in whole sentences."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from safetrax.algorithms import registry
from safetrax.catalogue import SUITES, Task, get_task
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.files import exact
from safetrax.leaderboard.own_results import EPISODES, SEEDS, fewest, limits_difference, limits_text
from safetrax.runs import Caution, Training, changed

if TYPE_CHECKING:
    from safetrax.report.logged import Logged
    from safetrax.report.summary import Cell

FEW_EPISODES = 20  # of the data within a limit: too few to learn from, and to see how far returns reach
_NO_DATA = "Which data these were trained on is not recorded."
_OTHER_DATA = "Not trained on DSRL's data."
_UNCONFIRMED = "Trained on files that are named as DSRL's, but no download on this machine confirms that they are."


def cautions(
    trainings: Sequence[Training],
    cells: Sequence[Cell],
    limits: Mapping[str, Sequence[float]],
    logged: Sequence[Logged],
) -> Iterator[Caution]:
    """Everything that weakens the numbers, the worst first.

    Args:
        trainings: where the episodes come from.
        cells: the table.
        limits: of every task, where algorithms that ignore the limit are scored.
        logged: the data sets that could be read.
    """
    found = itertools.chain(
        _raw(cells),
        _checkpoints(cells),
        _unequal_tasks(cells),
        _unequal_limits(cells),
        _uncertain(cells),
        _counts(trainings),
        _benchmark_limits(cells),
        _trainings(trainings),
        _mixed(trainings),
        _data(trainings),
        _few_episodes(logged),
        _usage(trainings),
        _warnings(trainings),
    )
    return (caution for caution in found if caution.items)


def _raw(cells: Sequence[Cell]) -> Iterator[Caution]:
    raw = dict.fromkeys(cell.task for cell in cells if not cell.summary.has_reference_returns)
    sentence = (
        "Tasks without reference returns: their returns are not normalised and stand in the column Return alone; "
        "means of rewards over tasks of which one is such are not shown."
    )
    yield Caution(sentence, tuple(raw))
    tasks = map(get_task, dict.fromkeys(cell.task for cell in cells if cell.task not in raw))
    ends = tuple(f"{t.name}: 0 is {t.reward_min:g}, 1 is {t.reward_max:g}" for t in tasks if t.own)
    yield Caution(
        "Rewards are normalised with returns that were given for this page, not with the benchmark's.", ends
    )


def _checkpoints(cells: Sequence[Cell]) -> Iterator[Caution]:
    early = tuple(f"{_place(cell)}: {cell.label}" for cell in cells if cell.label)
    yield Caution("Not evaluated at the end of the training.", early)
    unknown = tuple(_place(cell) for cell in cells if not cell.steps)
    yield Caution("After how many updates these were evaluated is unknown.", unknown)


def _unequal_tasks(cells: Sequence[Cell]) -> Iterator[Caution]:
    own: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        own[cell.algorithm].add(cell.task)
    every = set[str]().union(*own.values())
    items = [f"{name}: not on {_listed(sorted(every - found))}" for name, found in own.items() if every - found]
    sentence = "The algorithms are not evaluated on the same tasks; compare them on those they share."
    yield Caution(sentence, tuple(items))


def _unequal_limits(cells: Sequence[Cell]) -> Iterator[Caution]:
    items = []
    for task, group in _by_task(cells).items():
        used: dict[tuple[float, ...], list[str]] = defaultdict(list)
        for cell in group:
            used[cell.summary.cost_limits].append(cell.algorithm)
        if len(used) > 1:
            sides = "; ".join(f"{_listed(names)} at {limits_text(limits)}" for limits, names in used.items())
            items.append(f"{task}: {sides}")
    yield Caution("On some tasks the algorithms are not scored at the same cost limits.", tuple(items))


def _uncertain(cells: Sequence[Cell]) -> Iterator[Caution]:
    near = [f"{_place(cell)}: cost {cell.summary.normalised_cost.text(2)}" for cell in cells if not cell.certain]
    yield Caution(
        f"{len(near)} of {len(cells)} verdicts are not certain: the cost is within one standard error of the "
        "limit, or the error is unknown.",
        tuple(near),
    )


def _counts(trainings: Sequence[Training]) -> Iterator[Caution]:
    """Too few seeds or episodes for an error to mean much."""
    groups: dict[tuple[str, str], list[EpisodeRow]] = defaultdict(list)
    for training in trainings:
        for row in training.rows:
            groups[row.algorithm, row.task].append(row)
    found = {f"{algorithm} on {task}": fewest(rows) for (algorithm, task), rows in groups.items()}
    for number, usual, what in (
        (0, SEEDS, "training seeds per cost limit"),
        (1, EPISODES, "evaluation episodes per policy"),
    ):
        few = tuple(f"{place}: {counts[number]}" for place, counts in found.items() if counts[number] < usual)
        yield Caution(f"Fewer than {usual} {what}, which DSRL's protocol has.", few)


def _benchmark_limits(cells: Sequence[Cell]) -> Iterator[Caution]:
    items = defaultdict(list)
    for task, group in _by_task(cells).items():
        found = get_task(task)
        if found.suite in SUITES:
            for limits in dict.fromkeys(cell.summary.cost_limits for cell in group):
                sentence = limits_difference(limits, found)
                if sentence is not None:
                    items[sentence].append(task)
    for sentence, names in items.items():
        yield Caution(sentence, tuple(dict.fromkeys(names)))


def _trainings(trainings: Sequence[Training]) -> Iterator[Caution]:
    """Trained on another task, for another length or with other settings than published."""
    foreign = tuple(
        f"{training.name}: trained for {training.trained_for}, evaluated on {task}"
        for training in trainings
        for task in training.tasks
        if training.trained_for not in (None, task)
    )
    yield Caution("Evaluated on another task than trained for.", foreign)
    warm = tuple(training.name for training in trainings if training.warm)
    yield Caution("The training began with the networks of another run.", warm)
    differing: dict[str, list[str]] = defaultdict(list)
    fixed = {name for entry in registry.known().values() for name in entry.fixed}
    for training in trainings:
        task = None if training.trained_for is None else get_task(training.trained_for)
        preset = None if task is None or task.own else training.preset(task)
        if preset is not None:
            published = {name: value for name, value in preset.config().items() if name not in fixed}
            text = changed(published, {name: training.settings.get(name, value) for name, value in published.items()})
            if text:
                differing[text].append(training.name)
    items = tuple(f"{_listed(names)}: {text}" for text, names in differing.items())
    yield Caution("Settings other than the published ones.", items)


def _mixed(trainings: Sequence[Training]) -> Iterator[Caution]:
    """One cell of the table out of trainings that are not of one configuration."""
    groups: dict[tuple[str, str], list[Training]] = defaultdict(list)
    for training in trainings:
        for key in dict.fromkeys((row.algorithm, row.task) for row in training.rows):
            groups[key].append(training)
    items = []
    for (algorithm, task), group in groups.items():
        other = next((one for one in group if one.signature != group[0].signature), None)
        if other is not None:
            how = changed(group[0].settings, other.settings) or "in data or updates"
            items.append(f"{algorithm} on {task}: {group[0].name} and {other.name} ({how})")
    yield Caution("Means over runs with different configurations.", tuple(items))


def _data(trainings: Sequence[Training]) -> Iterator[Caution]:
    """Data that are not DSRL's, filtered, or not the same for all algorithms."""
    foreign: dict[str, dict[str, None]] = defaultdict(dict)
    filtered: dict[str, list[str]] = defaultdict(list)
    digests: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for training in trainings:
        if training.trained_for is None:
            continue
        task = get_task(training.trained_for)
        found = _foreign(training, task) if task.suite in SUITES else None
        if found is not None:
            foreign[found[0]][f"{task.name}: {found[1]}"] = None
        if training.filters:
            filtered[", ".join(training.filters)].append(training.name)
        digest = training.data.get("sha256")
        if isinstance(digest, str):
            digests[task.name][digest].append(training.name)
    for sentence, places in foreign.items():
        yield Caution(sentence, tuple(places))
    items = tuple(f"{_listed(names)}: {filters}" for filters, names in filtered.items())
    yield Caution("The data were filtered before training.", items)
    mixed = tuple(
        f"{task}: " + "; ".join(f"{_listed(names)} ({digest[:12]})" for digest, names in groups.items())
        for task, groups in digests.items()
        if len(groups) > 1
    )
    yield Caution("On some tasks the runs were trained on different data.", mixed)


def _foreign(training: Training, task: Task) -> tuple[str, str] | None:
    """A sentence and the file's name, unless the data certainly are DSRL's file."""
    source = training.data.get("source")
    if not source:
        return _NO_DATA, f"DSRL's are {task.dataset_file}"
    if source != task.dataset_file:
        return _OTHER_DATA, f"{source} instead of {task.dataset_file}"
    return None if training.is_of_download(task) else (_UNCONFIRMED, source)


def _few_episodes(logged: Iterable[Logged]) -> Iterator[Caution]:
    items = tuple(
        f"{data.task}, limit {exact(limit)}: {count} of {data.episodes:,} episodes"
        for data in logged
        for limit, count in zip(data.limits, data.within, strict=True)
        if count < FEW_EPISODES
    )
    yield Caution(f"A cost limit that fewer than {FEW_EPISODES} episodes of the data meet.", items)


def _usage(trainings: Sequence[Training]) -> Iterator[Caution]:
    """Of a run folder; a benchmark's are among the other warnings."""
    found = [(training.name, set(training.little_used) - set(training.warnings)) for training in trainings]
    items = tuple(f"{name}: {text}" for name, texts in found for text in sorted(texts))
    yield Caution("Trainings that used little of their data, or data of one class only.", items)


def _warnings(trainings: Sequence[Training]) -> Iterator[Caution]:
    items = tuple(f"{training.name}: {warning}" for training in trainings for warning in training.warnings)
    yield Caution("Runs that the library warned of while they were trained or evaluated.", items)


def _by_task(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.task].append(cell)
    return groups


def _place(cell: Cell) -> str:
    return f"{cell.algorithm} on {cell.task}"


def _listed(names: Iterable[str]) -> str:
    """At most five of them."""
    found = list(dict.fromkeys(names))
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
