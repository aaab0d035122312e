"""TraC: the policy as the classifier of desirable and undesirable trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, UInt32

from safetrax.algorithms.base import Metrics, Spec, Stage, Usage, keep_state
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.label_source import FromLabels
from safetrax.algorithms.learners import ActionBounds, Learner, dropout_seed, of_every_row, policy_network, warmed_up
from safetrax.algorithms.segment_usage import said_by, segment_usage
from safetrax.data.marked_segments import mark_windows
from safetrax.data.segments import Ratio, ValueRange, Windows, label_windows, segment_length
from safetrax.data.store import SegmentBatch, SegmentIndex, Store, step_mask, window_rows
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.losses.classification import (
    ClassWeighting,
    class_weights,
    classification_loss,
    score_metrics,
    trajectory_score,
)
from safetrax.losses.likelihood import categorical_log_prob, fixed_variance_log_prob
from safetrax.nets.mlp import LOGITS, MLP, orthogonal
from safetrax.policies.actor import Actor
from safetrax.settings import BelowOne, Count, Fraction, NonNegative, Positive, Whole


class TraCState(eqx.Module):
    """What TraC trains and remembers."""

    learner: Learner[MLP]  # the policy, with the optimiser of the present stage
    bounds: ActionBounds
    reference_log_prob: Float[Array, " N"] | None  # log pi_ref(a|s) of every transition, from the second stage on

    @property
    def network(self) -> MLP:
        """The policy."""
        return self.learner.network


@dataclass(frozen=True)
class TraC(FromLabels):
    """Trajectory classification (Gong et al., AAAI 2025, arXiv:2412.15429). Defaults: Table 4, Bullet-Safety-Gym,
    with whole episodes for segments.

    Stage "pretrain" clones the labelled segments: this is the reference policy. Stage "classify" starts from it and
    minimises the weighted cross-entropy of desirable against undesirable segments, scored by
    psi = sum_t gamma^t alpha log(pi / pi_ref) (Eq. 7).

    Deviations from the paper follow its code, which made the published numbers, each with a switch back: segments
    against a prorated limit rather than trajectories (`segment_ratio`), the meaning of eta (`class_weighting`), class
    counts of the batch (`class_counts`), returns normalised over the safe segments (`value_range`), cloning on
    labelled segments only (`pretrain_data`), a learning rate that ramps up to a tenth of the paper's in the second
    stage (`learning_rate`, `warmup`).
    Deviations from the code: all windows are labelled rather than a random million, and batches are drawn with
    replacement rather than in epochs, so that ratio 1 uses every longest episode. The last update is number
    `pretrain_updates + updates`, not one more. Episodes shorter than a segment can be used (`short_episodes`).

    From labels (`label_source`) all segments of an episode that is marked safe are desirable, those of one that is
    marked unsafe undesirable, with the weight 1: `top`, `bottom`, `weight_floor` and `value_range` mean nothing then.

    Where actions are choices, pi is categorical: of logits, with the exact likelihood in place of the Gaussian's.

    Metrics: see docs/trac.md.
    """

    takes_choices: ClassVar[bool] = True
    fast: ClassVar = {
        "segment_ratio": 0.5,
        "pretrain_updates": 1500,
        "updates": 2000,
        "pretrain_learning_rate": 1e-3,
        "learning_rate": 1e-4,
        "warmup": 0,
    }

    segment_ratio: Ratio = "whole"
    """Segment length over the longest episode's, rho; shorter episodes are left out. "whole": every episode is a
    segment, as long as it is, up to 500 steps, and windows of 500 steps of longer ones; none is left out."""
    top: Fraction = 0.5
    """Share of the safe segments that is desirable, x."""
    bottom: Fraction = 0.0
    """Share of the safe segments that is undesirable, y."""
    weight_floor: Fraction = 0.7
    """Smallest weight of a segment, delta in Eqs. 2-3."""
    eta: NonNegative = 0.25
    """Total weight of undesirable over that of desirable segments in a batch."""
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
    """Gradient steps of behaviour cloning; 0 leaves the reference at its random start (ablation, Table 3)."""
    updates: Whole = 70_000
    """Gradient steps of trajectory classification."""
    pretrain_learning_rate: Positive = 1e-4
    """Adam's step size in the first stage."""
    learning_rate: Positive = 1e-5
    """Adam's step size in the second stage, once warmed up. The paper says 1e-4, its code ends at 1e-5."""
    warmup: Whole = 10_000
    """Updates over which the second stage's rate grows linearly from zero; 0: none."""
    classes: Literal["both", "desirable", "undesirable"] = "both"
    """Which classes the second stage sees (ablation, Figure 6)."""
    reference: Literal["pretrained", "uniform"] = "pretrained"
    """"uniform": log pi_ref is constant (ablation, Table 6)."""
    pretrain_data: Literal["segments", "all"] = "segments"
    """"segments": clone labelled segments (code). "all": clone the entire data set (paper), also where few are."""
    class_weighting: ClassWeighting = "code"
    """How eta sets the class weights, see `safetrax.losses.classification.class_weights`."""
    class_counts: Literal["batch", "dataset"] = "batch"
    """Where N_d and N_u are counted: in the batch (code) or in the data set (paper)."""
    value_range: ValueRange = "safe"
    """Whose returns bound the weights: the safe segments' (code) or all segments' (paper)."""
    short_episodes: bool = False
    """Also use episodes shorter than a segment, masked, each with its own prorated limit."""
    probability_floor: float | None = 1e-6
    """Class probabilities below it give no gradient (code). None: never clipped."""
    action_margin: float = 1e-5
    """Logged actions are clipped to +-(1 - margin), the range that tanh reaches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment_ratio != "whole":
            segment_length(self.segment_ratio, 1_000_000)

    @classmethod
    def published(cls, suite: str, task: str | None = None) -> TraC:
        """Table 4. Segment ratios are those of the authors' examples, one per suite: they published no others."""
        if suite == "safety_gymnasium":
            return cls(temperature=0.1, eta=0.5, bottom=0.5, segment_ratio=0.75)
        if suite == "metadrive":
            return cls(discount=1.0, top=0.25, segment_ratio=0.25, pretrain_updates=60_000, updates=140_000)
        return cls(segment_ratio=1.0) if suite == "bullet" else cls()

    def usage(self, trajectories: Trajectories, cost_limit: float) -> Usage:
        """How many segments there are of each class, and the share of the log's steps that lie in them."""
        windows = self._windows(trajectories, cost_limit)
        return segment_usage(
            windows, trajectories.num_transitions, self.classes, clones_all=self.pretrain_data == "all"
        )

    @property
    def needs_labels(self) -> Literal["safe", "both"] | None:
        """Of the classes that the second stage sees."""
        if self.uses_cost_limit:
            return None
        return "safe" if self.classes == "desirable" else "both"

    def _windows(self, trajectories: Trajectories, cost_limit: float) -> Windows:
        if not self.uses_cost_limit:
            return mark_windows(trajectories, ratio=self.segment_ratio, include_short=self.short_episodes)
        return label_windows(
            trajectories,
            cost_limit,
            ratio=self.segment_ratio,
            top=self.top,
            bottom=self.bottom,
            floor=self.weight_floor,
            include_short=self.short_episodes,
            value_range=self.value_range,
        )

    def index(self, trajectories: Trajectories, cost_limit: float) -> SegmentIndex:
        """Labelled windows for one limit, or by the labels."""
        windows = self._windows(trajectories, cost_limit)
        segments = windows.segments()
        for name, there, share in (
            ("desirable", segments.desirable.any(), "top"),
            ("undesirable", not segments.desirable.all(), "bottom"),
        ):
            if not there and (self.classes == name or (name, self.classes) == ("desirable", "both")):
                remedy = f"raise the share {share}" if self.uses_cost_limit else "choose a smaller segment_ratio"
                raise DataError(f"no segment is {name} {said_by(windows)}; {remedy}.")
        if self.classes != "both":
            segments = segments.only(desirable=self.classes == "desirable")
        return SegmentIndex.make(segments)

    def init(self, key: Key[Array, ""], spec: Spec) -> TraCState:
        """Orthogonal weights, as in the reference code."""
        network = policy_network(key, spec, self.hidden, dropout=self.dropout, initialiser=orthogonal)
        learner = Learner.make(network, optax.adam(self.pretrain_learning_rate))
        return TraCState(learner, ActionBounds.of(spec), None)

    def stages(self) -> tuple[Stage, ...]:
        """Pretrain, then classify."""
        return (
            Stage("pretrain", self.pretrain_updates, keep_state, self._pretrain),
            Stage("classify", self.updates, self._freeze_reference, self._classify),
        )

    def actor(self, state: TraCState) -> Actor:
        """The policy network without dropout."""
        return state.bounds.actor(state.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """The second stage learns nothing from segments whose probability lies under the floor."""
        if lasts(history, "clipped", lambda share: share > 0.99):
            return ("the probability floor removes the gradient of all segments; lower the temperature.",)
        return ()

    def schedule(self, count: Array | int) -> Array:
        """Learning rate of the second stage's update number `count` + 1: reaches `learning_rate` at `warmup`."""
        return warmed_up(self.learning_rate, self.warmup, count)

    # Stage 1: behaviour cloning

    def _pretrain(
        self, state: TraCState, store: Store, index: SegmentIndex, key: Key[Array, ""]
    ) -> tuple[TraCState, Metrics]:
        draw_key, dropout_key = jax.random.split(key)
        length = index.length
        if self.pretrain_data == "all":
            count = (self.batch_size * length,)
            rows = jax.random.randint(draw_key, count, 0, store.num_transitions)[:, None]
            mask = jnp.ones(rows.shape, bool)
        else:
            batch = index.sample(draw_key, self.batch_size)
            rows = window_rows(batch.starts, length)
            mask = step_mask(batch.steps, length)

        def loss(network: MLP) -> tuple[jax.Array, None]:
            log_prob = self._log_prob(network, store, rows, dropout_seed(dropout_key))
            return -jnp.sum(jnp.where(mask, log_prob, 0.0)) / jnp.sum(mask), None

        learner, fit = state.learner.step(optax.adam(self.pretrain_learning_rate), loss)
        return TraCState(learner, state.bounds, None), {"loss": fit.loss}

    # Between the stages

    def _freeze_reference(
        self, state: TraCState, store: Store, index: SegmentIndex, key: Key[Array, ""]
    ) -> TraCState:
        """Evaluate the reference once at every transition; its network is then no longer needed."""
        if self.reference == "uniform":
            reference = jnp.zeros(store.num_transitions)
        else:
            reference = of_every_row(lambda row: self._log_prob(state.network, store, row, None), store)
        return TraCState(Learner.make(state.network, self._optimiser()), state.bounds, reference)

    # Stage 2: trajectory classification

    def _classify(
        self, state: TraCState, store: Store, index: SegmentIndex, key: Key[Array, ""]
    ) -> tuple[TraCState, Metrics]:
        draw_key, dropout_key = jax.random.split(key)
        length = index.length
        batch = index.sample(draw_key, self.batch_size)
        rows = window_rows(batch.starts, length)
        mask = step_mask(batch.steps, length)
        reference = state.reference_log_prob
        assert reference is not None
        reference_log_prob = jnp.take(reference, rows, mode="clip")
        lambdas = self._class_weights(batch, index)

        def loss(network: MLP) -> tuple[jax.Array, Metrics]:
            log_prob = self._log_prob(network, store, rows, dropout_seed(dropout_key))
            log_ratio = jnp.where(mask, log_prob - reference_log_prob, 0.0)
            score = trajectory_score(log_ratio, self.discount, self.temperature)
            value = classification_loss(score, batch.desirable, batch.weight, *lambdas, self.probability_floor)
            distance = -jnp.sum(jnp.where(mask, log_prob, 0.0)) / jnp.sum(mask)
            return value, {"distance": distance, **score_metrics(score, batch.desirable, self.probability_floor)}

        learner, fit = state.learner.step(self._optimiser(), loss)
        return TraCState(learner, state.bounds, reference), {"loss": fit.loss, **fit.extra}

    def _class_weights(self, batch: SegmentBatch, index: SegmentIndex) -> tuple[Float[Array, ""], Float[Array, ""]]:
        if self.classes != "both":
            return jnp.ones(()), jnp.ones(())
        if self.class_counts == "dataset":
            share = index.desirable_share
            return class_weights(share, 1 - share, self.eta, self.class_weighting)
        count = jnp.sum(batch.desirable, dtype=jnp.float32)
        return class_weights(count, self.batch_size - count, self.eta, self.class_weighting)

    # Shared

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.schedule)

    def _log_prob(
        self, network: MLP, store: Store, rows: Array, seed: UInt32[Array, ""] | None
    ) -> Float[Array, "*b"]:
        """log pi(a|s) at rows of any shape; dropout where a seed is given."""
        flat = rows.reshape(-1)
        margin = 1 - self.action_margin
        actions = jnp.clip(jnp.take(store.actions, flat, axis=0, mode="clip"), -margin, margin)
        outputs = network(jnp.take(store.observations, flat, axis=0, mode="clip"), seed)
        log_prob = categorical_log_prob if network.output == LOGITS else fixed_variance_log_prob
        return log_prob(outputs, actions).reshape(rows.shape)
