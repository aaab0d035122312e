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
    """What the episodes of `P` policies amount to: undiscounted sums, steps, and whether all actions were finite."""

    returns: Float[Array, "*P n"]
    costs: Float[Array, "*P n"]
    lengths: Int[Array, "*P n"]
    finite: Bool[Array, "*P n"]


class Recording(NamedTuple):
    """Every step of `n` episodes of one policy; what comes after an episode's end does not count.

    `states` are those before each step and in the end, `actions` cut to [-1, 1], `lengths` the numbers of steps.
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
    totals: Totals


# actions, rewards, costs and whether the step ended the episode
_Rows = tuple[Float[Array, "*T n 2"], Float[Array, "*T n"], Float[Array, "*T n"], Bool[Array, "*T n"]]


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

    def advance(carry: tuple[Array, _Now]) -> tuple[Array, _Now]:
        step, now = carry
        return step + 1, jax.vmap(lambda actor, own: _advance(world, actor, own, _keys(key, episodes, step))[0])(
            actors, now
        )

    now = jax.vmap(lambda actor: _begin(actor, jnp.asarray(starts), jnp.asarray(episodes) >= 0))(actors)
    totals: Totals = jax.lax.while_loop(partial(_running, world), advance, (jnp.int32(0), now))[1].totals
    return totals


@partial(jax.jit, static_argnums=0)
def record(world: ReachAvoid, actor: Actor, starts: Float[Numbers, "n 4"], key: Key[Array, ""]) -> Recording:
    """Run episodes of one policy until all have ended, and keep every step. Random numbers are as in `play`."""
    count = len(starts)

    def advance(carry: tuple[Array, _Now, Array, _Rows]) -> tuple[Array, _Now, Array, _Rows]:
        step, now, states, rows = carry
        now, row = _advance(world, actor, now, _keys(key, jnp.arange(count), step))
        rows = jax.tree.map(lambda column, one: column.at[step].set(one), rows, row)
        return step + 1, now, states.at[step + 1].set(now.state), rows

    now = _begin(actor, jnp.asarray(starts), jnp.ones(count, bool))
    states = jnp.zeros((world.horizon + 1, count, 4)).at[0].set(now.state)
    numbers = jnp.zeros((world.horizon, count))
    rows = jnp.zeros((world.horizon, count, 2)), numbers, numbers, numbers > 0
    carry = jnp.int32(0), now, states, rows
    _, now, states, rows = jax.lax.while_loop(partial(_running, world), advance, carry)
    return Recording(states, *rows, now.totals.lengths)


def _running(world: ReachAvoid, carry: tuple[Any, ...]) -> Array:
    step, now = carry[:2]
    return jnp.asarray((step < world.horizon) & now.alive.any())


def _keys(key: Key[Array, ""], episodes: Int[Numbers, " n"], step: Int[Array, ""]) -> Key[Array, " n"]:
    return jax.vmap(lambda episode: jax.random.fold_in(jax.random.fold_in(key, episode), step))(jnp.asarray(episodes))


def _begin(actor: Actor, states: Float[Array, "n 4"], alive: Bool[Array, " n"]) -> _Now:
    zeros = jnp.zeros(len(states))
    totals = Totals(zeros, zeros, jnp.zeros(len(states), jnp.int32), jnp.ones(len(states), bool))
    return _Now(states, actor.reset(len(states)), alive, totals)


def _advance(world: ReachAvoid, actor: Actor, now: _Now, keys: Key[Array, " n"]) -> tuple[_Now, _Rows]:
    """One step of the episodes that have not ended; the others rest."""
    actions, memory = actor.act(now.memory, world.observe(now.state), actor.draw(keys))
    step = world.step(now.state, actions)
    rewards, costs = jnp.where(now.alive, step.reward, 0.0), jnp.where(now.alive, step.cost, 0.0)
    memory = actor.observe(memory, rewards, costs)
    returned, spent, length, finite = now.totals
    finite &= jnp.isfinite(actions).all(axis=-1) | ~now.alive
    totals = Totals(returned + rewards, spent + costs, length + now.alive, finite)
    state = jnp.where(now.alive[:, None], step.state, now.state)
    done = now.alive & step.terminated
    kept = jnp.where(now.alive[:, None], jnp.clip(actions, -1.0, 1.0), 0.0)
    return _Now(state, memory, now.alive & ~done, totals), (kept, rewards, costs, done)
