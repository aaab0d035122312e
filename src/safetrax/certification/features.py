"""Features of states and actions, in which values are linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_PAIRS = 2000  # of points, whose median distance is the length scale
_SAME = 1e-4  # distance of points that are the same


@dataclass(frozen=True)
class Features:
    """A table of the points that there are, or random Fourier features (Rahimi and Recht, NeurIPS 2007).

    Attributes:
        points: the distinct points, one feature for each; None: random features.
        frequencies: of the cosines, besides which there are a constant and the numbers themselves.
        phases: of the cosines.
    """

    points: Float[np.ndarray, "D d"] | None
    frequencies: Float[np.ndarray, "d C"]
    phases: Float[np.ndarray, " C"]

    @staticmethod
    def of(points: Float[np.ndarray, "N d"], size: int, seed: int) -> Features:
        """Of standardised points: a table where at most `size` differ, with exact values; else `size` cosines, whose
        length is the median distance of two points.
        """
        rng, d = np.random.default_rng(seed), points.shape[1]
        some = np.unique(points[: 4 * size], axis=0)
        if len(some) <= size and len(table := np.unique(points, axis=0)) <= size:
            return Features(table, np.zeros((d, 0)), np.zeros(0))
        one, other = (points[rng.integers(len(points), size=_PAIRS)] for _ in range(2))
        distance = np.linalg.norm(one - other, axis=1)
        frequencies = rng.standard_normal((d, size)) / np.median(distance[distance > 0])
        return Features(None, frequencies, rng.uniform(0, 2 * np.pi, size))

    def __call__(self, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n D"]:
        """The features of points; a point that is not in the table has none."""
        if self.points is not None:
            apart = np.abs(points[:, None] - self.points).max(axis=-1)
            return np.asarray(apart < _SAME, float)
        single = np.float32  # a rounded cosine is as good a feature; sums over them are in float64
        angles = points.astype(single) @ self.frequencies.astype(single) + self.phases.astype(single)
        waves = np.cos(angles) * single((2 / self.phases.size) ** 0.5)
        return np.concatenate([np.ones((len(points), 1)), points, waves], axis=1, dtype=np.float64)


class Moments(NamedTuple):
    """Sums over the rows of each block.

    Attributes:
        second: phi(s, a) phi(s, a)'.
        targets: phi(s, a) times cost and reward.
        rows: how many.
    """

    second: Float[np.ndarray, "G D D"]
    targets: Float[np.ndarray, "G D 2"]
    rows: Float[np.ndarray, " G"]


class PolicyMoments(NamedTuple):
    """Likewise, of what a policy would do.

    Attributes:
        following: phi(s, a) phi(s', pi(s'))', of rows that go on.
        initial: phi(s_0, pi(s_0)).
        starts: first rows.
    """

    following: Float[np.ndarray, "G D D"]
    initial: Float[np.ndarray, "G D"]
    starts: Float[np.ndarray, " G"]


@dataclass(frozen=True)
class Log:
    """Transitions, and the blocks of whole episodes that are resampled and left out.

    Attributes:
        points: standardised states with actions, (N, d).
        targets: costs and rewards.
        usable: rows with a known next state, or none after them.
        goes_on: usable rows that did not terminate.
        first: first rows of episodes.
        blocks: row numbers of each block, one episode after the other.
    """

    points: Float[np.ndarray, "N d"]
    targets: Float[np.ndarray, "N 2"]
    usable: Bool[np.ndarray, " N"]
    goes_on: Bool[np.ndarray, " N"]
    first: Bool[np.ndarray, " N"]
    blocks: tuple[Int[np.ndarray, " _"], ...]

    def moments(self, features: Features) -> Moments:
        """One block after the other, so that the features of one are in memory at a time."""
        second, targets, count = [], [], []
        for rows in self.blocks:
            used = rows[self.usable[rows]]
            phi = features(self.points[used])
            second.append(phi.T @ phi)
            targets.append(phi.T @ self.targets[used])
            count.append(float(len(used)))
        return Moments(np.stack(second), np.stack(targets), np.array(count))

    def policy_moments(self, features: Features, chosen: Float[np.ndarray, "K N d"]) -> PolicyMoments:
        """`chosen`: the states with K draws of the policy's action in them, over which features are averaged."""
        following, initial, starts = [], [], []
        for rows in self.blocks:
            used = rows[self.goes_on[rows]]
            mean = sum(features(draw[used + 1]) for draw in chosen) / len(chosen)
            following.append(features(self.points[used]).T @ mean)
            begin = rows[self.first[rows]]
            initial.append(sum(features(draw[begin]).sum(axis=0) for draw in chosen) / len(chosen))
            starts.append(float(len(begin)))
        return PolicyMoments(np.stack(following), np.stack(initial), np.array(starts))


def rows_of(
    offsets: Int[np.ndarray, " E1"], episodes: Sequence[int] | Int[np.ndarray, " n"]
) -> Int[np.ndarray, " r"]:
    """The rows of those episodes, one episode after the other."""
    return np.concatenate([np.arange(offsets[e], offsets[e + 1]) for e in episodes])
