"""RGM: what its discriminator and its policy make of demonstrations, and the bounds of its correction."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import RISKY, shown_arm
from probes import SAFE as SHOWN
from quick import new_key, quick
from taught import actions, taught

from safetrax.algorithms import RGM
from safetrax.algorithms.base import Spec
from safetrax.data.store import Store
from safetrax.errors import ConfigError

QUICK = RGM(
    hidden=(16, 16),
    discriminator_units=8,
    discriminator_updates=300,
    discriminator_batch_size=64,
    discriminator_learning_rate=1e-2,
    gradient_penalty=0.0,
    batch_size=64,
    updates=600,
    learning_rate=3e-3,
    reward_learning_rate=3e-3,
)
DATA = shown_arm()
SPEC = Spec(8, 2, 100, 1, 100, (-1.0, -1.0), (1.0, 1.0))


def test_of_two_behaviours_the_demonstrated_one_is_taken_although_the_other_earns_more():
    """Demonstrations play -0.5, the log -0.5 and 0.5 alike: log d^E / d^D is log 2 there, and falls without end at
    0.5. Cloning everything gives 0, the rewards alone a positive action."""
    for seed in (0, 1, 2):
        state, metrics = taught(QUICK, DATA, np.inf, seed)
        ratio = state.corrector.discriminator.network(jnp.ones((2, 1)), jnp.array([[SHOWN], [RISKY]]))
        assert float(ratio[0]) == pytest.approx(np.log(2), abs=0.3)
        assert float(ratio[1]) < -2
        assert actions(QUICK, state, np.ones(1), 1)[0, 0] == pytest.approx(SHOWN, abs=0.15)
        assert 0.3 < metrics["effective_share"] < 0.7  # half of the rows


def begun(seed: int):
    with quick():
        return jax.jit(lambda key: QUICK.init(key, Spec.of(DATA)))(new_key(seed))


def test_the_correction_stays_within_three():
    store, index = Store.make(DATA, QUICK.fields), QUICK.index(DATA, np.inf)
    corrector = begun(0).corrector
    huge = jax.tree.map(lambda leaf: 1e3 * leaf, corrector)
    rows = jnp.arange(store.num_transitions)
    corrections = np.stack([x.correction(store, index, rows) for x in (corrector, huge)])
    assert np.abs(corrections).max() <= 3
    assert np.abs(corrections[1]).max() == 3


def test_only_the_joint_layers_of_the_discriminator_move_unless_all_shall():
    store, index = Store.make(DATA, QUICK.fields), QUICK.index(DATA, np.inf)
    state = begun(0)
    for joint_only in (True, False):
        algorithm = replace(QUICK, joint_only=joint_only, gradient_penalty=10.0)
        with quick():
            after, _ = jax.jit(algorithm.stages()[0].update)(state, store, index, new_key(1))
        before, now = (s.corrector.discriminator.network for s in (state, after))
        same = [eqx.tree_equal(getattr(before, part), getattr(now, part)) for part in ("first", "second", "joint")]
        assert [bool(x) for x in same] == [joint_only, joint_only, False]
        assert eqx.tree_equal(state.policy, after.policy)


def test_rewards_are_standardised_and_equal_ones_are_zero():
    index = QUICK.index(DATA, np.inf)
    scaled = np.asarray(index.rewards(jnp.asarray(DATA.rewards)[:, None]))
    assert (scaled.mean(), scaled.std()) == pytest.approx((0, 1), abs=1e-4)
    flat = QUICK.index(replace(DATA, rewards=np.full_like(DATA.rewards, 0.1)), np.inf)
    np.testing.assert_allclose(flat.rewards(jnp.full((3, 1), 0.1)), 0, atol=1e-6)


def test_parameter_counts():
    """Policy (8, 2), correction (11, 1), V (8, 1) with 256-256; (8 -> 128), (2 -> 128), 256 -> 256 -> 1."""
    state = jax.eval_shape(lambda: RGM().init(jax.random.key(0), SPEC))
    parts = state.policy, state.corrector.rewards, state.corrector.values, state.corrector.discriminator
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(part.network)) for part in parts]
    inner = 257 * 256 + 257
    assert sizes == [68_610, 12 * 256 + inner, 9 * 256 + inner, 9 * 128 + 3 * 128 + inner]


def test_a_degenerate_run_is_named():
    assert RGM().diagnose({"effective_share": [0.5] * 9}) == ()
    assert "clones next to nothing; raise alpha" in RGM().diagnose({"effective_share": [0.01] * 5})[0]


@pytest.mark.parametrize(("setting", "value"), [("alpha", 0.0), ("discount", 1.0), ("gradient_penalty", -1.0)])
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        RGM(**{setting: value})
