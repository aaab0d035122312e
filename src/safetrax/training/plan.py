"""Which runs are asked for, and whether they can be: everything that is known before any compute is spent."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from safetrax.algorithms.base import Algorithm, Usage
from safetrax.algorithms.standardisation import Standardiser
from safetrax.catalogue import Task, get_task
from safetrax.data.labels import SAFE, UNSAFE
from safetrax.data.segments import check_cost_limits
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.data.validation import check
from safetrax.errors import ConfigError, DataError, SafeTraXWarning
from safetrax.files import exact
from safetrax.policies.actor import Actor
from safetrax.policies.policy import Policies
from safetrax.run_id import RunId
from safetrax.settings import require, require_whole


@dataclass(frozen=True)
class Plan:
    """The resolved request."""

    ids: tuple[RunId, ...]  # one per run; limits vary slowest
    cost_limits: tuple[float, ...]  # as asked for, or the task's
    task: str | None  # its name, if known
    signature: Mapping[str, Any]  # what a checkpoint must agree with: settings, task, runs and data

    @staticmethod
    def make(
        algorithm: Algorithm,
        data: Trajectories,
        cost_limits: Sequence[float] | None,
        seeds: Sequence[int],
        task: str | None,
        precision: str = "float32",
    ) -> Plan:
        """Resolve a request; `task` and `cost_limits` may be None, then the data and the task tell them.

        Raises:
            TaskError: the task is unknown.
            DataError: the data are malformed or do not fit the task.
            ConfigError: limits or seeds are missing, out of range or given twice.
        """
        named = task or data.info.get("task")
        entry = None if named is None else get_task(named)
        for finding in check(data, task=None if entry is None else entry.name):
            warnings.warn(finding.message, SafeTraXWarning, stacklevel=3)
        check_needs(algorithm, data)
        limits = _limits(algorithm, cost_limits, entry)
        _check_seeds(seeds)
        name = None if entry is None else entry.name
        per_limit: tuple[float | None, ...] = limits if algorithm.uses_cost_limit else (None,)
        ids = tuple(RunId(algorithm.name, name, limit, int(seed)) for limit in per_limit for seed in seeds)
        signature: dict[str, Any] = {
            "algorithm": {"class": type(algorithm).__name__, **algorithm.config()},
            "task": name,
            "runs": [[run.cost_limit, run.seed] for run in ids],
            "data": data.fingerprint(),
            "precision": precision,
        }
        if data.action_choices is not None:
            signature["action_choices"] = data.action_choices
        added = algorithm.added_std(_in_catalogue(name))
        if added != algorithm.reference_std:  # checkpoints of versions that knew only the reference's way stay valid
            signature["standardised"] = added is not None
        return Plan(ids, limits, name, signature)

    @property
    def in_catalogue(self) -> bool:
        """Whether the task is one that reference code knows."""
        return _in_catalogue(self.task)

    def policies(self, algorithm: Algorithm, actor: Actor, metadata: Mapping[str, Any] | None = None) -> Policies:
        """The policies of trained actors, stacked one per run: every variant of every run."""
        actors = [actor.adjusted(**variant.adjustments) for variant in algorithm.variants(self.cost_limits)]
        stacked = actors[0] if len(actors) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *actors)
        return Policies(stacked, self.policy_ids(algorithm), metadata or {})

    def policy_ids(self, algorithm: Algorithm) -> tuple[RunId, ...]:
        """The ids of `policies`."""
        return tuple(
            run._replace(
                algorithm=variant.name,
                cost_limit=run.cost_limit if variant.cost_limit is None else variant.cost_limit,
            )
            for variant in algorithm.variants(self.cost_limits)
            for run in self.ids
        )

    def standardiser(self, algorithm: Algorithm, store: Store) -> Standardiser | None:
        """Of the log's observations; None where the algorithm trains on them as they are."""
        added = algorithm.added_std(self.in_catalogue)
        return None if added is None else _statistics(store.observations, added)

    def indices(self, algorithm: Algorithm, data: Trajectories) -> list[Any]:
        """The algorithm's index for every run; runs of one limit share it.

        Raises:
            DataError: no episode or segment meets a limit.
        """
        limits = [math.inf if run.cost_limit is None else run.cost_limit for run in self.ids]
        made = {limit: algorithm.index(data, limit) for limit in dict.fromkeys(limits)}
        return [made[limit] for limit in limits]

    def usage(self, algorithm: Algorithm, data: Trajectories) -> list[Usage]:
        """What the algorithm uses of the data set, for every limit, or by the labels, where it is not all."""
        limits = dict.fromkeys(self.cost_limits if algorithm.needs_cost_limits else ())
        if not limits and algorithm.needs_labels is not None:
            limits[math.inf] = None
        found = [algorithm.usage(data, limit) for limit in limits]
        return [usage for usage in found if usage is not None]


