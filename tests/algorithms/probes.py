"""Small constrained problems whose optima are known, as logs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from safetrax.data.trajectories import SAFE as LABELLED
from safetrax.data.trajectories import Trajectories

RISKY, SAFE = 0.5, -0.5  # the two arms


def two_arms(steps: int = 20_000, episodes: int = 1, seed: int = 0) -> Trajectories:
    """One state; half of the rows play +0.5 (reward 1, cost 1), half -0.5 (reward 0.5, cost 0), in random order.

    With one long episode hardly any row ends one, as if the problem never ended.
    """
    rng = np.random.default_rng(seed)
    n = steps * episodes
    risky = rng.permutation(np.arange(n) % 2 == 0)
    ends = np.zeros(n, bool)
    ends[steps - 1 :: steps] = True
    return Trajectories.from_arrays(
        np.ones((n, 1), np.float32),
        np.where(risky, RISKY, SAFE)[:, None],
        np.where(risky, 1.0, 0.5),
        risky.astype(np.float32),
        np.zeros(n, bool),
        ends,
    )


def arm_episodes(episodes: int = 200, steps: int = 10) -> Trajectories:
    """The same arms, but one arm in each episode: returns 10 and 5, costs 10 and 0."""
    n = steps * episodes
    risky = (np.arange(n) // steps) % 2 == 0
    ends = np.zeros(n, bool)
    ends[steps - 1 :: steps] = True
    return Trajectories.from_arrays(
        np.ones((n, 1), np.float32),
        np.where(risky, RISKY, SAFE)[:, None],
        np.where(risky, 1.0, 0.5),
        risky.astype(np.float32),
        np.zeros(n, bool),
        ends,
    )


START = np.array([1, 0, 0], np.float32)


def fork(episodes: int = 400, steps: int = 5, seed: int = 0) -> Trajectories:
    """The first action, near +0.5 or -0.5, chooses a branch; it earns and costs nothing itself.

    In the risky branch every later step earns 1 and costs 1, whatever is done; in the safe one 0.5 and 0. Each branch
    is taken by half of the episodes, so only values that reach back over time tell the first actions apart. Episode
    costs are 4 and 0: under a limit below 4 the optimum is the safe branch, above it the risky one.
    Observations: one-hot of start, risky branch, safe branch.
    """
    rng = np.random.default_rng(seed)
    n = steps * episodes
    first = np.arange(n) % steps == 0
    risky = (np.arange(n) // steps) % 2 == 0
    observations = np.zeros((n, 3), np.float32)
    observations[first] = START
    observations[~first & risky, 1] = 1
    observations[~first & ~risky, 2] = 1
    actions = np.where(first, np.where(risky, RISKY, SAFE), 0.0) + rng.normal(0, 0.05, n)
    ends = np.zeros(n, bool)
    ends[steps - 1 :: steps] = True
    later = (~first).astype(np.float32)
    return Trajectories.from_arrays(
        observations,
        actions[:, None],
        later * np.where(risky, 1.0, 0.5),
        later * risky,
        np.zeros(n, bool),
        ends,
    )


def shown_arm(episodes: int = 40) -> Trajectories:
    """`arm_episodes` of which five with the safe arm are labelled so."""
    labels = np.zeros(episodes, np.int8)
    labels[1:10:2] = LABELLED
    return replace(arm_episodes(episodes), labels=labels)
