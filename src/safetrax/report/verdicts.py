"""Whether results bear out what a paper finds: a stated rule for each claim, and never more than its interval says.

A claim is judged by one number per seed: the mean over the tasks and limits that both sides have, of the difference
that is claimed or of the normalised cost. Student's 95 % interval over the seeds decides:

more reward, less cost   agree if it lies above 0, disagree if below
reward alike             agree if it lies within `ALIKE` of 0, disagree if wholly outside
safe, unsafe             agree or disagree as the cost lies up to 1 or above
safe everywhere          as safe on each task: agree if all do, disagree if one does

All else is not decidable, and so is everything with fewer than `SEEDS` seeds. An experiment agrees if all of its
claims do and disagrees if one does. It is not decidable while a job is not done, nor unless all of the paper's tasks
were run: a mean over other tasks is another mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from safetrax.charts.drawing import Chart, beside
from safetrax.charts.panels import intervals, looks
from safetrax.evaluation.bootstrap import Bounded, student_interval
from safetrax.evaluation.run_scores import RunScore
from safetrax.evaluation.scores import SAFE_UP_TO
from safetrax.files import exact
from safetrax.grid.experiments import Claim, Experiment

Answer = Literal["agree", "disagree", "not decidable"]

SEEDS = 3
ALIKE = 0.1
_DIGITS = 3
_MOST_TASKS = 4  # that are named in a sentence

_Value = Callable[[RunScore], float]
_Cell = tuple[str, float]


@dataclass(frozen=True)
class Ruling:
    """What became of a claim, or of all of an experiment.

    Attributes:
        answer: in a word.
        sentence: claim, interval and reason.
    """

    answer: Answer
    sentence: str


def judge(claim: Claim, scores: Iterable[RunScore]) -> Ruling:
    """Whether scores bear a claim out, by the rule above.

    Args:
        claim: which.
        scores: of any algorithms and tasks; those that the claim does not name are left out.
    """
    kept = [score for score in scores if not claim.tasks or score.task in claim.tasks]
    names = [claim.first, claim.second] if claim.second else [claim.first]
    sides = [[score for score in kept if score.algorithm == name] for name in names]
    cells = set.intersection(*({_cell(score) for score in side} for side in sides))
    said = _said(claim)
    if not cells:
        where = f" on {_listed(claim.tasks)}" if claim.tasks else ""
        lacking = next((name for name, side in zip(names, sides, strict=True) if not side), "the two together")
        return Ruling("not decidable", f"{said}: not decidable, for there are no results of {lacking}{where}")
    found = [_found(claim.kind, sides, part) for part in _parts(claim, cells)]
    answer, measured = min(found, key=lambda entry: ("disagree", "not decidable", "agree").index(entry[0]))
    on = _listed(sorted({task for task, _ in cells}))
    return Ruling(answer, f"{said}: {answer} ({measured}; on {on})")


def judge_all(
    experiment: Experiment, scores: Sequence[RunScore], lacking: int = 0
) -> tuple[Ruling, tuple[Ruling, ...]]:
    """The experiment's judgement, and one for each of its claims.

    Args:
        experiment: which.
        scores: of its jobs that are done.
        lacking: how many of its jobs are not.
    """
    paper, there = set(experiment.task_names), {score.task for score in scores}
    whole = paper <= there
    scores = [score for score in named_as_claimed(experiment, scores) if not whole or score.task in paper]
    each = tuple(judge(claim, scores) for claim in experiment.claims)
    counts = {answer: sum(one.answer == answer for one in each) for answer in ("agree", "disagree", "not decidable")}
    text = ", ".join(f"{count} of {len(each)} claims {name}" for name, count in counts.items() if count)
    if lacking:
        return Ruling("not decidable", f"not decidable, for jobs are not done ({lacking})"), each
    if not each:
        return Ruling("not decidable", f"not decidable: {experiment.beyond.rstrip('.')}"), each
    if not whole:
        were = f"{len(paper & there)} of the paper's {len(paper)} tasks were run"
        return Ruling("not decidable", f"not decidable, for {were}; on what was run {text}"), each
    answer: Answer = "not decidable"
    if counts["disagree"]:
        answer = "disagree"
    elif counts["agree"] == len(each):
        answer = "agree"
    return Ruling(answer, f"{answer} ({text})"), each


def named_as_claimed(experiment: Experiment, scores: Sequence[RunScore]) -> list[RunScore]:
    """The scores under the names that the claims have: where limits are compared, each is an algorithm."""
    if not experiment.by_limit:
        return list(scores)
    return [
        replace(score, algorithm=f"{score.algorithm} at limit {exact(score.cost_limit)}", cost_limit=0.0)
        for score in scores
    ]


def verdict_chart(experiment: Experiment, scores: Sequence[RunScore]) -> Chart:
    """Reward and cost of all that is compared with the intervals of the rule, a row of panels for each task."""
    scores = named_as_claimed(experiment, scores)
    names = list(dict.fromkeys(score.algorithm for score in scores))
    panels = []
    for task in dict.fromkeys(score.task for score in scores):
        for value, axis, limit in ((_reward, "normalised reward", None), (_cost, "normalised cost", SAFE_UP_TO)):
            rows = []
            for name in names:
                own = [score for score in scores if (score.algorithm, score.task) == (name, task)]
                if own:
                    rows.append((name, *student_interval(_by_seed([own], {_cell(score) for score in own}, value))))
            panels.append(intervals(rows, looks(names), x=axis, limit=limit, title=task))
    return beside(panels, columns=2)


def _said(claim: Claim) -> str:
    texts: Mapping[str, str] = {
        "more reward": "{} earns more than {}",
        "less cost": "{} costs less than {}",
        "reward alike": "{} earns as much as {}",
        "safe": "{} is safe",
        "safe everywhere": "{} is safe on every task",
        "unsafe": "{} is unsafe",
    }
    return texts[claim.kind].format(claim.first, claim.second)


def _parts(claim: Claim, cells: set[_Cell]) -> list[set[_Cell]]:
    """Cells that are averaged: all of them, or those of each task."""
    if claim.kind != "safe everywhere":
        return [cells]
    return [{cell for cell in cells if cell[0] == task} for task in sorted({task for task, _ in cells})]


def _found(kind: str, sides: Sequence[Sequence[RunScore]], cells: set[_Cell]) -> tuple[Answer, str]:
    """The answer of one interval, and what was measured."""
    costs = kind in ("less cost", "safe", "safe everywhere", "unsafe")
    values = _by_seed(sides, cells, _cost if costs else _reward)
    if kind == "less cost":
        values = [0 - value for value in values]
    bounded = student_interval(values)
    quantity = f"{'difference in ' if len(sides) > 1 else ''}normalised {'cost' if costs else 'reward'}"
    shown = Bounded(0 - bounded.value, 0 - bounded.high, 0 - bounded.low) if kind == "less cost" else bounded
    where = f" on {next(iter(cells))[0]}" if kind == "safe everywhere" else ""
    measured = f"{quantity}{where} {shown.text(_DIGITS)}"
    if len(values) < SEEDS:
        return "not decidable", f"{measured}; {len(values)} seeds of at least {SEEDS}"
    return _answer(kind, bounded), f"{measured}, {len(values)} seeds"


def _answer(kind: str, bounded: Bounded) -> Answer:
    """An interval with an end of NaN decides nothing."""
    if kind in ("safe", "safe everywhere", "unsafe"):
        yes, no = bounded.high <= SAFE_UP_TO, bounded.low > SAFE_UP_TO
        yes, no = (no, yes) if kind == "unsafe" else (yes, no)
    elif kind == "reward alike":
        yes, no = max(-bounded.low, bounded.high) <= ALIKE, bounded.low > ALIKE or bounded.high < -ALIKE
    else:
        yes, no = bounded.low > 0, bounded.high < 0
    return "agree" if yes else "disagree" if no else "not decidable"


def _by_seed(sides: Sequence[Sequence[RunScore]], cells: set[_Cell], value: _Value) -> list[float]:
    """Of every seed that has all cells on every side, the mean over them, of the first side less the second."""
    tables = [{(*_cell(score), score.seed): value(score) for score in side} for side in sides]
    seeds = [
        seed
        for seed in sorted({score.seed for score in sides[0]})
        if all((*cell, seed) in table for table in tables for cell in cells)
    ]
    means = [[float(np.mean([table[*cell, seed] for cell in sorted(cells)])) for seed in seeds] for table in tables]
    return [first - second for first, second in zip(*means, strict=True)] if len(means) > 1 else means[0]


def _cell(score: RunScore) -> _Cell:
    return score.task, score.cost_limit


def _reward(score: RunScore) -> float:
    return score.normalised_return


def _cost(score: RunScore) -> float:
    return score.normalised_cost


def _listed(names: Sequence[str]) -> str:
    if len(names) > _MOST_TASKS:
        return f"{len(names)} tasks"
    return ", ".join(names)
