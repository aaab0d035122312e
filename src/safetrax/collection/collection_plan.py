"""What a collection is to do: the arguments, checked and completed, and the parts that follow from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from safetrax.catalogue import Task
from safetrax.collection.agents import SweepingAgents, default_sweeps
from safetrax.collection.buffer import Buffer
from safetrax.collection.drivers import Box, Drivers, Predicted, Predictor, Trained
from safetrax.collection.ppo import PPO
from safetrax.collection.recorder import MOST_SEEDS, EpisodeMaker
from safetrax.envs.make import require_task
from safetrax.envs.pool import GROUPS, usable_cores
from safetrax.envs.suites import load_suite, require_suite
from safetrax.errors import ConfigError
from safetrax.evaluation.rollout import default_slots
from safetrax.files import exact
from safetrax.policies.policy import Policies, Policy
from safetrax.settings import require_whole

Method = Literal["agents", "driver", "policies"]
_EPISODES_PER_ITERATION = 8  # of each agent, at least
_MOST_SLOTS = 16  # of each agent in a group
_STRICTEST = 5.0  # cost limit, as in DSRL's trainings


@dataclass(frozen=True, kw_only=True)
class CollectionPlan:
    """Everything that the episodes of a collection depend on: the arguments of `collect`, without what is left open.

    Attributes:
        sweep: strictest and loosest cost limit of the agents.
    """

    environment: str
    method: Method
    episodes: int
    steps: int
    agents: int
    sweep: tuple[float, float]
    max_cost: float | None
    min_return: float | None
    noise: float
    seed: int
    horizon: int
    settings: PPO

    def __post_init__(self) -> None:
        require_whole("seed", self.seed)
        for name in ("episodes", "steps", "agents"):
            require_whole(name, getattr(self, name))
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.seed < MOST_SEEDS:
            raise ConfigError(f"the seed of a collection must be between 0 and {MOST_SEEDS - 1}, got {self.seed}.")
        low, high = self.sweep
        if not 0 <= low <= high < float("inf"):
            raise ConfigError(f"the cost limits must rise from at least 0, got {exact(low)} {exact(high)}.")
        if not 0 <= self.noise < float("inf"):
            raise ConfigError(f"the noise must be at least 0, got {self.noise:g}.")


def describe(environment: str, horizon: int | None) -> tuple[Task, Box]:
    """The task and its action box; for what is no benchmark task, by building the environment.

    Raises:
        TaskError: it is neither a task nor the name of an environment.
        ConfigError: the horizon contradicts the benchmark's.
        SimulatorError: the environment cannot be made.
    """
    task = require_task(environment, horizon=horizon)
    if task.own:
        return task, (np.array(task.action_low, np.float32), np.array(task.action_high, np.float32))
    ones = np.ones(task.action_size, np.float32)
    return task, (-ones, ones)


def stack(policies: Policies | Policy | Sequence[Policy] | Predictor | None) -> Policies | Predictor | None:
    """One, several or none."""
    if policies is None or isinstance(policies, (Policies, Predictor)):
        return policies
    return Policies.stack([policies] if isinstance(policies, Policy) else list(policies))


def choose_method(method: Method | None, task: Task, policies: Policies | Predictor | None) -> Method:
    """The method that was asked for, or the one that fits.

    Raises:
        ConfigError: there is no such method, or it cannot be used here.
    """
    if method is None:
        if policies is not None:
            return "policies"
        return "driver" if task.suite == "metadrive" else "agents"
    if method not in ("agents", "driver", "policies"):
        raise ConfigError(f"there is no method {method!r}; choose agents, driver or policies.")
    if (policies is not None) != (method == "policies"):
        raise ConfigError("policies are needed for the method 'policies', and for no other.")
    if method == "driver" and not hasattr(load_suite(task.suite), "DRIVERS"):
        raise ConfigError(f"{task.name} has no driver of its own; collect with agents or policies.")
    return method


def choose_sweep(given: tuple[float, float] | None, task: Task, method: Method) -> tuple[float, float]:
    """The strictest and the loosest limit of the agents; by default what DSRL's file of the task spans.

    Raises:
        ConfigError: none is given, and the task is not DSRL's.
    """
    if given is not None:
        return float(given[0]), float(given[1])
    if np.isfinite(task.cost_max):
        return min(_STRICTEST, task.cost_max), task.cost_max
    if method == "agents":
        raise ConfigError(f"{task.name} is no benchmark task; say between which cost limits the agents should move.")
    return 0.0, 0.0


def make_buffer(plan: CollectionPlan) -> Buffer:
    """For the plan's episodes; only agents' are chosen."""
    if plan.method != "agents":
        return Buffer(plan.episodes, plan.seed)
    upper = np.inf if plan.max_cost is None else plan.max_cost
    lower = -np.inf if plan.min_return is None else plan.min_return
    return Buffer(plan.episodes, plan.seed, upper, lower)


def make_episodes(plan: CollectionPlan, task: Task, box: Box, policies: Policies | Predictor | None) -> EpisodeMaker:
    """Whoever acts."""
    if isinstance(policies, Predictor):
        return Predicted(policies, plan.episodes, plan.noise, plan.seed, box, task.action_choices)
    if policies is not None:
        return Trained(policies, plan.episodes, plan.noise, plan.seed, box)
    if plan.method == "driver":
        return Drivers(load_suite(task.suite).DRIVERS, plan.episodes, plan.seed)
    steps = max(plan.settings.iteration_steps, _EPISODES_PER_ITERATION * task.horizon)
    sweeps = default_sweeps(*plan.sweep, plan.agents)
    return SweepingAgents(task, sweeps, steps=steps, total=plan.steps, seed=plan.seed, settings=plan.settings)


def slots_of(plan: CollectionPlan, task: Task, workers: int | None) -> int:
    """Environments in each of the pool's two groups; of agents, so many whatever the machine."""
    if plan.method == "driver":  # no episode depends on its neighbours
        return workers or usable_cores()  # twice as many processes: a new engine for each episode takes a while
    if plan.method == "policies":
        return default_slots(task, 1)
    if require_suite(task.suite).one_per_process:
        return plan.agents
    each = plan.settings.iteration_steps // (GROUPS * task.horizon)  # one episode in each makes an iteration
    return plan.agents * min(max(each, _EPISODES_PER_ITERATION // GROUPS), _MOST_SLOTS)


def signature_of(plan: CollectionPlan, task: Task, policies: Policies | Predictor | None) -> dict[str, Any]:
    """What a resumed collection must share with the one that was stopped, JSON-ready.

    Of another library's policy only its kind is known; its one iteration is made as a whole, and never gone on with.
    """
    signature: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    signature["simulator"] = load_suite(task.suite).versions()
    if isinstance(policies, Predictor):
        signature["policies"] = [type(policies).__name__]
    else:
        signature["policies"] = None if policies is None else [policy.fingerprint() for policy in policies]
    return signature
