"""DWBC: which of two behaviours it takes, and when its discriminator steps."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import SAFE as SHOWN
from probes import arm_episodes, shown_arm
from quick import new_key, quick
from taught import actions, taught

from safetrax.algorithms import DWBC
from safetrax.algorithms.base import Spec
from safetrax.algorithms.dwbc import log_probs
from safetrax.data.store import Store
from safetrax.errors import ConfigError, DataError
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.nets.mlp import MLP
from safetrax.training.train import train

QUICK = DWBC(
    hidden=(16, 16),
    discriminator_units=8,
    discriminator_every=2,
    batch_size=32,
    updates=600,
    learning_rate=3e-3,
    discriminator_learning_rate=3e-3,
)


def test_of_two_behaviours_the_demonstrated_one_is_taken():
    """Half of the log plays -0.5, half 0.5; a few episodes of the former are labelled. Cloning everything gives 0."""
    for seed in (0, 1, 2):
        state, metrics = taught(QUICK, replace(shown_arm(), costs=None), np.inf, seed)
        assert actions(QUICK, state, np.ones(1), 1)[0, 0] == pytest.approx(SHOWN, abs=0.1)
        # d is at its upper bound where demonstrations are, and at the lower one elsewhere: 0.9 and the mean of both
        assert metrics["demonstration_score"] > 0.8
        assert 0.3 < metrics["log_score"] < 0.7


def test_without_labels_it_is_refused_before_any_compute():
    with pytest.raises(DataError, match="DWBC learns from marked episodes and none is marked safe"):
        train(QUICK, arm_episodes(), seeds=(0,))


def test_the_likelihood_of_every_dimension_with_its_bounds():
    """Outputs of (mean, log standard deviation): the first is clipped to 9, the second to -5."""
    network = MLP((jnp.zeros((1, 4)),), (jnp.array([0.0, 99.0, 0.0, -99.0]),), "identity", 0.0)
    found = log_probs(SquashedGaussian(network), jnp.ones((1, 1)), jnp.array([[0.5, 0.9]]))
    u = np.arctanh(np.array([0.5, 0.9]))
    scaled = (u - [0.0, 9.0]) / np.exp([0.0, -5.0])
    expected = -0.5 * scaled**2 - [0.0, -5.0] - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(u) ** 2)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_the_discriminator_steps_in_every_second_update_only():
    data = shown_arm()
    store, index = Store.make(data, QUICK.fields), QUICK.index(data, np.inf)
    with quick():
        state = jax.jit(lambda key: QUICK.init(key, Spec.of(data)))(new_key(0))
        update, moved = jax.jit(QUICK._update), []
        for number in range(4):
            after, _ = update(state, store, index, new_key(number))
            pairs = zip(jax.tree.leaves(state.discriminator), jax.tree.leaves(after.discriminator), strict=True)
            moved.append(any(not np.array_equal(a, b) for a, b in pairs))
            assert not eqx.tree_equal(state.policy, after.policy)
            state = after
    assert moved == [False, True, False, True]


def test_parameter_counts():
    """Policy (8, 4) with 256-256; (10 -> 128), (2 -> 128), 256 -> 256 -> 1."""
    spec = Spec(8, 2, 100, 1, 100, (-1.0, -1.0), (1.0, 1.0))
    state = jax.eval_shape(lambda: DWBC().init(jax.random.key(0), spec))
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(x.network)) for x in (state.policy, state.discriminator)]
    assert sizes == [69_124, 11 * 128 + 3 * 128 + 257 * 256 + 257]


@pytest.mark.parametrize(("setting", "value"), [("eta", 1.0), ("alpha", 0.0), ("discriminator_every", 0)])
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        DWBC(**{setting: value})
