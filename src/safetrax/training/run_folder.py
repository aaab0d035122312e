"""The run folder: what is written where."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from annotated_types import Ge, Le

from safetrax._version import __version__
from safetrax.errors import RunError, SafeTraXWarning
from safetrax.evaluation.episodes import EpisodeRow, merge_episodes
from safetrax.files import explain_os_errors, locked, read_json, sweep, write_json
from safetrax.run_id import RunId
from safetrax.settings import require, require_ranges_of, require_types

if TYPE_CHECKING:
    from safetrax.policies.policy import Policies


class _Config(TypedDict, total=False):
    """What `config.json` holds, as far as it is read again."""

    algorithm: dict[str, Any]
    task: str | None
    cost_limits: list[float]
    seeds: list[int]
    updates: int
    policies: list[list[Any]]
    data: dict[str, Any]
    usage: list[dict[str, Any]]
    made_with: dict[str, Any]
    record: dict[str, Any]
    signature: dict[str, Any]


class _Signature(TypedDict, total=False):
    algorithm: dict[str, Any]
    runs: list[list[Any]]


class _Record(TypedDict, total=False):
    data_path: str | None
    options: dict[str, Any]


class _Data(TypedDict, total=False):
    filters: list[dict[str, Any]]


_PARTS: dict[str, type] = {"signature": _Signature, "record": _Record, "data": _Data}

_MOST = 10**12  # a year has 3e7 seconds
_Seconds = Annotated[float, Ge(0), Le(_MOST)]
_Count = Annotated[int, Ge(0), Le(_MOST)]


@dataclass(frozen=True)
class JobState:
    """How far a job is, or how it ended: `result.json`."""

    name: str  # "running", "failed" or "done"; others are not written
    started: _Seconds = 0.0  # when its last attempt began, in seconds since 1970
    beat: _Seconds = 0.0  # when it was last heard of
    place: str = ""  # computer and process
    updates: _Count = 0  # made by now
    total: _Count = 0  # updates that it consists of; 0 where unknown
    attempts: _Count = 0  # how often it was begun; with more than one, training went on from a checkpoint
    error: str = ""  # the sentence, if it failed
    # of "training" and "evaluation", wall clock, in the last attempt; empty before its end
    seconds: dict[str, _Seconds] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # what the library warned of, each once


class RunFolder:
    """Paths inside a run's folder, and what is read from them and written to them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"  # resolved settings, data hash, versions, command
        self.checkpoint_file = self.path / "checkpoint.safetensors"  # everything to go on with, replaced atomically
        self.metrics_file = self.path / "metrics.csv"  # of the training
        self.episodes_file = self.path / "episodes.csv"  # one row per evaluation episode
        self.result_file = self.path / "result.json"  # how far its job is, or how it ended
        # the training has ended when all policies that config.json promises are there
        self.policies_folder = self.path / "policies"
        self._lock_file = self.path / "lock"  # while somebody writes into the folder

    @staticmethod
    def create(path: str | Path, config: Mapping[str, Any]) -> RunFolder:
        """Make a new run folder and write its configuration; a start that was killed before its first row is no run.

        Raises:
            RunError: the folder holds something already, or cannot be written.
        """
        folder = RunFolder(path)
        with explain_os_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            occupied = not all(folder._is_of_a_start(entry) for entry in folder.path.iterdir())
            if not occupied:
                folder.metrics_file.unlink(missing_ok=True)
        if occupied:
            hint = "resume it, or" if folder.config_file.exists() else "remove it, or"
            raise RunError(f"the run folder {folder.path} exists and is not empty; {hint} choose another.")
        write_json(folder.config_file, config)
        return folder

    def _is_of_a_start(self, entry: Path) -> bool:
        """Whether a file is what a start leaves that was killed before its first row."""
        if entry == self.metrics_file:
            return b"\n" not in entry.read_bytes()[:-1]  # not more than a header
        return entry in (self.config_file, self.result_file, self._lock_file)

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Nobody else writes into the folder inside the block, and what killed writers left is gone.

        Args:
            waiting: called before waiting for somebody else who does; None: that is an error.

        Raises:
            RunError: somebody else does, or the folder cannot be written to.
        """
        with locked(self._lock_file, self.path, waiting):
            sweep(self.path)
            sweep(self.policies_folder)
            yield

    def add_episodes(self, rows: Sequence[EpisodeRow]) -> None:
        """Add rows to the run's episodes, once nobody else writes into the folder; see `merge_episodes`.

        Raises:
            RunError: the file cannot be written.
            DataError: it is no episodes file.
        """

        def say() -> None:
            text = f"another command writes into {self.path}; waiting for it."
            warnings.warn(text, SafeTraXWarning, stacklevel=2)

        if rows:
            with self.locked(say):
                merge_episodes(self.episodes_file, rows)

    @staticmethod
    def open(path: str | Path) -> RunFolder:
        """An existing run folder.

        Raises:
            RunError: there is none.
        """
        folder = RunFolder(path)
        if not folder.config_file.is_file():
            raise RunError(
                f"{folder.path} is no run folder: it has no config.json; check the path, or start the run again."
            )
        return folder

    def config(self) -> dict[str, Any]:
        """The saved configuration.

        Raises:
            RunError: it is damaged.
        """
        with _undamaged(self.config_file, "put it back as it was, or train into another folder"):
            config = _table(self.config_file)
            require_types(_Config, config)
            for key, part in _PARTS.items():
                require_types(part, config.get(key, {}))
        return config

    def state(self) -> JobState | None:
        """How far its job is; None: not begun.

        Raises:
            RunError: what says so is damaged.
        """
        if not self.result_file.exists():
            return None
        with _undamaged(self.result_file, "remove it, and a job of a benchmark runs again"):
            values = _table(self.result_file)
            if unknown := values.keys() - {entry.name for entry in fields(JobState)}:
                raise ValueError(f"it has an entry {min(unknown)!r:.40}, which is none of a job")
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            require_ranges_of(JobState, plain)
            details = JobState(**{"name": "", **plain})
            require(details.name in ("running", "failed", "done"), "name", details.name, "be running, failed or done")
            process = re.fullmatch("(.* [1-9][0-9]{0,8})?", details.place)
            require(process is not None, "place", details.place, "be a computer and the number of a process")
        return details

    def write_state(self, details: JobState) -> None:
        """Keep it.

        Raises:
            RunError: it cannot be written.
        """
        write_json(self.result_file, asdict(details))

    def save_policies(self, policies: Policies) -> None:
        """One file per policy."""
        for policy in policies:
            policy.save(self._policy_file(policy.id))

    def load_policies(self) -> Policies:
        """The trained policies.

        Raises:
            RunError: training has not ended yet.
        """
        from safetrax.policies.policy import Policies, Policy  # brings JAX

        files, whole = self._policy_files()
        if not whole:
            some = "not all" if any(self.policies_folder.glob("*.safetensors")) else "no"
            raise RunError(
                f"{self.path} holds {some} policies yet: its training has not ended; "
                f"resume it first, or if some of its runs diverged, use the files in {self.policies_folder}."
            )
        policies = [Policy.load(file) for file in files]
        policies.sort(key=lambda p: (p.id.cost_limit is not None, p.id.cost_limit or 0.0, p.id.seed))
        return Policies.stack(policies)

    def has_ended(self) -> bool:
        """Whether all promised policies are there.

        Raises:
            RunError: the configuration is damaged.
        """
        return self._policy_files()[1]

    def _policy_files(self) -> tuple[list[Path], bool]:
        """The files of all policies, and whether they are there."""
        there = sorted(self.policies_folder.glob("*.safetensors"))
        config = self.config()
        if "policies" not in config:  # by an older version
            count = max(1, len(config.get("signature", {}).get("runs", ())))
            return there, len(there) > 0 and len(there) % count == 0
        files = sorted({self._policy_file(RunId(name, None, limit, seed)) for name, limit, seed in promised(config)})
        if len(files) < len(config["policies"]):
            raise RunError(f"{self.config_file} is damaged (its policies are not what they should be).")
        return files, {*files} <= {*there}

    def _policy_file(self, run: RunId) -> Path:
        return self.policies_folder / f"{run}.safetensors"


@contextlib.contextmanager
def _undamaged(file: Path, remedy: str) -> Iterator[None]:
    """Inside the block, a file is read that others may have changed."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is damaged ({str(error).rstrip('.')}); {remedy}.") from error


def _table(file: Path) -> dict[str, Any]:
    values = read_json(file)
    if not isinstance(values, dict):
        raise ValueError("it holds no settings")
    return values


def promise(runs: Iterable[RunId]) -> list[list[Any]]:
    """The policies of a training, for its configuration."""
    return [[run.algorithm, run.cost_limit, run.seed] for run in runs]


def promised(config: Mapping[str, Any]) -> list[tuple[str, float | None, int]]:
    """The inverse of `promise`, out of a configuration that need not be ours: entries of other types are left out."""
    found = config.get("policies")
    runs = []
    for entry in found if isinstance(found, list) else ():
        match entry:
            case [str(name), int() | float() | None as limit, int(seed)]:
                runs.append((name, limit, seed))
    return runs


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
