"""Estimators on worlds whose values are known: two states by hand, random tables by dynamic programming."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pytest

from safetrax.certification.features import Features, Log, rows_of
from safetrax.certification.fitted_q import Estimate, doubly_robust, estimate, occupancies, regression, values

# A two-state world: in A the action goes to B in two of three logged steps and costs 1, in B it stays and costs 2.
FOLLOWING = np.array([[1 / 3, 2 / 3], [0, 1]])
TARGETS = np.array([[1.0, 10.0], [2.0, 20.0]])
SHARE = np.diag([0.6, 0.4])  # of the log's steps
INVERSE = np.linalg.inv(SHARE)
START = np.array([1.0, 0.0])


def test_two_states_two_steps_by_hand():
    theta = values(INVERSE, SHARE @ FOLLOWING, SHARE @ TARGETS, horizon=2, discount=1.0)
    np.testing.assert_allclose(theta[0], TARGETS)
    # from A: 1 now, then 1/3 of 1 and 2/3 of 2
    np.testing.assert_allclose(theta[1, :, 0], [1 + 5 / 3, 4])
    half = values(INVERSE, SHARE @ FOLLOWING, SHARE @ TARGETS, horizon=2, discount=0.5)
    np.testing.assert_allclose(half[1, :, 0], [1 + 5 / 6, 3])


def test_visits_by_hand():
    ratio = occupancies(INVERSE, SHARE @ FOLLOWING, START, horizon=2, discount=1.0)
    # in step 0 always in A, where 0.6 of the log is; in step 1 a third in A and two thirds in B
    np.testing.assert_allclose(ratio, [[1 / 0.6, 0], [1 / 3 / 0.6, 2 / 3 / 0.4]])
    np.testing.assert_allclose((ratio @ SHARE @ TARGETS[:, 0]).sum(), 1 + 5 / 3)


@pytest.mark.parametrize("fault", [0.0, 3.0])
def test_visits_mend_wrong_values_and_values_mend_wrong_visits(fault):
    theta = values(INVERSE, SHARE @ FOLLOWING, SHARE @ TARGETS, horizon=2, discount=1.0)
    ratio = occupancies(INVERSE, SHARE @ FOLLOWING, START, horizon=2, discount=1.0)
    moments = (SHARE, SHARE @ FOLLOWING, SHARE @ TARGETS, 1.0)
    for one, other in ((theta + fault, ratio), (theta, ratio * (1 + fault))):
        np.testing.assert_allclose(doubly_robust(START, one, other, *moments), [8 / 3, 80 / 3])


class TableWorld(NamedTuple):
    """A random world of four states and two actions.

    Attributes:
        log: of a behaviour that takes either action.
        chosen: its states with a policy's actions.
        logged: the policy's cost by dynamic programming in the world that the log's frequencies describe.
        truth: likewise in the world itself.
        horizon: steps of an episode.
    """

    log: Log
    chosen: np.ndarray
    logged: float
    truth: float
    horizon: int

    def estimate(self, resamples: int = 0) -> Estimate:
        """By all the blocks, and by so many resamples of them."""
        features = Features.of(self.log.points, 400, 0)
        moments, blocks = self.log.moments(features), len(self.log.blocks)
        halves = np.stack([np.arange(blocks) % 2, 1 - np.arange(blocks) % 2]).astype(float)
        drawn = np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), resamples)
        whole = np.concatenate([np.ones((1, blocks)), drawn])
        inverses, half_inverses = (np.stack([regression(moments, w, 1e-12) for w in ws]) for ws in (whole, halves))
        policy = self.log.policy_moments(features, self.chosen)
        return estimate(moments, policy, whole, inverses, halves, half_inverses, None, self.horizon)


def table_world(seed: int, episodes: int = 60, steps: int = 5, blocks: int = 6) -> TableWorld:
    """The world of that seed, its log in so many blocks."""
    rng = np.random.default_rng(seed)
    chances, costs = rng.dirichlet(np.ones(4), (4, 2)), rng.integers(0, 3, (4, 2)).astype(float)
    policy = rng.integers(0, 2, 4)
    states, actions = np.zeros((2, episodes, steps), int)
    for episode in range(episodes):
        state = rng.integers(4)
        for step in range(steps):
            states[episode, step], actions[episode, step] = state, rng.integers(2)
            state = rng.choice(4, p=chances[state, actions[episode, step]])
    counts = np.zeros((4, 2, 4))
    np.add.at(counts, (states[:, :-1], actions[:, :-1], states[:, 1:]), 1)
    frequencies = counts / counts.sum(axis=2, keepdims=True)
    logged, truth = np.zeros(4), np.zeros(4)
    for _ in range(steps):
        logged = (costs + frequencies @ logged)[np.arange(4), policy]
        truth = (costs + chances @ truth)[np.arange(4), policy]

    rows = episodes * steps
    last, first = np.zeros(rows, bool), np.zeros(rows, bool)
    last[steps - 1 :: steps], first[::steps] = True, True
    flat = states.ravel()
    points = np.stack([flat, actions.ravel()], axis=1).astype(float)
    chosen = np.stack([flat, policy[flat]], axis=1).astype(float)[None]
    targets = np.stack([costs[flat, actions.ravel()]] * 2, axis=1)
    parts = [rows_of(np.arange(0, rows + 1, steps), part) for part in np.split(np.arange(episodes), blocks)]
    log = Log(points, targets, ~last, ~last, first, tuple(parts))
    return TableWorld(log, chosen, logged[states[:, 0]].mean(), truth.mean(), steps)


@pytest.mark.parametrize("seed", range(10))
def test_tables_agree_with_dynamic_programming(seed):
    world = table_world(seed)
    log, exact, horizon = world.log, world.logged, world.horizon
    found = world.estimate()
    np.testing.assert_allclose(found.fitted, [exact, exact], rtol=1e-8)
    # visits sum to the steps of an episode, and weigh the log's costs as the policy does
    ratio = Features.of(log.points, 400, 0)(log.points[log.usable]) @ found.visits
    np.testing.assert_allclose(ratio.mean(), horizon, rtol=1e-8)
    np.testing.assert_allclose((ratio * log.targets[log.usable, 0]).mean(), exact, rtol=1e-8)
    # each half knows another world, whose truth lies between or near; the robust estimate is of the same order
    assert abs(found.robust[0] - exact) < 0.5 * exact + 1


@pytest.mark.parametrize("worlds", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_bounds_cover_the_truth_of_random_worlds_as_often_as_they_say(worlds):
    share, margin = 0.95, NormalDist().inv_cdf(0.95)
    held = []
    for seed in range(worlds):
        world = table_world(seed, episodes=240, blocks=48)
        found = world.estimate(resamples=100)
        bound = max(found.fitted[0], found.robust[0]) + margin * found.resampled.std(axis=0, ddof=1)[0]
        held.append(world.truth <= bound)
    assert np.mean(held) >= share - 2 * (share * (1 - share) / worlds) ** 0.5


def test_a_point_that_the_table_lacks_has_no_features():
    features = Features.of(np.array([[0.0], [1.0], [1.0]]), 10, 0)
    np.testing.assert_array_equal(features(np.array([[1.0], [2.0]])), [[0, 1], [0, 0]])


def test_random_features_have_the_gaussian_kernel():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((4000, 2))
    features = Features.of(points, 3000, 0)
    lengths = np.linalg.norm(points[:2000] - points[2000:], axis=1)
    one, other = np.zeros((1, 2)), np.array([[1.0, 0.0]])
    waves = [features(x)[0, 3:] for x in (one, other)]  # behind the constant and the two numbers
    # the mean of 3000 products of cosines, each of deviation at most 1: four standard errors
    assert waves[0] @ waves[1] == pytest.approx(np.exp(-0.5 / np.median(lengths) ** 2), abs=4 / 3000**0.5)
