"""The whole way in every suite, for real: collect a few episodes, train on them, evaluate what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safetrax.algorithms import BC
from safetrax.collection import collect
from safetrax.collection.ppo import PPO
from safetrax.data import get_task, load, validate
from safetrax.evaluation.rollout import evaluate
from safetrax.training.train import train

SMALL = PPO(hidden=(16,), iteration_steps=100, minibatch=100, epochs=1)
AGENT = {"steps": 1, "agents": 1, "episodes": 4, "max_cost": 1e9, "settings": SMALL}


@pytest.mark.parametrize(
    ("task", "arguments"),
    [("BallRun", AGENT), ("HopperVelocity", AGENT), ("easysparse", {"episodes": 2})],
)
def test_from_the_simulator_to_an_evaluated_policy(task: str, arguments: dict[str, Any], tmp_path: Path):
    made = collect(task, tmp_path / f"{get_task(task).dataset_prefix}-mine.hdf5", **arguments)
    data = load(made.path)
    assert data.info["task"] == task
    assert not [finding for finding in validate(data) if finding.severity == "error"]
    assert data.max_length <= get_task(task).horizon
    run = train(BC(updates=20, batch_size=64, hidden=(32,)), data, seeds=(0,))
    rows = evaluate(run.policies, task, episodes=2).rows
    assert [row.episode for row in rows] == [0, 1]
    assert all(row.length > 0 and row.cost >= 0.0 for row in rows)
    assert evaluate(run.policies, task, episodes=2, workers=1).rows == rows
