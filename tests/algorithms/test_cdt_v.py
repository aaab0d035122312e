"""CDT-V: which steps it takes for costly, what it asks for, and what it plays."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import RISKY, shown_arm
from probes import SAFE as SHOWN
from taught import taught

from safetrax.algorithms import CDTV
from safetrax.errors import ConfigError, DataError
from safetrax.training.train import train

QUICK = CDTV(
    hidden=(16, 16),
    discriminator_units=8,
    discriminator_updates=300,
    discriminator_batch_size=64,
    discriminator_learning_rate=1e-2,
    gradient_penalty=0.0,
    correction_updates=400,
    correction_batch_size=64,
    value_learning_rate=3e-3,
    reward_learning_rate=3e-3,
    context=3,
    width=16,
    blocks=1,
    heads=2,
    dropout=0.0,
    batch_size=32,
    updates=300,
    learning_rate=3e-3,
    warmup=20,
    cost_origin=0.0,
)
DATA = replace(shown_arm(), costs=None)

act = jax.jit(lambda actor, memory: actor.act(memory, jnp.ones((1, 1)), ()))


def test_steps_that_demonstrations_never_take_cost_and_the_policy_follows_the_demonstrations():
    """Half of the episodes play 0.5 and earn more; the demonstrations play -0.5 and return 5."""
    for seed in (0, 1, 2):
        state, metrics = taught(QUICK, DATA, np.inf, seed)
        costs = np.asarray(state.estimate.costs)
        risky = DATA.actions[:, 0] == RISKY
        np.testing.assert_allclose(costs[~risky], 0, atol=1e-6)
        assert costs[risky].min() > 0.1
        actor = QUICK.actor(state)
        assert float(actor.cost_limit) == pytest.approx(0, abs=1e-6)
        assert float(actor.targets.asked(0.0)) == pytest.approx(5)
        memory = actor.reset(1)
        for _ in range(3):
            action, memory = act(actor, memory)
            assert float(action[0, 0]) == pytest.approx(SHOWN, abs=0.25)
            memory = actor.observe(memory, jnp.array([0.5]), jnp.array([1.0]))
        assert float(memory.return_left[0]) == pytest.approx(3.5)
        assert float(memory.cost_left[0]) == pytest.approx(0, abs=1e-6)  # the environment's costs are not heard
        assert metrics["cost_accuracy"] > 0.9


def test_what_cannot_be_learnt_is_refused_before_any_compute(monkeypatch):
    monkeypatch.setattr("safetrax.training.train.Program", None)
    with pytest.raises(DataError, match="CDT-V learns from marked episodes and none is marked safe"):
        train(QUICK, replace(DATA, labels=None), seeds=(0,))
    with pytest.raises(DataError, match="context is 11 steps, but the longest episode has 10; lower context"):
        train(replace(QUICK, context=11), DATA, seeds=(0,))
    with pytest.raises(ConfigError, match="heads is 3, but must divide the width, 16"):
        replace(QUICK, heads=3)


def test_names_schedule_and_a_degenerate_run():
    assert CDTV().name == "CDT-V"
    assert CDTV.preset("metadrive").updates == 2 * CDTV.preset("bullet").updates == 200_000
    assert CDTV().diagnose({"estimated_cost": [0.0, 0.1] * 5}) == ()
    assert "no step has an estimated cost" in CDTV().diagnose({"estimated_cost": [0.0] * 5})[0]
