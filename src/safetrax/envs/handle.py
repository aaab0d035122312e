"""The parent's side of one worker process: start it, talk to it, and bring a successor to where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import numpy as np

from safetrax.envs.protocol import FAILURE, IDLE, SETUP, STEP, STEP_ON, Answers, Channel, Setup, commands_to_bytes
from safetrax.errors import SimulatorError


class WorkerDiedError(Exception):
    """The worker process is gone; the text says how."""


@dataclass
class _Episode:
    """What it takes to repeat an unfinished episode."""

    seed: int
    actions: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class _Request:
    """A message that was sent and not answered yet."""

    group: int
    commands: np.ndarray
    actions: np.ndarray


class WorkerHandle:
    """One worker process and a record of its unfinished episodes."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._pending: list[_Request] = []
        self._episodes: dict[tuple[int, int], _Episode] = {}
        self._start()

    def begin(self) -> None:
        """Forget all episodes; have a living worker that owes no answer."""
        if self._pending or self._process.poll() is not None:
            self.stop()
            self._pending.clear()
            self._start()
        self._episodes.clear()

    def send(self, group: int, commands: np.ndarray, actions: np.ndarray) -> None:
        """Tell the slots of a group what to do: int64 `(k,)` commands and float32 `(k, A)` actions.

        Raises:
            WorkerDiedError: call `restart`, which sends it again.
        """
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
        self._remember(request, answers.ended)
        return answers

    def restart(self) -> None:
        """Replace the process, repeat its unfinished episodes, and send again what was not answered.

        Raises:
            WorkerDiedError: the new one died too.
        """
        self.stop()
        self._start()
        for (group, slot), episode in self._episodes.items():
            self._repeat(group, slot, episode)
        for request in self._pending:
            self._write(request)

    def stop(self) -> None:
        """Kill the process, which has nothing to lose, and reap it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "safetrax.envs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            process_group=0,  # out of reach of the terminal's Ctrl-C
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._channel = Channel(cast(BinaryIO, self._process.stdout), self._process.stdin.fileno())
        with suppress(BrokenPipeError):  # noticed, and counted, when the first answer is missing
            self._channel.send(SETUP, 0, self._setup.to_bytes())

    def _write(self, request: _Request) -> None:
        try:
            self._channel.send(STEP, request.group, commands_to_bytes(request.commands, request.actions))
        except BrokenPipeError as error:
            raise self._death() from error

    def _read(self) -> Answers:
        try:
            kind, group, payload = self._channel.receive()
        except EOFError as error:
            raise self._death() from error
        if kind == FAILURE:
            raise SimulatorError(payload.decode(errors="replace"))
        return Answers.from_bytes(payload, self._setup.group_sizes[group], self._setup.observation_size)

    def _remember(self, request: _Request, ended: np.ndarray) -> None:
        """Record what was done, so that it can be repeated."""
        for slot, command in enumerate(request.commands.tolist()):
            place = request.group, slot
            if command >= 0:
                self._episodes[place] = _Episode(command)
            elif command == STEP_ON and ended[slot]:
                self._episodes.pop(place, None)
            elif command == STEP_ON:
                self._episodes[place].actions.append(request.actions[slot])

    def _repeat(self, group: int, slot: int, episode: _Episode) -> None:
        """Bring one slot of a new worker to where the old one's was; the others stay idle."""
        size = self._setup.group_sizes[group]
        commands = np.full(size, IDLE)
        actions = np.zeros((size, self._setup.action_size), np.float32)
        commands[slot] = episode.seed
        self._write(_Request(group, commands, actions))
        self._read()
        commands[slot] = STEP_ON
        for action in episode.actions:
            actions[slot] = action
            self._write(_Request(group, commands, actions))
            self._read()

    def _death(self) -> WorkerDiedError:
        self._process.kill()  # a process that closed its pipes without ending is of no use either
        code = self._process.wait()
        if code < 0:
            return WorkerDiedError(f"killed by {signal.Signals(-code).name}")
        return WorkerDiedError(f"with exit code {code}")


def _environment() -> dict[str, str]:
    """The parent's variables, its module search path, and one thread: the cores are shared by all workers."""
    path = os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path)  # noqa: PTH109
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": path}
