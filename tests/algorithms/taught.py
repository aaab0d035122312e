"""Whole trainings, compiled once for all data of the same shapes: cheaper than `train` for a few of them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from quick import new_key, quick

from safetrax.algorithms.base import Algorithm, Spec
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories


@functools.cache
def _compiled(algorithm: Algorithm, spec: Spec) -> tuple[Any, list[Any]]:
    def run(stage: Any, state: Any, store: Store, index: Any, key: jax.Array) -> tuple[Any, Any]:
        def update(state: Any, number: jax.Array) -> tuple[Any, Any]:
            return stage.update(state, store, index, jax.random.fold_in(key, number))

        state = stage.begin(state, store, index, key)
        return jax.lax.scan(update, state, jnp.arange(stage.updates))

    init = jax.jit(functools.partial(algorithm.init, spec=spec))
    return init, [jax.jit(functools.partial(run, stage)) for stage in algorithm.stages() if stage.updates]


def taught(algorithm: Algorithm, data: Trajectories, limit: float, seed: int = 0) -> tuple[Any, dict[str, float]]:
    """The state after all stages, and the mean metrics of the last stage's last tenth."""
    store, index = Store.make(data, algorithm.fields), algorithm.index(data, limit)
    init, stages = _compiled(algorithm, Spec.of(data))
    metrics: dict[str, Any] = {}
    with quick():
        state = init(new_key(100 * seed))
        for number, stage in enumerate(stages):
            state, metrics = stage(state, store, index, new_key(100 * seed + 1 + number))
    return state, {name: float(np.mean(values[-(len(values) // 10 + 1) :])) for name, values in metrics.items()}


_act = jax.jit(lambda actor, observations, keys: actor.act((), observations, actor.draw(keys))[0])


def actions(algorithm: Algorithm, state: Any, observation: np.ndarray, episodes: int = 200) -> np.ndarray:
    """What is played in that state, one row per episode."""
    observations = jnp.tile(jnp.asarray(observation, jnp.float32), (episodes, 1))
    with quick():
        return np.asarray(_act(algorithm.actor(state), observations, jax.random.split(new_key(9), episodes)))
