"""B2R: a probe with a known answer, one update by hand, what is asked for, and what is refused before any compute."""

import functools
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick import new_key, quick
from test_cdt import SIDES, STEPS, played, two_behaviours

from conftest import toy_episodes
from safetrax.algorithms.b2r import B2R
from safetrax.algorithms.base import Spec
from safetrax.catalogue import tasks
from safetrax.data.store import Store
from safetrax.errors import ConfigError, DataError, SafeTraXWarning
from safetrax.training.train import train

SMALL = {"width": 16, "blocks": 1, "heads": 2, "batch_size": 16}


def test_within_the_limit_lies_the_cheap_behaviour_alone_and_the_return_chooses_above_both():
    """At 10 only C = 0, R = 1 can be reproduced; at 40 both can, and the dear one is the log's best."""
    settings = {**SMALL, "batch_size": 32, "dropout": 0.0, "reward_scale": 10.0}
    algorithm = B2R(**settings, updates=300, learning_rate=1e-2, warmup=20)
    with quick():
        run = train(algorithm, two_behaviours(), cost_limits=(10, 40), seeds=(0, 1, 2), batching="map")
        actions = played(run.policies)
        above = [policy for policy in run.policies if policy.id.cost_limit == 40]
        modest = played([policy.adjusted(target_return=1.0) for policy in above])
    cheap, dear = (action for action, _ in SIDES.values())
    for policy, row in zip(run.policies, actions, strict=True):
        # nearer to its own behaviour than to the middle, in every step
        expected = cheap if policy.id.cost_limit == 10 else dear
        np.testing.assert_allclose(row, expected, atol=0.25, err_msg=str(policy.id))
    np.testing.assert_allclose(modest, cheap, atol=0.25)


@functools.cache
def updated():
    """One update of a policy of mean 0 and standard deviation 1, on episodes of the length of a window whose actions
    are all +-1: the algorithm, the state before and after, the metrics."""
    data = toy_episodes([3] * 8)
    data = replace(data, actions=np.where(data.actions > 0, 1, -1).astype(np.float32))
    algorithm = B2R(**SMALL, dropout=0.0, warmup=4)
    limit = float(np.median(data.cost_returns))
    store, index = Store.make(data, algorithm.fields), algorithm.index(data, limit)

    @jax.jit
    def first(key):
        state = algorithm.init(key, Spec.of(data))
        network = state.learner.network
        network = replace(network, mean=jax.tree.map(jnp.zeros_like, network.mean))
        state = algorithm._begin(replace(state, learner=replace(state.learner, network=network)), store, index, key)
        return state, *algorithm._update(state, store, index, key)

    with quick():
        return algorithm, data, limit, *first(new_key(0))


def test_losses_by_hand():
    *_, metrics = updated()
    log_prob, entropy = (
        -2 * (0.5 + 0.9189385),
        2 * 1.4189385,
    )  # a^2 = 1; log(2 pi) / 2; log(2 pi e) / 2
    assert float(metrics["log_likelihood"]) == pytest.approx(log_prob, rel=1e-5)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(metrics["action_loss"]) == pytest.approx(-log_prob - 0.1 * entropy, rel=1e-5)
    assert float(metrics["behaviour_distance"]) == pytest.approx(1, rel=1e-5)
    assert float(metrics["temperature"]) == pytest.approx(0.1, rel=1e-5)


def test_the_temperature_and_the_rate():
    algorithm, _, _, before, after, _ = updated()
    moved = float(after.log_temperature.network - before.log_temperature.network)
    assert moved == pytest.approx(-1e-4, rel=0.05)  # Adam's first step, down: the entropy is above -2
    assert [float(algorithm.schedule(count)) for count in (0, 1, 3, 100)] == pytest.approx([2.5e-5, 5e-5, 1e-4, 1e-4])
    # LAMB's steps are as long as the rate times the array, where that is not zero; else Adam's, of one per number
    for a, b in zip(*(jax.tree.leaves(s.learner.network) for s in (before, after)), strict=True):
        length = float(jnp.linalg.norm(a)) or a.size**0.5
        assert float(jnp.linalg.norm(b - a)) <= 2.5e-5 * length * 1.01 + 1e-6 * length  # rounding of float32 sums


def test_the_gradient_is_clipped_before_lamb():
    transformation = B2R(warmup=0, weight_decay=0.0)._optimiser()
    weight = {"w": jnp.array([3.0, 4.0])}
    moved, _ = transformation.update({"w": jnp.array([600.0, 800.0])}, transformation.init(weight), weight)
    # both numbers move alike, together by a share of 1e-4 of the weight's norm 5
    np.testing.assert_allclose(moved["w"], -1e-4 * 5 / np.sqrt(2), rtol=1e-4)
    clipped = optax.tree_utils.tree_get(
        transformation.update({"w": jnp.array([600.0, 800.0])}, transformation.init(weight), weight)[1], "mu"
    )
    np.testing.assert_allclose(clipped["w"], 0.1 * 0.25 * np.array([0.6, 0.8]), rtol=1e-5)


