"""Conservative Q-learning: a soft actor-critic whose critics are pushed down wherever the log has no actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked
from safetrax.algorithms.rewards import ReturnRange, RewardIndex, value_warnings
from safetrax.data.store import TRANSITION_FIELDS, Store, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.conservative import conservative_gap
from safetrax.losses.likelihood import squashed_log_prob
from safetrax.losses.td import bellman_target, summed_errors
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.nets.mlp import MLP, Initialiser, kaiming_uniform, orthogonal, xavier_uniform
from safetrax.policies.actor import Actor
from safetrax.settings import Count, Fraction, NonNegative, Positive, Rate, Whole

_LOG_STD_BOUNDS = (-20.0, 2.0)
_OUTPUT_GAIN = 1e-2  # fresh policies hardly depend on the state, fresh critics are near zero


class ScaledGaussian(eqx.Module):
    """a = tanh(u), u Gaussian; the log standard deviation is multiplier * output + offset, both learned."""

    network: MLP  # mean and raw log standard deviation, side by side
    multiplier: Float[Array, ""]  # of the raw log standard deviation
    offset: Float[Array, ""]  # added to it

    def moments(self, observations: Float[Array, "n O"]) -> tuple[Float[Array, "n A"], Float[Array, "n A"]]:
        """Mean and log standard deviation of u; the latter is clipped to [-20, 2]."""
        mean, raw = jnp.split(self.network(observations), 2, axis=-1)
        return mean, jnp.clip(self.multiplier * raw + self.offset, *_LOG_STD_BOUNDS)


class CQLState(eqx.Module):
    """What CQL trains and remembers."""

    policy: Learner[ScaledGaussian]  # a squashed Gaussian
    critics: Tracked[Ensemble]  # Q, two of them, and their targets
    log_temperature: Learner[Float[Array, ""]]  # log of the entropy's weight
    bounds: ActionBounds


@dataclass(frozen=True)
class CQL(Algorithm):
    """Conservative Q-learning (Kumar et al., NeurIPS 2020, arXiv:2006.04779), a yardstick: it ignores costs.

    CQL(H) on a soft actor-critic, with the sizes, rates and initial weights of CORL's single-file implementation: the
    penalty's weight is fixed, its actions are drawn uniformly, from pi(s) and from pi(s') and weighted by their
    densities; the backup has no entropy. The deployed policy is tanh of the mean.

    Deviations from CORL: an episode that a time limit cut off ends like one that terminated, as everywhere here.
    Rewards are scaled by the range of returns on every task (`return_range`), where CORL's configurations do so on
    some; its further factor of 5 and shift of -1, made for AntMaze, are left out.

    Metrics: see docs/cql.md.
    """

    fast: ClassVar = {"updates": 1500, "batch_size": 64, "policy_learning_rate": 3e-4, "target_rate": 0.05}

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss")
    uses_cost_limit = False
    needs_costs = False
    reference_std = 1e-3

    penalty_weight: NonNegative = 10.0
    """alpha of CQL: weight of the penalty against the squared error of each critic; 0: none."""
    penalty_temperature: Positive = 1.0
    """Of the soft maximum in the penalty."""
    samples: Count = 10
    """Actions drawn for the penalty, each uniformly, from pi(s) and from pi(s')."""
    target_entropy: float = -1.0
    """Entropy of the policy, in nats per action dimension, that the temperature is tuned for."""
    return_range: ReturnRange = "horizon"
    """Rewards are multiplied so that the logged episodes' returns span it. "horizon": as many as an episode of the
    task has steps, or the longest of the log where the task is not known; None: rewards as they are."""
    reward_scale: Positive = 1.0
    """A further factor on rewards."""
    hidden: tuple[Count, ...] = (256, 256, 256)
    """Units of each hidden layer of policy and critics."""
    discount: Fraction = 0.99
    """gamma."""
    target_rate: Rate = 0.005
    """tau: how far the target critics move towards the critics in each update."""
    policy_learning_rate: Positive = 3e-5
    """Adam's step size for the policy and the temperature."""
    critic_learning_rate: Positive = 3e-4
    """Adam's step size for the critics."""
    batch_size: Count = 256
    """Transitions per batch, uniform with replacement."""
    updates: Whole = 1_000_000
    """Gradient steps."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> RewardIndex:
        """All transitions; the limit does not matter."""
        return RewardIndex.make(trajectories, self.discount)

    def init(self, key: Key[Array, ""], spec: Spec) -> CQLState:
        """CORL's weights.

        Critics: orthogonal with gain sqrt 2, the output with gain 0.01, biases zero. Policy: PyTorch's default, the
        output Xavier-uniform with gain 0.01 and zero bias; its multiplier starts at 1, its offset at -1.
        """
        policy_key, first_key, second_key = jax.random.split(key, 3)
        observations, actions = spec.observation_size, spec.action_size
        small_xavier = partial(xavier_uniform, gain=_OUTPUT_GAIN)
        network = _network(policy_key, (observations, *self.hidden, 2 * actions), kaiming_uniform, small_xavier)
        sizes = (observations + actions, *self.hidden, 1)
        gains = partial(orthogonal, gain=math.sqrt(2)), partial(orthogonal, gain=_OUTPUT_GAIN)
        critics = tuple(_network(k, sizes, *gains) for k in (first_key, second_key))
        policy = ScaledGaussian(network, jnp.ones(()), -jnp.ones(()))
        return CQLState(
            policy=Learner.make(policy, self._policy_optimiser()),
            critics=Tracked.make(Ensemble(critics), optax.adam(self.critic_learning_rate)),
            log_temperature=Learner.make(jnp.zeros(()), self._policy_optimiser()),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: CQLState) -> Actor:
        """tanh of the policy's mean; the scale of its deviation is not needed."""
        return state.bounds.actor(SquashedGaussian(state.policy.network.network))

    def diagnose(self, history: History) -> tuple[str, ...]:
        """A policy without gradient, or values that cannot be."""
        sentences = value_warnings(history)
        if lasts(history, "policy_gradient", lambda norm: norm == 0):
            sentences += (
                "the policy receives no gradient: its actions sit at the edge of the action box; "
                "raise penalty_weight or lower policy_learning_rate.",
            )
        return sentences

    def _policy_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.policy_learning_rate)

    def _update(
        self, state: CQLState, store: Store, index: RewardIndex, key: Key[Array, ""]
    ) -> tuple[CQLState, Metrics]:
        """All losses are taken at the networks before the update, as in CORL."""
        draw_key, noise_key, uniform_key = jax.random.split(key, 3)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))
        temperature = jnp.exp(state.log_temperature.network)
        scale = self.reward_scale * index.reward_scale(self.return_range)
        # of s and s': one draw for the policy's loss and for the target, the others for the penalty
        noise = jax.random.normal(noise_key, (2, self.samples + 1, *batch.actions.shape))

        def policy_loss(policy: ScaledGaussian) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            mean, log_std = policy.moments(batch.observations)
            drawn = mean + jnp.exp(log_std) * noise[0, 0]
            log_prob = squashed_log_prob(drawn, mean, log_std)
            values = state.critics.network.min(batch.observations, jnp.tanh(drawn))
            return jnp.mean(temperature * log_prob - values), (mean, log_std, jnp.mean(log_prob))

        policy, of_policy = state.policy.step(self._policy_optimiser(), policy_loss)
        mean, log_std, log_prob = of_policy.extra
        target_entropy = self.target_entropy * batch.actions.shape[-1]
        log_temperature, _ = state.log_temperature.step(
            self._policy_optimiser(), lambda value: (-value * (log_prob + target_entropy), None)
        )

        next_mean, next_log_std = state.policy.network.moments(batch.next_observations)
        next_drawn = next_mean + jnp.exp(next_log_std) * noise[1]
        following = state.critics.target.min(batch.next_observations, jnp.tanh(next_drawn[0]))
        target = bellman_target(scale * batch.rewards, following, self.discount, batch.done)
        drawn = mean + jnp.exp(log_std) * noise[0, 1:]
        actions = jnp.concatenate(
            [
                jax.random.uniform(uniform_key, (self.samples, *batch.actions.shape), minval=-1.0, maxval=1.0),
                jnp.tanh(drawn),
                jnp.tanh(next_drawn[1:]),
            ]
        )
        log_density = jnp.concatenate(
            [
                jnp.full((self.samples, self.batch_size), -batch.actions.shape[-1] * math.log(2)),
                squashed_log_prob(drawn, mean, log_std),
                squashed_log_prob(next_drawn[1:], next_mean, next_log_std),
            ]
        )
        critics, of_critics = state.critics.step(
            optax.adam(self.critic_learning_rate),
            lambda network: self.critic_loss(network, batch, target, actions, log_density),
        )
        error, logged, gap = of_critics.extra
        metrics = {
            "reward_value": jnp.mean(logged),
            "penalty": jnp.mean(gap),
            "reward_critic_loss": error,
            "policy_loss": of_policy.loss,
            "policy_gradient": of_policy.gradient,
            "entropy": -log_prob,
            "temperature": temperature,
            "behaviour_distance": jnp.mean(jnp.square(jnp.tanh(mean) - batch.actions)),
            "value_ratio": index.value_ratio(logged, scale),
        }
        return CQLState(policy, critics.follow(self.target_rate), log_temperature, state.bounds), metrics

    def critic_loss(
        self,
        critics: Ensemble,
        batch: Transitions,
        target: Float[Array, " B"],
        actions: Float[Array, "S B A"],
        log_density: Float[Array, "S B"],
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, "K B"], Float[Array, "K B"]]]:
        """Squared error plus weighted penalty, summed over the critics; one pass of each over all S + 1 actions.

        The drawn actions, with their log densities in nats, are all judged in s. Also gives the squared error, Q of
        the logged actions, and the penalty before its weight.
        """
        rows = jnp.concatenate([actions, batch.actions[None]])
        observations = jnp.broadcast_to(batch.observations, (len(rows), *batch.observations.shape))
        flat = critics(*(x.reshape(-1, x.shape[-1]) for x in (observations, rows)))
        values = flat.reshape(flat.shape[0], *rows.shape[:2])
        logged = values[:, -1]
        gap = conservative_gap(values[:, :-1], log_density, logged, self.penalty_temperature)
        error = summed_errors(logged, target)
        return error + self.penalty_weight * jnp.sum(jnp.mean(gap, axis=-1)), (error, logged, gap)


def _network(key: Key[Array, ""], sizes: Sequence[int], hidden: Initialiser, output: Initialiser) -> MLP:
    """An MLP whose last layer is initialised in its own way."""
    hidden_key, output_key = jax.random.split(key)
    network = MLP.make(hidden_key, sizes, initialiser=hidden)
    layer = output(output_key, sizes[-2], sizes[-1])
    changed: MLP = eqx.tree_at(lambda mlp: (mlp.weights[-1], mlp.biases[-1]), network, layer)
    return changed
