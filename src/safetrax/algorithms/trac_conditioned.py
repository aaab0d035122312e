"""TraC for every limit: the policy is told the limit, and classifies segments that are labelled for many limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, UInt32

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, Usage, Variant
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Learner, dropout_seed, of_every_row, policy_network, warmed_up
from safetrax.data.limit_labels import LimitIndex, limit_range, require_met
from safetrax.data.segments import Ratio, Windows, label_windows, segment_length
from safetrax.data.store import Store, step_mask, window_rows
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.files import exact
from safetrax.losses.classification import classification_loss, score_metrics, trajectory_score
from safetrax.losses.likelihood import fixed_variance_log_prob
from safetrax.nets.mlp import MLP, orthogonal
from safetrax.policies.actor import Actor
from safetrax.policies.conditioned import BudgetActor, in_range, with_cost
from safetrax.settings import BelowOne, Count, Fraction, NonNegative, Positive, Whole

_RAREST = 0.1  # a class that is rarer at a limit than this share of the usual does not count for more


class TraCConditionedState(eqx.Module):
    """What it trains and remembers.

    Attributes:
        learner: the policy, of observation and limit, with the optimiser of the present stage.
        bounds: action bounds.
        limits: the least and the greatest limit.
        horizon: steps of an episode.
        reference_log_prob: log pi_ref(a|s) of every transition, from the second stage on.
    """

    learner: Learner[MLP]
    bounds: ActionBounds
    limits: Float[Array, 2]
    horizon: Float[Array, ""]
    reference_log_prob: Float[Array, " N"] | None


@dataclass(frozen=True)
class TraCConditioned(Algorithm):
    """TraC with the cost limit as an input: one training gives a policy for every limit of a range. New here.

    Each segment of a batch gets a limit of its own, drawn from a grid over the range, and is labelled for it as in
    TraC (Gong et al., AAAI 2025, arXiv:2412.15429, Eqs. 2-3). Stage "pretrain" clones all segments without looking at
    limits: the reference policy. Stage "classify" starts from it, its limit input without effect, and minimises the
    cross-entropy with psi = sum_t gamma^t alpha log(pi(a|s, limit) / pi_ref(a|s)). At every limit the two classes
    have the total weights 1 and eta, so that limits with few desirable segments count like the others.

    The deployed policy takes any limit of the range, and, with `remaining`, what is left of it in each step.

    Settings are TraC's for Bullet-Safety-Gym. Metrics: see docs/trac-conditioned.md.
    """

    fast: ClassVar = {
        "segment_ratio": 0.5,
        "pretrain_updates": 1500,
        "updates": 4000,
        "pretrain_learning_rate": 1e-3,
        "learning_rate": 1e-4,
        "warmup": 0,
    }

    limits: tuple[float, float] | None = None
    """Least and greatest cost limit of an episode. None: from the one that 2 % of the log's segments meet to the one
    that 95 % meet."""
    segment_ratio: Ratio = "whole"
    """Segment length over the longest episode's, rho, see TraC."""
    top: Fraction = 0.5
    """Share of the safe segments that is desirable, x."""
    bottom: Fraction = 0.0
    """Share of the safe segments that is undesirable, y."""
    weight_floor: Fraction = 0.7
    """Smallest weight of a segment, delta in Eqs. 2-3."""
    eta: NonNegative = 0.25
    """Total weight of undesirable over that of desirable segments, at every limit."""
    temperature: Positive = 0.2
    """alpha in Eqs. 6-7."""
    discount: Fraction = 0.99
    """gamma in Eq. 7, counted from the segment's first step."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer."""
    dropout: BelowOne = 0.25
    """Share of hidden units dropped in the learner; the reference and the deployed policy drop none."""
    batch_size: Count = 96
    """Segments per batch."""
    pretrain_updates: Whole = 30_000
    """Gradient steps of behaviour cloning."""
    updates: Whole = 70_000
    """Gradient steps of trajectory classification."""
    pretrain_learning_rate: Positive = 1e-4
    """Adam's step size in the first stage."""
    learning_rate: Positive = 1e-5
    """Adam's step size in the second stage, once warmed up."""
    warmup: Whole = 10_000
    """Updates over which the second stage's rate grows linearly from zero; 0: none."""
    short_episodes: bool = False
    """Also use episodes shorter than a segment, masked, each with its own prorated limit."""
    probability_floor: float | None = 1e-6
    """Class probabilities below it give no gradient. None: never clipped."""
    action_margin: float = 1e-5
    """Logged actions are clipped to +-(1 - margin), the range that tanh reaches."""

    name = "TraC-Conditioned"
    uses_cost_limit = False
    needs_cost_limits = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment_ratio != "whole":
            segment_length(self.segment_ratio, 1_000_000)
        if self.limits is not None and not 0 <= self.limits[0] < self.limits[1]:
            raise ConfigError(f"limits is {self.limits}, but must be a least one, zero or more, and a greater one.")
        if self.top == 0:
            raise ConfigError("top is 0, but some segments must be desirable; raise it.")

    @classmethod
    def published(cls, suite: str, task: str | None = None) -> TraCConditioned:
        """TraC's."""
        if suite == "safety_gymnasium":
            return cls(temperature=0.1, eta=0.5, bottom=0.5, segment_ratio=0.75)
        if suite == "metadrive":
            return cls(discount=1.0, top=0.25, segment_ratio=0.25, pretrain_updates=60_000, updates=140_000)
        return cls(segment_ratio=1.0) if suite == "bullet" else cls()

    def usage(self, trajectories: Trajectories, cost_limit: float) -> Usage | None:
        """Nothing to tell, as all segments are used; but the limit must be one of those that it is trained for.

        Raises:
            ConfigError: it is not.
            DataError: no segment meets it.
        """
        windows = self._windows(trajectories)
        low, high = self._range(windows)
        if not low <= cost_limit <= high:
            given = "of the setting limits" if self.limits else "that the log covers; the setting limits has others"
            raise ConfigError(
                f"the cost limit {exact(cost_limit)} is outside the range from {exact(low)} to {exact(high)} {given}."
            )
        require_met(windows, cost_limit)
        return None

    def index(self, trajectories: Trajectories, cost_limit: float) -> LimitIndex:
        """All windows, and their labels at every limit.

        Raises:
            DataError: no window meets the limit, or all cost the same and there is no setting `limits`.
        """
        windows = self._windows(trajectories)
        require_met(windows, cost_limit)
        low, high = self._range(windows)
        if not low < high:
            raise DataError(
                f"the log's segments all cost about {exact(low)}, so that limits have no range; set limits."
            )
        return LimitIndex.make(windows, (low, high), top=self.top, bottom=self.bottom)

    def init(self, key: Key[Array, ""], spec: Spec) -> TraCConditionedState:
        """Orthogonal weights as TraC's, and none from the limit."""
        network = policy_network(key, spec, self.hidden, dropout=self.dropout, initialiser=orthogonal)
        first = network.weights[0]
        blind = jnp.concatenate([first, jnp.zeros((1, first.shape[1]))])
        network = eqx.tree_at(lambda n: n.weights[0], network, blind)
        learner = Learner.make(network, optax.adam(self.pretrain_learning_rate))
        horizon = jnp.asarray(spec.max_length, jnp.float32)
        return TraCConditionedState(learner, ActionBounds.of(spec), jnp.zeros(2), horizon, None)

    def stages(self) -> tuple[Stage, ...]:
        """Pretrain, then classify."""
        return (
            Stage("pretrain", self.pretrain_updates, self._learn_range, self._pretrain),
            Stage("classify", self.updates, self._freeze_reference, self._classify),
        )

    def actor(self, state: TraCConditionedState) -> Actor:
        """The policy network without dropout; until its variants tell it a limit, for the least one."""
        bounds, low = state.bounds, state.limits[0]
        return BudgetActor(
            state.learner.network, bounds.low, bounds.high, low, jnp.zeros(()), state.limits, state.horizon
        )

    def variants(self, cost_limits: Sequence[float]) -> tuple[Variant, ...]:
        """The policy at every limit."""
        return tuple(Variant(self.name, limit, {"cost_limit": limit}) for limit in cost_limits)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """The second stage learns nothing from segments whose probability lies under the floor."""
        if lasts(history, "clipped", lambda share: share > 0.99):
            return ("the probability floor removes the gradient of all segments; lower the temperature.",)
        return ()

    def schedule(self, count: Array | int) -> Array:
        """Learning rate of the second stage's update number `count` + 1: reaches `learning_rate` at `warmup`."""
        return warmed_up(self.learning_rate, self.warmup, count)

    def _windows(self, trajectories: Trajectories) -> Windows:
        return label_windows(
            trajectories,
            0.0,
            ratio=self.segment_ratio,
            top=self.top,
            bottom=self.bottom,
            include_short=self.short_episodes,
        )

    def _range(self, windows: Windows) -> tuple[float, float]:
        return limit_range(windows) if self.limits is None else self.limits

    def _learn_range(
        self, state: TraCConditionedState, store: Store, index: LimitIndex, key: Key[Array, ""]
    ) -> TraCConditionedState:
        ends = index.table.limits[jnp.array([0, -1])]
        return TraCConditionedState(state.learner, state.bounds, ends, state.horizon, None)

    def _pretrain(
        self, state: TraCConditionedState, store: Store, index: LimitIndex, key: Key[Array, ""]
    ) -> tuple[TraCConditionedState, Metrics]:
        """Behaviour cloning of all segments; the limit's input is 0, so that its weights stay as they are."""
        draw_key, dropout_key = jax.random.split(key)
        starts, steps = index.draw(draw_key, self.batch_size)
        rows, mask = window_rows(starts, index.length), step_mask(steps, index.length)
        told = jnp.zeros(rows.shape)

        def loss(network: MLP) -> tuple[jax.Array, None]:
            log_prob = self._log_prob(network, store, rows, told, dropout_seed(dropout_key))
            return -jnp.sum(jnp.where(mask, log_prob, 0.0)) / jnp.sum(mask), None

        learner, fit = state.learner.step(optax.adam(self.pretrain_learning_rate), loss)
        return eqx.tree_at(lambda s: s.learner, state, learner), {"loss": fit.loss}

    def _freeze_reference(
        self, state: TraCConditionedState, store: Store, index: LimitIndex, key: Key[Array, ""]
    ) -> TraCConditionedState:
        """Evaluate the reference once at every transition; its network is then no longer needed."""
        network, nothing = state.learner.network, jnp.zeros(1)
        reference = of_every_row(lambda row: self._log_prob(network, store, row, nothing, None), store)
        learner = Learner.make(network, optax.adam(self.schedule))
        return TraCConditionedState(learner, state.bounds, state.limits, state.horizon, reference)

    def _classify(
        self, state: TraCConditionedState, store: Store, index: LimitIndex, key: Key[Array, ""]
    ) -> tuple[TraCConditionedState, Metrics]:
        draw_key, dropout_key = jax.random.split(key)
        batch = index.sample(draw_key, self.batch_size, self.weight_floor)
        rows, mask = window_rows(batch.starts, index.length), step_mask(batch.steps, index.length)
        told = jnp.broadcast_to(in_range(batch.limits, state.limits)[:, None], rows.shape)
        assert state.reference_log_prob is not None
        reference = jnp.take(state.reference_log_prob, rows, mode="clip")
        usual = jnp.mean(index.table.desirable)
        weight = batch.weight * usual / jnp.maximum(batch.share, _RAREST * usual)

        def loss(network: MLP) -> tuple[jax.Array, Metrics]:
            log_prob = self._log_prob(network, store, rows, told, dropout_seed(dropout_key))
            score = trajectory_score(jnp.where(mask, log_prob - reference, 0.0), self.discount, self.temperature)
            value = classification_loss(
                score, batch.desirable, weight, jnp.ones(()), jnp.asarray(self.eta), self.probability_floor
            )
            distance = -jnp.sum(jnp.where(mask, log_prob, 0.0)) / jnp.sum(mask)
            return value, {"distance": distance, **score_metrics(score, batch.desirable, self.probability_floor)}

        learner, fit = state.learner.step(optax.adam(self.schedule), loss)
        metrics = {"loss": fit.loss, **fit.extra, "unlabelled": jnp.mean(batch.weight == 0)}
        return eqx.tree_at(lambda s: s.learner, state, learner), metrics

    def _log_prob(
        self, network: MLP, store: Store, rows: Array, told: Array, seed: UInt32[Array, ""] | None
    ) -> Float[Array, "*b"]:
        """log pi(a|s, limit) at rows of any shape; dropout where a seed is given."""
        flat = rows.reshape(-1)
        margin = 1 - self.action_margin
        actions = jnp.clip(jnp.take(store.actions, flat, axis=0, mode="clip"), -margin, margin)
        observations = jnp.take(store.observations, flat, axis=0, mode="clip")
        means = network(with_cost(observations, told.reshape(-1)), seed)
        return fixed_variance_log_prob(means, actions).reshape(rows.shape)
