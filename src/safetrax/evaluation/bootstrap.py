"""Stratified bootstrap intervals, interquartile means, Wilson's and Student's intervals: functions of arrays.

As in Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
(arXiv:2108.13264), and the conventions of its code, rliable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int64

from safetrax.errors import ConfigError
from safetrax.settings import require


class Interval(NamedTuple):
    """The ends of a confidence interval; both NaN where the samples cannot tell."""

    low: float
    high: float


class Bounded(NamedTuple):
    """An estimate within its confidence interval; the ends are NaN where the samples cannot tell."""

    value: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """For instance `0.62 [0.55, 0.70]`; without an interval where there is none."""
        ends = "" if math.isnan(self.low) else f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.value:.{digits}f}{ends}"


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: percentiles of a statistic over resamples with replacement, within every stratum."""

    resamples: int = 2000
    """Number of resamples, at least 1. 10,000 steadies the second digit."""
    confidence: float = 0.95
    """Probability that an interval should cover, between 0 and 1."""
    seed: int = 0
    """Of the resampling, not negative; the same seed gives the same intervals."""

    def __post_init__(self) -> None:
        require(self.resamples >= 1, "resamples", self.resamples, "be at least 1")
        require(0 < self.confidence < 1, "confidence", self.confidence, "be between 0 and 1")
        require(self.seed >= 0, "the bootstrap's seed", self.seed, "not be negative")

    def counts(self, strata: Int64[np.ndarray, " U"], stream: int = 0) -> Float[np.ndarray, "B U"]:
        """How often every resample holds each unit; a resample holds as many units of a stratum as the stratum has.

        Args:
            strata: of every unit, the number of its stratum, from 0.
            stream: draws with different numbers are independent.
        """
        return _counts(strata.tobytes(), self.resamples, self.seed, stream)

    def ends(self, samples: Float[np.ndarray, "B ..."]) -> Float[np.ndarray, "2 ..."]:
        """Lower and upper percentile of a statistic over the resamples.

        Args:
            samples: the statistic, or several, for every resample.
        """
        outside = (1 - self.confidence) / 2
        return np.asarray(np.quantile(samples, (outside, 1 - outside), axis=0))

    def bounded(self, point: Float[np.ndarray, " K"], samples: Float[np.ndarray, "B K"] | None) -> list[Bounded]:
        """K estimates with their intervals.

        Args:
            point: the estimates.
            samples: the same statistics for every resample; None where the units cannot tell the spread.
        """
        ends = np.full((2, len(point)), math.nan) if samples is None else self.ends(samples)
        return [Bounded(float(value), float(low), float(high)) for value, low, high in zip(point, *ends, strict=True)]


DEFAULT_BOOTSTRAP = Bootstrap()


def any_alone(strata: Int64[np.ndarray, " U"]) -> bool:
    """Whether some stratum has one unit only: resampling it shows no spread, so that an interval would be too narrow.

    Args:
        strata: of every unit, the number of its stratum.
    """
    return bool((np.bincount(strata) == 1).any())


@lru_cache(maxsize=4)  # algorithms evaluated on the same tasks and seeds need the same counts, for every statistic
def _counts(layout: bytes, resamples: int, seed: int, stream: int) -> Float[np.ndarray, "B U"]:
    """`Bootstrap.counts`; the layout is the bytes of the strata."""
    strata = np.frombuffer(layout, np.int64)
    rng = np.random.default_rng([seed, stream])
    units = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)[strata[units]]
    begins = np.repeat(np.arange(0, resamples * len(strata), len(strata)), len(strata))
    drawn = []
    for size in np.unique(sizes):  # all strata of one size at once
        of_size = units[sizes == size].reshape(-1, size)
        which = rng.integers(0, size, (resamples, *of_size.shape))
        drawn.append(of_size[np.arange(len(of_size))[:, None], which].reshape(resamples, -1))
    places = np.concatenate(drawn, axis=1).ravel() + begins
    counts = np.bincount(places, minlength=len(begins)).reshape(resamples, -1)
    found = counts.astype(np.float64)
    found.flags.writeable = False
    return found


