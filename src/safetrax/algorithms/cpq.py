"""CPQ: Q-learning that earns nothing where cost values exceed the limit or the data are left."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.critics import ThresholdIndex, fit_critic, fit_cvae, make_critic, over_samples
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Fit, Learner, Tracked
from safetrax.data.store import TRANSITION_FIELDS, Store, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.lagrange import LOG_BOUND, ascended
from safetrax.losses.latent import kl_to_standard_normal
from safetrax.losses.td import bellman_target, summed_errors
from safetrax.nets.cvae import CVAE
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.policies.actor import Actor
from safetrax.settings import BelowOne, Count, Fraction, NonNegative, Positive, Rate, Whole

_NOTHING: Metrics = {}


class Detector(eqx.Module):
    """What tells actions outside of the data, and how strongly their cost values are raised."""

    cvae: Learner[CVAE]  # its encoder's divergence from the prior marks an action
    log_alpha: Float[Array, ""]  # log of the penalty's weight


class CPQState(eqx.Module):
    """What CPQ trains."""

    policy: Learner[SquashedGaussian]  # pi
    reward_critic: Tracked[Ensemble]  # Q
    cost_critic: Tracked[Ensemble]  # Q_c
    detector: Detector | None  # None under `osrl_compat`, where it has no effect
    bounds: ActionBounds


@dataclass(frozen=True)
class CPQ(Algorithm):
    """Constraints penalised Q-learning (Xu et al., AAAI 2022, arXiv:2107.09003), with the sizes and rates of OSRL.

    An actor-critic whose rewards to come, and whose policy's gradient, count only where the cost value of the
    policy's action is within the limit. Cost values of actions outside of the data, as a CVAE sees them, are raised,
    so that these count as unsafe.

    Deviations from the paper follow OSRL (Liu et al., 2024), whose results are those known as CPQ's: outside of the
    data is the quarter of the policy's draws that the encoder finds least likely; cost targets ignore that an episode
    ends (`cost_done`).
    Deviations from OSRL, unless `osrl_compat`: the penalty acts on the present cost critic and on actions in
    [-1, 1]; OSRL computes it without gradient, from the target critic and from actions before the tanh, so that it
    changes nothing. It ends for each draw at `ood_factor` thresholds, and the flagged draws' values are averaged over
    the flagged ones (the paper's expectation over such actions), where OSRL's term has no end and is divided by the
    number of all draws, which asks for four times as much. Always: both critics look at the same draws of the next
    action, where OSRL draws twice.

    Metrics: see docs/cpq.md.
    """

    fast: ClassVar = {
        "updates": 2000,
        "batch_size": 64,
        "policy_learning_rate": 3e-4,
        "critic_learning_rate": 3e-3,
        "cvae_learning_rate": 3e-3,
        "target_rate": 0.02,
    }

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")
    presets: ClassVar = {"metadrive": {"updates": 200_000}}  # OSRL's schedule

    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer, of the policy and of the critics."""
    cvae_hidden: Count = 400
    """Units of each of the CVAE's two hidden layers."""
    updates: Whole = 100_000
    """Gradient steps."""
    batch_size: Count = 512
    """Transitions per batch, uniform with replacement."""
    discount: Fraction = 0.99
    """gamma."""
    reward_scale: Positive = 0.1
    """Factor on rewards."""
    reward_shift: float = 0.0
    """Added to every reward before scaling. Choose it so that none is negative: to earn nothing is the penalty."""
    critics: Count = 2
    """Networks per critic, of which the least value counts."""
    samples: Count = 10
    """Draws of the policy per state for the penalty."""
    ood_quantile: BelowOne = 0.75
    """Draws with a divergence above this quantile of the batch's count as outside of the data."""
    ood_factor: NonNegative = 1.5
    """How many thresholds the flagged draws' cost values are raised to; the penalty's weight grows while their mean
    is less."""
    kl_weight: NonNegative = 0.5
    """Weight of the CVAE's divergence from its prior, beta."""
    policy_learning_rate: Positive = 1e-4
    """Adam's step size of the policy."""
    critic_learning_rate: Positive = 1e-3
    """Adam's step size of both critics."""
    cvae_learning_rate: Positive = 1e-3
    """Adam's step size of the CVAE."""
    alpha_learning_rate: Positive = 1e-4
    """Step size of the penalty's weight, on its logarithm."""
    target_rate: Rate = 0.005
    """Rate at which target networks follow, tau."""
    cost_done: bool = False
    """Cost values end where an episode does. False: costs go on after its last state (OSRL)."""
    osrl_compat: bool = False
    """Leave out what has no effect in OSRL: the penalty, and with it the CVAE."""

    @property
    def name(self) -> str:
        """CPQ, or CPQ-OSRL with `osrl_compat`."""
        return "CPQ-OSRL" if self.osrl_compat else "CPQ"

    def index(self, trajectories: Trajectories, cost_limit: float) -> ThresholdIndex:
        """All transitions, and the discounted cost that is allowed, q_kappa."""
        return ThresholdIndex.make(trajectories, cost_limit, self.discount)

    def init(self, key: Key[Array, ""], spec: Spec) -> CPQState:
        """PyTorch's default weights; alpha begins at 1, as in OSRL."""
        policy_key, reward_key, cost_key, cvae_key = jax.random.split(key, 4)
        observation_size, action_size = spec.observation_size, spec.action_size
        adam = optax.adam(self.critic_learning_rate)
        detector = None
        if not self.osrl_compat:
            cvae = CVAE.make(cvae_key, observation_size, action_size, self.cvae_hidden, 2 * action_size)
            detector = Detector(Learner.make(cvae, optax.adam(self.cvae_learning_rate)), jnp.zeros(()))
        policy = SquashedGaussian.make(policy_key, observation_size, action_size, self.hidden)
        return CPQState(
            policy=Learner.make(policy, optax.adam(self.policy_learning_rate)),
            reward_critic=make_critic(reward_key, spec, self.hidden, adam, self.critics),
            cost_critic=make_critic(cost_key, spec, self.hidden, adam, self.critics),
            detector=detector,
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: CPQState) -> Actor:
        """tanh of the policy's mean."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """A policy without gradient, a penalty without effect, values for which no penalty is one."""
        found = []
        if lasts(history, "policy_active", lambda share: share < 1e-3):
            found.append(
                "the cost values of all of the policy's actions exceed the limit, so the policy gets no gradient and "
                "stays as it is: raise the cost limit, add safe episodes, or set cost_done if episodes are short."
            )
        if lasts(history, "alpha", lambda alpha: alpha > 0.99 * math.exp(LOG_BOUND)):
            found.append(
                "the penalty's weight alpha is at its upper bound and outweighs the cost values' own errors: lower "
                "ood_factor."
            )
        if lasts(history, "reward_value", lambda value: value < 0):
            found.append(
                "reward values are negative, so actions that exceed the limit, which count as zero, look best: set "
                "reward_shift so that no reward is negative."
            )
        return tuple(found)

    def _update(
        self, state: CPQState, store: Store, index: ThresholdIndex, key: Key[Array, ""]
    ) -> tuple[CPQState, Metrics]:
        draw_key, next_key, detector_key, policy_key = jax.random.split(key, 4)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))

        following = jnp.tanh(state.policy.network.draw(next_key, batch.next_observations)[0])
        reward_targets, cost_targets = self.targets(state, batch, following, index.threshold)
        adam, threshold = optax.adam(self.critic_learning_rate), index.threshold
        reward_critic, of_rewards = fit_critic(state.reward_critic, adam, batch, reward_targets, summed_errors)
        detector, more = state.detector, _NOTHING
        if detector is None:
            cost_critic, of_costs = fit_critic(state.cost_critic, adam, batch, cost_targets, summed_errors)
        else:
            cost_critic, of_costs, detector, more = self._step_costs(
                state, detector, batch, cost_targets, threshold, detector_key
            )
        cost_values = jnp.min(of_costs.extra, axis=0)

        def loss(network: SquashedGaussian) -> tuple[jax.Array, jax.Array]:
            actions = jnp.tanh(network.draw(policy_key, batch.observations)[0])
            return policy_loss(reward_critic.network, cost_critic.network, batch.observations, actions, threshold)

        policy, of_policy = state.policy.step(optax.adam(self.policy_learning_rate), loss)
        return replace(
            state,
            policy=policy,
            reward_critic=reward_critic.follow(self.target_rate),
            cost_critic=cost_critic.follow(self.target_rate),
            detector=detector,
        ), {
            "reward_value": jnp.mean(jnp.min(of_rewards.extra, axis=0)),
            "reward_critic_loss": of_rewards.loss,
            "cost_value": jnp.mean(cost_values),
            "above_limit": jnp.mean(cost_values > threshold),
            "cost_critic_loss": of_costs.loss,
            **more,
            "policy_active": of_policy.extra,
            "policy_loss": of_policy.loss,
            "policy_gradient": of_policy.gradient,
        }

    def targets(
        self, state: CPQState, batch: Transitions, following: Float[Array, "B A"], threshold: Float[Array, ""]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """r + gamma (1 - d) 1[Q_c(s', a') <= q] Q(s', a') and c + gamma Q_c(s', a'), from the target critics.

        `following` are a', the policy's draws at s'.
        """
        rewards = self.reward_scale * (batch.rewards + self.reward_shift)
        values = state.reward_critic.target.min(batch.next_observations, following)
        costs = state.cost_critic.target.min(batch.next_observations, following)
        cost_ends = batch.done if self.cost_done else None
        return (
            bellman_target(rewards, (costs <= threshold) * values, self.discount, batch.done),
            bellman_target(batch.costs, costs, self.discount, cost_ends),
        )

    def _step_costs(
        self,
        state: CPQState,
        detector: Detector,
        batch: Transitions,
        targets: Float[Array, " B"],
        threshold: Float[Array, ""],
        key: Key[Array, ""],
    ) -> tuple[Tracked[Ensemble], Fit[Float[Array, "K B"]], Detector, Metrics]:
        """One step of the cost critic, before it one of the CVAE, after it one of alpha; the error has no penalty."""
        cvae_key, sample_key = jax.random.split(key)
        cvae, of_cvae = fit_cvae(detector.cvae, optax.adam(self.cvae_learning_rate), batch, cvae_key, self.kl_weight)
        logged_divergence = jnp.mean(of_cvae.extra, axis=-1)

        draws = jnp.tanh(state.policy.network.draw(sample_key, batch.observations, self.samples))
        divergence = over_samples(
            lambda actions: jnp.mean(
                kl_to_standard_normal(*cvae.network.encode(batch.observations, actions)), axis=-1
            ),
            draws,
        ).reshape(-1)
        flagged = most_divergent(divergence, self.ood_quantile)
        # the draws that are not flagged count as zero, so only the flagged ones are evaluated
        inputs = (
            jnp.concatenate([batch.observations, batch.observations[flagged % self.batch_size]]),
            jnp.concatenate([batch.actions, draws.reshape(-1, draws.shape[-1])[flagged]]),
        )
        alpha = jnp.exp(detector.log_alpha)
        enough = self.ood_factor * threshold

        def penalised(network: Ensemble) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
            logged, raised = jnp.split(network(*inputs), [self.batch_size], axis=1)
            error, flagged_costs = summed_errors(logged, targets), jnp.min(raised, axis=0)
            missing = jnp.mean(jax.nn.relu(enough - flagged_costs))
            return error + alpha * missing, (error, logged, jnp.mean(flagged_costs))

        critic, fit = state.cost_critic.step(optax.adam(self.critic_learning_rate), penalised)
        error, logged, flagged_cost = fit.extra
        log_alpha = ascended(detector.log_alpha, enough - flagged_cost, self.alpha_learning_rate)
        metrics = {
            "alpha": alpha,
            "flagged_cost": flagged_cost,
            "out_of_distribution": jnp.mean(divergence > jnp.quantile(logged_divergence, self.ood_quantile)),
            "cvae_loss": of_cvae.loss,
        }
        return critic, Fit(error, logged, fit.gradient), Detector(cvae, log_alpha), metrics


def most_divergent(divergence: Float[Array, " n"], quantile: float) -> Int[Array, " f"]:
    """Numbers of the entries at or above the (linearly interpolated) quantile; of equal ones only as many as fit.

    Their count depends on n and the quantile alone: a quarter of 5120 for the quantile 0.75.
    """
    n = divergence.shape[0]
    _, numbers = jax.lax.top_k(divergence, n - math.ceil(quantile * (n - 1)))
    return numbers


def policy_loss(
    reward_critic: Ensemble,
    cost_critic: Ensemble,
    observations: Float[Array, "B O"],
    actions: Float[Array, "B A"],
    threshold: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """-E[1[Q_c(s, a) <= q] Q(s, a)], and the share of actions whose indicator is 1; no gradient through it."""
    active = cost_critic.min(observations, jax.lax.stop_gradient(actions)) <= threshold
    return -jnp.mean(active * reward_critic.min(observations, actions)), jnp.mean(active, dtype=jnp.float32)
