"""The contract of an algorithm: hyper-parameters as fields of a frozen dataclass, behaviour as pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import jax
from jaxtyping import Array, Key

from safetrax.data.store import Field, Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.policies.actor import Actor
from safetrax.settings import require_ranges, require_types, settings_of

# A State, an Index and Metrics are pytrees of arrays; every algorithm defines its own.
State = Any
Index = Any
Metrics = Mapping[str, jax.Array]

Schedule = Literal["published", "fast"]

LITTLE = 0.05  # share of the log's steps; a training that uses less is warned of

_A = TypeVar("_A", bound="Algorithm")


@dataclass(frozen=True)
class Spec:
    """What a network needs to know of the data set: sizes and bounds, nothing of its contents."""

    observation_size: int  # O
    action_size: int  # A
    max_length: int  # steps of the longest episode
    num_episodes: int  # E
    num_transitions: int  # N
    action_low: tuple[float, ...]  # A numbers
    action_high: tuple[float, ...]
    chooses: bool = False  # actions are one-hot choices

    @staticmethod
    def of(trajectories: Trajectories) -> Spec:
        """The sizes of a data set."""
        return Spec(
            observation_size=trajectories.observation_size,
            action_size=trajectories.action_size,
            max_length=trajectories.max_length,
            num_episodes=trajectories.num_episodes,
            num_transitions=trajectories.num_transitions,
            action_low=tuple(float(x) for x in trajectories.action_low),
            action_high=tuple(float(x) for x in trajectories.action_high),
            chooses=trajectories.action_choices is not None,
        )


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one kind of update.

    Attributes:
        name: shown in logs.
        updates: number of gradient steps; 0 skips them, but `begin` still runs.
        begin: `(state, store, index, key) -> state`, once. It may change the state's structure: freeze a network,
            start a new optimiser, cache what the data set implies, generate data for the stage.
        update: `(state, store, index, key) -> (state, metrics)`, one gradient step. Metrics are scalars.
        settles: updates before which what is logged is the beginning of a run and no sign of its fate; until then, or
            the end of the stage, `Algorithm.diagnose` is not asked.
    """

    name: str
    updates: int
    begin: Callable[[State, Store, Index, Key[Array, ""]], State]
    update: Callable[[State, Store, Index, Key[Array, ""]], tuple[State, Metrics]]
    settles: int = 0


@dataclass(frozen=True)
class Variant:
    """One of the policies that a training gives."""

    name: str  # in tables and file names
    cost_limit: float | None = None  # the limit that it is for; None: the run's
    adjustments: Mapping[str, float] = field(default_factory=dict)  # what `Actor.adjusted` makes of the trained actor


@dataclass(frozen=True)
class Usage:
    """What a training uses of a data set at one cost limit, or by its labels."""

    cost_limit: float | None  # None: labels decide, whatever the limit
    unit: str  # what is counted
    counts: Mapping[str, int]  # how many of each class
    share: float  # of the data set's steps that are used, in [0, 1]
    warnings: tuple[str, ...] = ()  # sentences about a use that is next to none

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        source = "labels" if self.cost_limit is None else f"limit {self.cost_limit:g}"
        return f"{source}: {counts} {self.unit}; {self.share:.1%} of the log's steps are used"


def keep_state(state: State, store: Store, index: Index, key: Key[Array, ""]) -> State:
    """A stage's `begin` that does nothing."""
    return state


