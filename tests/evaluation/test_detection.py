"""How well numbers tell safe episodes from others, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from safetrax.evaluation.detection import detection, found_by_one_alone

SAFE = np.array([True, True, False, False])


def test_four_episodes_by_hand():
    # of the four pairs (safe, other) three are in order; .6 and .7 are called safe, one of them rightly
    found = detection(np.array([0.6, 0.3, 0.7, 0.2]), SAFE, np.array([1.0, 1.0, 3.0, 3.0]))
    assert found.auc == pytest.approx(2 / 4)
    assert (found.accuracy, found.recall, found.precision, found.f1) == (0.5, 0.5, 0.5, 0.5)
    # means .45 and 2; deviations .15, -.15, .25, -.25 and -1, -1, 1, 1
    assert found.pearson == pytest.approx(0.0, abs=1e-12)


def test_ties_count_by_halves():
    assert detection(np.array([0.5, 0.5, 0.5, 0.1]), SAFE, np.arange(4.0)).auc == pytest.approx((1.5 + 1.5) / 4)


def test_what_cannot_be_divided_is_nan():
    found = detection(np.full(4, 0.1), np.zeros(4, bool), np.ones(4))
    assert np.isnan([found.auc, found.recall, found.precision, found.f1, found.pearson]).all()
    assert found.accuracy == 1


def test_perfect_and_reversed():
    signal = np.array([0.9, 0.8, 0.1, 0.2])
    returns = np.array([9.0, 8.0, 1.0, 2.0])
    assert detection(signal, SAFE, returns) == pytest.approx((1, 1, 1, 1, 1, 1))
    assert detection(1 - signal, SAFE, returns) == pytest.approx((0, 0, 0, 0, 0, -1))


def test_what_one_alone_finds_comes_in_the_order_of_its_certainty():
    signals = [np.array([0.6, 0.9, 0.8, 0.7]), np.array([0.4, 0.1, 0.6, 0.2])]
    asked = np.array([True, True, True, False])
    assert found_by_one_alone(signals, 0, asked).tolist() == [1, 0]
    assert found_by_one_alone(signals, 1, asked).tolist() == []
