"""Jobs on a Ray cluster: the same grid, the same files, in a folder that all nodes share.

A data set is one object: it is loaded once, by whichever node first needs it, and every other node fetches it once. A
job whose node dies begins again elsewhere, and goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetrax.errors import ConfigError, RunError
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Job, algorithm_of
from safetrax.grid.local import thread_environment
from safetrax.settings import require

_RETRIES = 5  # of a job whose node or process dies
_GIB = 2**30
_POLL_SECONDS = 0.5

_DataKey = tuple[str, str, bool]


@dataclass(frozen=True)
class Needs:
    """What one job takes of a node.

    Attributes:
        cpus: processors.
        gpus: graphics cards, or a share of one.
        memory: GiB beside the data set.

    Raises:
        ConfigError: a number is out of range.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float = 2.0

    def __post_init__(self) -> None:
        require(self.cpus > 0, "job_cpus", self.cpus, "be positive")
        require(self.gpus >= 0, "gpus", self.gpus, "be at least 0")
        require(self.memory >= 0, "job_memory", self.memory, "be at least 0")

    def options(self, data_bytes: int) -> dict[str, Any]:
        """As Ray takes them."""
        memory = int(self.memory * _GIB + 1.3 * data_bytes)
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": memory}


def require_ray() -> Any:
    """Ray.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError('--executor ray needs Ray; install it with pip install "safetrax[ray]".') from None
    return ray


def run_on_ray(
    folder: BenchmarkFolder,
    jobs: Sequence[Job],
    needs: Needs | None = None,
    *,
    address: str | None = None,
    workers: int | None = None,
    report: Callable[[], None] = lambda: None,
) -> None:
    """Do these jobs. How each ended is written to its state.

    Args:
        folder: where they belong; every node must see it under the same path.
        jobs: which, in this order.
        needs: what each takes.
        address: `host:port` of a cluster, or "auto" for the one that runs on this computer; None: one is started, and
            stopped in the end.
        workers: processors of the cluster that is started; None: all of this computer.
        report: is called about twice a second.

    Raises:
        ConfigError: Ray is not installed.
        RunError: the cluster cannot be reached, or no node of it is large enough for a job.
        KeyboardInterrupt: Ctrl-C; what the jobs saved is there.
    """
    ray, needs = require_ray(), needs or Needs()
    with _connected(ray, address, workers):
        folder = BenchmarkFolder(folder.path.resolve())
        _require_room(ray, needs)
        _Driver(ray, folder, needs, list(jobs)).run(report)


class _Driver:
    """Hands jobs to Ray, a few more at a time than run, and drops a data set when its last job is done."""

    def __init__(self, ray: Any, folder: BenchmarkFolder, needs: Needs, jobs: list[Job]) -> None:
        self._ray, self._folder, self._needs, self._waiting = ray, folder, needs, jobs
        self._running: dict[Any, Job] = {}
        self._keys = {job.name: _key(job) for job in jobs}
        self._left = Counter(self._keys.values())  # jobs that still need a data set
        self._data: dict[_DataKey, Any] = {}

    def run(self, report: Callable[[], None]) -> None:
        """Until all have ended."""
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._slots():
                    self._submit(self._waiting.pop(0))
                ended, _ = self._ray.wait(list(self._running), timeout=_POLL_SECONDS)
                for reference in ended:
                    self._end(reference, self._running.pop(reference))
                report()
        finally:
            for reference in self._running:
                with contextlib.suppress(Exception):  # the cluster may be gone
                    self._ray.cancel(reference, force=True)

    def _slots(self) -> int:
        """Jobs that fit into the cluster as it is now, and two so that no node waits for the driver."""
        total = self._ray.cluster_resources()
        fits = total.get("CPU", 0.0) / self._needs.cpus
        if self._needs.gpus:
            fits = min(fits, total.get("GPU", 0.0) / self._needs.gpus)
        return max(1, int(fits)) + 2

    def _submit(self, job: Job) -> None:
        remote, environment = self._ray.remote, {"env_vars": thread_environment(self._needs.cpus)}
        key = self._keys[job.name]
        if key not in self._data:
            load = remote(_load).options(num_cpus=1, max_retries=_RETRIES, runtime_env=environment)
            self._data[key] = load.remote(*key)
        options = self._needs.options(_size(job))
        # a fresh process for every job gives its memory and its graphics card back
        work = remote(max_calls=1)(_work).options(**options, max_retries=_RETRIES, runtime_env=environment)
        self._running[work.remote(str(self._folder.path), job.to_json(), self._needs.cpus, self._data[key])] = job

    def _end(self, reference: Any, job: Job) -> None:
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # outside `perform`: the data set, or the folder
            self._folder.fail(job, str(error.cause or error).partition("\n")[0])
        except self._ray.exceptions.RayError as error:
            self._folder.fail(
                job, f"its process or node died {_RETRIES + 1} times: {str(error).partition(chr(10))[0]}"
            )
        key = self._keys[job.name]
        self._left[key] -= 1
        if not self._left[key]:
            del self._data[key]


def _load(data: str, task: str, next_observations: bool) -> Any:
    """A data set, for all jobs that need it."""
    from safetrax.data import load

    return load(data, task=task, next_observations=next_observations)


def _work(folder: str, values: dict[str, Any], cpus: float, data: Any) -> bool:
    """One job, on some node."""
    from safetrax.grid.job import perform

    there = BenchmarkFolder(Path(folder))
    if not there.grid_file.is_file():
        raise RunError(
            f"the node {socket.gethostname()} does not see {folder}; put it on a file system that all nodes share."
        )
    return perform(Job.from_json(values), there, workers=max(1, int(cpus)), data=data)


def _key(job: Job) -> _DataKey:
    return job.data, job.task, "next_observations" in algorithm_of(job).fields


def _size(job: Job) -> int:
    """Bytes of the data set, as far as this computer knows; compressed files are larger in memory."""
    path = Path(job.data)
    return 4 * path.stat().st_size if path.is_file() else 0


@contextlib.contextmanager
def _connected(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    if address is not None and address != "auto":
        _require_listener(address)
    cluster = {"num_cpus": workers, "include_dashboard": False} if address is None else {"address": address}
    try:
        ray.init(**cluster, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "on this computer" if address in (None, "auto") else f"at {address}"
        reason = str(error).partition("\n")[0].rstrip(".")
        raise RunError(f"there is no Ray cluster {where} to work with ({reason}).") from None
    try:
        yield
    finally:
        ray.shutdown()


def host_and_port(address: str) -> tuple[str, str]:
    """The two parts of an address.

    Raises:
        ConfigError: it has another form.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ConfigError(f"--ray-address is {address!r}, but must be host:port, or auto.")
    return host, port


def _require_listener(address: str) -> None:
    """Ray itself tries for a minute."""
    host, port = host_and_port(address)
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise RunError(
            f"nothing answers at {address} ({error.strerror or error}); start a cluster with ray start --head."
        ) from None


def _require_room(ray: Any, needs: Needs) -> None:
    """Find out whether a job fits into one node; otherwise Ray would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory * _GIB}
    if not any(all(node.get(name, 0.0) >= value for name, value in wanted.items()) for node in nodes):
        raise RunError(
            f"no node of the cluster has {needs.cpus:g} processors, {needs.gpus:g} graphics cards and "
            f"{needs.memory:g} GiB of memory for a job."
        )
