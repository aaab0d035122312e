"""Learning from labels instead of costs: what is desirable, what is cloned, and that hidden costs are never seen."""

from __future__ import annotations

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms import BC, CPQ, TraC
from safetrax.algorithms.base import Algorithm
from safetrax.data import Trajectories
from safetrax.data.filters import Demonstrations, LabelsFromCosts
from safetrax.data.labels import SAFE, UNSAFE
from safetrax.data.marked_segments import mark_windows
from safetrax.data.segments import DESIRABLE, UNDESIRABLE, UNUSED, label_windows
from safetrax.data.store import TRANSITION_FIELDS, Store
from safetrax.errors import ConfigError, DataError, SafeTraXWarning
from safetrax.training.plan import Plan
from safetrax.training.train import train

TINY = TraC(hidden=(8,), batch_size=8, pretrain_updates=2, updates=2, standardise=False)
CLONE = BC(mode="safe", hidden=(8,), batch_size=8, updates=2)


def bare(data: Trajectories, labels: object = None) -> Trajectories:
    """Without costs."""
    bare = replace(data, costs=None)
    return bare if labels is None else bare.marked(labels)


# segments


def test_segments_have_the_label_of_their_episode_and_the_weight_one():
    data = bare(toy_episodes([3, 5, 4, 6]), {"safe": [0, 2], "unsafe": [1]})
    windows = mark_windows(data, ratio=0.67)  # 4 steps: none of the first episode, two, one and three
    assert windows.starts.tolist() == [3, 4, 8, 12, 13, 14]
    assert windows.labels.label.tolist() == [UNDESIRABLE] * 2 + [DESIRABLE] + [UNUSED] * 3
    assert windows.labels.weight.tolist() == [1, 1, 1, 0, 0, 0]
    assert windows.left_out == 1
    assert windows.covered(data.num_transitions, DESIRABLE, UNDESIRABLE) == 9 / 18
    segments = windows.segments()
    assert segments.starts.tolist() == [3, 4, 8]
    assert segments.desirable.tolist() == [False, False, True]
    # episode-uniform: the second episode is drawn as often as the third, its two windows half as often each
    np.testing.assert_allclose(segments.window_probability(), [0.25, 0.25, 0.5])
    whole = mark_windows(data, ratio="whole")
    assert whole.labels.label.tolist() == [DESIRABLE, UNDESIRABLE, DESIRABLE, UNUSED]


def test_windows_are_those_of_costs():
    data = toy_episodes([3, 5, 4, 6])
    for ratio in (0.5, "whole"):
        ours, others = mark_windows(data, ratio=ratio), label_windows(data, 1.0, ratio=ratio, top=1, bottom=0)
        for name in ("starts", "episode", "episode_windows", "episode_steps"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(others, name))


def test_usage_by_labels():
    data = bare(toy_episodes([10] * 40), {"safe": [0], "unsafe": [1, 2]})
    usage = replace(TINY, label_source="labels").usage(data, np.inf)
    counts = "labels: 1 desirable, 2 undesirable, 37 unused segments of 10 steps"
    assert str(usage) == f"{counts}; 7.5% of the log's steps are used"
    assert usage.warnings == ()
    few = data.marked({"safe": [0]})
    said = replace(TINY, label_source="labels").usage(few, np.inf).warnings
    assert said[0].startswith("by the labels no segment is undesirable, so that TraC has nothing to keep away from")
    assert said[1] == "by the labels TraC uses 2.5% of the log's steps; pretrain_data=all clones the others too."
    everything = replace(TINY, label_source="labels", pretrain_data="all")
    assert len(everything.usage(few, np.inf).warnings) == 1
    clones = replace(CLONE, label_source="labels").usage(data, np.inf)
    assert str(clones) == "labels: 1 cloned, 39 unused episodes; 2.5% of the log's steps are used"


# probes


def arms(*actions: float, count: int = 20) -> Trajectories:
    """`count` episodes of ten steps per action, all in one state."""
    return Trajectories.from_episodes(
        {"observations": np.ones((10, 1)), "actions": np.full((10, 1), action), "rewards": np.ones(10)}
        for action in actions
        for _ in range(count)
    )


def test_two_arms_that_are_marked_and_one_that_is_not():
    """Safe at -0.5, unsafe at +0.5, unknown at +0.9: the clone plays 0, TraC the loss's least point."""
    data = arms(-0.5, 0.5, 0.9).marked({"safe": range(20), "unsafe": range(20, 40)})
    algorithm = TraC(
        hidden=(32,),
        dropout=0.0,
        batch_size=64,
        pretrain_updates=300,
        updates=600,
        pretrain_learning_rate=3e-3,
        learning_rate=1e-3,
        warmup=0,
        class_counts="dataset",
        standardise=False,  # the only state would be 0
    )
    actions = np.linspace(-0.999, 0.999, 10_000)
    scale = 0.2 * (1 - 0.99**10) / (1 - 0.99)
    desirable, undesirable = (scale * (0.25 - np.square(actions - logged)) for logged in (-0.5, 0.5))
    loss = np.log1p(np.exp(-desirable)) + 0.25 * np.log1p(np.exp(undesirable))
    best = actions[np.argmin(loss)]
    assert -0.62 < best < -0.55
    run = train(algorithm, data)
    assert [policy.id.cost_limit for policy in run.policies] == [None]
    assert float(run.policies[0].act(np.ones(1))[0]) == pytest.approx(best, abs=0.02)


