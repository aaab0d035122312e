"""The leaderboard as text: cells, numbered notes, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from safetrax.leaderboard.leaderboard import Entry, Leaderboard
from safetrax.leaderboard.own_results import limits_text

HEADINGS = ("algorithm", "limits", "reward", "cost", "safe", "source", "notes")
LEGEND = (
    "Reward and cost are normalised; safe is a cost of at most 1, of own results at every limit. best: the highest "
    "reward of the safe ones of the same limits and data. ± is one standard error, of own results only."
)


class Notes:
    """Numbers for sentences: equal ones have the same."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def numbers(self, entry: Entry) -> str:
        """Those of an entry's sentences, for instance `1 3`."""
        sentences = dict.fromkeys((*entry.differences, *entry.remarks))
        return " ".join(str(self._numbers.setdefault(sentence, len(self._numbers) + 1)) for sentence in sentences)

    def lines(self) -> list[tuple[int, str]]:
        """Every number with its sentence."""
        return [(number, sentence) for sentence, number in self._numbers.items()]


def cells(entry: Entry, notes: Notes) -> tuple[str, ...]:
    """The texts below `HEADINGS`."""
    verdict = "best" if entry.best else "yes" if entry.safe else "no"
    reward, cost = figure(entry.reward, entry.reward_error), figure(entry.cost, entry.cost_error)
    source = f"{'own: ' if entry.own else ''}{', '.join(entry.sources)}"
    return entry.algorithm, limits_text(entry.cost_limits), reward, cost, verdict, source, notes.numbers(entry)


def figure(mean: float, error: float | None) -> str:
    """Two digits, and a third where the mean would round to the limit without being on the same side of it."""
    digits = 3 if mean > 1 and round(mean, 2) == 1 else 2
    text = f"{round(mean, digits) + 0.0:.{digits}f}"  # + 0.0: there is no -0.00
    return text if error is None else f"{text} ± {error:.{digits}f}"


def to_markdown(board: Leaderboard) -> str:
    """One table per task, the notes and the sources; safe figures are bold, as in papers."""
    notes, lines = Notes(), []
    for task in board.boards:
        lines += [f"## {task.task}", "", f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
        for entry in task.entries:
            algorithm, limits, reward, cost, verdict, source, numbers = map(_escaped, cells(entry, notes))
            if entry.safe:
                reward, cost = f"**{reward}**", f"**{cost}**"
            if entry.best:
                algorithm, verdict = f"**{algorithm}**", f"**{verdict}**"
            lines.append(f"| {' | '.join((algorithm, limits, reward, cost, verdict, source, numbers))} |")
        lines.append("")
    lines += [LEGEND, ""]
    if notes.lines():
        lines += ["Notes:", "", *(f"{number}. {_escaped(sentence)}" for number, sentence in notes.lines()), ""]
    if board.sources:
        lines += ["Sources:", "", *(f"* {key}: {reference}" for key, reference in source_lines(board)), ""]
    return "\n".join(lines)


def to_json(board: Leaderboard) -> str:
    """All fields of all entries and sources, indented."""
    value = {
        "tasks": [
            {"task": task.task, "suite": task.suite, "entries": [asdict(entry) for entry in task.entries]}
            for task in board.boards
        ],
        "sources": [asdict(source) for source in board.sources],
    }
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def source_lines(board: Leaderboard) -> list[tuple[str, str]]:
    """Each source with its reference."""
    return [(source.key, f"{source.reference}.") for source in board.sources]


def _escaped(text: str) -> str:
    """For a cell of a Markdown table."""
    return text.replace("|", "\\|")
