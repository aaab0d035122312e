"""BEAR-Lag: Q-learning within the support of the log, under a Lagrange multiplier."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Metrics, Spec
from safetrax.algorithms.critics import (
    NO_GRADIENT,
    Judgement,
    LagrangianAlgorithm,
    LagrangianState,
    given,
    greatest_values,
    judged,
    multiplier_warnings,
    over_samples,
)
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.data.store import Transitions
from safetrax.losses.lagrange import ascended
from safetrax.losses.mmd import gaussian_mmd
from safetrax.nets.cvae import clipped_normal
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.policies.actor import Actor
from safetrax.policies.perturbed import LATENT_BOUND
from safetrax.settings import Count, NonNegative, Positive, Whole


class BEARLagState(LagrangianState[SquashedGaussian]):
    """What BEAR-Lag trains besides."""

    log_alpha: Float[Array, ""]  # logarithm of the weight of the distance to the log
    done: Int32[Array, ""]  # updates made


@dataclass(frozen=True)
class BEARLag(LagrangianAlgorithm):
    """Bootstrapping error accumulation reduction with a PID Lagrange multiplier. Defaults: OSRL (Liu et al., 2024).

    BEAR (Kumar et al., 2019, arXiv:1906.00949) with a cost critic, as DSRL and OSRL (arXiv:2306.09303) define the
    baseline. A Gaussian policy climbs the reward critic and, with the weight of the multiplier, descends the cost
    critic, while a second multiplier keeps its samples near those of a CVAE of the logged actions.

    Deviations from OSRL: both critics' targets use the same draws of next actions, which changes neither target's
    distribution and halves the work. The horizon of the threshold is the longest episode of the log. Transitions
    after the last complete episode are dropped.

    Metrics: see docs/bear-lag.md.
    """

    name = "BEAR-Lag"

    updates: Whole = 300_000
    """Gradient steps of every network."""
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

    def init(self, key: Key[Array, ""], spec: Spec) -> BEARLagState:
        """PyTorch's default weights; targets start as copies, alpha at 1."""
        keys = jax.random.split(key, 4)
        policy = SquashedGaussian.make(keys[1], spec.observation_size, spec.action_size, self.hidden)
        parts = self._parts(keys, policy, spec)
        return BEARLagState(**parts, log_alpha=jnp.zeros(()), done=jnp.zeros((), jnp.int32))

    def actor(self, state: BEARLagState) -> Actor:
        """The tanh of the Gaussian's mean."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """A multiplier that runs away, and a policy that stands still."""
        still = lasts(history, "policy_gradient", lambda norm: norm == 0)
        return multiplier_warnings(history, self.cost_done) + (NO_GRADIENT if still else ())

    def _next_values(
        self, state: BEARLagState, observations: Float[Array, "B O"], key: Key[Array, ""]
    ) -> Float[Array, "2 B"]:
        """The drawn actions are the target policy's."""
        draws = state.policy.target.draw(key, observations, self.samples)
        critics = state.reward_critic.target, state.cost_critic.target
        return greatest_values(critics, observations, draws, jnp.tanh, self.min_weight)

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
