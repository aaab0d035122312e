"""Shared by all tests: shapes and types of the library are checked at run time."""

from __future__ import annotations

import os

from jaxtyping import install_import_hook

os.environ.setdefault("JAX_PLATFORMS", "cpu")
install_import_hook("safetrax", "typecheck.checked").__enter__()

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from safetrax.data.trajectories import Trajectories  # noqa: E402


def toy_episodes(
    lengths: list[int], *, seed: int = 0, observation_size: int = 3, action_size: int = 2
) -> Trajectories:
    """Random episodes with costs of zero and one; every episode's cost rate is its own."""
    rng = np.random.default_rng(seed)
    return Trajectories.from_episodes(
        {
            "observations": rng.standard_normal((n, observation_size)),
            "actions": rng.uniform(-1, 1, (n, action_size)),
            "rewards": rng.uniform(0, 1, n),
            "costs": rng.binomial(1, rng.uniform(0, 0.6), n),
        }
        for n in lengths
    )


@pytest.fixture(scope="session")
def toy() -> Trajectories:
    """Thirty episodes of ten steps."""
    return toy_episodes([10] * 30)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "run"
