"""Behaviours whose cost is known: clones of groups of held-out episodes."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from safetrax.algorithms.learners import Learner
from safetrax.algorithms.standardisation import Standardiser
from safetrax.certification.features import rows_of
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor, from_unit_box

_HIDDEN, _UPDATES, _BATCH, _RATE = (128, 128), 1500, 256, 1e-3


class Clone(Actor):
    """A Gaussian around a network's output, cut to the bounds: as noisy as those whom it copies, for noise costs."""

    network: MLP
    std: Float[Array, " A"]
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]

    def draw(self, keys: Key[Array, " n"]) -> Float[Array, "n A"]:
        """Standard normal numbers."""
        return jax.vmap(lambda key: jax.random.normal(key, self.std.shape))(keys)

    def act(
        self, memory: Any, observations: Float[Array, "n O"], noise: Float[Array, "n A"]
    ) -> tuple[Float[Array, "n A"], Any]:
        """Mean and noise."""
        actions = jnp.clip(self.network(observations) + self.std * noise, -1, 1)
        return from_unit_box(actions, self.action_low, self.action_high), memory


def clones(data: Trajectories, groups: list[np.ndarray], store: Store, standardiser: Standardiser) -> list[Actor]:
    """One policy for each group, behaviour cloning of its episodes, their noise included.

    Args:
        data: the log.
        groups: numbers of episodes.
        store: the log's rows, standardised.
        standardiser: by which they were.
    """
    parts = [rows_of(data.offsets, group) for group in groups]
    longest = max(map(len, parts))
    rows = jnp.asarray(np.stack([np.resize(part, longest) for part in parts]))
    counts = jnp.asarray([len(part) for part in parts])
    sizes = (data.observation_size, *_HIDDEN, data.action_size)
    optimiser = optax.adam(optax.cosine_decay_schedule(_RATE, _UPDATES))

    def fit(store: Store, each: tuple[Array, Array, Key[Array, ""]]) -> tuple[MLP, Float[Array, " A"]]:
        mine, count, key = each
        network = MLP.make(key, sizes, output="tanh", dropout_rate=0.0, initialiser=kaiming_uniform)

        def update(i: Array, learner: Learner[MLP]) -> Learner[MLP]:
            batch = mine[jax.random.randint(jax.random.fold_in(key, i), (_BATCH,), 0, count)]
            s, a = store.observations[batch], store.actions[batch]
            return learner.step(optimiser, lambda n: (jnp.mean(jnp.square(n(s) - a)), None))[0]

        trained: MLP = jax.lax.fori_loop(0, _UPDATES, update, Learner.make(network, optimiser)).network
        return trained, jnp.std(trained(store.observations[mine]) - store.actions[mine], axis=0)

    keys = jax.random.split(jax.random.key(0), len(groups))
    # the store is an argument: as a constant it would be folded into the program
    networks, noise = jax.jit(lambda s, each: jax.lax.map(partial(fit, s), each))(store, (rows, counts, keys))
    low, high = jnp.asarray(data.action_low), jnp.asarray(data.action_high)
    stacked = eqx.filter_vmap(lambda one, std: standardiser.actor(Clone(one, std, low, high)))(networks, noise)
    taken = jax.tree.map(np.asarray, stacked)  # a leaf of the device compiles a program for each place in it
    return [jax.tree.map(lambda leaf, p=p: leaf[p], taken) for p in range(len(groups))]