def shared_weights(
    counts: Float[np.ndarray, "B U"], unit: Int64[np.ndarray, " N"], group: Int64[np.ndarray, " N"]
) -> Float[np.ndarray, "B N"]:
    """The weight of every value in every resample: each group has the same in total, and all its draws the same.

    Args:
        counts: how often every unit was drawn.
        unit: of every value, the number of the unit that it belongs to.
        group: of every value, the number of its group, from 0 and rising; each has drawn units in every resample.
    """
    drawn = counts[:, unit]
    totals = np.add.reduceat(drawn, np.unique(group, return_index=True)[1], axis=1)
    drawn /= (totals * totals.shape[1])[:, group]
    return drawn


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Mean of what is left without the lowest and the highest quarter, a quarter of n being rounded down.

    Source: Agarwal et al., 2021; the rounding is that of rliable (`scipy.stats.trim_mean` with 0.25).

    Args:
        values: at least one number; a sequence or an array of any shape.

    Raises:
        ConfigError: there are no values, or one is not a finite number.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=None)
    if not len(ordered) or not np.isfinite(ordered).all():
        raise ConfigError("an interquartile mean needs at least one value, and all of them finite.")
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def weighted_interquartile_mean(
    values: Float[np.ndarray, " N"], weights: Float[np.ndarray, "B N"]
) -> Float[np.ndarray, " B"]:
    """The interquartile mean of the same values under several weightings.

    From each end a share floor(N / 4) / N of the weight is taken away, that of a value on the edge in part. With
    weights that are whole multiples of 1 / N this is `interquartile_mean` of each value repeated so often.

    Args:
        values: finite, in any order.
        weights: not negative; every row sums to 1.
    """
    cut = (len(values) // 4) / len(values)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    np.clip(reached, cut, 1 - cut, out=reached)
    reached[:, -1] = 1 - cut  # the sum may have missed 1 by rounding
    kept = np.diff(reached, axis=1, prepend=cut)
    return np.asarray(kept @ values[order] / (1 - 2 * cut))


def wilson_interval(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a probability: unlike the bootstrap's it has a width where all trials agree.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Args:
        successes: between 0 and `trials`; need not be whole, as where a trial is an average.
        trials: how many independent ones. With none, the ends are NaN.
        confidence: probability that the interval should cover, between 0 and 1.

    Raises:
        ConfigError: a number is out of its range.
    """
    require(0 < confidence < 1, "confidence", confidence, "be between 0 and 1")
    require(0 <= successes <= trials, "successes", successes, f"be between 0 and the number of trials, {trials}")
    if trials == 0:
        return Interval(math.nan, math.nan)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # rounding would miss 0 and 1
    low = 0.0 if successes == 0 else max((centre - reach) / scale, 0.0)
    high = 1.0 if successes == trials else min((centre + reach) / scale, 1.0)
    return Interval(low, high)


def student_interval(values: Sequence[float], confidence: float = 0.95) -> Bounded:
    """The mean of a few independent values with Student's interval, which knows how few they are.

    Source: Student, "The probable error of a mean", Biometrika 1908.

    Args:
        values: with fewer than two, or one that is not finite, the ends are NaN.
        confidence: probability that the interval should cover, between 0 and 1.

    Raises:
        ConfigError: the confidence is out of its range.
    """
    require(0 < confidence < 1, "confidence", confidence, "be between 0 and 1")
    found = np.asarray(values, np.float64)
    mean = float(found.mean()) if len(found) else math.nan
    if len(found) < 2 or not math.isfinite(mean):
        return Bounded(mean, math.nan, math.nan)
    reach = student_quantile(len(found) - 1, confidence) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Bounded(mean, mean - reach, mean + reach)


def student_quantile(freedom: int, confidence: float) -> float:
    """Which multiple of its scale a variable of Student's distribution exceeds, in size, with 1 - confidence.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4.

    Args:
        freedom: degrees of freedom, at least 1.
        confidence: between 0 and 1.
    """

    def covered(angle: float) -> float:
        """The probability of a size up to sqrt(freedom) tan(angle)."""
        cosine, odd = math.cos(angle), freedom % 2
        term, total = (cosine if odd else 1.0), 0.0
        for power in range(2 + odd, freedom + 1, 2):
            total += term
            term *= cosine**2 * (power - 1) / power
        return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if covered(middle) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def per_unit(of_value: Int64[np.ndarray, " N"], unit: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " U"]:
    """A number that all values of a unit share, once per unit."""
    return np.asarray(of_value[np.unique(unit, return_index=True)[1]])


def numbered(keys: Sequence[object]) -> Int64[np.ndarray, " n"]:
    """Of every key its number, equal keys having equal ones, from 0 in order of first appearance."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
