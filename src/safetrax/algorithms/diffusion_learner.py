"""What FISOR and BARS share: drawing from a diffusion policy, and its regression on the noise of logged actions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from safetrax.algorithms.base import Spec
from safetrax.algorithms.learners import ActionBounds, dropout_seed
from safetrax.data.store import Transitions
from safetrax.nets.denoiser import Denoiser
from safetrax.nets.diffusion import NoiseSchedule, draw_noise, sample
from safetrax.policies.diffusion import Choice, DiffusionActor


def fresh_denoiser(key: Key[Array, ""], spec: Spec, width: int, blocks: int, dropout: float) -> Denoiser:
    """For observations and actions of those sizes."""
    sizes = (spec.observation_size, spec.action_size)
    return Denoiser.make(key, *sizes, width=width, blocks=blocks, dropout_rate=dropout)


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
    """One action of `size` A for every observation, in [-1, 1]; without dropout. Differentiable in the denoiser."""
    noise = draw_noise(key, schedule.steps, (observations.shape[0], size))
    return sample(lambda actions, steps: denoiser(observations, actions, steps), schedule, noise)


def regression_loss(
    denoiser: Denoiser, schedule: NoiseSchedule, batch: Transitions, weight: Float[Array, " B"], key: Key[Array, ""]
) -> Float[Array, ""]:
    """mean(w |eps - eps(s, a_k, k)|^2), the squares summed over action dimensions, k uniform; with dropout."""
    noise_key, dropout_key = jax.random.split(key)
    noised, steps, noise = noised_actions(schedule, batch.actions, noise_key)
    predicted = denoiser(batch.observations, noised, steps, dropout_seed(dropout_key))
    return jnp.mean(weight * jnp.sum(jnp.square(noise - predicted), axis=-1))


def noised_actions(
    schedule: NoiseSchedule, actions: Float[Array, "n A"], key: Key[Array, ""]
) -> tuple[Float[Array, "n A"], Int[Array, " n"], Float[Array, "n A"]]:
    """a_k of each action at a step k of its own, uniform over 0..K-1; also k, and the noise that was added."""
    step_key, noise_key = jax.random.split(key)
    steps = jax.random.randint(step_key, (actions.shape[0],), 0, schedule.steps)
    noise = jax.random.normal(noise_key, actions.shape)
    return schedule.noised(actions, steps, noise), steps, noise
