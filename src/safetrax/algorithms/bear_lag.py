"""BEAR-Lag: Q-learning within the support of the log, under a Lagrange multiplier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import optax
from annotated_types import MinLen
from jaxtyping import Array, Float, Int32, Key

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
    over_samples,
)
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked
from safetrax.data.store import TRANSITION_FIELDS, Store, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.lagrange import PIDState, ascended
from safetrax.losses.mmd import gaussian_mmd
from safetrax.losses.td import bellman_target
from safetrax.nets.cvae import CVAE, clipped_normal
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.policies.actor import Actor
from safetrax.policies.perturbed import LATENT_BOUND
from safetrax.settings import Count, Fraction, NonNegative, Positive, Whole


class BEARLagState(LagrangianState[SquashedGaussian]):
    """What BEAR-Lag trains besides."""

    log_alpha: Float[Array, ""]  # logarithm of the weight of the distance to the log
    done: Int32[Array, ""]  # updates made


@dataclass(frozen=True)
class BEARLag(Algorithm):
    """Bootstrapping error accumulation reduction with a PID Lagrange multiplier. Defaults: OSRL (Liu et al., 2024).

    BEAR (Kumar et al., 2019, arXiv:1906.00949) with a cost critic, as DSRL and OSRL (arXiv:2306.09303) define the
    baseline. A Gaussian policy climbs the reward critic and, with the weight of the multiplier, descends the cost
    critic, while a second multiplier keeps its samples near those of a CVAE of the logged actions.

    Deviations from OSRL: both critics' targets use the same draws of next actions, which changes neither target's
    distribution and halves the work. The horizon of the threshold is the longest episode of the log. Transitions
    after the last complete episode are dropped.

    Metrics: see docs/bear-lag.md.
    """

    fast: ClassVar = {"updates": 2000, "batch_size": 64, "target_rate": 0.05}

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")
    presets: ClassVar = {"metadrive": {"updates": 200_000}}  # OSRL's schedule
    name = "BEAR-Lag"

    updates: Whole = 300_000
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
    mmd_samples: Count = 10
    """Actions per state, of the policy and of the CVAE, that are compared."""
    mmd_threshold: NonNegative = 0.05
    """Distance that the policy may keep from the CVAE."""
    kernel_width: Positive = 50.0
    """sigma of the Gaussian kernel exp(-r^2 / (2 sigma)); r is a distance of actions before tanh."""
    alpha_learning_rate: NonNegative = 1e-3
    """Step size of alpha's logarithm."""
    start_policy_updates: Whole = 0
    """Updates before the reward counts; until then the policy follows the CVAE and the cost critic."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> ThresholdIndex:
        """All transitions, and the discounted threshold for the longest episode's length."""
        return ThresholdIndex.make(trajectories, cost_limit, self.discount)

    def init(self, key: Key[Array, ""], spec: Spec) -> BEARLagState:
        """PyTorch's default weights; targets start as copies, alpha at 1."""
        cvae_key, policy_key, reward_key, cost_key = jax.random.split(key, 4)
        observation_size, action_size = spec.observation_size, spec.action_size
        cvae = CVAE.make(cvae_key, observation_size, action_size, self.cvae_hidden, 2 * action_size)
        policy = SquashedGaussian.make(policy_key, observation_size, action_size, self.hidden)
        adam, networks = optax.adam(self.critic_learning_rate), 2 * self.group_size
        return BEARLagState(
            cvae=Learner.make(cvae, optax.adam(self.cvae_learning_rate)),
            policy=Tracked.make(policy, optax.adam(self.policy_learning_rate)),
            reward_critic=make_critic(reward_key, spec, self.hidden, adam, networks),
            cost_critic=make_critic(cost_key, spec, self.hidden, adam, networks),
            pid=PIDState.start(),
            threshold=jnp.zeros(()),
            bounds=ActionBounds.of(spec),
            log_alpha=jnp.zeros(()),
            done=jnp.zeros((), jnp.int32),
        )

    def actor(self, state: BEARLagState) -> Actor:
        """The tanh of the Gaussian's mean."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """A multiplier that runs away, and a policy that stands still."""
        still = lasts(history, "policy_gradient", lambda norm: norm == 0)
        return multiplier_warnings(history, self.cost_done) + (NO_GRADIENT if still else ())

    def _update(
        self, state: BEARLagState, store: Store, index: ThresholdIndex, key: Key[Array, ""]
    ) -> tuple[BEARLagState, Metrics]:
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
        self, state: BEARLagState, batch: Transitions, key: Key[Array, ""]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Regression targets of the reward critic and of the cost critic, from one draw of next actions.

        Each is the step's reward or cost plus the discounted maximum of the mixed value over the drawn actions of
        the target policy.
        """
        observations = batch.next_observations
        draws = state.policy.target.draw(key, observations, self.samples)
        critics = state.reward_critic.target, state.cost_critic.target
        value, cost_value = greatest_values(critics, observations, draws, jnp.tanh, self.min_weight)
        cost_ends = batch.done if self.cost_done else None
        return (
            bellman_target(self.reward_scale * batch.rewards, value, self.discount, batch.done),
            bellman_target(batch.costs, cost_value, self.discount, cost_ends),
        )

    def _improve(self, state: BEARLagState, batch: Transitions, key: Key[Array, ""]) -> tuple[BEARLagState, Metrics]:
        """One step of policy, multiplier and alpha. The critics judge the first of the compared actions."""
        latent_key, draw_key = jax.random.split(key)
        cvae, observations = state.cvae.network, batch.observations
        latents = clipped_normal(latent_key, (self.mmd_samples, len(observations), cvae.latent_size), LATENT_BOUND)
        logged = over_samples(given(cvae.decoder.network, observations), latents)
        alpha = jnp.exp(state.log_alpha)
        rewarded = state.done >= self.start_policy_updates

        def loss(network: SquashedGaussian) -> tuple[jax.Array, tuple[Judgement, jax.Array]]:
            draws = network.draw(draw_key, observations, self.mmd_samples)
            mmd = jnp.mean(gaussian_mmd(logged, draws, self.kernel_width))
            judgement = judged(state, observations, jnp.tanh(draws[0]), self.gains)
            value = jnp.where(rewarded, judgement.value, 0.0)
            return alpha * (mmd - self.mmd_threshold) + judgement.penalty - value, (judgement, mmd)

        policy, fit = state.policy.step(optax.adam(self.policy_learning_rate), loss)
        judgement, mmd = fit.extra
        log_alpha = ascended(state.log_alpha, mmd - self.mmd_threshold, self.alpha_learning_rate)
        state = replace(state, policy=policy, pid=judgement.pid, log_alpha=log_alpha, done=state.done + 1)
        return state, {
            **judgement.metrics,
            "policy_loss": fit.loss,
            "policy_gradient": fit.gradient,
            "mmd": mmd,
            "alpha": alpha,
        }
