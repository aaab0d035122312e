"""DWBC: cloning of demonstrations and of what looks like them, by a discriminator that knows the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.learners import ActionBounds, Learner
from safetrax.data.store import Store, TransitionIndex
from safetrax.data.trajectories import SAFE, Trajectories
from safetrax.losses.imitation import demonstrated_weights, logged_weights, positive_unlabelled_loss
from safetrax.losses.likelihood import squashed_log_prob, unsquash
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.nets.trunks import Trunks
from safetrax.policies.actor import Actor
from safetrax.settings import Count, NonNegative, OpenFraction, Positive, Whole

_GREATEST_MEAN = 9.0
_LOG_STDS = (-5.0, 2.0)
_LOG_PROBS = (-20.0, 10.0)  # of an action dimension, which the discriminator sees as 0 to 1
_SCORES = (0.1, 0.9)  # d is clipped to them


class DWBCIndex(eqx.Module):
    """What may be drawn."""

    demonstrations: TransitionIndex
    everything: TransitionIndex


class DWBCState(eqx.Module):
    """What DWBC trains and remembers."""

    policy: Learner[SquashedGaussian]
    discriminator: Learner[Trunks]  # of (s, a) and the log-likelihood of every action dimension
    count: Int32[Array, ""]  # updates made
    bounds: ActionBounds


@dataclass(frozen=True)
class DWBC(Algorithm):
    """Discriminator-weighted behaviour cloning (Xu et al., ICML 2022, arXiv:2207.10050), with its code's numbers.

    Demonstrations are the episodes labelled safe; the log is all episodes, theirs included. A discriminator, trained
    on positive and unlabelled steps, tells how much a step looks like a demonstration; it also sees how likely the
    policy makes the action. The policy clones demonstrations, and those steps of the log that look like them.

    As in the code: the discriminator steps in every hundredth update only (`discriminator_every`).

    Deviations: weights begin as PyTorch's (code: orthogonal).

    Metrics: see docs/dwbc.md.
    """

    fast: ClassVar = {
        "updates": 10_000,
        "learning_rate": 1e-3,
        "discriminator_learning_rate": 1e-3,
        "discriminator_every": 10,
    }

    losses = ("policy_loss", "discriminator_loss")
    uses_cost_limit = False
    needs_costs = False
    needs_labels = "safe"
    reference_std: ClassVar[float | None] = 1e-3

    alpha: Positive = 7.5
    """Weight of plain cloning of the demonstrations. Below 1 + eta / 0.09, a demonstration that the discriminator is
    sure of is pushed away."""
    eta: OpenFraction = 0.5
    """Assumed share of the log that is as good as the demonstrations."""
    discriminator_every: Count = 100
    """The discriminator steps in every such update."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of the policy."""
    discriminator_units: Count = 128
    """Units of the layer of each of the discriminator's two inputs; the hidden layer after them has twice as many."""
    learning_rate: Positive = 1e-4
    """Adam's step size of the policy."""
    weight_decay: NonNegative = 0.005
    """Added to the policy's gradient, times its weights."""
    discriminator_learning_rate: Positive = 1e-4
    """Adam's step size of the discriminator."""
    batch_size: Count = 256
    """Transitions of the demonstrations per batch, and as many of the log."""
    updates: Whole = 500_000
    """Gradient steps of the policy."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> DWBCIndex:
        """The demonstrations and all transitions; the limit does not matter.

        Raises:
            DataError: no episode is labelled safe.
        """
        demonstrations = TransitionIndex.make(trajectories, trajectories.marks == SAFE)
        return DWBCIndex(demonstrations, TransitionIndex.all(trajectories))

    def init(self, key: Key[Array, ""], spec: Spec) -> DWBCState:
        """PyTorch's default weights."""
        policy_key, discriminator_key = jax.random.split(key)
        observations, actions = spec.observation_size, spec.action_size
        policy = SquashedGaussian.make(policy_key, observations, actions, self.hidden)
        trunks = Trunks.make(
            discriminator_key, observations + actions, actions, self.discriminator_units, activation="relu"
        )
        return DWBCState(
            policy=Learner.make(policy, self._policy_optimiser),
            discriminator=Learner.make(trunks, self._discriminator_optimiser),
            count=jnp.zeros((), jnp.int32),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: DWBCState) -> Actor:
        """tanh of the policy's mean."""
        return state.bounds.actor(state.policy.network)

    @property
    def _policy_optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.add_decayed_weights(self.weight_decay), optax.adam(self.learning_rate))

    @property
    def _discriminator_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.discriminator_learning_rate)

    def _update(
        self, state: DWBCState, store: Store, index: DWBCIndex, key: Key[Array, ""]
    ) -> tuple[DWBCState, Metrics]:
        """Both losses are taken at the networks before the update, as in the code."""
        keys, drawn = jax.random.split(key), (index.demonstrations, index.everything)
        rows = jnp.concatenate([part.sample(k, self.batch_size) for k, part in zip(keys, drawn, strict=True)])
        observations, actions = store.observations[rows], store.actions[rows]
        likelihood = _scaled(log_probs(state.policy.network, observations, actions))

        def discriminator_loss(network: Trunks) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            scores = jax.nn.sigmoid(network(jnp.concatenate([observations, actions], axis=-1), likelihood))
            demonstrated, logged = jnp.split(jnp.clip(scores, *_SCORES), 2)
            return positive_unlabelled_loss(demonstrated, logged, self.eta), (demonstrated, logged)

        count = state.count + 1
        loss, (demonstrated, logged) = discriminator_loss(state.discriminator.network)
        discriminator: Learner[Trunks] = jax.lax.cond(
            count % self.discriminator_every == 0,
            lambda: state.discriminator.step(self._discriminator_optimiser, discriminator_loss)[0],
            lambda: state.discriminator,
        )
        weights = jnp.concatenate([demonstrated_weights(demonstrated, self.alpha, self.eta), logged_weights(logged)])

        def policy_loss(network: SquashedGaussian) -> tuple[jax.Array, jax.Array]:
            log_prob = jnp.sum(log_probs(network, observations, actions), axis=-1)
            distance = jnp.square(network(observations) - actions)[: self.batch_size]
            return -jnp.sum(weights * log_prob) / self.batch_size, jnp.mean(distance)

        policy, fit = state.policy.step(self._policy_optimiser, policy_loss)
        return DWBCState(policy, discriminator, count, state.bounds), {
            "policy_loss": fit.loss,
            "policy_gradient": fit.gradient,
            "behaviour_distance": fit.extra,
            "discriminator_loss": loss,
            "demonstration_score": jnp.mean(demonstrated),
            "log_score": jnp.mean(logged),
            "demonstration_weight": jnp.mean(weights[: self.batch_size]),
            "log_weight": jnp.mean(weights[self.batch_size :]),
        }


def log_probs(
    policy: SquashedGaussian, observations: Float[Array, "B O"], actions: Float[Array, "B A"]
) -> Float[Array, "B A"]:
    """log pi(a|s) of every action dimension, in nats, with the mean before the tanh in [-9, 9] and the log standard
    deviation in [-5, 2]."""
    mean, log_std = policy.moments(observations)
    mean, log_std = jnp.clip(mean, -_GREATEST_MEAN, _GREATEST_MEAN), jnp.clip(log_std, *_LOG_STDS)
    return squashed_log_prob(unsquash(actions)[..., None], mean[..., None], log_std[..., None])


def _scaled(log_prob: Float[Array, "B A"]) -> Float[Array, "B A"]:
    low, high = _LOG_PROBS
    return (jnp.clip(log_prob, low, high) - low) / (high - low)
