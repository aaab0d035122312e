"""The parent's side of one worker process: start it, talk to it, and bring a successor to where it was.

A worker may run in another Python, which has a simulator that this one has not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from safetrax.catalogue import Task
from safetrax.envs.protocol import (
    DESCRIBE,
    FAILURE,
    IDLE,
    SETUP,
    STEP,
    STEP_ON,
    Answers,
    Channel,
    Setup,
    commands_to_bytes,
)
from safetrax.errors import SimulatorError
from safetrax.spaces import PARTS, parts_of

_RESTING = np.iinfo(np.int64).max
_TRIM = 1000  # requests kept beyond need before a log is shortened


class WorkerDiedError(Exception):
    """The worker process is gone; the text says how, and what may help."""


@dataclass(frozen=True)
class _Request:
    group: int
    commands: np.ndarray
    actions: np.ndarray


class _Log:
    """What a group of slots was told since the oldest of its unfinished episodes began."""

    def __init__(self, slots: int) -> None:
        self._requests: list[_Request] = []
        self._start = np.full(slots, _RESTING)  # where in the list each slot's unfinished episode begins

    def add(self, request: _Request, ended: np.ndarray) -> None:
        """Record an answered request; `ended`: bool `(slots,)`."""
        self._start[request.commands >= 0] = len(self._requests)
        self._start[ended & (request.commands == STEP_ON)] = _RESTING
        oldest = int(self._start.min(initial=_RESTING))
        if oldest == _RESTING:
            self._requests.clear()
            return
        self._requests.append(request)
        if oldest > _TRIM:
            del self._requests[:oldest]
            self._start[self._start != _RESTING] -= oldest

    def unfinished(self) -> Iterator[_Request]:
        """The requests that bring new environments to where the old ones were."""
        oldest = int(self._start.min(initial=_RESTING))
        for position, request in enumerate(self._requests[oldest:], start=oldest):
            commands = np.where(position >= self._start, request.commands, IDLE)
            yield _Request(request.group, commands, request.actions)


class WorkerHandle:
    """One worker process and a record of its unfinished episodes."""

    def __init__(self, setup: Setup, python: str | None = None) -> None:
        """`python`: another interpreter.

        Raises:
            SimulatorError: it cannot be run.
        """
        self._setup, self._python = setup, python
        self._pending: list[_Request] = []
        self._forget()
        self._start()

    def begin(self) -> None:
        """Forget all episodes; have a living worker that owes no answer."""
        if self._pending or self._process.poll() is not None:
            self.stop()
            self._pending.clear()
            self._start()
        self._forget()

    def send(self, group: int, commands: np.ndarray, actions: np.ndarray) -> None:
        """Tell the slots of a group what to do: int64 `(k,)` commands and float32 `(k, A)` actions."""
        if len(commands):
            self._pending.append(_Request(group, commands.copy(), actions.copy()))
            self._write(self._pending[-1])

    def receive(self, group: int) -> Answers | None:
        """The answers to the last `send` to a group; None where this worker has no slots in it.

        Raises:
            WorkerDiedError: call `restart`, then receive again.
            SimulatorError: an environment failed.
        """
        if not self._setup.group_sizes[group]:
            return None
        answers = self._read()
        request = self._pending.pop(0)
        assert request.group == group, "groups are received in the order in which they were sent"
        self._logs[group].add(request, answers.ended)
        return answers

    def restart(self) -> None:
        """Replace the process, repeat its unfinished episodes, and send again what was not answered.

        Raises:
            WorkerDiedError: the new one died too.
        """
        self.stop()
        self._start()
        for log in self._logs:
            for request in log.unfinished():
                self._write(request)
                self._read()
        for request in self._pending:
            self._write(request)

    def stop(self) -> None:
        """Kill the process, which has nothing to lose, and reap it."""
        with self._process as process:  # closes its pipes
            process.kill()

    def describe(self) -> dict[str, Any]:
        """What the worker's environment is, by the names of `Task`; it is built for that.

        Raises:
            SimulatorError: it cannot be built, or its first step fails.
            WorkerDiedError: the worker is gone.
        """
        self._tell(DESCRIBE, 0, b"")
        found: dict[str, Any] = json.loads(self._receive()[1])
        return found

    def _start(self) -> None:
        # one thread each: the cores are shared by all workers
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        if self._python is None:
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
            command, there = [sys.executable, "-P", "-m", "safetrax.envs.env_worker"], {"PYTHONPATH": path}
        else:  # what is installed here is no use there
            command, there = [self._python, str(Path(__file__).with_name("elsewhere.py"))], {}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **threads, **there},
                process_group=0,  # out of reach of the terminal's Ctrl-C
            )
        except OSError as error:
            raise SimulatorError(
                f"the Python {command[0]} cannot be run ({error.strerror}); pass the path of an interpreter."
            ) from error
        to_worker, from_worker = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        self._channel = Channel(from_worker, to_worker.fileno())
        self._tell(SETUP, 0, self._setup.to_bytes())

    def _tell(self, kind: int, group: int, payload: bytes) -> None:
        with suppress(BrokenPipeError):  # a death is noticed, and counted, when an answer is missing
            self._channel.send(kind, group, payload)

    def _write(self, request: _Request) -> None:
        self._tell(STEP, request.group, commands_to_bytes(request.commands, request.actions))

    def _receive(self) -> tuple[int, bytes]:
        """Group and payload of the next answer."""
        try:
            kind, group, payload = self._channel.receive()
        except EOFError as error:
            raise self._death() from error
        if kind == FAILURE:
            place = "" if self._python is None else f"in {self._python}: "
            raise SimulatorError(place + payload.decode(errors="replace"))
        return group, payload

    def _read(self) -> Answers:
        group, payload = self._receive()
        setup = self._setup
        return Answers.from_bytes(payload, setup.group_sizes[group], setup.observation_size, setup.action_size)

    def _forget(self) -> None:
        self._logs = [_Log(size) for size in self._setup.group_sizes]

    def _death(self) -> WorkerDiedError:
        self._process.kill()  # a process that closed its pipes without ending is of no use either
        code = self._process.wait()
        if code == -signal.SIGALRM:
            seconds = f"{self._setup.step_timeout:g} s"
            return WorkerDiedError(f"as a step or a reset took more than {seconds}; step_timeout allows more")
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return WorkerDiedError(f"{how}; if memory is short, use fewer workers or slots")


def describe_elsewhere(task: Task, python: str, step_timeout: float = 60.0) -> Task:
    """A task as the simulator of another interpreter has it, which is tried for that.

    Raises:
        SimulatorError: the interpreter cannot be run, lacks something, or its environment is not the task's.
    """
    handle = WorkerHandle(Setup(task.suite, task.env_id, task.horizon, 0, 0, (), step_timeout), python)
    try:
        found = handle.describe()
    except WorkerDiedError as death:
        raise SimulatorError(f"{python} does not answer as a Python would; its process died {death}.") from death
    finally:
        handle.stop()
    if task.own:
        ends = {name: tuple(found[name]) for name in ("action_low", "action_high")}
        return replace(task, **{**found, **ends, PARTS: parts_of(found[PARTS])})
    for name in ("horizon", "observation_size", "action_size"):
        if found[name] != getattr(task, name):
            raise SimulatorError(
                f"in {python}: {task.name} has the {name} {found[name]}, not {getattr(task, name)}; install the "
                "version of the simulator that the benchmark has."
            )
    return task
