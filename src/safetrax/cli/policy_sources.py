"""From paths on the command line to policies that can be evaluated together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from safetrax.catalogue import get_task
from safetrax.certification.certificate import FILE, Certificate, read_certificates
from safetrax.certification.certify import require_alike
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.files import explain_os_errors
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId
from safetrax.training.run_folder import RunFolder


@dataclass(frozen=True)
class Source:
    """Policies of one structure and task.

    Attributes:
        title: the path that they came from.
        policies: stacked.
        task: where to evaluate them.
        step: updates that they were trained for; None where unknown.
        folder: their run folder; None for single files.
        cost_limits: of their training, as far as they are known.
    """

    title: str
    policies: Policies
    task: str
    step: int | None
    folder: RunFolder | None
    cost_limits: tuple[float, ...]


def load_sources(paths: Sequence[str], task: str | None) -> list[Source]:
    """One source per run folder, and one per group of alike policy files.

    Raises:
        RunError: a folder is no run folder, or its training has not ended.
        DataError: a file is missing or no policy.
        ConfigError: it is unknown which task to evaluate in.
    """
    sources = []
    loose: dict[object, list[tuple[str, Policy]]] = {}
    for path in dict.fromkeys(paths):
        if Path(path).is_dir():
            sources.append(_of_folder(path, task))
        elif not Path(path).exists():
            raise DataError(f"there is no run folder and no policy file at {path}; check the path.")
        else:
            policy = Policy.load(path)
            loose.setdefault(_kind(policy), []).append((path, policy))
    return sources + [_of_files(group, task) for group in loose.values()]


def adjusted(source: Source, values: Mapping[str, float]) -> Source:
    """The source with its policies adjusted, see `safetrax.policies.policy.Policy.adjusted`.

    Variants that differ in what is adjusted become the same policy, which is then kept once.

    Raises:
        ConfigError: the policies have nothing of that name, a value is out of range, or different policies would
            be called the same.
    """
    if not values:
        return source
    try:
        policies = source.policies.adjusted(**values)
    except ConfigError as error:
        raise ConfigError(f"{source.title} cannot be adjusted: {error}") from error
    leaves = jax.tree.leaves(policies.actor)
    first: dict[RunId, int] = {}
    for place, run in enumerate(policies.ids):
        before = first.setdefault(run, place)
        if before != place and not all(np.array_equal(leaf[before], leaf[place]) for leaf in leaves):
            raise ConfigError(
                f"two policies of {source.title} would both be called {run}; evaluate them with two commands."
            )
    kept = np.array(list(first.values()))
    actor = jax.tree.map(lambda leaf: leaf[kept], policies.actor)
    return replace(source, policies=Policies(actor, tuple(first), policies.metadata))


def load_policies(paths: Sequence[str]) -> Policies:
    """All policies of run folders and single files, which must be of one structure.

    Raises:
        RunError: a folder is no run folder, or its training has not ended.
        DataError: a file is missing or no policy.
        ConfigError: their structures differ.
    """
    return Policies.stack([policy for _, group in open_policies(paths) for policy in group])


def open_policies(paths: Sequence[str]) -> list[tuple[RunFolder | None, list[Policy]]]:
    """The policies of every run folder, with it, and of every single file.

    Raises:
        RunError: a folder is no run folder, or its training has not ended.
        DataError: a file is missing or no policy.
    """
    found: list[tuple[RunFolder | None, list[Policy]]] = []
    for path in dict.fromkeys(paths):
        folder = RunFolder.open(path) if Path(path).is_dir() else None
        found.append((folder, [Policy.load(path)] if folder is None else list(folder.load_policies())))
    return found


@dataclass(frozen=True)
class Opened:
    """Policies of one path, where what is made for them goes, and what logs say of them.

    Attributes:
        policies: of a run folder, or of one file.
        place: a folder in the run folder, or beside the file; it is there.
        certificates: of the run folder.
    """

    policies: list[Policy]
    place: Path
    certificates: list[Certificate]


def fitting(
    sources: Sequence[tuple[RunFolder | None, list[Policy]]],
    paths: Sequence[str],
    data: Trajectories,
    out: str | None,
    name: str,
) -> list[Opened]:
    """The policies of every path, once all fit the log.

    Args:
        sources: what `open_policies` found.
        paths: where, run folders and policy files.
        data: the log.
        out: where what is made goes; None: the folder `name` in the run folder or beside the file.
        name: of that folder.

    Raises:
        RunError: a folder cannot be made.
        DataError: the log is of something else, or certificates are damaged.
    """
    for _, group in sources:
        for policy in group:
            require_alike(policy, data)
    found = []
    for (folder, group), given in zip(sources, dict.fromkeys(paths), strict=True):
        place = Path(out or ((folder.path if folder else Path(given).parent) / name))
        with explain_os_errors(place):
            place.mkdir(parents=True, exist_ok=True)
        saved = folder.path / FILE if folder else None
        found.append(Opened(group, place, read_certificates(saved) if saved and saved.is_file() else []))
    return found


def _of_folder(path: str, task: str | None) -> Source:
    folder = RunFolder.open(path)
    policies = folder.load_policies()
    limits = tuple(float(limit) for limit in folder.config().get("cost_limits", ()))
    name = _task(path, task, policies.ids[0].task)
    return Source(path, policies, name, policies.metadata.get("updates"), folder, limits)


def _of_files(group: Sequence[tuple[str, Policy]], task: str | None) -> Source:
    path, first = group[0]
    title = path if len(group) == 1 else f"{path} and {len(group) - 1} more"
    seen: dict[RunId, str] = {}
    for other, policy in group:  # two policies of the same run would be averaged as one
        if policy.id in seen:
            raise ConfigError(
                f"{other} and {seen[policy.id]} are both called {policy.id}; evaluate them with two commands."
            )
        seen[policy.id] = other
    policies = Policies.stack([policy for _, policy in group])
    return Source(title, policies, _task(path, task, first.id.task), first.metadata.get("updates"), None, ())


def _kind(policy: Policy) -> object:
    """Equal for policies that can be stacked and belong into one table."""
    leaves, structure = jax.tree.flatten(policy.actor)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    return policy.id.task, structure, shapes, policy.observation_parts, policy.metadata.get("updates")


def _task(path: str, asked: str | None, trained: str | None) -> str:
    name = asked or trained
    if name is None:
        raise ConfigError(
            f"{path} does not say which task it was trained for; pass --task with one that safetrax tasks lists, or "
            "call the policies from the simulator of your own (Policy.act)."
        )
    return get_task(name).name
