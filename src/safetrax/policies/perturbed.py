"""The actor of BCQ: actions of a generative model, moved a little by a second network."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.cvae import Decoder, clipped_normal
from safetrax.nets.mlp import MLP
from safetrax.nets.saving import saveable
from safetrax.policies.actor import Actor, from_unit_box

LATENT_BOUND = 0.5
"""Latents that generate actions are clipped to it."""


def perturbed(actions: Float[Array, "*b A"], direction: Float[Array, "*b A"], scale: float) -> Float[Array, "*b A"]:
    """clip(a + Phi xi(s, a), -1, 1), the perturbation model of Fujimoto et al., BCQ, 2019 (arXiv:1812.02900).

    Actions a and directions xi lie in [-1, 1]; the scale Phi is the furthest that an action may move.
    """
    return jnp.clip(actions + scale * direction, -1.0, 1.0)


@saveable
class PerturbedActor(Actor):
    """Draws a latent, decodes it to an action and perturbs that.

    With several candidates, as many latents are drawn for each observation. Of the actions whose cost value is within
    the threshold it plays the one of greatest value; if none is, the one of least cost value.
    """

    decoder: Decoder  # from (s, z) to an action
    perturbation: MLP  # xi, from (s, a) to a direction in [-1, 1]
    critics: tuple[MLP, ...]  # Q is the least of their values; none with one candidate, which needs no choice
    cost_critics: tuple[MLP, ...]  # Q_c, likewise
    threshold: Float[Array, ""]  # of the cost value
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    scale: float = eqx.field(static=True)  # Phi
    candidates: int = eqx.field(static=True)  # latents per observation

    def draw(self, keys: Key[Array, " n"]) -> Float[Array, "n C L"]:
        """Latents of each of C candidates, normal and clipped."""
        inputs = self.perturbation.weights[0].shape[-2] - self.action_low.shape[-1]
        size = self.decoder.network.weights[0].shape[-2] - inputs
        return jax.vmap(lambda key: clipped_normal(key, (self.candidates, size), LATENT_BOUND))(keys)

    def act(
        self, memory: tuple[()], observations: Float[Array, "n O"], noise: Float[Array, "n C L"]
    ) -> tuple[Float[Array, "n A"], tuple[()]]:
        """The decoded and perturbed latents, or the best of them. Noise beyond the bound of latents is clipped."""
        noise = jnp.clip(noise, -LATENT_BOUND, LATENT_BOUND)
        if self.candidates == 1:
            actions = self.generate(observations, noise[:, 0])
        else:
            repeated = jnp.repeat(observations, self.candidates, axis=0)
            generated = self.generate(repeated, noise.reshape(-1, noise.shape[-1]))
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
