"""From what an episode shall still return and cost, and from its last steps, to the next action."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from safetrax.nets.saving import saveable
from safetrax.nets.transformer import Affine, Norm, Read, Transformer, dropped

TOKENS = 4  # of a step: return-to-go, cost-to-go, state, action
_LOG_STD_BOUNDS = (-5.0, 2.0)


class SequenceNetwork(eqx.Module):
    """What a `SequenceActor` asks of its network: four tokens per step, the action's last."""

    states: eqx.AbstractVar[Affine]
    actions: eqx.AbstractVar[Affine]
    transformer: eqx.AbstractVar[Transformer]
    dropout: eqx.AbstractVar[float]

    @property
    def time_steps(self) -> int | None:
        """Steps that it tells apart; None: it does not count them."""
        return None

    def last_features(
        self,
        returns_to_go: Float[Array, "B K"],
        costs_to_go: Float[Array, "B K"],
        observations: Float[Array, "B K O"],
        actions: Float[Array, "B K A"],
        times: Int[Array, "B K"],
        valid: Bool[Array, "B K"],
    ) -> Float[Array, "B E"]:
        """What `moments` makes the next action of. Padding stands to the left; the last action is not looked at."""
        tokens = self._tokens(returns_to_go, costs_to_go, observations, actions, times)[:, :-1]
        seen = jnp.repeat(valid, TOKENS, axis=1)[:, :-1]
        return self.transformer(tokens, seen, None, lambda x: x[:, -1:])[:, 0]

    def _features(
        self, tokens: Float[Array, "B K4 E"], dropout_seed: UInt32[Array, ""] | None, read: Read
    ) -> Float[Array, "B Q E"]:
        """Of the tokens that are read; while training some units are dropped."""
        tokens = dropped(tokens, self.dropout, dropout_seed)
        seed = None if dropout_seed is None else dropout_seed + jnp.uint32(1)
        return self.transformer(tokens, None, seed, read)

    def moments(self, features: Float[Array, "*b E"]) -> tuple[Float[Array, "*b A"], Float[Array, "*b A"]]:
        """Mean and log standard deviation of the action."""
        raise NotImplementedError

    def _tokens(
        self,
        returns_to_go: Float[Array, "B K"],
        costs_to_go: Float[Array, "B K"],
        observations: Float[Array, "B K O"],
        actions: Float[Array, "B K A"],
        times: Int[Array, "B K"],
    ) -> Float[Array, "B K4 E"]:
        """Embedded tokens, step after step."""
        raise NotImplementedError


