"""RGM's correction of rewards by demonstrations, for what is trained with it or on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from safetrax.algorithms.base import Metrics, Spec
from safetrax.algorithms.critics import make_value
from safetrax.algorithms.learners import Learner
from safetrax.algorithms.standardisation import Standardiser
from safetrax.data.store import TRANSITION_FIELDS, Store, TransitionIndex, Transitions
from safetrax.data.trajectories import SAFE, Trajectories
from safetrax.losses.correction import correction_loss, flow_loss
from safetrax.losses.imitation import gradient_penalty, separation_loss
from safetrax.losses.td import bellman_target
from safetrax.nets.mlp import MLP, xavier_uniform
from safetrax.nets.trunks import Trunks

COSTLESS_FIELDS = tuple(name for name in TRANSITION_FIELDS if name != "costs")

LARGEST_CORRECTION = 3.0
"""Of a standardised reward."""


class CorrectionIndex(eqx.Module):
    """What may be drawn, and how rewards are standardised."""

    demonstrations: TransitionIndex
    everything: TransitionIndex
    rewards: Standardiser

    @staticmethod
    def make(trajectories: Trajectories) -> CorrectionIndex:
        """On the host. Demonstrations are the episodes labelled safe.

        Raises:
            DataError: there are none.
        """
        return CorrectionIndex(
            TransitionIndex.make(trajectories, trajectories.marks == SAFE),
            TransitionIndex.all(trajectories),
            Standardiser.of(jnp.asarray(trajectories.rewards)[:, None]),
        )


class Corrector(eqx.Module):
    """What is learnt of rewards."""

    discriminator: Learner[Trunks]  # its output is log d^E / d^D, of demonstrations and log
    rewards: Learner[MLP]  # the correction, over LARGEST_CORRECTION
    values: Learner[MLP]  # V of corrected rewards

    def correction(self, store: Store, index: CorrectionIndex, rows: Int[Array, " B"]) -> Float[Array, " B"]:
        """What is added to standardised rewards, in [-3, 3]."""
        assert store.rewards is not None
        rewards = index.rewards(store.rewards[rows, None])[:, 0]
        return _correction(self.rewards.network, store.observations[rows], store.actions[rows], rewards)


@dataclass(frozen=True)
class Correction:
    """How rewards are corrected: the settings of RGM and of what uses it."""

    discriminator_learning_rate: float
    discriminator_batch_size: int
    penalty: float
    joint_only: bool
    reward_learning_rate: float
    value_learning_rate: float
    decay: float  # of rewards and values, added to the gradient times the weights
    updates: int  # over which the rate of the rewards falls to zero along a half cosine
    discount: float
    alpha: float

    def make(self, key: Key[Array, ""], spec: Spec, hidden: tuple[int, ...], units: int) -> Corrector:
        """Fresh networks: the discriminator's weights are PyTorch's default, the others Xavier's."""
        discriminator_key, reward_key, value_key = jax.random.split(key, 3)
        trunks = Trunks.make(discriminator_key, spec.observation_size, spec.action_size, units, activation="tanh")
        sizes = (spec.observation_size + spec.action_size + 1, *hidden, 1)
        rewards = MLP.make(reward_key, sizes, output="tanh", initialiser=xavier_uniform)
        return Corrector(
            discriminator=Learner.make(trunks, self._discriminator_optimiser),
            rewards=Learner.make(rewards, self._reward_optimiser),
            values=make_value(value_key, spec, hidden, self._value_optimiser, xavier_uniform),
        )

    def separate(
        self, corrector: Corrector, store: Store, index: CorrectionIndex, key: Key[Array, ""]
    ) -> tuple[Corrector, Metrics]:
        """A step of the discriminator: demonstrations against the log, with a gradient penalty between them."""
        demonstration_key, log_key, mix_key = jax.random.split(key, 3)
        size = self.discriminator_batch_size
        rows = index.demonstrations.sample(demonstration_key, size), index.everything.sample(log_key, size)
        demonstrated, logged = ((store.observations[r], store.actions[r]) for r in rows)
        share = jax.random.uniform(mix_key, (size, 1))
        between = jax.tree.map(lambda a, b: share * a + (1 - share) * b, demonstrated, logged)

        def loss(network: Trunks) -> tuple[jax.Array, Metrics]:
            if self.joint_only:
                network = replace(
                    network, **jax.lax.stop_gradient({"first": network.first, "second": network.second})
                )
            ours, theirs = network(*demonstrated), network(*logged)
            slopes = jax.grad(lambda inputs: jnp.sum(network(*inputs)))(between)
            penalty = gradient_penalty(jnp.concatenate(slopes, axis=-1))
            return separation_loss(ours, theirs) + self.penalty * penalty, {
                "demonstration_ratio": jnp.mean(ours),
                "log_ratio": jnp.mean(theirs),
                "gradient_penalty": penalty,
            }

        learner, fit = corrector.discriminator.step(self._discriminator_optimiser, loss)
        return replace(corrector, discriminator=learner), {"discriminator_loss": fit.loss, **fit.extra}

    def correct(
        self, corrector: Corrector, store: Store, index: CorrectionIndex, batch: Transitions, key: Key[Array, ""]
    ) -> tuple[Corrector, Float[Array, " B"], Metrics]:
        """A step of the correction, then one of V; also the advantages A of the batch by the new rewards and old V.

        Initial states are drawn by `key` from the first rows of all episodes.
        """
        rewards = index.rewards(batch.rewards[:, None])[:, 0]
        log_ratio = corrector.discriminator.network(batch.observations, batch.actions)
        first = store.offsets[jax.random.randint(key, rewards.shape, 0, store.offsets.size - 1)]
        states = jnp.concatenate([batch.observations, batch.next_observations, store.observations[first]])

        def advantages(added: jax.Array, here: jax.Array, following: jax.Array) -> jax.Array:
            return (bellman_target(rewards + added, following, self.discount, batch.done) - here) / self.alpha

        here, following, _ = jnp.split(corrector.values.network(states)[:, 0], 3)

        def reward_loss(network: MLP) -> tuple[jax.Array, None]:
            added = _correction(network, batch.observations, batch.actions, rewards)
            return correction_loss(advantages(added, here, following), log_ratio), None

        reward_learner, of_rewards = corrector.rewards.step(self._reward_optimiser, reward_loss)
        added = _correction(reward_learner.network, batch.observations, batch.actions, rewards)

        def value_loss(network: MLP) -> tuple[jax.Array, jax.Array]:
            here, following, initial = jnp.split(network(states)[:, 0], 3)
            advantage = advantages(added, here, following)
            return flow_loss(initial, advantage, self.discount, self.alpha), advantage

        values, of_values = corrector.values.step(self._value_optimiser, value_loss)
        return (
            Corrector(corrector.discriminator, reward_learner, values),
            of_values.extra,
            {
                "correction_loss": of_rewards.loss,
                "value_loss": of_values.loss,
                "correction": jnp.mean(added),
                "correction_deviation": jnp.std(added),
                "reward_value": jnp.mean(here),
                "advantage": jnp.mean(of_values.extra),
                "log_ratio": jnp.mean(log_ratio),
            },
        )

    @property
    def _discriminator_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.discriminator_learning_rate)

    @property
    def _reward_optimiser(self) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(self.reward_learning_rate, max(self.updates, 1))
        return optax.chain(optax.add_decayed_weights(self.decay), optax.adam(rate))

    @property
    def _value_optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.add_decayed_weights(self.decay), optax.adam(self.value_learning_rate))


def _correction(
    network: MLP, observations: Float[Array, "B O"], actions: Float[Array, "B A"], rewards: Float[Array, " B"]
) -> Float[Array, " B"]:
    inputs = jnp.concatenate([observations, actions, rewards[:, None]], axis=-1)
    return LARGEST_CORRECTION * network(inputs)[:, 0]
