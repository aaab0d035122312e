"""The cost limit that moves while an agent trains, and the multiplier that follows it."""

from __future__ import annotations

from dataclasses import dataclass

# FSRL's 0.05, 0.005 and 0.1 for limits that go up to 80, here for costs that are divided by the loosest limit
GAINS = (4.0, 0.4, 8.0)


@dataclass(frozen=True)
class Sweep:
    """A cost limit that moves linearly from `start` to `end` in the middle of a training.

    One training then passes through the whole plane of cost and return (Liu et al., 2024, arXiv:2306.09303,
    appendix on data collection).

    Attributes:
        start: limit on the cost of an episode at first.
        end: limit at last.
        begin: share of the training after which it starts to move.
        finish: share of the training after which it stands.
    """

    start: float
    end: float
    begin: float = 0.1
    finish: float = 0.9

    def limit(self, progress: float) -> float:
        """The limit when `progress`, from 0 to 1, of the training is done."""
        share = min(max((progress - self.begin) / (self.finish - self.begin), 0.0), 1.0)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Multiplier:
    """A Lagrange multiplier under proportional, integral and derivative control.

    Stooke et al., 2020 (arXiv:2007.03964), Algorithm 2, on the excess of the mean episode cost over the limit.

    Attributes:
        integral: sum of excesses, never below 0.
        previous: the last excess.
        value: the multiplier, >= 0.
    """

    integral: float = 0.0
    previous: float = 0.0
    value: float = 0.0

    def after(self, mean_cost: float, limit: float, gains: tuple[float, float, float] = GAINS) -> Multiplier:
        """The multiplier once episodes of `mean_cost` were seen; `gains`: proportional, integral, derivative."""
        excess = mean_cost - limit
        integral = max(self.integral + excess, 0.0)
        proportional_gain, integral_gain, derivative_gain = gains
        value = (
            proportional_gain * max(excess, 0.0)
            + integral_gain * integral
            + derivative_gain * max(excess - self.previous, 0.0)
        )
        return Multiplier(integral, excess, value)