@saveable
class DecisionTransformer(SequenceNetwork):
    """Four tokens per step, (return-to-go, cost-to-go, state, action), each with a learned embedding of the time.

    The constrained decision transformer of Liu et al., ICML 2023 (arXiv:2302.07351). The policy, a Gaussian without a
    bound, is read at the state token, the cost and the next state at the action token.

    Attributes:
        returns, costs, states, actions: embeddings of the tokens.
        times: one row per time step; later ones have the last row.
        norm: of embedded tokens.
        transformer: over them.
        mean, log_std: of the action.
        cost: logits of a step without and with cost.
        next_state: s'.
        return_scale: factor on returns-to-go.
        cost_scale: factor on costs-to-go.
        cost_origin: the network sees cost_origin - cost_scale * cost-to-go.
        dropout: of embedded tokens, while training.
        clamped: log standard deviations are clipped to [-5, 2].
    """

    returns: Affine
    costs: Affine
    states: Affine
    actions: Affine
    times: Float[Array, "S E"]
    norm: Norm
    transformer: Transformer
    mean: Affine
    log_std: Affine
    cost: Affine
    next_state: Affine
    return_scale: float = eqx.field(static=True)
    cost_scale: float = eqx.field(static=True)
    cost_origin: float = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    clamped: bool = eqx.field(static=True)

    @staticmethod
    def make(
        key: Key[Array, ""],
        observation_size: int,
        action_size: int,
        times: int,
        *,
        width: int = 128,
        blocks: int = 3,
        heads: int = 8,
        dropout: float = 0.1,
        return_scale: float = 0.1,
        cost_scale: float = 1.0,
        cost_origin: float = 50.0,
        clamped: bool = False,
    ) -> DecisionTransformer:
        """Fresh weights: N(0, 0.02) but for attention's first layer, see `Block.make`.

        Args:
            key: of the weights.
            observation_size: O.
            action_size: A.
            times: S, time steps that have an embedding of their own.
            width: E.
            blocks: how many.
            heads: of every block.
            dropout: of attention weights, of the blocks' outputs and of embedded tokens.
            return_scale, cost_scale, cost_origin, clamped: see the attributes.
        """
        keys = iter(jax.random.split(key, 10))
        return DecisionTransformer(
            returns=Affine.make(next(keys), 1, width),
            costs=Affine.make(next(keys), 1, width),
            states=Affine.make(next(keys), observation_size, width),
            actions=Affine.make(next(keys), action_size, width),
            times=Affine.make(next(keys), times, width).weight,
            norm=Norm.make(width),
            transformer=Transformer.make(next(keys), width, blocks, heads, dropout=dropout),
            mean=Affine.make(next(keys), width, action_size),
            log_std=Affine.make(next(keys), width, action_size),
            cost=Affine.make(next(keys), width, 2),
            next_state=Affine.make(next(keys), width, observation_size),
            return_scale=return_scale,
            cost_scale=cost_scale,
            cost_origin=cost_origin,
            dropout=dropout,
            clamped=clamped,
        )

    def __call__(
        self,
        returns_to_go: Float[Array, "B K"],
        costs_to_go: Float[Array, "B K"],
        observations: Float[Array, "B K O"],
        actions: Float[Array, "B K A"],
        times: Int[Array, "B K"],
        dropout_seed: UInt32[Array, ""] | None = None,
    ) -> tuple[Float[Array, "B K E"], Float[Array, "B K E"]]:
        """Features of every state and of every action; padding to the right changes nothing before it."""
        batch, steps = times.shape
        tokens = self._tokens(returns_to_go, costs_to_go, observations, actions, times)
        features = self._features(tokens, dropout_seed, _states_and_actions)
        features = features.reshape(batch, steps, 2, -1)
        return features[:, :, 0], features[:, :, 1]

    @property
    def time_steps(self) -> int:
        """Rows of `times`."""
        return int(self.times.shape[-2])

    def moments(self, features: Float[Array, "*b E"]) -> tuple[Float[Array, "*b A"], Float[Array, "*b A"]]:
        """Mean and log standard deviation of the action, from features of the state."""
        log_std = self.log_std(features)
        return self.mean(features), jnp.clip(log_std, *_LOG_STD_BOUNDS) if self.clamped else log_std

    def _tokens(
        self,
        returns_to_go: Float[Array, "B K"],
        costs_to_go: Float[Array, "B K"],
        observations: Float[Array, "B K O"],
        actions: Float[Array, "B K A"],
        times: Int[Array, "B K"],
    ) -> Float[Array, "B K4 E"]:
        """Normalised embeddings, step after step."""
        now = jnp.take(self.times, times, axis=0, mode="clip")
        embedded = [
            self.returns((self.return_scale * returns_to_go)[..., None]),
            self.costs((self.cost_origin - self.cost_scale * costs_to_go)[..., None]),
            self.states(observations),
            self.actions(actions),
        ]
        tokens = jnp.stack([token + now for token in embedded], axis=2)
        return self.norm(tokens.reshape(tokens.shape[0], -1, tokens.shape[-1]))


def _states_and_actions(x: Any) -> Any:
    """Of the tokens of every step those two, for arrays of either library."""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens // TOKENS, TOKENS, width)[:, :, 2:].reshape(batch, tokens // 2, width)
