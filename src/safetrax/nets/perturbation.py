"""The actor of BCQ: actions of a generative model, moved a little by a second network."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.actors import Actor, from_unit_box
from safetrax.nets.cvae import Decoder, clipped_normal
from safetrax.nets.mlp import MLP
from safetrax.nets.module import saveable

LATENT_BOUND = 0.5
"""Latents that generate actions are clipped to it."""


def perturbed(actions: Float[Array, "*b A"], direction: Float[Array, "*b A"], scale: float) -> Float[Array, "*b A"]:
    """clip(a + scale xi, -1, 1), the perturbation model of Fujimoto et al., BCQ, 2019 (arXiv:1812.02900).

    Args:
        actions: a, in [-1, 1].
        direction: xi(s, a), in [-1, 1].
        scale: Phi, the furthest that an action may move.
    """
    return jnp.clip(actions + scale * direction, -1.0, 1.0)


@saveable
class PerturbedActor(Actor):
    """Draws a latent, decodes it to an action and perturbs that.

    With several candidates, as many latents are drawn for each observation. Of the actions whose cost value is within
    the threshold it plays the one of greatest value; if none is, the one of least cost value.

    Attributes:
        decoder: from (s, z) to an action.
        perturbation: xi, from (s, a) to a direction in [-1, 1].
        critics: Q is the least of their values; none with one candidate, which needs no choice.
        cost_critics: Q_c, likewise.
        threshold: of the cost value.
        action_low: lower action bounds.
        action_high: upper action bounds.
        scale: Phi.
        candidates: latents per observation.
    """

    decoder: Decoder
    perturbation: MLP
    critics: tuple[MLP, ...]
    cost_critics: tuple[MLP, ...]
    threshold: Float[Array, ""]
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    scale: float = eqx.field(static=True)
    candidates: int = eqx.field(static=True)

    def act(
        self, memory: tuple[()], observations: Float[Array, "n O"], keys: Key[Array, " n"]
    ) -> tuple[Float[Array, "n A"], tuple[()]]:
        """Random actions; equal keys and observations give equal ones."""
        size = self.decoder.network.weights[0].shape[-2] - observations.shape[-1]
        latents = jax.vmap(lambda key: clipped_normal(key, (self.candidates, size), LATENT_BOUND))(keys)
        if self.candidates == 1:
            actions = self.generate(observations, latents[:, 0])
        else:
            repeated = jnp.repeat(observations, self.candidates, axis=0)
            generated = self.generate(repeated, latents.reshape(-1, size))
            score = self._score(repeated, generated, len(observations))
            generated = generated.reshape(len(observations), self.candidates, -1)
            actions = jnp.take_along_axis(generated, jnp.argmax(score, axis=1)[:, None, None], axis=1)[:, 0]
        return from_unit_box(actions, self.action_low, self.action_high), memory

    def generate(self, observations: Float[Array, "n O"], latents: Float[Array, "n L"]) -> Float[Array, "n A"]:
        """Actions in [-1, 1]."""
        actions = self.decoder(observations, latents)
        direction = self.perturbation(jnp.concatenate([observations, actions], axis=-1))
        return perturbed(actions, direction, self.scale)

    def _score(self, observations: Float[Array, "m O"], actions: Float[Array, "m A"], n: int) -> Float[Array, "n K"]:
        """What the played candidate has most of."""
        pairs = jnp.concatenate([observations, actions], axis=-1)
        values = _least(self.critics, pairs).reshape(n, -1)
        cost_values = _least(self.cost_critics, pairs).reshape(n, -1)
        within = cost_values <= self.threshold
        return jnp.where(jnp.any(within, axis=1, keepdims=True), jnp.where(within, values, -jnp.inf), -cost_values)


def _least(networks: tuple[MLP, ...], x: Float[Array, "m i"]) -> Float[Array, " m"]:
    return jnp.min(jnp.stack([network(x)[:, 0] for network in networks]), axis=0)
