"""Conditional variational autoencoder of actions given observations."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.mlp import MLP
from safetrax.nets.saving import saveable

_LOG_STD_BOUNDS = (-4.0, 15.0)


@saveable
class Decoder(eqx.Module):
    """From an observation and a latent vector to an action in [-1, 1]."""

    network: MLP

    def __call__(self, observations: Float[Array, "n O"], latents: Float[Array, "n L"]) -> Float[Array, "n A"]:
        """Actions in [-1, 1]."""
        return jnp.tanh(self.unsquashed(observations, latents))

    def unsquashed(self, observations: Float[Array, "n O"], latents: Float[Array, "n L"]) -> Float[Array, "n A"]:
        """The same before the final tanh."""
        return self.network(jnp.concatenate([observations, latents], axis=-1))


class CVAE(eqx.Module):
    """Encoder q(z|s,a) and decoder p(a|s,z) of Sohn et al. (2015), with the bounds of Fujimoto et al. (BCQ, 2019)."""

    encoder: MLP  # from (s, a) to mean and log standard deviation of z
    decoder: Decoder  # from (s, z) to an action

    @staticmethod
    def make(key: Key[Array, ""], observation_size: int, action_size: int, hidden: int, latent: int) -> CVAE:
        """Two hidden layers of `hidden` units on each side, L = `latent`; PyTorch's default weights."""
        encoder_key, decoder_key = jax.random.split(key)
        encoder = MLP.make(encoder_key, (observation_size + action_size, hidden, hidden, 2 * latent))
        decoder = MLP.make(decoder_key, (observation_size + latent, hidden, hidden, action_size))
        return CVAE(encoder, Decoder(decoder))

    @property
    def latent_size(self) -> int:
        """L."""
        return int(self.encoder.biases[-1].shape[-1]) // 2

    def encode(
        self, observations: Float[Array, "n O"], actions: Float[Array, "n A"]
    ) -> tuple[Float[Array, "n L"], Float[Array, "n L"]]:
        """Mean and log standard deviation of z; the latter is clipped to [-4, 15]."""
        mean, log_std = jnp.split(self.encoder(jnp.concatenate([observations, actions], axis=-1)), 2, axis=-1)
        return mean, jnp.clip(log_std, *_LOG_STD_BOUNDS)

    def reconstruct(
        self, key: Key[Array, ""], observations: Float[Array, "n O"], actions: Float[Array, "n A"]
    ) -> tuple[Float[Array, "n A"], Float[Array, "n L"], Float[Array, "n L"]]:
        """Decoded actions of one draw of z each, and z's mean and log standard deviation."""
        mean, log_std = self.encode(observations, actions)
        latents = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        return self.decoder(observations, latents), mean, log_std


def clipped_normal(key: Key[Array, ""], shape: tuple[int, ...], bound: Array | float) -> Float[Array, "*shape"]:
    """Standard normal draws clipped to +-bound: latents that generate actions stay near the prior's centre."""
    return jnp.clip(jax.random.normal(key, shape), -bound, bound)
