"""Starting a training where another one ended, for instance with data that its policy has collected since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from safetrax.algorithms.standardisation import Standardiser
from safetrax.data.trajectories import Trajectories
from safetrax.errors import RunError
from safetrax.policies.actor import Standardised
from safetrax.spaces import difference
from safetrax.training.checkpoint import named_leaves, read_checkpoint
from safetrax.training.run_folder import RunFolder

_FRESH = ".optimiser"  # moments and step counts belong to the schedule of the training that they come from


@dataclass(frozen=True)
class WarmStart:
    """The networks of a finished training."""

    path: Path  # its checkpoint
    digest: str  # SHA-256 of it, for the new run's signature
    standardiser: Standardiser | None  # through which the networks have seen observations; None: as they are

    @staticmethod
    def of(folder: str | Path, signature: Mapping[str, Any], data: Trajectories) -> WarmStart:
        """The networks in the run folder of a training that has ended; signature and log are of the one that begins.

        Raises:
            RunError: it is no run folder, has not ended, or trained another algorithm, other limits or seeds, or on
                other observations or another kind of actions.
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
        policy = earlier.load_policies()[0]
        actor, observation_size = policy.actor, data.observation_size
        if both := difference(policy.observation_parts, data.observation_parts):
            raise RunError(f"{earlier.path} trained on observations of other parts than the log's: {both}.")
        if actor.chooses != (data.action_choices is not None):
            raise RunError(
                f"the actions of {earlier.path} and of the log are of two kinds, continuous and choices; start with "
                "data of the same kind."
            )
        standardiser = Standardiser(actor.mean, actor.std) if isinstance(actor, Standardised) else None
        size = observation_size if standardiser is None else standardiser.mean.size
        if size != observation_size:
            raise RunError(
                f"{earlier.path} trained on observations of {size} numbers, not {observation_size}; start with data "
                "of the same kind."
            )
        asked = signature["algorithm"]["standardise"]
        if asked not in (None, standardiser is not None):
            raise RunError(
                f"{earlier.path} trained on {'raw' if asked else 'standardised'} observations, but standardise is "
                f"{asked}; leave it out, and the networks go on as they began."
            )
        digest = hashlib.sha256(earlier.checkpoint_file.read_bytes()).hexdigest()
        return WarmStart(earlier.checkpoint_file, digest, standardiser)

    def apply(self, states: Any) -> Any:
        """Fresh states with these networks; optimisers stay fresh.

        Raises:
            RunError: a network is missing, has other sizes, or is not finite.
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
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                raise RunError(
                    f"{self.path} holds {name} with values that are not finite, for its training diverged; start "
                    "from another run."
                )
            leaves.append(jnp.asarray(array))
        return jax.tree.unflatten(jax.tree.structure(states), leaves)
