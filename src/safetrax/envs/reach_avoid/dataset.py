"""Data sets of the reach-avoid world: an expert's episodes and a random driver's, in a ratio of one's choice.

The expert plans with the true dynamics.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Key
from typing_extensions import override

from safetrax.data.trajectories import Trajectories
from safetrax.envs.reach_avoid.feasible_region import brake
from safetrax.envs.reach_avoid.play import record
from safetrax.envs.reach_avoid.world import BARS_START, FISOR_START, ReachAvoid
from safetrax.errors import ConfigError
from safetrax.files import exact
from safetrax.policies.actor import Actor

_TURNS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_PUSHES = (-1.0, 0.0, 1.0)
_ESCAPES = (-1.0, 0.0, 1.0)  # turns that the fan has together with full braking, so that a safe plan stays one
_HELD = 16  # steps that a control is tried for
_MARGIN = 0.05  # metres that the way around a hazard keeps from its edge
_PER_TURN = 0.35  # metres that turning by a radian counts
_OUTWARDS = 10.0  # radians per metre within that distance
_PER_COST, _PER_LOSS = 1000.0, 100.0  # more metres than any way has

_LEAST_RATIO, _LEAST_TRANSITIONS, _LEAST_COSTLY = 1.0, 1000, 10
_ENOUGH = 0.95  # of the costly steps asked for: what the next episodes cost may not fit into the rest
_PATIENCE = 150  # steps after which an expert's episode would not be kept anyway
_BLOCK = 64  # episodes that are run at once

Rows = dict[str, np.ndarray]
Starts = Callable[[ReachAvoid, np.random.Generator], Float32[np.ndarray, " 4"]]


def reach_avoid_data(safe_to_unsafe: float = 19.0, transitions: int = 60_000, seed: int = 0) -> Trajectories:
    """A log of the reach-avoid world with `safe_to_unsafe` cost-free steps to one in a hazard.

    BARS's qualities are 19 (high), 10 (medium) and 5 (low). Half of the expert's episodes begin at BARS's and FISOR's
    starts, the others anywhere outside of the hazards; those that reach the goal without cost are kept. Half of the
    random driver's begin inside a hazard, the others anywhere. Episodes are whole and in random order, so that both
    numbers are met to about an episode or a twentieth. The result is a function of the arguments; `info["task"]` is
    `ReachAvoid`, and next observations are there.

    Args:
        safe_to_unsafe: ratio of the numbers of steps, at least 1.
        transitions: about as many steps in all, at least 1,000, with at least ten costly ones.
        seed: of all draws.

    Raises:
        ConfigError: a number is out of range.
    """
    if not _LEAST_RATIO <= safe_to_unsafe < math.inf:
        raise ConfigError(f"safe_to_unsafe is {safe_to_unsafe:g}, but must be a number of at least {_LEAST_RATIO:g}.")
    if transitions < _LEAST_TRANSITIONS:
        raise ConfigError(f"transitions is {transitions}, but must be at least {_LEAST_TRANSITIONS}.")
    wanted = round(transitions / (1 + safe_to_unsafe))
    if wanted < _LEAST_COSTLY:
        raise ConfigError(
            f"{transitions} transitions at a safe_to_unsafe of {safe_to_unsafe:g} would have fewer than "
            f"{_LEAST_COSTLY} costly ones; ask for more transitions or a lower ratio."
        )
    if seed < 0:
        raise ConfigError(f"seed is {seed}, but must be at least 0.")
    world = ReachAvoid()
    careless, free, costly = _careless(world, wanted, safe_to_unsafe, seed)
    expert = _expert(world, safe_to_unsafe * costly - free, seed)
    both = [*expert, *careless]
    order = np.random.default_rng([seed, 2]).permutation(len(both))
    made_by = f"reach_avoid_data(safe_to_unsafe={exact(safe_to_unsafe)}, transitions={transitions}, seed={seed})"
    return Trajectories.from_episodes((both[i] for i in order), info={"source": made_by, "task": "ReachAvoid"})


def drive(
    actor: Actor, world: ReachAvoid | None = None, *, env_seeds: Iterable[int] = range(20), seed: int = 0
) -> Trajectories:
    """Whole episodes of one policy with every step, for instance to draw them.

    With the default arguments these are the episodes of `evaluate(policy, "ReachAvoid")`.

    Args:
        actor: who acts, `policy.actor` of a policy.
        world: where; None: the default one.
        env_seeds: one episode each.
        seed: of the policy's random numbers.

    Raises:
        DataError: there is no seed.
    """
    world = world or ReachAvoid()
    starts = [world.draw(np.random.default_rng(env_seed)) for env_seed in env_seeds]
    episodes = _run(world, actor, np.stack(starts), jax.random.key(seed)) if starts else ()
    return Trajectories.from_episodes(episodes, info={"source": "drive"})


def _careless(world: ReachAvoid, wanted: int, ratio: float, seed: int) -> tuple[list[Rows], float, float]:
    """The random driver's episodes with `wanted` costly steps, and how many cost-free and costly ones there are.

    Episodes are left out that cost more than is left to be had, or that would raise the ratio above the wanted one.
    """
    kept: list[Rows] = []
    free = costly = 0.0
    for episode in _episodes(world, Wanderer.make(), _careless_start, seed, 1):
        cost = float(episode["costs"].sum())
        unpaid = free + len(episode["costs"]) - cost
        if costly + cost <= wanted and unpaid <= ratio * (costly + cost):
            kept.append(episode)
            free, costly = unpaid, costly + cost
        if costly >= _ENOUGH * wanted:
            return kept, free, costly
    raise AssertionError("episodes do not end")


def _expert(world: ReachAvoid, steps: float, seed: int) -> list[Rows]:
    """The expert's arrivals without cost, with about so many steps."""
    kept: list[Rows] = []
    for episode in _episodes(replace(world, horizon=_PATIENCE), Expert.make(world), _expert_start, seed, 0):
        length = len(episode["costs"])
        if length / 2 > steps:
            return kept
        last = world.state_of(episode["next_observations"][-1])
        if not episode["costs"].any() and world.distance(last) <= world.goal_radius:
            kept.append(episode)
            steps -= length
    raise AssertionError("episodes do not end")


