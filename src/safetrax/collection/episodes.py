"""One recorded episode, and many of them as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safetrax.data.trajectories import Trajectories


@dataclass(frozen=True, eq=False)
class Episode:
    """A whole episode of `T` steps.

    Attributes:
        observations: float32 `(T + 1, O)`, the last one after the last step.
        actions: float32 `(T, A)`, as they were executed, in [-1, 1].
        rewards: float32 `(T,)`.
        costs: float32 `(T,)`.
        terminated: the environment ended it; else the time limit did.
        number: of the episode in its collection.
        owner: number of the agent, driver or policy that acted.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    costs: np.ndarray
    terminated: bool
    number: int
    owner: int

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def return_(self) -> float:
        """Undiscounted sum of rewards, added up in float64."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def cost(self) -> float:
        """Undiscounted sum of costs."""
        return float(self.costs.sum(dtype=np.float64))


def join(
    episodes: Sequence[Episode], *, action_low: np.ndarray, action_high: np.ndarray, info: dict[str, Any]
) -> Trajectories:
    """The episodes as a data set with next_observations, and actions in the units of the action box."""
    unit = np.concatenate([episode.actions for episode in episodes])
    actions = unit
    if (action_low != -1).any() or (action_high != 1).any():
        actions = np.clip(action_low + (unit + 1) / 2 * (action_high - action_low), action_low, action_high)
    lengths = [len(episode) for episode in episodes]
    offsets = np.cumsum([0, *lengths])
    terminated = np.zeros(offsets[-1], bool)
    terminated[offsets[1:] - 1] = [episode.terminated for episode in episodes]
    return Trajectories.from_arrays(
        observations=np.concatenate([episode.observations[:-1] for episode in episodes]),
        next_observations=np.concatenate([episode.observations[1:] for episode in episodes]),
        actions=actions.astype(np.float32),
        rewards=np.concatenate([episode.rewards for episode in episodes]),
        costs=np.concatenate([episode.costs for episode in episodes]),
        terminated=terminated,
        truncated=np.zeros(offsets[-1], bool),
        offsets=offsets,
        action_low=action_low,
        action_high=action_high,
        info=info,
    )
