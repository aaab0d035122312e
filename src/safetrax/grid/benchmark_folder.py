"""A benchmark's folder: which jobs there are, and how far each is.

grid.json      the jobs
runs/<job>/    the run folder of each, with `result.json`: how far it is, or how it ended
lock           while a command runs jobs
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetrax.errors import ConfigError, RunError
from safetrax.files import explain_os_errors, locked, place_of_this_process, read_json, sweep, write_json
from safetrax.grid.grid import Job
from safetrax.training.run_folder import JobState, RunFolder

_STALE_SECONDS = 60.0  # a running job says so every few seconds


@dataclass(frozen=True)
class State:
    """How far a job is.

    Attributes:
        job: which.
        details: its `name` can also be "waiting"; "stopped": it ran, and nobody has heard of it for a minute; or
            "damaged": its `error` says which file is.
    """

    job: Job
    details: JobState

    @property
    def name(self) -> str:
        """In a word."""
        return self.details.name


@dataclass(frozen=True)
class BenchmarkFolder:
    """Paths inside the folder, and what is written there."""

    path: Path

    def run_folder(self, job: Job) -> RunFolder:
        """Of a job."""
        return RunFolder(self.path / "runs" / job.name)

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
            entries = read_json(self.grid_file)["jobs"]
            if not isinstance(entries, list) or not entries:
                raise ValueError("it lists no jobs")
            return tuple(map(Job.from_json, entries))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.grid_file} cannot be read ({error}).") from None

    def states(self) -> tuple[State, ...]:
        """How far every job is."""
        return tuple(self.state(job) for job in self.jobs())

    def advice(self) -> str:
        """What to do where no job is done."""
        if any((self.path / "results").glob("*.parquet")):  # of version 0.1
            return "it is of an older version, so give its command again: what is trained is only evaluated again"
        return f"safetrax benchmark status {self.path} says how far they are"

    def state(self, job: Job) -> State:
        """How far one job is."""
        try:
            details = self.run_folder(job).state() or JobState("waiting")
        except RunError as error:
            details = JobState("damaged", error=str(error))
        if details.name == "running" and not _is_alive(details):
            details = replace(details, name="stopped")
        return State(job, details)

    def begin(self, job: Job, total: int) -> JobState:
        """Note that a job runs now, in this process."""
        now = time.time()
        attempts = self.state(job).details.attempts + 1
        details = JobState("running", now, now, place_of_this_process(), total=total, attempts=attempts)
        self.run_folder(job).write_state(details)
        return details

    def fail(self, job: Job, error: str) -> None:
        """Note that a job failed."""
        earlier = self.state(job).details
        failed = replace(earlier, name="failed", beat=time.time(), error=" ".join(error.split()))
        self.run_folder(job).write_state(failed)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else starts jobs of this folder inside the block, and what killed commands left is gone.

        Raises:
            RunError: somebody does, or the folder cannot be written to.
        """
        with locked(self.path / "lock", self.path):
            sweep(self.path)
            yield


def _is_alive(details: JobState) -> bool:
    """Whether a running job was heard of, or its process is there."""
    host, _, pid = details.place.rpartition(" ")
    if host == socket.gethostname() and pid.isdigit():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is another user's
            pass
        return True
    return time.time() - details.beat < _STALE_SECONDS


def _difference(old: Job, new: Job) -> str:
    before, after = old.to_json(), new.to_json()
    name = next(key for key in before if before[key] != after[key])
    return f"{name} was {before[name]!r} and is {after[name]!r}"
