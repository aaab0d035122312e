"""CDT: a transformer that is told what an episode shall still return and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Key

from safetrax.algorithms.base import LITTLE, Algorithm, Metrics, Spec, Stage, Usage, Variant
from safetrax.algorithms.learners import ActionBounds, Learner, dropout_seed, warmed_up
from safetrax.algorithms.published_targets import published
from safetrax.algorithms.sequence_learner import (
    SequenceState,
    cloning_step,
    new_temperature,
    require_sizes,
    require_steps,
)
from safetrax.catalogue import OWN, get_task
from safetrax.data.relabelling import Pairing, Relabelled, relabel
from safetrax.data.segments import within_limit
from safetrax.data.sequences import Drawn, EpisodeWeight, SequenceIndex
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.losses import masked
from safetrax.losses.masked import CostClass
from safetrax.nets.decision_transformer import DecisionTransformer
from safetrax.policies.actor import Actor
from safetrax.policies.sequence import SequenceActor, Targets
from safetrax.settings import BelowOne, Count, Fraction, NonNegative, Positive, Whole

CDTState = SequenceState[DecisionTransformer]


class CDTIndex(eqx.Module):
    """What is drawn, and what may be asked for."""

    sequences: SequenceIndex
    targets: Targets


@dataclass(frozen=True)
class CDT(Algorithm):
    """The constrained decision transformer (Liu et al., ICML 2023, arXiv:2302.07351), with the numbers of its code,
    OSRL.

    Every episode of the log is cloned by a Gaussian policy that sees the last steps and, at each of them, what the
    episode still returned and cost. Deployed, it is asked for a return within a cost limit. One training serves every
    limit, and `policy.adjusted(cost_limit=15, target_return=400)` asks for others.

    As in the code: log-likelihood and entropy are means over action dimensions (`summed`), the log standard deviation
    has no bound although bounds are given (`clamp_log_std`), a step's cost is 1 if it is at least 1 (`cost_classes`),
    relabelled episodes meet targets by their place in a list (`relabel_pairing`).

    Deviations: where every episode costs more than `cost_cap`, all are drawn alike (OSRL: divides by zero); the last
    block computes no tokens that nobody reads; mediumdense has the other medium tasks' targets (OSRL: CarCircle's,
    `CDT.preset("bullet", "CarCircle")`); between the limits of `target_limits` the return that is asked for is
    interpolated, and on logs of no known task it is the log's own best within the limit.

    Metrics: see docs/cdt.md.
    """

    fast: ClassVar = {"updates": 1500, "batch_size": 32, "learning_rate": 1e-3, "warmup": 100}

    fields = ("observations", "actions", "costs")
    losses = ("action_loss", "cost_loss")

    context: Count = 10
    """Steps that the policy sees, K."""
    width: Count = 128
    """Numbers of a token."""
    blocks: Count = 3
    """Blocks of the transformer."""
    heads: Count = 8
    """Attention heads of a block; they divide the width."""
    dropout: BelowOne = 0.1
    """Share of embeddings, attention weights and block outputs dropped while training."""
    updates: Whole = 100_000
    """Gradient steps."""
    batch_size: Count = 2048
    """Windows of `context` steps per batch."""
    learning_rate: Positive = 1e-4
    """AdamW's step size, once warmed up."""
    warmup: Whole = 500
    """Updates over which the rate grows linearly from zero; 0: none."""
    weight_decay: NonNegative = 1e-4
    """AdamW's, of every parameter."""
    gradient_clip: Positive = 0.25
    """Largest Euclidean norm of the gradient; a longer one is shortened."""
    temperature: Positive = 0.1
    """Weight of the entropy at the start."""
    temperature_learning_rate: NonNegative = 1e-4
    """Adam's step size for its logarithm."""
    target_entropy: float | None = None
    """The temperature falls while the entropy is above it. None: less the number of action dimensions."""
    summed: bool = False
    """Sum log-likelihood and entropy over action dimensions; false: their means (code)."""
    clamp_log_std: bool = False
    """Clip the log standard deviation to [-5, 2], the bounds that the code has and does not use."""
    cost_weight: NonNegative = 0.02
    """Weight of the loss that predicts a step's cost."""
    cost_classes: CostClass = "truncated"
    """Which steps are costly. "truncated": those whose cost is at least 1 (code). "positive": above 0."""
    state_weight: NonNegative = 0.0
    """Weight of the loss that predicts the next observation."""
    reward_scale: Positive = 0.1
    """Factor on returns-to-go."""
    cost_scale: Positive = 1.0
    """Factor on costs-to-go."""
    cost_origin: float = 50.0
    """The network sees this number less the cost-to-go."""
    episode_weight: EpisodeWeight = "linear"
    """How often an episode of cost C is drawn. "linear": max(cost_cap - C, 0). "inverse": 1 / (C + 10). "uniform"."""
    cost_cap: Positive = 70.0
    """Cost from which on an episode is not drawn."""
    relabel_share: Fraction = 0.2
    """Episodes that are told targets beyond the log's frontier, over those of the log after thinning; 0: none."""
    relabel_pairing: Pairing = "position"
    """Which target such an episode is told. "position": that of its place in a list (code). "own": the one it is
    nearest to."""
    relabel_degree: Whole = 2
    """Degree of the frontier's polynomial."""
    relabel_margin: float = 0.0
    """Least distance of a target above the frontier."""
    relabel_ceiling: float | None = None
    """Greatest return of a target. None: the log's greatest."""
    relabel_decrease: NonNegative | None = None
    """How much less another episode may return that is told the target of one. None: a tenth of the log's range."""
    target_limits: tuple[NonNegative, ...] = ()
    """Cost limits, ascending, for which `target_returns` says what to ask for. None given: the log tells."""
    target_returns: tuple[float, ...] = ()
    """Returns that the policy is asked for at `target_limits`; between them they are interpolated."""
    episode_length: Count | None = None
    """Time steps with an embedding of their own, besides `context` for padding. None: the log's longest episode's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self.width, self.heads, self.target_limits, self.target_returns)

    @property
    def uses_cost_limit(self) -> bool:
        """One training serves every limit."""
        return False

    @property
    def needs_cost_limits(self) -> bool:
        """The deployed policy is told the limit."""
        return True

    @classmethod
    def published(cls, suite: str, task: str | None = None) -> CDT:
        """OSRL's: a schedule per suite, targets and relabelling per task."""
        updates = 200_000 if suite == "metadrive" else 100_000
        if task is None or suite == OWN:
            return cls(updates=updates)
        return cls(updates=updates, episode_length=get_task(task).horizon, **published("cdt_tasks.csv", task))

    def index(self, trajectories: Trajectories, cost_limit: float) -> CDTIndex:
        """Windows of all episodes, whatever the limit.

        Raises:
            DataError: every episode is shorter than the context, or one is longer than `episode_length`.
        """
        longest = trajectories.max_length
        require_steps(self.context, longest)
        if self.episode_length is not None and longest > self.episode_length:
            raise DataError(
                f"an episode has {longest} steps, but episode_length is {self.episode_length}; raise it, or leave it "
                "out."
            )
        sequences = SequenceIndex.make(
            trajectories,
            self._relabelled(trajectories),
            places=int(self.relabel_share * trajectories.num_episodes),
            weight=self.episode_weight,
            cap=self.cost_cap,
        )
        return CDTIndex(sequences, Targets.of(trajectories, self.target_limits, self.target_returns))

    def usage(self, trajectories: Trajectories, cost_limit: float) -> Usage:
        """How many episodes are drawn, and whether the log has anything like what the policy will be asked for."""
        drawn = Drawn.of(trajectories, self._relabelled(trajectories), self.episode_weight, self.cost_cap)
        inside = within_limit(trajectories.cost_returns, cost_limit)
        counts = {
            "within the limit": int((drawn.logged & inside).sum()),
            "above it": int((drawn.logged & ~inside).sum()),
            "relabelled": drawn.relabelled,
            "never drawn": int((~drawn.logged).sum()),
        }
        share = float(trajectories.lengths[drawn.logged].sum() / trajectories.num_transitions)
        little = f"CDT draws windows from {share:.1%} of the log's steps; raise cost_cap."
        doubts = Targets.of(trajectories, self.target_limits, self.target_returns).doubts(cost_limit, drawn.costs)
        warnings = ((little,) if share < LITTLE else ()) + doubts
        return Usage(cost_limit, "episodes", counts, share, warnings)

    def init(self, key: Key[Array, ""], spec: Spec) -> CDTState:
        """Fresh weights, see `DecisionTransformer.make`; what the log tells follows when training begins."""
        network = DecisionTransformer.make(
            key,
            spec.observation_size,
            spec.action_size,
            (self.episode_length or spec.max_length) + self.context,
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            dropout=self.dropout,
            return_scale=self.reward_scale,
            cost_scale=self.cost_scale,
            cost_origin=self.cost_origin,
            clamped=self.clamp_log_std,
        )
        return SequenceState(
            learner=Learner.make(network, self._optimiser()),
            log_temperature=new_temperature(self.temperature, self.temperature_learning_rate),
            bounds=ActionBounds.of(spec),
            targets=Targets.unknown(self.target_limits),
        )

    def stages(self) -> tuple[Stage, ...]:
        """Cloning, once the log has told what may be asked for."""
        return (Stage("train", self.updates, self._begin, self._update),)

    def actor(self, state: CDTState) -> Actor:
        """The transformer; until its variants tell it a limit with the limit zero."""
        bounds = state.bounds
        return SequenceActor.make(state.learner.network, bounds.low, bounds.high, state.targets, self.context)

    def variants(self, cost_limits: Sequence[float]) -> tuple[Variant, ...]:
        """The policy at every limit."""
        return tuple(Variant(self.name, limit, {"cost_limit": limit}) for limit in cost_limits)

    def schedule(self, count: Array | int) -> Array:
        """Learning rate of update number `count` + 1."""
        return warmed_up(self.learning_rate, self.warmup, count)

    def _relabelled(self, trajectories: Trajectories) -> Relabelled:
        names = ("share", "pairing", "degree", "margin", "ceiling", "decrease")
        return relabel(trajectories, **{name: getattr(self, f"relabel_{name}") for name in names})

    def _optimiser(self) -> optax.GradientTransformation:
        adam = optax.adamw(self.schedule, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.gradient_clip), adam)

    def _begin(self, state: CDTState, store: Store, index: CDTIndex, key: Key[Array, ""]) -> CDTState:
        return state.asking(index.targets)

    def _update(
        self, state: CDTState, store: Store, index: CDTIndex, key: Key[Array, ""]
    ) -> tuple[CDTState, Metrics]:
        draw_key, dropout_key = jax.random.split(key)
        batch = index.sequences.sample(draw_key, store, self.batch_size, self.context)
        return cloning_step(
            state,
            batch,
            masked.cost_class(batch.costs, self.cost_classes),
            self._optimiser(),
            dropout_seed(dropout_key),
            temperature_rate=self.temperature_learning_rate,
            target_entropy=self.target_entropy,
            summed=self.summed,
            cost_weight=self.cost_weight,
            state_weight=self.state_weight,
        )
