"""The messages between a pool and its worker processes: a small header, then raw array bytes, over a pair of pipes.

The pool sends SETUP once and then STEP messages, each of which the worker answers, in order, with ANSWER or FAILURE.
DESCRIBE asks what the environment is; the answer is JSON.
Both sides know the shapes from the setup. Numbers are in the machine's byte order: both ends run on one machine.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np

from safetrax.errors import SimulatorError

SETUP, STEP, ANSWER, FAILURE, DESCRIBE = range(5)
VERSION = 2  # of these messages; both ends must have the same

# What a slot is told to do: step with its action, do nothing, or, for any number >= 0, reset with that seed.
STEP_ON, IDLE = -1, -2

_HEADER = struct.Struct("=BBI")  # kind, group, bytes that follow


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know of the task and of its own part.

    Attributes:
        group_sizes: number of this worker's slots in each group.
        step_timeout: seconds that an environment may take for a step or a reset.
        driver: parameters of the environments' own driver, which acts if there are any; they come with a reset, in
            place of an action.
        unit_actions: whether actions in [-1, 1] are stretched to the box of one's own environment.
    """

    suite: str
    env_id: str
    horizon: int
    observation_size: int
    action_size: int
    group_sizes: tuple[int, ...]
    step_timeout: float
    driver: tuple[str, ...] = ()
    unit_actions: bool = False

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps({"version": VERSION, **asdict(self)}).encode()

    @staticmethod
    def from_bytes(payload: bytes) -> Setup:
        """The inverse of `to_bytes`.

        Raises:
            SimulatorError: it is of another version.
        """
        fields = json.loads(payload)
        version = fields.pop("version", 1)
        if version != VERSION:
            raise SimulatorError(
                f"the worker speaks version {VERSION} of the protocol and the pool {version}; both need one safetrax."
            )
        return Setup(**{**fields, **{name: tuple(fields[name]) for name in ("group_sizes", "driver")}})


@dataclass(frozen=True)
class Answers:
    """What the environments of `k` slots answered; rows of idle slots are zero.

    Attributes:
        observations: float32 `(k, O)`.
        actions: float32 `(k, A)`, those that were executed; zero after a reset.
        rewards: float64 `(k,)`; 0 after a reset.
        costs: float64 `(k,)`; 0 after a reset.
        terminated: bool `(k,)`, by this step.
        truncated: bool `(k,)`, by this step.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    costs: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """Bool `(k,)`: terminated or truncated by this step."""
        return np.asarray(self.terminated | self.truncated)

    @staticmethod
    def empty(slots: int, observation_size: int, action_size: int) -> Answers:
        """Zeros for `slots` slots."""
        matrices = (np.zeros((slots, size), np.float32) for size in (observation_size, action_size))
        return Answers(*matrices, *np.zeros((2, slots)), *np.zeros((2, slots), bool))

    def put(self, rows: slice, part: Answers) -> None:
        """Write a worker's answers into those of all slots."""
        for name, column in vars(part).items():
            getattr(self, name)[rows] = column

    def take(self, used: int, shape: tuple[int, ...]) -> Answers:
        """The first `used` slots, in the form `shape`."""
        columns = vars(self).items()
        return Answers(**{name: column[:used].reshape(*shape, *column.shape[1:]) for name, column in columns})

    def to_bytes(self) -> bytes:
        """All arrays, one after the other."""
        return b"".join(column.tobytes() for column in vars(self).values())

    @staticmethod
    def from_bytes(payload: bytes, slots: int, observation_size: int, action_size: int) -> Answers:
        """The inverse of `to_bytes`."""
        answers, first = Answers.empty(slots, observation_size, action_size), 0
        for column in vars(answers).values():
            column.flat = np.frombuffer(payload, column.dtype, column.size, offset=first)
            first += column.nbytes
        return answers


def commands_to_bytes(commands: np.ndarray, actions: np.ndarray) -> bytes:
    """A STEP's payload: what each slot is told to do, int64 `(k,)`, and the actions, float32 `(k, A)`."""
    return commands.astype(np.int64).tobytes() + actions.astype(np.float32).tobytes()


def commands_from_bytes(payload: bytes, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `commands_to_bytes`."""
    commands = np.frombuffer(payload, np.int64, slots)
    return commands, np.frombuffer(payload, np.float32, offset=8 * slots).reshape(slots, -1)


class Channel:
    """Messages over a readable and a writable pipe."""

    def __init__(self, reader: BinaryIO, writer: int) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, kind: int, group: int, payload: bytes) -> None:
        """Write one message.

        Raises:
            BrokenPipeError: the other side is gone.
        """
        rest = memoryview(_HEADER.pack(kind, group, len(payload)) + payload)
        while rest:
            rest = rest[os.write(self._writer, rest) :]

    def receive(self) -> tuple[int, int, bytes]:
        """Wait for one message: its kind, group and payload.

        Raises:
            EOFError: the other side is gone.
        """
        kind, group, size = _HEADER.unpack(self._read(_HEADER.size))
        return kind, group, self._read(size)

    def _read(self, size: int) -> bytes:
        data = self._reader.read(size)
        if len(data) < size:
            raise EOFError
        return data
