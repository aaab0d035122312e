"""BCQ-Lag: batch-constrained Q-learning under a Lagrange multiplier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Le
from jaxtyping import Array, Float, Key

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
)
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.data.store import Transitions
from safetrax.nets.cvae import clipped_normal
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import Actor
from safetrax.policies.perturbed import LATENT_BOUND, PerturbedActor, perturbed
from safetrax.settings import Count


class BCQLagState(LagrangianState[MLP]):
    """What BCQ-Lag trains."""


@dataclass(frozen=True)
class BCQLag(LagrangianAlgorithm):
    """Batch-constrained Q-learning with a PID Lagrange multiplier. Defaults: OSRL (Liu et al., 2024).

    BCQ (Fujimoto et al., 2019, arXiv:1812.02900) with a cost critic, as DSRL and OSRL (arXiv:2306.09303) define the
    baseline. A CVAE models the logged actions; the policy decodes a random latent and moves the action by at most
    `perturbation`, up the reward critic and, with the weight of the multiplier, down the cost critic.

    Deviations from OSRL: both critics' targets use the same draws of next actions, which changes neither target's
    distribution and halves the work. The horizon of the threshold is the longest episode of the log. Transitions
    after the last complete episode are dropped.

    Metrics: see docs/bcq-lag.md.
    """

    name = "BCQ-Lag"

    perturbation: Annotated[float, Ge(0), Le(2)] = 0.05
    """Furthest that the policy moves a decoded action, as a share of half the action range, Phi."""
    candidates: Count = 1
    """Latents drawn per action when deployed. 1, as in OSRL: no choice. More: the best of those within the limit."""

    def init(self, key: Key[Array, ""], spec: Spec) -> BCQLagState:
        """PyTorch's default weights; targets start as copies."""
        keys = jax.random.split(key, 4)
        policy_sizes = (spec.observation_size + spec.action_size, *self.hidden, spec.action_size)
        policy = MLP.make(keys[1], policy_sizes, output="tanh", activation="tanh")
        return BCQLagState(**self._parts(keys, policy, spec))

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

    def _next_values(
        self, state: BCQLagState, observations: Float[Array, "B O"], key: Key[Array, ""]
    ) -> Float[Array, "2 B"]:
        """The drawn actions are those of latents that are decoded and then perturbed by the target network."""
        cvae = state.cvae.network
        latents = clipped_normal(key, (self.samples, len(observations), cvae.latent_size), LATENT_BOUND)
        decode = given(cvae.decoder.network, observations)
        direction = given(state.policy.target, observations)

        def action_of(latents: Float[Array, "n L"]) -> Float[Array, "n A"]:
            actions = jnp.tanh(decode(latents))
            return perturbed(actions, direction(actions), self.perturbation)

        critics = state.reward_critic.target, state.cost_critic.target
        return greatest_values(critics, observations, latents, action_of, self.min_weight)

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
