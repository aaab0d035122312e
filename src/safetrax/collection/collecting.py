"""Collecting a data set in DSRL's manner, from the first episode to the file."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from safetrax._version import __version__
from safetrax.catalogue import Task
from safetrax.collection.buffer import Buffer, load_state, save_state, state_path
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
from safetrax.collection.drivers import Box
from safetrax.collection.ppo import PPO
from safetrax.collection.recorder import Episode, EpisodeMaker, Tally, episode_seed, join
from safetrax.data.formats.hdf5 import write_hdf5
from safetrax.data.trajectories import Trajectories
from safetrax.envs.pool import STEP_TIMEOUT, EnvPool
from safetrax.envs.suites import load_suite
from safetrax.errors import ConfigError, RunError, SafeTraXError, SafeTraXWarning, SimulatorError
from safetrax.files import locked, sweep
from safetrax.policies.batched import require_fit
from safetrax.policies.policy import Policies, Policy
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
    policies: Policies | Policy | Sequence[Policy] | None = None,
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
    report: Callable[[CollectionProgress], None] | None = None,
) -> Collection:
    """Make a data set: let agents, drivers or policies act, keep whole episodes, write them in DSRL's format.

    * `method="agents"`: PPO-Lagrangian agents learn from nothing, while their cost limits sweep over `cost_limits`,
      down for every other agent and up for those between. Every episode is recorded; whenever there are half as many
      again as wanted, they are thinned to a near-uniform density over cost and return (Liu et al., 2024,
      arXiv:2306.09303).
    * `method="driver"`: the simulator's rule-based driver, with each of its parameter sets in turn (MetaDrive).
    * `method="policies"`: trained policies, each for its share of the episodes.

    The same arguments give the same file, byte for byte, for any number of workers, also after an interruption.

    Args:
        environment: a task of the benchmark, or a registered environment, as `gymnasium.make` takes it, with boxes of
            observations and actions and a cost in `info["cost"]`.
        out: the HDF5 file to write; until it is whole, `<out>.unfinished` holds what there is.
        method: by default policies if they are given, else MetaDrive's driver in MetaDrive, else agents.
        policies: to act; all of one structure.
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
    if stacked is not None:
        require_fit(stacked, task)
    maker, buffer = make_episodes(plan, task, box, stacked), make_buffer(plan)
    signature = signature_of(plan, task, stacked)
    if not out.name.endswith((".hdf5", ".h5")):
        raise ConfigError(f"the data set is written in HDF5, so {out.name} should end in .hdf5.")
    with locked(out.with_name(f".{out.name}.lock"), out):
        _check_files(out, resume, signature)
        for path in (out, state_path(out), _partial_path(out)):
            sweep(path.parent, path.name)
        first = 0
        if resume:
            first, arrays = load_state(state_path(out), buffer, signature)
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
        slots = slots_of(plan, task, workers)
        with EnvPool(task, slots, workers, driver=driver, step_timeout=step_timeout) as pool:
            saver = _Saver(state_path(out), save_seconds, maker, buffer, signature)
            try:
                _run(maker, buffer, pool, first, saver, report)
            except (SimulatorError, RunError) as error:
                kept = ""
                if buffer.episodes:
                    data = _write(_partial_path(out), task, box, buffer, signature, next_observations)
                    kept = f" The {data.num_episodes} episodes before that are in {_partial_path(out)}."
                if saver.path.exists():
                    kept += f" {saver.path} holds the state, and the same command with --resume goes on."
                raise type(error)(f"{error}{kept}") from error
        data = _write(out, task, box, buffer, signature, next_observations)
        for path in (state_path(out), _partial_path(out)):
            path.unlink(missing_ok=True)
        return Collection(out, data, buffer.offered, buffer.steps, time.monotonic() - began)


