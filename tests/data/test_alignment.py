"""Costs-to-go that begin at the limit: what each alignment adds, by hand, and who is drawn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.data.alignment import AlignedIndex, filled_up
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories

LIMIT = 3.0
ALIGNMENTS = ("shift", "avg", "rand", "scale")


def log(costs: list[float] | None = None) -> Trajectories:
    """Four episodes, of costs 2, 0, 4 and 1."""
    data = toy_episodes([4, 2, 5, 3])
    return replace(data, costs=np.float32(costs or [1, 0, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1]))


def told(data: Trajectories, limit: float, alignment: str, seed: int = 0) -> list[np.ndarray]:
    """The cost-to-go at every step of every episode, drawn or not."""
    index = AlignedIndex.make(data, limit, alignment, seed)
    longest, store = data.max_length, Store.make(data, ("costs",))
    result = []
    for episode, length in enumerate(data.lengths):
        windows = index.sequences.windows(store, jnp.array([episode]), jnp.array([0]), longest)
        left = index.sequences.lengths[episode] - jnp.arange(longest)
        costs = index.factor[episode] * windows.costs_to_go[0] + index.slope[episode] * left
        result.append(np.asarray(costs)[:length])
    return result


def drawn(data: Trajectories, limit: float, alignment: str = "shift", size: int = 4000):
    """Windows of one step."""
    index, store = AlignedIndex.make(data, limit, alignment), Store.make(data, ("costs",))
    return jax.jit(lambda key: index.sample(key, store, size, 1))(jax.random.key(0))


def test_by_hand():
    np.testing.assert_array_equal(np.concatenate(told(log(), LIMIT, "shift")[:2]), [3, 2, 2, 1, 3, 3])
    np.testing.assert_array_equal(told(log(), LIMIT, "avg")[0], [2 + 1, 1 + 0.75, 1 + 0.5, 0 + 0.25])
    np.testing.assert_array_equal(told(log(), LIMIT, "avg")[1], [3, 1.5])
    np.testing.assert_array_equal(told(log(), LIMIT, "scale")[0], [3, 1.5, 1.5, 0])
    np.testing.assert_array_equal(told(log(), LIMIT, "scale")[1], [0, 0])  # has nothing to scale
    for alignment in ALIGNMENTS:  # one above the limit is not touched
        np.testing.assert_array_equal(told(log(), LIMIT, alignment)[2], [4, 3, 2, 1, 0])


@pytest.mark.parametrize("costs", [None, [0.25, 0, 1.5, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0.5]])
@pytest.mark.parametrize("limit", [LIMIT, 1.0, 2.5, 100.0])
@pytest.mark.parametrize("alignment", ["shift", "avg", "rand"])
def test_every_episode_within_the_limit_begins_at_it(alignment, limit, costs):
    data = log(costs)
    for own, costs_to_go in zip(data.cost_returns, told(data, limit, alignment), strict=True):
        assert costs_to_go[0] == pytest.approx(limit if own <= limit else own, rel=1e-6)
        assert (np.diff(costs_to_go) <= 1e-6 * limit).all()  # no step gives anything back
        assert costs_to_go[-1] >= -1e-6 * limit


def test_a_shift_leaves_what_was_not_spent_for_the_last_step():
    data = log()
    for own, costs, episode in zip(data.cost_returns, told(data, LIMIT, "shift"), range(4), strict=True):
        if own <= LIMIT:
            assert costs[-1] == LIMIT - own + data.episode(episode)["costs"][-1]


@pytest.mark.parametrize("alignment", ["shift", "rand", "avg"])
def test_without_costs_a_shifted_budget_never_moves_and_the_others_spend_all_of_it(alignment):
    data = replace(log(), costs=np.zeros(14, np.float32))
    for costs in told(data, LIMIT, alignment):
        assert costs[0] == pytest.approx(LIMIT)
        assert (costs == LIMIT).all() == (alignment == "shift")


def test_filling_up_keeps_zeros_and_ones_and_spends_exactly_the_limit():
    data = toy_episodes([50] * 6)
    data = replace(data, costs=(np.arange(300) % 7 == 0).astype(np.float32))
    costs = filled_up(data, 20.0)
    assert set(np.unique(costs)) == {0, 1}
    assert (costs >= data.costs).all()
    np.testing.assert_array_equal(costs.reshape(6, 50).sum(1), 20)
    np.testing.assert_array_equal(filled_up(data, 20.0), costs)
    assert (filled_up(data, 20.0, seed=1) != costs).any()
    # what does not fit into ones is spread; fractions go up to the same share of the limit
    np.testing.assert_allclose(filled_up(data, 100.0), 2.0)
    halves = filled_up(replace(data, costs=data.costs / 2), 20.0)
    np.testing.assert_allclose(halves.reshape(6, 50).sum(1), 20, rtol=1e-6)
    raised = halves > data.costs / 2
    assert halves[raised].max() == pytest.approx(0.4)


def test_episodes_within_the_limit_are_drawn_alike_and_no_others():
    data = log()
    batch = drawn(data, 1.0)
    places = [
        np.flatnonzero((data.observations == row).all(axis=1))[0] for row in np.asarray(batch.observations[:, 0])
    ]
    episodes = np.searchsorted(data.offsets, places, side="right") - 1
    assert set(episodes) == {1, 3}
    assert abs(np.mean(episodes == 1) - 0.5) < 5 * 0.5 / np.sqrt(4000)  # five standard errors, whatever the lengths
    np.testing.assert_array_equal(np.asarray(batch.costs_to_go)[:, 0], 1.0 * np.ones(4000))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_limit_above_all_costs_draws_the_whole_log_and_shapes_never_depend_on_it(alignment):
    everything, little = (AlignedIndex.make(log(), limit, alignment) for limit in (1e6, 0.0))
    np.testing.assert_allclose(np.diff(everything.sequences.cumulative, prepend=0), 0.25)
    np.testing.assert_allclose(np.diff(little.sequences.cumulative, prepend=0), [0, 1, 0, 0])
    for a, b in zip(jax.tree.leaves(everything), jax.tree.leaves(little), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.isfinite(a).all()


def test_padding_is_zero():
    data = log()
    index, store = AlignedIndex.make(data, LIMIT, "avg"), Store.make(data, ("costs",))
    batch = jax.jit(lambda key: index.sample(key, store, 200, 3))(jax.random.key(0))
    mask = np.asarray(batch.mask)
    assert not mask.all()
    assert (np.asarray(batch.costs_to_go)[~mask] == 0).all()
    assert (np.asarray(batch.costs_to_go)[mask] > 0).all()