@dataclass(frozen=True)
class Algorithm:
    """An offline algorithm. Instances are hashable and hold settings only; all functions are pure and jittable,
    except `index`, which runs on the host once per cost limit.

    A subclass defines `index`, `init`, `actor`, and `updates` with `_update`, or `stages`; `fields` if it reads more
    than observations and actions; `losses`, the metrics that training curves show, unless it is one called `loss`;
    `variants` if one training gives several policies; `diagnose` if it can tell when a run is degenerate.
    """

    fields: ClassVar[tuple[Field, ...]] = ("observations", "actions")
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    # The published settings of each suite that has its own; what differs per task is for `published`.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    # What a schedule of minutes on two cores has instead.
    fast: ClassVar[Mapping[str, Any]] = {}
    # What the reference code adds to the standard deviations that it divides observations by; None: it does not.
    reference_std: ClassVar[float | None] = None
    # Whether it learns from actions that are choices; `Spec.chooses` and `policy_network` then say how.
    takes_choices: ClassVar[bool] = False

    standardise: bool | None = field(default=None, kw_only=True)
    """Train on observations less their mean, divided by their standard deviation; the saved policy does the same
    with what it is given. None: as the reference code does on known tasks, and always on other logs."""

    def __post_init__(self) -> None:
        """Check every setting against its annotation; a subclass adds the rules between settings.

        Raises:
            ConfigError: a setting is of another kind or out of its range.
        """
        require_ranges(self)

    @property
    def name(self) -> str:
        """Name in tables and file names."""
        return type(self).__name__

    @property
    def uses_cost_limit(self) -> bool:
        """False where training ignores the limit: then one run per seed serves every limit."""
        return True

    @property
    def needs_cost_limits(self) -> bool:
        """False where limits are needed for scores only."""
        return self.uses_cost_limit

    @property
    def needs_costs(self) -> bool:
        """False where training reads neither costs nor anything that is made of them."""
        return True

    @property
    def needs_labels(self) -> Literal["safe", "both"] | None:
        """Which episodes somebody must have marked: some that are safe, or some of either kind; None: none."""
        return None

    @property
    def total_updates(self) -> int:
        """Gradient steps of all stages."""
        return sum(stage.updates for stage in self.stages())

    def resolved(self: _A, trajectories: Trajectories) -> _A:
        """The algorithm with the settings decided that leave something to what the log holds."""
        return self

    def added_std(self, known_task: bool) -> float | None:
        """What is added to the standard deviations that observations are divided by; None: they stay as they are."""
        reference = self.reference_std if known_task else 0.0
        if self.standardise is None:
            return reference
        return (reference or 0.0) if self.standardise else None

    def index(self, trajectories: Trajectories, cost_limit: float) -> Index:
        """Arrays that depend on the limit. Their shapes must not: runs with different limits share one program.

        Raises:
            DataError: no episode or segment of the data set meets the limit, or none is long enough.
        """
        raise NotImplementedError

    def init(self, key: Key[Array, ""], spec: Spec) -> State:
        """Fresh networks and optimiser state."""
        raise NotImplementedError

    def stages(self) -> tuple[Stage, ...]:
        """The stages in order. Unless a subclass has others, one of `updates` gradient steps, each an `_update`."""
        return (Stage("train", self.updates, keep_state, self._update),)  # type: ignore[attr-defined]

    def actor(self, state: State) -> Actor:
        """What would be deployed if training ended here, in any stage."""
        raise NotImplementedError

    def usage(self, trajectories: Trajectories, cost_limit: float) -> Usage | None:
        """What `index` makes of the data set, on the host; None: it uses all of it."""
        return None

    def variants(self, cost_limits: Sequence[float]) -> tuple[Variant, ...]:
        """The policies that one training for `cost_limits` gives, each an adjustment of `actor`."""
        return (Variant(self.name),)

    def diagnose(self, history: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
        """Sentences about a run that has gone wrong; each is said once. See `safetrax.algorithms.diagnosis`.

        Args:
            history: of every metric of the present stage, the means logged so far, oldest first.
        """
        return ()

    @classmethod
    def published(cls: type[_A], suite: str, task: str | None = None) -> _A:
        """The published settings for a suite, "bullet", "safety_gymnasium" or "metadrive", or one of its tasks."""
        return cls(**cls.presets.get(suite, {}))

    @classmethod
    def preset(cls: type[_A], suite: str, task: str | None = None, *, schedule: Schedule = "published") -> _A:
        """Settings for a suite or one of its tasks.

        Args:
            suite: see `published`; any other word for a log of one's own.
            task: of the suite.
            schedule: "published", or "fast": minutes on two cores instead of hours, measured in docs/results.md.
        """
        return cls.published(suite, task).scheduled(schedule)

    def scheduled(self: _A, schedule: Schedule) -> _A:
        """With the settings that a schedule has instead.

        Raises:
            ConfigError: the algorithm has no such schedule.
        """
        return dataclasses.replace(self, **self.settings_of_schedule(schedule))

    @classmethod
    def settings_of_schedule(cls, schedule: Schedule) -> Mapping[str, Any]:
        """Those that a schedule has instead of the published ones; none for "published".

        Raises:
            ConfigError: the algorithm has no such schedule.
        """
        if schedule == "fast" and not cls.fast:
            raise ConfigError(f"{cls.__name__} has no fast schedule; leave it out, and set its updates.")
        return cls.fast if schedule == "fast" else {}

    def config(self) -> dict[str, Any]:
        """All settings, JSON-ready."""
        return settings_of(self)

    @classmethod
    def from_config(cls: type[_A], config: Mapping[str, Any]) -> _A:
        """The inverse of `config`.

        Raises:
            ConfigError: a setting is unknown, of another type or out of range.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ConfigError(f"{cls.__name__} has no setting named {unknown[0]!r}.")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        require_types(cls, settings)
        return cls(**settings)
