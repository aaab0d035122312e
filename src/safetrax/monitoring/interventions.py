"""One row per intervention: which step of which episode, why, and what was done."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

from safetrax.files import write_text

OnAlarm = Literal["record", "fall-back", "stop"]


@dataclass(frozen=True)
class Intervention:
    """An alarm, and what was done about it.

    Attributes:
        policy: whose.
        episode: number of the episode.
        step: in it, from 0.
        cause: the score that was too high, or "input" for an observation that cannot be acted on, or "output" for an
            action that cannot be taken.
        score: its value, in thresholds.
        response: "record": the policy acted on; "fall-back": another acts from here to the episode's end; "stop".
    """

    policy: str
    episode: int
    step: int
    cause: str
    score: float
    response: OnAlarm


COLUMNS = tuple(field.name for field in fields(Intervention))


def write_interventions(path: str | Path, rows: Iterable[Intervention]) -> None:
    """Write a CSV file with a header, atomically.

    Raises:
        RunError: it cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *map(astuple, rows)])
    write_text(path, text.getvalue())
