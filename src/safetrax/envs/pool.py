"""Worker processes that step the environments of one task, restarted when they die."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Sequence

import numpy as np

from safetrax.catalogue import Task
from safetrax.envs.local_handle import LocalHandle, MakeEnv
from safetrax.envs.make import require_task
from safetrax.envs.protocol import Answers, Setup
from safetrax.envs.suites import require_suite
from safetrax.envs.worker_handle import WorkerDiedError, WorkerHandle
from safetrax.errors import ConfigError, SimulatorError
from safetrax.settings import require

GROUPS = 2  # one is stepped by the workers while the other's next actions are computed
MAX_DEATHS = 3
STEP_TIMEOUT = 60.0  # seconds


class EnvPool:
    """Environments of one task in worker processes, in two groups of `slots` environments that are stepped in turn.

    Building an environment takes up to 0.3 s and 40-85 MB, a reset a millisecond: so slots are few, are built when
    first used, and serve many episodes. Keep one pool for many evaluations of a task.

    When a worker dies, a new one repeats its unfinished episodes from their seeds and actions: environments are
    bitwise reproducible, so nobody notices. The third death within one evaluation is an error.

    On Linux a worker ends with the thread that made its pool; a pool that is then used from another makes new ones.

    Attributes:
        slots: environments in each of the two groups; 0 before the first evaluation.
        workers: number of processes.
        deaths: workers that died since `begin`.
        row_size: numbers that are sent to a slot: an action, or the driver's parameters if these are more.
    """

    def __init__(
        self,
        task: str | Task,
        slots: int | None = None,
        workers: int | None = None,
        *,
        driver: Sequence[str] = (),
        step_timeout: float = STEP_TIMEOUT,
        unit_actions: bool = False,
        python: str | None = None,
        make: MakeEnv | None = None,
    ) -> None:
        """Check what is asked for; processes are started by `begin`.

        Args:
            task: name of the task, or its description, which need not be in the catalogue.
            slots: by default as many as each evaluation wants, so that its rows are those of one without a pool.
            workers: number of processes; by default one per usable core, and never more than environments. Where a
                process can hold only one environment, there is one for each.
            driver: names of the reset's options that seat the environments' own driver, who then acts; their values
                come with the seed, in place of an action.
            step_timeout: seconds that an environment, once it is built, may take for a step or a reset before its
                worker is ended, which counts as a death.
            unit_actions: whether actions in [-1, 1] are stretched to the action box of one's own environment.
            python: the interpreter that runs the workers; None: this one.
            make: makes the environments, in this process; there are no workers then.

        Raises:
            TaskError: there is no such task.
            SimulatorError: its suite is not supported by this version.
            ConfigError: `slots` or `workers` is below 1, or `step_timeout` is no positive number.
        """
        self.task = require_task(task) if isinstance(task, str) else task
        if any(number is not None and number < 1 for number in (slots, workers)):
            raise ConfigError(f"a pool needs at least 1 slot and 1 worker, got slots={slots} and workers={workers}.")
        require(0 < step_timeout < math.inf, "step_timeout", step_timeout, "be a positive number of seconds")
        self.slots = 0
        self.workers = 1 if make else workers or usable_cores()
        self.deaths = 0
        self.row_size = max(self.task.action_size, len(driver))
        self._fixed_slots, self._most_workers = slots, self.workers
        self._one_per_process = require_suite(self.task.suite).one_per_process
        self._driver, self._step_timeout, self._unit_actions = tuple(driver), float(step_timeout), unit_actions
        self._python, self._make = python, make
        self._rows: list[list[slice]] = []
        self._handles: list[WorkerHandle | LocalHandle] = []
        self._stop = weakref.finalize(self, _stop_all, self._handles)

    def _arrange(self, slots: int) -> None:
        """Start workers for `slots` environments per group, in place of those there are."""
        _stop_all(self._handles)
        self.slots = slots
        self.workers = GROUPS * slots if self._one_per_process else min(self._most_workers, GROUPS * slots)
        # neighbouring slots go to different workers, and the second group goes on where the first one stopped,
        # so that no worker has more than one environment more than another
        self._rows = [
            [slice((w - group * slots) % self.workers, slots, self.workers) for group in range(GROUPS)]
            for w in range(self.workers)
        ]
        for setup in map(self._setup, self._rows):
            self._handles.append(LocalHandle(setup, self._make) if self._make else WorkerHandle(setup, self._python))

    def _setup(self, rows: list[slice]) -> Setup:
        task = self.task
        return Setup(
            suite=task.suite,
            env_id=task.env_id,
            horizon=task.horizon,
            observation_size=task.observation_size,
            action_size=task.action_size,
            group_sizes=tuple(len(range(self.slots)[each]) for each in rows),
            step_timeout=self._step_timeout,
            driver=self._driver,
            unit_actions=self._unit_actions,
        )

    def begin(self, slots: int = 1) -> None:
        """Forget unfinished episodes, and have living workers that owe no answer.

        Args:
            slots: environments per group wanted; ignored where the pool was made with a number of its own.

        Raises:
            SimulatorError: the pool is closed.
        """
        if not self._stop.alive:
            raise SimulatorError(f"the pool for {self.task.name} is closed; make a new one.")
        self.deaths = 0
        wanted = self._fixed_slots or slots
        if wanted != self.slots:
            self._arrange(wanted)
        for handle in self._handles:
            handle.begin()

    def send(self, group: int, commands: np.ndarray, actions: np.ndarray) -> None:
        """Tell every slot of a group what to do next, without waiting.

        Args:
            group: 0 or 1; its answers to the last `send` must have been received.
            commands: int64 `(slots,)`: a seed >= 0 to reset with, or `protocol.STEP_ON`, or `protocol.IDLE`.
            actions: float32 `(slots, row_size)`.
        """
        for handle, rows in zip(self._handles, self._rows, strict=True):
            handle.send(group, commands[rows[group]], actions[rows[group]])

    def receive(self, group: int) -> Answers:
        """Wait for what the slots of a group answered to the last `send`.

        Raises:
            SimulatorError: an environment failed, or workers keep dying.
        """
        answers = Answers.empty(self.slots, self.task.observation_size, self.task.action_size)
        for handle, rows in zip(self._handles, self._rows, strict=True):
            part = self._receive_from(handle, group)
            if part is not None:
                answers.put(rows[group], part)
        return answers

    def _receive_from(self, handle: WorkerHandle | LocalHandle, group: int) -> Answers | None:
        """Its answers, after replacing it as often as it dies on the way."""
        is_dead = False
        while True:
            try:
                if is_dead:
                    handle.restart()
                return handle.receive(group)
            except WorkerDiedError as death:
                is_dead = True
                self.deaths += 1
                if self.deaths >= MAX_DEATHS:
                    raise SimulatorError(
                        f"worker processes of {self.task.name} died {self.deaths} times in one evaluation, the last "
                        f"one {death}."
                    ) from death

    def close(self) -> None:
        """End the workers. Closing twice does no harm."""
        self._stop()

    def __enter__(self) -> EnvPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stop_all(handles: list[WorkerHandle | LocalHandle]) -> None:
    while handles:
        handles.pop().stop()
