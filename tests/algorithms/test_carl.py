"""CARL: what is relabelled, and the arm that it plays."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from probes import START, fork, two_arms

from safetrax.algorithms import CARL
from safetrax.algorithms.base import Spec
from safetrax.errors import ConfigError
from safetrax.training.train import train

QUICK = CARL(hidden=(32, 32), batch_size=128, updates=1500, learning_rate=3e-3, target_rate=0.05, standardise=False)


@pytest.mark.parametrize(("limit", "side"), [(2.0, -1), pytest.param(40.0, 1, marks=pytest.mark.slow)])
def test_the_branch_of_a_fork_is_the_best_within_the_limit(limit, side):
    """The first action, -0.5 or 0.5, leads to a cost of 0 or 4, whatever follows; cloning alone gives 0.

    An even limit of 2 in 5 steps is 1.96 discounted, and the first action of the risky branch is worth
    0.99 + ... + 0.99^4 = 3.9 of cost: it is relabelled, and the safe branch earns more. At 40 nothing is.
    """
    run = train(QUICK, fork(), cost_limits=[limit], seeds=(0, 1, 2))
    for policy in run.policies:
        assert side * float(policy.act(START)[0]) > 0.1
    shares = [row.value for row in run.metrics if row.metric == "relabelled" and row.update == QUICK.updates]
    # the risky branch, which half of all steps are in, looks alike in all of them and costs more than 1.96 on average
    assert max(shares) == 0 if limit == 40 else abs(np.mean(shares) - 0.5) < 0.25


def test_the_threshold_is_the_limit_or_its_discounted_share():
    data = two_arms(steps=20, episodes=2)
    plain, even = (CARL(threshold=kind, discount=0.9).index(data, 10.0) for kind in ("limit", "discounted"))
    assert float(plain.threshold) == 10
    assert float(even.threshold) == pytest.approx(10 / 20 * (1 - 0.9**20) / 0.1)
    assert float(even.penalty) == 1


def test_parameter_count():
    """Policy (8, 2) and four critics (10, 1) with 256-256."""
    spec = Spec(8, 2, 100, 1, 100, (-1.0, -1.0), (1.0, 1.0))
    state = CARL().init(jax.random.key(0), spec)
    networks = state.policy.network, state.critics.network, state.cost_critics.network
    policy, critic = 68_610, 10 * 256 + 256 + 256 * 256 + 256 + 256 + 1
    assert [sum(leaf.size for leaf in jax.tree.leaves(n)) for n in networks] == [policy, 2 * critic, 2 * critic]


@pytest.mark.parametrize(("setting", "value"), [("threshold", "half"), ("policy_delay", 0), ("discount", 1.5)])
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises((ConfigError, Exception), match=setting):
        CARL(**{setting: value})
