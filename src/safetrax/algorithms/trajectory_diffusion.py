"""A diffusion of windows of steps under two conditions: its loss, and windows drawn from it."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.data.sequences import WindowBatch
from safetrax.data.store import Store
from safetrax.losses.masked import masked_mean
from safetrax.nets.diffusion import NoiseSchedule, draw_noise, sample_within
from safetrax.nets.temporal_unet import TemporalUNet, guided

_AT_ONCE = 64  # windows that are generated side by side


class Generated(eqx.Module):
    """Windows of steps that a diffusion has drawn; `safetrax.training.generated` makes a log of them."""

    steps: Float[Array, "W H OA"]  # observation and action, as the algorithm sees them
    rewards: Float[Array, " W"]  # of each step: the return that was asked for, spread evenly

    def draw(self, key: Key[Array, ""], size: int) -> Float[Array, "B OA"]:
        """So many steps, uniform with replacement."""
        rows = self.steps.reshape(-1, self.steps.shape[-1])
        return rows[jax.random.randint(key, (size,), 0, rows.shape[0])]


def diffusion_loss(
    network: TemporalUNet,
    schedule: NoiseSchedule,
    batch: WindowBatch,
    conditions: Float[Array, "B 2"],
    dropout: float,
    key: Key[Array, ""],
) -> Float[Array, ""]:
    """mean |eps - eps(x_k, k, c)|^2 over steps that are no padding and their numbers, k uniform.

    Conditions are not told to a share `dropout` of the windows.
    """
    step_key, noise_key, told_key = jax.random.split(key, 3)
    windows = batch.steps
    size = windows.shape[0]
    k = jax.random.randint(step_key, (size,), 0, schedule.steps)
    noise = jax.random.normal(noise_key, windows.shape)
    noised = schedule.noised(windows.reshape(size, -1), k, noise.reshape(size, -1)).reshape(windows.shape)
    told = jax.random.uniform(told_key, (size,)) >= dropout
    error = jnp.mean(jnp.square(noise - network(noised, k, conditions, told)), axis=-1)
    return masked_mean(error, batch.mask)


def step_range(store: Store) -> Float[Array, "2 OA"]:
    """Least and greatest value of each observation, then of each action."""
    return jnp.stack(
        [jnp.concatenate([end(store.observations, axis=0), end(store.actions, axis=0)]) for end in (jnp.min, jnp.max)]
    )


def generate(
    network: TemporalUNet,
    schedule: NoiseSchedule,
    conditions: Float[Array, "W 2"],
    horizon: int,
    *,
    bounds: Float[Array, "2 OA"],
    guidance: float,
    noise_scale: float,
    key: Key[Array, ""],
) -> Float[Array, "W H OA"]:
    """A window for each pair of conditions, a few side by side, so that the memory is that of the result.

    Args:
        network: the denoiser.
        schedule: its steps.
        conditions: of each window.
        horizon: H, steps of a window.
        bounds: see `step_range`; nothing beyond them is drawn.
        guidance: w of `guided`.
        noise_scale: factor on all noise, in [0, 1].
        key: decides.
    """
    low, high = (jnp.tile(bound, horizon) for bound in bounds)
    shape = (1, horizon, bounds.shape[-1])

    def draw(asked: tuple[Float[Array, " 2"], Key[Array, ""]]) -> Float[Array, "H OA"]:
        condition, noise_key = asked

        def predict(x: jax.Array, steps: jax.Array) -> jax.Array:
            return guided(network, x.reshape(shape), steps, condition[None], guidance).reshape(x.shape)

        noise = noise_scale * draw_noise(noise_key, schedule.steps, (1, low.size))
        return sample_within(predict, schedule, noise, low, high).reshape(shape[1:])

    keys = jax.random.split(key, conditions.shape[0])
    windows: jax.Array = jax.lax.map(draw, (conditions, keys), batch_size=min(_AT_ONCE, conditions.shape[0]))
    return windows
