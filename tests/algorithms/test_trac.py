import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms import BC, TraC
from safetrax.algorithms.base import Spec
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError, SafeTraXWarning
from safetrax.losses.classification import class_weights, classification_loss, trajectory_score
from safetrax.training.train import train

TINY = TraC(hidden=(16,), batch_size=32, pretrain_updates=3, updates=3, segment_ratio=0.5, standardise=False)


def one_state(actions: list[float], costs: list[float], count: int, lengths: Sequence[int] = (10,)) -> Trajectories:
    """`count` episodes per action, all in one state; every step of an episode repeats its action and cost."""
    return Trajectories.from_episodes(
        {
            "observations": np.ones((steps, 1)),
            "actions": np.full((steps, 1), action),
            "rewards": np.ones(steps),
            "costs": np.full(steps, cost),
        }
        for action, cost in zip(actions, costs, strict=True)
        for steps, _ in zip(cycle(lengths), range(count), strict=False)
    )


def action_in_the_state(policy) -> float:
    return float(policy.act(np.ones(1))[0])


def test_end_to_end_on_one_state():
    """500 safe episodes at -0.5 and 500 unsafe ones at +0.5: BC of the labelled ones +0.167, TraC -0.599."""
    data = one_state([-0.5, 0.5], [0.0, 1.0], 500)
    algorithm = TraC(
        hidden=(32,),
        dropout=0.0,
        weight_floor=1.0,
        batch_size=512,
        pretrain_updates=400,
        updates=1500,
        pretrain_learning_rate=3e-3,
        learning_rate=1e-3,
        warmup=0,
        class_counts="dataset",
        standardise=False,  # the only state would be 0
    )
    cloned = train(replace(algorithm, updates=0), data, cost_limits=[1.0]).policies[0]
    start = action_in_the_state(cloned)
    assert start == pytest.approx((250 * -0.5 + 500 * 0.5) / 750, abs=0.02)
    policy = train(algorithm, data, cost_limits=[1.0]).policies[0]
    end = action_in_the_state(policy)
    assert end == pytest.approx(-0.599, abs=0.01)

    # the loss there, in closed form, with 250 desirable and 500 undesirable segments of equal weight
    def score(logged: float) -> jax.Array:
        ratio = -((end - logged) ** 2) + (1 / 6 - logged) ** 2
        return trajectory_score(jnp.full((1, 10), ratio), 0.99, 0.2)

    lambdas = class_weights(jnp.asarray(1 / 3), jnp.asarray(2 / 3), 0.25)
    scores = jnp.concatenate([score(-0.5), score(0.5), score(0.5)])
    loss = classification_loss(scores, jnp.array([True, False, False]), jnp.ones(3), *lambdas)
    assert float(loss) == pytest.approx(0.1302, abs=0.001)


@pytest.mark.slow
def test_two_arms():
    """Cheap arm -0.5 and costly arm +0.5, whole episodes of either: BC-All mixes, the others play the cheap one.

    No two episodes of an arm in ten have the same length, so that segments as long as the longest were next to none.
    """
    data = one_state([-0.5, 0.5], [0.0, 1.0], 50, range(6, 16))
    algorithm = replace(TINY, segment_ratio="whole", pretrain_updates=300, updates=600, learning_rate=1e-3, warmup=0)
    policy = train(replace(algorithm, pretrain_learning_rate=3e-3), data, cost_limits=[1.0]).policies[0]
    assert action_in_the_state(policy) < -0.4
    clone = BC(hidden=(16,), updates=500, batch_size=128, learning_rate=3e-3, standardise=False)
    assert abs(action_in_the_state(train(clone, data).policies[0])) < 0.1
    safe = train(replace(clone, mode="safe"), data, cost_limits=[1.0]).policies[0]
    assert action_in_the_state(safe) == pytest.approx(-0.5, abs=0.02)


def fresh(algorithm: TraC, data: Trajectories):
    """The state before the first stage."""
    return jax.jit(algorithm.init, static_argnums=1)(jax.random.key(0), Spec.of(data))


def compiled(algorithm: TraC):
    """An update of the second stage."""
    return jax.jit(algorithm.stages()[1].update)


def test_parameter_count():
    state = fresh(TraC(), toy_episodes([3], observation_size=8))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.network)) == 68_610


def test_weights_start_orthogonal():
    state = fresh(TraC(), toy_episodes([3], observation_size=8))
    middle = state.network.weights[1]
    np.testing.assert_allclose(middle @ middle.T, np.eye(256), atol=1e-4)
    assert all(float(jnp.abs(bias).max()) == 0 for bias in state.network.biases)


