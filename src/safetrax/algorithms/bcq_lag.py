"""BCQ-Lag: batch-constrained Q-learning under a Lagrange multiplier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Metrics, Spec
from safetrax.algorithms.lagrangian_critics import LagrangianCritics, LagrangianState, given
from safetrax.data.store import Transitions
from safetrax.nets.cvae import clipped_normal
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import Actor
from safetrax.policies.perturbed import LATENT_BOUND, PerturbedActor, perturbed
from safetrax.settings import Count


@dataclass(frozen=True)
class BCQLag(LagrangianCritics):
    """Batch-constrained Q-learning with a PID Lagrange multiplier. Defaults: OSRL (Liu et al., 2024).

    BCQ (Fujimoto et al., 2019, arXiv:1812.02900) with a cost critic, as DSRL and OSRL (arXiv:2306.09303) define the
    baseline. A CVAE models the logged actions; the policy decodes a random latent and moves the action by at most
    `perturbation`, up the reward critic and, with the weight of the multiplier, down the cost critic.

    Deviations from OSRL: both critics' targets use the same draws of next actions, which changes neither target's
    distribution and halves the work. The horizon of the threshold is the longest episode of the log. Transitions
    after the last complete episode are dropped.

    Metrics: `reward_value`, `cost_value` (of the policy's actions, the smaller group's), `cost_gap` (mean cost value
    minus the threshold), `above_limit`, `multiplier`, `policy_gradient`, `policy_loss`, `cvae_loss`,
    `reward_critic_loss`, `cost_critic_loss` (summed over a critic's networks).
    """

    perturbation: Annotated[float, Ge(0), Le(2)] = 0.05
    """Furthest that the policy moves a decoded action, as a share of half the action range, Phi."""
    candidates: Count = 1
    """Latents drawn per action when deployed. 1, as in OSRL: no choice. More: the best of those within the limit."""

    @property
    def name(self) -> str:
        """BCQ-Lag."""
        return "BCQ-Lag"

    @classmethod
    def preset(cls, suite: str, task: str | None = None) -> BCQLag:
        """OSRL's schedule: twice as many updates on MetaDrive."""
        return cls(updates=200_000 if suite == "metadrive" else 100_000)

    def actor(self, state: LagrangianState[MLP]) -> Actor:
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

    def diagnose(self, history: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
        """Without perturbation the policy's network has no effect, so that nothing is wrong with its gradient."""
        if self.perturbation == 0:
            history = {name: values for name, values in history.items() if name != "policy_gradient"}
        return super().diagnose(history)

    def _policy(self, key: Key[Array, ""], spec: Spec) -> MLP:
        sizes = (spec.observation_size + spec.action_size, *self.hidden, spec.action_size)
        return MLP.make(key, sizes, output="tanh", activation="tanh")

    def _following_actions(
        self, state: LagrangianState[Any], observations: Float[Array, "n O"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "K n L"], Callable[[Float[Array, "n L"]], Float[Array, "n A"]]]:
        """Latents; they are decoded, then perturbed by the target network."""
        cvae = state.cvae.network
        latents = clipped_normal(key, (self.samples, len(observations), cvae.latent_size), LATENT_BOUND)
        decode = given(cvae.decoder.network, observations)
        direction = given(state.policy.target, observations)

        def action_of(draw: Float[Array, "n L"]) -> Float[Array, "n A"]:
            actions = jnp.tanh(decode(draw))
            return perturbed(actions, direction(actions), self.perturbation)

        return latents, action_of

    def _improve(
        self, state: LagrangianState[Any], batch: Transitions, key: Key[Array, ""]
    ) -> tuple[LagrangianState[Any], Metrics]:
        """One latent per state; only the perturbation network moves."""
        cvae, observations = state.cvae.network, batch.observations
        latents = clipped_normal(key, (len(observations), cvae.latent_size), LATENT_BOUND)
        decoded = cvae.decoder(observations, latents)
        pairs = jnp.concatenate([observations, decoded], axis=-1)

        def loss(network: MLP) -> tuple[jax.Array, Any]:
            actions = perturbed(decoded, network(pairs), self.perturbation)
            value, penalty, pid, metrics = self._judge(state, observations, actions)
            total = penalty - value
            return total, (pid, {**metrics, "policy_loss": total})

        policy, (pid, metrics), norm = state.policy.step(self._policy_optimiser(), loss)
        return replace(state, policy=policy, pid=pid), {**metrics, "policy_gradient": norm}
