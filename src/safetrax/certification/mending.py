"""What self-tests teach: which estimator to believe, how to mend it, and what to add."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int

_SLOPES = (0.5, 2.0)  # a bound always depends on the policy
_MOSTLY = 0.8  # of the tests in which an estimator must settle
_UNIT = 0.25  # of the tests' mean cost


@dataclass(frozen=True)
class Mending:
    """Of one quantity, the cost or the return of an episode.

    Estimator k is mended by a straight line, whose slope is drawn towards 1 as estimates are uncertain. Those that
    err least on the tests that their lines have not seen come first.

    Attributes:
        order: the estimators, best first; those that mostly do not settle are left out.
        offsets: of the lines.
        slopes: of the lines, between a half and two.
        unit: cost at which errors are expected to be the square root of 2 times those at 0; inf: the same everywhere.
        raised: what is added at 0 to each, so that the tests hold as often as the confidence says.
        held: tests that hold without.
        tests: of each.
        apart: the most by which the second was above the first in a test (for a bound from below, below it), for
            every pair of them.
    """

    order: tuple[int, ...]
    offsets: Float[np.ndarray, " K"]
    slopes: Float[np.ndarray, " K"]
    unit: float
    raised: Float[np.ndarray, " K"]
    held: Int[np.ndarray, " K"]
    tests: Int[np.ndarray, " K"]
    apart: Float[np.ndarray, "K K"]

    @staticmethod
    def learn(
        truth: Float[np.ndarray, " T"],
        estimates: Float[np.ndarray, "T K"],
        spread: Float[np.ndarray, "T K"],
        settled: Bool[np.ndarray, "T K"],
        confidence: float,
        sign: int,
    ) -> Mending:
        """From the tests.

        Args:
            truth: known values.
            estimates: of each estimator.
            spread: standard deviations of them.
            settled: which of them are to be believed at all.
            confidence: of the bound, in (0.5, 1).
            sign: 1 for a bound from above, whose errors grow like the root of a sum's; -1 for one from below.
        """
        count = estimates.shape[1]
        unit = _UNIT * float(np.abs(truth).mean()) if sign > 0 and truth.any() else math.inf
        lines, errors, raised = np.tile([0.0, 1.0], (count, 1)), np.full(count, np.inf), np.zeros(count)
        held, tests = np.zeros((2, count), int)
        margin = NormalDist().inv_cdf(confidence)
        for k in range(count):
            use = settled[:, k]
            if use.sum() < max(_MOSTLY * len(truth), 3):
                continue
            x, y, s = estimates[use, k], truth[use], spread[use, k]
            lines[k] = _line(x, y, s)
            seen = np.array([_line(*(np.delete(values, i) for values in (x, y, s))) for i in range(len(x))])
            mended = seen[:, 0] + seen[:, 1] * x
            errors[k] = np.sqrt(np.mean((y - mended) ** 2))
            short = np.sort((sign * (y - mended) - margin * seen[:, 1] * s) / _scale(mended, unit))
            # split conformal prediction (Vovk et al., 2005): of 19 tests or more the confidence 0.95 takes the worst
            place = min(math.ceil((len(short) + 1) * confidence), len(short)) - 1
            raised[k], held[k], tests[k] = max(float(short[place]), 0.0), (short <= 0).sum(), len(short)
        mended = sign * np.where(settled, lines[:, 0] + lines[:, 1] * estimates, np.nan)
        return Mending(
            order=tuple(int(k) for k in np.argsort(errors, kind="stable") if np.isfinite(errors[k])),
            offsets=lines[:, 0],
            slopes=lines[:, 1],
            unit=unit,
            raised=raised,
            held=held,
            tests=tests,
            apart=np.fmax.reduce(mended[:, None, :] - mended[:, :, None], axis=0, initial=0.0),
        )

    def believed(self, settled: Bool[np.ndarray, " K"]) -> tuple[int, ...]:
        """Those that settle for a policy, best first: the one to believe, the second opinion, ..."""
        return tuple(k for k in self.order if settled[k])

    def mend(self, estimates: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """All estimates on their lines."""
        return np.asarray(self.offsets + self.slopes * estimates)

    def raise_at(self, k: int, value: float) -> float:
        """What is added to a mended estimate of estimator k."""
        return float(self.raised[k] * _scale(np.array(value), self.unit))


def _line(x: np.ndarray, y: np.ndarray, spread: np.ndarray) -> tuple[float, float]:
    """Offset and slope of y on x by least squares, the slope drawn towards 1 by the variance of x's errors."""
    noise = float(np.mean(spread**2)) * len(x) + 1e-12
    centred = x - x.mean()
    slope = float(np.clip((centred @ y + noise) / (centred @ centred + noise), *_SLOPES))
    return float(y.mean() - slope * x.mean()), slope


def _scale(values: np.ndarray, unit: float) -> np.ndarray:
    return np.asarray(np.sqrt(1 + np.maximum(values, 0) / unit))
