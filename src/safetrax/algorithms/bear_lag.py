"""BEAR-Lag: Q-learning within the support of the log, under a Lagrange multiplier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Metrics, Spec
from safetrax.algorithms.lagrangian_critics import LagrangianCritics, LagrangianState, given, over_samples
from safetrax.data.store import Transitions
from safetrax.losses.mmd import gaussian_mmd
from safetrax.nets.cvae import clipped_normal
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.policies.actor import Actor
from safetrax.policies.perturbed import LATENT_BOUND
from safetrax.settings import Count, NonNegative, Positive, Whole

_LOG_ALPHA_BOUND = 5.0


class BEARState(LagrangianState[SquashedGaussian]):
    """What training changes.

    Attributes:
        log_alpha: logarithm of the weight of the distance to the log.
        done: updates made.
    """

    log_alpha: Float[Array, ""]
    done: Int32[Array, ""]


def ascended(log_alpha: Float[Array, ""], excess: Float[Array, ""], learning_rate: float) -> Float[Array, ""]:
    """clip(log alpha + rate alpha (MMD - threshold), -5, 5): plain gradient ascent on the dual.

    Args:
        log_alpha: before.
        excess: the mean MMD minus its threshold.
        learning_rate: the step size.
    """
    moved = log_alpha + learning_rate * jnp.exp(log_alpha) * excess
    return jnp.clip(moved, -_LOG_ALPHA_BOUND, _LOG_ALPHA_BOUND)


@dataclass(frozen=True)
class BEARLag(LagrangianCritics):
    """Bootstrapping error accumulation reduction with a PID Lagrange multiplier. Defaults: OSRL (Liu et al., 2024).

    BEAR (Kumar et al., 2019, arXiv:1906.00949) with a cost critic, as DSRL and OSRL (arXiv:2306.09303) define the
    baseline. A Gaussian policy climbs the reward critic and, with the weight of the multiplier, descends the cost
    critic, while a second multiplier keeps its samples near those of a CVAE of the logged actions.

    Deviations from OSRL: both critics' targets use the same draws of next actions, which changes neither target's
    distribution and halves the work. The horizon of the threshold is the longest episode of the log. Transitions
    after the last complete episode are dropped.

    Metrics: those of BCQ-Lag, and `mmd` (mean distance between the policy's and the CVAE's samples) and `alpha` (its
    weight).
    """

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

    @property
    def name(self) -> str:
        """BEAR-Lag."""
        return "BEAR-Lag"

    @classmethod
    def preset(cls, suite: str, task: str | None = None) -> BEARLag:
        """OSRL's schedule: fewer updates on MetaDrive."""
        return cls(updates=200_000 if suite == "metadrive" else 300_000)

    def init(self, key: Key[Array, ""], spec: Spec) -> BEARState:
        """alpha starts at 1."""
        state = super().init(key, spec)
        common = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
        return BEARState(**common, log_alpha=jnp.zeros(()), done=jnp.zeros((), jnp.int32))

    def actor(self, state: BEARState) -> Actor:
        """The tanh of the Gaussian's mean."""
        return state.bounds.actor(state.policy.network)

    def _policy(self, key: Key[Array, ""], spec: Spec) -> SquashedGaussian:
        return SquashedGaussian.make(key, spec.observation_size, spec.action_size, self.hidden)

    def _following_actions(
        self, state: LagrangianState[Any], observations: Float[Array, "n O"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "K n A"], Callable[[Float[Array, "n A"]], Float[Array, "n A"]]]:
        """Draws of the target policy."""
        return state.policy.target.draw(key, observations, self.samples), jnp.tanh

    def _improve(
        self, state: LagrangianState[Any], batch: Transitions, key: Key[Array, ""]
    ) -> tuple[LagrangianState[Any], Metrics]:
        """The first of the compared actions is the one that the critics judge."""
        assert isinstance(state, BEARState)
        latent_key, draw_key = jax.random.split(key)
        cvae, observations = state.cvae.network, batch.observations
        latents = clipped_normal(latent_key, (self.mmd_samples, len(observations), cvae.latent_size), LATENT_BOUND)
        logged = over_samples(given(cvae.decoder.network, observations), latents)
        alpha = jnp.exp(state.log_alpha)
        rewarded = state.done >= self.start_policy_updates

        def loss(network: SquashedGaussian) -> tuple[jax.Array, Any]:
            draws = network.draw(draw_key, observations, self.mmd_samples)
            mmd = jnp.mean(gaussian_mmd(logged, draws, self.kernel_width))
            value, penalty, pid, metrics = self._judge(state, observations, jnp.tanh(draws[0]))
            total = alpha * (mmd - self.mmd_threshold) + penalty - jnp.where(rewarded, value, 0.0)
            return total, (pid, {**metrics, "policy_loss": total, "mmd": mmd})

        policy, (pid, metrics), norm = state.policy.step(self._policy_optimiser(), loss)
        excess = metrics["mmd"] - self.mmd_threshold
        log_alpha = ascended(state.log_alpha, excess, self.alpha_learning_rate)
        state = replace(state, policy=policy, pid=pid, log_alpha=log_alpha, done=state.done + 1)
        return state, {**metrics, "alpha": alpha, "policy_gradient": norm}
