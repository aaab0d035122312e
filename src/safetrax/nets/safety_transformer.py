"""Networks that read a window of an episode and say, with one number, how much it resembles demonstrations."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from safetrax.nets.mlp import MLP
from safetrax.nets.transformer import Affine, Norm, Transformer, dropped

_NEVER = -1e30  # score of padding; finite, so that no row is NaN


class SafetyNetwork(eqx.Module):
    """From windows to logits."""

    def __call__(
        self,
        observations: Float[Array, "B T O"],
        actions: Float[Array, "B T A"],
        times: Int[Array, "B T"],
        mask: Bool[Array, "B T"],
        dropout_seed: UInt32[Array, ""] | None = None,
    ) -> Float[Array, " B"]:
        """The logit of each window; with dropout only where a seed is given.

        Args:
            observations, actions: of each step.
            times: steps since the episode's beginning.
            mask: False at padding, which stands to the right and changes nothing.
            dropout_seed: any number while training.
        """
        raise NotImplementedError


class SafetyTransformer(SafetyNetwork):
    """Causal features of every step, then attention of all steps to all with values that are numbers.

    Two tokens per step, (state, action), each with a learned embedding of the time; a step's features are read at its
    action. The architecture of the Preference Transformer (Kim et al., ICLR 2023, arXiv:2303.00957).

    Attributes:
        states, actions: embeddings of the tokens.
        times: one row per time step; later ones have the last row.
        norm: of embedded tokens.
        transformer: over them.
        queries, keys: of the last layer, one head.
        values: of the last layer, one number per step.
        dropout: of embedded tokens, while training.
        scaled: the last layer's products are divided by the root of their length.
    """

    states: Affine
    actions: Affine
    times: Float[Array, "S E"]
    norm: Norm
    transformer: Transformer
    queries: Affine
    keys: Affine
    values: Affine
    dropout: float = eqx.field(static=True)
    scaled: bool = eqx.field(static=True)

    @staticmethod
    def make(
        key: Key[Array, ""],
        observation_size: int,
        action_size: int,
        times: int,
        *,
        width: int = 256,
        blocks: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
        scaled: bool = True,
    ) -> SafetyTransformer:
        """Fresh weights, N(0, 0.02) but for the blocks' first layers; `times` time steps have rows of their own."""
        keys = iter(jax.random.split(key, 7))
        return SafetyTransformer(
            states=Affine.make(next(keys), observation_size, width),
            actions=Affine.make(next(keys), action_size, width),
            times=Affine.make(next(keys), times, width).weight,
            norm=Norm.make(width),
            transformer=Transformer.make(next(keys), width, blocks, heads, dropout=dropout),
            queries=Affine.make(next(keys), width, width),
            keys=Affine.make(next(keys), width, width),
            values=Affine.make(next(keys), width, 1),
            dropout=dropout,
            scaled=scaled,
        )

    def __call__(
        self,
        observations: Float[Array, "B T O"],
        actions: Float[Array, "B T A"],
        times: Int[Array, "B T"],
        mask: Bool[Array, "B T"],
        dropout_seed: UInt32[Array, ""] | None = None,
    ) -> Float[Array, " B"]:
        """See `SafetyNetwork`."""
        return self.pooled(self.features(observations, actions, times, dropout_seed), mask)

    def features(
        self,
        observations: Float[Array, "B T O"],
        actions: Float[Array, "B T A"],
        times: Int[Array, "B T"],
        dropout_seed: UInt32[Array, ""] | None = None,
    ) -> Float[Array, "B T E"]:
        """x_t of every step, of what has happened until then; what stands to the right changes nothing."""
        now = jnp.take(self.times, times, axis=0, mode="clip")
        tokens = jnp.stack([self.states(observations) + now, self.actions(actions) + now], axis=2)
        tokens = self.norm(tokens.reshape(tokens.shape[0], -1, tokens.shape[-1]))
        tokens = dropped(tokens, self.dropout, dropout_seed)
        seed = None if dropout_seed is None else dropout_seed + jnp.uint32(1)
        return self.transformer(tokens, None, seed, _later_of_two)

    def pooled(self, features: Float[Array, "B T E"], mask: Bool[Array, "B T"]) -> Float[Array, " B"]:
        """Mean over t of z_t = sum_s softmax_s(q_t k_s) v_s, over the steps that are no padding, in any order."""
        scores = jnp.einsum("bqe,bte->bqt", self.queries(features), self.keys(features))
        if self.scaled:
            scores *= features.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(mask[:, None], scores, _NEVER), axis=-1)
        heard = jnp.einsum("bqt,bt->bq", weights, self.values(features)[..., 0])
        return _mean(heard, mask)


class SafetyMLP(SafetyNetwork):
    """The mean of the logits that a network gives every step by itself: of about a `SafetyTransformer`'s size."""

    network: MLP

    @staticmethod
    def make(
        key: Key[Array, ""],
        observation_size: int,
        action_size: int,
        *,
        width: int = 256,
        blocks: int = 1,
        dropout: float = 0.1,
    ) -> SafetyMLP:
        """Two hidden layers with about the weights of a transformer: 12 squares of its width per block, and 2."""
        hidden = round(math.sqrt(12 * blocks + 2) * width)
        sizes = (observation_size + action_size, hidden, hidden, 1)
        return SafetyMLP(MLP.make(key, sizes, dropout_rate=dropout))

    def __call__(
        self,
        observations: Float[Array, "B T O"],
        actions: Float[Array, "B T A"],
        times: Int[Array, "B T"],
        mask: Bool[Array, "B T"],
        dropout_seed: UInt32[Array, ""] | None = None,
    ) -> Float[Array, " B"]:
        """See `SafetyNetwork`; the time is not looked at."""
        steps = jnp.concatenate([observations, actions], axis=-1)
        logits = self.network(steps.reshape(-1, steps.shape[-1]), dropout_seed)
        return _mean(logits.reshape(mask.shape), mask)


def _mean(values: Float[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, " B"]:
    return jnp.sum(jnp.where(mask, values, 0.0), axis=-1) / jnp.sum(mask, axis=-1)


def _later_of_two(x: Any) -> Any:
    """Of the two tokens of every step the second, for arrays of either library."""
    return x[:, 1::2]
