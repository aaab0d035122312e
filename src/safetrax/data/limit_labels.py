"""Labels of segments for any cost limit: a table made once for a grid of limits, and draws of a segment and a limit.

`safetrax.data.segments` labels all windows for one limit. Here a window keeps its cost and return, and the table
tells, for each limit of the grid, from which return on a safe window is desirable (Eqs. 2-3 of Gong et al., AAAI
2025, arXiv:2412.15429). That is twelve bytes per window, whatever the number of limits.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, Key

from safetrax.data.segments import ROUNDING, Windows, within_limit
from safetrax.errors import DataError
from safetrax.files import exact

GRID = 128  # limits
_FEWEST_SAFE = 0.02  # share of the windows that are safe at the least limit, unless a range is given
_NEARLY_ALL = 0.95  # share of them that are safe at the greatest


def limit_range(windows: Windows) -> tuple[float, float]:
    """From the limit that 2 % of the windows meet to the one that 95 % meet; see `LimitIndex.make` for the shares."""
    order = np.argsort(windows.cost, kind="stable")
    share = np.cumsum(_mass(windows)[order])
    places = np.searchsorted(share, (_FEWEST_SAFE, _NEARLY_ALL), side="left")
    low, high = windows.cost[order][np.minimum(places, len(order) - 1)]
    return float(low), float(high)


def require_met(windows: Windows, limit: float) -> None:
    """Check that some window is safe.

    Raises:
        DataError: none is.
    """
    if not within_limit(windows.cost, limit).any():
        raise DataError(
            f"no segment meets the cost limit {exact(limit)}: the cheapest would cost {windows.cost.min():g} over a "
            "whole episode; raise the limit."
        )


class LimitBatch(eqx.Module):
    """Windows of one batch, each with a limit of its own.

    Attributes:
        starts: first row of each window.
        steps: valid steps of each window.
        limits: cost limit of each, that of a whole episode.
        desirable: y at that limit.
        weight: w of Eqs. 2-3; 0 where no draw gave a labelled window.
        share: of the windows at that limit, how many are of the same class.
    """

    starts: Int32[Array, " B"]
    steps: Int32[Array, " B"]
    limits: Float[Array, " B"]
    desirable: Bool[Array, " B"]
    weight: Float[Array, " B"]
    share: Float[Array, " B"]


class LimitTable(eqx.Module):
    """What labels a window at each limit of the grid; a row each.

    Attributes:
        limits: rising, evenly spaced.
        top: least return of a desirable window.
        bottom: greatest return of a safe window that is undesirable; -inf: none is.
        low: least return of the safe windows.
        high: their greatest.
        desirable: share of all windows.
        undesirable: share of all windows.
    """

    limits: Float[Array, " G"]
    top: Float[Array, " G"]
    bottom: Float[Array, " G"]
    low: Float[Array, " G"]
    high: Float[Array, " G"]
    desirable: Float[Array, " G"]
    undesirable: Float[Array, " G"]

    @staticmethod
    def make(windows: Windows, limits: Float[np.ndarray, " G"], *, top: float, bottom: float) -> LimitTable:
        """Of all windows, in O(W) for each limit.

        A window is desirable if its return is at least that of the last one of the top share, ties included. At a
        limit that no window meets all are undesirable.
        """
        order = np.argsort(-windows.value, kind="stable")
        value, cost, mass = windows.value[order], windows.cost[order], _mass(windows)[order]
        rows = []
        for limit in limits.tolist():
            safe = within_limit(cost, limit)
            if not safe.any():
                rows.append((np.inf, -np.inf, 0.0, 0.0, 0.0, 1.0))
                continue
            values, share = value[safe], np.cumsum(mass[safe])
            best = values[_reaching(share, top)] if top > 0 else np.inf
            worst = values[::-1][_reaching(np.cumsum(mass[safe][::-1]), bottom)] if bottom > 0 else -np.inf
            bad = ~safe | (value <= worst)
            good = safe & (value >= best) & ~bad
            rows.append((best, worst, values[-1], values[0], mass[good].sum(), mass[bad].sum()))
        return LimitTable(*(jnp.asarray(column, jnp.float32) for column in (limits, *zip(*rows, strict=True))))


class LimitIndex(eqx.Module):
    """All windows on the device, and the table that labels them.

    Attributes:
        starts, cost, value: of each window, see `Windows`.
        first: windows of eligible episode k are number first[k] to first[k + 1] - 1.
        steps: valid steps of each eligible episode's windows.
        table: labels at each limit.
        length: S, steps of a window.
    """

    starts: Int32[Array, " W"]
    cost: Float[Array, " W"]
    value: Float[Array, " W"]
    first: Int32[Array, " K1"]
    steps: Int32[Array, " K"]
    table: LimitTable
    length: int = eqx.field(static=True)

    @staticmethod
    def make(windows: Windows, limits: tuple[float, float], *, top: float, bottom: float) -> LimitIndex:
        """Of all windows; every episode counts alike, and in it every window.

        Args:
            windows: their own labels are not used.
            limits: least and greatest, of a whole episode.
            top: share of the safe windows that is desirable, x.
            bottom: share of the safe windows that is undesirable, y.

        Raises:
            DataError: no window meets the greatest limit.
        """
        require_met(windows, limits[1])
        grid = np.linspace(*limits, GRID)
        return LimitIndex(
            starts=jnp.asarray(windows.starts),
            cost=jnp.asarray(windows.cost, jnp.float32),
            value=jnp.asarray(windows.value, jnp.float32),
            first=jnp.asarray(np.concatenate([[0], np.cumsum(windows.episode_windows)]), jnp.int32),
            steps=jnp.asarray(windows.episode_steps, jnp.int32),
            table=LimitTable.make(windows, grid, top=top, bottom=bottom),
            length=windows.length,
        )

    def draw(self, key: Key[Array, ""], size: int) -> tuple[Int32[Array, " B"], Int32[Array, " B"]]:
        """First rows and valid steps of `size` windows, whatever their labels."""
        episode_key, window_key = jax.random.split(key)
        episode, window = self._drawn(episode_key, window_key, (size,))
        return self.starts[window], self.steps[episode]

    def _drawn(
        self, episode_key: Key[Array, ""], window_key: Key[Array, ""], shape: tuple[int, ...]
    ) -> tuple[Int32[Array, "*b"], Int32[Array, "*b"]]:
        """Numbers of an episode and of a window of it."""
        episode = jax.random.randint(episode_key, shape, 0, self.steps.size)
        return episode, jax.random.randint(window_key, shape, self.first[episode], self.first[episode + 1])

    def sample(self, key: Key[Array, ""], size: int, floor: float, attempts: int = 4) -> LimitBatch:
        """Draw `size` windows with a limit each, from those that are labelled at it.

        A window that is neither desirable nor undesirable at its limit is drawn anew, with its limit, as often as
        there are attempts; what is then still not labelled has weight 0.

        Args:
            key: of the draws.
            size: B.
            floor: smallest weight, delta.
            attempts: draws for each.
        """
        episode_key, window_key, limit_key = jax.random.split(key, 3)
        shape = (attempts, size)
        episode, window = self._drawn(episode_key, window_key, shape)
        place = jax.random.randint(limit_key, shape, 0, GRID)
        table = self.table
        cost, value, limits = self.cost[window], self.value[window], table.limits[place]
        safe = cost <= limits * (1 + ROUNDING) + ROUNDING
        undesirable = ~safe | (value <= table.bottom[place])
        desirable = safe & (value >= table.top[place]) & ~undesirable
        chosen = jnp.argmax(desirable | undesirable, axis=0), jnp.arange(size)  # the first; 0 if there is none
        low, high = table.low[place], table.high[place]
        g = jnp.where(high > low, (value - low) / jnp.where(high > low, high - low, 1.0), 1.0)
        grade = floor + (1 - floor) * jnp.where(desirable, g, 1 - g)
        weight = jnp.where(safe, grade, 1.0) * (desirable | undesirable)
        share = jnp.where(desirable, table.desirable[place], table.undesirable[place])
        return LimitBatch(
            starts=self.starts[window[chosen]],
            steps=self.steps[episode[chosen]],
            limits=limits[chosen],
            desirable=desirable[chosen],
            weight=weight[chosen],
            share=share[chosen],
        )


def _mass(windows: Windows) -> Float[np.ndarray, " W"]:
    """Probability of each window: an episode, then a window of it."""
    mass = (1.0 / windows.episode_windows)[windows.episode]
    return np.asarray(mass / mass.sum())


def _reaching(cumulative: Float[np.ndarray, " n"], share: float) -> int:
    """The item with which the mass reaches the share."""
    return int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-9)))
