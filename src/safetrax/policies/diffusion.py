"""Policies that draw several actions from a diffusion model and play the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.denoiser import Denoiser
from safetrax.nets.diffusion import NoiseSchedule, draw_noise, sample
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.saving import saveable
from safetrax.policies.actor import Actor, from_unit_box

_BEYOND = -1e20  # no value is as low


class Choice(eqx.Module):
    """Which of several candidates is played: the one of the greatest score."""

    def __call__(self, observations: Float[Array, "n O"], actions: Float[Array, "n A"]) -> Float[Array, " n"]:
        """Scores of actions in [-1, 1]."""
        raise NotImplementedError


@saveable
class Safest(Choice):
    """The action of the least cost value, of which the critics' greatest counts."""

    critics: Ensemble

    def __call__(self, observations: Float[Array, "n O"], actions: Float[Array, "n A"]) -> Float[Array, " n"]:
        """-max Q."""
        return -self.critics.max(observations, actions)


@saveable
class MostRewarding(Choice):
    """The action of the greatest value, of which the critics' least counts."""

    critics: Ensemble

    def __call__(self, observations: Float[Array, "n O"], actions: Float[Array, "n A"]) -> Float[Array, " n"]:
        """min Q."""
        return self.critics.min(observations, actions)


@saveable
class MostRewardingWithin(Choice):
    """Of the actions whose cost value is within the threshold, the one of greatest value; of others, the safest."""

    rewarding: MostRewarding  # the value
    safe: Safest  # minus the cost value
    threshold: Float[Array, ""]  # of the cost value

    def __call__(self, observations: Float[Array, "n O"], actions: Float[Array, "n A"]) -> Float[Array, " n"]:
        """min Q within; beyond, less than any of them and falling with the cost value."""
        value, safety = self.rewarding(observations, actions), self.safe(observations, actions)
        excess = -safety - self.threshold
        return jnp.where(excess <= 0, value, _BEYOND * (1 + excess))


@saveable
class DiffusionActor(Actor):
    """Draws candidates for every observation, all in one batch, and plays the one that `choice` scores highest."""

    denoiser: Denoiser  # eps(s, a_k, k)
    schedule: NoiseSchedule  # of K steps
    choice: Choice  # scores the candidates
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    noise: Float[Array, ""]  # factor on all that is drawn; 0: deterministic, all candidates equal
    candidates: int = eqx.field(static=True)  # N

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """The noise."""
        return {"noise": (0.0, 1.0)}

    def draw(self, keys: Key[Array, " n"]) -> Float[Array, "n K C A"]:
        """Standard normal numbers for each step of each of C candidates."""
        size = (self.candidates, self.action_low.shape[-1])
        return jax.vmap(lambda key: draw_noise(key, self.schedule.steps, size))(keys)

    def act(
        self, memory: Any, observations: Float[Array, "n O"], noise: Float[Array, "n K C A"]
    ) -> tuple[Float[Array, "n A"], Any]:
        """The best candidates."""
        n, size = observations.shape[0], self.action_low.shape[-1]
        scaled = self.noise * jnp.moveaxis(noise, 0, 1).reshape(self.schedule.steps, n * self.candidates, size)
        repeated = jnp.repeat(observations, self.candidates, axis=0)
        actions = sample(lambda x, k: self.denoiser(repeated, x, k), self.schedule, scaled)
        scores = self.choice(repeated, actions).reshape(n, self.candidates)
        best = jnp.argmax(scores, axis=1)[:, None, None]
        played = jnp.take_along_axis(actions.reshape(n, self.candidates, size), best, axis=1)[:, 0]
        return from_unit_box(played, self.action_low, self.action_high), memory
