"""A policy whose parameters are not finite is never handed back, and those beside it are not lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from safetrax.algorithms import BC, IQL, TraC
from safetrax.errors import DataError, RunError, SafeTraXWarning
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import DeterministicActor
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId
from safetrax.training.train import DivergedError, _remedy, train


def scaled(tree, factor):
    return jax.tree.map(lambda leaf: leaf * factor if leaf.dtype == jnp.float32 else leaf, tree)


@dataclass(frozen=True)
class SomeBreak(BC):
    """About half of the seeds begin with weights that are not finite."""

    def init(self, key, spec):
        state = super().init(key, spec)
        factor = jnp.where(jax.random.uniform(key) < 0.5, jnp.nan, 1.0)
        return scaled(state, factor)


@dataclass(frozen=True)
class BreaksAtSix(BC):
    """The sixth update makes all weights NaN."""

    def _update(self, state, store, index, key):
        state, metrics = super()._update(state, store, index, key)
        factor = jnp.where(state.learner.optimiser[0].count >= 6, jnp.nan, 1.0)
        return eqx.tree_at(lambda s: s.learner.network, state, replace_fn=lambda n: scaled(n, factor)), metrics


def leaves(policy) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(policy.actor)]


def test_runs_beside_a_diverged_one_are_kept_bitwise(toy, run_folder):
    seeds = range(6)
    settings = {"data": toy, "seeds": seeds, "log_every": 2}
    with pytest.warns(SafeTraXWarning, match="diverged"), pytest.raises(DivergedError) as raised:
        train(algorithm := SomeBreak(hidden=(8,), batch_size=8, updates=8), out=run_folder, **settings)
    kept = raised.value.policies
    assert 0 < len(kept) < len(seeds)
    lost = sorted(set(seeds) - {policy.id.seed for policy in kept})
    said = str(raised.value)
    assert said.startswith(f"BC-All_seed-{lost[0]} diverged: loss is nan at update 2")
    assert f"The policies of the other {len(kept)} runs are kept in {run_folder / 'policies'}" in said
    alone = train(algorithm, **{**settings, "seeds": [policy.id.seed for policy in kept]})  # the same program
    saved = [Policy.load(file) for file in sorted((run_folder / "policies").iterdir())]
    for policy, file, sound in zip(kept, saved, alone.policies, strict=True):
        for a, b, c in zip(leaves(policy), leaves(file), leaves(sound), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def test_where_all_diverge_training_stops_and_the_last_good_checkpoint_stays(toy, run_folder):
    algorithm = BreaksAtSix(hidden=(8,), batch_size=8, updates=1000)
    settings = {"data": toy, "seeds": (0, 1), "log_every": 4, "out": run_folder, "checkpoint_seconds": 0.0}
    for resume in (False, True):
        with (
            pytest.warns(SafeTraXWarning, match="diverged: loss is nan at update 8; lower the learning rate"),
            pytest.raises(
                DivergedError, match=r"BC-All_seed-0 diverged.* \(and 1 more of 2 runs\).*checkpoint"
            ) as raised,
        ):
            train(algorithm, resume=resume, **settings)
        assert raised.value.policies == ()
        tensors = load_file(run_folder / "checkpoint.safetensors")
        assert all(np.isfinite(tensor).all() for tensor in tensors.values())
        assert not (run_folder / "policies").exists()
        assert max(int(line.split(",")[1]) for line in (run_folder / "metrics.csv").read_text().split()[1:]) == 8


def test_the_remedy_is_a_unit_where_numbers_are_large(toy):
    dear = replace(toy, rewards=toy.rewards * 1e6)
    assert _remedy(IQL(), dear, standardised=True).startswith("rewards reaches ")
    assert _remedy(TraC(), dear, standardised=True) == "lower the learning rate"  # which reads no rewards
    high = replace(toy, observations=toy.observations * 1e6)
    assert _remedy(IQL(), high, standardised=True) == "lower the learning rate"
    assert _remedy(IQL(), high, standardised=False).startswith("observations reaches ")


def test_a_policy_that_is_not_finite_is_neither_written_nor_read(tmp_path, monkeypatch):
    network = MLP((jnp.array([[jnp.inf]]),), (jnp.zeros(1),), output="tanh", dropout_rate=0.0)
    broken = Policy(DeterministicActor(network, -jnp.ones(1), jnp.ones(1)), RunId("BC-All", None, None, 0))
    with pytest.raises(RunError, match="has parameters that are not finite"):
        broken.save(tmp_path / "broken.safetensors")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("safetrax.policies.policy._finite", lambda actor: True)  # as earlier versions wrote them
    broken.save(tmp_path / "broken.safetensors")
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"broken.safetensors holds a policy whose training diverged"):
        Policy.load(tmp_path / "broken.safetensors")
