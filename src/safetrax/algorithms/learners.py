"""Pieces that several algorithms share when they train: a network with its optimiser, a critic with its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

N = TypeVar("N")


class Learner(eqx.Module, Generic[N]):
    """A network and its optimiser's state.

    Attributes:
        network: any tree of arrays.
        optimiser: state of the transformation that `make` and `step` are given.
    """

    network: N
    optimiser: optax.OptState

    @staticmethod
    def make(network: N, optimiser: optax.GradientTransformation) -> Learner[N]:
        """A learner before its first step."""
        return Learner(network, optimiser.init(network))

    def step(
        self, optimiser: optax.GradientTransformation, loss: Callable[[N], tuple[jax.Array, Any]]
    ) -> tuple[Learner[N], Any, Float[Array, ""]]:
        """One gradient step.

        Args:
            optimiser: the same as in `make`.
            loss: from the network to the value to minimise and whatever else is wanted of the pass.

        Returns:
            The new learner, the loss's second result, and the gradient's Euclidean norm.
        """
        gradient, extra = jax.grad(loss, has_aux=True)(self.network)
        updates, state = optimiser.update(gradient, self.optimiser, self.network)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)))
        return Learner(optax.apply_updates(self.network, updates), state), extra, norm


class Tracked(eqx.Module, Generic[N]):
    """A learner whose network is followed by a slowly moving average, its target.

    Attributes:
        learner: the network that is trained.
        target: its average.
    """

    learner: Learner[N]
    target: N

    @staticmethod
    def make(network: N, optimiser: optax.GradientTransformation) -> Tracked[N]:
        """The target starts as a copy."""
        return Tracked(Learner.make(network, optimiser), network)

    @property
    def network(self) -> N:
        """The network that is trained."""
        return self.learner.network

    def step(
        self, optimiser: optax.GradientTransformation, loss: Callable[[N], tuple[jax.Array, Any]]
    ) -> tuple[Tracked[N], Any, Float[Array, ""]]:
        """One gradient step of the learner; the target stays."""
        learner, extra, norm = self.learner.step(optimiser, loss)
        return Tracked(learner, self.target), extra, norm

    def follow(self, rate: float) -> Tracked[N]:
        """Move the target: target + rate (network - target)."""
        return Tracked(self.learner, soft_update(self.target, self.learner.network, rate))


def soft_update(target: N, network: N, rate: float) -> N:
    """target + rate (network - target), leaf by leaf."""
    moved: N = jax.tree.map(lambda old, new: old + rate * (new - old), target, network)
    return moved


def discounted_limit(cost_limit: Array | float, horizon: int, discount: float) -> Float[Array, ""]:
    """q = (limit / T) (1 - gamma^T) / (1 - gamma): the discounted cost of an episode that spends its limit evenly.

    What OSRL, FISOR's cost mode and others compare discounted cost values with.

    Args:
        cost_limit: of an episode, undiscounted.
        horizon: T, steps of an episode.
        discount: gamma in [0, 1].
    """
    total = horizon if discount == 1 else (1 - discount**horizon) / (1 - discount)
    return jnp.asarray(cost_limit, jnp.float32) * (total / horizon)
