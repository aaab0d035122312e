"""Diffusion of actions: noise schedules, the noising of logged actions, and ancestral sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from safetrax.nets.saving import saveable
from safetrax.settings import require

ScheduleName = Literal["vp", "cosine"]
SCHEDULES: tuple[str, ...] = get_args(ScheduleName)

_VP_LOW, _VP_HIGH = 0.1, 10.0
_COSINE_OFFSET, _LARGEST_BETA = 0.008, 0.999

Predictor = Callable[[Float[Array, "n A"], Int[Array, " n"]], Float[Array, "n A"]]
"""From noisy actions and the number of their step to the noise in them."""


@saveable
class NoiseSchedule(eqx.Module):
    """How much noise each of K steps adds: a_k = sqrt(alpha_bar_k) a + sqrt(1 - alpha_bar_k) eps, k = 0..K-1."""

    alpha: Float[Array, " K"]  # 1 - beta_k
    alpha_bar: Float[Array, " K"]  # running product of alpha

    @staticmethod
    def make(name: ScheduleName, steps: int) -> NoiseSchedule:
        """A schedule of `steps` steps.

        * "vp": alpha_t = exp(-b/K - (B - b)(2t - 1) / (2 K^2)) for t = 1..K, with b = 0.1 and B = 10; what is left
          of the action in the end, exp(-(b + B)/2) = 0.0064, does not depend on K (Xiao et al., 2022).
        * "cosine": alpha_bar proportional to cos^2 of a quarter turn, beta at most 0.999 (Nichol and Dhariwal, 2021).

        Raises:
            ConfigError: there is no such schedule, or no step.
        """
        require(name in SCHEDULES, "noise_schedule", name, f"be one of {', '.join(SCHEDULES)}")
        require(steps >= 1, "diffusion_steps", steps, "be at least 1")
        alpha = _vp(steps) if name == "vp" else _cosine(steps)
        return NoiseSchedule(jnp.asarray(alpha, jnp.float32), jnp.asarray(np.cumprod(alpha), jnp.float32))

    @property
    def steps(self) -> int:
        """K."""
        return int(self.alpha.shape[-1])

    def noised(
        self, actions: Float[Array, "n A"], steps: Int[Array, " n"], noise: Float[Array, "n A"]
    ) -> Float[Array, "n A"]:
        """a_k, for steps k in 0..K-1 and standard normal noise."""
        kept = self.alpha_bar[steps][:, None]
        return jnp.sqrt(kept) * actions + jnp.sqrt(1 - kept) * noise


def _vp(steps: int) -> Float[np.ndarray, " K"]:
    t = np.arange(1, steps + 1)
    return np.asarray(np.exp(-_VP_LOW / steps - 0.5 * (_VP_HIGH - _VP_LOW) * (2 * t - 1) / steps**2))


def _cosine(steps: int) -> Float[np.ndarray, " K"]:
    u = np.arange(steps + 1) / steps
    kept = np.cos((u + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * math.pi / 2) ** 2
    return np.asarray(1 - np.minimum(1 - kept[1:] / kept[:-1], _LARGEST_BETA))


def draw_noise(key: Key[Array, ""], steps: int, shape: tuple[int, ...]) -> Float[Array, K * b]:
    """All the noise that K = `steps` of sampling take: the start in row 0, then a row for every step but the last."""
    return jax.random.normal(key, (steps, *shape))


def sample(
    predict: Predictor, schedule: NoiseSchedule, noise: Float[Array, "K n A"], *, clip: bool = True
) -> Float[Array, "n A"]:
    """Ancestral sampling from k = K-1 down to 0 (Ho et al., 2020, Algorithm 2). Differentiable.

        x <- (x - (1 - alpha_k) / sqrt(1 - alpha_bar_k) eps(x, k)) / sqrt(alpha_k) + [k > 0] sqrt(beta_k) xi

    eps is `predict`, the noise is that of `draw_noise`; `clip` clips x to [-1, 1] after every step.
    """
    rows = noise.shape[1]
    # the last step adds nothing
    added = jnp.concatenate([noise[1:], jnp.zeros_like(noise[:1])])

    def step(
        x: Float[Array, "n A"], at: tuple[Int[Array, ""], Float[Array, "n A"]]
    ) -> tuple[Float[Array, "n A"], None]:
        k, xi = at
        alpha, alpha_bar = schedule.alpha[k], schedule.alpha_bar[k]
        predicted = predict(x, jnp.full(rows, k, jnp.int32))
        x = (x - (1 - alpha) / jnp.sqrt(1 - alpha_bar) * predicted) / jnp.sqrt(alpha) + jnp.sqrt(1 - alpha) * xi
        return (jnp.clip(x, -1.0, 1.0) if clip else x), None

    descending = jnp.arange(schedule.steps - 1, -1, -1, dtype=jnp.int32)
    actions, _ = jax.lax.scan(step, noise[0], (descending, added))
    return actions


def sample_within(
    predict: Predictor,
    schedule: NoiseSchedule,
    noise: Float[Array, "K n A"],
    low: Float[Array, " A"],
    high: Float[Array, " A"],
) -> Float[Array, "n A"]:
    """`sample`, but the x_0 that each step implies is clipped to [low, high], and the noise is the posterior's.

        x <- E[x_{k-1} | x_k, x_0] + [k > 0] sqrt(beta_k (1 - alpha_bar_{k-1}) / (1 - alpha_bar_k)) xi

    with x_0 = (x - sqrt(1 - alpha_bar_k) eps(x, k)) / sqrt(alpha_bar_k) (Ho et al., 2020, Eq. 7): few steps multiply
    an error of the first by the root of what little they leave, so that without a bound nothing is like the data.
    """
    rows = noise.shape[1]
    added = jnp.concatenate([noise[1:], jnp.zeros_like(noise[:1])])
    before = jnp.concatenate([jnp.ones(1), schedule.alpha_bar[:-1]])

    def step(
        x: Float[Array, "n A"], at: tuple[Int[Array, ""], Float[Array, "n A"]]
    ) -> tuple[Float[Array, "n A"], None]:
        k, xi = at
        alpha, alpha_bar, earlier = schedule.alpha[k], schedule.alpha_bar[k], before[k]
        predicted = predict(x, jnp.full(rows, k, jnp.int32))
        clean = jnp.clip((x - jnp.sqrt(1 - alpha_bar) * predicted) / jnp.sqrt(alpha_bar), low, high)
        mean = (jnp.sqrt(earlier) * (1 - alpha) * clean + jnp.sqrt(alpha) * (1 - earlier) * x) / (1 - alpha_bar)
        return mean + jnp.sqrt((1 - alpha) * (1 - earlier) / (1 - alpha_bar)) * xi, None

    descending = jnp.arange(schedule.steps - 1, -1, -1, dtype=jnp.int32)
    samples, _ = jax.lax.scan(step, noise[0], (descending, added))
    return samples