def test_the_policy_begins_with_the_limit_and_the_best_return_within_it():
    algorithm, data, limit, _, after, _ = updated()
    actor = algorithm.actor(after)
    memory = actor.reset(2)
    best = data.returns[data.cost_returns <= limit].max()
    np.testing.assert_allclose(memory.cost_left, limit, rtol=1e-6)
    np.testing.assert_allclose(memory.return_left, best, rtol=1e-6)
    memory = actor.observe(memory, jnp.array([0.5, 0.0]), jnp.array([0.0, limit + 1]))
    np.testing.assert_allclose(memory.return_left, [best - 0.5, best], rtol=1e-5)
    np.testing.assert_allclose(memory.cost_left, [limit, -1], rtol=1e-5, atol=1e-5)  # the network sees 0
    assert set(actor.adjustable) == {"target_return"}
    assert actor.longest_episode is None
    with pytest.raises(ConfigError, match="no adjustable 'cost_limit'; it has target_return"):
        actor.adjusted(cost_limit=10.0)


def test_what_is_asked_for():
    data = two_behaviours()
    table = {"target_limits": (10.0, 40.0), "target_returns": (5.0, 7.0)}

    def asked(limit: float, **settings) -> float:
        targets = B2R(**settings).index(data, limit).targets
        assert float(targets.table[0, 0]) == limit
        return float(targets.asked(limit))

    assert (asked(10.0), asked(40.0)) == pytest.approx((1, 2))
    assert (asked(10.0, **table), asked(40.0, **table)) == (5, 7)
    assert (asked(20.0, **table), asked(40.0, **table, target="max_safe")) == pytest.approx((1, 2))
    np.testing.assert_allclose(B2R().index(data, 10.0).targets.returns, 1, rtol=1e-6)  # of the episodes within


def test_presets_are_the_published_numbers():
    run = B2R.preset("bullet", "BallRun")
    assert (run.target_limits, run.target_returns) == ((10, 20, 40), (445, 455, 455))
    assert (run.cost_scale, run.reward_scale) == (100, 1000)
    hopper = B2R.preset("safety_gymnasium", "HopperVelocity")
    assert (hopper.target_limits, hopper.target_returns) == ((20, 40, 80), (1350, 1400, 1000))
    for task in tasks():
        preset = B2R.preset(task.suite, task.name)
        assert len(preset.target_limits) == len(preset.target_returns) == 3
        assert replace(
            preset, target_limits=(), target_returns=(), cost_scale=100.0, reward_scale=100.0
        ) == B2R.preset(task.suite)
    assert (B2R().batch_size, B2R().updates, B2R().warmup, B2R().context) == (2048, 100_000, 5000, 3)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="heads is 5, but must divide the width, 128"):
        B2R(heads=5)
    with pytest.raises(ConfigError, match="heads is 128, but must divide the width, 128, into even parts"):
        B2R(heads=128)
    with pytest.raises(ConfigError, match="target_returns"):
        B2R(target_limits=(10.0,))
    with pytest.raises(ConfigError, match="alignment"):
        B2R.from_config({"alignment": "average"})


def test_what_cannot_be_learnt_is_refused_and_doubted_before_any_compute(monkeypatch):
    data = two_behaviours()
    dear = data.select(np.flatnonzero(data.cost_returns > 0))
    monkeypatch.setattr("safetrax.training.train.Program", None)  # nothing is compiled
    plain = B2R(reward_scale=1.0)
    with pytest.raises(DataError, match=r"within the cost limit 10, but the log's cheapest costs 30; choose a limit"):
        train(plain, dear, cost_limits=(10,))
    with pytest.raises(DataError, match=f"context is {STEPS + 1} steps, but the longest episode has {STEPS}"):
        train(replace(plain, context=STEPS + 1), data, cost_limits=(10,))
    with pytest.raises(ConfigError, match="B2R needs cost limits"):
        train(plain, data)
    beyond = replace(plain, target_limits=(10.0,), target_returns=(2.0,))
    few = data.select([0, *[1] * 30])
    for algorithm, log, sentence in (
        (beyond, data, r"at the cost limit 10 .* the return 2, but it is trained on episodes that return 1 to 1"),
        (plain, few, r"at the cost limit 10 B2R uses 3\.2% of the log's steps; choose a limit"),
        (
            B2R(reward_scale=1000.0),
            data,
            r"the log's returns are up to 2, .* reward_scale 1000 .* hardly tells apart",
        ),
    ):
        with pytest.warns(SafeTraXWarning, match=sentence), pytest.raises(TypeError):
            train(algorithm, log, cost_limits=(10,))
    varied = toy_episodes([10] * 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError):
            train(plain, varied, cost_limits=(float(np.median(varied.cost_returns)),))


def test_usage_counts_what_is_drawn():
    usage = B2R().usage(two_behaviours(), 10.0)
    assert usage.counts == {"within the limit": 10, "above it": 10}
    assert usage.share == 0.5
    assert B2R().usage(two_behaviours(), 40.0).share == 1
