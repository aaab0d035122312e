"""Spikes and stuck sensors, on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from test_gaps import cells, log

from safetrax.data import validate
from safetrax.data.filters import Fill, Spikes, Stuck, apply_filters
from safetrax.data.sensors import robust_step, spikes, stuck
from safetrax.errors import ConfigError

NAN = np.nan
ONE = np.array([0, 100])


def walk(rows: int = 400, seed: int = 0) -> np.ndarray:
    """A slow wave in steps of at most 0.1."""
    noise = 1e-3 * np.random.default_rng(seed).standard_normal(rows)
    return (5 * np.sin(np.arange(rows) / 50) + noise).astype(np.float32)


def test_the_robust_step_is_the_median_change_within_episodes_without_steps_that_change_nothing():
    # changes 1, 0, 3, (-4 into the next episode), 2, 0: of 1, 2, 3 the median is 2
    column = np.array([0, 1, 1, 4, 0, 2, 2], np.float32)
    assert robust_step(column, np.array([0, 4, 7])) == pytest.approx(1.4826 * 2)
    assert robust_step(np.zeros(5, np.float32), np.array([0, 5])) == 0
    assert robust_step(np.array([0, NAN, 5, 6], np.float32), np.array([0, 4])) == pytest.approx(1.4826)


def test_a_spike_leaps_away_from_both_sides_and_comes_back():
    column = np.arange(100, dtype=np.float32)  # steps of 1, so 10 deviations are 14.826
    column[[20, 50]] += [15.9, -15.8]  # 14.9 above the value after it; 14.8 below the one before
    column[30:] += 1000  # a step to a new level
    column[70:72] = 0  # two together
    column[[0, 99]] = [500, 0]  # at the ends
    np.testing.assert_array_equal(np.flatnonzero(spikes(column, ONE, 10)), [20])
    np.testing.assert_array_equal(np.flatnonzero(spikes(column, ONE, 10, longest=2)), [20, 70, 71])
    assert not spikes(column, np.array([0, 20, 21, 70, 100]), 10).any()  # none leaps within its episode


def test_gaps_are_passed_over_and_infinity_is_a_spike():
    column = np.arange(100, dtype=np.float32)
    column[[40, 41, 42]] = [NAN, 400, NAN]
    column[60] = np.inf
    np.testing.assert_array_equal(np.flatnonzero(spikes(column, ONE, 10)), [41, 60])


def test_pulses_and_constants_are_no_spikes():
    pulses = np.zeros(100, np.float32)
    pulses[::9] = 1
    assert not spikes(pulses, ONE, 3).any()
    assert not spikes(np.ones(100, np.float32), ONE, 3).any()


def test_a_sensor_is_stuck_where_it_repeats_a_value_though_it_else_moves():
    column = walk(100)
    column[10:15] = column[10]
    column[50:54] = column[50]
    np.testing.assert_array_equal(np.flatnonzero(stuck(column, ONE, 5)), [11, 12, 13, 14])
    assert not stuck(column, ONE, 6).any()
    assert not stuck(column, np.array([0, 12, 100]), 5).any()  # two and three steps of two episodes
    switch = np.repeat([0.0, 1.0], 50).astype(np.float32)
    assert not stuck(switch, ONE, 5).any()
    assert not stuck(np.ones(100, np.float32), ONE, 5).any()


def test_spikes_become_gaps_that_are_filled_also_in_next_observations():
    column = walk(20).tolist()
    column[7] = 1000.0
    data = log(column, lengths=[20], next_observations=np.append(column[1:], column[-1])[:, None])
    mended = apply_filters(data, [Spikes(20), Fill(1)])
    expected = np.float32(column)
    expected[7] = expected[6]
    np.testing.assert_array_equal(mended.observations[:, 0], expected)
    np.testing.assert_array_equal(mended.next_observations[:-1], mended.observations[1:])
    assert [entry["name"] for entry in mended.info["filters"]] == ["spikes", "fill"]
    assert cells(Spikes(20)(data)) == [{"column": "o0", "cells": 1, "episodes": 1, "row": 7, "episode": 0}]
    for wrong in (lambda: Spikes(0), lambda: Spikes(5, longest=0), lambda: Stuck(1)):
        with pytest.raises(ConfigError):
            wrong()


@pytest.mark.parametrize("seed", range(5))
def test_faults_of_a_smooth_sensor_are_warned_of(seed):
    healthy, leaping, still = walk(seed=seed), walk(seed=seed + 10), walk(seed=seed + 20)
    assert validate(log(healthy, lengths=[400])) == []
    leaping[[100, 300]] += 7
    still[200:320] = still[200]
    one, two = (finding.message for finding in validate(log(healthy, leaping, still, lengths=[200, 200])))
    assert "leap away and back within a step, farther than 20 times their usual steps: o1 in 2 cells of 2 ep" in one
    assert "repeat a value over 100 steps or more, though they else always move: o2 in 119 cells of 1 ep" in two
    known = log(healthy, leaping, still, lengths=[200, 200], info={"task": "BallRun"})
    assert not [f for f in validate(known) if "leap away" in f.message or "repeat a value" in f.message]
