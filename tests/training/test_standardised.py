"""Which trainings standardise observations, and that the saved policies know how."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms import BC, IQL
from safetrax.algorithms.registry import classes
from safetrax.data import load
from safetrax.errors import RunError
from safetrax.policies.actor import DeterministicActor, Standardised
from safetrax.training.train import train

SMALL = BC(hidden=(8,), batch_size=8, updates=2)


def test_known_tasks_are_treated_as_by_the_reference_and_other_logs_are_standardised():
    added = dict.fromkeys(("IQL", "TD3BC", "CQL", "CARL", "O3SRL", "DWBC"), 1e-3)
    added |= {"B2R": 1e-6, "DSPO": 0.0, "RGM": 1e-5, "CDTV": 1e-5}
    for name, kind in classes().items():
        reference = added.get(name)
        assert kind().added_std(known_task=True) == reference
        assert kind().added_std(known_task=False) == 0
        assert kind(standardise=True).added_std(known_task=True) == (reference or 0)
        assert kind(standardise=False).added_std(known_task=False) is None
        assert kind(standardise=False).added_std(known_task=True) is None


@pytest.mark.parametrize(
    ("setting", "task", "kind"),
    [
        (None, True, DeterministicActor),
        (None, False, Standardised),
        (True, True, Standardised),
        (False, False, DeterministicActor),
    ],
)
def test_the_actor_standardises_where_its_training_did(setting, task, kind):
    demo = load("demo").select(np.arange(10))
    data = demo if task else replace(demo, info={})
    actor = train(replace(SMALL, standardise=setting), data).policies[0].actor
    assert type(actor) is kind
    if kind is Standardised:
        varies = data.observations.std(0) > 1e-6
        np.testing.assert_allclose(actor.std[varies], data.observations.std(0)[varies], rtol=1e-4)


def test_a_run_of_a_version_that_did_not_standardise_is_not_resumed(toy, run_folder):
    train(SMALL, toy, out=run_folder)
    train(SMALL, toy, out=run_folder, resume=True)
    file = run_folder / "config.json"
    config = json.loads(file.read_text())
    del config["signature"]["standardised"]
    file.write_text(json.dumps(config))
    with pytest.raises(RunError, match="standardised was None and is now True"):
        train(SMALL, toy, out=run_folder, resume=True)


@pytest.mark.parametrize(
    "algorithm", [SMALL, pytest.param(IQL(hidden=(8,), batch_size=8, updates=2), marks=pytest.mark.slow)]
)
def test_networks_go_on_with_the_statistics_that_they_began_with(toy, run_folder, algorithm):
    first = train(algorithm, toy, out=run_folder)
    other = toy_episodes([12] * 9, seed=1)
    other = replace(other, observations=100 * other.observations)
    second = train(replace(algorithm, updates=0), other, start_from=run_folder)
    for a, b in zip(*(jax.tree.leaves(run.policies.actor) for run in (first, second)), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RunError, match="trained on standardised observations, but standardise is False"):
        train(replace(algorithm, standardise=False), other, start_from=run_folder)
