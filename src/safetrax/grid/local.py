"""Jobs in processes of this computer, each with its own processors.

The process of one job is `python -m safetrax.grid.local FOLDER JOB WORKERS`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from safetrax.files import explain_os_errors
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Job
from safetrax.settings import require

Report = Callable[[], None]
DONE, FAILED, INTERRUPTED = 0, 3, 130  # exit codes of a job's process; any other means that it died
_POLL_SECONDS = 0.2
_PATIENCE = 60.0  # seconds that a job has to save itself


@dataclass(frozen=True)
class Lane:
    """A place for one job at a time.

    Attributes:
        threads: of a job.
        cpus: processors that it is kept to; empty: any.
        gpu: number of its graphics card; None: none.
        shared: whether other lanes have the same card.
    """

    threads: int
    cpus: tuple[int, ...]
    gpu: int | None
    shared: bool = False

    def environment(self) -> dict[str, str]:
        """Of the process."""
        values = {**os.environ, **thread_environment(self.threads)}
        if self.gpu is not None:
            values["CUDA_VISIBLE_DEVICES"] = str(self.gpu)
            if self.shared:
                values["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        return values


@dataclass(eq=False)
class _Running:
    job: Job
    lane: Lane
    process: subprocess.Popen[bytes]
    log: IO[bytes]


def thread_environment(cpus: float) -> dict[str, str]:
    """Environment variables that keep a process to so many processors, and its results the same wherever it runs.

    XLA shares sums out among as many threads as it sees processors, and so rounds differently; NPROC overrules that.
    """
    count = str(max(1, int(cpus)))
    values = {"OMP_NUM_THREADS": count, "NPROC": count}
    if cpus <= 1:
        values["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    return values


def lanes(workers: int | None, gpus: int, jobs: int, job_cpus: int = 1) -> list[Lane]:
    """Where jobs run side by side: one per graphics card, else as many as there are processors for.

    Two jobs with a processor each are more work done per second than one job with both. Rounding depends on the
    number of processors of a job, and on nothing else here.

    Args:
        workers: jobs side by side; None: as above. More than there are processors for share them.
        gpus: graphics cards; 0: none are used.
        jobs: how many there are to do.
        job_cpus: processors of each.

    Raises:
        ConfigError: a number is out of range.
    """
    require(workers is None or workers >= 1, "workers", workers, "be at least 1")
    require(gpus >= 0, "gpus", gpus, "be at least 0")
    require(job_cpus >= 1, "job_cpus", job_cpus, "be at least 1")
    cpus = _processors()
    fit = max(1, len(cpus) // job_cpus)
    count = max(1, min(jobs, workers or gpus or fit))
    shares = [tuple(cpus[i * job_cpus : (i + 1) * job_cpus]) if count <= fit else () for i in range(count)]
    return [
        Lane(job_cpus, share, i % gpus if gpus else None, gpus > 0 and count > gpus) for i, share in enumerate(shares)
    ]


def run_locally(
    folder: BenchmarkFolder, jobs: Sequence[Job], places: Sequence[Lane], report: Report = lambda: None
) -> None:
    """Do these jobs. What a job prints goes to `runs/<job>.log`; how it ended, to its state.

    A process that dies without a word, as for want of memory, is a failed job.

    Args:
        folder: where they belong.
        jobs: which, in this order.
        places: from `lanes`.
        report: is called several times a second.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; every job has saved its progress.
        RunError: a log cannot be written.
    """
    waiting, free, running = list(jobs), list(places), list[_Running]()
    with _terminable():
        try:
            while waiting or running:
                while waiting and free:
                    running.append(_start(folder, waiting.pop(0), free.pop(0)))
                time.sleep(_POLL_SECONDS)
                for entry in [entry for entry in running if entry.process.poll() is not None]:
                    running.remove(entry)
                    free.append(entry.lane)
                    _end(folder, entry)
                report()
        finally:
            _stop(folder, running)


def _start(folder: BenchmarkFolder, job: Job, lane: Lane) -> _Running:
    path = folder.path / "runs" / f"{job.name}.log"
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
    words = [sys.executable, "-m", "safetrax.grid.local", str(folder.path), job.name, str(lane.threads)]
    process = subprocess.Popen(
        words,
        env=lane.environment(),
        stdin=subprocess.PIPE,  # closed when this process ends, however it does
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
    )
    if lane.cpus and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # it has ended already, or may not
            os.sched_setaffinity(process.pid, lane.cpus)
    return _Running(job, lane, process, log)


def _end(folder: BenchmarkFolder, entry: _Running) -> None:
    entry.log.close()
    code = entry.process.returncode
    if code in (DONE, FAILED, INTERRUPTED):
        return
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    folder.fail(entry.job, f"the process {how}{hint}; its last words are in {Path('runs', f'{entry.job.name}.log')}.")


def _stop(folder: BenchmarkFolder, running: Sequence[_Running]) -> None:
    for entry in running:
        with contextlib.suppress(ProcessLookupError):
            entry.process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for entry in running:
        try:
            entry.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            entry.process.kill()
            entry.process.wait()
        entry.log.close()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def main(words: list[str]) -> int:
    """Do one job; the exit code."""
    from safetrax.grid.job import perform

    threading.Thread(target=_end_with_parent, daemon=True).start()
    path, name, workers = words
    folder = BenchmarkFolder.open(path)
    job = next(job for job in folder.jobs() if job.name == name)
    try:
        return DONE if perform(job, folder, workers=int(workers)) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _end_with_parent() -> None:
    """A job must not go on without its command, which would begin it a second time: its stdin ends with that."""
    while os.read(0, 1):
        pass
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
