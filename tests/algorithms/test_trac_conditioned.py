"""TraC for every limit: equations, a probe whose answer changes with the limit, the budget that is left, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import RISKY, SAFE, arm_episodes

from safetrax.algorithms import TraCConditioned
from safetrax.algorithms.base import Spec
from safetrax.data.store import Store
from safetrax.errors import ConfigError, DataError
from safetrax.nets.mlp import MLP
from safetrax.policies.conditioned import BudgetActor, in_range
from safetrax.training.train import train

TINY = TraCConditioned(
    limits=(2.0, 18.0),
    hidden=(16,),
    batch_size=32,
    segment_ratio=1.0,
    pretrain_updates=200,
    updates=600,
    pretrain_learning_rate=3e-3,
    learning_rate=3e-3,
    warmup=0,
    standardise=False,  # the only state would be 0
)


def test_one_training_plays_the_cheap_arm_at_low_limits_and_the_good_one_at_high_ones():
    """Episodes of -0.5 return 5 and cost nothing, those of +0.5 return 10 and cost 10."""
    limits = (4.0, 8.0, 12.0, 16.0)
    run = train(TINY, arm_episodes(100), cost_limits=limits, seeds=(0, 1, 2))
    assert [run_id.cost_limit for run_id in run.ids] == [limit for limit in limits for _ in range(3)]
    actions = [float(policy.act(np.ones(1))[0]) for policy in run.policies]
    assert max(actions[:6]) < 0.5 * SAFE  # pushed beyond the arm, if anything
    assert min(actions[6:]) > 0.5 * RISKY
    one = run.policies[0]
    assert float(one.adjusted(cost_limit=17).act(np.ones(1))[0]) > 0.5 * RISKY
    with pytest.raises(ConfigError, match=r"cost_limit is 19, but must lie between 2 and 18"):
        one.adjusted(cost_limit=19)


def begun(algorithm: TraCConditioned = TINY):
    """State, store and index where the second stage begins."""
    data = arm_episodes(20)
    store, index = Store.make(data, algorithm.fields), algorithm.index(data, np.inf)
    state = algorithm.init(jax.random.key(0), Spec.of(data))
    for stage in algorithm.stages():
        state = stage.begin(state, store, index, jax.random.key(1))
    return state, store, index


def test_the_policy_begins_as_the_reference_at_every_limit():
    state, store, _ = begun()
    told = jnp.linspace(-1, 1, 8)
    means = state.learner.network(jnp.stack([jnp.ones(8), told], axis=1))
    assert np.ptp(np.asarray(means)) == 0
    expected = -jnp.square(means[0, 0] - store.actions[:, 0])
    assert np.allclose(state.reference_log_prob, expected, atol=1e-6)


def test_the_first_loss_is_that_of_scores_of_zero():
    """log 2 times the class weights 1 and eta and the weights of Eqs. 2-3, at every limit."""
    algorithm = TraCConditioned(limits=(2.0, 18.0), hidden=(16,), segment_ratio=1.0, batch_size=4096, dropout=0.0)
    state, store, index = begun(algorithm)
    _, metrics = jax.jit(algorithm.stages()[1].update)(state, store, index, jax.random.key(2))
    # below 10: half of the episodes desirable (all equal: w = 1), half unsafe; from 10 on the better half desirable
    # (w = 1) and nothing undesirable. So p_d = 1/2 everywhere, p_u = 1/2 below 10 and 0 above, and of what is drawn
    limits = np.asarray(index.table.limits)
    below = float((limits < 10).mean())
    desirable = 0.5 / (0.5 * below + 0.5)  # of the labelled draws, whose mass is 1 below and 1/2 above
    expected = np.log(2) * (desirable + 0.25 * (1 - desirable))
    # four draws leave a sixteenth of those above unlabelled, with weight 0
    unlabelled = float(metrics["unlabelled"])
    assert float(metrics["loss"]) == pytest.approx(expected * (1 - unlabelled), rel=0.03)
    assert unlabelled < 0.05


def actor(limit: float, remaining: float) -> BudgetActor:
    """Which plays what the network is told, as its only layer passes the limit on."""
    network = MLP((jnp.array([[0.0], [1.0]]),), (jnp.zeros(1),), "identity", 0.0, "relu")
    box = jnp.ones(1)
    return BudgetActor(
        network, -box, box, jnp.asarray(limit), jnp.asarray(remaining), jnp.array([0.0, 40.0]), jnp.asarray(10.0)
    )


def test_what_remains_of_the_budget_by_hand():
    assert in_range(jnp.array([0.0, 10.0, 40.0, 99.0]), jnp.array([0.0, 40.0])).tolist() == [-1, -0.5, 1, 1]
    for remaining, told in ((0.0, [20, 20, 20, 20]), (1.0, [20, 20 * 10 / 9, 12 * 10 / 8, 0])):
        policy, played = actor(20.0, remaining), []
        memory = policy.reset(1)
        for cost in (0.0, 8.0, 15.0, 0.0):  # after two free steps: 20, 20, 12 and then nothing left
            action, memory = policy.act(memory, jnp.ones((1, 1)), ())
            memory = policy.observe(memory, jnp.zeros(1), jnp.array([cost]))
            played.append(float(action[0, 0]))
        assert played == pytest.approx([limit / 20 - 1 for limit in told], abs=1e-6)


def test_parameter_count():
    """TraC's network with one input more: (8 + 1) 256 + 256 + 256 256 + 256 + 256 2 + 2."""
    spec = Spec(8, 2, 100, 1, 100, (-1.0, -1.0), (1.0, 1.0))
    state = TraCConditioned().init(jax.random.key(0), spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.learner.network)) == 68_610 + 256


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"limits": (5.0, 5.0)}, "limits is .* and a greater one"),
        ({"limits": (-1.0, 5.0)}, "limits"),
        ({"top": 0.0}, "some segments must be desirable"),
        ({"segment_ratio": 2.0}, "segment_ratio"),
    ],
)
def test_settings_out_of_range_are_named(settings, said):
    with pytest.raises(ConfigError, match=said):
        TraCConditioned(**settings)


def test_a_limit_outside_the_range_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"cost limit 30 is outside the range from 2 to 18 of the setting limits"):
        train(TINY, arm_episodes(20), cost_limits=(10.0, 30.0))
    free = TraCConditioned(segment_ratio=1.0)
    with pytest.raises(ConfigError, match=r"outside the range from 0 to 10 that the log covers"):
        train(free, arm_episodes(20), cost_limits=(11.0,))
    dear = arm_episodes(20)
    dear = dear.select(np.flatnonzero(dear.cost_returns == 10))
    with pytest.raises(DataError, match=r"no segment meets the cost limit 5: the cheapest would cost 10"):
        train(TINY, dear, cost_limits=(5.0,))
    same = arm_episodes(20)
    same = same.select(np.flatnonzero(same.cost_returns == 0))
    with pytest.raises(DataError, match="limits have no range; set limits"):
        free.index(same, np.inf)