def _run(
    maker: EpisodeMaker,
    buffer: Buffer,
    pool: EnvPool,
    first: int,
    saver: _Saver,
    report: Callable[[CollectionProgress], None] | None,
) -> None:
    """All iterations from `first` on."""
    with catch_signals() as stop:
        done = first
        while not maker.done(done, buffer.steps):
            before, ended = maker.state(), list[Episode]()
            try:
                made = maker.run(pool, done, buffer.steps, ended.append)
            except (SimulatorError, RunError):
                if done:
                    saver.save(done, before)
                buffer.add(ended)
                raise
            buffer.add(made)
            done += 1
            finished = maker.done(done, buffer.steps)
            total = done if finished else max(maker.iterations, done + 1)
            if report is not None:
                report(CollectionProgress(done, total, buffer, tuple(maker.tally(made)), sum(map(len, made))))
            if stop.requested:
                saver.save(done, maker.state())
                raise CollectionInterruptedError(
                    f"stopped after {done} of {total} iterations with {len(buffer.episodes)} episodes; "
                    f"{saver.path} holds them, and the same command with --resume goes on."
                )
            if not finished:
                saver.save_now_and_then(done)


@dataclass
class _Saver:
    """Writes the state of a collection every `seconds`."""

    path: Path
    seconds: float
    maker: EpisodeMaker
    buffer: Buffer
    signature: Mapping[str, Any]
    _last: float = field(default_factory=time.monotonic)

    def save_now_and_then(self, iteration: int) -> None:
        """Save, if the last time is long enough ago."""
        if time.monotonic() - self._last >= self.seconds:
            self.save(iteration, self.maker.state())

    def save(self, iteration: int, state: Mapping[str, np.ndarray]) -> None:
        """Save; `iteration` is the one to go on with, from that state of the source."""
        save_state(self.path, iteration=iteration, buffer=self.buffer, source=state, signature=self.signature)
        self._last = time.monotonic()


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


def _partial_path(out: Path) -> Path:
    """Where the episodes of a collection are that its simulator ended."""
    return out.with_name(f"{out.stem}.partial.hdf5")


def _check_files(out: Path, resume: bool, signature: Mapping[str, Any]) -> None:
    state = state_path(out)
    # a collection that was killed between its last two steps writes the same file again
    if out.exists() and not (resume and state.exists() and _is_of(out, signature)):
        raise RunError(f"{out} exists already; choose another name or move it away.")
    if state.exists() and not resume:
        raise RunError(f"{state} holds an unfinished collection; go on with resume, or delete it to begin anew.")


def _is_of(out: Path, signature: Mapping[str, Any]) -> bool:
    """Whether a data set is that of this collection."""
    try:
        with h5py.File(out) as file:
            return bool(file.attrs["collection"] == json.dumps(dict(signature)))
    except (OSError, KeyError):
        return False


def _write(
    out: Path, task: Task, box: Box, buffer: Buffer, signature: Mapping[str, Any], next_observations: bool
) -> Trajectories:
    if not buffer.episodes:
        raise RunError(f"none of the {buffer.offered} episodes is within max_cost and min_return; loosen them.")
    episodes = sorted(buffer.finish(), key=lambda episode: episode.number)
    benchmark: dict[str, str] = {"task": task.name} if task.dataset_file else {}
    low, high = box
    data = join(episodes, action_low=low, action_high=high, info={"source": out.name, "task": None, **benchmark})
    if not next_observations:
        data = replace(data, next_observations=None)
    attributes: dict[str, str | int | float] = {
        "title": f"{len(episodes)} episodes of {task.name}",
        "environment": task.env_id,
        **benchmark,
        "made_by": f"safetrax {__version__}, collect",
        "simulator": str(signature["simulator"]),
        "collection": json.dumps(dict(signature)),
        "episodes_made": buffer.offered,
        "episodes_within_bounds": buffer.accepted,
    }
    seeds = np.array([episode_seed(signature["seed"], episode.number) for episode in episodes])
    owners = np.array([episode.owner for episode in episodes])
    write_hdf5(out, data, attributes=attributes, extra={"episode_seeds": seeds, "episode_owners": owners})
    return data