def _episodes(world: ReachAvoid, actor: Actor, draw: Starts, seed: int, stream: int) -> Iterator[Rows]:
    """A behaviour's episodes without end, block by block; everything is drawn from (seed, stream)."""
    generator = np.random.default_rng([seed, stream])
    while True:
        starts = np.stack([draw(world, generator) for _ in range(_BLOCK)])
        yield from _run(world, actor, starts, jax.random.key(int(generator.integers(2**31))))


def _run(world: ReachAvoid, actor: Actor, starts: Float32[np.ndarray, "n 4"], key: Key[Array, ""]) -> Iterator[Rows]:
    """One episode from each start, as the rows of a log."""
    with jax.default_matmul_precision("float32"):
        done = jax.tree.map(np.asarray, record(world, actor, starts, key))
    for number, length in enumerate(done.lengths.tolist()):
        observations = world.observe(done.states[: length + 1, number])
        ended = done.terminated[:length, number]
        yield {
            "observations": observations[:-1],
            "next_observations": observations[1:],
            "actions": done.actions[:length, number],
            "rewards": done.rewards[:length, number],
            "costs": done.costs[:length, number],
            "terminated": ended,
            "truncated": (np.arange(length) == length - 1) & ~ended,
        }


def _expert_start(world: ReachAvoid, generator: np.random.Generator) -> Float32[np.ndarray, " 4"]:
    """One of the papers' starts, or any state outside of the hazards."""
    fixed = generator.integers(4)
    if fixed < 2:
        return ReachAvoid(start=(BARS_START, FISOR_START)[fixed]).draw(generator)
    state = _anywhere(world, generator)
    while world.clearance(state) < 0:
        state = _anywhere(world, generator)
    return state


def _careless_start(world: ReachAvoid, generator: np.random.Generator) -> Float32[np.ndarray, " 4"]:
    """Any state, or any inside a hazard."""
    state = _anywhere(world, generator)
    if generator.integers(2):
        while world.clearance(state) >= 0:
            state = _anywhere(world, generator)
    return state


def _anywhere(world: ReachAvoid, generator: np.random.Generator) -> Float32[np.ndarray, " 4"]:
    """Uniform over the arena, all speeds and all headings."""
    most = np.array([world.arena, world.arena, world.top_speed, math.pi])
    return generator.uniform([-1.0, -1.0, 0.0, -1.0], 1.0).astype(np.float32) * most.astype(np.float32)


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

    @override
    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n 2"], Any]:
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

    @override
    def reset(self, n: int) -> Any:
        return jnp.full((n, 2), jnp.nan)

    @override
    def draw(self, keys: Key[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n 2"]]:

        def one(key: Key[Array, ""]) -> tuple[Float[Array, ""], Float[Array, " 2"]]:
            when, what = jax.random.split(key)
            return jax.random.uniform(when), jax.random.uniform(what, (2,), minval=-1.0, maxval=1.0)

        return jax.vmap(one)(keys)

    @override
    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n 2"], Any]:
        chance, fresh = noise
        redrawn = jnp.isnan(memory[:, 0]) | (chance < self.redraw)
        actions = jnp.where(redrawn[:, None], fresh, memory)
        return actions, actions
