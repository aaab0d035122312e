"""Logs with gaps: what is missing is counted, refused, left out, cut out or filled, and that is recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetrax.data import Trajectories, validate
from safetrax.data.filters import Drop, Fill, Noise, Safe, Split, apply_filters
from safetrax.data.gaps import Cells, missing, missing_rows
from safetrax.data.labels import SAFE, UNKNOWN, UNSAFE
from safetrax.errors import ConfigError, DataError

NAN = np.nan


def log(*columns: list[float], lengths: list[int], **changes: Any) -> Trajectories:
    """Episodes of such lengths with these columns of observations; rewards count the rows."""
    rows = len(columns[0])
    truncated = np.zeros(rows, bool)
    truncated[np.cumsum(lengths) - 1] = True
    arrays: dict[str, Any] = {
        "observations": np.stack(columns, axis=1),
        "actions": np.zeros((rows, 1)),
        "rewards": np.arange(rows),
        "costs": np.ones(rows),
        "terminated": np.zeros(rows, bool),
        "truncated": truncated,
    }
    return Trajectories.from_arrays(**(arrays | changes))


def cells(data: Trajectories) -> list[dict[str, Any]]:
    return data.info["filters"][-1]["cells"]


def test_every_column_is_counted_and_its_first_gap_named():
    data = log(
        [0, NAN, 2, 3, NAN],
        [0, 1, 2, 3, 4],
        lengths=[3, 2],
        actions=[[0], [0], [0], [NAN], [0]],
        rewards=[1, 1, 1, NAN, NAN],
        info={"observation_names": ["heat", "flow"]},
    )
    assert missing(data) == [
        Cells("heat", cells=2, episodes=2, row=1, episode=0),
        Cells("a0", cells=1, episodes=1, row=3, episode=1),
        Cells("rewards", cells=2, episodes=1, row=3, episode=1),
    ]
    np.testing.assert_array_equal(missing_rows(data), [False, True, False, True, True])
    (finding,) = (finding for finding in validate(data) if finding.severity == "error")
    assert finding.message.startswith(
        "5 values are missing (NaN): heat in 2 cells of 2 episodes, first in row 1 (episode 0); a0 in 1 cell of 1 "
        "episode, first in row 3 (episode 1); rewards in 2 cells of 1 episode, first in row 3 (episode 1); leave "
        "such episodes out (--filters drop)"
    )


def test_only_what_mends_gaps_may_come_before_they_are_mended():
    data = log([0, NAN, 2, 3, 4], lengths=[3, 2])
    for entry in (Safe(9), Noise(0.1)):
        with pytest.raises(DataError, match="needs whole data; 1 value is missing"):
            entry(data)
        assert entry(Drop()(data)).num_episodes == 1


def test_drop_keeps_the_episodes_that_are_whole():
    data = log([0, NAN, 2, 3, 4, 5], lengths=[3, 2, 1], rewards=[0, 0, 0, 3, 4, NAN], labels=[SAFE, UNSAFE, SAFE])
    kept = Drop()(data)
    np.testing.assert_array_equal(kept.observations[:, 0], [3, 4])
    np.testing.assert_array_equal(kept.labels, [UNSAFE])
    assert [(entry["column"], entry["cells"], entry["row"]) for entry in cells(kept)] == [
        ("o0", 1, 1),
        ("rewards", 1, 5),
    ]
    with pytest.raises(
        DataError, match=r"keeps none of the 1 episodes: in every one a value is missing \(o0 in 1 cell"
    ):
        Drop()(log([0, NAN], lengths=[2]))
    whole = log([0, 1], lengths=[2])
    assert Drop()(whole).fingerprint() == whole.fingerprint()
    assert "cells" not in Drop()(whole).info["filters"][-1]


def test_split_cuts_out_the_rows_with_gaps_and_leaves_short_pieces_out():
    data = log(
        [0, 1, NAN, 3, 4, 5, 6, NAN, 8, 9],
        lengths=[7, 3],
        terminated=np.arange(10) == 6,
        truncated=np.arange(10) == 9,
        labels=[UNSAFE, UNSAFE],
    )
    pieces = Split(2)(data)
    np.testing.assert_array_equal(pieces.observations[:, 0], [0, 1, 3, 4, 5, 6, 8, 9])
    np.testing.assert_array_equal(pieces.offsets, [0, 2, 6, 8])
    np.testing.assert_array_equal(pieces.rewards, pieces.observations[:, 0])
    np.testing.assert_array_equal(pieces.truncated, np.isin(np.arange(8), [1, 7]))
    np.testing.assert_array_equal(pieces.terminated, np.arange(8) == 5)
    np.testing.assert_array_equal(pieces.labels, [UNKNOWN] * 3)  # which part was unsafe nobody knows
    np.testing.assert_array_equal(Split(3)(data).observations[:, 0], [3, 4, 5, 6])
    with pytest.raises(
        DataError, match=r"split:5 leaves no piece of the 2 episodes: none has 5 steps without a gap \(o0 in 2"
    ):
        Split(5)(data)


def test_split_leaves_whole_episodes_and_their_labels_as_they_are():
    data = log([0, 1, 2, NAN, 4, 5], lengths=[3, 3], labels=[UNSAFE, SAFE])
    pieces = Split()(data)
    np.testing.assert_array_equal(pieces.offsets, [0, 3, 5])
    np.testing.assert_array_equal(pieces.labels, [UNSAFE, SAFE])


def test_fill_takes_the_value_before_a_short_gap():
    column = [NAN, 1, NAN, NAN, 2, NAN, NAN, 3, NAN]
    data = log(column, lengths=[6, 3])
    np.testing.assert_array_equal(Fill(2)(data).observations[:, 0], [NAN, 1, 1, 1, 2, 2, NAN, 3, 3])
    one = Fill(1)(data)
    np.testing.assert_array_equal(one.observations[:, 0], [NAN, 1, NAN, NAN, 2, 2, NAN, 3, 3])
    assert cells(one) == [{"column": "o0", "cells": 2, "episodes": 2, "row": 5, "episode": 0}]
    assert one.fingerprint() != data.fingerprint()
    with pytest.raises(ConfigError, match="steps is 0"):
        Fill(0)


def test_fill_leaves_rewards_and_costs_unless_they_are_named():
    data = log([0, 1, 2], lengths=[3], rewards=[1, NAN, 3], costs=[2, NAN, 0])
    assert np.isnan(Fill(5)(data).rewards[1])
    one = Fill(5, also=("costs",))(data)
    assert np.isnan(one.rewards[1])
    np.testing.assert_array_equal(one.costs, [2, 2, 0])
    with pytest.raises(DataError, match="is to fill hidden_costs, but the log has none"):
        Fill(5, also=("hidden_costs",))(data)


def test_a_missing_next_observation_is_the_next_rows_observation():
    data = log(
        [0, NAN, 2, 3, 4, NAN],
        lengths=[3, 3],
        next_observations=[[NAN], [NAN], [NAN], [4], [5], [NAN]],
    )
    after = Fill(1)(data).next_observations
    assert after is not None
    # the last of the first episode: observation 2 is one step old; of the second: 4 is two steps old
    np.testing.assert_array_equal(after[:, 0], [0, 2, 2, 4, 5, NAN])
    np.testing.assert_array_equal(Fill(2)(data).next_observations[:, 0], [0, 2, 2, 4, 5, 4])


@settings(max_examples=50)
@given(
    st.lists(st.one_of(st.just(NAN), st.integers(0, 9)), min_size=6, max_size=24),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_fill_and_split_do_what_a_loop_over_rows_does(column, length, steps):
    lengths = [length] * (len(column) // length)
    lengths += [len(column) % length] if len(column) % length else []
    data = log(column, lengths=lengths)
    expected, pieces = [], []
    for first, last in zip(data.offsets, data.offsets[1:], strict=False):
        part, row = list(column[first:last]), 0
        while row < len(part):
            stop = row
            while stop < len(part) and np.isnan(part[stop]):
                stop += 1
            if 0 < row < stop <= row + steps:
                part[row:stop] = [part[row - 1]] * (stop - row)
            row = max(stop, row + 1)
        expected += part
        runs = "".join("x" if np.isnan(value) else "." for value in part).split("x")
        pieces += [len(run) for run in runs if len(run) >= steps]
    np.testing.assert_array_equal(Fill(steps)(data).observations[:, 0], np.float32(expected))
    if pieces:
        assert apply_filters(data, [Fill(steps), Split(steps)]).lengths.tolist() == pieces
