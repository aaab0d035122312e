"""Evaluating in a world that is itself a JAX program: no worker processes, and no step that goes through Python."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64, Int

from safetrax.catalogue import Task
from safetrax.policies.batched import require_finite
from safetrax.policies.policy import Policies

_BLOCK = 64  # episodes of each policy side by side, whatever their number: rows must not depend on it


def play_compiled(
    module: str, policies: Policies, task: Task, seed: int, env_seeds: Sequence[int]
) -> tuple[Float64[np.ndarray, "P E"], Float64[np.ndarray, "P E"], Int[np.ndarray, "P E"]]:
    """Returns, costs and lengths of one episode per environment seed, for each policy.

    Starts and random numbers are those of the same evaluation in worker processes; sums are float32's.

    Args:
        module: as `safetrax.envs.suites.Suite.compiled` says.
        policies: stacked.
        task: where.
        seed: of the policies' random numbers.
        env_seeds: of the starts.

    Raises:
        RunError: a policy gives actions that are not finite.
    """
    program: Any = importlib.import_module(module)
    world = program.world_of(task.env_id)
    key = jax.random.key(seed)
    columns: list[list[np.ndarray]] = []
    for first in range(0, len(env_seeds), _BLOCK):
        starts = [world.draw(np.random.default_rng(env_seed)) for env_seed in env_seeds[first : first + _BLOCK]]
        count = len(starts)
        numbers = np.full(_BLOCK, -1, np.int32)
        numbers[:count] = np.arange(first, first + count)
        padded = np.stack(starts + [starts[0]] * (_BLOCK - count))
        with jax.default_matmul_precision("float32"):
            totals = program.play(world, policies.actor, padded, numbers, key)
        finite = np.asarray(totals.finite)[..., None]
        require_finite(np.where(finite, 0.0, np.nan), np.ones(finite.shape[:-1], bool), policies)
        columns.append([np.asarray(column)[:, :count] for column in totals[:3]])
    returns, costs, lengths = (np.concatenate(parts, axis=1) for parts in zip(*columns, strict=True))
    return returns.astype(np.float64), costs.astype(np.float64), lengths
