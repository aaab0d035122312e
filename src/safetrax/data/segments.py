"""Segments: windows of episodes as start indices, labelled desirable or undesirable and weighted (TraC, Eqs. 2-3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int8, Int32

from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.files import exact

DESIRABLE, UNDESIRABLE, UNUSED = 1, 0, -1

# Costs are float32 and sums are rounded: a cost counts as above the limit when it is so by more than this share.
ROUNDING = 1e-6

LONGEST = 500  # steps of a segment for ratio "whole": the longest episodes that TraC's default settings are for

ValueRange = Literal["safe", "all"]
Ratio = float | Literal["whole"]


@dataclass(frozen=True)
class Labels:
    """Labels and weights of n items, whole episodes or windows.

    Attributes:
        label: DESIRABLE (1), UNDESIRABLE (0) or UNUSED (-1).
        weight: w of Eqs. 2-3, in [floor, 1]; 0 where unused.
        safe: whether the item's cost is within its threshold.
    """

    label: Int8[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]
    safe: Bool[np.ndarray, " n"]

    def count(self, label: int) -> int:
        """How many items carry `label`."""
        return int(np.count_nonzero(self.label == label))


@dataclass(frozen=True)
class Segments:
    """All labelled windows of a data set for one cost limit, sorted by start.

    Attributes:
        length: S, steps of a window.
        starts: first row of each labelled window.
        weight: w of each labelled window.
        desirable: y of each labelled window.
        episode: which eligible episode each labelled window is of; the windows of an episode are neighbours.
        episode_windows: all windows of each eligible episode.
        episode_steps: valid steps of that episode's windows: S, or less for an episode shorter than S.
        num_safe: windows whose cost is within the prorated limit, labelled or not.
    """

    length: int
    starts: Int32[np.ndarray, " M"]
    weight: Float32[np.ndarray, " M"]
    desirable: Bool[np.ndarray, " M"]
    episode: Int[np.ndarray, " M"]
    episode_windows: Int[np.ndarray, " K"]
    episode_steps: Int[np.ndarray, " K"]
    num_safe: int

    @property
    def num_windows(self) -> int:
        """W, the number of all windows, labelled or not; the same for every cost limit."""
        return int(self.episode_windows.sum())

    @property
    def episode_labelled(self) -> Int[np.ndarray, " K"]:
        """How many windows of each eligible episode are labelled."""
        return np.bincount(self.episode, minlength=self.episode_windows.size)

    def window_probability(self) -> Float[np.ndarray, " M"]:
        """Probability of drawing each labelled window: episode-uniform, then uniform within the episode."""
        mass = (1.0 / self.episode_windows)[self.episode]
        return np.asarray(mass / mass.sum())

    def only(self, *, desirable: bool) -> Segments:
        """The windows of one class."""
        kept = self.desirable == desirable
        names = ("starts", "weight", "desirable", "episode")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})


def segment_length(ratio: float, max_length: int) -> int:
    """S = floor(ratio L_max), with L_max the longest episode of the data set.

    Raises:
        ConfigError: the ratio is outside (0, 1] or gives an empty window.
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"segment_ratio is {ratio}, but must lie in (0, 1].")
    length = int(ratio * max_length + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if length < 1:
        raise ConfigError(
            f"segment_ratio {ratio} of the longest episode ({max_length} steps) is less than one step; raise it."
        )
    return length


def label_items(
    values: Float[np.ndarray, " n"],
    safe: Bool[np.ndarray, " n"],
    *,
    top: float,
    bottom: float,
    floor: float,
    mass: Float[np.ndarray, " n"] | None = None,
    value_range: ValueRange = "safe",
) -> Labels:
    """Label and weigh items by return and safety, Eqs. 2-3 of Gong et al., AAAI 2025 (arXiv:2412.15429).

    Of the safe items the top share is desirable, w = (1 - floor) g + floor, and the bottom share undesirable,
    w = (1 - floor) (1 - g) + floor, with g the return normalised to [0, 1] (1 where all returns are equal). Unsafe
    items are undesirable with w = 1; the rest is unused. Where the two shares overlap, the bottom wins.

    Args:
        values: return of each item.
        safe: whether the item's cost is within its threshold.
        top: share of the safe items that is desirable, x in [0, 1].
        bottom: share of the safe items that is undesirable, y in [0, 1].
        floor: delta in [0, 1].
        mass: sampling mass of each item; shares are shares of mass. None: all equal, then ceil(share n) items.
        value_range: normalise with the extremes of the safe items (reference code) or of all (the paper's text).
    """
    label = np.where(safe, UNUSED, UNDESIRABLE).astype(np.int8)
    weight = np.where(safe, 0.0, 1.0)
    rows = np.flatnonzero(safe)
    if rows.size:
        among = values[rows] if value_range == "safe" else values
        low, high = among.min(), among.max()
        g = (values[rows] - low) / (high - low) if high > low else np.ones(rows.size)
        masses = np.ones(rows.size) if mass is None else mass[rows]
        order = np.argsort(-g, kind="stable")
        for kind, share, leading, quality in (
            (DESIRABLE, top, order, g),
            (UNDESIRABLE, bottom, order[::-1], 1 - g),
        ):
            chosen = leading[: _share(np.cumsum(masses[leading]), share)]
            label[rows[chosen]] = kind
            weight[rows[chosen]] = (1 - floor) * quality[chosen] + floor
    return Labels(label, weight.astype(np.float32), safe)


@dataclass(frozen=True)
class Windows:
    """Every window of a data set, labelled for one cost limit, sorted by start.

    Attributes:
        cost_limit: of a whole episode; None where somebody has marked the episodes.
        length: S, most steps of a window.
        starts: first row of each window.
        cost: of each window, as that of a whole episode: divided by the window's share of one. NaN where marked.
        value: return of each window. NaN where marked.
        labels: against the cost limit, or those of the episodes.
        episode: which eligible episode each window is of; the windows of an episode are neighbours.
        episode_windows: all windows of each eligible episode.
        episode_steps: valid steps of that episode's windows: S, or less for an episode shorter than S.
        left_out: episodes that are shorter than S and not used.
    """

    cost_limit: float | None
    length: int
    starts: Int32[np.ndarray, " W"]
    cost: Float[np.ndarray, " W"]
    value: Float[np.ndarray, " W"]
    labels: Labels
    episode: Int[np.ndarray, " W"]
    episode_windows: Int[np.ndarray, " K"]
    episode_steps: Int[np.ndarray, " K"]
    left_out: int

    def covered(self, num_transitions: int, *labels: int) -> float:
        """Share of the data set's steps that lie in a window of one of these labels."""
        chosen = np.isin(self.labels.label, labels)
        change = np.bincount(self.starts[chosen], minlength=num_transitions + 1)
        ends = self.starts[chosen] + self.episode_steps[self.episode[chosen]]
        change -= np.bincount(ends, minlength=num_transitions + 1)
        return float(np.count_nonzero(np.cumsum(change)) / num_transitions)

    def segments(self) -> Segments:
        """Those that are labelled.

        Raises:
            DataError: no window meets the limit.
        """
        labels = self.labels
        if self.cost_limit is not None and not labels.safe.any():
            raise DataError(
                f"no segment of {self.length} steps meets the cost limit {exact(self.cost_limit)}: the cheapest "
                f"would cost {self.cost.min():g} over a whole episode; raise the limit or shorten the segments."
            )
        kept = np.flatnonzero(labels.label != UNUSED)
        return Segments(
            length=self.length,
            starts=self.starts[kept],
            weight=labels.weight[kept],
            desirable=labels.label[kept] == DESIRABLE,
            episode=self.episode[kept],
            episode_windows=self.episode_windows,
            episode_steps=self.episode_steps,
            num_safe=int(np.count_nonzero(labels.safe)),
        )


def label_windows(
    trajectories: Trajectories,
    cost_limit: float,
    *,
    ratio: Ratio,
    top: float,
    bottom: float,
    floor: float = 0.7,
    include_short: bool = False,
    value_range: ValueRange = "safe",
) -> Windows:
    """Label every window of S = floor(ratio L_max) steps against the prorated limit kappa S / L_max.

    Section 4.1 of Gong et al., AAAI 2025 (arXiv:2412.15429), with the segments of its reference code: a window is
    unsafe iff its cost exceeds the prorated limit, strictly. Windows are drawn episode-uniformly: x and y are shares
    of that distribution.

    With the ratio "whole" an episode of at most `LONGEST` steps is one window, however short, against the limit
    itself; in a longer one, of L steps, any `LONGEST` steps are a window, against kappa `LONGEST` / L. Where all
    episodes have the same length, and no more than that, this is ratio 1.

    Args:
        trajectories: N transitions.
        cost_limit: kappa, cost of an episode, at least 0.
        ratio: segment length over the longest episode's, in (0, 1]; or "whole".
        top: x in [0, 1].
        bottom: y in [0, 1].
        floor: delta in [0, 1].
        include_short: also use episodes shorter than S, each as one window with its own prorated limit.
        value_range: see `label_items`.
    """
    eligible, cut = cut_windows(trajectories, ratio, include_short=include_short)
    episode, steps = cut["episode"], cut["episode_steps"]
    ends = cut["starts"] + steps[episode]
    cost, value = (_window_sums(x, cut["starts"], ends) for x in (trajectories.logged_costs, trajectories.rewards))
    horizon = trajectories.max_length if ratio != "whole" else trajectories.lengths[eligible]
    limits = cost_limit * steps / horizon
    labels = label_items(
        value,
        within_limit(cost, limits[episode]),
        top=top,
        bottom=bottom,
        floor=floor,
        mass=(1.0 / cut["episode_windows"])[episode],
        value_range=value_range,
    )
    return Windows(cost_limit=cost_limit, cost=cost * (horizon / steps)[episode], value=value, labels=labels, **cut)


def cut_windows(
    trajectories: Trajectories, ratio: Ratio, *, include_short: bool
) -> tuple[Int[np.ndarray, " K"], dict[str, Any]]:
    """The eligible episodes, and of their windows the entries of `Windows` that neither costs nor returns decide."""
    lengths = trajectories.lengths
    whole = trajectories.max_length
    length = min(whole, LONGEST) if ratio == "whole" else segment_length(ratio, whole)
    eligible = np.flatnonzero(lengths >= (1 if include_short or ratio == "whole" else length))
    steps = np.minimum(lengths[eligible], length)
    windows = lengths[eligible] - steps + 1
    episode = np.repeat(np.arange(eligible.size), windows)
    first = np.cumsum(windows) - windows
    starts = (trajectories.offsets[eligible] - first)[episode] + np.arange(windows.sum())
    return eligible, {
        "length": length,
        "starts": starts.astype(np.int32),
        "episode": episode,
        "episode_windows": windows,
        "episode_steps": steps,
        "left_out": lengths.size - eligible.size,
    }


def check_cost_limits(limits: Iterable[float]) -> None:
    """Check limits on the cost of an episode; zero is one.

    Raises:
        ConfigError: one is negative or not finite.
    """
    for limit in limits:
        if not (limit >= 0 and math.isfinite(limit)):
            raise ConfigError(f"the cost limit {exact(limit)} must be a finite number, zero or positive.")


def within_limit(costs: Float[np.ndarray, " n"], limits: float | Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether each cost is at most its limit, forgiving float32 rounding."""
    return np.asarray(costs <= np.asarray(limits) * (1 + ROUNDING) + ROUNDING)


def _share(cumulative: Float[np.ndarray, " n"], share: float) -> int:
    """Fewest leading items whose mass reaches `share` of the total; ceil(share n) where all masses are equal."""
    if share <= 0:
        return 0
    return int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-9)) + 1)


def _window_sums(
    x: Float32[np.ndarray, " N"], starts: Int[np.ndarray, " W"], ends: Int[np.ndarray, " W"]
) -> Float[np.ndarray, " W"]:
    prefix = np.concatenate([np.zeros(1), np.cumsum(x, dtype=np.float64)])
    return np.asarray(prefix[ends] - prefix[starts])
