"""What FISOR and BARS share: a diffusion policy's settings, its regression on logged actions, and its actor."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Spec
from safetrax.algorithms.learners import Tracked
from safetrax.algorithms.policies import ActionBounds, dropout_seed
from safetrax.data.store import Transitions
from safetrax.nets.denoiser import Denoiser
from safetrax.nets.diffusion import NoiseSchedule, Predictor, ScheduleName, draw_noise, sample
from safetrax.policies.diffusion import Choice, DiffusionActor


@dataclass(frozen=True)
class PolicyNetwork:
    """The settings of a diffusion policy.

    Attributes:
        steps: K.
        schedule: of the noise.
        width: units of the residual blocks.
        blocks: how many.
        dropout: share of a block's inputs.
        learning_rate: Adam's first step size.
        decay_steps: after so many it is zero, along a half cosine; None: it stays.
    """

    steps: int
    schedule: ScheduleName
    width: int
    blocks: int
    dropout: float
    learning_rate: float
    decay_steps: int | None

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """Of K steps."""
        return NoiseSchedule.make(self.schedule, self.steps)

    def optimiser(self) -> optax.GradientTransformation:
        """Adam."""
        if self.decay_steps is None:
            return optax.adam(self.learning_rate)
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.decay_steps))

    def init(self, key: Key[Array, ""], spec: Spec) -> Tracked[Denoiser]:
        """A fresh denoiser; what is deployed is the moving average."""
        sizes = spec.observation_size, spec.action_size
        denoiser = Denoiser.make(key, *sizes, width=self.width, blocks=self.blocks, dropout_rate=self.dropout)
        return Tracked.make(denoiser, self.optimiser())

    def actor(self, denoiser: Denoiser, choice: Choice, candidates: int, bounds: ActionBounds) -> DiffusionActor:
        """The deployed policy."""
        return DiffusionActor(
            denoiser=denoiser,
            schedule=self.noise_schedule,
            choice=choice,
            action_low=bounds.low,
            action_high=bounds.high,
            noise=jnp.float32(1),
            candidates=candidates,
        )


def given(denoiser: Denoiser, observations: Float[Array, "n O"]) -> Predictor:
    """The denoiser for these observations, without dropout."""
    return lambda actions, steps: denoiser(observations, actions, steps)


def draw_actions(
    denoiser: Denoiser, schedule: NoiseSchedule, observations: Float[Array, "n O"], key: Key[Array, ""], size: int
) -> Float[Array, "n A"]:
    """One action of the policy for every observation, in [-1, 1]. Differentiable in the denoiser.

    Args:
        denoiser: of the policy.
        schedule: of K steps.
        observations: s.
        key: of all the noise.
        size: A.
    """
    noise = draw_noise(key, schedule.steps, (observations.shape[0], size))
    return sample(given(denoiser, observations), schedule, noise)


def regression_loss(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    batch: Transitions,
    weight: Float[Array, " B"],
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """mean(w |eps - eps(s, a_k, k)|^2), the squares summed over action dimensions, k uniform; with dropout.

    Returned twice: what to minimise, and what to log.
    """
    noise_key, dropout_key = jax.random.split(key)
    noised = noised_actions(schedule, batch.actions, noise_key)
    predicted = denoiser(batch.observations, noised.actions, noised.steps, dropout_seed(dropout_key))
    loss = jnp.mean(weight * jnp.sum(jnp.square(noised.noise - predicted), axis=-1))
    return loss, loss


@dataclass(frozen=True)
class Noised:
    """Actions after k steps of noise.

    Attributes:
        actions: a_k.
        steps: k.
        noise: what was added.
    """

    actions: Float[Array, "n A"]
    steps: Array
    noise: Float[Array, "n A"]


def noised_actions(schedule: NoiseSchedule, actions: Float[Array, "n A"], key: Key[Array, ""]) -> Noised:
    """Each action at a step of its own, uniform over 0..K-1."""
    step_key, noise_key = jax.random.split(key)
    steps = jax.random.randint(step_key, (actions.shape[0],), 0, schedule.steps)
    noise = jax.random.normal(noise_key, actions.shape)
    return Noised(schedule.noised(actions, steps, noise), steps, noise)
