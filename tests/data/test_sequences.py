"""Windows with what is still to come: sums, padding, shifts and how often what is drawn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.data.relabelling import Relabelled, _spread, relabel
from safetrax.data.sequences import Drawn, SequenceIndex, entry_weights, to_go
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories

LENGTHS = [5, 1, 3]


def log() -> Trajectories:
    """Three short episodes whose rewards and costs are small whole numbers, so that all sums are exact."""
    data = toy_episodes(LENGTHS)
    return replace(data, rewards=np.arange(1, 10, dtype=np.float32), costs=np.float32([1, 0, 2, 0, 1, 3, 0, 1, 0]))


def index(data: Trajectories, relabelled: Relabelled | None = None, places: int = 2, **more) -> SequenceIndex:
    return SequenceIndex.make(data, relabelled or Relabelled.none(), places=places, **more)


def batch_of(data: Trajectories, made: SequenceIndex, entries: list[int], first: list[int], steps: int):
    store = Store.make(data, ("costs",))
    return made.windows(store, jnp.asarray(entries), jnp.asarray(first), steps)


def test_sums_to_the_end_begin_with_the_total_and_end_with_the_last():
    data = log()
    sums = to_go(data.rewards, data.offsets)
    np.testing.assert_array_equal(sums, [15, 14, 12, 9, 5, 6, 24, 17, 9])
    np.testing.assert_array_equal(sums[data.offsets[:-1]], data.returns)
    np.testing.assert_array_equal(sums[data.offsets[1:] - 1], data.rewards[data.offsets[1:] - 1])
    np.testing.assert_array_equal(to_go(data.costs, data.offsets)[data.offsets[:-1]], data.cost_returns)


def test_sums_of_a_long_log_are_exact_to_float32():
    data = toy_episodes([1000] * 50)
    data = replace(data, rewards=data.rewards + 100)
    made = np.asarray(index(data).return_to_go)
    for episode in (0, 49):
        rewards = data.episode(episode)["rewards"].astype(np.float64)
        np.testing.assert_allclose(made[1000 * episode :][:1000], np.cumsum(rewards[::-1])[::-1], rtol=1e-7)


def test_windows_are_padded_to_the_right_with_zeros():
    data = log()
    batch = batch_of(data, index(data), [0, 1, 2], [3, 0, 0], 3)
    np.testing.assert_array_equal(batch.mask, [[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(batch.times, [[3, 4, 5], [0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(batch.returns_to_go, [[9, 5, 0], [6, 0, 0], [24, 17, 9]])
    np.testing.assert_array_equal(batch.costs_to_go, [[1, 1, 0], [3, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(batch.costs, [[0, 1, 0], [3, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(batch.observations[0], [*data.observations[3:5], np.zeros(3)])
    np.testing.assert_array_equal(batch.actions[2], data.actions[6:9])


def test_relabelling_shifts_both_sums_by_a_constant_and_touches_nothing_else():
    data = log()
    told = Relabelled(np.array([2, 0]), np.array([30.0, 16.0]), np.array([4.0, 7.0]))
    made = index(data, told, places=4)
    own = batch_of(data, made, [2, 0], [0, 1], 3)
    other = batch_of(data, made, [3, 4], [0, 1], 3)
    np.testing.assert_array_equal(other.returns_to_go - own.returns_to_go, [[6, 6, 6], [1, 1, 1]])
    np.testing.assert_array_equal(other.costs_to_go - own.costs_to_go, [[3, 3, 3], [3, 3, 3]])
    assert float(other.returns_to_go[0, 0]) == 30
    assert float(other.costs_to_go[0, 0]) == 4
    for name in ("observations", "actions", "costs", "times", "mask"):
        np.testing.assert_array_equal(getattr(own, name), getattr(other, name))
    assert made.starts.shape == (7,)


def test_weights():
    costs = np.array([0.0, 30.0, 70.0, 90.0])
    np.testing.assert_array_equal(entry_weights(costs, "linear", 70), [70, 40, 0, 0])
    np.testing.assert_allclose(entry_weights(costs, "inverse", 70), [1 / 10, 1 / 40, 1 / 80, 1 / 100])
    np.testing.assert_array_equal(entry_weights(costs, "uniform", 70), np.ones(4))
    np.testing.assert_array_equal(entry_weights(costs[2:], "linear", 70), np.ones(2))  # not 0 / 0


def test_entries_are_drawn_by_weight_and_their_steps_alike():
    data = log()  # costs 4, 3, 1
    made = index(data, Relabelled(np.array([0]), np.array([1.0]), np.array([2.0])), places=3, cap=4)
    np.testing.assert_allclose(np.diff(made.cumulative, prepend=0), [0, 1 / 6, 3 / 6, 2 / 6, 0, 0], atol=1e-7)
    store, size = Store.make(data, ("costs",)), 20_000
    batch = jax.jit(lambda key: made.sample(key, store, size, 1))(jax.random.key(0))
    returns, counts = np.unique(np.asarray(batch.returns_to_go), return_counts=True)
    # 6: the episode of one step; 24, 17, 9: that of three; 1, 0, -2, -5, -9: the relabelled one of five
    np.testing.assert_array_equal(returns, [-9, -5, -2, 0, 1, 6, 9, 17, 24])
    expected = np.array([*[1 / 15] * 5, 1 / 6, *[1 / 6] * 3])
    error = 5 * np.sqrt(expected * (1 - expected) / size)  # five standard errors
    assert (np.abs(counts / size - expected) < error).all()


def test_what_is_drawn():
    data = log()
    drawn = Drawn.of(data, Relabelled(np.array([0]), np.array([1.0]), np.array([5.0])), "linear", 4)
    np.testing.assert_array_equal(drawn.logged, [False, True, True])
    assert (drawn.relabelled, drawn.costs) == (0, (1.0, 3.0))


def plane() -> Trajectories:
    """Episodes of two steps on a regular part of the plane of cost and return: R <= 10 + C, three of each pair."""
    pairs = [(c, r) for c in range(0, 40, 4) for r in range(0, 11 + c, 5) for _ in range(3)]
    return Trajectories.from_episodes(
        {
            "observations": np.zeros((2, 1)),
            "actions": np.zeros((2, 1)),
            "rewards": [r, 0],
            "costs": [0, c],
        }
        for c, r in pairs
    )


@pytest.mark.parametrize("pairing", ["position", "own"])
def test_targets_lie_beyond_the_frontier_and_their_episodes_cost_no_more(pairing):
    data = plane()
    told = relabel(data, share=0.5, degree=1, margin=1.0, ceiling=80.0, decrease=5.0, pairing=pairing)
    assert told.episodes.size == data.num_episodes // 2
    # of each cost the greatest return, 5 floor((10 + c) / 5); 4 and 24 do not count, a lower cost returns as much
    costs = np.array([0, 8, 12, 16, 20, 28, 32, 36])
    front = np.polyfit(costs, [10, 15, 20, 25, 30, 35, 40, 45], 1)
    assert (np.diff(told.costs) > 0).all()  # evenly spaced over the costs
    assert (told.costs[0], told.costs[-1]) == (0, 36)
    assert (told.returns <= 80).all()
    assert (told.returns >= np.polyval(front, told.costs) + 1 - 1e-6).all()
    if pairing == "own":  # by position an episode may be told another one's target
        assert (data.cost_returns[told.episodes] <= told.costs + 1e-9).all()


def test_each_target_takes_the_nearest_by_hand():
    data = Trajectories.from_episodes(
        {"observations": np.zeros((1, 1)), "actions": np.zeros((1, 1)), "rewards": [r], "costs": [c]}
        for c, r in ((0, 10), (10, 20), (10, 5), (20, 0))
    )
    told = relabel(data, share=1.0, degree=1, margin=0.0, ceiling=1000.0, decrease=0.0)
    # targets at 0, 6.67, 13.33, 20 lie above the frontier 10 + C: the first two are nearest to (0, 10), as (10, 20)
    # costs more, the others to (10, 20); nothing else costs no more and returns as much
    np.testing.assert_array_equal(told.episodes, [0, 0, 1, 1])
    np.testing.assert_allclose(told.costs, [0, 20 / 3, 40 / 3, 20])


def test_pairings_by_hand():
    # of the targets 0, 1, 2 the first and the last chose episode 0, the other episode 1; nothing else is near
    chosen = {
        pairing: _spread(
            np.array([0, 1, 0]), np.array([9.0, 1.0]), np.zeros(2), 0.0, pairing, np.random.default_rng(0)
        )
        for pairing in ("position", "own")
    }
    np.testing.assert_array_equal(chosen["position"], [0, 0, 1])
    np.testing.assert_array_equal(chosen["own"], [0, 1, 0])


def test_an_episode_that_is_chosen_again_is_redrawn_among_those_that_give_up_little():
    returns, costs = np.array([10.0, 8.0, 7.9, 50.0]), np.array([5.0, 2.0, 1.0, 6.0])
    chosen = _spread(np.zeros(4000, int), returns, costs, 2.0, "own", np.random.default_rng(0))
    assert chosen[0] == 0
    counts = np.bincount(chosen[1:], minlength=4)
    assert counts[2] == counts[3] == 0  # one returns 2.1 less, the other costs more
    share = 1 / (1 + (1 + np.hypot(3, 2)))  # weights 1 / (1 + 0) and 1 / (1 + sqrt(13))
    assert abs(counts[1] / 3999 - share) < 5 * np.sqrt(share * (1 - share) / 3999)


def test_a_frontier_above_the_ceiling_turns_the_interval_round():
    data = plane()
    told = relabel(data, share=0.5, degree=0, margin=1.0, ceiling=2.0)
    assert told.returns.min() >= 2
    assert np.isfinite(told.returns).all()


@pytest.mark.parametrize("episodes", [1, 2, 7])
def test_small_logs_are_relabelled_too(episodes):
    data = toy_episodes([4] * episodes)
    told = relabel(data, share=1.0, degree=4, margin=1.0)
    assert told.episodes.size == episodes
    assert np.isfinite([told.returns, told.costs]).all()
    assert relabel(data, share=0.0, degree=4, margin=1.0).episodes.size == 0
    again = relabel(data, share=1.0, degree=4, margin=1.0)
    np.testing.assert_array_equal(told.returns, again.returns)


@pytest.mark.parametrize("cap", [4.0, 1.0])
def test_estimated_costs_make_the_index_that_the_log_s_own_would(cap):
    data = replace(log(), costs=np.float32([0, 0.25, 0, 1, 0.5, 1, 0.5, 0, 1.5]))  # 1.75, 1 and 2 an episode
    store = Store.make(data, ())
    logged = index(data, places=0, cap=cap)
    made = jax.jit(SequenceIndex.estimated, static_argnums=3)(
        logged.return_to_go, jnp.asarray(data.costs), store.offsets, cap
    )
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(logged), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
