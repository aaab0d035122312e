"""Acting for many episodes of several policies in one compiled call per step."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from safetrax.catalogue import Task
from safetrax.errors import RunError, SafeTraXWarning, TaskError
from safetrax.policies.actor import Actor
from safetrax.policies.policy import Policies
from safetrax.spaces import described, difference, trained_parts

_ROUNDING = 1e-4  # of the width of an action box


class Feed(NamedTuple):
    """What `n` episodes of each of `P` policies have just seen, in two arrays: each costs a transfer."""

    numbers: Float[Array | np.ndarray, "P n O2"]  # observation of now, reward and cost of the last action
    # number of the episode, and steps made in it; where 0, the episode is fresh and has no last action
    counts: Int[Array | np.ndarray, "P n 2"]

    @staticmethod
    def of(
        observations: Float[np.ndarray, "P n O"],
        rewards: Float[np.ndarray, "P n"],
        costs: Float[np.ndarray, "P n"],
        episodes: Int[np.ndarray, "P n"],
        steps: Int[np.ndarray, "P n"],
    ) -> Feed:
        """Pack it."""
        size = observations.shape[-1]
        numbers = np.empty((*rewards.shape, size + 2), np.float32)
        numbers[..., :size], numbers[..., size], numbers[..., size + 1] = observations, rewards, costs
        return Feed(numbers, np.stack([episodes, steps], axis=-1).astype(np.int32))

    @staticmethod
    def blank(policies: int, rows: int, observation_size: int) -> Feed:
        """Zeros, with every row fresh."""
        numbers = np.zeros((policies, rows, observation_size + 2), np.float32)
        return Feed(numbers, np.zeros((policies, rows, 2), np.int32))


class BatchedActors:
    """`n` episodes side by side for each of `P` policies, with their memories.

    Step t of episode e draws from the key that belongs to (seed, e, t) alone, the same for every policy.

    Attributes:
        rows: n.
    """

    def __init__(self, actor: Actor, rows: int, seed: int) -> None:
        """`actor`: stacked, with leading axis `P`. `rows`: n."""
        self._actor, self.rows = actor, rows
        self._key = jax.random.key(seed)
        self._memory = _strong(_fresh_memory(actor, rows))

    def act(self, feed: Feed) -> np.ndarray:
        """Actions, float32 `(P, n, A)`; rows that have ended get some action too."""
        with jax.default_matmul_precision("float32"):
            actions, self._memory = _decide(self._actor, self._memory, self._key, feed)
        return np.asarray(actions, np.float32)


@jax.jit
def _decide(actor: Actor, memory: Any, key: Key[Array, ""], feed: Feed) -> tuple[Float[Array, "P n A"], Any]:
    """Observe the answers to the last actions, begin fresh episodes, and act."""
    numbers, counts = jnp.asarray(feed.numbers), jnp.asarray(feed.counts)
    observations, rewards, costs = numbers[..., :-2], numbers[..., -2], numbers[..., -1]
    memory = jax.vmap(lambda a, m, r, c: a.observe(m, r, c))(actor, memory, rewards, costs)
    memory = _where(counts[..., 1] == 0, _fresh_memory(actor, counts.shape[1]), memory)
    # compiled away where the actor draws nothing
    keys = jax.vmap(jax.vmap(lambda count: jax.random.fold_in(jax.random.fold_in(key, count[0]), count[1])))(counts)
    actions, memory = jax.vmap(lambda a, m, o, k: a.act(m, o, a.draw(k)))(actor, memory, observations, keys)
    return actions, _strong(memory)


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
        TaskError: the policies take other observations, in size or in parts, or give other actions than the task, or
            have seen shorter episodes only. That they use a part of the action box only is warned of.
    """
    if policies.actor.chooses != bool(task.action_choices):
        takes = f"one of {task.action_choices} choices" if task.action_choices else "continuous actions"
        plays = "choices" if policies.actor.chooses else "continuous actions"
        remedy = "load a log of choices with action_choices" if task.action_choices else "choose one that takes them"
        raise TaskError(
            f"{task.name} takes {takes}, but the policy {policies.ids[0]} plays {plays}, as its log says; {remedy}."
        )
    _require_units(policies, task)
    _require_parts(policies, task)
    count, wanted = len(policies), (task.observation_size, task.action_size)
    first, longest = policies.ids[0], policies.actor.longest_episode
    if longest is not None and task.horizon > longest:
        raise TaskError(
            f"an episode of {task.name} has {task.horizon} steps, but the policy {first} knows {longest} only; train "
            f"it with episode_length {task.horizon}."
        )
    feed = Feed.blank(count, 1, task.observation_size)
    try:
        memory = jax.eval_shape(partial(_fresh_memory, rows=1), policies.actor)
        actions, _ = jax.eval_shape(_decide, policies.actor, memory, jax.random.key(0), feed)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TaskError(
            f"the policy {first} does not take the {wanted[0]} numbers of an observation of {task.name} ({reason})."
        ) from error
    if actions.shape[-1] != wanted[1]:
        raise TaskError(
            f"the policy {first} gives actions of {actions.shape[-1]} numbers, but {task.name} takes {wanted[1]}."
        )


