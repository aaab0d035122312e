"""Errors that a user can mend. The command line prints each as one sentence and ends with exit code 2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)


class SafeTraXError(Exception):
    """Something outside the code is wrong: the message names it, its value and the remedy in one sentence.

    Messages quote files and servers, so what a terminal would obey is taken out of them.
    """

    def __init__(self, *words: object) -> None:
        super().__init__(*(printable(word) if isinstance(word, str) else word for word in words))


class DataError(SafeTraXError, ValueError):
    """A data set is missing, unreadable or malformed."""


class ConfigError(SafeTraXError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class TaskError(SafeTraXError, KeyError):
    """A task is unknown, or does not fit the data."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0]) if self.args else ""


class RunError(SafeTraXError, RuntimeError):
    """A run folder or a checkpoint cannot be used as asked."""


class SimulatorError(SafeTraXError, RuntimeError):
    """A simulator is not installed, or its worker processes keep dying."""


class SafeTraXWarning(UserWarning):
    """Something is legal but probably not what was meant."""


def printable(text: str) -> str:
    """The text without what would command a terminal: escape sequences go, other characters of control are spaces.

    Line breaks stay; a half of a surrogate pair, which stands for a byte of a file name that is no text, is a `?`.
    """
    kept = _ESCAPES.sub("", text)
    if kept.isprintable():
        return kept
    return "".join(c if c.isprintable() or c == "\n" else "?" if "\ud800" <= c <= "\udfff" else " " for c in kept)


def look_up(name: str, entries: Mapping[str, T], what: str) -> T:
    """The entry of that name. `what`: each of them is, for the message.

    Raises:
        ConfigError: there is none.
    """
    if name not in entries:
        raise ConfigError(f"there is no {what} {name!r}; {nearest(name, entries)}")
    return entries[name]


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?` if something known begins with that word or is spelt alike, else a list of what is known.
    Capitals do not matter."""
    names = list(known)
    by_case = {name.casefold(): name for name in names}
    begun = [name for case, name in by_case.items() if word and case.startswith(f"{word.casefold()}-")]
    near = difflib.get_close_matches(word.casefold(), by_case, n=1, cutoff=0.5)
    found = begun or [by_case[case] for case in near]
    return f"did you mean {found[0]}?" if found else f"choose one of {', '.join(names)}."
