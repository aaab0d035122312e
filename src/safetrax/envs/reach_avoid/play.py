"""Whole episodes of the reach-avoid world in one compiled program: every step of every policy and episode at once."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from safetrax.envs.reach_avoid.world import STARTS, Numbers, ReachAvoid
from safetrax.policies.actor import Actor


class Totals(NamedTuple):
    """What the episodes of `P` policies amount to.

    Attributes:
        returns: undiscounted.
        costs: undiscounted.
        lengths: steps.
        finite: whether all actions were.
    """

    returns: Float[Array, "P n"]
    costs: Float[Array, "P n"]
    lengths: Int[Array, "P n"]
    finite: Bool[Array, "P n"]


class Recording(NamedTuple):
    """Every step of `n` episodes of one policy; what comes after an episode's end does not count.

    Attributes:
        states: before each step, and in the end.
        actions: cut to [-1, 1].
        rewards: of each step.
        costs: of each step.
        terminated: whether it ended the episode.
        lengths: steps made.
    """

    states: Float[Array, "T1 n 4"]
    actions: Float[Array, "T n 2"]
    rewards: Float[Array, "T n"]
    costs: Float[Array, "T n"]
    terminated: Bool[Array, "T n"]
    lengths: Int[Array, " n"]


class _Now(NamedTuple):
    """The episodes of one policy between two steps."""

    state: Float[Array, "n 4"]
    memory: Any
    alive: Bool[Array, " n"]
    totals: tuple[Float[Array, " n"], Float[Array, " n"], Int[Array, " n"], Bool[Array, " n"]]


def world_of(env_id: str) -> ReachAvoid:
    """The world that an environment id names."""
    return ReachAvoid(start=STARTS[env_id])


@partial(jax.jit, static_argnums=0)
def play(
    world: ReachAvoid,
    actors: Actor,
    starts: Float[Numbers, "n 4"],
    episodes: Int[Numbers, " n"],
    key: Key[Array, ""],
) -> Totals:
    """Run episodes until all have ended.

    Step t of episode e draws from the key that belongs to (`key`, e, t) alone, as in every evaluation.

    Args:
        world: where.
        actors: stacked, with leading axis `P`.
        starts: of the episodes; the same for every policy.
        episodes: their numbers; those below 0 are not run.
        key: of the evaluation's seed.
    """

    def running(carry: tuple[Array, _Now]) -> Array:
        return (carry[0] < world.horizon) & carry[1].alive.any()

    def advance(carry: tuple[Array, _Now]) -> tuple[Array, _Now]:
        step, now = carry
        return step + 1, jax.vmap(lambda actor, own: _advance(world, actor, own, _keys(key, episodes, step))[0])(
            actors, now
        )

    now = jax.vmap(lambda actor: _begin(actor, jnp.asarray(starts), jnp.asarray(episodes) >= 0))(actors)
    _, now = jax.lax.while_loop(running, advance, (jnp.int32(0), now))
    return Totals(*now.totals)


@partial(jax.jit, static_argnums=0)
def record(world: ReachAvoid, actor: Actor, starts: Float[Numbers, "n 4"], key: Key[Array, ""]) -> Recording:
    """Run episodes of one policy until all have ended, and keep every step. Random numbers are as in `play`."""
    states, count = jnp.asarray(starts), len(starts)

    def running(carry: tuple[Array, _Now, Recording]) -> Array:
        return (carry[0] < world.horizon) & carry[1].alive.any()

    def advance(carry: tuple[Array, _Now, Recording]) -> tuple[Array, _Now, Recording]:
        step, now, kept = carry
        now, (actions, rewards, costs, terminated) = _advance(world, actor, now, _keys(key, jnp.arange(count), step))
        kept = Recording(
            kept.states.at[step + 1].set(now.state),
            kept.actions.at[step].set(actions),
            kept.rewards.at[step].set(rewards),
            kept.costs.at[step].set(costs),
            kept.terminated.at[step].set(terminated),
            now.totals[2],
        )
        return step + 1, now, kept

    now = _begin(actor, states, jnp.ones(count, bool))
    numbers = jnp.zeros((world.horizon, count))
    kept = Recording(
        jnp.zeros((world.horizon + 1, count, 4)).at[0].set(states),
        jnp.zeros((world.horizon, count, 2)),
        numbers,
        numbers,
        numbers > 0,
        now.totals[2],
    )
    return jax.lax.while_loop(running, advance, (jnp.int32(0), now, kept))[2]


def _keys(key: Key[Array, ""], episodes: Int[Numbers, " n"], step: Int[Array, ""]) -> Key[Array, " n"]:
    return jax.vmap(lambda episode: jax.random.fold_in(jax.random.fold_in(key, episode), step))(jnp.asarray(episodes))


def _begin(actor: Actor, states: Float[Array, "n 4"], alive: Bool[Array, " n"]) -> _Now:
    zeros = jnp.zeros(len(states))
    totals = (zeros, zeros, jnp.zeros(len(states), jnp.int32), jnp.ones(len(states), bool))
    return _Now(states, actor.reset(len(states)), alive, totals)


def _advance(
    world: ReachAvoid, actor: Actor, now: _Now, keys: Key[Array, " n"]
) -> tuple[_Now, tuple[Float[Array, "n 2"], Float[Array, " n"], Float[Array, " n"], Bool[Array, " n"]]]:
    """One step of the episodes that have not ended; the others rest."""
    actions, memory = actor.act(now.memory, world.observe(now.state), actor.draw(keys))
    step = world.step(now.state, actions)
    rewards, costs = jnp.where(now.alive, step.reward, 0.0), jnp.where(now.alive, step.cost, 0.0)
    memory = actor.observe(memory, rewards, costs)
    returned, spent, length, finite = now.totals
    finite &= jnp.isfinite(actions).all(axis=-1) | ~now.alive
    totals = (returned + rewards, spent + costs, length + now.alive, finite)
    state = jnp.where(now.alive[:, None], step.state, now.state)
    done = now.alive & step.terminated
    kept = jnp.where(now.alive[:, None], jnp.clip(actions, -1.0, 1.0), 0.0)
    return _Now(state, memory, now.alive & ~done, totals), (kept, rewards, costs, done)
