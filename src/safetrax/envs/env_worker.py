"""A process that steps environments for a pool: `python -m safetrax.envs.env_worker`, over stdin and stdout.

It is no child of the user's interpreter state: nothing is pickled, a script needs no `__main__` guard, and neither
jax nor the rest of the library is loaded. It ends when its stdin does, and never outlives its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from safetrax.catalogue import OWN
from safetrax.envs.protocol import (
    ANSWER,
    DESCRIBE,
    FAILURE,
    IDLE,
    STEP_ON,
    Answers,
    Channel,
    Setup,
    commands_from_bytes,
)
from safetrax.envs.suites import build_env, describe, load_suite
from safetrax.errors import SafeTraXError, SimulatorError
from safetrax.spaces import PARTS, entries_of

_PR_SET_PDEATHSIG = 1
_BUILD_TIMEOUT = 300.0  # seconds for an environment to be built


def main() -> None:
    """Serve until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if sys.platform == "linux":  # dies with its parent, even where it hangs in native code and sees no pipe close
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(EOFError, BrokenPipeError):
        _serve(_take_over_pipes())
    os._exit(0)  # simulators may crash in their clean-up; there is nothing to clean up


def _serve(channel: Channel) -> None:
    _, _, payload = channel.receive()
    try:
        setup = Setup.from_bytes(payload)
    except SafeTraXError as error:
        channel.send(FAILURE, 0, str(error).encode())
        return
    groups = [[Slot(setup) for _ in range(size)] for size in setup.group_sizes]
    while True:
        kind, group, payload = channel.receive()
        try:
            if kind == DESCRIBE:
                found = describe(Slot(setup).env, setup.env_id)
                answer = json.dumps({**found, PARTS: entries_of(found[PARTS])}).encode()
            else:
                answer = execute(groups[group], setup, *commands_from_bytes(payload, len(groups[group]))).to_bytes()
            kind = ANSWER
        except Exception as error:
            kind, answer = FAILURE, failure(error, setup).encode()
        _allow(0.0)
        channel.send(kind, group, answer)


def failure(error: Exception, setup: Setup) -> str:
    """What is said of it."""
    known = isinstance(error, SafeTraXError)
    return str(error) if known else f"{setup.env_id} failed with {type(error).__name__}: {error}."


def execute(slots: Sequence[Slot], setup: Setup, commands: np.ndarray, actions: np.ndarray) -> Answers:
    """Let every slot of a group do what it is told, as `EnvPool.send` has it."""
    answers = Answers.empty(len(slots), setup.observation_size, setup.action_size)
    for i, (slot, command) in enumerate(zip(slots, commands.tolist(), strict=True)):
        slot.allow(setup.step_timeout)
        if command == STEP_ON:
            answers.actions[i] = slot.env.unwrapped.driver_action() if setup.driver else actions[i]
            step = slot.env.step(answers.actions[i])
            answers.observations[i], answers.rewards[i], answers.terminated[i], answers.truncated[i], info = step
            answers.costs[i] = info["cost"]
        elif command != IDLE:
            options = dict(zip(setup.driver, actions[i].tolist(), strict=False)) or None
            answers.observations[i] = slot.reset(command, options)
    return answers


def _allow(seconds: float) -> None:
    """Have SIGALRM end this process after so many seconds, even in native code; 0: never."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


class Slot:
    """Room for one environment, built when first used."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._env: Any = None

    def allow(self, seconds: float) -> None:
        """Have this process end unless it is told something else within so many seconds; 0: never."""
        _allow(seconds)

    def build(self) -> Any:
        """A new environment."""
        return build_env(self._setup.suite, self._setup.env_id, self._setup.horizon or None)

    @property
    def env(self) -> Any:
        """The gymnasium environment."""
        if self._env is None:
            self.allow(max(_BUILD_TIMEOUT, self._setup.step_timeout))  # imports the simulator
            self._env = self.build()
            if self._setup.unit_actions and self._setup.suite == OWN:
                self._env = load_suite(OWN).UnitActions(self._env)
            self.allow(self._setup.step_timeout)
        return self._env

    def reset(self, seed: int, options: dict[str, Any] | None) -> np.ndarray:
        """The first observation of an episode; where that fails, it is tried once more in a new environment.

        Raises:
            SimulatorError: it fails again.
        """
        try:
            return np.asarray(self.env.reset(seed=seed, options=options)[0])
        except SafeTraXError:
            raise
        except Exception:
            self._env = None
            try:
                return np.asarray(self.env.reset(seed=seed, options=options)[0])
            except Exception as error:
                raise SimulatorError(
                    f"{self._setup.env_id} cannot be reset with the seed {seed}, tried twice: "
                    f"{type(error).__name__}: {error}."
                ) from error


def _take_over_pipes() -> Channel:
    """Keep stdin and stdout for the protocol alone: whatever a simulator prints goes to the null device."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return Channel(os.fdopen(reader, "rb"), writer)


if __name__ == "__main__":
    np.seterr(all="ignore")  # a simulator that diverges says so in its observations
    main()
