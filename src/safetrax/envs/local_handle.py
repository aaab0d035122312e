"""What a worker does, in this process: for an environment that only a function of the caller's can make."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from safetrax.catalogue import OWN, Task, get_task
from safetrax.envs.env_worker import Slot, execute, failure
from safetrax.envs.protocol import Answers, Setup
from safetrax.envs.suites import describe, load_suite
from safetrax.errors import SafeTraXError, SimulatorError

if TYPE_CHECKING:
    import gymnasium

MakeEnv = Callable[[], "gymnasium.Env[Any, Any]"]


class LocalHandle:
    """In place of a `WorkerHandle`: nothing to start, to time or to replace."""

    def __init__(self, setup: Setup, make: MakeEnv) -> None:
        self._setup = setup
        self._groups = [[_LocalSlot(setup, make) for _ in range(size)] for size in setup.group_sizes]
        self._pending: deque[tuple[int, np.ndarray, np.ndarray]] = deque()

    def begin(self) -> None:
        """Forget what was sent."""
        self._pending.clear()

    def send(self, group: int, commands: np.ndarray, actions: np.ndarray) -> None:
        """What the slots of a group are to do: int64 `(k,)` commands and float32 `(k, A)` actions."""
        self._pending.append((group, commands.copy(), actions.copy()))

    def receive(self, group: int) -> Answers | None:
        """The answers to the last `send` to a group.

        Raises:
            SimulatorError: an environment failed.
        """
        sent, commands, actions = self._pending.popleft()
        assert sent == group, "groups are received in the order in which they were sent"
        try:
            return execute(self._groups[group], self._setup, commands, actions)
        except Exception as error:
            raise SimulatorError(failure(error, self._setup)) from error

    def restart(self) -> None:
        """Never asked for: nothing dies."""

    def stop(self) -> None:
        """Close the environments."""
        for group in self._groups:
            for slot in group:
                slot.close()


class _LocalSlot(Slot):
    """Room for one environment that a function makes."""

    def __init__(self, setup: Setup, make: MakeEnv) -> None:
        super().__init__(setup)
        self._make = make

    @override
    def allow(self, seconds: float) -> None:
        """Nothing: an alarm would end the caller."""

    @override
    def build(self) -> Any:
        return _wrapped(self._make, self._setup.env_id, self._setup.horizon)

    def close(self) -> None:
        """Close it, if there is one."""
        if self._env is not None:
            self._env.close()
            self._env = None


def describe_local(make: MakeEnv, horizon: int | None) -> Task:
    """The task of an environment that a function makes, called `module:id`, or `module:Class` if it has no id.

    Raises:
        SimulatorError: it cannot be made or used.
    """
    env = _wrapped(make, "", horizon)
    try:
        kind = type(env.unwrapped)
        name = f"{kind.__module__}:{kind.__name__ if env.spec is None else env.spec.id}"
        return replace(get_task(name), **describe(env, name))
    finally:
        env.close()


def _wrapped(make: MakeEnv, name: str, horizon: int | None) -> Any:
    suite = load_suite(OWN)
    try:
        made = make()
    except SafeTraXError:
        raise
    except Exception as error:
        raise SimulatorError(f"{make!r} makes no environment ({type(error).__name__}: {error}).") from error
    if not isinstance(made, suite.gymnasium.Env) or hasattr(
        made, "num_envs"
    ):  # some versions derive vectors from Env
        raise SimulatorError(
            f"{make!r} makes a {type(made).__name__}, which is not one Gymnasium environment; give a function that "
            "makes a single one, for several are run side by side anyway."
        )
    return suite.CostEnv(made, name or type(made.unwrapped).__name__, horizon)
