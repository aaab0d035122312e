"""CDT-V: a constrained decision transformer on costs that RGM's correction of rewards estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, keep_state
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Learner, dropout_seed, warmed_up
from safetrax.algorithms.reward_correction import (
    COSTLESS_FIELDS,
    LARGEST_CORRECTION,
    Correction,
    CorrectionIndex,
    Corrector,
)
from safetrax.algorithms.sequence_learner import (
    SequenceState,
    cloning_step,
    new_temperature,
    require_sizes,
    require_steps,
)
from safetrax.data.sequences import SequenceIndex, to_go
from safetrax.data.store import Field, Store
from safetrax.data.trajectories import SAFE, Trajectories
from safetrax.losses.correction import estimated_costs
from safetrax.losses.masked import masked_mean
from safetrax.nets.decision_transformer import DecisionTransformer
from safetrax.policies.actor import Actor
from safetrax.policies.sequence import Targets, UnpricedActor
from safetrax.settings import BelowOne, Count, Fraction, NonNegative, Positive, Whole

_ROWS_AT_ONCE = 8192  # of the pass that estimates costs
_COSTLY = 0.5  # from which estimate on a step counts as costly to the head that foresees it


class CDTVIndex(eqx.Module):
    """What the log tells."""

    correction: CorrectionIndex
    demonstrated: Bool[Array, " E"]  # whether an episode is labelled safe
    return_to_go: Float32[Array, " N"]  # sum of the rewards from every transition to the end of its episode


class Estimate(eqx.Module):
    """The costs that the transformer is trained on."""

    costs: Float32[Array, " N"]
    sequences: SequenceIndex


class CDTVState(eqx.Module):
    """What CDT-V trains, and the costs once they are estimated."""

    corrector: Corrector
    sequence: SequenceState[DecisionTransformer]
    estimate: Estimate | None


@dataclass(frozen=True)
class CDTV(Algorithm):
    """CDT-V, a baseline of DSPO's paper: CDT where no cost is logged, but some episodes are labelled safe.

    RGM corrects the rewards by the episodes labelled safe, the demonstrations. How much less than on the
    demonstrations is added to the reward of a step estimates its cost, in [0, 1]. CDT is trained on these costs, and
    its policy is asked for the demonstrations' mean return at their mean cost.

    The paper says no more than that the difference of corrected and old reward estimates safety. Ours are: the
    threshold (`quantile`), the scale, what is asked for, and that the policy's cost target stays as it is, for no
    environment tells estimated costs.

    Deviations from CDT: no relabelled episodes. From RGM: see `RGM`.

    Metrics: see docs/cdt-v.md.
    """

    fields: ClassVar[tuple[Field, ...]] = COSTLESS_FIELDS
    fast: ClassVar = {
        "discriminator_updates": 1000,
        "correction_updates": 5000,
        "correction_batch_size": 256,
        "value_learning_rate": 1e-3,
        "reward_learning_rate": 1e-4,
        "updates": 1500,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "warmup": 100,
    }
    losses = ("discriminator_loss", "correction_loss", "value_loss", "action_loss", "cost_loss")
    uses_cost_limit = False
    needs_costs = False
    needs_labels = "safe"
    presets: ClassVar = {"metadrive": {"updates": 200_000}}  # CDT's schedule
    reference_std: ClassVar[float | None] = 1e-5  # RGM's

    discriminator_updates: Whole = 10_000
    """Gradient steps of the discriminator, before anything else."""
    correction_updates: Whole = 1_000_000
    """Gradient steps of V and the correction, before the costs are estimated."""
    correction_batch_size: Count = 512
    """Transitions per batch of these, uniform with replacement."""
    discriminator_batch_size: Count = 256
    """Transitions of the demonstrations per batch, and as many of the log."""
    discriminator_learning_rate: Positive = 1e-3
    """Adam's step size of the discriminator."""
    gradient_penalty: NonNegative = 10.0
    """Weight of the penalty that keeps the slope of the discriminator's logit near 1."""
    joint_only: bool = True
    """Train the discriminator's joint layers only (code of RGM); false: also the layer of each input."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of V and correction."""
    discriminator_units: Count = 128
    """Units of the layer of each of the discriminator's two inputs; the hidden layer after them has twice as many."""
    value_learning_rate: Positive = 3e-4
    """Adam's step size of V."""
    reward_learning_rate: Positive = 3e-7
    """Adam's step size of the correction; it falls to zero along a half cosine."""
    correction_decay: NonNegative = 1e-4
    """Added to the gradients of V and correction, times their weights."""
    alpha: Positive = 0.5
    """Strength of the divergence from the log while rewards are corrected."""
    discount: BelowOne = 0.99
    """gamma, likewise."""
    quantile: Fraction = 0.99
    """Share of the demonstrations' steps that cost nothing; only what is corrected less than these is costly."""
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
    """Gradient steps of the transformer."""
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
    cost_weight: NonNegative = 0.02
    """Weight of the loss that foresees whether a step's estimate is above 1/2."""
    reward_scale: Positive = 0.1
    """Factor on returns-to-go."""
    cost_origin: float = 50.0
    """The network sees this number less the cost-to-go."""
    cost_cap: Positive = 70.0
    """An episode of estimated cost C is drawn as often as max(cost_cap - C, 0) says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self.width, self.heads, (), ())

    @property
    def name(self) -> str:
        """CDT-V."""
        return "CDT-V"

    def index(self, trajectories: Trajectories, cost_limit: float) -> CDTVIndex:
        """What the log tells; the limit does not matter.

        Raises:
            DataError: no episode is labelled safe, or every one is shorter than the context.
        """
        require_steps(self.context, trajectories.max_length)
        return CDTVIndex(
            correction=CorrectionIndex.make(trajectories),
            demonstrated=jnp.asarray(trajectories.marks == SAFE),
            return_to_go=jnp.asarray(to_go(trajectories.rewards, trajectories.offsets), jnp.float32),
        )

    def init(self, key: Key[Array, ""], spec: Spec) -> CDTVState:
        """Fresh weights; costs follow when the transformer's training begins."""
        corrector_key, network_key = jax.random.split(key)
        network = DecisionTransformer.make(
            network_key,
            spec.observation_size,
            spec.action_size,
            spec.max_length + self.context,
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            dropout=self.dropout,
            return_scale=self.reward_scale,
            cost_origin=self.cost_origin,
        )
        return CDTVState(
            corrector=self._correction.make(corrector_key, spec, self.hidden, self.discriminator_units),
            sequence=SequenceState(
                learner=Learner.make(network, self._optimiser),
                log_temperature=new_temperature(self.temperature, self.temperature_learning_rate),
                bounds=ActionBounds.of(spec),
                targets=Targets.unknown((0.0,)),
            ),
            estimate=None,
        )

    def stages(self) -> tuple[Stage, ...]:
        """The discriminator, the correction, then the transformer on estimated costs."""
        return (
            Stage("separate", self.discriminator_updates, keep_state, self._separate),
            Stage("correct", self.correction_updates, keep_state, self._correct),
            Stage("train", self.updates, self._estimate, self._update),
        )

    def actor(self, state: CDTVState) -> Actor:
        """The transformer, asked for what the demonstrations have."""
        bounds, targets = state.sequence.bounds, state.sequence.targets
        network, limit = state.sequence.learner.network, targets.table[0, 0]
        return UnpricedActor.make(network, bounds.low, bounds.high, targets, self.context, limit)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """No costs."""
        if lasts(history, "estimated_cost", lambda cost: cost == 0):
            return (
                "no step has an estimated cost, so the policy clones every episode alike; train the correction "
                "longer (correction_updates, reward_learning_rate), or lower quantile.",
            )
        return ()

    @property
    def _correction(self) -> Correction:
        return Correction(
            discriminator_learning_rate=self.discriminator_learning_rate,
            discriminator_batch_size=self.discriminator_batch_size,
            penalty=self.gradient_penalty,
            joint_only=self.joint_only,
            reward_learning_rate=self.reward_learning_rate,
            value_learning_rate=self.value_learning_rate,
            decay=self.correction_decay,
            updates=self.correction_updates,
            discount=self.discount,
            alpha=self.alpha,
        )

    @property
    def _optimiser(self) -> optax.GradientTransformation:
        adam = optax.adamw(partial(warmed_up, self.learning_rate, self.warmup), weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.gradient_clip), adam)

    def _separate(
        self, state: CDTVState, store: Store, index: CDTVIndex, key: Key[Array, ""]
    ) -> tuple[CDTVState, Metrics]:
        corrector, metrics = self._correction.separate(state.corrector, store, index.correction, key)
        return replace(state, corrector=corrector), metrics

    def _correct(
        self, state: CDTVState, store: Store, index: CDTVIndex, key: Key[Array, ""]
    ) -> tuple[CDTVState, Metrics]:
        draw_key, first_key = jax.random.split(key)
        batch = store.transitions(index.correction.everything.sample(draw_key, self.correction_batch_size))
        corrector, _, metrics = self._correction.correct(state.corrector, store, index.correction, batch, first_key)
        return replace(state, corrector=corrector), metrics

    def _estimate(self, state: CDTVState, store: Store, index: CDTVIndex, key: Key[Array, ""]) -> CDTVState:
        """Costs of all steps, and what the policy is asked for."""
        rows = jnp.arange(store.num_transitions)
        corrections = jax.lax.map(
            lambda row: state.corrector.correction(store, index.correction, row[None])[0],
            rows,
            batch_size=_ROWS_AT_ONCE,
        )
        episodes = jnp.searchsorted(store.offsets, rows, side="right") - 1
        costs = estimated_costs(corrections, index.demonstrated[episodes], self.quantile, 1 / LARGEST_CORRECTION)
        sequences = SequenceIndex.estimated(index.return_to_go, costs, store.offsets, self.cost_cap)
        totals = jnp.stack([sequences.cost_to_go, index.return_to_go], axis=-1)[store.offsets[:-1]]
        asked = jnp.average(totals, axis=0, weights=index.demonstrated)
        spent, returned = (jnp.stack([column.min(), column.max()]) for column in totals.T)
        targets = Targets(asked[None], returned, spent)
        return CDTVState(state.corrector, state.sequence.asking(targets), Estimate(costs, sequences))

    def _update(
        self, state: CDTVState, store: Store, index: CDTVIndex, key: Key[Array, ""]
    ) -> tuple[CDTVState, Metrics]:
        assert state.estimate is not None
        draw_key, dropout_key = jax.random.split(key)
        known = replace(store, costs=state.estimate.costs)
        batch = state.estimate.sequences.sample(draw_key, known, self.batch_size, self.context)
        sequence, metrics = cloning_step(
            state.sequence,
            batch,
            (batch.costs > _COSTLY).astype(jnp.int32),
            self._optimiser,
            dropout_seed(dropout_key),
            temperature_rate=self.temperature_learning_rate,
            target_entropy=self.target_entropy,
            cost_weight=self.cost_weight,
        )
        return replace(state, sequence=sequence), {**metrics, "estimated_cost": masked_mean(batch.costs, batch.mask)}
