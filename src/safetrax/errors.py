"""Errors that a user can mend. The command line prints each as one sentence and ends with exit code 2."""

from __future__ import annotations


class SafeTraXError(Exception):
    """Something outside the code is wrong: the message names it, its value and the remedy in one sentence.

    Messages quote files and servers, so what a terminal would obey or cannot encode becomes a question mark.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("".join(sign if sign.isprintable() else "?" for sign in str(message)))


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
