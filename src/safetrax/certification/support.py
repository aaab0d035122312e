"""How much of what a policy would do is near what the log did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_NEIGHBOURS = 32
_ASKED, _KNOWN = 1000, 20_000  # states that are asked about, and those that they are compared with
_USUAL = 0.95  # share of logged actions that count as near other episodes' actions in like states


@dataclass(frozen=True)
class Support:
    """Nearest neighbours among a sample of the log.

    Attributes:
        states: of all rows, standardised.
        actions: logged, in units of their standard deviations.
        episode: of every row.
        known: the sample of rows.
        threshold: distance that 95 % of logged actions have at most from another episode's action in a like state.
    """

    states: Float[np.ndarray, "N O"]
    actions: Float[np.ndarray, "N A"]
    episode: Int[np.ndarray, " N"]
    known: Int[np.ndarray, " S"]
    threshold: float

    @staticmethod
    def of(
        states: Float[np.ndarray, "N O"], actions: Float[np.ndarray, "N A"], episode: Int[np.ndarray, " N"], seed: int
    ) -> Support:
        """Calibrated on the log itself: each logged action against those of other episodes."""
        rng = np.random.default_rng(seed)
        known = rng.choice(len(states), min(_KNOWN, len(states)), replace=False)
        uncalibrated = Support(states, actions, episode, known, np.inf)
        rows = rng.choice(len(states), min(_ASKED, len(states)), replace=False)
        distances = uncalibrated.distances(rows, actions[rows])
        return Support(states, actions, episode, known, float(np.quantile(distances, _USUAL)) + 1e-6)

    def distances(self, rows: Int[np.ndarray, " n"], actions: Float[np.ndarray, "n A"]) -> Float[np.ndarray, " n"]:
        """From each action to the nearest of those that other episodes took in the 32 states most like it."""
        x, y = self.states[rows], self.states[self.known]
        apart = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
        apart[self.episode[rows][:, None] == self.episode[self.known]] = np.inf
        count = min(_NEIGHBOURS, apart.shape[1] - 1)
        nearest = np.argpartition(apart, count, axis=1)[:, :count]
        taken = self.actions[self.known[nearest]]
        return np.asarray(np.linalg.norm(taken - actions[:, None], axis=2).min(axis=1))

    def share(
        self, actions: Float[np.ndarray, "N A"], visits: Float[np.ndarray, " N"], seed: int
    ) -> tuple[float, Int[np.ndarray, " worst"]]:
        """The share of the policy's visits in which its action is near a logged one, and rows where it is farthest.

        `actions`: the policy's, in the units of the log's; `visits`: how often it is in each row, at least 0.
        """
        rng = np.random.default_rng(seed)
        rows = rng.choice(len(visits), _ASKED, p=visits / visits.sum())
        distances = self.distances(rows, actions[rows])
        order = np.argsort(-distances)
        return float((distances <= self.threshold).mean()), rows[order[:3]]


def effective_episodes(visits: Float[np.ndarray, " N"], episode: Int[np.ndarray, " N"]) -> float:
    """(sum w)^2 / sum w^2 over the episodes, w an episode's share of the policy's visits (Kish)."""
    weights = np.bincount(episode, np.maximum(visits, 0))
    return float(weights.sum() ** 2 / (weights**2).sum())
