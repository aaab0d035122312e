"""Labels at every limit: the table agrees with labelling for one limit, and draws have the shares that it says."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from safetrax.data import load
from safetrax.data.limit_labels import GRID, LimitIndex, LimitTable, limit_range
from safetrax.data.segments import DESIRABLE, UNDESIRABLE, Windows, label_windows
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError


def log(costs: list[float], returns: list[float], steps: int = 4) -> Trajectories:
    """Episodes with these sums, all in their first step."""
    return Trajectories.from_episodes(
        {
            "observations": np.zeros((steps, 1)),
            "actions": np.zeros((steps, 1)),
            "rewards": np.eye(1, steps)[0] * value,
            "costs": np.eye(1, steps)[0] * cost,
        }
        for cost, value in zip(costs, returns, strict=True)
    )


def whole(data: Trajectories) -> Windows:
    return label_windows(data, 0.0, ratio="whole", top=0.5, bottom=0.0)


def test_a_table_by_hand():
    # by cost: (0, 1), (2, 4), (5, 3), (9, 8)
    windows = whole(log([0, 9, 2, 5], [1, 8, 4, 3]))
    table = LimitTable.make(windows, np.array([1.0, 2.0, 6.0, 9.0]), top=0.5, bottom=0.0)
    # safe returns: {1}; {4, 1}; {4, 3, 1}; {8, 4, 3, 1}; the best half, rounded up, begins at
    assert table.top.tolist() == [1, 4, 3, 4]
    assert table.low.tolist() == [1, 1, 1, 1]
    assert table.high.tolist() == [1, 4, 4, 8]
    assert np.allclose(table.desirable, [1 / 4, 1 / 4, 2 / 4, 2 / 4])
    assert np.allclose(table.undesirable, [3 / 4, 2 / 4, 1 / 4, 0])
    assert np.isneginf(table.bottom).all()
    table = LimitTable.make(windows, np.array([9.0]), top=0.5, bottom=0.25)
    assert (table.bottom.item(), table.undesirable.item()) == (1, 0.25)


@pytest.mark.parametrize("ratio", [0.5, 1.0, "whole"])
@pytest.mark.parametrize("bottom", [0.0, 0.3])
def test_labels_and_weights_are_those_of_one_limit(ratio, bottom):
    data = load("demo")
    windows = label_windows(data, 0.0, ratio=ratio, top=0.5, bottom=bottom)
    low, high = limit_range(windows)
    index = LimitIndex.make(windows, (low, high), top=0.5, bottom=bottom)
    assert index.table.limits.shape == (GRID,)
    batch = index.sample(jax.random.key(0), 20_000, floor=0.7)
    place = np.abs(np.asarray(batch.limits)[:, None] - np.asarray(index.table.limits)).argmin(axis=1)
    for row in (0, GRID // 3, GRID - 1):
        one = label_windows(data, float(index.table.limits[row]), ratio=ratio, top=0.5, bottom=bottom)
        at = np.searchsorted(one.starts, np.asarray(batch.starts)[place == row])
        label, weight = one.labels.label[at], one.labels.weight[at]
        drawn = np.asarray(batch.weight)[place == row] > 0
        known = label[drawn]
        assert drawn.mean() > 0.9
        agree = known == np.where(np.asarray(batch.desirable)[place == row][drawn], DESIRABLE, UNDESIRABLE)
        assert agree.mean() > 0.99  # float32 returns at the very threshold
        assert np.abs(weight[drawn] - np.asarray(batch.weight)[place == row][drawn])[agree].max() < 1e-3


def test_draws_have_the_shares_of_the_table():
    windows = whole(log([0, 9, 2, 5], [1, 8, 4, 3]))
    index = LimitIndex.make(windows, (1.0, 9.0), top=0.5, bottom=0.0)
    batch = index.sample(jax.random.key(1), 40_000, floor=0.7, attempts=8)
    table = index.table
    expected = float(table.desirable.mean() / (table.desirable + table.undesirable).mean())
    labelled = np.asarray(batch.weight) > 0
    found = np.asarray(batch.desirable)[labelled].mean()
    assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / labelled.sum())


def test_the_range_leaves_out_what_few_meet():
    windows = whole(log(list(range(100)), [1.0] * 100))
    assert limit_range(windows) == (1, 94)  # costs 0 and 1 are 2 % of the episodes, 0 to 94 are 95 %


def test_a_limit_that_nothing_meets_is_one_sentence():
    windows = whole(log([2, 3], [1, 1]))
    with pytest.raises(DataError, match=r"no segment meets the cost limit 1: the cheapest would cost 2"):
        LimitIndex.make(windows, (0.0, 1.0), top=0.5, bottom=0.0)
    table = LimitIndex.make(windows, (0.0, 4.0), top=0.5, bottom=0.0).table  # all are undesirable at the least one
    assert (table.desirable[0].item(), table.undesirable[0].item()) == (0, 1)
