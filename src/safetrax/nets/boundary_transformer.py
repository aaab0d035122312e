"""From the last steps, and what may still be spent and shall still be returned, to the next action."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

from safetrax.nets.decision_transformer import TOKENS, SequenceNetwork
from safetrax.nets.saving import saveable
from safetrax.nets.transformer import Affine, Norm, Transformer

_RETURN = 2  # place of the token at which the action is read
_LOG_STD_BOUNDS = (-20.0, 2.0)


@saveable
class BoundaryTransformer(SequenceNetwork):
    """Four tokens per step, (state, cost-to-go, return-to-go, action), in post-normalised blocks that know the order
    of tokens by rotary embeddings alone.

    B2R's network (arXiv:2509.25727). The policy, a Gaussian whose mean is bounded by tanh and whose standard
    deviation is the same in every state, is read at the return's token.

    Attributes:
        states, costs, returns, actions: embeddings of the tokens.
        norm: of embedded tokens.
        transformer: over them.
        mean: of the action, before tanh.
        log_std: of the action, before it is clipped to [-20, 2].
        return_scale: divides returns-to-go.
        cost_scale: divides costs-to-go; those below zero count as zero.
        dropout: of embedded tokens, while training.
    """

    states: Affine
    costs: Affine
    returns: Affine
    actions: Affine
    norm: Norm
    transformer: Transformer
    mean: Affine
    log_std: Float[Array, " A"]
    return_scale: float = eqx.field(static=True)
    cost_scale: float = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    @staticmethod
    def make(
        key: Key[Array, ""],
        observation_size: int,
        action_size: int,
        *,
        width: int = 128,
        blocks: int = 3,
        heads: int = 8,
        dropout: float = 0.1,
        return_scale: float = 1.0,
        cost_scale: float = 1.0,
    ) -> BoundaryTransformer:
        """Fresh weights: N(0, 0.02) but for attention's first layer, see `Block.make`; log standard deviations 0.

        Args:
            key: of the weights.
            observation_size: O.
            action_size: A.
            width: E.
            blocks: how many.
            heads: of every block.
            dropout: of attention weights, of the blocks' outputs and of embedded tokens.
            return_scale, cost_scale: see the attributes.
        """
        keys = iter(jax.random.split(key, 6))
        return BoundaryTransformer(
            states=Affine.make(next(keys), observation_size, width),
            costs=Affine.make(next(keys), 1, width),
            returns=Affine.make(next(keys), 1, width),
            actions=Affine.make(next(keys), action_size, width),
            norm=Norm.make(width),
            transformer=Transformer.make(
                next(keys), width, blocks, heads, dropout=dropout, order="post", rotary=True
            ),
            mean=Affine.make(next(keys), width, action_size),
            log_std=jnp.zeros(action_size),
            return_scale=return_scale,
            cost_scale=cost_scale,
            dropout=dropout,
        )

    def __call__(
        self,
        returns_to_go: Float[Array, "B K"],
        costs_to_go: Float[Array, "B K"],
        observations: Float[Array, "B K O"],
        actions: Float[Array, "B K A"],
        times: Int[Array, "B K"],
        dropout_seed: UInt32[Array, ""] | None = None,
    ) -> Float[Array, "B K E"]:
        """Features of every return's token; padding to the right changes nothing before it. Times are not seen."""
        tokens = self._tokens(returns_to_go, costs_to_go, observations, actions, times)
        return self._features(tokens, dropout_seed, _returns)

    def moments(self, features: Float[Array, "*b E"]) -> tuple[Float[Array, "*b A"], Float[Array, "*b A"]]:
        """Mean and log standard deviation of the action, from features of the return's token."""
        mean = jnp.tanh(self.mean(features))
        return mean, jnp.broadcast_to(jnp.clip(self.log_std, *_LOG_STD_BOUNDS), mean.shape)

    def _tokens(
        self,
        returns_to_go: Float[Array, "B K"],
        costs_to_go: Float[Array, "B K"],
        observations: Float[Array, "B K O"],
        actions: Float[Array, "B K A"],
        times: Int[Array, "B K"],
    ) -> Float[Array, "B K4 E"]:
        """Normalised embeddings, step after step."""
        embedded = [
            self.states(observations),
            self.costs((jnp.maximum(costs_to_go, 0.0) / self.cost_scale)[..., None]),
            self.returns((returns_to_go / self.return_scale)[..., None]),
            self.actions(actions),
        ]
        tokens = jnp.stack(embedded, axis=2)
        return self.norm(tokens.reshape(tokens.shape[0], -1, tokens.shape[-1]))


def _returns(x: Any) -> Any:
    """Of the tokens of every step the return's, for arrays of either library."""
    return x[:, _RETURN::TOKENS]
