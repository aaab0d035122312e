import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import toy_episodes
from safetrax.data.segments import (
    DESIRABLE,
    UNDESIRABLE,
    UNUSED,
    label_items,
    label_windows,
    segment_length,
)
from safetrax.data.trajectories import Trajectories
from safetrax.envs.reach_avoid.dataset import reach_avoid_data
from safetrax.errors import ConfigError, DataError


def episodes(rewards: list[list[float]], costs: list[list[float]]) -> Trajectories:
    return Trajectories.from_episodes(
        {
            "observations": np.zeros((len(r), 1)),
            "actions": np.zeros((len(r), 1)),
            "rewards": np.asarray(r, float),
            "costs": np.asarray(c, float),
        }
        for r, c in zip(rewards, costs, strict=True)
    )


def brute_force(data, limit, ratio, top, bottom, floor, short):
    """Every window, one at a time, in exact arithmetic: {start: (label, weight)}, and whether returns all differ."""
    longest = int(data.lengths.max())
    length = math.floor(Fraction(ratio) * longest)
    windows = []
    for e in range(data.num_episodes):
        first, size = int(data.offsets[e]), int(data.lengths[e])
        steps = min(size, length)
        if size < length and not short:
            continue
        count = size - steps + 1
        for start in range(first, first + count):
            rows = slice(start, start + steps)
            cost = sum(Fraction(float(c)) for c in data.costs[rows])
            value = sum(Fraction(float(r)) for r in data.rewards[rows])
            safe = cost <= Fraction(limit) * steps / longest
            windows.append((start, value, safe, Fraction(1, count)))
    safe_ones = sorted((w for w in windows if w[2]), key=lambda w: (-w[1], w[0]))
    labels = {start: (UNDESIRABLE, 1.0) for start, _, safe, _ in windows if not safe}
    if safe_ones:
        low, high = safe_ones[-1][1], safe_ones[0][1]
        total = sum(w[3] for w in safe_ones)

        def take(ordered, share):
            chosen, mass = [], Fraction(0)
            for w in ordered:
                if mass >= share * total:
                    break
                chosen.append(w)
                mass += w[3]
            return chosen

        def g(w):
            return 1.0 if high == low else float((w[1] - low) / (high - low))

        for w in take(safe_ones, Fraction(top)):
            labels[w[0]] = (DESIRABLE, (1 - floor) * g(w) + floor)
        for w in take(safe_ones[::-1], Fraction(bottom)):
            labels[w[0]] = (UNDESIRABLE, (1 - floor) * (1 - g(w)) + floor)
    return labels, len({w[1] for w in safe_ones}) == len(safe_ones)


@st.composite
def rewards_and_costs(draw):
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    quarters = st.integers(0, 8).map(lambda k: k / 4)  # exact in binary, so that sums have no rounding
    rewards = [draw(st.lists(st.integers(-9, 9).map(float), min_size=n, max_size=n)) for n in lengths]
    costs = [draw(st.lists(quarters, min_size=n, max_size=n)) for n in lengths]
    return rewards, costs


@settings(max_examples=100, deadline=None)
@given(
    logged=rewards_and_costs(),
    limit=st.integers(0, 12),
    ratio=st.sampled_from(["1/4", "1/2", "3/4", "1"]),
    top=st.sampled_from(["0", "1/4", "1/2", "1"]),
    bottom=st.sampled_from(["0", "1/4", "1/2", "1"]),
    short=st.booleans(),
)
def test_labels_and_weights_equal_a_brute_force_enumeration(logged, limit, ratio, top, bottom, short):
    data = episodes(*logged)
    if Fraction(ratio) * data.max_length < 1:
        return
    expected, no_ties = brute_force(data, limit, ratio, top, bottom, 0.7, short)
    shares = {"top": float(Fraction(top)), "bottom": float(Fraction(bottom)), "floor": 0.7}
    try:
        found = label_windows(data, limit, ratio=float(Fraction(ratio)), include_short=short, **shares).segments()
    except DataError:
        assert all(label == UNDESIRABLE and weight == 1 for label, weight in expected.values())
        return
    assert found.starts.tolist() == sorted(expected)
    if no_ties:
        assert found.desirable.tolist() == [expected[s][0] == DESIRABLE for s in found.starts.tolist()]
        np.testing.assert_allclose(found.weight, [expected[s][1] for s in found.starts.tolist()], rtol=1e-6)
    # windows of equal return may swap places at the edge of a share: compare what a swap leaves alone
    weights = dict(zip(found.starts.tolist(), found.weight.tolist(), strict=True))
    assert int(found.desirable.sum()) == sum(label == DESIRABLE for label, _ in expected.values())
    assert sorted(weights.values()) == pytest.approx(sorted(w for _, w in expected.values()), abs=1e-6)
    assert found.episode_labelled.sum() == len(expected)


