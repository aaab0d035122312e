"""Thinning to an even cover of the (return, cost) plane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetrax.data.filters.density import grid_cells, thin
from safetrax.errors import ConfigError, DataError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_cells_by_hand_with_the_maximum_in_one_of_its_own():
    values = np.array([0.0, 0.9, 1.0, 4.999, 5.0, 9.0, 9.999, 10.0])
    assert grid_cells(values, 0.0, 10.0, 10).tolist() == [0, 0, 1, 4, 5, 9, 9, 10]
    assert grid_cells(values, 0.0, 10.0, 2).tolist() == [0, 0, 0, 0, 1, 1, 1, 2]


def test_rounding_does_not_move_an_edge():
    # 1.0 // 0.1 is 9 in floating point, and 0.3 / 0.1 is 2.9999999999999996
    edges = np.arange(11) / 10
    assert grid_cells(edges, 0.0, 1.0, 10).tolist() == list(range(11))


def test_values_that_are_all_equal_share_a_cell():
    assert grid_cells(np.full(3, 7.0), 7.0, 7.0, 10).tolist() == [0, 0, 0]


def test_every_cell_keeps_one_and_a_crowd_is_thinned():
    # 4 cells (target 4): 97 episodes in one corner, one in each other corner; the corners are all kept
    returns = np.concatenate([np.linspace(0, 0.4, 97), [1.0, 0.0, 1.0]])
    costs = np.concatenate([np.linspace(0, 0.4, 97), [0.0, 1.0, 1.0]])
    for seed in range(5):
        kept = thin(returns, costs, 4, rng(seed))
        assert kept.dtype == np.int64
        assert kept[1:].tolist() == [97, 98, 99]
        assert kept[0] < 97


def test_cells_with_episodes_left_are_drawn_from_equally():
    # 10 x 10 cells for target 100, episodes in two opposite ones: 900 in the first, 100 in the last. One each, then
    # 98 draws that choose either cell equally often: both give about 50, though one is nine times as full
    x = np.concatenate([np.zeros(900), np.ones(100)])
    shares = [np.count_nonzero(thin(x, x, 100, rng(seed)) >= 900) for seed in range(20)]
    assert 45 < np.mean(shares) < 55


def test_an_exhausted_cell_leaves_the_rest_to_the_others():
    x = np.concatenate([np.zeros(50), np.ones(3)])
    kept = thin(x, x, 40, rng())
    assert len(kept) == 40
    assert {50, 51, 52} <= set(kept.tolist())


def test_more_cells_than_episodes_wanted():
    # target 2 has 2 x 2 cells, all with an episode
    kept = [thin(np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1]), 2, rng(seed)).tolist() for seed in range(50)]
    assert all(len(set(numbers)) == 2 for numbers in kept)
    assert {number for numbers in kept for number in numbers} == {0, 1, 2, 3}


def test_few_episodes_are_all_kept():
    assert thin(np.arange(3.0), np.arange(3.0), 3, rng()).tolist() == [0, 1, 2]
    assert thin(np.arange(3.0), np.arange(3.0), 100, rng()).tolist() == [0, 1, 2]
    assert thin(np.zeros(0), np.zeros(0), 5, rng()).tolist() == []


def test_a_seed_decides():
    x, y = rng(1).normal(size=(2, 500))
    assert thin(x, y, 60, rng(3)).tolist() == thin(x, y, 60, rng(3)).tolist()
    assert thin(x, y, 60, rng(3)).tolist() != thin(x, y, 60, rng(4)).tolist()


def test_thinning_evens_the_density_out():
    # a dense blob on a sparse uniform background: after thinning, the blob's share is about that of its area
    r = rng(2)
    blob, rest = r.uniform(0.0, 0.2, (2, 4000)), r.uniform(0, 1, (2, 1000))
    x, y = np.concatenate([blob, rest], axis=1)
    kept = thin(x, y, 400, rng())
    assert np.count_nonzero(kept < 4000) / 400 < 0.1


@given(st.integers(1, 60), st.integers(0, 40), st.integers(0, 5))
def test_the_number_is_right_and_nothing_is_kept_twice(target, episodes, seed):
    x, y = rng(seed).integers(0, 5, (2, episodes)).astype(float)
    kept = thin(x, y, target, rng(seed))
    assert len(kept) == min(target, episodes)
    assert (np.diff(kept) > 0).all()


def test_faults_are_one_sentence():
    with pytest.raises(ConfigError, match="keep is 0, but must be at least 1"):
        thin(np.zeros(3), np.zeros(3), 0, rng())
    with pytest.raises(DataError, match="not finite"):
        thin(np.array([0.0, np.nan]), np.zeros(2), 1, rng())
