"""The whole way in every suite, for real: collect a few episodes, train on them, evaluate what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safetrax.algorithms import BC
from safetrax.collection import collect
from safetrax.collection.ppo import PPO
from safetrax.data import get_task, load, validate
from safetrax.envs import make_env
from safetrax.errors import SimulatorError
from safetrax.evaluation.rollout import evaluate
from safetrax.evaluation.video import record_gif
from safetrax.training.train import train

SMALL = PPO(hidden=(16,), iteration_steps=100, minibatch=100, epochs=1)
AGENT = {"steps": 1, "agents": 1, "episodes": 4, "max_cost": 1e9, "settings": SMALL}


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        pytest.param("BallRun", AGENT, marks=pytest.mark.slow),
        ("HopperVelocity", AGENT),
        ("easysparse", {"episodes": 2}),
    ],
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
    if task == "HopperVelocity":
        require_gl()
    film = record_gif(run.policies[0], task, tmp_path / "episode.gif", every=50, size=(160, 120))
    with Image.open(film) as image:
        assert image.n_frames > 1
        assert np.asarray(image.convert("RGB"), int).std() > 10


def require_gl() -> None:
    """MuJoCo draws with OpenGL, which a machine need not have."""
    try:
        make_env("HopperVelocity", render=True).close()
    except SimulatorError as error:
        pytest.skip(str(error))
