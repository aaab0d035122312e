"""Data sets of the reach-avoid world: an expert's episodes and a random driver's, in a ratio of one's choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Array, Float32, Key

from safetrax.data.trajectories import Trajectories
from safetrax.envs.reach_avoid.behaviours import Expert, Wanderer
from safetrax.envs.reach_avoid.rollout import record
from safetrax.envs.reach_avoid.world import BARS_START, FISOR_START, ReachAvoid
from safetrax.errors import ConfigError
from safetrax.files import exact
from safetrax.policies.actor import Actor

_LEAST_RATIO, _LEAST_TRANSITIONS, _LEAST_COSTLY = 1.0, 1000, 10
_ENOUGH = 0.95  # of the costly steps asked for: what the next episodes cost may not fit into the rest
_PATIENCE = 150  # steps after which an expert's episode would not be kept anyway
_BLOCK = 64  # episodes that are run at once

Episode = dict[str, np.ndarray]
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
    _check(safe_to_unsafe, transitions, seed)
    world = ReachAvoid()
    careless, free, costly = _careless(world, _costly(safe_to_unsafe, transitions), safe_to_unsafe, seed)
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


def _check(safe_to_unsafe: float, transitions: int, seed: int) -> None:
    if not _LEAST_RATIO <= safe_to_unsafe < math.inf:
        raise ConfigError(f"safe_to_unsafe is {safe_to_unsafe:g}, but must be a number of at least {_LEAST_RATIO:g}.")
    if transitions < _LEAST_TRANSITIONS:
        raise ConfigError(f"transitions is {transitions}, but must be at least {_LEAST_TRANSITIONS}.")
    if _costly(safe_to_unsafe, transitions) < _LEAST_COSTLY:
        raise ConfigError(
            f"{transitions} transitions at a safe_to_unsafe of {safe_to_unsafe:g} would have fewer than "
            f"{_LEAST_COSTLY} costly ones; ask for more transitions or a lower ratio."
        )
    if seed < 0:
        raise ConfigError(f"seed is {seed}, but must be at least 0.")


def _costly(safe_to_unsafe: float, transitions: int) -> int:
    """Costly steps asked for."""
    return round(transitions / (1 + safe_to_unsafe))


def _careless(world: ReachAvoid, wanted: int, ratio: float, seed: int) -> tuple[list[Episode], float, float]:
    """The random driver's episodes with `wanted` costly steps, and how many cost-free and costly ones there are.

    Episodes are left out that cost more than is left to be had, or that would raise the ratio above the wanted one.
    """
    kept: list[Episode] = []
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


def _expert(world: ReachAvoid, steps: float, seed: int) -> list[Episode]:
    """The expert's arrivals without cost, with about so many steps."""
    kept: list[Episode] = []
    for episode in _episodes(replace(world, horizon=_PATIENCE), Expert.make(world), _expert_start, seed, 0):
        length = len(episode["costs"])
        if length / 2 > steps:
            return kept
        last = world.state_of(episode["next_observations"][-1])
        if not episode["costs"].any() and world.distance(last) <= world.goal_radius:
            kept.append(episode)
            steps -= length
    raise AssertionError("episodes do not end")


def _episodes(world: ReachAvoid, actor: Actor, draw: Starts, seed: int, stream: int) -> Iterator[Episode]:
    """A behaviour's episodes without end, block by block; everything is drawn from (seed, stream)."""
    generator = np.random.default_rng([seed, stream])
    while True:
        starts = np.stack([draw(world, generator) for _ in range(_BLOCK)])
        yield from _run(world, actor, starts, jax.random.key(int(generator.integers(2**31))))


def _run(
    world: ReachAvoid, actor: Actor, starts: Float32[np.ndarray, "n 4"], key: Key[Array, ""]
) -> Iterator[Episode]:
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
