"""O3SRL: what the bandit is told, and the arm that the policy plays."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import arm_episodes
from quick import new_key, quick

from conftest import toy_episodes
from safetrax.algorithms import O3SRL
from safetrax.algorithms.base import Spec
from safetrax.data.store import Store
from safetrax.errors import ConfigError
from safetrax.training.train import train

QUICK = O3SRL(
    hidden=(32,),
    batch_size=64,
    updates=1000,
    round_updates=2,
    learning_rate=3e-3,
    target_rate=0.05,
    standardise=False,
)
TINY = O3SRL(hidden=(4,), batch_size=8, round_updates=2, exploration=0.5, bandit_rate=0.2, discount=0.9)
KEY = new_key(0)


def test_the_arm_that_is_played_is_the_best_within_the_limit():
    """One step: reward 2 and cost 1, or reward 1 and cost 0 (scaled). Cloning alone plays 0, between the two.

    Under a limit of 1/4 the dear arm exceeds it, and any lambda above 1 makes the other one better. At 3/2 both are
    within the limit, lambda falls, and below 1 the dear one is better.
    """
    run = train(QUICK, arm_episodes(episodes=400, steps=1), cost_limits=[0.25, 1.5], seeds=(0, 1, 2), log_every=500)
    for policy in run.policies:
        assert (float(policy.act(np.ones(1, np.float32))[0]) > 0.05) == (policy.id.cost_limit == 1.5)
        assert (float(policy.act(np.ones(1, np.float32))[0]) < -0.25) == (policy.id.cost_limit == 0.25)
    last = {limit: [] for limit in (0.25, 1.5)}
    for row in run.metrics:
        if (row.metric, row.update) == ("expected_multiplier", 1000):
            last[row.cost_limit].append(row.value)
    assert max(last[1.5]) < min(last[0.25])


def test_allowances_by_hand():
    data = arm_episodes(episodes=2, steps=20)  # one arm in each episode: the dearest step costs 1
    even, endless = (O3SRL(allowance=kind, discount=0.9).index(data, 5.0) for kind in ("even", "discounted"))
    steps = (1 - 0.9**20) / 0.1
    assert float(even.allowance) == pytest.approx(5 / 20)
    assert float(even.unit) == pytest.approx(5 / 20 * steps)
    assert float(endless.allowance) == pytest.approx(0.1 * 5)
    assert float(endless.unit) == pytest.approx(5 * (1 - 0.9**20))
    none = O3SRL(discount=0.9).index(data, 0.0)
    assert (float(none.allowance), float(none.unit)) == (0, pytest.approx(1 / 20 * steps))
    free = replace(data, costs=np.zeros_like(data.costs))
    assert float(O3SRL().index(free, 0.0).unit) == 1


@pytest.fixture(scope="module")
def started():
    """Store, index and state, whose policy exceeds its limit by half a unit wherever it is asked."""
    data = toy_episodes([6, 4, 8])
    store, index = Store.make(data, TINY.fields), TINY.index(data, 1.0)
    with quick():
        state = jax.jit(lambda key: TINY.init(key, Spec.of(data)))(KEY)
    half = jax.tree.map(jnp.zeros_like, state.excess_critics.network)
    half = eqx.tree_at(lambda c: [m.biases[-1] for m in c.members], half, [0.5 * index.unit[None], jnp.zeros(1)])
    return store, index, eqx.tree_at(lambda s: s.excess_critics.learner.network, state, half)


@pytest.mark.parametrize("feedback", ["played", "all"])
def test_a_round_of_the_bandit_by_hand(started, feedback):
    """The greater critic counts: an excess of half a unit gains 1/2 + lambda / 20. p is 1/5 of every arm, eta 1/5."""
    store, index, state = started
    algorithm = replace(TINY, feedback=feedback)
    bandit = eqx.tree_at(lambda b: b.arm, state.bandit, jnp.asarray(4, jnp.int32))
    networks = state.policy.network, state.excess_critics.network
    with quick():
        after = jax.jit(algorithm._next_round)(bandit, *networks, store, index, KEY)
    gains = 0.5 + np.array([0, 1.25, 2.5, 3.75, 5]) / 20
    expected = 0.2 * gains if feedback == "all" else [0, 0, 0, 0, 0.2 * 0.75 / 0.2]
    np.testing.assert_allclose(after.log_weights, expected, rtol=1e-5)
    assert float(after.excess) == pytest.approx(0.5 * float(index.unit))


def test_the_bandit_looks_in_every_second_update(started):
    store, index, state = started
    update = jax.jit(TINY.stages()[0].update)
    with quick():
        first, metrics = update(state, store, index, KEY)
    assert eqx.tree_equal(first.bandit, state.bandit)
    assert float(metrics["multiplier"]) == 1.25 * int(state.bandit.arm)
    with quick():
        second, metrics = update(first, store, index, KEY)
    assert float(metrics["multiplier"]) == 1.25 * int(state.bandit.arm)  # the next one begins with the next update
    moved = np.asarray(second.bandit.log_weights) != np.asarray(first.bandit.log_weights)
    assert moved.tolist() == [number == int(state.bandit.arm) for number in range(5)]


def test_parameter_count():
    """Policy (8, 2) and four critics (10, 1) with 256-256."""
    state = jax.eval_shape(lambda: O3SRL().init(KEY, Spec(8, 2, 100, 1, 100, (-1.0, -1.0), (1.0, 1.0))))
    networks = state.policy.network, state.critics.network, state.excess_critics.network
    policy, critic = 68_610, 10 * 256 + 256 + 256 * 256 + 256 + 256 + 1
    assert [sum(leaf.size for leaf in jax.tree.leaves(n)) for n in networks] == [policy, 2 * critic, 2 * critic]


def test_degenerate_runs_are_named():
    fine = {"expected_multiplier": [4.9] * 5, "cost_gap": [-0.1] * 5, "value_ratio": [1.0] * 5}
    assert O3SRL().diagnose(fine) == ()
    assert "raise greatest_multiplier" in O3SRL().diagnose({**fine, "cost_gap": [0.1] * 5})[0]
    assert "critics diverge" in O3SRL().diagnose({**fine, "value_ratio": [50.0] * 5})[0]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"arms": 1}, "arms"),
        ({"greatest_multiplier": 0.0}, "greatest_multiplier"),
        ({"exploration": 0.0}, "exploration"),
        ({"allowance": "discounted", "discount": 1.0}, "discount"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    with pytest.raises(ConfigError, match=named):
        O3SRL(**settings)
