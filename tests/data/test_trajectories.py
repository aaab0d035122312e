"""Trajectories: splitting, episode sums, selections, and one clear sentence per fault."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import toy_episodes
from safetrax.data import Trajectories
from safetrax.data.trajectories import SAFE, UNKNOWN
from safetrax.errors import DataError

ROWS = ("observations", "actions", "rewards", "costs", "terminated", "truncated")


def arrays(ends: list[int], **changes: Any) -> dict[str, Any]:
    """Raw arrays whose row i has reward i and alternating cost; `ends` are 0 or 1 (1: truncated)."""
    n = len(ends)
    return {
        "observations": np.arange(2.0 * n).reshape(n, 2),
        "actions": np.zeros((n, 1)),
        "rewards": np.arange(float(n)),
        "costs": np.arange(n) % 2,
        "terminated": np.zeros(n, bool),
        "truncated": np.array(ends),
        **changes,
    }


def episode(length: int, **changes: Any) -> dict[str, Any]:
    return {
        "observations": np.ones((length, 2)),
        "actions": np.zeros((length, 1)),
        "rewards": np.ones(length),
        "costs": np.zeros(length),
        **changes,
    }


def test_sums_by_hand() -> None:
    # rows 0..2 and 3..4: returns 0+1+2 and 3+4, costs 0+1+0 and 1+0
    data = Trajectories.from_arrays(**arrays([0, 0, 1, 0, 1]))
    np.testing.assert_array_equal(data.offsets, [0, 3, 5])
    np.testing.assert_array_equal(data.returns, [3.0, 7.0])
    np.testing.assert_array_equal(data.cost_returns, [1.0, 1.0])
    np.testing.assert_array_equal(data.lengths, [3, 2])
    assert data.returns.dtype == data.cost_returns.dtype == np.float64
    assert (len(data), data.num_episodes, data.num_transitions, data.max_length) == (2, 2, 5, 3)
    assert (data.observation_size, data.action_size) == (2, 1)


def test_sums_are_added_in_float64() -> None:
    # in float32, 2**24 + 1 is 2**24
    data = Trajectories.from_arrays(**arrays([0, 0, 1], rewards=[2.0**24, 1.0, 1.0]))
    assert data.returns[0] == 2**24 + 2


def test_arrays_are_cast_to_the_agreed_dtypes() -> None:
    data = Trajectories.from_arrays(**arrays([0, 1]))
    assert all(getattr(data, name).dtype == np.float32 for name in ROWS[:4])
    assert all(getattr(data, name).dtype == np.bool_ for name in ROWS[4:])
    assert data.offsets.dtype == np.int64


def test_both_flags_on_one_row_end_one_episode() -> None:
    data = Trajectories.from_arrays(**arrays([0, 1, 0, 1], terminated=[0, 1, 0, 0]))
    np.testing.assert_array_equal(data.offsets, [0, 2, 4])


def test_rows_after_the_last_end_are_dropped_and_counted() -> None:
    data = Trajectories.from_arrays(**arrays([0, 1, 0, 0, 0]), info={"source": "x"})
    assert data.num_transitions == 2
    assert data.info == {"source": "x", "tail_rows_dropped": 3}


def test_no_tail_is_recorded_as_zero() -> None:
    assert Trajectories.from_arrays(**arrays([0, 1])).info["tail_rows_dropped"] == 0


def test_episodes_of_one_row() -> None:
    data = Trajectories.from_arrays(**arrays([1, 1, 1]))
    np.testing.assert_array_equal(data.lengths, [1, 1, 1])
    np.testing.assert_array_equal(data.returns, [0.0, 1.0, 2.0])


def test_columns_of_shape_n_1_are_squeezed() -> None:
    raw = arrays([0, 0, 1])
    wide = {name: np.asarray(raw[name]).reshape(3, 1) for name in ROWS[2:]}
    data = Trajectories.from_arrays(**{**raw, **wide})
    assert all(getattr(data, name).shape == (3,) for name in ROWS[2:])
    assert data.fingerprint() == Trajectories.from_arrays(**raw).fingerprint()


def test_action_box_defaults_to_one_and_broadcasts() -> None:
    data = Trajectories.from_arrays(**arrays([1], actions=np.zeros((1, 3))), action_high=2)
    np.testing.assert_array_equal(data.action_low, [-1, -1, -1])
    np.testing.assert_array_equal(data.action_high, [2, 2, 2])


def test_given_offsets_mark_unflagged_ends_as_truncated() -> None:
    data = Trajectories.from_arrays(**arrays([0, 0, 0, 0, 0], terminated=[0, 1, 0, 0, 0]), offsets=[0, 2, 4])
    np.testing.assert_array_equal(data.terminated, [0, 1, 0, 0])
    np.testing.assert_array_equal(data.truncated, [0, 0, 0, 1])
    assert data.info["tail_rows_dropped"] == 1


def test_arrays_are_read_only_and_shared() -> None:
    rewards = np.ones(2, np.float32)
    data = Trajectories.from_arrays(**arrays([0, 1], rewards=rewards))
    with pytest.raises(ValueError, match="read-only"):
        data.rewards[0] = 2
    assert np.shares_memory(rewards, data.rewards)
    rewards[0] = 2  # the caller's own array stays writable


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"costs": np.zeros(2)}, "costs has 2 rows but observations has 3"),
        ({"truncated": np.zeros(3)}, "no row of terminated or truncated is set.*timeouts"),
        ({"observations": np.zeros(3)}, r"observations has shape \(3,\).*flatten"),
        ({"actions": np.zeros((3, 1, 1))}, r"actions has shape \(3, 1, 1\)"),
        ({"rewards": np.zeros((3, 2))}, r"rewards has shape \(3, 2\).*one number per transition"),
        ({"costs": np.float32(1)}, r"costs has shape \(\)"),
        ({"rewards": ["a", "b", "c"]}, "rewards has dtype <U1; convert"),
        ({"rewards": None}, "rewards has dtype object"),
        ({"terminated": None}, "terminated has dtype object"),
        ({"actions": [[1], [1, 2], [3]]}, "actions is ragged"),
        ({"terminated": [0, 0.5, 1]}, "terminated is 0.5 in row 1; flags must be 0 or 1"),
        ({"truncated": [0, np.nan, 1]}, "truncated is nan in row 1"),
        ({"observations": np.zeros((0, 2))}, "observations is empty"),
        ({"actions": np.zeros((3, 0))}, "actions is empty"),
        ({"costs": []}, "costs is empty"),
        ({"next_observations": np.zeros((2, 2))}, "next_observations has 2 rows"),
        ({"next_observations": np.zeros((3, 4))}, r"next_observations has shape \(3, 4\)"),
        ({"action_low": [-1, -1]}, r"action_low has shape \(2,\), but there are 1 actions"),
        ({"action_high": "x"}, "action_high has dtype"),
        ({"offsets": [1, 3]}, "offsets starts at 1"),
        ({"offsets": [0, 2, 2, 3]}, "offsets goes from 2 to 2 at episode 1"),
        ({"offsets": [0, 3, 1]}, "offsets goes from 3 to 1"),
        ({"offsets": [0, 4]}, "offsets ends at 4, but there are only 3 rows"),
        ({"offsets": [0]}, "offsets has dtype int64 and shape"),
        ({"offsets": [0.0, 3.0]}, "offsets has dtype float64"),
        ({"offsets": [0, 3], "truncated": [0, 1, 0]}, "set in row 1, inside an episode"),
    ],
)
def test_from_arrays_refuses(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Trajectories.from_arrays(**arrays([0, 0, 1], **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offsets": np.array([0, 1])}, "offsets ends at 1, but there are 2 rows"),
        ({"truncated": np.zeros(2, bool)}, "row 1 ends an episode, but neither"),
    ],
)
def test_replace_keeps_the_invariants(changes: dict[str, Any], words: str) -> None:
    data = Trajectories.from_arrays(**arrays([0, 1]))
    with pytest.raises(DataError, match=words):
        dataclasses.replace(data, **changes)


def test_from_episodes_marks_last_rows() -> None:
    data = Trajectories.from_episodes(
        [
            episode(2),
            episode(3, terminated=True),
            episode(2, terminated=[False, True], truncated=False),
            episode(1, truncated=np.True_, terminated=1),
        ],
        info={"source": "robot"},
    )
    np.testing.assert_array_equal(data.lengths, [2, 3, 2, 1])
    np.testing.assert_array_equal(np.flatnonzero(data.truncated), [1, 7])
    np.testing.assert_array_equal(np.flatnonzero(data.terminated), [4, 6, 7])
    assert data.info == {"source": "robot", "tail_rows_dropped": 0}


def test_from_episodes_takes_a_generator_and_next_observations() -> None:
    data = Trajectories.from_episodes(episode(n, next_observations=np.full((n, 2), n)) for n in (1, 2))
    assert data.next_observations is not None
    np.testing.assert_array_equal(data.next_observations[:, 0], [1, 2, 2])


@pytest.mark.parametrize(
    ("episodes", "words"),
    [
        ([], "no episodes"),
        ([{}], r"episode 0 has no observations \(its keys: none\)"),
        ([{k: v for k, v in episode(2).items() if k != "rewards"}], "episode 0 has no rewards"),
        ([episode(2, next_obs=1)], "unknown key next_obs"),
        ([episode(2), episode(2, rewards=[1.0])], "episode 1: rewards has 1 rows but observations has 2"),
        ([episode(2, terminated=[1, 0])], "set in row 0, inside an episode"),
        ([episode(2, terminated=2)], "episode 0: terminated is 2"),
        ([episode(2), episode(2, next_observations=np.ones((2, 2)))], "episodes 0 and 1 has next_observations"),
        ([episode(2), episode(2, observations=np.ones((2, 5)))], "observations of episode 1 has 5 columns"),
        ([episode(2, observations=np.ones((0, 2)))], "episode 0: observations is empty"),
    ],
)
def test_from_episodes_refuses(episodes: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Trajectories.from_episodes(episodes)


def test_select_by_mask_numbers_and_repetition() -> None:
    data = Trajectories.from_arrays(**arrays([1, 0, 1, 0, 0, 1]))
    np.testing.assert_array_equal(data.select([True, False, True]).rewards, [0, 3, 4, 5])
    np.testing.assert_array_equal(data.select([2, 0]).rewards, [3, 4, 5, 0])
    np.testing.assert_array_equal(data.select(np.array([-2, -2], np.int8)).rewards, [1, 2, 1, 2])
    np.testing.assert_array_equal(data.select(np.array([1], np.uint64)).lengths, [2])


def test_select_copies_and_keeps_box_and_info() -> None:
    data = Trajectories.from_arrays(**arrays([1, 1]), action_low=-3, info={"source": "x"})
    chosen = data.select([0, 1])
    assert not np.shares_memory(chosen.rewards, data.rewards)
    assert chosen.fingerprint() == data.fingerprint()
    assert chosen.info == data.info
    assert chosen.action_low == [-3]


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ([True, False], "the mask has 2 entries but there are 3 episodes"),
        ([False, False, False], "no episode is selected out of 3"),
        ([], "no episode is selected"),
        ([3], "episode 3 does not exist"),
        ([-4], "episode -4 does not exist"),
        (np.array([0.0]), "the selection has dtype float64"),
        (np.array([[0]]), "the selection has dtype int64 and shape"),
    ],
)
def test_select_refuses(selection: Any, words: str) -> None:
    data = Trajectories.from_arrays(**arrays([1, 1, 1]))
    with pytest.raises(DataError, match=words):
        data.select(selection)


def test_episode_gives_views() -> None:
    data = Trajectories.from_arrays(**arrays([0, 1, 1], next_observations=np.ones((3, 2))))
    rows = data.episode(-1)
    assert set(rows) == {*ROWS, "next_observations"}
    np.testing.assert_array_equal(rows["rewards"], [2])
    assert np.shares_memory(rows["observations"], data.observations)
    assert "next_observations" not in Trajectories.from_arrays(**arrays([1])).episode(0)
    with pytest.raises(IndexError, match="episode 2 does not exist: there are 2"):
        data.episode(2)


@pytest.mark.parametrize("name", [*ROWS, "next_observations", "action_low", "offsets"])
def test_fingerprint_sees_every_array(name: str) -> None:
    data = Trajectories.from_arrays(**arrays([0, 1, 0, 1], next_observations=np.zeros((4, 2))))
    if name == "offsets":
        other = Trajectories.from_arrays(**arrays([0, 0, 0, 1], next_observations=np.zeros((4, 2))))
    elif name == "truncated":
        other = dataclasses.replace(data, terminated=data.truncated, truncated=data.terminated)
    else:
        changed = getattr(data, name).copy()
        changed.flat[-1] = not changed.flat[-1]
        other = dataclasses.replace(data, **{name: changed})
    assert re.fullmatch(r"[0-9a-f]{64}", data.fingerprint())
    assert other.fingerprint() != data.fingerprint()


def test_fingerprint_ignores_info() -> None:
    data = Trajectories.from_arrays(**arrays([1]))
    assert dataclasses.replace(data, info={"source": "elsewhere"}).fingerprint() == data.fingerprint()


def test_repr_is_one_line() -> None:
    data = Trajectories.from_arrays(**arrays([0, 0, 1, 0, 1]), info={"task": "BallRun"})
    assert repr(data) == (
        "Trajectories(BallRun: 2 episodes, 5 transitions, 2 observations, 1 actions, return 3 to 7, cost 1 to 1)"
    )


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.data())
def test_splitting_and_selecting_keep_episodes_whole(lengths: list[int], draw: st.DataObject) -> None:
    ends = np.zeros(sum(lengths), int)
    ends[np.cumsum(lengths) - 1] = 1
    data = Trajectories.from_arrays(**arrays(list(ends)))
    np.testing.assert_array_equal(data.lengths, lengths)
    assert data.returns.sum() == np.arange(sum(lengths)).sum()

    numbers = draw.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    chosen = data.select(numbers)
    np.testing.assert_array_equal(chosen.lengths, data.lengths[numbers])
    np.testing.assert_array_equal(chosen.returns, data.returns[numbers])
    for new, old in enumerate(numbers):
        for name, rows in data.episode(old).items():
            np.testing.assert_array_equal(chosen.episode(new)[name], rows)
    again = Trajectories.from_episodes(chosen.episode(i) for i in range(len(chosen)))
    assert again.fingerprint() == chosen.fingerprint()


def test_concatenated_data_sets_follow_one_another():
    first, second = toy_episodes([3, 5]), toy_episodes([4], seed=1)
    both = Trajectories.concatenate([first, second])
    assert both.offsets.tolist() == [0, 3, 8, 12]
    np.testing.assert_array_equal(both.costs, np.concatenate([first.costs, second.costs]))
    assert both.info == {"task": None, "parts": [first.info, second.info]}
    assert both.next_observations is None


def test_concatenation_keeps_the_task_and_next_observations_only_if_all_have_them():
    part = replace(toy_episodes([3]), info={"task": "BallRun"})
    following = replace(part, next_observations=part.observations)
    assert Trajectories.concatenate([part, part]).info["task"] == "BallRun"
    assert Trajectories.concatenate([following, following]).next_observations is not None
    assert Trajectories.concatenate([following, part]).next_observations is None


def test_data_sets_that_do_not_fit_together_are_refused():
    with pytest.raises(DataError, match="there are no data sets to concatenate"):
        Trajectories.concatenate([])
    with pytest.raises(DataError, match="data set 1 has other observations than data set 0: 4 instead of 3"):
        Trajectories.concatenate([toy_episodes([3]), toy_episodes([3], observation_size=4)])
    wide = replace(toy_episodes([3]), action_high=np.full(2, 2.0, np.float32))
    with pytest.raises(DataError, match="data set 1 has other upper action bounds"):
        Trajectories.concatenate([toy_episodes([3]), wide])


def test_costs_may_be_absent_and_labels_go_with_their_episodes():
    data = Trajectories.from_arrays(**arrays([0, 1, 1], costs=None, labels=[SAFE, UNKNOWN]))
    assert data.costs is None
    assert repr(data).endswith("no costs)")
    assert data.select([1, 0]).labels.tolist() == [UNKNOWN, SAFE]
    assert "costs" not in data.episode(0)
    with pytest.raises(DataError, match="the log holds no costs"):
        data.cost_returns  # noqa: B018
    both = Trajectories.concatenate([data, replace(data, labels=None)])
    assert both.costs is None
    assert both.labels.tolist() == [SAFE, UNKNOWN, UNKNOWN, UNKNOWN]
    with pytest.raises(DataError, match="data set 1 has other costs than data set 0: some instead of none"):
        Trajectories.concatenate([data, Trajectories.from_arrays(**arrays([0, 1, 1]))])


@pytest.mark.parametrize(
    ("labels", "words"), [([1], r"has shape \(1,\), but there are 2 episodes"), ([1, 2], "label of episode 1 is 2")]
)
def test_odd_labels_are_refused(labels: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Trajectories.from_arrays(**arrays([0, 1, 1], labels=labels))
