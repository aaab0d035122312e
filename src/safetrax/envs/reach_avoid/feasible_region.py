"""The feasible region of the reach-avoid world: from where no hazard need ever be entered.

Speed can always be taken off, and any path can be driven more slowly, when the point can turn more sharply still. So
if any control keeps clear of the hazards, full braking along the same path does, and only the turning on the way to a
standstill is left to choose. Against one round hazard it is best to turn fully away from it; the gap between two may
ask for less. docs/reach-avoid.md has the argument, and the tests look for states that this misses.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from safetrax.envs.reach_avoid.world import Numbers, ReachAvoid

TURNS = tuple(eighths / 8 for eighths in range(-8, 9))  # while braking, in shares of the turn rate


class Braked(NamedTuple):
    """What full braking until standstill leads to, at `K` turn rates.

    Attributes:
        cost: steps that end in a hazard.
        clearance: the least distance of the states on the way from a hazard's edge, in metres.
    """

    cost: Float[Array, " K *batch"]
    clearance: Float[Array, " K *batch"]


def feasible(world: ReachAvoid, states: Float[Numbers, "*batch 4"]) -> Bool[Array, "*batch"]:
    """Whether some control never enters a hazard from these states."""
    region: Array = margin(world, states) >= 0
    return region


@partial(jax.jit, static_argnums=0)
def margin(world: ReachAvoid, states: Float[Numbers, "*batch 4"]) -> Float[Array, "*batch"]:
    """Metres by which a point that brakes and turns as best it can keeps clear of the hazards, from now on.

    Not negative where `feasible`. Its negative is the value that FISOR's reachability approximates, the
    least possible maximum of h = R - d over the future.
    """
    states = jnp.asarray(states)
    return jnp.minimum(world.clearance(states), brake(world, states, TURNS).clearance.max(axis=0))


@partial(jax.jit, static_argnums=(0, 2))
def brake(world: ReachAvoid, states: Float[Array, "*batch 4"], turns: tuple[float, ...]) -> Braked:
    """Brake fully, turning all the while at one of `turns`; `states` themselves do not count."""
    steps = math.ceil(world.top_speed / (world.acceleration * world.dt))
    shape = states.shape[:-1]

    def at(turn: Float[Array, ""]) -> Braked:
        action = jnp.stack([-jnp.ones_like(turn), turn])

        def advance(_: Int[Array, ""], carry: tuple[Array, Braked]) -> tuple[Array, Braked]:
            state, so_far = carry
            step = world.step(state, action)
            clearance = jnp.minimum(so_far.clearance, world.clearance(step.state))
            return step.state, Braked(so_far.cost + step.cost, clearance)

        begin = states, Braked(jnp.zeros(shape), jnp.full(shape, jnp.inf))
        end: tuple[Array, Braked] = jax.lax.fori_loop(0, steps, advance, begin)
        return end[1]

    braked: Braked = jax.vmap(at)(jnp.asarray(turns, jnp.float32))
    return braked