def test_labels_and_weights_by_hand():
    # five items; returns of the safe ones 10, 20, 30, 50; g = 0, .25, .5, 1
    labels = label_items(
        np.array([10.0, 20.0, 30.0, 50.0, 90.0]),
        np.array([True, True, True, True, False]),
        top=0.5,
        bottom=0.25,
        floor=0.6,
    )
    assert labels.label.tolist() == [UNDESIRABLE, UNUSED, DESIRABLE, DESIRABLE, UNDESIRABLE]
    np.testing.assert_allclose(labels.weight, [1.0, 0.0, 0.8, 1.0, 1.0], rtol=1e-6)


def test_the_paper_normalises_over_all_items():
    values, safe = np.array([10.0, 20.0, 50.0]), np.array([True, True, False])
    labels = label_items(values, safe, top=0.5, bottom=0.0, floor=0.0, value_range="all")
    np.testing.assert_allclose(labels.weight, [0.0, 0.25, 1.0])


def test_a_share_of_zero_selects_nothing():
    labels = label_items(np.arange(4.0), np.ones(4, bool), top=0.0, bottom=0.0, floor=0.7)
    assert labels.count(UNUSED) == 4


def test_a_share_is_rounded_up():
    labels = label_items(np.arange(5.0), np.ones(5, bool), top=0.5, bottom=0.0, floor=0.7)
    assert labels.count(DESIRABLE) == 3


def test_a_share_that_is_no_binary_fraction_is_not_rounded_up_by_accident():
    labels = label_items(np.arange(100.0), np.ones(100, bool), top=0.07, bottom=0.0, floor=0.7)
    assert labels.count(DESIRABLE) == 7  # 0.07 * 100 is 7.000000000000001


def test_equal_returns_count_as_best():
    labels = label_items(np.full(4, 3.0), np.ones(4, bool), top=0.5, bottom=0.0, floor=0.7)
    assert labels.weight[labels.label == DESIRABLE].tolist() == [1.0, 1.0]


def test_the_bottom_share_wins_where_both_overlap():
    labels = label_items(np.arange(4.0), np.ones(4, bool), top=1.0, bottom=0.5, floor=0.7)
    assert labels.label.tolist() == [UNDESIRABLE, UNDESIRABLE, DESIRABLE, DESIRABLE]


def test_halves_use_every_safe_segment(toy):
    segments = label_windows(toy, 5.0, ratio=0.5, top=0.5, bottom=0.5, floor=0.7).segments()
    assert segments.starts.size == segments.num_windows or segments.num_safe % 2


def test_weights_lie_between_the_floor_and_one_and_the_best_has_one(toy):
    segments = label_windows(toy, 3.0, ratio=0.5, top=0.5, bottom=0.2, floor=0.7).segments()
    assert segments.weight.min() >= np.float32(0.7)
    assert segments.weight[segments.desirable].max() == 1.0
    ones = label_windows(toy, 3.0, ratio=0.5, top=0.5, bottom=0.2, floor=1.0).segments()
    assert (ones.weight == 1.0).all()


def test_a_larger_limit_keeps_safe_segments_safe(toy):
    counts = [
        label_windows(toy, limit, ratio=0.5, top=1, bottom=0, floor=0.7).segments().num_safe for limit in range(1, 9)
    ]
    assert counts == sorted(counts)


def test_ratio_one_compares_whole_episodes_with_the_limit_itself(toy):
    segments = label_windows(toy, 3.0, ratio=1.0, top=1.0, bottom=0.0, floor=0.7).segments()
    assert segments.length == toy.max_length
    assert segments.starts[segments.desirable].tolist() == toy.offsets[:-1][toy.cost_returns <= 3].tolist()


def test_a_cost_on_the_limit_is_safe_in_spite_of_float32():
    data = episodes([[1.0] * 10], [[0.1] * 10])  # float32(0.1) * 10 = 1.0000000149
    assert label_windows(data, 1.0, ratio=1.0, top=1.0, bottom=0.0, floor=0.7).segments().num_safe == 1


def test_only_one_class_keeps_the_books_straight(toy):
    segments = label_windows(toy, 3.0, ratio=0.5, top=0.5, bottom=0.5, floor=0.7).segments()
    part = segments.only(desirable=True)
    assert part.desirable.all()
    assert part.starts.tolist() == segments.starts[segments.desirable].tolist()
    assert part.episode_labelled.sum() == part.starts.size
    assert part.num_windows == segments.num_windows


