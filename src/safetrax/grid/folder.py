"""A benchmark's folder: which jobs there are, and how far each is.

grid.json               the jobs
state/<job>.json        of a job that runs or failed: since when, where, how far, with which error
results/<job>.parquet   of a job that is done
runs/<job>/             its run folder: settings, checkpoint, metrics, policies
lock                    while a command runs jobs
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetrax.errors import ConfigError, RunError
from safetrax.files import explain_os_errors, locked, place_of_this_process, sweep, write_json
from safetrax.grid.grid import Job
from safetrax.grid.results import ENDING

StateName = Literal["waiting", "running", "stopped", "failed", "done"]

_STALE_SECONDS = 60.0  # a running job says so every few seconds


@dataclass(frozen=True)
class State:
    """How far a job is.

    Attributes:
        job: which.
        name: "waiting", "running", "stopped" (it ran, and nobody has heard of it for a minute), "failed" or "done".
        started: when its last attempt began, in seconds since 1970.
        beat: when it was last heard of.
        place: computer and process.
        updates: updates made by now.
        total: updates that it consists of; 0 where unknown.
        attempts: how often it was begun.
        error: the sentence, if it failed.
    """

    job: Job
    name: StateName
    started: float = 0.0
    beat: float = 0.0
    place: str = ""
    updates: int = 0
    total: int = 0
    attempts: int = 0
    error: str = ""


@dataclass(frozen=True)
class BenchmarkFolder:
    """Paths inside the folder, and what is written there."""

    path: Path

    def results_file(self, job: str) -> Path:
        """The rows of a job, once it is done."""
        return self.path / "results" / f"{job}{ENDING}"

    def state_file(self, job: str) -> Path:
        """How far a job is, while it is not done."""
        return self.path / "state" / f"{job}.json"

    def run_folder(self, job: str) -> Path:
        """Of its training."""
        return self.path / "runs" / job

    @property
    def results_folder(self) -> Path:
        """Of all jobs."""
        return self.path / "results"

    @property
    def grid_file(self) -> Path:
        """The jobs."""
        return self.path / "grid.json"

    @staticmethod
    def make(path: str | Path, jobs: Sequence[Job]) -> BenchmarkFolder:
        """The folder of these jobs, new or not; jobs that an older one has beside them stay.

        Raises:
            ConfigError: a job of the same name and other settings is there already.
            RunError: the folder cannot be written, or holds something else.
        """
        folder = BenchmarkFolder(Path(path))
        known = {job.name: job for job in folder.jobs()} if folder.grid_file.exists() else {}
        if not known:
            with explain_os_errors(folder.path):
                folder.path.mkdir(parents=True, exist_ok=True)
                if any(entry.name != "lock" for entry in folder.path.iterdir()):
                    raise RunError(f"{folder.path} holds something else than a benchmark; choose a new folder.")
        for job in jobs:
            if known.get(job.name, job) != job:
                how = _difference(known[job.name], job)
                raise ConfigError(
                    f"{folder.path} has a job {job.name} with another configuration ({how}); choose another folder."
                )
        wanted = {**known, **{job.name: job for job in jobs}}
        if wanted != known:
            write_json(folder.grid_file, {"jobs": [job.to_json() for job in wanted.values()]})
        return folder

    @staticmethod
    def open(path: str | Path) -> BenchmarkFolder:
        """An existing one.

        Raises:
            RunError: there is none.
        """
        folder = BenchmarkFolder(Path(path))
        if not folder.grid_file.is_file():
            raise RunError(f"there is no benchmark in {folder.path}: it has no grid.json.")
        return folder

    def jobs(self) -> tuple[Job, ...]:
        """All jobs.

        Raises:
            RunError: the list of jobs is damaged.
        """
        try:
            values = json.loads(self.grid_file.read_text(encoding="utf-8"))
            return tuple(Job.from_json(entry) for entry in values["jobs"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
            raise RunError(f"{self.grid_file} cannot be read ({error}).") from None

    def states(self) -> tuple[State, ...]:
        """How far every job is."""
        return tuple(self.state(job) for job in self.jobs())

    def state(self, job: Job) -> State:
        """How far one job is."""
        if self.results_file(job.name).exists():
            return State(job, "done")
        try:
            values: Mapping[str, Any] = json.loads(self.state_file(job.name).read_text(encoding="utf-8"))
            state = State(job=job, **values)
        except (
            OSError,
            ValueError,
            TypeError,
            RecursionError,
        ):  # not begun, or cut off by a full disk: it begins again
            return State(job, "waiting")
        if state.name == "running" and not _is_alive(state):
            return replace(state, name="stopped")
        return state

    def write_state(self, state: State) -> None:
        """Keep it.

        Raises:
            RunError: it cannot be written.
        """
        values = {key: value for key, value in vars(state).items() if key != "job"}
        write_json(self.state_file(state.job.name), values)

    def begin(self, job: Job, total: int) -> State:
        """Note that a job runs now, in this process."""
        now = time.time()
        earlier = self.state(job)
        state = State(job, "running", now, now, place_of_this_process(), 0, total, earlier.attempts + 1)
        self.write_state(state)
        return state

    def fail(self, job: Job, error: str) -> None:
        """Note that a job failed."""
        earlier = self.state(job)
        self.write_state(replace(earlier, name="failed", beat=time.time(), error=" ".join(error.split())))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else starts jobs of this folder inside the block, and what killed commands left is gone.

        Raises:
            RunError: somebody does, or the folder cannot be written to.
        """
        with locked(self.path / "lock", self.path):
            for folder in (self.path, self.results_folder, self.path / "state"):
                sweep(folder)
            for results in self.results_folder.glob(f"*{ENDING}"):
                self.state_file(results.name.removesuffix(ENDING)).unlink(missing_ok=True)
            yield


def _is_alive(state: State) -> bool:
    """Whether a running job was heard of, or its process is there."""
    host, _, pid = state.place.rpartition(" ")
    if host == socket.gethostname() and pid.isdigit():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    return time.time() - state.beat < _STALE_SECONDS


def _difference(old: Job, new: Job) -> str:
    before, after = old.to_json(), new.to_json()
    name = next(key for key in before if before[key] != after[key])
    return f"{name} was {before[name]!r} and is {after[name]!r}"
