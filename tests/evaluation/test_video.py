"""The animated picture of an episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in_actors import network_policy

from safetrax.errors import ConfigError, TaskError
from safetrax.evaluation.video import record_gif


def test_a_gif_has_frames_that_move(tmp_path: Path):
    path = record_gif(network_policy(1), "BallRun", tmp_path / "new" / "ball.gif", every=10, size=(240, 180), fps=10)
    assert path.stat().st_size < 2e6
    with Image.open(path) as image:
        assert image.size == (240, 180)
        assert image.n_frames == 11  # the start and after every tenth of 100 steps
        assert image.info["duration"] == 100
        first = np.asarray(image.convert("RGB"), int)
        image.seek(10)
        last = np.asarray(image.convert("RGB"), int)
    assert first.std() > 20
    assert (np.abs(first - last).max(axis=2) > 40).mean() > 0.01


def test_nothing_is_written_for_bad_input(tmp_path: Path):
    for numbers in ({"every": 0}, {"fps": 0}, {"size": (0, 10)}):
        with pytest.raises(ConfigError, match="at least 1"):
            record_gif(network_policy(0), "BallRun", tmp_path / "x.gif", **numbers)
    with pytest.raises(TaskError):
        record_gif(network_policy(0), "BallCircle", tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())
