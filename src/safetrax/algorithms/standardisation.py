"""Observations less their mean, over their standard deviation."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from safetrax.data.store import Store
from safetrax.policies.actor import Actor, Standardised

_ROWS_AT_ONCE = 4096
_LEAST_STD = 1e-6  # what varies less, or by less than the rounding of its mean, is constant
_MEAN_ROUNDING = 5e-7
_UNSEEN = float(np.finfo(np.float32).max)  # a deviation divided by it is 0


class Standardiser(eqx.Module):
    """The map s -> (s - mean) / std of observations."""

    mean: Float[Array, " O"]  # of every observation dimension
    std: Float[Array, " O"]  # what its deviation from the mean is divided by

    @staticmethod
    def of(observations: Float[Array, "N O"], added: float = 0.0) -> Standardiser:
        """Statistics of all rows, computed block by block: neither a copy of the rows nor a long sum is made.

        Blocks are merged as in Chan et al. (1979), so that rounding does not grow with N. With nothing `added` to the
        standard deviations, a dimension that is constant up to rounding becomes 0 in any observation, for a network
        has learnt nothing about its other values.
        """
        total = observations.shape[0]
        rows = min(_ROWS_AT_ONCE, total)

        def merge(
            i: Array, carry: tuple[Array, Array, Array]
        ) -> tuple[Float[Array, " O"], Float[Array, " O"], Float[Array, ""]]:
            mean, squares, count = carry
            start = jnp.minimum(i * rows, total - rows)  # the last block reaches back; rows seen before do not count
            block = jax.lax.dynamic_slice_in_dim(observations, start, rows)
            fresh = (start + jnp.arange(rows) >= i * rows)[:, None]
            added = jnp.sum(fresh, dtype=jnp.float32)
            shift = jnp.sum(jnp.where(fresh, block - mean, 0.0), axis=0) / added
            deviation = jnp.where(fresh, block - (mean + shift), 0.0)
            share = added / (count + added)
            squares = squares + jnp.sum(jnp.square(deviation), axis=0) + jnp.square(shift) * count * share
            return mean + shift * share, squares, count + added

        first = (observations[0], jnp.zeros(observations.shape[1]), jnp.zeros(()))
        mean, squares, _ = jax.lax.fori_loop(0, -(-total // rows), merge, first)
        std = jnp.sqrt(squares / total)
        if added > 0:
            return Standardiser(mean, std + added)
        varies = std > jnp.maximum(_LEAST_STD, _MEAN_ROUNDING * jnp.abs(mean))
        return Standardiser(mean, jnp.where(varies, std, _UNSEEN))

    def __call__(self, observations: Float[Array, "*b O"]) -> Float[Array, "*b O"]:
        """(s - mean) / std."""
        return (observations - self.mean) / self.std

    def store(self, store: Store) -> Store:
        """The same rows with standardised observations, the next ones by the same statistics."""
        following = None if store.next_observations is None else self(store.next_observations)
        return replace(store, observations=self(store.observations), next_observations=following)

    def actor(self, actor: Actor) -> Standardised:
        """An actor that was trained on such rows, for observations as they are."""
        return Standardised(actor, self.mean, self.std)
