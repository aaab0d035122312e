"""Proximal policy optimisation with a Lagrangian penalty: the agents whose trainings are recorded.

Schulman et al., 2017 (arXiv:1707.06347) for the clipped objective, Ray et al., 2019 ("Benchmarking Safe Exploration
in Deep Reinforcement Learning") for the penalty. Several agents are trained by one compiled program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from safetrax.algorithms.learners import Learner
from safetrax.losses.likelihood import gaussian_log_prob
from safetrax.losses.policy_gradient import clipped_objective
from safetrax.nets.mlp import MLP, orthogonal

_LOG_STD_RANGE = (-3.0, 0.5)
_OBSERVATION_CLIP = 10.0  # standard deviations


@dataclass(frozen=True)
class PPO:
    """Settings of an agent.

    Attributes:
        hidden: units of the hidden layers.
        learning_rate: of Adam.
        discount: gamma, of rewards and costs.
        trace: lambda of the generalised advantage estimates.
        clip: of the ratio of probabilities.
        epochs: passes over the steps of an iteration.
        minibatch: steps per update.
        iteration_steps: steps of each agent between its updates, at the least; never less than eight episodes.
        target_kl: once the policy has moved so far, the rest of an iteration's updates is left out.
        entropy: weight of the entropy bonus.
        initial_std: standard deviation of the untrained policy's actions.
    """

    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 5e-4
    discount: float = 0.99
    trace: float = 0.95
    clip: float = 0.2
    epochs: int = 8
    minibatch: int = 1024
    iteration_steps: int = 6400
    target_kl: float = 0.02
    entropy: float = 0.0
    initial_std: float = 0.6


class Scale(eqx.Module):
    """Running mean and variance of vectors `(K,)`; `count` rows went in."""

    count: Float[Array, ""]
    mean: Float[Array, " K"]
    variance: Float[Array, " K"]

    @staticmethod
    def make(size: int) -> Scale:
        """Mean 0 and variance 1, out of nothing."""
        return Scale(jnp.zeros(()), jnp.zeros(size), jnp.ones(size))

    def after(self, rows: Float[Array, "n K"]) -> Scale:
        """The scale of the rows so far and these (Chan et al., 1983)."""
        n = rows.shape[0]
        total = self.count + n
        shift = rows.mean(0) - self.mean
        squares = self.variance * self.count + rows.var(0) * n + shift**2 * self.count * n / total
        return Scale(total, self.mean + shift * n / total, squares / total)

    def apply(self, rows: Float[Array, "*n K"]) -> Float[Array, "*n K"]:
        """Rows of mean 0 and variance 1, cut at ten standard deviations."""
        scaled = (rows - self.mean) / jnp.sqrt(self.variance + 1e-6)
        return jnp.clip(scaled, -_OBSERVATION_CLIP, _OBSERVATION_CLIP)


class Networks(eqx.Module):
    """What is learned: the mean of the actions, their spread, and the values of reward and cost."""

    mean: MLP
    log_std: Float[Array, " A"]
    reward_value: MLP
    cost_value: MLP


class Agent(eqx.Module):
    """Everything that an agent needs to go on. With several agents, every leaf has a leading axis `P`."""

    learner: Learner[Networks]
    scale: Scale

    @staticmethod
    def make(key: Key[Array, ""], observation_size: int, action_size: int, settings: PPO) -> Agent:
        """An untrained one."""
        keys = jax.random.split(key, 3)

        def net(key: Key[Array, ""], outputs: int) -> MLP:
            return MLP.make(key, (observation_size, *settings.hidden, outputs), initialiser=orthogonal)

        mean = net(keys[0], action_size)
        mean = eqx.tree_at(lambda m: m.weights[-1], mean, mean.weights[-1] * 0.01)
        spread = jnp.full(action_size, np.log(settings.initial_std), jnp.float32)
        networks = Networks(mean, spread, net(keys[1], 1), net(keys[2], 1))
        return Agent(Learner.make(networks, optimiser(settings)), Scale.make(observation_size))


class Batch(NamedTuple):
    """The steps of an iteration, `N` per agent."""

    observations: Float[Array, "P N O"]
    actions: Float[Array, "P N A"]
    advantages: Float[Array, "P N"]
    reward_targets: Float[Array, "P N"]
    cost_targets: Float[Array, "P N"]


_Carry = tuple[Learner[Networks], Array]  # and whether its policy has moved far enough


def optimiser(settings: PPO) -> optax.GradientTransformation:
    """Adam behind a clip of the gradient's norm."""
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(settings.learning_rate, eps=1e-5))


