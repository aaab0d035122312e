"""Starting a training where another one ended, for instance with data that its policy has collected since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from safetrax.errors import RunError
from safetrax.training.checkpoint import named_leaves, read_checkpoint
from safetrax.training.folder import RunFolder

_FRESH = ".optimiser"  # moments and step counts belong to the schedule of the training that they come from


@dataclass(frozen=True)
class WarmStart:
    """The networks of a finished training.

    Attributes:
        path: its checkpoint.
        digest: SHA-256 of it, for the new run's signature.
    """

    path: Path
    digest: str

    @staticmethod
    def of(folder: str | Path, signature: Mapping[str, Any]) -> WarmStart:
        """The networks in a run folder.

        Args:
            folder: of the training that has ended.
            signature: of the one that begins.

        Raises:
            RunError: it is no run folder, has not ended, or trained another algorithm, other limits or seeds.
        """
        earlier = RunFolder.open(folder)
        saved = earlier.config().get("signature", {})
        before, now = (s.get("algorithm", {}).get("class") for s in (saved, signature))
        if before != now:
            raise RunError(f"{earlier.path} trained {before}, so {now} cannot start from it.")
        if saved.get("runs") != signature["runs"]:
            raise RunError(
                f"{earlier.path} trained the runs (limit, seed) {saved.get('runs')}, not {signature['runs']}; start "
                "with the same limits and seeds."
            )
        read_checkpoint(earlier.checkpoint_file)
        earlier.require_finished()
        return WarmStart(earlier.checkpoint_file, hashlib.sha256(earlier.checkpoint_file.read_bytes()).hexdigest())

    def apply(self, states: Any) -> Any:
        """Fresh states with these networks; optimisers stay fresh.

        Raises:
            RunError: a network is missing or has other sizes.
        """
        _, tensors = read_checkpoint(self.path)
        leaves = []
        for name, leaf in named_leaves(states):
            saved = f"[0]{name}"
            if _FRESH in name:
                leaves.append(leaf)
                continue
            if saved not in tensors:
                raise RunError(f"{self.path} lacks {name}; this algorithm cannot start where another run ended.")
            array = tensors[saved]
            if array.shape != leaf.shape:
                raise RunError(
                    f"{self.path} holds {name} as {list(array.shape)}, but {list(leaf.shape)} is needed; start "
                    "with the same network sizes and data of the same kind."
                )
            leaves.append(jnp.asarray(array))
        return jax.tree.unflatten(jax.tree.structure(states), leaves)
