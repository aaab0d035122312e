"""The multiplier that follows a cost limit which moves while an agent trains."""

from __future__ import annotations

from dataclasses import dataclass

# FSRL's 0.05, 0.005 and 0.1 for limits that go up to 80, here for costs that are divided by the loosest limit
GAINS = (4.0, 0.4, 8.0)


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
