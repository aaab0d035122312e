"""Filters of whole episodes: every rule on numbers worked out by hand, and what is recorded."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from safetrax.data import Trajectories, load
from safetrax.data.filters import (
    FILTERS,
    Boundary,
    Demonstrations,
    Density,
    Drop,
    Epsilon,
    Fill,
    Filter,
    Frontier,
    Inpaint,
    Labelled,
    LabelsFromCosts,
    Noise,
    Outliers,
    QualityMix,
    Relabel,
    Resample,
    Risky,
    Safe,
    Spikes,
    Split,
    Stuck,
    Thin,
    TopK,
    apply_filters,
    dsrl_preprocess,
    filter_steps,
    filters_of,
    fit_frontier,
    pareto_set,
)
from safetrax.errors import ConfigError, DataError, TaskError

# one usable setting of every filter, for data of `plane(range(10), range(10))`
EXAMPLES: dict[str, Filter] = {
    "density": Density(cost_bins=2, return_bins=2, most=2, fewest=1),
    "outliers": Outliers(0.2, 4, cost_max=10, return_max=10),
    "inpaint": Inpaint(((0.2, 0.5, 0, 1),), cost_range=(0, 10)),
    "epsilon": Epsilon(1.5, 4),
    "noise": Noise(0.1),
    "safe": Safe(4),
    "risky": Risky(3),
    "boundary": Boundary(4),
    "frontier": Frontier(),
    "top-k": TopK(3, cost_limit=5),
    "quality-mix": QualityMix((1, 3), 2),
    "thin": Thin(4),
    "demonstrations": Demonstrations(2, 4),
    "labelled": Labelled("unknown"),
    "labels-from-costs": LabelsFromCosts(2, cost_limit=4),
    "spikes": Spikes(20),
    "stuck": Stuck(5),
    "fill": Fill(3),
    "split": Split(),
    "drop": Drop(),
    "resample": Resample("2"),
    "relabel": Relabel("o1 - a0", "o0 > 3"),
}


def plane(
    returns, costs, *, task: str | None = None, steps: int = 6, next_observations: bool = False
) -> Trajectories:
    """Episodes of such returns and costs, all earned in the first step; an observation is (episode, step)."""
    info = {"task": task} if task else {}
    episodes = []
    for number, (value, cost) in enumerate(zip(returns, costs, strict=True)):
        first = np.eye(steps)[0]
        rows = np.stack([np.full(steps, number), np.arange(steps)], axis=1)
        episode = {"observations": rows, "actions": np.zeros((steps, 1)), "rewards": value * first}
        if next_observations:
            episode["next_observations"] = rows + 1
        episodes.append({**episode, "costs": cost * first})
    return Trajectories.from_episodes(episodes, info=info)


def kept(data: Trajectories) -> list[int]:
    """The numbers that the episodes had in `plane`."""
    return data.observations[data.offsets[:-1], 0].astype(int).tolist()


TEN = plane(range(10), range(10))


# density


def test_density_thins_crowds_and_drops_the_lonely_and_the_maximum_is_alone():
    # costs 0..10 in two cells of width 5: 0, 1, 2 | 5, 6 | and 10 in a cell of its own
    data = plane([0] * 6, [0, 1, 2, 5, 6, 10])
    numbers = kept(Density(cost_bins=2, return_bins=1, most=2, fewest=1)(data))
    assert len(set(numbers) & {0, 1, 2}) == 2
    assert set(numbers) >= {3, 4}
    assert 5 not in numbers
    assert 5 in kept(Density(cost_bins=2, return_bins=1, most=2, fewest=0)(data))


def test_density_drops_a_cell_with_exactly_the_fewest_and_keeps_one_with_exactly_the_most():
    data = plane([0] * 6, [0, 0, 0, 9, 9, 10])  # cells of 3, 2 and 1
    assert kept(Density(cost_bins=2, return_bins=1, most=3, fewest=2)(data)) == [0, 1, 2]
    assert kept(Density(cost_bins=2, return_bins=1, most=3, fewest=1)(data)) == [0, 1, 2, 3, 4]


def test_density_leaves_out_what_lies_outside_of_the_given_ranges_and_spans_the_common_part():
    # the grid spans costs 2..10 (given 2..99, data 0..10): cells [2, 6), [6, 10), {10}
    data = plane([5] * 6, [0, 1, 2, 5.9, 6, 10])
    grid = Density(cost_bins=2, return_bins=1, most=9, fewest=1, cost_range=(2, 99))
    assert kept(grid(data)) == [2, 3]
    assert kept(Density(cost_bins=2, return_bins=1, most=9, fewest=0, return_range=(5, 6))(data)) == [*range(6)]


def test_density_takes_grid_and_ranges_from_the_task():
    # BallRun at 0.5: 10 x 15 cells, at most 7, more than 2; costs 0 to 80, returns 26.3 to 1327.4
    demo = load("demo")
    low, high = 26.339754104614258, 1327.445556640625
    cells = defaultdict(list)
    assert demo.returns.min() < low < high < demo.returns.max()  # so the task's range is the grid's
    for number, (cost, value) in enumerate(zip(demo.cost_returns, demo.returns, strict=True)):
        if low <= value <= high:
            cells[math.floor(cost / 8), math.floor((value - low) / ((high - low) / 15))].append(number)
    numbers = set(Density(0.5).episodes(demo).tolist())
    for members in cells.values():
        expected = 0 if len(members) <= 2 else min(len(members), 7)
        assert len(numbers & set(members)) == expected
    assert len(numbers) == sum(min(len(m), 7) for m in cells.values() if len(m) > 2) == 216
    assert Density(0.5, most=1, fewest=0)(demo).num_episodes == len(cells)


def test_density_forgives_rounding_at_the_reference():
    # DSRL's constants are float32 sums: a best episode that rounds to just above stays
    data = plane([10.000001, 9.0, 0], [0, 0, 0])
    assert kept(Density(cost_bins=1, return_bins=1, most=9, fewest=0, return_range=(0, 10))(data)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("entry", "task", "error", "message"),
    [
        (
            Density(0.5),
            None,
            DataError,
            "needs a grid of the benchmark, but the data set names no task; load it with",
        ),
        (Density(0.3), "BallRun", DataError, "BallRun has grids for the shares 0.5 and 0.75 only, not for 0.3"),
        (Density(0.5), "Nowhere", TaskError, "no task 'Nowhere'"),
        (Density(fewest=9), None, DataError, "keeps none of the 10 episodes: the fullest cell has 1"),
        (Density(cost_range=(20, 30)), None, DataError, "all lie outside of the reference ranges"),
    ],
)
def test_density_says_what_it_lacks(entry, task, error, message):
    with pytest.raises(error, match=message):
        entry(plane(range(10), range(10), task=task))


# outliers


def test_outliers_look_safe_and_better():
    # C_max / 2 = 5 and R_max / 2 = 5: episodes 5 to 9 qualify, 20% of 10 are 2 of them
    entry = Outliers(0.2, cost_limit=4, cost_max=10, return_max=10)
    data = entry(TEN)
    changed = [e for e in range(10) if data.cost_returns[e] != e or data.returns[e] != e]
    assert len(changed) == 2
    assert min(changed) >= 5
    for e in range(10):
        episode = data.episode(e)
        if e in changed:
            assert set(episode["costs"].tolist()) <= {0.0, 1.0}
            assert data.cost_returns[e] <= 3
            assert data.returns[e] == 1.5 * e
        np.testing.assert_array_equal(episode["observations"], TEN.episode(e)["observations"])
    assert kept(data) == list(range(10))


def test_outliers_draw_in_the_order_of_dsrls_code():
    rng = np.random.Generator(np.random.PCG64(1234))
    chosen = rng.choice(np.arange(5, 10), size=3, replace=False)
    new_costs = rng.choice(np.arange(4), size=3)
    data = Outliers(0.3, cost_limit=4.9, cost_max=10, return_max=10)(TEN)
    for e, cost in zip(chosen, new_costs, strict=True):
        steps = rng.choice(np.arange(6), cost, replace=False)
        assert sorted(np.flatnonzero(data.episode(int(e))["costs"]).tolist()) == sorted(steps.tolist())


def test_outliers_cover_all_costs_below_the_limit_and_no_other():
    data = plane([10] * 400, [10] * 400)
    after = Outliers(1.0, cost_limit=3.5, cost_max=10, return_max=10, seed=5)(data)
    assert sorted(set(after.cost_returns.tolist())) == [0, 1, 2]
    assert set(after.returns.tolist()) == {15}


def test_at_least_one_outlier_and_none_longer_than_its_episode():
    one = Outliers(0.001, cost_limit=1, cost_max=10, return_max=10)(TEN)
    assert np.count_nonzero(one.returns != TEN.returns) == 1
    short = plane([10] * 50, [10] * 50, steps=2)
    assert Outliers(1.0, cost_limit=40, cost_max=10, return_max=10)(short).cost_returns.max() == 2


def test_outliers_take_their_references_from_the_task():
    demo = load("demo")
    data = Outliers(0.05, cost_limit=20)(demo)
    changed = np.flatnonzero(data.returns != demo.returns)
    assert len(changed) == 15
    assert demo.cost_returns[changed].min() >= 40
    assert demo.returns[changed].min() >= 1327.445556640625 / 2
    np.testing.assert_allclose(data.returns[changed], 1.5 * demo.returns[changed], rtol=1e-6)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Outliers(0.6, 4, cost_max=10, return_max=10), "needs 6 of the 10 episodes, but only 5 reach half"),
        (Outliers(0.2, 4), "needs the task's largest cost and return, but the data set names no task"),
    ],
)
def test_outliers_say_what_they_lack(entry, message):
    with pytest.raises(DataError, match=message):
        entry(TEN)


# inpainting


def test_inpaint_takes_fractions_of_the_returns_of_the_costs_that_it_looks_at():
    # costs 2, 4, 6 are looked at (0.2 to 0.6 of 0..10); their returns 10, 20, 30: the upper half is 20 and 30. Of all
    # returns, 0..100, the upper half would be none of them
    data = plane([100, 10, 20, 30, 0, 100], [0, 2, 4, 6, 8, 10])
    assert kept(Inpaint(((0.2, 0.6, 0.5, 1),), cost_range=(0, 10))(data)) == [0, 1, 4, 5]
    assert kept(Inpaint(((0.2, 0.6, 0, 0.49),), cost_range=(0, 10))(data)) == [0, 2, 3, 4, 5]


def test_inpaint_takes_one_range_after_the_other():
    # the first removes return 40; the second sees 0..20 only, so that its upper half is 20
    data = plane([0, 12, 20, 40], [1, 1, 1, 1])
    first, second = (0, 1, 0.9, 1), (0, 1, 0.7, 1)
    assert kept(Inpaint((first, second), cost_range=(0, 10))(data)) == [0, 1]
    assert kept(Inpaint((second,), cost_range=(0, 10))(data)) == [0, 1, 2]


def test_inpaint_uses_the_tasks_range_of_costs():
    data = plane(range(4), [20, 40, 60, 70], task="BallRun")  # 0 to 80
    assert kept(Inpaint(((0.25, 0.5, 0, 1),))(data)) == [2, 3]
    with pytest.raises(DataError, match="needs the task's range of costs, but the data set names no task"):
        Inpaint(((0.25, 0.5, 0, 1),))(TEN)


def test_inpaint_of_an_empty_rectangle_removes_nothing():
    assert kept(Inpaint(((0.5, 0.6, 0, 1),), cost_range=(0, 100))(TEN)) == list(range(10))


def test_outliers_survive_inpainting_in_the_same_call_only():
    outliers = Outliers(0.2, cost_limit=4, cost_max=10, return_max=10)
    everything_rewarding = Inpaint(((0, 1, 0.5, 1),), cost_range=(0, 10))
    changed = np.flatnonzero(outliers(TEN).returns != TEN.returns).tolist()
    together = apply_filters(TEN, [outliers, everything_rewarding])
    assert set(changed) <= set(kept(together))
    assert not set(changed) & set(kept(everything_rewarding(outliers(TEN))))
    # a filter between them moves the episodes, and they are still known
    moved = apply_filters(TEN, [outliers, TopK(8), everything_rewarding])
    assert set(changed) <= set(kept(moved))


# epsilon


def test_epsilon_above_zero_removes_the_best_safe_episodes():
    # safe: 0..4, best return 4: 3 and 4 are within 1.5 of it
    assert kept(Epsilon(1.5, 4)(TEN)) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert kept(Epsilon(1, 4)(TEN)) == [0, 1, 2, 5, 6, 7, 8, 9]  # the end counts


def test_epsilon_below_zero_removes_the_best_unsafe_episodes():
    # unsafe: 5..9, best return 9: 8 and 9 are within 1 of it
    assert kept(Epsilon(-1, 4)(TEN)) == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Epsilon(1, 0), None),
        (Epsilon(-1, 20), "finds no unsafe episode to remove; lower its cost_limit"),
        (Epsilon(99, 20), "keeps none of the 10 episodes: their returns differ by 9 only"),
    ],
)
def test_epsilon_says_what_it_lacks(entry, message):
    if message is None:
        assert kept(entry(TEN)) == list(range(1, 10))
        return
    with pytest.raises(DataError, match=message):
        entry(TEN)


def test_epsilon_without_a_safe_episode():
    with pytest.raises(DataError, match="finds no safe episode to remove; raise its cost_limit"):
        Epsilon(1, 4)(plane([1], [5]))


# noise


def test_noise_has_the_deviation_of_all_observations_together():
    data = plane(range(400), range(400), steps=50, next_observations=True)
    noisy = Noise(0.1)(data)
    for name in ("observations", "next_observations"):
        clean = getattr(data, name)
        added = getattr(noisy, name) - clean
        assert abs(added.mean()) < 0.1 * clean.std() * 0.03
        # the first column varies by 115, the second by 14: both get the same noise, that of all numbers together
        np.testing.assert_allclose(added.std(axis=0), 0.1 * clean.std(), rtol=0.03)
    first, second = noisy.observations - data.observations, noisy.next_observations - data.next_observations
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    for name in ("actions", "rewards", "costs", "terminated", "truncated", "offsets"):
        np.testing.assert_array_equal(getattr(noisy, name), getattr(data, name))
    assert Noise(0.1)(TEN).next_observations is None


def test_noise_is_what_one_draw_would_give_though_drawn_in_parts(monkeypatch):
    whole = np.random.Generator(np.random.PCG64(7)).normal(0, TEN.observations.std(dtype=float), (60, 2))
    monkeypatch.setattr("safetrax.data.columns.CHUNK_ROWS", 7)
    np.testing.assert_allclose(Noise(0.5, seed=7)(TEN).observations, TEN.observations + 0.5 * whole, rtol=1e-5)


# selections


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Safe(4), [0, 1, 2, 3, 4]),
        (Safe(0), [0]),
        (Risky(3), [6, 7, 8, 9]),  # from twice the limit on, which counts
        (Risky(0), list(range(10))),
        (Boundary(4), [3, 4, 5, 6]),  # above 2, up to 6
        (TopK(2), [8, 9]),
        (TopK(2, cost_limit=6), [5, 6]),
        (TopK(2, by="cost"), [0, 1]),
        (TopK(99), list(range(10))),
        (TopK(99, cost_limit=1), [0, 1]),
    ],
)
def test_selections_by_hand(entry, expected):
    assert entry.episodes(TEN).tolist() == expected
    assert kept(entry(TEN)) == expected


def test_the_limit_forgives_float32_rounding():
    data = plane([0], [0], steps=10)
    tenths = Trajectories.from_episodes([{**data.episode(0), "costs": np.full(10, 0.1)}])
    assert tenths.cost_returns[0] > 1  # 1.0000000149
    assert Safe(1)(tenths).num_episodes == 1
    assert Risky(0.5)(tenths).num_episodes == 1


def test_top_k_breaks_ties_by_the_other_criterion_and_then_by_order():
    data = plane([5, 5, 5, 1], [3, 1, 1, 0])
    assert kept(TopK(1)(data)) == [1]
    assert kept(TopK(2)(data)) == [1, 2]
    assert kept(TopK(3)(data)) == [0, 1, 2]
    assert kept(TopK(2, by="cost")(data)) == [1, 3]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Safe(1), r"the filter safe:1 keeps none of the 2 episodes: the cheapest costs 3; raise the limit\."),
        (Risky(3), "the dearest costs 4, less than twice the limit; lower the limit"),
        (Boundary(100), "their costs go from 3 to 4; move the limit"),
        (TopK(3, cost_limit=1), "the cheapest costs 3; raise the limit"),
        (QualityMix((1, 1), 1), "finds no safe episode to mix; raise its cost_limit"),
        (QualityMix((1, 1), 9), "finds no unsafe episode to mix; lower its cost_limit"),
        (
            QualityMix((1, 1), 3, safe_episodes=2),
            "asks for 2 safe episodes, but only 1 cost at most 3; ask for fewer",
        ),
        (Inpaint(((0, 1, 0, 1),), cost_range=(0, 9)), "its ranges cover them all"),
    ],
)
def test_a_filter_that_leaves_nothing_says_what_to_loosen(entry, message):
    with pytest.raises(DataError, match=message):
        entry(plane([0, 1], [3, 4]))


# frontier


def test_pareto_set_by_hand():
    # best at 0, dominated, equal to the best, dearer and better, as dear but worse, dearer and no better
    returns, costs = np.array([5.0, 4, 5, 8, 7, 8]), np.array([0.0, 0, 0, 2, 2, 3])
    assert pareto_set(returns, costs).tolist() == [True, False, True, True, False, False]


@given(hnp.arrays(int, st.tuples(st.integers(1, 25), st.just(2)), elements=st.integers(0, 6)))
def test_pareto_set_is_what_nothing_dominates(points):
    returns, costs = points.T.astype(float)
    expected = [
        not any(r2 >= r and c2 <= c and (r2 > r or c2 < c) for r2, c2 in zip(returns, costs, strict=True))
        for r, c in zip(returns, costs, strict=True)
    ]
    assert pareto_set(returns, costs).tolist() == expected


@pytest.mark.parametrize(
    ("costs", "returns", "expected"),
    [
        ([3], [7], [7]),  # one point, or equal returns: degree 0
        ([0, 1, 2], [1, 3, 5], [2, 1]),  # a line
        ([0, 1, 2, 3], [0, 1, 2, 2.5], [0.85, 0.1]),  # r^2 = 0.98: a line is good enough
        ([0, 1, 2, 3, 4], [4, 1, 0, 1, 4], [1, -4, 4]),  # r^2 of a line is 0, so a parabola: (C - 2)^2
        ([0, 1, 2, 3], [0, 1, 0, 1], [0, 0.2, 0.2]),  # r^2 = 0.2 in either case: the parabola, which is a line here
    ],
)
def test_the_frontiers_degree_is_the_lowest_that_fits(costs, returns, expected):
    np.testing.assert_allclose(fit_frontier(np.array(returns, float), np.array(costs, float)), expected, atol=1e-9)


def test_frontier_keeps_a_band_of_a_fifth_of_the_returns():
    # the Pareto set is R = 10 + 10 C at C = 0..4, a line; returns go from 0 to 50, so the band is 10 to each side
    returns = [10, 20, 30, 40, 50, 0, 0, 10.5, 40, 39.9]
    costs = [0, 1, 2, 3, 4, 0, 0.01, 1, 4, 4]
    assert kept(Frontier()(plane(returns, costs))) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert kept(Frontier(tolerance=0)(plane(returns, costs))) == [0, 1, 2, 3, 4]


def test_frontier_of_equal_returns_keeps_them():
    assert kept(Frontier()(plane([3, 3, 3], [0, 1, 2]))) == [0, 1, 2]


# quality mixes


@pytest.mark.parametrize(("ratio", "safe", "unsafe"), [((8, 1), 16, 2), ((1, 1), 16, 16), ((1, 3), 16, 48)])
def test_quality_mixes_of_bars(ratio, safe, unsafe):
    # 16 safe and 10 unsafe episodes: these are thinned to 2, or repeated 1.6 and 4.8 times
    costs = [0] * 16 + [9] * 10
    data = QualityMix(ratio, 5)(plane(range(26), costs))
    numbers = np.array(kept(data))
    assert (np.count_nonzero(numbers < 16), np.count_nonzero(numbers >= 16)) == (safe, unsafe)
    assert len(set(numbers[numbers < 16])) == safe
    counts = np.bincount(numbers[numbers >= 16] - 16, minlength=10)
    assert counts.max() - counts.min() <= 1  # evenly repeated
    assert data.num_transitions == (safe + unsafe) * 6
    assert (data.cost_returns <= 5).sum() == safe


def test_quality_mix_of_a_given_number_of_safe_episodes():
    data = QualityMix((1, 3), 5, safe_episodes=4)(plane(range(26), [0] * 16 + [9] * 10))
    numbers = kept(data)
    assert len([n for n in numbers if n < 16]) == len({n for n in numbers if n < 16}) == 4
    assert len([n for n in numbers if n >= 16]) == 12


def test_a_mix_always_has_an_unsafe_episode():
    assert QualityMix((100, 1), 5)(plane(range(4), [0, 0, 0, 9])).num_episodes == 4


# thinning


def test_thin_covers_the_corners():
    data = plane([0] * 20 + [9, 0, 9], [0] * 20 + [0, 9, 9])
    assert kept(Thin(4)(data))[1:] == [20, 21, 22]
    assert kept(Thin(99)(data)) == list(range(23))


# labels


def test_demonstrations_are_the_safe_episodes_of_highest_return_and_costs_are_hidden():
    data = plane([9, 5, 7, 7, 8, 1], [5, 4, 3, 0, 4.5, 0])  # 1, 2, 3 and 5 are safe at 4; of equals the first counts
    marked = Demonstrations(2, cost_limit=4)(data)
    assert marked.labels.tolist() == [0, 0, 1, 1, 0, 0]
    assert Demonstrations(1, cost_limit=4)(data).labels.tolist() == [0, 0, 1, 0, 0, 0]
    assert marked.costs is None
    np.testing.assert_array_equal(marked.hidden_costs, data.costs)
    with pytest.raises(DataError, match=r"needs 5 safe episodes, but only 4 of 6 are; raise its cost_limit"):
        Demonstrations(5, cost_limit=4)(data)
    with pytest.raises(ConfigError, match="k is 0"):
        Demonstrations(0, cost_limit=4)


def test_labels_from_costs_are_of_both_kinds():
    data = plane([9, 5, 7, 6, 8, 1], [5, 4, 3, 0, 4.5, 0])
    assert LabelsFromCosts(cost_limit=4)(data).labels.tolist() == [-1, 1, 1, 1, -1, 1]
    assert LabelsFromCosts(1, cost_limit=4, by="return")(data).labels.tolist() == [-1, 0, 1, 0, 0, 0]
    for seed in range(5):
        marked = LabelsFromCosts(2, cost_limit=4, seed=seed)(data)
        assert marked.costs is None
        assert np.flatnonzero(marked.labels == -1).tolist() == [0, 4]
        assert len(set(np.flatnonzero(marked.labels == 1)) & {1, 2, 3, 5}) == 2
        assert np.count_nonzero(marked.labels) == 4
    with pytest.raises(DataError, match=r"needs 3 unsafe episodes, but only 2 of 6 are; lower its cost_limit"):
        LabelsFromCosts(3, cost_limit=4)(data)


@pytest.mark.parametrize(
    "entry",
    [entry for name, entry in EXAMPLES.items() if not entry.mends and name not in ("noise", "labelled")],
    ids=str,
)
def test_filters_that_need_costs_say_so(entry):
    hidden = Demonstrations(2, 4)(TEN)
    with pytest.raises(DataError) as caught:
        entry(hidden)
    assert str(caught.value).startswith(f"the filter {entry} needs costs, and the log holds no costs but those that ")
    with pytest.raises(DataError, match="in HDF5 and NPZ costs"):
        entry(replace(hidden, hidden_costs=None))


def test_labels_go_with_their_episodes_through_filters_that_need_no_costs():
    hidden = Demonstrations(2, 4)(TEN)
    best = TopK(6)(hidden)
    assert kept(best) == [4, 5, 6, 7, 8, 9]
    assert best.labels.tolist() == [1, 0, 0, 0, 0, 0]
    assert kept(Labelled()(hidden)) == [3, 4]
    with pytest.raises(DataError, match=r"keeps none of the 10 episodes: they are 2 safe, 8 unknown, 0 unsafe"):
        Labelled("unsafe")(hidden)
    assert best.hidden_costs[best.offsets[:-1]].tolist() == [4, 5, 6, 7, 8, 9]


# all of them


def test_every_filter_is_in_the_registry_and_has_an_example():
    assert set(FILTERS) == set(EXAMPLES)
    assert all(type(EXAMPLES[name]) is kind and kind.name == name for name, kind in FILTERS.items())


@pytest.mark.parametrize("entry", EXAMPLES.values(), ids=str)
def test_a_filter_changes_nothing_in_place_and_repeats_itself(entry):
    data = plane(range(10), range(10))
    before, info = data.fingerprint(), dict(data.info)
    first, second = entry(data), entry(data)
    fresh = plane(range(10), range(10))
    assert data.fingerprint() == before == fresh.fingerprint()
    np.testing.assert_array_equal(data.costs, fresh.costs)
    assert data.info == info
    assert first.fingerprint() == second.fingerprint()
    assert first.info == second.info


@pytest.mark.parametrize("entry", EXAMPLES.values(), ids=str)
def test_the_record_is_json_and_leads_back_to_the_filter(entry):
    data = entry(TEN)
    (record,) = json.loads(json.dumps(data.info["filters"], allow_nan=False))
    assert record["name"] == entry.name
    assert record["episodes"] == [10, data.num_episodes]
    assert record["transitions"] == [60, data.num_transitions]
    assert filters_of([record]) == (entry,)


@pytest.mark.parametrize("kind", [Density, Outliers, Noise, QualityMix, Thin, LabelsFromCosts])
def test_the_seed_decides(kind):
    data = plane(np.arange(60) % 20, np.arange(60) // 6)
    arguments = {
        Density: {"cost_bins": 2, "return_bins": 2, "most": 5},
        Outliers: {"share": 0.1, "cost_limit": 4, "cost_max": 10, "return_max": 20},
        Noise: {"scale": 0.1},
        QualityMix: {"ratio": (8, 1), "cost_limit": 4},
        Thin: {"target": 20},
        LabelsFromCosts: {"k": 5, "cost_limit": 4},
    }[kind]
    prints = [kind(**arguments, seed=seed)(data).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_filters_are_applied_in_order_and_recorded_one_after_the_other():
    data = apply_filters(TEN, [Safe(6), TopK(3), Epsilon(0.5, 99)])
    assert kept(data) == [4, 5]
    assert [(r["name"], r["episodes"]) for r in data.info["filters"]] == [
        ("safe", [10, 7]),
        ("top-k", [7, 3]),
        ("epsilon", [3, 2]),
    ]
    assert kept(apply_filters(TEN, [TopK(3), Epsilon(0.5, 99)])) == [7, 8]
    more = TopK(1)(data)
    assert [r["name"] for r in more.info["filters"]] == ["safe", "top-k", "epsilon", "top-k"]
    assert len(data.info["filters"]) == 3
    assert [after.num_episodes for after in filter_steps(TEN, [Safe(6), TopK(3)])] == [7, 3]
    assert apply_filters(TEN, filters_of(data.info["filters"])).fingerprint() == data.fingerprint()


def test_no_filters_leave_the_data_as_they_are():
    assert apply_filters(TEN, []) is TEN


def test_a_filter_that_keeps_all_copies_nothing():
    after = Safe(99)(TEN)
    assert np.shares_memory(after.observations, TEN.observations)
    assert after.info["filters"][0]["episodes"] == [10, 10]


def test_other_facts_of_the_data_stay():
    data = Safe(5)(Trajectories.from_episodes([TEN.episode(3)], action_low=-2, action_high=3, info={"source": "x"}))
    assert data.info["source"] == "x"
    assert (data.action_low[0], data.action_high[0]) == (-2, 3)


# DSRL's order


def test_dsrl_preprocess_is_its_filters_in_its_order():
    demo = load("demo")
    ranges = [(0.5, 0.8, 0, 0.5)]
    data = dsrl_preprocess(
        demo,
        noise_scale=0.1,
        epsilon=-50,
        inpaint_ranges=ranges,
        outliers_percent=0.05,
        density=0.75,
        cost_limit=20,
        seed=3,
    )
    order = [
        Density(0.75, seed=3),
        Outliers(0.05, 20, seed=3),
        Inpaint(tuple(ranges)),
        Epsilon(-50, 20),
        Noise(0.1, seed=3),
    ]
    assert data.fingerprint() == apply_filters(demo, order).fingerprint()
    assert [record["name"] for record in data.info["filters"]] == [entry.name for entry in order]
    assert dsrl_preprocess(demo) is demo
    assert dsrl_preprocess(demo, inpaint_ranges=ranges).num_episodes < 300
    with pytest.raises(ConfigError, match="need a cost_limit"):
        dsrl_preprocess(demo, epsilon=-50)


# settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Density(1.0), "share is 1.0, but must lie between 0 and 1"),
        (lambda: Density(cost_bins=0), "cost_bins is 0, but must be at least 1"),
        (lambda: Density(cost_range=(5, 5)), r"cost_range is \(5, 5\), but must go from low to high"),
        (lambda: Density(seed=-1), "seed is -1"),
        (lambda: Outliers(0.0, 10), "share is 0.0"),
        (lambda: Outliers(0.1, 0.5), "cost_limit is 0.5, but must be at least 1"),
        (lambda: Outliers(0.1, 10, reward_factor=math.inf), "reward_factor is inf"),
        (lambda: Inpaint(()), "at least one range"),
        (lambda: Inpaint(((0.5, 0.2, 0, 1),)), "from low to high"),
        (lambda: Inpaint(((0, math.nan, 0, 1),)), "be finite"),
        (lambda: Epsilon(0, 10), "epsilon is 0"),
        (lambda: Epsilon(1, -1), "cost limit -1 must be"),
        (lambda: Noise(-0.1), "scale is -0.1, but must be positive"),
        (lambda: Noise(math.nan), "scale is nan"),
        (lambda: Safe(math.inf), "cost limit inf must be"),
        (lambda: Boundary(0), "cost_limit is 0, but must be positive"),
        (lambda: Frontier(-1), "tolerance is -1"),
        (lambda: TopK(0), "k is 0"),
        (lambda: QualityMix((0, 1), 5), r"ratio is \(0, 1\)"),
        (lambda: QualityMix((1, 1), 5, safe_episodes=0), "safe_episodes is 0"),
        (lambda: Thin(0), "target is 0"),
        (lambda: filters_of([{"name": "sharpen"}]), "filtered by 'sharpen', which this version does not have"),
        (lambda: filters_of([{"name": "thin", "settings": {"colour": 3}}]), "filter thin has other settings"),
    ],
)
def test_wrong_settings_are_one_sentence(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
