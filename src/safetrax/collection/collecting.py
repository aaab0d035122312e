"""Collecting a data set in DSRL's manner, from the first episode to the file."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from safetrax._version import __version__
from safetrax.catalogue import Task
from safetrax.collection.buffer import Buffer, load_state, save_state
from safetrax.collection.collection_plan import (
    CollectionPlan,
    Method,
    choose_method,
    choose_sweep,
    describe,
    make_buffer,
    make_episodes,
    signature_of,
    slots_of,
    stack,
)
from safetrax.collection.drivers import Box, Predictor
from safetrax.collection.ppo import PPO
from safetrax.collection.recorder import Episode, EpisodeMaker, Tally, episode_seed, join
from safetrax.data.formats.hdf5 import write_hdf5
from safetrax.data.trajectories import ACTION_CHOICES, Trajectories
from safetrax.envs.pool import STEP_TIMEOUT, EnvPool
from safetrax.envs.suites import load_suite
from safetrax.errors import ConfigError, RunError, SafeTraXError, SafeTraXWarning, SimulatorError
from safetrax.files import locked, sweep
from safetrax.policies.batched import require_fit
from safetrax.policies.policy import Policies, Policy
from safetrax.spaces import named_parts
from safetrax.training.interrupt import catch_signals


class CollectionInterruptedError(SafeTraXError):
    """The collection was asked to stop; what it has is saved, and it can be resumed."""


@dataclass(frozen=True)
class Collection:
    """What came of a collection.

    Attributes:
        path: the data set's file.
        trajectories: the data set.
        episodes_made: how many episodes were run.
        steps_made: how many steps these had.
        seconds: of wall time, since the start or the last resumption.
    """

    path: Path
    trajectories: Trajectories
    episodes_made: int
    steps_made: int
    seconds: float


def collect(
    environment: str,
    out: str | Path,
    *,
    method: Method | None = None,
    policies: Policies | Policy | Sequence[Policy] | Predictor | None = None,
    episodes: int = 1000,
    steps: int = 2_000_000,
    agents: int = 2,
    cost_limits: tuple[float, float] | None = None,
    max_cost: float | None = None,
    min_return: float | None = None,
    noise: float = 0.0,
    seed: int = 0,
    horizon: int | None = None,
    settings: PPO | None = None,
    next_observations: bool = True,
    workers: int | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    step_timeout: float = STEP_TIMEOUT,
    report: Report | None = None,
) -> Collection:
    """Make a data set: let agents, drivers or policies act, keep whole episodes, write them in DSRL's format.

    * `method="agents"`: PPO-Lagrangian agents learn from nothing, while their cost limits sweep over `cost_limits`,
      down for every other agent and up for those between. Every episode is recorded; whenever there are half as many
      again as wanted, they are thinned to a near-uniform density over cost and return (Liu et al., 2024,
      arXiv:2306.09303).
    * `method="driver"`: the simulator's rule-based driver, with each of its parameter sets in turn (MetaDrive).
    * `method="policies"`: trained policies, each for its share of the episodes; or one of another library.

    The same arguments give the same file, byte for byte, for any number of workers, also after an interruption.

    Args:
        environment: a task of the benchmark, or a registered environment, as `gymnasium.make` takes it, with
            observations of numbers and choices, a box of actions (choices for policies only) and a cost in
            `info["cost"]`.
        out: the HDF5 file to write; until it is whole, `<out>.unfinished` holds what there is.
        method: by default policies if they are given, else MetaDrive's driver in MetaDrive, else agents.
        policies: to act; all of one structure. Or one object with the `predict` of Stable-Baselines3's models, which
            is asked for its deterministic actions.
        episodes: how many to keep; drivers and policies run just so many.
        steps: environment steps of all agents together, in whole episodes; where these end early, up to one of each
            agent and group of environments more.
        agents: how many.
        cost_limits: strictest and loosest limit on the cost of an episode that an agent is given; by default 5 and
            the largest cost in DSRL's file of the task.
        max_cost: agents' episodes of a higher cost are not kept; by default the largest cost in DSRL's file.
        min_return: agents' episodes of a lower return are not kept; by default all are.
        noise: standard deviation of Gaussian noise on policies' actions, where these lie in [-1, 1].
        seed: 0 to 199.
        horizon: steps of an episode, for an environment that is registered without.
        settings: of the agents.
        next_observations: write them; within an episode they are the next row's observations, and double the file.
        workers: processes that step environments; by default one per usable core.
        resume: go on with the unfinished collection into `out`.
        save_seconds: between two savings of an unfinished collection.
        step_timeout: seconds that an environment may take for a step or a reset.
        report: called after every iteration.

    Raises:
        ConfigError: an argument is out of range, or contradicts another.
        TaskError: the policies do not fit the environment.
        SimulatorError: the environment cannot be made, fails, or answers with a cost that is negative or anything
            that is not finite. The episodes before that are in `<name of out>.partial.hdf5`, whole iterations also in
            `<out>.unfinished`, from where `resume=True` goes on.
        RunError: a file cannot be written, is there already, or is in use.
        CollectionInterruptedError: Ctrl-C or a termination signal; `resume=True` goes on.
    """
    out = Path(out)
    task, box = describe(environment, horizon)
    stacked = stack(policies)
    chosen = choose_method(method, task, stacked)
    plan = CollectionPlan(
        environment=task.name,
        method=chosen,
        episodes=episodes,
        steps=steps,
        agents=agents,
        sweep=choose_sweep(cost_limits, task, chosen),
        max_cost=task.cost_max if max_cost is None and np.isfinite(task.cost_max) else max_cost,
        min_return=min_return,
        noise=noise,
        seed=seed,
        horizon=task.horizon,
        settings=settings or PPO(),
    )
    if isinstance(stacked, Policies):
        require_fit(stacked, task)
    if task.action_choices and (chosen != "policies" or noise):
        raise ConfigError(
            f"{task.name} takes choices, which only policies collect, without noise; train some on a log."
        )
    maker, buffer = make_episodes(plan, task, box, stacked), make_buffer(plan)
    signature = signature_of(plan, task, stacked)
    if not out.name.endswith((".hdf5", ".h5")):
        raise ConfigError(f"the data set is written in HDF5, so {out.name} should end in .hdf5.")
    with locked(out.with_name(f".{out.name}.lock"), out):
        work = _Work(out, task, box, maker, buffer, signature, next_observations)
        work.check_files(resume)
        for path in (out, work.state_path, work.partial_path):
            sweep(path.parent, path.name)
        first = 0
        if resume:
            first, arrays = load_state(work.state_path, buffer, signature)
            maker.restore(arrays)
        began = time.monotonic()
        driver = load_suite(task.suite).DRIVER_OPTIONS if chosen == "driver" else ()
        whole = -(-plan.steps // task.horizon) * task.horizon
        if chosen == "agents" and whole != plan.steps:
            warnings.warn(
                f"{plan.steps:,} steps are no whole number of episodes of {task.horizon} steps; {whole:,} will be "
                "made.",
                SafeTraXWarning,
                stacklevel=2,
            )
        with EnvPool(
            task,
            slots_of(plan, task, workers),
            workers,
            driver=driver,
            step_timeout=step_timeout,
            unit_actions=True,
        ) as pool:
            try:
                work.run(pool, first, save_seconds, report)
            except (SimulatorError, RunError) as error:
                kept = ""
                if buffer.episodes:
                    data = work.write(work.partial_path)
                    kept = f" The {data.num_episodes} episodes before that are in {work.partial_path}."
                if work.state_path.exists():
                    kept += f" {work.state_path} holds the state, and the same command with --resume goes on."
                raise type(error)(f"{error}{kept}") from error
        data = work.write(out)
        for path in (work.state_path, work.partial_path):
            path.unlink(missing_ok=True)
        return Collection(out, data, buffer.offered, buffer.steps, time.monotonic() - began)


@dataclass(frozen=True)
class CollectionProgress:
    """How far a collection is.

    Attributes:
        iteration: iterations that are done.
        iterations: expected of the whole collection; fewer are made where episodes end early.
        buffer: what is kept so far.
        tallies: a line on the last iteration's episodes for each who acted.
        steps: of the last iteration.
    """

    iteration: int
    iterations: int
    buffer: Buffer
    tallies: tuple[Tally, ...]
    steps: int


Report = Callable[[CollectionProgress], None]


@dataclass(frozen=True)
class _Work:
    """Who acts, what is kept, and the files that it becomes."""

    out: Path
    task: Task
    box: Box
    maker: EpisodeMaker
    buffer: Buffer
    signature: Mapping[str, Any]
    next_observations: bool

    @property
    def state_path(self) -> Path:
        """With what an unfinished collection needs to go on."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    @property
    def partial_path(self) -> Path:
        """With the episodes before the simulator failed."""
        return self.out.with_name(f"{self.out.stem}.partial.hdf5")

    def check_files(self, resume: bool) -> None:
        has_state = self.state_path.exists()
        # a collection that was killed between its last two steps writes the same file again
        if self.out.exists() and not (resume and has_state and self._is_written()):
            raise RunError(f"{self.out} exists already; choose another name or move it away.")
        if has_state and not resume:
            advice = "go on with resume, or delete it to begin anew"
            raise RunError(f"{self.state_path} holds an unfinished collection; {advice}.")

    def _is_written(self) -> bool:
        try:
            with h5py.File(self.out) as file:
                return bool(file.attrs["collection"] == json.dumps(self.signature))
        except (OSError, KeyError):
            return False

    def run(self, pool: EnvPool, first: int, save_seconds: float, report: Report | None) -> None:
        """All iterations from `first` on; the state is saved every so many seconds."""
        maker, buffer = self.maker, self.buffer
        saved = time.monotonic()
        with catch_signals() as stop:
            done = first
            while not maker.done(done, buffer.steps):
                before, ended = maker.state(), list[Episode]()
                try:
                    made = maker.run(pool, done, buffer.steps, ended.append)
                except (SimulatorError, RunError):
                    if done:
                        self._save(done, before)
                    buffer.add(ended)
                    raise
                buffer.add(made)
                done += 1
                finished = maker.done(done, buffer.steps)
                total = done if finished else max(maker.iterations, done + 1)
                if report is not None:
                    report(CollectionProgress(done, total, buffer, tuple(maker.tally(made)), sum(map(len, made))))
                if stop.requested:
                    self._save(done, maker.state())
                    raise CollectionInterruptedError(
                        f"stopped after {done} of {total} iterations with {len(buffer.episodes)} episodes; "
                        f"{self.state_path} holds them, and the same command with --resume goes on."
                    )
                if not finished and time.monotonic() - saved >= save_seconds:
                    self._save(done, maker.state())
                    saved = time.monotonic()

    def _save(self, iteration: int, source: Mapping[str, np.ndarray]) -> None:
        save_state(self.state_path, iteration=iteration, buffer=self.buffer, source=source, signature=self.signature)

    def write(self, path: Path) -> Trajectories:
        """Write the episodes that are kept, as a data set."""
        buffer, task, signature = self.buffer, self.task, self.signature
        if not buffer.episodes:
            raise RunError(f"none of the {buffer.offered} episodes is within max_cost and min_return; loosen them.")
        episodes = sorted(buffer.finish(), key=lambda episode: episode.number)
        low, high = self.box
        info = {"source": path.name, "task": task.name, **named_parts(task.observation_parts)}
        if task.action_choices:
            info[ACTION_CHOICES] = task.action_choices
        data = join(episodes, action_low=low, action_high=high, info=info)
        if not self.next_observations:
            data = replace(data, next_observations=None)
        attributes: dict[str, str | int | float] = {
            "title": f"{len(episodes)} episodes of {task.name}",
            "environment": task.env_id,
            "task": task.name,
            "made_by": f"safetrax {__version__}, collect",
            "simulator": str(signature["simulator"]),
            "collection": json.dumps(signature),
            "episodes_made": buffer.offered,
            "episodes_within_bounds": buffer.accepted,
        }
        extra = {
            "episode_seeds": np.array([episode_seed(signature["seed"], episode.number) for episode in episodes]),
            "episode_owners": np.array([episode.owner for episode in episodes]),
        }
        write_hdf5(path, data, attributes=attributes, extra=extra)
        return data
