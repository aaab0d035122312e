"""The 38 tasks of the DSRL benchmark: environment, horizon, reference returns and cost limits.

The numbers are those of Liu et al., "Datasets and Benchmarks for Offline Safe Reinforcement Learning", 2024
(arXiv:2306.09303), and of its code: constants of the benchmark, never recomputed from a data set. Beside them stands
the reach-avoid world, which `get_task` knows and `tasks` does not list, as it is no part of the benchmark. Any other
Gymnasium environment is a task too, of which nothing but the name is known until it is made.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from safetrax.errors import ConfigError, TaskError
from safetrax.spaces import Part

SUITES = ("bullet", "safety_gymnasium", "metadrive")
OWN = "gymnasium"  # the suite of every environment that is not in the catalogue

# `module:id` or `id-v0`, as `gymnasium.make` takes them
_OWN_NAME = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*:)?(?:[\w:-]+/)?[\w.-]+?(?P<version>-v\d+)?")
_MISSPELT = 0.8  # an id without a module that is so like one of the benchmark is a slip

# the environment that DSRL tells one to install yields 259, which the catalogue has; DSRL's data sheet says 261
_METADRIVE_OBSERVATION_SIZES = (261, 259)


@dataclass(frozen=True)
class DensitySetting:
    """The grid over (episode cost, episode return) with which DSRL thins a data set, as `filters.Density` does.

    Attributes:
        cost_bins: cells along the cost.
        return_bins: cells along the return.
        most: episodes kept of a cell that has more.
        fewest: a cell with no more than these is dropped.
    """

    cost_bins: int
    return_bins: int
    most: int
    fewest: int


@dataclass(frozen=True)
class Task:
    """One task of the benchmark or of the reach-avoid world, or an environment of one's own.

    Attributes:
        name: short name, for instance `BallRun`.
        suite: `bullet`, `safety_gymnasium` or `metadrive`; `reach_avoid`, or `gymnasium` for any other.
        env_id: name under which the simulator, or DSRL, registers the environment.
        horizon: steps after which an episode is truncated; 0 for an environment of one's own that is not made yet.
        reward_min: episode return that scores 0; NaN where nobody named one.
        reward_max: episode return that scores 1; NaN likewise.
        cost_min: smallest episode cost in DSRL's file.
        cost_max: largest episode cost in DSRL's file.
        observation_size: O; 0 for an environment of one's own that is not made yet.
        action_size: A, likewise; all tasks of the benchmark have the action box [-1, 1].
        cost_limits: episode cost limits at which the benchmark scores a policy.
        dataset_file: name of DSRL's file.
        dataset_urls: where it can be downloaded, in the order to try.
        density_settings: DSRL's grids by the share of the data that they are named after; none for some tasks.
        action_low: lower end of the action box, A numbers, of an environment of one's own that is made.
        action_high: upper end, alike.
        action_choices: of how many choices, one-hot, an action is one in one's own environment; 0: it is continuous.
        observation_parts: what an observation of one's own environment is put together from; empty where it is a box.
    """

    name: str
    suite: str
    env_id: str
    horizon: int
    reward_min: float
    reward_max: float
    cost_min: float
    cost_max: float
    observation_size: int
    action_size: int
    cost_limits: tuple[float, ...]
    dataset_file: str
    dataset_urls: tuple[str, ...] = ()
    density_settings: Mapping[float, DensitySetting] = field(default_factory=dict, hash=False)
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    observation_parts: tuple[Part, ...] = ()
    action_choices: int = 0

    def __eq__(self, other: object) -> bool:
        """Field by field; a reference return of `math.nan` equals itself, which from Python 3.13 on it would not."""
        return isinstance(other, Task) and tuple(vars(self).values()) == tuple(vars(other).values())

    @property
    def own(self) -> bool:
        """Whether it is an environment of one's own: no published settings, limits, returns or data."""
        return self.suite == OWN

    @property
    def has_reference_returns(self) -> bool:
        """Whether returns can be normalised."""
        return math.isfinite(self.reward_max - self.reward_min)

    @property
    def observation_sizes(self) -> tuple[int, ...]:
        """Every observation size that data of this task may have."""
        return _METADRIVE_OBSERVATION_SIZES if self.suite == "metadrive" else (self.observation_size,)

    @property
    def dataset_prefix(self) -> str:
        """`dataset_file` without its numbers, for instance `SafetyBallRun-v0`."""
        return re.sub(r"(-\d+)+\.hdf5$", "", self.dataset_file)


# Standing still returns 0; the other reference is the mean return of the world's expert over 1,000 episodes. It pays
# nothing from the first two starts, and 7 from the one inside a hazard.
_REACH_AVOID = tuple(
    Task(
        name=name,
        suite="reach_avoid",
        env_id=f"{name}-v0",
        horizon=300,
        reward_min=0.0,
        reward_max=expert_return,
        cost_min=0.0,
        cost_max=300.0,
        observation_size=11,
        action_size=2,
        cost_limits=limits,
        dataset_file=f"{name}-v0-19.hdf5",
    )
    for name, expert_return, limits in (
        ("ReachAvoid", 5.46, (5.0, 10.0, 20.0)),
        ("ReachAvoid-FISOR", 5.27, (5.0, 10.0, 20.0)),
        ("ReachAvoid-Hazard", 4.42, (10.0, 20.0, 40.0)),
    )
)


