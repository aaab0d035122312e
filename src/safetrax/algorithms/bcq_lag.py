"""BCQ-Lag: batch-constrained Q-learning under a Lagrange multiplier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Le, MinLen
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.critics import (
    NO_GRADIENT,
    Judgement,
    LagrangianState,
    ThresholdIndex,
    fit_critics,
    fit_cvae,
    followed,
    given,
    greatest_values,
    judged,
    make_critic,
    multiplier_warnings,
)
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked
from safetrax.data.store import TRANSITION_FIELDS, Store, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.lagrange import PIDState
from safetrax.losses.td import bellman_target
from safetrax.nets.cvae import CVAE, clipped_normal
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import Actor
from safetrax.policies.perturbed import LATENT_BOUND, PerturbedActor, perturbed
from safetrax.settings import Count, Fraction, NonNegative, Positive, Whole


class BCQLagState(LagrangianState[MLP]):
    """What BCQ-Lag trains."""


@dataclass(frozen=True)
class BCQLag(Algorithm):
    """Batch-constrained Q-learning with a PID Lagrange multiplier. Defaults: OSRL (Liu et al., 2024).

    BCQ (Fujimoto et al., 2019, arXiv:1812.02900) with a cost critic, as DSRL and OSRL (arXiv:2306.09303) define the
    baseline. A CVAE models the logged actions; the policy decodes a random latent and moves the action by at most
    `perturbation`, up the reward critic and, with the weight of the multiplier, down the cost critic.

    Deviations from OSRL: both critics' targets use the same draws of next actions, which changes neither target's
    distribution and halves the work. The horizon of the threshold is the longest episode of the log. Transitions
    after the last complete episode are dropped.

    Metrics: see docs/bcq-lag.md.
    """

    fast: ClassVar = {"updates": 2000, "batch_size": 64, "target_rate": 0.05}

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")
    presets: ClassVar = {"metadrive": {"updates": 200_000}}  # OSRL's schedule
    name = "BCQ-Lag"

    updates: Whole = 100_000
    """Gradient steps of every network."""
    batch_size: Count = 512
    """Transitions per batch, uniform with replacement."""
    hidden: Annotated[tuple[Count, ...], MinLen(1)] = (256, 256)
    """Units of each hidden layer of the policy and of each critic."""
    cvae_hidden: Count = 400
    """Units of each of the two hidden layers of the CVAE's encoder and decoder."""
    discount: Fraction = 0.99
    """gamma, of rewards and of costs."""
    target_rate: Fraction = 0.005
    """Share by which the targets move towards their networks at each update, tau."""
    reward_scale: Positive = 0.1
    """Rewards are multiplied by it; costs are not."""
    samples: Count = 10
    """Actions per next state of which a critic's target takes the best, and of the cost the worst."""
    min_weight: Fraction = 0.75
    """Weight of the smaller of the two groups' values in a target; the larger has the rest."""
    group_size: Count = 2
    """Networks in each of a critic's two groups, whose value is their least."""
    kl_weight: NonNegative = 0.5
    """Weight of the CVAE's divergence from the prior, beta."""
    gains: tuple[NonNegative, NonNegative, NonNegative] = (0.1, 0.003, 0.001)
    """Proportional, integral and derivative gain of the Lagrange multiplier."""
    cost_done: bool = False
    """The end of an episode ends its cost return. As in OSRL it does not: costs go on beyond the episode."""
    policy_learning_rate: Positive = 1e-3
    """Adam's step size for the policy."""
    critic_learning_rate: Positive = 1e-3
    """Adam's step size for the critics."""
    cvae_learning_rate: Positive = 1e-3
    """Adam's step size for the CVAE."""
    perturbation: Annotated[float, Ge(0), Le(2)] = 0.05
    """Furthest that the policy moves a decoded action, as a share of half the action range, Phi."""
    candidates: Count = 1
    """Latents drawn per action when deployed. 1, as in OSRL: no choice. More: the best of those within the limit."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> ThresholdIndex:
        """All transitions, and the discounted threshold for the longest episode's length."""
        return ThresholdIndex.make(trajectories, cost_limit, self.discount)

    def init(self, key: Key[Array, ""], spec: Spec) -> BCQLagState:
        """PyTorch's default weights; targets start as copies."""
        cvae_key, policy_key, reward_key, cost_key = jax.random.split(key, 4)
        observation_size, action_size = spec.observation_size, spec.action_size
        cvae = CVAE.make(cvae_key, observation_size, action_size, self.cvae_hidden, 2 * action_size)
        policy_sizes = (observation_size + action_size, *self.hidden, action_size)
        policy = MLP.make(policy_key, policy_sizes, output="tanh", activation="tanh")
        adam, networks = optax.adam(self.critic_learning_rate), 2 * self.group_size
        return BCQLagState(
            cvae=Learner.make(cvae, optax.adam(self.cvae_learning_rate)),
            policy=Tracked.make(policy, optax.adam(self.policy_learning_rate)),
            reward_critic=make_critic(reward_key, spec, self.hidden, adam, networks),
            cost_critic=make_critic(cost_key, spec, self.hidden, adam, networks),
            pid=PIDState.start(),
            threshold=jnp.zeros(()),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: BCQLagState) -> Actor:
        """Decoder and perturbation network, and with several candidates the critics."""
        choosing = self.candidates > 1
        return PerturbedActor(
            decoder=state.cvae.network.decoder,
            perturbation=state.policy.network,
            critics=state.reward_critic.network.members if choosing else (),
            cost_critics=state.cost_critic.network.members if choosing else (),
            threshold=state.threshold,
            action_low=state.bounds.low,
            action_high=state.bounds.high,
            scale=self.perturbation,
            candidates=self.candidates,
        )

    def diagnose(self, history: History) -> tuple[str, ...]:
        """A multiplier that runs away, and a policy that stands still, unless it perturbs nothing."""
        still = self.perturbation > 0 and lasts(history, "policy_gradient", lambda norm: norm == 0)
        return multiplier_warnings(history, self.cost_done) + (NO_GRADIENT if still else ())

    def _update(
        self, state: BCQLagState, store: Store, index: ThresholdIndex, key: Key[Array, ""]
    ) -> tuple[BCQLagState, Metrics]:
        """The reference's order: CVAE, reward critic, cost critic, policy, targets; each sees those before it."""
        draw_key, cvae_key, target_key, policy_key = jax.random.split(key, 4)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))
        cvae, of_cvae = fit_cvae(state.cvae, optax.adam(self.cvae_learning_rate), batch, cvae_key, self.kl_weight)
        state = replace(state, cvae=cvae, threshold=index.threshold)
        targets = self.targets(state, batch, target_key)
        state, critic_losses = fit_critics(state, optax.adam(self.critic_learning_rate), batch, targets)
        state, metrics = self._improve(state, batch, policy_key)
        return followed(state, self.target_rate), {**metrics, "cvae_loss": of_cvae.loss, **critic_losses}

    def targets(
        self, state: BCQLagState, batch: Transitions, key: Key[Array, ""]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Regression targets of the reward critic and of the cost critic, from one draw of next actions.

        Each is the step's reward or cost plus the discounted maximum of the mixed value over the drawn actions:
        of latents that are decoded and then perturbed by the target network.
        """
        cvae, observations = state.cvae.network, batch.next_observations
        latents = clipped_normal(key, (self.samples, len(observations), cvae.latent_size), LATENT_BOUND)
        decode = given(cvae.decoder.network, observations)
        direction = given(state.policy.target, observations)

        def action_of(latents: Float[Array, "n L"]) -> Float[Array, "n A"]:
            actions = jnp.tanh(decode(latents))
            return perturbed(actions, direction(actions), self.perturbation)

        critics = state.reward_critic.target, state.cost_critic.target
        value, cost_value = greatest_values(critics, observations, latents, action_of, self.min_weight)
        cost_ends = batch.done if self.cost_done else None
        return (
            bellman_target(self.reward_scale * batch.rewards, value, self.discount, batch.done),
            bellman_target(batch.costs, cost_value, self.discount, cost_ends),
        )

    def _improve(self, state: BCQLagState, batch: Transitions, key: Key[Array, ""]) -> tuple[BCQLagState, Metrics]:
        """One step of the perturbation network and the multiplier, with one latent per state."""
        cvae, observations = state.cvae.network, batch.observations
        latents = clipped_normal(key, (len(observations), cvae.latent_size), LATENT_BOUND)
        decoded = cvae.decoder(observations, latents)
        pairs = jnp.concatenate([observations, decoded], axis=-1)

        def loss(network: MLP) -> tuple[jax.Array, Judgement]:
            judgement = judged(state, observations, perturbed(decoded, network(pairs), self.perturbation), self.gains)
            return judgement.penalty - judgement.value, judgement

        policy, fit = state.policy.step(optax.adam(self.policy_learning_rate), loss)
        metrics = {**fit.extra.metrics, "policy_loss": fit.loss, "policy_gradient": fit.gradient}
        return replace(state, policy=policy, pid=fit.extra.pid), metrics
