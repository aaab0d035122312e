"""COptiDICE: weighted cloning, with weights that correct the data's occupancy to that of the best safe policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage
from safetrax.algorithms.diagnosis import History, diverges, lasts
from safetrax.algorithms.learners import ActionBounds, Learner
from safetrax.data.store import TRANSITION_FIELDS, Store, TransitionIndex, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.dice import DivergenceName, advantage, flow_residual, occupancy_weights, value_loss, worst_case
from safetrax.losses.likelihood import gaussian_log_prob, squashed_log_prob, unsquash
from safetrax.losses.td import discounted_limit
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.policies.actor import Actor
from safetrax.settings import BelowOne, Count, NonNegative, Positive, Whole

_ZERO = 1e-3  # a weight below it takes no part in the cloning
_GREAT = 5.0  # scaled reward per unit of cost: beyond it, rewards hardly matter


class COptiDICEIndex(eqx.Module):
    """What a run draws from."""

    transitions: TransitionIndex  # all of them
    initial_share: Float[Array, ""]  # p_init, the share of rows that begin an episode
    threshold: Float[Array, ""]  # what the cost estimate is compared with


class UpperBound(eqx.Module):
    """What the cost upper bound learns."""

    values: Learner[Ensemble]  # chi, the cost values
    temperature: Learner[Float[Array, ""]]  # tau before the softplus


class COptiDICEState(eqx.Module):
    """What COptiDICE trains."""

    policy: Learner[SquashedGaussian]  # pi
    values: Learner[Ensemble]  # nu, the values of the penalised reward
    multiplier: Learner[Float[Array, ""]]  # lambda before the softplus
    bound: UpperBound | None  # of the cost estimate; None where it is switched off
    observation_noise: Float[Array, " O"]  # standard deviation of the noise on cloned observations
    action_noise: Float[Array, " A"]  # the same for actions
    bounds: ActionBounds


@dataclass(frozen=True)
class COptiDICE(Algorithm):
    """COptiDICE (Lee et al., ICLR 2022, arXiv:2204.08957), with the sizes and rates of OSRL (Liu et al., 2024).

    Finds the weights w(s, a) whose re-weighted data are the occupancy of the policy with the greatest reward, minus
    alpha times an f-divergence from the data, among those whose cost meets the limit; then clones with these weights.
    The cost is over-estimated: by its worst case over all data sets within a divergence epsilon of the batch.

    Deviations from the paper follow OSRL: initial states are the batch's own, no gradient penalty, smaller networks,
    a squashed Gaussian policy cloned with noise.
    Deviations from OSRL, unless `osrl_compat`: the cost estimate is a cost per step and is compared with the limit
    per step, (limit / T) (1 - gamma^T), rather than with the discounted sum of an episode, which is 1 / (1 - gamma)
    times as great and no constraint at all; the likelihood is that of the squashed action, rather than the
    unsquashed Gaussian's at the squashed action.

    Metrics: see docs/coptidice.md.
    """

    fast: ClassVar = {
        "updates": 3000,
        "batch_size": 128,
        "policy_learning_rate": 3e-3,
        "critic_learning_rate": 3e-3,
        "multiplier_learning_rate": 3e-2,
    }

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")
    presets: ClassVar = {"metadrive": {"updates": 200_000}}  # OSRL's schedule

    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer, of the policy and of the values."""
    updates: Whole = 100_000
    """Gradient steps."""
    batch_size: Count = 512
    """Transitions per batch, uniform with replacement."""
    discount: BelowOne = 0.99
    """gamma."""
    reward_scale: Positive = 0.1
    """Factor on rewards. Only its ratio to `alpha` and to the multiplier's unit matters."""
    divergence: DivergenceName = "soft-chi2"
    """f, by which the weights' distance from 1 is measured."""
    alpha: Positive = 0.5
    """Strength of the divergence, in scaled rewards: the larger, the closer to plain cloning."""
    cost_divergence: NonNegative = 0.01
    """epsilon, the divergence that the cost's upper bound allows for, in nats; 0: no upper bound, E[w c] itself."""
    critics: Count = 2
    """Networks per value function, of which the least value counts."""
    policy_learning_rate: Positive = 1e-4
    """Adam's step size of the policy."""
    critic_learning_rate: Positive = 1e-4
    """Adam's step size of nu and chi."""
    multiplier_learning_rate: Positive = 1e-4
    """Adam's step size of lambda and tau, before their softplus."""
    cloning_noise: NonNegative = 0.1
    """Noise on cloned observations and actions, in standard deviations of each dimension over the data."""
    osrl_compat: bool = False
    """Reproduce OSRL's flaws, see above: its published results are near those of no constraint."""

    @property
    def name(self) -> str:
        """COptiDICE, or COptiDICE-OSRL with `osrl_compat`."""
        return "COptiDICE-OSRL" if self.osrl_compat else "COptiDICE"

    def index(self, trajectories: Trajectories, cost_limit: float) -> COptiDICEIndex:
        """All transitions, and the threshold for one limit."""
        threshold = discounted_limit(cost_limit, trajectories.max_length, self.discount)
        if not self.osrl_compat:  # the discounted sum of the occupancy's weights is 1 / (1 - gamma) times their mean
            threshold = (1 - self.discount) * threshold
        return COptiDICEIndex(
            transitions=TransitionIndex.all(trajectories),
            initial_share=jnp.asarray(trajectories.num_episodes / trajectories.num_transitions, jnp.float32),
            threshold=threshold,
        )

    def init(self, key: Key[Array, ""], spec: Spec) -> COptiDICEState:
        """PyTorch's default weights; lambda and tau begin at softplus(1) = 1.31, as in OSRL."""
        policy_key, value_key, cost_key = jax.random.split(key, 3)
        policy = SquashedGaussian.make(policy_key, spec.observation_size, spec.action_size, self.hidden)
        sizes, adam = (spec.observation_size, *self.hidden), optax.adam(self.critic_learning_rate)
        dual = Learner.make(jnp.ones(()), optax.adam(self.multiplier_learning_rate))
        bound = None
        if self.cost_divergence > 0:
            bound = UpperBound(Learner.make(Ensemble.make(cost_key, sizes, self.critics), adam), dual)
        return COptiDICEState(
            policy=Learner.make(policy, optax.adam(self.policy_learning_rate)),
            values=Learner.make(Ensemble.make(value_key, sizes, self.critics), adam),
            multiplier=dual,
            bound=bound,
            observation_noise=jnp.zeros(spec.observation_size),
            action_noise=jnp.zeros(spec.action_size),
            bounds=ActionBounds.of(spec),
        )

    def stages(self) -> tuple[Stage, ...]:
        """Everything is trained together, once the noise is measured."""
        return (Stage("train", self.updates, self._measure_noise, self._update),)

    def actor(self, state: COptiDICEState) -> Actor:
        """tanh of the policy's mean."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """Weights that vanish, a multiplier that diverges."""
        found = []
        if lasts(history, "zero_weights", lambda share: share > 0.99):
            found.append(
                "nearly all weights are zero, so the policy clones next to nothing: raise alpha or the cost limit."
            )
        if diverges(history, "multiplier", above=_GREAT):
            found.append(
                "the multiplier keeps growing: no re-weighting of the data seems to meet the cost limit, and rewards "
                "lose their say; raise the cost limit, lower alpha, or add safe episodes."
            )
        return tuple(found)

    def _measure_noise(
        self, state: COptiDICEState, store: Store, index: COptiDICEIndex, key: Key[Array, ""]
    ) -> COptiDICEState:
        """Standard deviations of the data set, once."""
        noise = [self.cloning_noise * jnp.std(x, axis=0) for x in (store.observations, store.actions)]
        return replace(state, observation_noise=noise[0], action_noise=noise[1])

    def _update(
        self, state: COptiDICEState, store: Store, index: COptiDICEIndex, key: Key[Array, ""]
    ) -> tuple[COptiDICEState, Metrics]:
        draw_key, noise_key = jax.random.split(key)
        rows = index.transitions.sample(draw_key, self.batch_size)
        batch = store.transitions(rows)
        initial = starts_episode(store.offsets, rows) / index.initial_share
        multiplier = jax.nn.softplus(state.multiplier.network)

        def nu_loss(network: Ensemble) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            nu, advantages = self._advantages(network, batch, multiplier)
            weights = jax.lax.stop_gradient(occupancy_weights(advantages, self.alpha, self.divergence))
            loss = value_loss(nu, initial, advantages, weights, self.discount, self.alpha, self.divergence)
            return loss, (nu, weights)

        values, of_values = state.values.step(optax.adam(self.critic_learning_rate), nu_loss)
        nu, weights = of_values.extra
        cost_per_step = jnp.mean(weights * batch.costs)
        bound, cost, bound_metrics = self._step_bound(state.bound, batch, initial, weights)
        multiplier_learner, _ = state.multiplier.step(
            optax.adam(self.multiplier_learning_rate),
            lambda raw: (jax.nn.softplus(raw) * (index.threshold - cost), None),
        )

        _, advantages = self._advantages(values.network, batch, multiplier)
        weights = occupancy_weights(advantages, self.alpha, self.divergence)
        observation_key, action_key = jax.random.split(noise_key)
        observations = _noisy(observation_key, batch.observations, state.observation_noise)
        actions = _noisy(action_key, batch.actions, state.action_noise)
        policy, of_policy = state.policy.step(
            optax.adam(self.policy_learning_rate),
            lambda network: (-jnp.mean(weights * self._log_prob(network, observations, actions)), None),
        )
        state = replace(state, policy=policy, values=values, multiplier=multiplier_learner, bound=bound)
        return state, {
            **bound_metrics,
            "reward_value": jnp.mean(nu),
            "reward_critic_loss": of_values.loss,
            "cost_value": cost,
            "cost_per_step": cost_per_step,
            "above_limit": (cost > index.threshold).astype(jnp.float32),
            "multiplier": multiplier,
            "mean_weight": jnp.mean(weights),
            "zero_weights": jnp.mean(weights < _ZERO),
            "policy_loss": of_policy.loss,
            "policy_gradient": of_policy.gradient,
        }

    def _advantages(
        self, network: Ensemble, batch: Transitions, multiplier: Float[Array, ""]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """nu(s) and e of the batch."""
        values, following = _here_and_next(network, batch)
        rewards = self.reward_scale * batch.rewards
        return values, advantage(rewards, batch.costs, multiplier, values, following, batch.done, self.discount)

    def _step_bound(
        self, bound: UpperBound | None, batch: Transitions, initial: Float[Array, " B"], weights: Float[Array, " B"]
    ) -> tuple[UpperBound | None, Float[Array, ""], Metrics]:
        """One step of chi and tau, and the cost estimate before it."""
        if bound is None:
            return None, jnp.mean(weights * batch.costs), {}
        tau = jax.nn.softplus(bound.temperature.network)

        def chi_loss(network: Ensemble) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            residuals = flow_residual(
                *_here_and_next(network, batch), initial, weights, batch.costs, batch.done, self.discount
            )
            omega, divergence = worst_case(residuals, tau)
            return jnp.mean(omega * residuals), (omega, divergence)

        values, fit = bound.values.step(optax.adam(self.critic_learning_rate), chi_loss)
        omega, divergence = fit.extra
        temperature, _ = bound.temperature.step(
            optax.adam(self.multiplier_learning_rate),
            lambda raw: (jax.nn.softplus(raw) * (self.cost_divergence - divergence), None),
        )
        return (
            UpperBound(values, temperature),
            jnp.mean(omega * weights * batch.costs),
            {"cost_critic_loss": fit.loss, "tau": tau, "divergence": divergence},
        )

    def _log_prob(
        self, network: SquashedGaussian, observations: Float[Array, "B O"], actions: Float[Array, "B A"]
    ) -> Float[Array, " B"]:
        """log pi(a|s); OSRL takes the Gaussian before the tanh for it, though it executes the tanh of its mean."""
        mean, log_std = network.moments(observations)
        if self.osrl_compat:
            return gaussian_log_prob(actions, mean, log_std)
        return squashed_log_prob(unsquash(actions), mean, log_std)


def starts_episode(offsets: Int32[Array, " E1"], rows: Int[Array, " B"]) -> Bool[Array, " B"]:
    """Whether a row is the first of its episode; `offsets` as in `Store`."""
    return offsets[jnp.searchsorted(offsets, rows)] == rows


def _here_and_next(network: Ensemble, batch: Transitions) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Least values of s and of s', in one pass."""
    values = network.min(jnp.concatenate([batch.observations, batch.next_observations]))
    here, following = jnp.split(values, 2)
    return here, following


def _noisy(key: Key[Array, ""], x: Float[Array, "B X"], std: Float[Array, " X"]) -> Float[Array, "B X"]:
    return x + std * jax.random.normal(key, x.shape)
