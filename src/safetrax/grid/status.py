"""How far a benchmark is, and how long the rest takes."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from safetrax.grid.benchmark_folder import State

ORDER = ("done", "running", "stopped", "failed", "damaged", "waiting")


@dataclass(frozen=True)
class Status:
    """At one moment.

    Attributes:
        states: of every job.
        seconds_left: of the jobs that are neither failed, damaged nor done, with as many side by side as run now;
            None where no job is done yet and none runs for long enough to tell.
    """

    states: tuple[State, ...]
    seconds_left: float | None

    def count(self) -> dict[str, int]:
        """How many jobs are in which state, those that are none left out."""
        found = Counter[str](state.name for state in self.states)
        return {name: found[name] for name in ORDER if found[name]}


def status(states: Sequence[State], *, lanes: int | None = None, now: float | None = None) -> Status:
    """How far a benchmark is.

    Args:
        states: of its jobs.
        lanes: jobs side by side; None: as many as run now, at least one.
        now: seconds since 1970; None: now.
    """
    return Status(tuple(states), _seconds_left(states, lanes, time.time() if now is None else now))


def _seconds_left(states: Sequence[State], lanes: int | None, now: float) -> float | None:
    """The work that is left, shared by the lanes; never less than the longest job that runs."""
    spent: dict[str, list[float]] = defaultdict(list)
    for state in states:
        if state.name == "done":
            spent[state.job.algorithm].append(sum(state.details.seconds.values()))
    known = {word: sum(seconds) / len(seconds) for word, seconds in spent.items()}
    running = [state for state in states if state.name == "running"]
    rests = []
    for state in running:
        share = state.details.updates / state.details.total if state.details.total else 0.0
        elapsed = now - state.details.started
        if share > 0.02:
            rests.append(elapsed * (1 - share) / share)
            known.setdefault(state.job.algorithm, elapsed / share)
        elif state.job.algorithm in known:
            rests.append(max(0.0, known[state.job.algorithm] - elapsed))
    waiting = [state for state in states if state.name in ("waiting", "stopped")]
    if not running and not waiting:
        return 0.0
    if not known:
        return None
    usual = sum(known.values()) / len(known)
    rests += [usual] * (len(running) - len(rests))
    work = sum(rests) + sum(known.get(state.job.algorithm, usual) for state in waiting)
    return max(work / max(1, lanes or len(running)), *rests, 0.0)