_UNMADE = Task(
    name="",
    suite=OWN,
    env_id="",
    horizon=0,
    reward_min=math.nan,
    reward_max=math.nan,
    cost_min=0.0,
    cost_max=math.inf,
    observation_size=0,
    action_size=0,
    cost_limits=(),
    dataset_file="",
)
_references: dict[str, tuple[float, float]] = {}  # of environments of one's own


def tasks(suite: str | None = None) -> tuple[Task, ...]:
    """All tasks of the benchmark, or those of one suite, in its order.

    Raises:
        TaskError: there is no such suite.
    """
    if suite is None:
        return _catalogue()
    if suite not in SUITES:
        raise TaskError(f"there is no suite {suite!r}; choose one of {', '.join(SUITES)}.")
    return tuple(task for task in _catalogue() if task.suite == suite)


def get_task(name: str) -> Task:
    """The task of that name or environment id (`OfflineBallRun-v0`), whatever the case; else one's own environment.

    The name of an environment of one's own is what `gymnasium.make` takes, letter by letter: `my_package:MyEnv-v0`
    (the module that registers it first), or an id with its version alone. Whether there is such an environment, its
    sizes and its horizon are only known once it is made: `safetrax.envs.make.require_task`.

    Raises:
        TaskError: there is no such task; the message names the nearest ones.
    """
    try:
        return catalogued_task(name)
    except TaskError:
        form = _OWN_NAME.fullmatch(name)
        slip = difflib.get_close_matches(name.casefold(), _by_alias(), n=1, cutoff=_MISSPELT)
        if form is None or not (form["module"] or (form["version"] and not slip)):
            raise
    low, high = _references.get(name, (math.nan, math.nan))
    return replace(_UNMADE, name=name, env_id=name, reward_min=low, reward_max=high)


def set_reference_returns(name: str, low: float, high: float) -> None:
    """From now on, in this process, returns in an environment of one's own are normalised: `low` to 0, `high` to 1.

    Raises:
        TaskError: there is no such task.
        ConfigError: the benchmark names its returns, or the two do not rise.
    """
    task = get_task(name)
    if not task.own:
        raise ConfigError(
            f"the reference returns of {task.name} are the benchmark's and cannot be {low:g} and {high:g}."
        )
    if not -math.inf < low < high < math.inf:
        raise ConfigError(f"reference returns must be two finite numbers that rise, got {low:g} and {high:g}.")
    _references[name] = float(low), float(high)


def catalogued_task(name: str) -> Task:
    """The task of the benchmark, or of the reach-avoid world, of that name or environment id, whatever the case.

    Raises:
        TaskError: there is no such task; the message names the nearest ones.
    """
    found = _by_alias().get(name.casefold())
    if found is not None:
        return found
    near = difflib.get_close_matches(name.casefold(), _by_alias(), n=3, cutoff=0.5)
    names = list(dict.fromkeys(_by_alias()[alias].name for alias in near))
    hint = f"did you mean {' or '.join(names)}?" if names else "safetrax.data.tasks() lists all."
    raise TaskError(f"there is no task {name!r}; {hint}")


def task_of_file(file_name: str) -> Task | None:
    """The task that a file is named after (BallRun for `SafetyBallRun-v0-80-940.hdf5`), None if none."""
    folded = file_name.casefold()
    for alias, task in _by_alias().items():
        # short names are no evidence: anybody may call a file ballrun-something
        if alias != task.name.casefold() and re.match(re.escape(alias) + r"[-._]", folded):
            return task
    return None


@lru_cache(maxsize=1)
def _catalogue() -> tuple[Task, ...]:
    text = resources.files("safetrax").joinpath("tasks.csv").read_text(encoding="utf-8")
    return tuple(
        Task(
            name=row["task"],
            suite=row["suite"],
            env_id=row["env_id"],
            horizon=int(row["horizon"]),
            reward_min=float(row["reward_min"]),
            reward_max=float(row["reward_max"]),
            cost_min=float(row["cost_min"]),
            cost_max=float(row["cost_max"]),
            observation_size=int(row["observation_size"]),
            action_size=int(row["action_size"]),
            cost_limits=tuple(float(limit) for limit in row["cost_limits"].split("|")),
            dataset_file=row["dataset_file"],
            dataset_urls=tuple(row["dataset_urls"].split("|")),
            density_settings=MappingProxyType(_density_settings(row["density_settings"])),
        )
        for row in csv.DictReader(text.splitlines())
    )


def _density_settings(text: str) -> dict[float, DensitySetting]:
    """Read `0.5:cbins=10,rbins=20,max_npb=16,min_npb=2;0.75:...`, DSRL's names for the numbers of each grid."""
    settings = {}
    for entry in filter(None, text.split(";")):
        share, _, numbers = entry.partition(":")
        named = dict(pair.split("=") for pair in numbers.split(","))
        settings[float(share)] = DensitySetting(
            cost_bins=int(named["cbins"]),
            return_bins=int(named["rbins"]),
            most=int(named["max_npb"]),
            fewest=int(named["min_npb"]),
        )
    return settings


@lru_cache(maxsize=1)
def _by_alias() -> dict[str, Task]:
    """Every name that a task goes by, case-folded."""
    return {alias.casefold(): task for task in (*_catalogue(), *_REACH_AVOID) for alias in _aliases(task)}


def _aliases(task: Task) -> tuple[str, ...]:
    prefix = task.dataset_prefix
    return (
        task.name,
        task.env_id,
        prefix,
        prefix.replace("Safety", "Offline", 1),  # DSRL's registration
        prefix.replace("Gymnasium-", "-"),  # Safety-Gymnasium's own registration
    )
