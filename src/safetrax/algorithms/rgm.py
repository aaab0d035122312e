"""RGM: rewards are corrected until the best policy near the log does what the demonstrations do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, keep_state
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Learner, policy_network
from safetrax.algorithms.reward_correction import COSTLESS_FIELDS, Correction, CorrectionIndex, Corrector
from safetrax.data.store import Field, Store
from safetrax.data.trajectories import Trajectories
from safetrax.losses.correction import normalised_weights
from safetrax.losses.weights import effective_share
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor
from safetrax.settings import BelowOne, Count, NonNegative, Positive, Whole

_LONE = 0.02  # share of a batch that the weights amount to


class RGMState(eqx.Module):
    """What RGM trains."""

    policy: Learner[MLP]  # deterministic
    corrector: Corrector
    bounds: ActionBounds


@dataclass(frozen=True)
class RGM(Algorithm):
    """Reward gap minimisation (Li et al., ICLR 2023, arXiv:2302.01667), with its code's numbers.

    First a discriminator tells the steps of the demonstrations, the episodes labelled safe, from those of the log.
    Then, in every update, rewards are corrected so that the best policy near the log visits what the demonstrations
    visit; V is fitted to corrected rewards; and the policy clones the log with the weights that follow.

    As in the code: the divergence is Kullback-Leibler's, the policy deterministic, the correction's rate a thousandth
    of the others', and the discriminator's first layers stay as they were drawn (`joint_only`).

    Deviations: rewards are the log's, also of demonstrations (code: those are 0, and by default the signs of half of
    the log's are turned, which is its experiment); the log holds the demonstrations; an episode's end is masked
    rather than followed by an absorbing state with a mark of its own in the observations; the discriminator makes a
    number of updates rather than of passes over the demonstrations.

    Metrics: see docs/rgm.md.
    """

    fields: ClassVar[tuple[Field, ...]] = COSTLESS_FIELDS
    fast: ClassVar = {
        "discriminator_updates": 1000,
        "updates": 5000,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "reward_learning_rate": 1e-4,
    }
    losses = ("discriminator_loss", "correction_loss", "value_loss", "policy_loss")
    uses_cost_limit = False
    needs_costs = False
    needs_labels = "safe"
    reference_std: ClassVar[float | None] = 1e-5

    alpha: Positive = 0.5
    """Strength of the divergence from the log: the larger, the closer to plain cloning."""
    discount: BelowOne = 0.99
    """gamma."""
    discriminator_updates: Whole = 10_000
    """Gradient steps of the discriminator, before anything else."""
    discriminator_batch_size: Count = 256
    """Transitions of the demonstrations per batch, and as many of the log."""
    discriminator_learning_rate: Positive = 1e-3
    """Adam's step size of the discriminator."""
    gradient_penalty: NonNegative = 10.0
    """Weight of the penalty that keeps the slope of the discriminator's logit near 1."""
    joint_only: bool = True
    """Train the discriminator's joint layers only (code); false: also the layer of each input."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of policy, V and correction."""
    discriminator_units: Count = 128
    """Units of the layer of each of the discriminator's two inputs; the hidden layer after them has twice as many."""
    learning_rate: Positive = 3e-4
    """Adam's step size of policy and V; the policy's falls to zero along a half cosine over `updates`."""
    reward_learning_rate: Positive = 3e-7
    """Adam's step size of the correction, which falls likewise."""
    weight_decay: NonNegative = 1e-4
    """Added to the gradients of V and correction, times their weights."""
    batch_size: Count = 512
    """Transitions per batch, uniform with replacement, and as many first states."""
    updates: Whole = 1_000_000
    """Gradient steps of correction, V and policy."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> CorrectionIndex:
        """The demonstrations and all transitions; the limit does not matter.

        Raises:
            DataError: no episode is labelled safe.
        """
        return CorrectionIndex.make(trajectories)

    def init(self, key: Key[Array, ""], spec: Spec) -> RGMState:
        """PyTorch's default weights; Xavier's for V and correction."""
        policy_key, corrector_key = jax.random.split(key)
        policy = policy_network(policy_key, spec, self.hidden, dropout=0.0, initialiser=kaiming_uniform)
        return RGMState(
            policy=Learner.make(policy, self._policy_optimiser),
            corrector=self._correction.make(corrector_key, spec, self.hidden, self.discriminator_units),
            bounds=ActionBounds.of(spec),
        )

    def stages(self) -> tuple[Stage, ...]:
        """The discriminator, then everything else."""
        return (
            Stage("separate", self.discriminator_updates, keep_state, self._separate),
            Stage("train", self.updates, keep_state, self._update),
        )

    def actor(self, state: RGMState) -> Actor:
        """The policy."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """Weights that a few rows have alone."""
        if lasts(history, "effective_share", lambda share: share < _LONE):
            return (
                "the weights amount to less than 2 % of a batch (effective_share), so the policy clones next to "
                "nothing; raise alpha.",
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
            value_learning_rate=self.learning_rate,
            decay=self.weight_decay,
            updates=self.updates,
            discount=self.discount,
            alpha=self.alpha,
        )

    @property
    def _policy_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, max(self.updates, 1)))

    def _separate(
        self, state: RGMState, store: Store, index: CorrectionIndex, key: Key[Array, ""]
    ) -> tuple[RGMState, Metrics]:
        corrector, metrics = self._correction.separate(state.corrector, store, index, key)
        return RGMState(state.policy, corrector, state.bounds), metrics

    def _update(
        self, state: RGMState, store: Store, index: CorrectionIndex, key: Key[Array, ""]
    ) -> tuple[RGMState, Metrics]:
        draw_key, first_key = jax.random.split(key)
        batch = store.transitions(index.everything.sample(draw_key, self.batch_size))
        corrector, advantages, metrics = self._correction.correct(state.corrector, store, index, batch, first_key)
        weights = normalised_weights(advantages)

        def policy_loss(network: MLP) -> tuple[jax.Array, jax.Array]:
            squares = jnp.square(network(batch.observations) - batch.actions)
            # a mean of weights that sum to 1, as in the code: Adam does not mind the scale
            return jnp.mean(weights * jnp.sum(squares, axis=-1)), jnp.mean(squares)

        policy, fit = state.policy.step(self._policy_optimiser, policy_loss)
        return RGMState(policy, corrector, state.bounds), {
            "policy_loss": fit.loss,
            "policy_gradient": fit.gradient,
            "behaviour_distance": fit.extra,
            "effective_share": effective_share(weights),
            **metrics,
        }
