"""What self-tests teach, in numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from safetrax.certification.mending import Mending

Z = 1.6448536  # of 95 %


def learn(truth, estimates, spread=0.0, settled=None, sign=1) -> Mending:
    """With estimates in columns."""
    truth, estimates = np.asarray(truth, float), np.asarray(estimates, float)
    believed = np.ones(estimates.shape, bool) if settled is None else np.asarray(settled)
    return Mending.learn(truth, estimates, np.full(estimates.shape, spread), believed, 0.95, sign)


def test_estimates_on_a_line_need_nothing_else():
    found = learn([1, 3, 5, 7], [[0], [1], [2], [3]])
    np.testing.assert_allclose([found.offsets[0], found.slopes[0]], [1, 2], rtol=1e-9)
    np.testing.assert_allclose(found.mend(np.array([10.0])), [21], rtol=1e-9)
    assert found.raised[0] == pytest.approx(0, abs=1e-9)


def test_a_line_that_nothing_tells_has_slope_one_and_errors_are_left_over():
    found = learn([2, 4, 6], [[1], [1], [1]], spread=1.0)
    np.testing.assert_allclose([found.offsets[0], found.slopes[0]], [3, 1])
    # the third test is at 6 and its line, of the others, says 3; a quarter of the mean cost 4 is the unit, and at
    # 3 units the error counts half
    assert found.raised[0] == pytest.approx((3 - Z) / 2, abs=1e-6)
    assert found.raise_at(0, 3.0) == pytest.approx(3 - Z, abs=1e-6)
    assert (found.held[0], found.tests[0]) == (2, 3)


def test_a_bound_from_below_has_the_other_sign_and_one_scale():
    found = learn([2, 4, 6], [[1], [1], [1]], spread=1.0, sign=-1)
    # the first test is at 2 and its line says 5
    assert found.raised[0] == pytest.approx(3 - Z, abs=1e-6)
    assert found.raise_at(0, 100.0) == pytest.approx(3 - Z, abs=1e-6)


@pytest.mark.parametrize(("estimates", "slope"), [([3, 2, 1], 0.5), ([0.1, 0.2, 0.3], 2.0)])
def test_a_bound_always_depends_on_the_policy(estimates, slope):
    assert learn([10, 20, 30], np.array(estimates)[:, None]).slopes[0] == slope


def test_the_estimator_that_can_be_mended_is_first():
    truth = np.arange(10.0)
    biased, noisy = truth + 50, truth + np.tile([3.0, -3.0], 5)
    found = learn(truth, np.stack([noisy, biased], axis=1))
    assert found.order == (1, 0)
    # mended, the biased one is the truth, and the noisy one its line through the others' truth
    line = found.offsets[0] + found.slopes[0] * noisy
    assert found.apart[1, 0] == pytest.approx((line - truth).max(), rel=1e-6)
    assert found.apart[0, 1] == pytest.approx((truth - line).max(), rel=1e-6)


def test_an_estimator_that_mostly_does_not_settle_is_left_out():
    truth = np.arange(5.0)
    estimates = np.stack([truth, truth + np.array([0, 9, 0, 9, 0])], axis=1)
    settled = np.ones((5, 2), bool)
    settled[:2, 0] = False
    found = learn(truth, estimates, settled=settled)
    assert found.order == (1,)
    assert learn(truth, estimates, settled=np.zeros((5, 2), bool)).order == ()


def test_each_policy_is_judged_by_the_best_of_those_that_settle_for_it():
    truth = np.arange(10.0)
    good, fair = truth + 1, truth + np.tile([1.0, -1.0], 5)
    found = learn(truth, np.stack([fair, good], axis=1))
    assert found.believed(np.array([True, True])) == (1, 0)
    assert found.believed(np.array([True, False])) == (0,)
    assert found.believed(np.array([False, False])) == ()
    # each with a raise of its own
    assert found.raise_at(1, 0.0) == pytest.approx(0, abs=1e-6)
    assert found.raise_at(0, 0.0) > 0.5
