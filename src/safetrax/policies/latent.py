"""Policies that act through the latent space of a decoder: a safe one, and one that looks for return inside of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.errors import ConfigError
from safetrax.nets.cvae import Decoder
from safetrax.nets.mlp import MLP
from safetrax.nets.saving import saveable
from safetrax.policies.actor import Actor, from_unit_box

_LOG_STD_BOUNDS = (-10.0, 2.0)
LARGEST_RESTRICTION = 10.0  # of a standard normal draw, one in 1e23 lies outside


@saveable
class LatentEncoder(eqx.Module):
    """From an observation to a Gaussian u of L latent dimensions; latents are a multiple of tanh(u)."""

    network: MLP

    @staticmethod
    def make(key: Key[Array, ""], observation_size: int, hidden: tuple[int, ...], latent: int) -> LatentEncoder:
        """PyTorch's default weights."""
        return LatentEncoder(MLP.make(key, (observation_size, *hidden, 2 * latent)))

    @property
    def latent_size(self) -> int:
        """L."""
        return int(self.network.biases[-1].shape[-1]) // 2

    def moments(self, observations: Float[Array, "n O"]) -> tuple[Float[Array, "n L"], Float[Array, "n L"]]:
        """Mean and log standard deviation of u; the latter is clipped to [-10, 2]."""
        mean, log_std = jnp.split(self.network(observations), 2, axis=-1)
        return mean, jnp.clip(log_std, *_LOG_STD_BOUNDS)

    def squashed(self, observations: Float[Array, "n O"], noise: Float[Array, "n L"]) -> Float[Array, "n L"]:
        """tanh(mean + std * noise), in [-1, 1]: a reparameterised draw where the noise is standard normal."""
        mean, log_std = self.moments(observations)
        return jnp.tanh(mean + jnp.exp(log_std) * noise)


@saveable
class LatentActor(Actor):
    """Decodes a latent vector whose every number lies within +-restriction.

    The vector comes from the encoder, restriction * tanh(u), or from the prior, a standard normal draw clipped to
    +-restriction. Both are computed and one is chosen, so that policies of either kind run as one program.
    """

    decoder: Decoder  # from observations and latents to actions in [-1, 1]
    encoder: LatentEncoder  # gives u
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    restriction: Float[Array, ""]  # epsilon, at least 0; with 0 only the decoder's action at z = 0 is left
    from_prior: Float[Array, ""]  # 1: latents come from the prior; 0: from the encoder
    noise: Float[Array, ""]  # factor on the standard deviation of what is drawn; 0: the policy is deterministic

    @property
    def adjustable(self) -> Mapping[str, tuple[float, float]]:
        """The last three fields; `from_prior` is 0 or 1."""
        return {"restriction": (0.0, LARGEST_RESTRICTION), "from_prior": (0.0, 1.0), "noise": (0.0, 1.0)}

    def _with(self, name: str, value: float) -> LatentActor:
        if name == "from_prior" and value not in (0, 1):
            raise ConfigError(f"from_prior is {value:g}, but must be 0 or 1.")
        return super()._with(name, value)

    def draw(self, keys: Key[Array, " n"]) -> Float[Array, "n L"]:
        """Standard normal numbers."""
        return jax.vmap(lambda key: jax.random.normal(key, (self.encoder.latent_size,)))(keys)

    def act(
        self, memory: Any, observations: Float[Array, "n O"], noise: Float[Array, "n L"]
    ) -> tuple[Float[Array, "n A"], Any]:
        """The decoded latents."""
        actions = self.decoder(observations, self.latents(observations, noise))
        return from_unit_box(actions, self.action_low, self.action_high), memory

    def latents(self, observations: Float[Array, "n O"], noise: Float[Array, "n L"]) -> Float[Array, "n L"]:
        """What is decoded."""
        scaled = self.noise * noise
        prior = jnp.clip(scaled, -self.restriction, self.restriction)
        encoded = self.restriction * self.encoder.squashed(observations, scaled)
        return jnp.where(self.from_prior > 0, prior, encoded)