def test_clones_of_demonstrations_and_of_everything():
    data = arms(-0.5, 0.5, count=10).marked({"safe": [0, 1, 2]})
    algorithm = replace(CLONE, hidden=(32,), updates=200, batch_size=64, standardise=False)
    assert float(train(algorithm, data).policies[0].act(np.ones(1))[0]) == pytest.approx(-0.5, abs=0.02)
    everything = replace(algorithm, mode="all")
    with pytest.warns(SafeTraXWarning, match="BC-All does not look at the labels"):
        policy = train(everything, data).policies[0]
    assert float(policy.act(np.ones(1))[0]) == pytest.approx(0.0, abs=0.1)


# what is never seen


@pytest.fixture(scope="module")
def shown_and_changed() -> tuple[Trajectories, Trajectories]:
    """One log with costs set aside by the filter, and the same with other ones."""
    hidden = LabelsFromCosts(3, cost_limit=2)(toy_episodes([10] * 12))
    other = np.random.default_rng(1).uniform(0, 100, hidden.num_transitions).astype(np.float32)
    return hidden, replace(hidden, hidden_costs=other)


WITHOUT_COSTS = [TINY, CLONE]


@pytest.mark.filterwarnings("ignore::safetrax.errors.SafeTraXWarning")
@pytest.mark.parametrize("algorithm", WITHOUT_COSTS, ids=lambda algorithm: algorithm.name)
def test_training_does_not_see_hidden_costs(algorithm: Algorithm, shown_and_changed) -> None:
    first, second = (train(algorithm, data, cost_limits=[1.0]).policies.actor for data in shown_and_changed)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)
    decided = algorithm.resolved(shown_and_changed[0])
    indices = [jax.tree.leaves(decided.index(data, np.inf)) for data in shown_and_changed]
    for one, other in zip(*indices, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_store_never_holds_hidden_costs(shown_and_changed) -> None:
    for data in shown_and_changed:
        store = Store.make(data, TRANSITION_FIELDS)
        assert store.costs is None
        assert np.isnan(store.transitions(jnp.arange(3)).costs).all()
        own = data.hidden_costs
        assert not any(leaf.shape == own.shape and np.array_equal(leaf, own) for leaf in jax.tree.leaves(store))


# which source


def test_labels_are_used_where_there_are_some_and_both_is_said():
    costs = toy_episodes([10] * 4)
    both, neither = costs.marked({"safe": [0], "unsafe": [1]}), bare(costs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TINY.resolved(costs).label_source == "costs"
        assert TINY.resolved(costs.marked({"unknown": [0]})).label_source == "costs"
        assert TINY.resolved(neither).label_source == "costs"
        assert TINY.resolved(bare(both)).label_source == "labels"
        for source in ("costs", "labels"):
            assert replace(TINY, label_source=source).resolved(both).label_source == source
        assert BC(mode="risky").resolved(both).label_source == "costs"
    with pytest.warns(SafeTraXWarning, match="has costs and labels, and TraC learns from the labels"):
        assert TINY.resolved(both).label_source == "labels"
    assert TINY.uses_cost_limit
    assert not TINY.resolved(bare(both)).needs_cost_limits
    assert TINY.resolved(bare(both)).needs_labels == "both"
    assert replace(TINY, label_source="labels", classes="desirable").needs_labels == "safe"
    with pytest.raises(ConfigError, match="label_source is labels, but BC-Risky selects by cost"):
        BC(mode="risky", label_source="labels")


@pytest.mark.filterwarnings("ignore::safetrax.errors.SafeTraXWarning")
@pytest.mark.parametrize(
    ("algorithm", "labels", "words"),
    [
        (TINY, None, "TraC learns from costs, and the log holds no costs; if it has them, call it cost"),
        (TINY, {"safe": [0, 1]}, "TraC learns from marked episodes and none is marked unsafe"),
        (TINY, {"unsafe": [0, 1]}, "TraC learns from marked episodes and none is marked safe"),
        (CLONE, {"unsafe": [0, 1]}, "BC-Safe learns from marked episodes and none is marked safe"),
        (CPQ(), {"safe": [0], "unsafe": [1]}, "CPQ learns from costs, and the log holds no costs"),
    ],
)
def test_a_log_that_does_not_suffice(algorithm: Algorithm, labels: object, words: str) -> None:
    data = bare(toy_episodes([10] * 4), labels)
    with pytest.raises(DataError) as caught:
        Plan.make(algorithm.resolved(data), data, [1.0], (0,), None)
    assert words in str(caught.value)


def test_marked_episodes_that_are_shorter_than_a_segment():
    data = bare(toy_episodes([3, 10, 10]), {"safe": [0], "unsafe": [1]})
    short = replace(TINY, label_source="labels", segment_ratio=1.0)
    with pytest.raises(DataError, match=r"no segment is desirable by the labels; choose a smaller segment_ratio"):
        short.index(data, np.inf)
    assert replace(short, segment_ratio="whole").index(data, np.inf).starts.shape == (3,)


def test_demonstrations_make_a_plan_without_limits():
    data = Demonstrations(2, cost_limit=3)(toy_episodes([10] * 8))
    assert sorted(set(data.labels.tolist())) == [0, SAFE]
    assert UNSAFE not in data.marks
    plan = Plan.make(CLONE.resolved(data), data, None, (0, 1), None)
    assert [run.cost_limit for run in plan.ids] == [None, None]
    (usage,) = plan.usage(CLONE.resolved(data), data)
    assert usage.counts == {"cloned": 2, "unused": 6}
