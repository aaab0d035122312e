"""Who drives in the reach-avoid world's data: an expert that plans with the true dynamics, and one at random."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from safetrax.envs.reach_avoid.feasibility import brake
from safetrax.envs.reach_avoid.world import ReachAvoid
from safetrax.policies.actor import Actor

_TURNS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_PUSHES = (-1.0, 0.0, 1.0)
_ESCAPES = (-1.0, 0.0, 1.0)  # turns that the fan has together with full braking, so that a safe plan stays one
_HELD = 16  # steps that a control is tried for
_MARGIN = 0.05  # metres that the way around a hazard keeps from its edge
_PER_TURN = 0.35  # metres that turning by a radian counts
_OUTWARDS = 10.0  # radians per metre within that distance
_PER_COST, _PER_LOSS = 1000.0, 100.0  # more metres than any way has


class _Trial(NamedTuple):
    """Where a control has led; `rest` counts the steps after an early end."""

    state: Float[Array, "n 4"]
    cost: Float[Array, " n"]
    arrived: Bool[Array, " n"]
    lost: Bool[Array, " n"]
    rest: Float[Array, " n"]


class Expert(Actor):
    """Tries a fan of constant controls at every step and begins the best of them.

    The best costs least, until the end of the trial and on the way to a standstill after it; among equals, the way to
    the goal that is left is shortest. From a feasible state the predicted cost stays zero: whatever escape there was
    is itself in the fan. Only the observation is used, so that this is a policy like any other.
    """

    controls: Float[Array, "K 2"]
    world: ReachAvoid = eqx.field(static=True)

    @staticmethod
    def make(world: ReachAvoid) -> Expert:
        """With fifteen controls."""
        return Expert(jnp.asarray(list(itertools.product(_PUSHES, _TURNS))), world)

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n 2"], Any]:
        """The first action of the best plan."""
        states = self.world.state_of(observations)
        scores = jax.vmap(lambda control: self._score(states, control))(self.controls)
        return self.controls[scores.argmin(axis=0)], memory

    def _score(self, states: Float[Array, "n 4"], control: Float[Array, " 2"]) -> Float[Array, " n"]:
        """Metres to go, and the penalties; the less, the better."""
        world = self.world

        def advance(_: Int[Array, ""], trial: _Trial) -> _Trial:
            step = world.step(trial.state, control)
            going = ~(trial.arrived | trial.lost)
            arrived = world.distance(step.state) <= world.goal_radius
            return _Trial(
                state=jnp.where(going[:, None], step.state, trial.state),
                cost=trial.cost + going * step.cost,
                arrived=trial.arrived | (going & arrived),
                lost=trial.lost | (going & step.terminated & ~arrived),
                rest=trial.rest + ~going,
            )

        no, zeros = jnp.zeros(len(states), bool), jnp.zeros(len(states))
        trial = jax.lax.fori_loop(0, _HELD, advance, _Trial(states, zeros, no, no, zeros))
        escape = jnp.where(trial.arrived | trial.lost, 0.0, brake(world, trial.state, _ESCAPES).cost.min(axis=0))
        # who arrives early could have driven on
        way = jnp.where(trial.arrived, -world.dt * world.top_speed * trial.rest, self._way(trial.state))
        score: Array = _PER_COST * (trial.cost + escape) + _PER_LOSS * trial.lost + way
        return score

    def _way(self, states: Float[Array, "n 4"]) -> Float[Array, " n"]:
        """Metres to the goal around whichever hazard takes longer, and what is lost by turning into that way."""
        radius = self.world.hazard_radius + _MARGIN
        ways = [_around(states[:, :2], self.world.goal, centre, radius) for centre in self.world.hazards]
        lengths, directions = (jnp.stack(column) for column in zip(*ways, strict=True))
        longest = lengths.argmax(axis=0)[None]
        length, direction = (jnp.take_along_axis(column, longest, axis=0)[0] for column in (lengths, directions))
        return length + _PER_TURN * jnp.abs(_wrapped(direction - states[:, 3]))


def _around(
    points: Float[Array, "n 2"], goal: tuple[float, float], centre: tuple[float, float], radius: float
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Length and first direction of the shortest way around a disc: straight, or two tangents and the arc between."""
    reach, to_centre = _polar(jnp.asarray(centre) - points)
    ahead, to_goal = _polar(jnp.asarray(goal) - points)
    near, far = jnp.maximum(reach, radius), math.dist(goal, centre)
    side = _wrapped(to_goal - to_centre)
    # the angle that the way has to turn about the centre, less what the two tangents turn
    about = jnp.abs(_wrapped(to_centre + jnp.pi - math.atan2(goal[1] - centre[1], goal[0] - centre[0])))
    arc = about - jnp.arccos(radius / near) - math.acos(radius / far)
    bent = jnp.sqrt(near**2 - radius**2) + math.sqrt(far**2 - radius**2) + radius * arc
    # within the disc, ever more outwards: who stands at a hazard's edge would otherwise face it and stay
    aside = jnp.arcsin(radius / near) + jnp.clip(_OUTWARDS * (radius - reach), 0.0, jnp.pi / 2)
    tangent = to_centre + jnp.where(side < 0, -1.0, 1.0) * aside
    return jnp.where(arc > 0, bent, ahead), jnp.where(arc > 0, tangent, to_goal)


def _polar(vectors: Float[Array, "n 2"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    x, y = vectors[:, 0], vectors[:, 1]
    return jnp.sqrt(x**2 + y**2), jnp.arctan2(y, x)


def _wrapped(angles: Float[Array, " n"]) -> Float[Array, " n"]:
    """Between -pi and pi."""
    return (angles + jnp.pi) % (2 * jnp.pi) - jnp.pi


class Wanderer(Actor):
    """Holds a random action until, one step in ten, it draws another."""

    redraw: Float[Array, ""]

    @staticmethod
    def make() -> Wanderer:
        """Ten steps, half a second, on average."""
        return Wanderer(jnp.asarray(0.1))

    def reset(self, n: int) -> Any:
        """No action yet."""
        return jnp.full((n, 2), jnp.nan)

    def draw(self, keys: Key[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n 2"]]:
        """A number that says whether to redraw, and a uniform action."""

        def one(key: Key[Array, ""]) -> tuple[Float[Array, ""], Float[Array, " 2"]]:
            when, what = jax.random.split(key)
            return jax.random.uniform(when), jax.random.uniform(what, (2,), minval=-1.0, maxval=1.0)

        return jax.vmap(one)(keys)

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n 2"], Any]:
        """The held action, or the drawn one."""
        chance, fresh = noise
        redrawn = jnp.isnan(memory[:, 0]) | (chance < self.redraw)
        actions = jnp.where(redrawn[:, None], fresh, memory)
        return actions, actions
