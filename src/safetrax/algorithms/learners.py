"""What the states of algorithms are made of: networks with their optimisers, critics with targets, action bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, UInt32

from safetrax.algorithms.base import Spec
from safetrax.data.store import Store
from safetrax.nets.mlp import LOGITS, MLP, Initialiser
from safetrax.policies.actor import DeterministicActor

N = TypeVar("N")
X = TypeVar("X")
Loss = Callable[[N], tuple[jax.Array, X]]
"""From a network to the value to minimise and whatever else is wanted of the pass."""


class Fit(eqx.Module, Generic[X]):
    """What a gradient step has seen: all of the network before it."""

    loss: Float[Array, ""]  # what was minimised
    extra: X  # what else the loss gave
    gradient: Float[Array, ""]  # its Euclidean norm


class Learner(eqx.Module, Generic[N]):
    """A network and its optimiser's state."""

    network: N  # any tree of arrays
    optimiser: optax.OptState  # state of the transformation that `make` and `step` are given

    @staticmethod
    def make(network: N, optimiser: optax.GradientTransformation) -> Learner[N]:
        """A learner before its first step."""
        return Learner(network, optimiser.init(network))

    def step(self, optimiser: optax.GradientTransformation, loss: Loss[N, X]) -> tuple[Learner[N], Fit[X]]:
        """One gradient step of the transformation that `make` was given."""
        (value, extra), gradient = jax.value_and_grad(loss, has_aux=True)(self.network)
        updates, state = optimiser.update(gradient, self.optimiser, self.network)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)))
        return Learner(optax.apply_updates(self.network, updates), state), Fit(value, extra, norm)


class Tracked(eqx.Module, Generic[N]):
    """A learner whose network is followed by a slowly moving average, its target."""

    learner: Learner[N]  # the network that is trained
    target: N  # its average

    @staticmethod
    def make(network: N, optimiser: optax.GradientTransformation) -> Tracked[N]:
        """The target starts as a copy."""
        return Tracked(Learner.make(network, optimiser), network)

    @property
    def network(self) -> N:
        """The network that is trained."""
        return self.learner.network

    def step(self, optimiser: optax.GradientTransformation, loss: Loss[N, X]) -> tuple[Tracked[N], Fit[X]]:
        """One gradient step of the learner; the target stays."""
        learner, fit = self.learner.step(optimiser, loss)
        return Tracked(learner, self.target), fit

    def follow(self, rate: float) -> Tracked[N]:
        """Move the target: target + rate (network - target), leaf by leaf."""
        moved: N = jax.tree.map(lambda old, new: old + rate * (new - old), self.target, self.network)
        return Tracked(self.learner, moved)


class ActionBounds(eqx.Module):
    """Action bounds as part of a state, so that an actor can be made from the state alone."""

    low: Float[Array, " A"]
    high: Float[Array, " A"]

    @staticmethod
    def of(spec: Spec) -> ActionBounds:
        """The bounds of a data set's actions."""
        return ActionBounds(
            low=jnp.asarray(spec.action_low, jnp.float32), high=jnp.asarray(spec.action_high, jnp.float32)
        )

    def actor(self, network: Callable[[jax.Array], jax.Array]) -> DeterministicActor:
        """The deployed form of a network with outputs in [-1, 1], or with logits."""
        return DeterministicActor(network, self.low, self.high)


def policy_network(
    key: Key[Array, ""], spec: Spec, hidden: tuple[int, ...], *, dropout: float, initialiser: Initialiser
) -> MLP:
    """A tanh network from observations to actions in [-1, 1], or to logits of choices."""
    sizes = (spec.observation_size, *hidden, spec.action_size)
    output = LOGITS if spec.chooses else "tanh"
    return MLP.make(key, sizes, output=output, dropout_rate=dropout, initialiser=initialiser)


def warmed_up(rate: float, warmup: int, count: Array | int) -> jax.Array:
    """Learning rate of update number `count` + 1, which grows linearly to `rate` over `warmup` updates."""
    return rate * jnp.minimum(1.0, (jnp.asarray(count) + 1) / max(warmup, 1))


def of_every_row(log_prob: Callable[[Array], Array], store: Store) -> Float[Array, " N"]:
    """Log-likelihoods of the whole log, by a function of rows of any shape: what a frozen reference says, once."""
    rows = jnp.arange(store.num_transitions, dtype=jnp.int32)
    found: Array = jax.lax.map(lambda row: log_prob(row[None])[0], rows, batch_size=8192)
    return found


def dropout_seed(key: Key[Array, ""]) -> UInt32[Array, ""]:
    """A 32-bit seed for the counter hash, out of a JAX key."""
    return jax.random.bits(key, dtype=jnp.uint32)
