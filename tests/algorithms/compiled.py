"""An algorithm on a small data set, compiled once for all data of its shapes: cheaper than `train` for many tests."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from quick import new_key, quick

from safetrax.algorithms.base import Algorithm, Spec
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories


class Compiled:
    """A Lagrangian algorithm with its fresh state, a limit, and a batch of the data's first rows."""

    def __init__(self, algorithm: Algorithm, data: Trajectories, limit: float) -> None:
        self.algorithm = algorithm
        with quick():  # half of the time would go into the random numbers of the first weights
            self.state = jax.jit(lambda key: algorithm.init(key, Spec.of(data)))(new_key(0))
        self.update = jax.jit(algorithm._update)
        self.improve = jax.jit(algorithm._improve)
        self.targets = jax.jit(algorithm.targets)
        self.store, self.index = self.of(data, limit)
        self.batch = self.store.transitions(jnp.arange(algorithm.batch_size))

    def of(self, data: Trajectories, limit: float):
        return Store.make(data, self.algorithm.fields), self.algorithm.index(data, limit)

    def train(self, data: Trajectories, limit: float, updates: int):
        """State after so many updates, and the mean metrics of the last hundred."""
        (store, index), state, rows = self.of(data, limit), self.state, []
        for i in range(updates):
            state, metrics = self.update(state, store, index, jax.random.fold_in(jax.random.key(1), i))
            rows.append(metrics)
        return state, {name: np.mean([float(row[name]) for row in rows[-100:]]) for name in rows[-1]}


act = jax.jit(lambda actor, observations, keys: actor.act((), observations, actor.draw(keys))[0])


def equal_leaves(a, b) -> list[bool]:
    return [bool(jnp.all(x == y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
