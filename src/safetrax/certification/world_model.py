"""A learned model of the world: policies are played in it, where no simulator is."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from safetrax.algorithms.learners import Learner
from safetrax.algorithms.standardisation import Standardiser
from safetrax.certification.parts import Parts
from safetrax.data.trajectories import Trajectories
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor

_MEMBERS = 4  # half of them know one half of the log
_MOVES, _OUTCOME, BATCH, _RATE = (256, 256), (128, 128), 256, 1e-3
_RESIDUALS, _NEAR, _STARTS = 8192, 512, 48


class Member(eqx.Module):
    """One of the ensemble.

    Attributes:
        moves: (s, a) to the change of s in its standard deviations, and the logit of termination.
        outcome: (s, a, change) to the logit of the cost, as a share of the greatest, and the reward.
        places: (s, a) in the half of the log that it does not know.
        residuals: by how much it got the change wrong there.
    """

    moves: MLP
    outcome: MLP
    places: Float[Array, "R d"]
    residuals: Float[Array, "R O"]


class WorldModel(eqx.Module):
    """An ensemble, of standardised observations and actions in [-1, 1].

    Attributes:
        members: stacked.
        unit: standard deviation of a step's change of each number of an observation.
        low: least of each that was logged.
        high: greatest.
        costs: least of a step, and the span to the greatest.
        rewards: mean and standard deviation of a step's.
        standardiser: of observations.
        action_low: least actions.
        action_high: greatest.
    """

    members: Member
    unit: Float[Array, " O"]
    low: Float[Array, " O"]
    high: Float[Array, " O"]
    costs: Float[Array, " 2"]
    rewards: Float[Array, " 2"]
    standardiser: Standardiser
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]

    @staticmethod
    def fit(
        data: Trajectories,
        parts: Parts,
        updates: int,
        seed: int,
    ) -> WorldModel:
        """Member m learns from the blocks of half m % 2.

        Args:
            data: the log.
            parts: of it.
            updates: gradient steps of each member.
            seed: of weights and batches.
        """
        log, states, actions = parts.log, np.asarray(parts.store.observations), np.asarray(parts.store.actions)
        halves = [
            np.concatenate([rows[log.usable[rows]] for rows, w in zip(log.blocks, half, strict=True) if w])
            for half in parts.halves
        ]
        known = np.concatenate(halves)
        change = np.zeros_like(states)
        change[:-1] = states[1:] - states[:-1]
        unit = change[known[log.goes_on[known]]].std(axis=0) + 1e-6
        cost, reward = log.targets[known].T
        costs = np.array([cost.min(), max(float(np.ptp(cost)), 1e-6)])
        rewards = np.array([reward.mean(), reward.std() + 1e-6])
        longest = max(map(len, halves))
        rows = jnp.asarray(np.stack([np.resize(half, longest) for half in halves]))
        members = _fit(
            rows,
            jnp.asarray([len(half) for half in halves]),
            jnp.asarray(np.concatenate([states, actions], axis=1)),
            jnp.asarray(change / unit, jnp.float32),
            jnp.asarray(log.goes_on),
            jnp.asarray((log.targets - [costs[0], rewards[0]]) / [costs[1], rewards[1]], jnp.float32),
            jax.random.split(jax.random.key(seed), _MEMBERS),
            jnp.asarray(updates),
        )
        single = jnp.float32
        return WorldModel(
            members=members,
            unit=jnp.asarray(unit, single),
            low=jnp.asarray(states[known].min(axis=0)),
            high=jnp.asarray(states[known].max(axis=0)),
            costs=jnp.asarray(costs, single),
            rewards=jnp.asarray(rewards, single),
            standardiser=parts.standardiser,
            action_low=jnp.asarray(data.action_low),
            action_high=jnp.asarray(data.action_high),
        )

    def play(
        self,
        actor: Actor,
        starts: Float[np.ndarray, "n O"],
        horizon: int,
        discount: float,
        seed: int,
    ) -> Float[np.ndarray, "M 2"]:
        """Mean cost and return of episodes of one policy, in the eyes of each member.

        Args:
            actor: the policy, with its own memory and noise.
            starts: standardised first observations, of which 48 are drawn.
            horizon: steps of an episode.
            discount: of costs and rewards.
            seed: of starts, noise and residuals.
        """
        drawn = np.random.default_rng(seed).choice(len(starts), _STARTS)
        return np.asarray(
            _play(self, actor, jnp.asarray(starts[drawn], jnp.float32), jax.random.key(seed), horizon, discount),
            np.float64,
        )


@jax.jit
def _fit(
    rows: Int[Array, "2 L"],
    counts: Int[Array, " 2"],
    inputs: Float[Array, "N d"],
    changes: Float[Array, "N O"],
    goes_on: Bool[Array, " N"],
    outcomes: Float[Array, "N 2"],
    keys: Key[Array, " M"],
    updates: Int[Array, ""],
) -> Member:
    size = changes.shape[1]
    optimiser = optax.adam(lambda i: _RATE * 0.5 * (1 + jnp.cos(jnp.pi * i / updates)))

    def make(key: Key[Array, ""], sizes: tuple[int, ...]) -> MLP:
        return MLP.make(key, sizes, dropout_rate=0.0, initialiser=kaiming_uniform)

    def loss(networks: tuple[MLP, MLP], batch: Int[Array, " B"]) -> Float[Array, ""]:
        moves, outcome = networks
        x, on, target = inputs[batch], goes_on[batch], outcomes[batch]
        moved = moves(x)
        change = jnp.where(on[:, None], changes[batch], jax.lax.stop_gradient(moved[:, :size]))
        told = outcome(jnp.concatenate([x, change], axis=1))
        errors = (
            jnp.mean(on[:, None] * jnp.square(moved[:, :size] - changes[batch])),
            jnp.mean(optax.sigmoid_binary_cross_entropy(moved[:, size], 1.0 - on)),
            jnp.mean(optax.sigmoid_binary_cross_entropy(told[:, 0], target[:, 0])),
            jnp.mean(jnp.square(told[:, 1] - target[:, 1])),
        )
        return sum(errors[1:], errors[0])

    def member(each: tuple[Array, Key[Array, ""]]) -> Member:
        place, key = each
        half, first, second, batches = place % 2, *jax.random.split(key, 3)
        networks = (
            make(first, (inputs.shape[1], *_MOVES, size + 1)),
            make(second, (inputs.shape[1] + size, *_OUTCOME, 2)),
        )

        def drawn(half: Array, key: Key[Array, ""], count: int) -> Int[Array, " B"]:
            return rows[half, jax.random.randint(key, (count,), 0, counts[half])]

        def update(i: Array, learner: Learner[tuple[MLP, MLP]]) -> Learner[tuple[MLP, MLP]]:
            batch = drawn(half, jax.random.fold_in(batches, i), BATCH)
            return learner.step(optimiser, lambda both: (loss(both, batch), None))[0]

        moves, outcome = jax.lax.fori_loop(0, updates, update, Learner.make(networks, optimiser)).network
        others = drawn(1 - half, key, _RESIDUALS)
        wrong = jnp.where(goes_on[others, None], changes[others] - moves(inputs[others])[:, :size], 0)
        return Member(moves, outcome, inputs[others], wrong)

    fitted: Member = jax.lax.map(member, (jnp.arange(len(keys)), keys))
    return fitted


@eqx.filter_jit
def _play(
    model: WorldModel, actor: Actor, starts: Float[Array, "n O"], key: Key[Array, ""], horizon: int, discount: float
) -> Float[Array, "M 2"]:
    n, size = starts.shape
    mean, std = model.standardiser.mean, model.standardiser.std

    def episodes(member: Member) -> Float[Array, " 2"]:
        def step(carry: Any, key: Key[Array, ""]) -> tuple[Any, None]:
            state, memory, weight, total = carry
            noise_key, wrong_key, end_key = jax.random.split(key, 3)
            noise = actor.draw(jax.random.split(noise_key, n))
            actions, memory = actor.act(memory, state * std + mean, noise)
            unit = jnp.clip((actions - model.action_low) * 2 / (model.action_high - model.action_low) - 1, -1, 1)
            moved = member.moves(x := jnp.concatenate([state, unit], axis=1))
            drawn = jax.random.randint(wrong_key, (_NEAR,), 0, len(member.residuals))
            apart = jnp.square(x[:, None] - member.places[drawn]).sum(axis=2)
            change = moved[:, :size] + member.residuals[drawn[apart.argmin(axis=1)]]
            told = member.outcome(jnp.concatenate([x, change], axis=1))
            costs = model.costs[0] + model.costs[1] * jax.nn.sigmoid(told[:, 0])
            rewards = model.rewards[0] + model.rewards[1] * told[:, 1]
            memory = actor.observe(memory, rewards, costs)
            total = total + weight[:, None] * jnp.stack([costs, rewards], axis=1)
            ends = jax.random.uniform(end_key, (n,)) < jax.nn.sigmoid(moved[:, size])
            state = jnp.clip(state + change * model.unit, model.low, model.high)
            return (state, memory, jnp.where(ends, 0, discount * weight), total), None

        carry = starts, actor.reset(n), jnp.ones(n), jnp.zeros((n, 2))
        (_, _, _, total), _ = jax.lax.scan(step, carry, jax.random.split(key, horizon))
        return total.mean(axis=0)

    found: Float[Array, "M 2"] = jax.lax.map(episodes, model.members)
    return found