def test_short_episodes_are_left_out_unless_asked_for():
    data = toy_episodes([10, 3, 10, 4], seed=3)
    usual = label_windows(data, 10.0, ratio=0.5, top=1, bottom=0, floor=0.7).segments()
    everyone = label_windows(data, 10.0, ratio=0.5, top=1, bottom=0, floor=0.7, include_short=True).segments()
    assert everyone.starts.size == usual.starts.size + 2
    assert everyone.episode_steps.tolist() == [5, 3, 5, 4]


def test_windows_are_drawn_episode_uniformly():
    data = toy_episodes([4, 10], seed=1)
    segments = label_windows(data, 100.0, ratio=0.4, top=1, bottom=0, floor=0.7).segments()
    probability = segments.window_probability()
    assert probability[: segments.episode_labelled[0]].sum() == pytest.approx(0.5)


def test_labels_of_whole_episodes_follow_cost_and_return(toy):
    labels = label_windows(toy, 3.0, ratio="whole", top=0.5, bottom=0.0).labels
    assert (labels.label[toy.cost_returns > 3] == UNDESIRABLE).all()
    best = np.argmax(np.where(toy.cost_returns <= 3, toy.returns, -np.inf))
    assert labels.label[best] == DESIRABLE


def test_whole_episodes_of_any_length_are_compared_with_the_limit_itself():
    data = toy_episodes([79, 119, 100, 5], seed=4)
    windows = label_windows(data, 20.0, ratio="whole", top=0.5, bottom=0.0)
    assert (windows.length, windows.left_out) == (119, 0)
    assert windows.starts.tolist() == [0, 79, 198, 298]
    assert windows.episode_steps.tolist() == [79, 119, 100, 5]
    np.testing.assert_allclose(windows.cost, data.cost_returns)
    np.testing.assert_allclose(windows.value, data.returns, rtol=1e-6)
    assert windows.labels.safe.tolist() == (data.cost_returns <= 20).tolist()
    segments = label_windows(data, 20.0, ratio="whole", top=1.0, bottom=0.0, floor=0.7).segments()
    assert (segments.num_windows, segments.starts.size) == (4, 4)


def test_where_all_episodes_have_one_length_whole_episodes_are_ratio_one(toy):
    shares = {"top": 0.5, "bottom": 0.2, "floor": 0.7}
    whole, one = (label_windows(toy, 3.0, ratio=ratio, **shares).segments() for ratio in ("whole", 1.0))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(whole, name), value)


def test_episodes_that_are_too_long_for_a_segment_are_cut_into_windows():
    costs = [[1.0] * 100 + [0.0] * 402, [0.0] * 10]
    windows = label_windows(episodes([[1.0] * 502, [1.0] * 10], costs), 100.0, ratio="whole", top=1.0, bottom=0.0)
    assert windows.length == 500
    assert windows.starts.tolist() == [0, 1, 2, 502]
    np.testing.assert_allclose(windows.cost, [100.4, 99.396, 98.392, 0])  # of 502 steps each: 100 * 502 / 500 ...
    assert windows.labels.safe.tolist() == [False, True, True, True]


def test_what_is_covered_by_hand():
    data = episodes([[1.0] * 4, [2.0] * 4, [9.0] * 2], [[1.0] * 4, [0.0] * 4, [0.0] * 2])
    windows = label_windows(data, 0.0, ratio=0.75, top=0.5, bottom=0.0)  # 3 steps: two windows of each long episode
    assert windows.left_out == 1
    assert windows.labels.label.tolist() == [UNDESIRABLE, UNDESIRABLE, DESIRABLE, UNUSED]
    shares = [windows.covered(10, *labels) for labels in ((DESIRABLE,), (UNDESIRABLE,), (DESIRABLE, UNDESIRABLE), ())]
    assert shares == [0.3, 0.4, 0.7, 0.0]


def test_the_experts_short_episodes_are_used():
    """In the reach-avoid world the expert arrives long before an episode's time is up."""
    data = reach_avoid_data(5, transitions=4000)
    assert data.lengths.min() < data.max_length / 2
    windows = label_windows(data, 5.0, ratio="whole", top=1.0, bottom=0.0)
    assert (windows.left_out, windows.covered(data.num_transitions, DESIRABLE, UNDESIRABLE)) == (0, 1.0)


def test_segment_length_is_floored_without_binary_accidents():
    assert segment_length(0.29, 100) == 29
    assert segment_length(0.5, 7) == 3


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ConfigError, match="segment_ratio"):
        segment_length(ratio, 100)


def test_a_ratio_below_one_step_is_refused():
    with pytest.raises(ConfigError, match="less than one step"):
        segment_length(0.05, 10)


def test_a_limit_that_no_segment_meets_is_refused():
    data = episodes([[1.0, 1.0]], [[1.0, 1.0]])
    with pytest.raises(DataError, match=r"no segment .* meets the cost limit 0"):
        label_windows(data, 0.0, ratio=1.0, top=0.5, bottom=0.0, floor=0.7).segments()