def _in_catalogue(task: str | None) -> bool:
    return task is not None and not get_task(task).own


_statistics = jax.jit(Standardiser.of, static_argnums=1)


def check_needs(algorithm: Algorithm, data: Trajectories) -> None:
    """Check that the log has the kind of actions, the costs and the labels that the algorithm learns from.

    Raises:
        DataError: it has not. Labels that it does not look at are only warned of.
    """
    if data.action_choices is not None and not algorithm.takes_choices:
        raise DataError(
            f"{algorithm.name} learns continuous actions, and those of the log are one of {data.action_choices} "
            "choices; choose trac or one of bc-all, bc-safe, bc-risky, bc-boundary, bc-frontier and bc-conditioned."
        )
    if algorithm.needs_costs and data.costs is None:
        raise DataError(
            f"{algorithm.name} learns from costs, and {data.without_costs}, or mark episodes (--labels) for an "
            "algorithm that learns from labels."
        )
    wanted = {"safe": (SAFE,), "both": (SAFE, UNSAFE), None: ()}[algorithm.needs_labels]
    example = "demonstrations:15" if algorithm.needs_labels == "safe" else "labels-from-costs:15"
    for label, word in ((SAFE, "safe"), (UNSAFE, "unsafe")):
        if label in wanted and label not in data.marks:
            raise DataError(
                f"{algorithm.name} learns from marked episodes and none is marked {word}; mark some (--labels), or "
                f"make labels of costs with a filter such as {example}."
            )
    if algorithm.needs_labels is None and data.marks.any():
        warnings.warn(f"{algorithm.name} does not look at the labels.", SafeTraXWarning, stacklevel=4)


def check_counts(*, log_every: int, evaluate_every: int, evaluation_episodes: int) -> None:
    """Check how often things are done.

    Raises:
        ConfigError: naming the setting, its value and its least value.
    """
    for name, value, least in (
        ("log_every", log_every, 1),
        ("evaluate_every", evaluate_every, 0),
        ("evaluation_episodes", evaluation_episodes, 1),
    ):
        require(value >= least, name, value, f"be at least {least}")


def _limits(algorithm: Algorithm, cost_limits: Sequence[float] | None, entry: Task | None) -> tuple[float, ...]:
    if cost_limits is None:
        if not (entry and entry.cost_limits) and algorithm.needs_cost_limits:
            raise ConfigError(f"{algorithm.name} needs cost limits, and no task names them; pass cost_limits.")
        cost_limits = () if entry is None else entry.cost_limits
    limits = tuple(float(limit) for limit in cost_limits)
    check_cost_limits(limits)
    if not limits and algorithm.needs_cost_limits:
        raise ConfigError("cost_limits is empty; give at least one limit.")
    _check_distinct("cost limit", limits)
    return limits


def _check_seeds(seeds: Sequence[int]) -> None:
    for seed in seeds:
        require_whole("seed", seed)
    _check_distinct("seed", seeds)
    if not seeds:
        raise ConfigError("seeds is empty; give at least one.")
    if any(not 0 <= seed < 2**32 for seed in seeds):
        raise ConfigError("each seed must lie in [0, 2^32).")


def _check_distinct(name: str, values: Sequence[float]) -> None:
    for value in values:
        if list(values).count(value) > 1:
            raise ConfigError(f"the {name} {exact(value)} is given twice.")