def _require_parts(policies: Policies, task: Task) -> None:
    """Compare what observations are put together from, in the log and in one's own environment."""
    ours, theirs = trained_parts(policies.metadata), task.observation_parts
    if both := difference(ours, theirs):
        raise TaskError(
            f"the observations of the log of {policies.ids[0]} and of {task.name} are put together from other parts: "
            f"{both}; log them as the environment has them."
        )
    if bool(ours) != bool(theirs):
        who = f"the log of {policies.ids[0]}" if theirs else task.name
        warnings.warn(
            f"{who} has observations of numbers alone, not of the parts {described(ours or theirs)}; check that they "
            "come in this order.",
            SafeTraXWarning,
            stacklevel=3,
        )


def _require_units(policies: Policies, task: Task) -> None:
    """Compare the policies' action box, that of their log, with the box of one's own environment."""
    low, high = (np.array(end, np.float32) for end in (task.action_low, task.action_high))
    leaves, _ = jax.tree_util.tree_flatten_with_path(policies.actor)
    ends = {str(path[-1]).removeprefix("."): np.asarray(leaf) for path, leaf in leaves}
    if not low.size or {"action_low", "action_high"} - set(ends) or ends["action_low"].shape[-1] != low.size:
        return
    slack = _ROUNDING * (high - low)
    below, above = ends["action_low"] - low, high - ends["action_high"]
    theirs = f"{ends['action_low'][0].tolist()} and {ends['action_high'][0].tolist()}"
    boxes = (
        f"the policy {policies.ids[0]} acts between {theirs}, as its log says, and {task.name} between "
        f"{low.tolist()} and {high.tolist()}"
    )
    if (below < -slack).any() or (above < -slack).any():
        raise TaskError(
            f"{boxes}; load the log with the environment's action_low and action_high if its actions are in these "
            "units, else wrap the environment so that it takes the log's."
        )
    if (below > slack).any() or (above > slack).any():
        warnings.warn(f"{boxes}; check that both are in the same units.", SafeTraXWarning, stacklevel=3)


def require_finite(actions: np.ndarray, acting: np.ndarray, policies: Policies) -> None:
    """Check actions `(P, n, A)` where `acting` `(P, n)`.

    Raises:
        RunError: a policy gave an action that is not finite.
    """
    bad = acting & ~np.isfinite(actions).all(axis=-1)
    if bad.any():
        culprit = policies.ids[int(np.argwhere(bad)[0, 0])]
        raise RunError(
            f"the policy {culprit} gave an action that is not a finite number; check that the simulator's "
            "observations are like those of its log, or train it anew."
        )
