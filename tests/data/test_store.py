import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.data.segments import label_windows
from safetrax.data.store import TRANSITION_FIELDS, SegmentIndex, Store, TransitionIndex, step_mask, window_rows
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError


def test_store_holds_what_is_read_and_nothing_else(toy):
    store = Store.make(toy, ("observations", "actions", "costs"))
    assert store.rewards is None
    assert store.next_observations is None
    np.testing.assert_array_equal(store.costs, toy.costs)
    assert store.num_transitions == 300


def test_actions_are_mapped_to_the_unit_box_and_clipped():
    data = toy_episodes([3], action_size=1)
    data = type(data).from_arrays(
        data.observations,
        np.array([[0.0], [5.0], [12.0]]),
        data.rewards,
        data.costs,
        data.terminated,
        data.truncated,
        action_low=[0.0],
        action_high=[10.0],
    )
    np.testing.assert_allclose(Store.make(data, ()).actions[:, 0], [-1.0, 0.0, 1.0])


def two_episodes(*, following: bool) -> Trajectories:
    """Steps 0, 1, 2 and 10, 11; the first episode is terminated, the second truncated, and both go on to 99."""
    observations = np.array([[0], [1], [2], [10], [11]], np.float32)
    return Trajectories.from_arrays(
        observations,
        actions=observations / 20,
        rewards=np.arange(5),
        costs=np.arange(5) % 2,
        terminated=np.arange(5) == 2,
        truncated=np.arange(5) == 4,
        next_observations=[[1], [2], [99], [11], [99]] if following else None,
    )


@pytest.mark.parametrize(("following", "last"), [(True, [99, 99]), (False, [2, 11])])
def test_a_transition_ends_in_what_was_logged_or_else_in_the_next_row(following, last):
    data = two_episodes(following=following)
    fields = TRANSITION_FIELDS if following else TRANSITION_FIELDS[:-1]
    batch = Store.make(data, fields).transitions(jnp.array([4, 0, 1, 2, 3, 0]))
    assert batch.observations[:, 0].tolist() == [11, 0, 1, 2, 10, 0]
    assert batch.next_observations[:, 0].tolist() == [last[1], 1, 2, last[0], 11, 1]
    assert batch.done.tolist() == [True, False, False, True, False, False]
    assert batch.rewards.tolist() == [4, 0, 1, 2, 3, 0]
    assert batch.costs.tolist() == [0, 0, 1, 0, 1, 0]
    np.testing.assert_allclose(batch.actions[:, 0], np.array([11, 0, 1, 2, 10, 0]) / 20)


def test_transitions_need_the_fields_that_they_are_made_of(toy):
    with pytest.raises(AssertionError):
        Store.make(toy, ("rewards", "costs", "terminated")).transitions(jnp.array([0]))


def test_every_episode_can_be_drawn_from():
    data = toy_episodes([2, 5, 3, 1])
    index = TransitionIndex.all(data)
    rows = np.asarray(index.sample(jax.random.key(0), 2000))
    assert set(rows.tolist()) == set(range(11))


def test_transitions_are_uniform_over_the_selected_episodes():
    data = toy_episodes([2, 5, 3, 1])
    index = TransitionIndex.make(data, np.array([False, True, False, True]))
    rows = np.asarray(index.sample(jax.random.key(0), 60_000))
    assert sorted(set(rows.tolist())) == [2, 3, 4, 5, 6, 10]
    counts = np.bincount(rows)[[2, 3, 4, 5, 6, 10]]
    assert np.abs(counts / 10_000 - 1).max() < 0.05


def test_an_index_has_the_same_shapes_whatever_is_selected():
    data = toy_episodes([2, 5, 3, 1])
    shapes = [jax.tree.map(jnp.shape, TransitionIndex.make(data, np.arange(4) < count)) for count in (1, 3)]
    assert shapes[0].starts == shapes[1].starts
    limits = [
        SegmentIndex.make(label_windows(data, c, ratio=0.4, top=1, bottom=0, floor=0.7).segments())
        for c in (1.0, 9.0)
    ]
    assert jax.tree.map(jnp.shape, limits[0]) == jax.tree.map(jnp.shape, limits[1])


def test_selecting_nothing_is_refused():
    with pytest.raises(DataError, match="no episode"):
        TransitionIndex.make(toy_episodes([2]), np.array([False]))


def test_segments_are_drawn_with_their_probability_and_keep_label_and_weight():
    data = toy_episodes([4, 9, 6, 2], seed=5)
    segments = label_windows(data, 2.0, ratio=0.34, top=0.6, bottom=0.2, floor=0.7, include_short=True).segments()
    index = SegmentIndex.make(segments)
    batch = index.sample(jax.random.key(1), 100_000)
    expected = dict(zip(segments.starts.tolist(), segments.window_probability().tolist(), strict=True))
    rows, counts = np.unique(np.asarray(batch.starts), return_counts=True)
    assert set(rows.tolist()) == set(expected)
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        assert count / 100_000 == pytest.approx(expected[row], abs=0.01)
    label = dict(zip(segments.starts.tolist(), segments.desirable.tolist(), strict=True))
    assert all(
        label[s] == d for s, d in zip(batch.starts.tolist()[:500], batch.desirable.tolist()[:500], strict=True)
    )
    assert float(index.desirable_share) == pytest.approx(float(batch.desirable.mean()), abs=0.01)


def test_index_costs_nine_bytes_per_window_and_a_little_per_episode(toy):
    index = SegmentIndex.make(label_windows(toy, 3.0, ratio=0.5, top=0.5, bottom=0.0, floor=0.7).segments())
    windows, episodes = 30 * 6, 30
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(index))
    assert total == 9 * windows + 12 * episodes + 4 + 4


def test_window_rows_and_their_mask():
    assert window_rows(jnp.array([3, 7], jnp.int32), 3).tolist() == [[3, 4, 5], [7, 8, 9]]
    assert step_mask(jnp.array([3, 1], jnp.int32), 3).tolist() == [[True] * 3, [True, False, False]]
