"""What policies would do in the states of a log."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from safetrax.data.trajectories import Trajectories
from safetrax.policies.actor import Actor

_AT_ONCE = 8192  # rows of a call


def logged_state_actions(actor: Actor, data: Trajectories, draws: int) -> Float[np.ndarray, "K N A"]:
    """The actions of one policy in every state of the log, `draws` times where it draws noise, else once.

    A policy with a memory is led through every episode: it remembers what it would have done, and is told the
    rewards and costs that were logged.
    """
    noisy = bool(jax.tree.leaves(jax.eval_shape(actor.draw, jax.random.split(jax.random.key(0), 1))))
    keys = jax.random.split(jax.random.key(0), draws if noisy else 1)
    remembers = bool(jax.tree.leaves(jax.eval_shape(partial(actor.reset, 1))))
    act = _along_episodes if remembers else _row_by_row
    return np.stack([act(actor, data, key) for key in keys])


def _row_by_row(actor: Actor, data: Trajectories, key: jax.Array) -> np.ndarray:
    rows = data.num_transitions
    padded = np.resize(np.arange(rows), -(-rows // _AT_ONCE) * _AT_ONCE)
    parts = [
        _acts(actor, jnp.asarray(data.observations[chunk]), jax.random.fold_in(key, i))
        for i, chunk in enumerate(padded.reshape(-1, _AT_ONCE))
    ]
    return np.asarray(np.concatenate(parts)[:rows])


@jax.jit
def _acts(actor: Actor, observations: jax.Array, key: jax.Array) -> jax.Array:
    n = len(observations)
    actions: jax.Array
    actions, _ = actor.act(actor.reset(n), observations, actor.draw(jax.random.split(key, n)))
    return actions


def _along_episodes(actor: Actor, data: Trajectories, key: jax.Array) -> np.ndarray:
    steps = np.arange(data.max_length)
    rows = np.minimum(
        data.offsets[:-1] + steps[:, None], data.offsets[1:] - 1
    )  # (T, E), the last row again and again
    costs = data.logged_costs
    actions = np.asarray(
        _led(actor, jnp.asarray(data.observations), jnp.asarray(data.rewards), jnp.asarray(costs), rows, key)
    )
    inside = steps[:, None] < data.lengths
    return np.asarray(actions.swapaxes(0, 1)[inside.T])


@jax.jit
def _led(
    actor: Actor,
    observations: jax.Array,
    rewards: jax.Array,
    costs: jax.Array,
    rows: Any,
    key: Any,
) -> jax.Array:
    episodes = rows.shape[1]

    def step(memory: Any, each: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        row, key = each
        noise = actor.draw(jax.random.split(key, episodes))
        actions, memory = actor.act(memory, observations[row], noise)
        return actor.observe(memory, rewards[row], costs[row]), actions

    each = jnp.asarray(rows), jax.random.split(key, len(rows))
    _, actions = jax.lax.scan(step, actor.reset(episodes), each)
    return jnp.asarray(actions)
