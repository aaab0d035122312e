"""What FISOR and BARS share: drawing from a diffusion policy, and its regression on the noise of logged actions."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.algorithms.learners import ActionBounds, dropout_seed
from safetrax.data.store import Transitions
from safetrax.nets.denoiser import Denoiser
from safetrax.nets.diffusion import NoiseSchedule, draw_noise, sample
from safetrax.policies.diffusion import Choice, DiffusionActor


class Noised(NamedTuple):
    """Actions after k steps of noise.

    Attributes:
        actions: a_k.
        steps: k.
        noise: what was added.
    """

    actions: Float[Array, "n A"]
    steps: Array
    noise: Float[Array, "n A"]


def diffusion_actor(
    denoiser: Denoiser, schedule: NoiseSchedule, choice: Choice, bounds: ActionBounds, candidates: int
) -> DiffusionActor:
    """The deployed policy, with all its noise."""
    return DiffusionActor(
        denoiser=denoiser,
        schedule=schedule,
        choice=choice,
        action_low=bounds.low,
        action_high=bounds.high,
        noise=jnp.float32(1),
        candidates=candidates,
    )


def draw_actions(
    denoiser: Denoiser, schedule: NoiseSchedule, observations: Float[Array, "n O"], key: Key[Array, ""], size: int
) -> Float[Array, "n A"]:
    """One action of the policy for every observation, in [-1, 1]. Differentiable in the denoiser.

    Args:
        denoiser: of the policy; without dropout.
        schedule: of K steps.
        observations: s.
        key: of all the noise.
        size: A.
    """
    noise = draw_noise(key, schedule.steps, (observations.shape[0], size))
    return sample(lambda actions, steps: denoiser(observations, actions, steps), schedule, noise)


def regression_loss(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    batch: Transitions,
    weight: Float[Array, " B"],
    key: Key[Array, ""],
) -> Float[Array, ""]:
    """mean(w |eps - eps(s, a_k, k)|^2), the squares summed over action dimensions, k uniform; with dropout."""
    noise_key, dropout_key = jax.random.split(key)
    noised = noised_actions(schedule, batch.actions, noise_key)
    predicted = denoiser(batch.observations, noised.actions, noised.steps, dropout_seed(dropout_key))
    return jnp.mean(weight * jnp.sum(jnp.square(noised.noise - predicted), axis=-1))


def noised_actions(schedule: NoiseSchedule, actions: Float[Array, "n A"], key: Key[Array, ""]) -> Noised:
    """Each action at a step of its own, uniform over 0..K-1."""
    step_key, noise_key = jax.random.split(key)
    steps = jax.random.randint(step_key, (actions.shape[0],), 0, schedule.steps)
    noise = jax.random.normal(noise_key, actions.shape)
    return Noised(schedule.noised(actions, steps, noise), steps, noise)
