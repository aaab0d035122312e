"""Acting for many episodes of several policies in one compiled call per step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from safetrax.data.catalogue import Task
from safetrax.errors import RunError, TaskError
from safetrax.nets.actors import Actor
from safetrax.policy import Policies


class Feed(NamedTuple):
    """What `n` episodes of each of `P` policies have just seen.

    Attributes:
        observations: of now.
        rewards: for the last action; ignored where fresh.
        costs: for the last action; ignored where fresh.
        fresh: where an episode has just begun.
        episodes: its number; read where fresh.
    """

    observations: Float[Array | np.ndarray, "P n O"]
    rewards: Float[Array | np.ndarray, "P n"]
    costs: Float[Array | np.ndarray, "P n"]
    fresh: Bool[Array | np.ndarray, "P n"]
    episodes: Int[Array | np.ndarray, "P n"]

    @staticmethod
    def blank(policies: int, rows: int, observation_size: int) -> Feed:
        """Zeros, with every row fresh."""
        shape = policies, rows
        zeros = np.zeros(shape, np.float32)
        observations = np.zeros((*shape, observation_size), np.float32)
        return Feed(observations, zeros, zeros, np.ones(shape, bool), np.zeros(shape, np.int32))


class BatchedActors:
    """`n` episodes side by side for each of `P` policies, with their memories and random keys.

    Episode `e` draws from the key that belongs to (seed, e) alone, the same for every policy.
    """

    def __init__(self, actor: Actor, policies: int, rows: int, seed: int, episodes: int) -> None:
        """`actor`: stacked, with leading axis `P`. `rows`: n. `episodes`: episode numbers are below it."""
        self._actor = actor
        self._episode_keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(episodes))
        self._keys = jnp.broadcast_to(self._episode_keys[0], (policies, rows))
        self._memory = _strong(_fresh_memory(actor, rows))

    def act(self, feed: Feed) -> np.ndarray:
        """Actions, float32 `(P, n, A)`; rows that have ended get some action too."""
        actions, self._memory, self._keys = _decide(self._actor, self._memory, self._keys, self._episode_keys, feed)
        return np.asarray(actions, np.float32)


@jax.jit
def _decide(
    actor: Actor, memory: Any, keys: Key[Array, "P n"], episode_keys: Key[Array, " E"], feed: Feed
) -> tuple[Float[Array, "P n A"], Any, Key[Array, "P n"]]:
    """Observe the answers to the last actions, begin fresh episodes, and act."""
    memory = jax.vmap(lambda a, m, r, c: a.observe(m, r, c))(actor, memory, feed.rewards, feed.costs)
    fresh = jnp.asarray(feed.fresh)
    memory = _where(fresh, _fresh_memory(actor, fresh.shape[1]), memory)
    keys = jnp.where(fresh, episode_keys[feed.episodes], keys)
    split = jax.vmap(jax.vmap(jax.random.split))(keys)
    actions, memory = jax.vmap(lambda a, m, o, k: a.act(m, o, k))(actor, memory, feed.observations, split[:, :, 0])
    return actions, _strong(memory), split[:, :, 1]


def _fresh_memory(actor: Actor, rows: int) -> Any:
    """Memory at the start of `rows` episodes of every policy; leaves `(P, rows, ...)`."""
    return jax.vmap(lambda single: single.reset(rows))(actor)


def _where(mask: Bool[Array, "P n"], ours: Any, theirs: Any) -> Any:
    """Rows of `ours` where the mask is set, else of `theirs`."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 2)), a, b)

    return jax.tree.map(pick, ours, theirs)


def _strong(memory: Any) -> Any:
    """Without weak types, which would have the next call compiled anew."""

    def cast(leaf: jax.Array) -> jax.Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else jnp.asarray(leaf, leaf.dtype)

    return jax.tree.map(cast, memory)


def require_fit(policies: Policies, task: Task) -> None:
    """Check sizes before any process is started.

    Raises:
        TaskError: the policies take other observations or give other actions than the task.
    """
    count, wanted = len(policies), (task.observation_size, task.action_size)
    first = policies.ids[0]
    feed = Feed.blank(count, 1, task.observation_size)
    keys = jax.random.split(jax.random.key(0), (count, 1))
    try:
        memory = jax.eval_shape(_fresh_memory_of_one, policies.actor)
        actions, _, _ = jax.eval_shape(_decide, policies.actor, memory, keys, keys[0], feed)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TaskError(
            f"the policy {first} does not take the {wanted[0]} numbers of an observation of {task.name} ({reason})."
        ) from error
    if actions.shape[-1] != wanted[1]:
        raise TaskError(
            f"the policy {first} gives actions of {actions.shape[-1]} numbers, but {task.name} takes {wanted[1]}."
        )


def _fresh_memory_of_one(actor: Actor) -> Any:
    return _fresh_memory(actor, 1)


def require_finite(actions: np.ndarray, acting: np.ndarray, policies: Policies) -> None:
    """Check actions `(P, n, A)` where `acting` `(P, n)`.

    Raises:
        RunError: a policy gave an action that is not finite.
    """
    bad = acting & ~np.isfinite(actions).all(axis=-1)
    if bad.any():
        culprit = policies.ids[int(np.argwhere(bad)[0, 0])]
        raise RunError(
            f"the policy {culprit} gave an action that is not a finite number; its training has diverged, "
            "so train it with a lower learning rate."
        )