@jax.jit
def act(
    agents: Agent, observations: Float[Array, "P n O"], place: Int[Array | np.ndarray, " three"]
) -> Float[Array, "P n A"]:
    """Actions drawn from the agents' policies; not cut to any bounds. `place` of the key: seed, rollout, step."""

    def one(agent: Agent, rows: Float[Array, "n O"], key: Key[Array, ""]) -> Float[Array, "n A"]:
        networks = agent.learner.network
        mean = networks.mean(agent.scale.apply(rows))
        return mean + jnp.exp(networks.log_std) * jax.random.normal(key, mean.shape)

    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(place[0]), place[1]), place[2])
    keys = jax.random.split(key, observations.shape[0])
    return jax.vmap(one)(agents, observations, keys)


@jax.jit
def values(agents: Agent, observations: Float[Array, "P n O"]) -> Float[Array, "2 P n"]:
    """Reward and cost values, in the scaled units that the value networks learn."""

    def one(agent: Agent, rows: Float[Array, "n O"]) -> Float[Array, "2 n"]:
        rows, networks = agent.scale.apply(rows), agent.learner.network
        return jnp.stack([networks.reward_value(rows)[:, 0], networks.cost_value(rows)[:, 0]])

    return jnp.moveaxis(jax.vmap(one)(agents, observations), 0, 1)


@jax.jit
def rescale(agents: Agent, observations: Float[Array, "P n O"]) -> Agent:
    """The agents with these observations in their running scales."""
    return Agent(agents.learner, jax.vmap(Scale.after)(agents.scale, observations))


def _log_likelihood(
    networks: Networks, observations: Float[Array, "n O"], actions: Float[Array, "n A"]
) -> Float[Array, " n"]:
    return gaussian_log_prob(actions, networks.mean(observations), networks.log_std)


@eqx.filter_jit
def improve(agents: Agent, batch: Batch, order: Int[Array, "P M m"], settings: PPO) -> Agent:
    """One iteration's updates on minibatches of the rows in `order`."""

    def loss(networks: Networks, rows: Batch, old: Float[Array, " m"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        log_ratio = _log_likelihood(networks, rows.observations, rows.actions) - old
        policy = -clipped_objective(log_ratio, rows.advantages, settings.clip).mean()
        kl = (jnp.expm1(log_ratio) - log_ratio).mean()
        reward_error = networks.reward_value(rows.observations)[:, 0] - rows.reward_targets
        cost_error = networks.cost_value(rows.observations)[:, 0] - rows.cost_targets
        value = 0.5 * (reward_error**2).mean() + 0.5 * (cost_error**2).mean()
        return policy + value - settings.entropy * networks.log_std.sum(), kl

    def one(agent_batch_order: tuple[Agent, Batch, Int[Array, "M m"]]) -> Agent:
        agent, steps, rows_of = agent_batch_order
        steps = steps._replace(observations=agent.scale.apply(steps.observations))
        old = _log_likelihood(agent.learner.network, steps.observations, steps.actions)

        def update_once(carry: _Carry, rows: Int[Array, " m"]) -> tuple[_Carry, None]:
            return jax.lax.cond(carry[1], lambda carry, rows: carry, step_once, carry, rows), None

        def step_once(carry: _Carry, rows: Int[Array, " m"]) -> _Carry:
            minibatch = jax.tree.map(lambda column: column[rows], steps)
            learner, fit = carry[0].step(optimiser(settings), lambda networks: loss(networks, minibatch, old[rows]))
            spread = jnp.clip(learner.network.log_std, *_LOG_STD_RANGE)
            return eqx.tree_at(lambda each: each.network.log_std, learner, spread), fit.extra > settings.target_kl

        (learner, _), _ = jax.lax.scan(update_once, (agent.learner, jnp.zeros((), bool)), rows_of)
        return Agent(learner, agent.scale)

    improved: Agent = jax.lax.map(one, (agents, batch, order))
    return improved