def test_learning_rate_of_the_second_stage():
    schedule = TraC().schedule
    for k in (1, 2, 5000, 10_000):
        assert float(schedule(k - 1)) == pytest.approx(1e-9 * k, rel=1e-5)
    assert float(schedule(50_000)) == pytest.approx(1e-5)
    assert float(replace(TraC(), warmup=0).schedule(0)) == pytest.approx(1e-5)


def stage(algorithm: TraC, number: int, data: Trajectories, limit: float = 3.0):
    """State, store and index at the start of a stage."""
    store, index = Store.make(data, algorithm.fields), algorithm.index(data, limit)
    state = fresh(algorithm, data)
    for i in range(number + 1):
        state = jax.jit(algorithm.stages()[i].begin)(state, store, index, jax.random.key(1))
    return state, store, index


def test_scores_start_at_zero_without_dropout(toy):
    algorithm = replace(TINY, dropout=0.0)
    state, store, index = stage(algorithm, 1, toy)
    _, metrics = compiled(algorithm)(state, store, index, jax.random.key(2))
    assert float(metrics["score_desirable"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics["score_undesirable"]) == pytest.approx(0, abs=1e-6)


def test_dropout_makes_the_first_scores_slightly_negative(toy):
    state, store, index = stage(TINY, 1, toy)
    _, metrics = compiled(TINY)(state, store, index, jax.random.key(2))
    assert -1 < float(metrics["score_desirable"]) < 0


def test_cached_reference_is_the_networks_log_likelihood(toy):
    state, store, _ = stage(TINY, 1, toy)
    means = state.network(store.observations)
    expected = -jnp.sum((means - jnp.clip(store.actions, -1 + 1e-5, 1 - 1e-5)) ** 2, axis=-1)
    np.testing.assert_allclose(state.reference_log_prob, expected, atol=1e-5)


def test_an_update_changes_the_network_and_leaves_the_reference(toy):
    state, store, index = stage(replace(TINY, warmup=0), 1, toy)
    after, _ = compiled(replace(TINY, warmup=0))(state, store, index, jax.random.key(2))
    np.testing.assert_array_equal(after.reference_log_prob, state.reference_log_prob)
    assert all(bool((a != b).any()) for a, b in zip(after.network.weights, state.network.weights, strict=True))
    np.testing.assert_array_equal(after.bounds.low, state.bounds.low)


def test_loss_of_a_batch_equals_the_equation_written_out(toy):
    algorithm = replace(TINY, dropout=0.0, batch_size=8)
    state, store, index = stage(algorithm, 1, toy)
    moved = jax.tree.map(lambda w: w * 1.3, state.network)
    state = replace(state, learner=replace(state.learner, network=moved))
    key = jax.random.key(3)
    _, metrics = compiled(algorithm)(state, store, index, key)
    batch = index.sample(jax.random.split(key)[0], 8)
    desirable = int(batch.desirable.sum())
    total = 0.0
    for start, y, w in zip(batch.starts.tolist(), batch.desirable.tolist(), batch.weight.tolist(), strict=True):
        psi = 0.0
        for t in range(5):
            action = np.asarray(moved(store.observations[start + t][None])[0])
            log_prob = -np.sum((action - np.asarray(store.actions[start + t])) ** 2)
            psi += 0.99**t * 0.2 * (log_prob - float(state.reference_log_prob[start + t]))
        p = 1 / (1 + math.exp(-psi))
        lam = 1.0 if y else 0.25 * desirable / (8 - desirable)
        total -= lam * w * math.log(p if y else 1 - p)
    assert float(metrics["loss"]) == pytest.approx(total / 8, rel=1e-4)


def test_short_episodes_do_not_leak_into_their_neighbours():
    data = toy_episodes([6, 2, 6, 1], seed=2)
    algorithm = replace(TINY, segment_ratio=1.0, short_episodes=True, dropout=0.0, top=1.0)
    state, store, index = stage(algorithm, 1, data, limit=100.0)
    _, metrics = compiled(algorithm)(state, store, index, jax.random.key(0))
    assert float(metrics["score_desirable"]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"top": 1.0, "bottom": 0.5, "weight_floor": 0.0, "probability_floor": None, "discount": 1.0},
        {"classes": "desirable", "eta": 0.0, "value_range": "all"},
        {"classes": "undesirable", "reference": "uniform", "pretrain_updates": 0},
        {"pretrain_data": "all", "class_weighting": "paper", "class_counts": "dataset", "dropout": 0.0},
        {"class_weighting": "normalised", "short_episodes": True},
    ],
)
def test_every_switch_trains(toy, change):
    run = train(replace(TINY, **change), toy, cost_limits=[3.0])
    values = [row.value for row in run.metrics]
    assert values
    assert all(math.isfinite(value) for value in values)


