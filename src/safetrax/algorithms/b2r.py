"""B2R: a transformer that clones the episodes within the limit as if each had begun with all of it to spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from safetrax.algorithms.base import LITTLE, Algorithm, Metrics, Spec, Stage, Usage
from safetrax.algorithms.learners import ActionBounds, Learner, dropout_seed, warmed_up
from safetrax.algorithms.published_targets import published
from safetrax.algorithms.sequence_learner import (
    SequenceState,
    action_loss,
    move_temperature,
    new_temperature,
    require_sizes,
    require_steps,
)
from safetrax.data.alignment import AlignedIndex, Alignment
from safetrax.data.segments import within_limit
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.nets.boundary_transformer import BoundaryTransformer
from safetrax.policies.actor import Actor
from safetrax.policies.sequence import BoundaryActor, Targets
from safetrax.settings import BelowOne, Count, NonNegative, Positive, Whole, require

_SCALED = (0.02, 5.0)  # the log's greatest return over `reward_scale`; of greater numbers the network hears the sign

B2RState = SequenceState[BoundaryTransformer]


class B2RIndex(eqx.Module):
    """What is drawn, and what may be asked for."""

    sequences: AlignedIndex
    targets: Targets


@dataclass(frozen=True)
class B2R(Algorithm):
    """Boundary-to-Region (arXiv:2509.25727): a sequence model of the episodes within the limit only.

    Every episode that costs no more than the limit is told that it had all of the limit to spend (`alignment`), so
    that the cost token says where the boundary is and not what shall be spent. A Gaussian policy that sees the last
    steps, and at each of them what was left of the limit and what the episode still returned, clones them. Deployed,
    it is asked for a return (`target`) and begins with the limit. One training per limit;
    `policy.adjusted(target_return=400)` asks for another return. Another limit cannot be asked for: every episode
    that the policy has seen began with this one.

    Deviations: batches have one size whatever the number of episodes within the limit, drawn with replacement (code:
    min(2048, their number), without); observations are standardised by the whole log's statistics (code: by those of
    the episodes within the limit); a log's last episode is used (code: lost); an episode without cost, which "scale"
    cannot move, is scaled like the others (code: not divided by `cost_scale`).

    Metrics: see docs/b2r.md.
    """

    fast: ClassVar = {"updates": 1000, "batch_size": 64, "learning_rate": 3e-3, "warmup": 100}

    fields = ("observations", "actions", "costs")
    losses = ("action_loss",)
    reference_std = 1e-6

    alignment: Alignment = "shift"
    """How the cost-to-go of an episode of cost C is made to begin at the limit. "shift": all steps are told limit - C
    more. "avg": every step costs the same more. "rand": steps drawn at random cost more. "scale": costs are
    multiplied by limit / C, where C is not 0."""
    context: Count = 3
    """Steps that the policy sees, K."""
    width: Count = 128
    """Numbers of a token."""
    blocks: Count = 3
    """Blocks of the transformer."""
    heads: Count = 8
    """Attention heads of a block; they divide the width, into even parts."""
    dropout: BelowOne = 0.1
    """Share of embeddings, attention weights and block outputs dropped while training."""
    updates: Whole = 100_000
    """Gradient steps."""
    batch_size: Count = 2048
    """Windows of `context` steps per batch."""
    learning_rate: Positive = 1e-4
    """LAMB's step size, once warmed up: relative to the norm of each array of weights."""
    warmup: Whole = 5000
    """Updates over which the rate grows linearly from zero; 0: none."""
    weight_decay: NonNegative = 1e-4
    """LAMB's, of every parameter."""
    gradient_clip: Positive = 0.25
    """Largest Euclidean norm of the gradient; a longer one is shortened."""
    temperature: Positive = 0.1
    """Weight of the entropy at the start."""
    temperature_learning_rate: NonNegative = 1e-4
    """Adam's step size for its logarithm."""
    target_entropy: float | None = None
    """The temperature falls while the entropy is above it. None: less the number of action dimensions."""
    reward_scale: Positive = 100.0
    """Returns-to-go are divided by it; about the returns that matter."""
    cost_scale: Positive = 100.0
    """Costs-to-go are divided by it; about the limits that matter."""
    target: Literal["table", "max_safe"] = "table"
    """The return that is asked for. "table": that of `target_limits`, or as "max_safe" where the limit is not there.
    "max_safe": the greatest of the episodes within the limit (code)."""
    target_limits: tuple[NonNegative, ...] = ()
    """Cost limits, ascending, for which `target_returns` says what to ask for."""
    target_returns: tuple[float, ...] = ()
    """Returns that the policy is asked for at `target_limits`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self.width, self.heads, self.target_limits, self.target_returns)
        even = self.width // self.heads % 2 == 0  # rotary embeddings turn pairs of numbers
        require(even, "heads", self.heads, f"divide the width, {self.width}, into even parts")

    @classmethod
    def published(cls, suite: str, task: str | None = None) -> B2R:
        """The published targets and scales of a task; all else is the same for all."""
        return cls() if task is None else cls(**published("b2r_tasks.csv", task))

    def index(self, trajectories: Trajectories, cost_limit: float) -> B2RIndex:
        """Windows of the episodes within the limit.

        Raises:
            DataError: no episode meets the limit, or every one is shorter than the context.
        """
        require_steps(self.context, trajectories.max_length)
        targets = self._targets(trajectories, cost_limit)
        return B2RIndex(AlignedIndex.make(trajectories, cost_limit, self.alignment), targets)

    def usage(self, trajectories: Trajectories, cost_limit: float) -> Usage:
        """How many episodes meet the limit, and whether any has what the policy will be asked for."""
        safe = within_limit(trajectories.cost_returns, cost_limit)
        counts = {"within the limit": int(safe.sum()), "above it": int((~safe).sum())}
        share = float(trajectories.lengths[safe].sum() / trajectories.num_transitions)
        warnings = list(self._targets(trajectories, cost_limit).doubts(cost_limit, None))
        if share < LITTLE:
            warnings.append(
                f"at the cost limit {cost_limit:g} B2R uses {share:.1%} of the log's steps; choose a limit that more "
                "episodes meet."
            )
        greatest = float(np.abs(trajectories.returns).max())
        if greatest and not _SCALED[0] <= greatest / self.reward_scale <= _SCALED[1]:
            warnings.append(
                f"the log's returns are up to {greatest:g}, which divided by the reward_scale {self.reward_scale:g} "
                "are numbers that the network hardly tells apart; set reward_scale to about the returns that matter."
            )
        return Usage(cost_limit, "episodes", counts, share, tuple(warnings))

    def init(self, key: Key[Array, ""], spec: Spec) -> B2RState:
        """Fresh weights, see `BoundaryTransformer.make`; what the log tells follows when training begins."""
        network = BoundaryTransformer.make(
            key,
            spec.observation_size,
            spec.action_size,
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            dropout=self.dropout,
            return_scale=self.reward_scale,
            cost_scale=self.cost_scale,
        )
        return SequenceState(
            learner=Learner.make(network, self._optimiser()),
            log_temperature=new_temperature(self.temperature, self.temperature_learning_rate),
            bounds=ActionBounds.of(spec),
            targets=Targets.unknown((0.0,)),
        )

    def stages(self) -> tuple[Stage, ...]:
        """Cloning, once the log has told what may be asked for."""
        return (Stage("train", self.updates, self._begin, self._update),)

    def actor(self, state: B2RState) -> Actor:
        """The transformer, asked for the limit's return."""
        bounds, limit = state.bounds, state.targets.table[0, 0]
        return BoundaryActor.make(state.learner.network, bounds.low, bounds.high, state.targets, self.context, limit)

    def schedule(self, count: Array | int) -> Array:
        """Learning rate of update number `count` + 1."""
        return warmed_up(self.learning_rate, self.warmup, count)

    def _targets(self, trajectories: Trajectories, cost_limit: float) -> Targets:
        """What the policy of a limit is asked for, beside what it is trained on."""
        safe = np.flatnonzero(within_limit(trajectories.cost_returns, cost_limit))
        if not safe.size:
            raise DataError(
                f"B2R learns from episodes within the cost limit {cost_limit:g}, but the log's cheapest costs "
                f"{trajectories.cost_returns.min():g}; choose a limit of at least that."
            )
        table = dict(zip(self.target_limits, self.target_returns, strict=True)) if self.target == "table" else {}
        asked = table.get(cost_limit, float(trajectories.returns[safe].max()))
        return Targets.of(trajectories.select(safe), (cost_limit,), (asked,))

    def _optimiser(self) -> optax.GradientTransformation:
        lamb = optax.lamb(self.schedule, eps=1e-8, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.gradient_clip), lamb)

    def _begin(self, state: B2RState, store: Store, index: B2RIndex, key: Key[Array, ""]) -> B2RState:
        return state.asking(index.targets)

    def _update(
        self, state: B2RState, store: Store, index: B2RIndex, key: Key[Array, ""]
    ) -> tuple[B2RState, Metrics]:
        draw_key, dropout_key = jax.random.split(key)
        batch = index.sequences.sample(draw_key, store, self.batch_size, self.context)
        temperature = jnp.exp(state.log_temperature.network)

        def loss(network: BoundaryTransformer) -> tuple[jax.Array, Metrics]:
            moments = network.moments(network(*batch.history, dropout_seed(dropout_key)))
            return action_loss(batch, *moments, temperature)

        learner, fit = state.learner.step(self._optimiser(), loss)
        target = -float(batch.actions.shape[-1]) if self.target_entropy is None else self.target_entropy
        log_temperature = move_temperature(
            state.log_temperature, self.temperature_learning_rate, fit.extra["entropy"], target
        )
        metrics = {**fit.extra, "temperature": temperature, "gradient": fit.gradient}
        return SequenceState(learner, log_temperature, state.bounds, state.targets), metrics
