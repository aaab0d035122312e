"""The shipped data set: small, real, and as its provenance page says."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import safetrax
from safetrax.data import Trajectories, check, get_task, load
from safetrax.data.demo_data import DEMO_FILE, demo_path


@pytest.fixture(scope="module")
def demo() -> Trajectories:
    return load("demo")


def test_file_is_small() -> None:
    with demo_path() as path:
        assert path.stat().st_size <= 1.5e6


def test_nothing_is_wrong_with_it(demo: Trajectories) -> None:
    assert check(demo, "BallRun") == []
    assert demo.info["task"] == "BallRun"
    assert demo.info["source"] == DEMO_FILE


def test_every_episode_runs_to_the_horizon(demo: Trajectories) -> None:
    assert len(demo) == 300
    assert set(demo.lengths) == {get_task("BallRun").horizon}
    assert not demo.terminated.any()
    assert set(np.unique(demo.costs)) == {0.0, 1.0}


def test_statistics_are_those_of_the_provenance_page(demo: Trajectories) -> None:
    page = resources.files("safetrax.data").joinpath("demo", "PROVENANCE.md").read_text(encoding="utf-8")
    assert f"{demo.returns.min():.1f} to {demo.returns.max():.1f} |\n| cost" in page
    for limit in (0, 10, 20, 40):
        safe = demo.cost_returns <= limit
        row = next(line for line in page.splitlines() if line.startswith(f"| episodes at cost {limit}"))
        assert row.endswith(f"| {safe.sum()} ({safe.mean():.1%}), {demo.returns[safe].max():.1f} |")


@pytest.mark.parametrize(("limit", "episodes", "best"), [(0, 22, 388), (10, 56, 401), (20, 87, 402), (40, 141, 661)])
def test_there_are_safe_episodes_to_learn_from(demo: Trajectories, limit: float, episodes: int, best: float) -> None:
    safe = demo.cost_returns <= limit
    assert safe.sum() == episodes
    assert demo.returns[safe].max() == pytest.approx(best, abs=1)
    assert demo.cost_returns.max() == 80


def test_out_of_an_archive_it_keeps_its_name(demo: Trajectories, tmp_path: Path) -> None:
    archive = tmp_path / "safetrax.zip"
    package = Path(safetrax.__file__).parent
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                file.write(path, path.relative_to(package.parent))
    program = (
        "import safetrax.data as d; x = d.load('demo'); "
        "print(d.__file__, x.info['source'], x.info['task'], x.fingerprint())"
    )
    environment = {**os.environ, "PYTHONPATH": str(archive)}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    module, *facts = run.stdout.split()
    assert module.startswith(str(archive))
    assert facts == [DEMO_FILE, "BallRun", demo.fingerprint()]


def test_reading_data_does_not_import_jax() -> None:
    program = "import sys, safetrax.data as d; d.load('demo'); print('jax' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