@pytest.mark.parametrize(("classes", "share"), [("desirable", 1.0), ("undesirable", 0.0)])
def test_one_class_alone_is_all_that_is_drawn(toy, classes, share):
    index = replace(TINY, classes=classes).index(toy, 3.0)
    assert float(index.sample(jax.random.key(0), 200).desirable.mean()) == share


def test_a_constant_reference_is_zero(toy):
    state, _, _ = stage(replace(TINY, reference="uniform"), 1, toy)
    assert float(jnp.abs(state.reference_log_prob).max()) == 0


@pytest.mark.slow  # tests/algorithms/test_every_algorithm.py has this, and the next, for every algorithm
@pytest.mark.parametrize("cost", [0.0, 1.0])
def test_loss_is_finite_when_all_costs_are_equal(cost):
    data = one_state([0.3, -0.3], [cost, cost], 4)
    run = train(replace(TINY, bottom=0.5), data, cost_limits=[10.0])
    assert all(math.isfinite(row.value) for row in run.metrics)


@pytest.mark.slow
def test_loss_is_finite_with_a_single_episode():
    run = train(TINY, toy_episodes([8]), cost_limits=[8.0])
    assert all(math.isfinite(row.value) for row in run.metrics)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("top", 1.5), ("eta", -1.0), ("temperature", 0.0), ("updates", -1), ("dropout", 1.0), ("segment_ratio", 0.0)],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(TraC(), **{setting: value})


def test_no_desirable_segment_is_refused(toy):
    with pytest.raises(DataError, match="desirable"):
        replace(TINY, top=0.0, bottom=0.5).index(toy, 3.0)


def test_usage_counts_segments_and_steps():
    data = one_state([-0.5, 0.5], [0.0, 1.0], 10)
    usage = TraC().usage(data, 1.0)
    assert (usage.counts, usage.share) == ({"desirable": 5, "undesirable": 10, "unused": 5}, 0.75)
    assert str(usage) == (
        "limit 1: 5 desirable, 10 undesirable, 5 unused segments of 10 steps; 75.0% of the log's steps are used"
    )
    assert usage.warnings == ()
    index = TraC().index(data, 1.0)
    assert int(index.first[-1]) == 15
    one = replace(TraC(), classes="desirable").usage(data, 1.0)
    assert (one.counts, one.share, one.warnings) == ({"desirable": 5, "unused": 15}, 0.25, ())


def test_an_empty_class_and_a_log_that_is_hardly_used_are_warned_of():
    data = toy_episodes([40] * 50 + [41])
    with pytest.warns(SafeTraXWarning) as said:
        run = train(replace(TINY, segment_ratio=1.0, pretrain_updates=0, updates=0), data, cost_limits=[41.0])
    assert [str(entry.message) for entry in said] == [
        "at the cost limit 41 no segment is undesirable, so that TraC has nothing to keep away from; lower the "
        "limit or raise the share bottom.",
        "at the cost limit 41 TraC uses 2.0% of the log's steps; 50 of 51 episodes are shorter than a segment of 41 "
        "steps, and segment_ratio=whole uses them too.",
    ]
    (usage,) = run.config["usage"]
    assert (usage["cost_limit"], usage["counts"]) == (41.0, {"desirable": 1, "undesirable": 0, "unused": 0})
    assert usage["share"] == pytest.approx(41 / 2041)


def test_presets_are_table_4():
    gym, drive = TraC.preset("safety_gymnasium"), TraC.preset("metadrive")
    assert TraC.preset("bullet") == replace(TraC(), segment_ratio=1.0)
    assert (gym.temperature, gym.eta, gym.bottom, gym.segment_ratio, gym.discount) == (0.1, 0.5, 0.5, 0.75, 0.99)
    assert (drive.temperature, drive.eta, drive.top, drive.segment_ratio, drive.discount) == (
        0.2,
        0.25,
        0.25,
        0.25,
        1,
    )
    assert drive.pretrain_updates + drive.updates == 200_000


def test_configuration_round_trip():
    algorithm = replace(TINY, top=0.3, probability_floor=None)
    assert TraC.from_config(algorithm.config()) == algorithm
    with pytest.raises(ConfigError, match="no_such"):
        TraC.from_config({"no_such": 1})
