"""How well numbers tell safe episodes from others: as Table 2 of DSPO (ICLR 2025 submission)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Detection(NamedTuple):
    """Of numbers that say "safe" from a half on; NaN where there is nothing to divide by.

    Attributes:
        auc: chance that a safe episode has a higher number than another one, ties by halves (area under the ROC).
        accuracy: share of episodes about which they are right.
        recall: share of the safe episodes that they find.
        precision: share of the episodes that they call safe which are.
        f1: harmonic mean of recall and precision.
        pearson: correlation with the return.
    """

    auc: float
    accuracy: float
    recall: float
    precision: float
    f1: float
    pearson: float


def detection(
    signal: Float[np.ndarray, " E"], safe: Bool[np.ndarray, " E"], returns: Float[np.ndarray, " E"]
) -> Detection:
    """From one number per episode, between 0 and 1, whether it is safe, and its return."""
    called = signal >= 0.5
    right = int((called & safe).sum())
    spread = float(np.std(signal) * np.std(returns))
    together = float(np.mean((signal - signal.mean()) * (returns - returns.mean())))
    return Detection(
        auc=_ratio(float((_ranks(signal)[safe] - (safe.sum() + 1) / 2).sum()), int(safe.sum() * (~safe).sum())),
        accuracy=float((called == safe).mean()),
        recall=_ratio(right, int(safe.sum())),
        precision=_ratio(right, int(called.sum())),
        f1=_ratio(2 * right, int(safe.sum() + called.sum())),
        pearson=_ratio(together, spread),
    )


def found_by_one_alone(
    signals: list[Float[np.ndarray, " E"]], one: int, asked: Bool[np.ndarray, " E"]
) -> Int[np.ndarray, " n"]:
    """The episodes asked about that signal `one` calls safe and no other does, those first that it is surest of."""
    others = [signal < 0.5 for place, signal in enumerate(signals) if place != one]
    alone = np.flatnonzero(asked & (signals[one] >= 0.5) & np.logical_and.reduce(others, axis=0))
    return alone[np.argsort(-signals[one][alone], kind="stable")]


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1; those that are equal share the mean of theirs."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right") + 1) / 2


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")
