"""The run folder: what is written where.

config.json               resolved settings, data hash, versions, command
checkpoint.safetensors    everything to go on with, replaced atomically
metrics.csv               training metrics
episodes.csv              one row per evaluation episode
policies/*.safetensors    the trained policies
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetrax import __version__
from safetrax.errors import RunError
from safetrax.files import explain_os_errors, write_json
from safetrax.policy import Policies, Policy


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Settings, hashes, versions."""
        return self.path / "config.json"

    @property
    def checkpoint_file(self) -> Path:
        """The state to resume from."""
        return self.path / "checkpoint.safetensors"

    @property
    def metrics_file(self) -> Path:
        """Training metrics."""
        return self.path / "metrics.csv"

    @property
    def episodes_file(self) -> Path:
        """Evaluation episodes."""
        return self.path / "episodes.csv"

    @property
    def policies_folder(self) -> Path:
        """Trained policies."""
        return self.path / "policies"

    @staticmethod
    def create(path: str | Path, config: Mapping[str, Any]) -> RunFolder:
        """Make a new run folder and write its configuration.

        Raises:
            RunError: the folder holds something already, or cannot be written.
        """
        folder = RunFolder(Path(path))
        with explain_os_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.path.iterdir())
        if occupied:
            hint = "resume it, or" if folder.config_file.exists() else "remove it, or"
            raise RunError(f"the run folder {folder.path} exists and is not empty; {hint} choose another.")
        write_json(folder.config_file, config)
        return folder

    @staticmethod
    def open(path: str | Path) -> RunFolder:
        """An existing run folder.

        Raises:
            RunError: there is none.
        """
        folder = RunFolder(Path(path))
        if not folder.config_file.is_file():
            raise RunError(f"{folder.path} is no run folder: it has no config.json.")
        return folder

    def config(self) -> dict[str, Any]:
        """The saved configuration.

        Raises:
            RunError: it is damaged.
        """
        try:
            config: Any = json.loads(self.config_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.config_file} is damaged ({error}).") from error
        if not isinstance(config, dict):
            raise RunError(f"{self.config_file} is damaged (it holds no settings).")
        return config

    def save_policies(self, policies: Policies) -> None:
        """One file per policy."""
        for policy in policies:
            policy.save(self.policies_folder / f"{policy.id}.safetensors")

    def load_policies(self) -> Policies:
        """The trained policies.

        Raises:
            RunError: training has not ended yet.
        """
        files = sorted(self.policies_folder.glob("*.safetensors"))
        if not files:
            raise RunError(f"{self.path} holds no policies yet: its training has not ended; resume it first.")
        policies = [Policy.load(file) for file in files]
        policies.sort(key=lambda p: (p.id.cost_limit is not None, p.id.cost_limit or 0.0, p.id.seed))
        return Policies.stack(policies)


def environment_facts() -> dict[str, Any]:
    """Versions and platform, for the record."""
    packages = ("jax", "jaxlib", "equinox", "optax", "numpy", "h5py")
    return {
        "safetrax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "command": " ".join(sys.argv),
    }
