"""Proximal policy optimisation with a Lagrangian penalty: the agents whose trainings are recorded.

Schulman et al., 2017 (arXiv:1707.06347) for the clipped objective, Ray et al., 2019 ("Benchmarking Safe Exploration
in Deep Reinforcement Learning") for the penalty. Several agents are trained by one compiled program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

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


class ActorCritic(eqx.Module):
    """What is learned: the mean of the actions, their spread, and the values of reward and cost."""

    mean: MLP
    log_std: Float[Array, " A"]
    reward_value: MLP
    cost_value: MLP


class Agent(eqx.Module):
    """Everything that an agent needs to go on. With several agents, every leaf has a leading axis `P`."""

    learner: ActorCritic
    optimiser: Any
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
        learner = ActorCritic(mean, spread, net(keys[1], 1), net(keys[2], 1))
        return Agent(learner, optimiser(settings).init(learner), Scale.make(observation_size))


class Batch(NamedTuple):
    """The steps of an iteration, `N` per agent."""

    observations: Float[Array, "P N O"]
    actions: Float[Array, "P N A"]
    advantages: Float[Array, "P N"]
    reward_targets: Float[Array, "P N"]
    cost_targets: Float[Array, "P N"]


def optimiser(settings: PPO) -> optax.GradientTransformation:
    """Adam behind a clip of the gradient's norm."""
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(settings.learning_rate, eps=1e-5))


@jax.jit
def act(
    agents: Agent, observations: Float[Array, "P n O"], place: Int[Array | np.ndarray, " three"]
) -> Float[Array, "P n A"]:
    """Actions drawn from the agents' policies; not cut to any bounds. `place` of the key: seed, rollout, step."""

    def one(agent: Agent, rows: Float[Array, "n O"], key: Key[Array, ""]) -> Float[Array, "n A"]:
        mean = agent.learner.mean(agent.scale.apply(rows))
        return mean + jnp.exp(agent.learner.log_std) * jax.random.normal(key, mean.shape)

    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(place[0]), place[1]), place[2])
    keys = jax.random.split(key, observations.shape[0])
    return jax.vmap(one)(agents, observations, keys)


@jax.jit
def values(agents: Agent, observations: Float[Array, "P n O"]) -> Float[Array, "2 P n"]:
    """Reward and cost values, in the scaled units that the value networks learn."""

    def one(agent: Agent, rows: Float[Array, "n O"]) -> Float[Array, "2 n"]:
        rows = agent.scale.apply(rows)
        return jnp.stack([agent.learner.reward_value(rows)[:, 0], agent.learner.cost_value(rows)[:, 0]])

    return jnp.moveaxis(jax.vmap(one)(agents, observations), 0, 1)


@jax.jit
def rescale(agents: Agent, observations: Float[Array, "P n O"]) -> Agent:
    """The agents with these observations in their running scales."""
    return Agent(agents.learner, agents.optimiser, jax.vmap(Scale.after)(agents.scale, observations))


def _log_likelihood(
    learner: ActorCritic, observations: Float[Array, "n O"], actions: Float[Array, "n A"]
) -> Float[Array, " n"]:
    spread = learner.log_std
    z = (actions - learner.mean(observations)) * jnp.exp(-spread)
    return -(0.5 * z**2 + spread + 0.5 * jnp.log(2 * jnp.pi)).sum(-1)


@eqx.filter_jit
def improve(agents: Agent, batch: Batch, order: Int[Array, "P M m"], settings: PPO) -> Agent:
    """One iteration's updates on minibatches of the rows in `order`."""
    update = optimiser(settings).update

    def loss(learner: ActorCritic, rows: Batch, old: Float[Array, " m"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        log_ratio = _log_likelihood(learner, rows.observations, rows.actions) - old
        policy = -clipped_objective(log_ratio, rows.advantages, settings.clip).mean()
        kl = (jnp.expm1(log_ratio) - log_ratio).mean()
        reward_error = learner.reward_value(rows.observations)[:, 0] - rows.reward_targets
        cost_error = learner.cost_value(rows.observations)[:, 0] - rows.cost_targets
        value = 0.5 * (reward_error**2).mean() + 0.5 * (cost_error**2).mean()
        return policy + value - settings.entropy * learner.log_std.sum(), kl

    def one(agent_batch_order: tuple[Agent, Batch, Int[Array, "M m"]]) -> Agent:
        agent, steps, rows_of = agent_batch_order
        steps = steps._replace(observations=agent.scale.apply(steps.observations))
        old = _log_likelihood(agent.learner, steps.observations, steps.actions)

        def update_once(
            carry: tuple[ActorCritic, Any, Array], rows: Int[Array, " m"]
        ) -> tuple[tuple[ActorCritic, Any, Array], None]:
            return jax.lax.cond(carry[2], lambda carry, rows: carry, step_once, carry, rows), None

        def step_once(
            carry: tuple[ActorCritic, Any, Array], rows: Int[Array, " m"]
        ) -> tuple[ActorCritic, Any, Array]:
            learner, state, _ = carry
            minibatch = jax.tree.map(lambda column: column[rows], steps)
            (_, kl), gradient = jax.value_and_grad(loss, has_aux=True)(learner, minibatch, old[rows])
            change, state = update(gradient, state, learner)
            learner = optax.apply_updates(learner, change)
            learner = eqx.tree_at(lambda m: m.log_std, learner, jnp.clip(learner.log_std, *_LOG_STD_RANGE))
            return learner, state, kl > settings.target_kl

        start = agent.learner, agent.optimiser, jnp.zeros((), bool)
        (learner, state, _), _ = jax.lax.scan(update_once, start, rows_of)
        return Agent(learner, state, agent.scale)

    improved: Agent = jax.lax.map(one, (agents, batch, order))
    return improved


def clipped_objective(
    log_ratio: Float[Array, " n"], advantages: Float[Array, " n"], clip: float
) -> Float[Array, " n"]:
    """min(r A, clip(r, 1 - c, 1 + c) A), to be maximised (Eq. 7 of Schulman et al., 2017, arXiv:1707.06347)."""
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - clip, 1 + clip) * advantages)


def advantage_estimates(
    rewards: Float[np.ndarray, "E T"],
    values: Float[np.ndarray, "E T1"],
    lengths: Int[np.ndarray, " E"],
    terminated: np.ndarray,
    discount: float,
    trace: float,
) -> Float[np.ndarray, "E T"]:
    """Generalised advantage estimates of whole episodes, which are padded to one length.

    Eqs. 11-16 of Schulman et al., 2016 (arXiv:1506.02438). A truncated episode goes on after its last step, with the
    value of the observation there; a terminated one does not.

    Args:
        rewards: of every step; those after an episode's end are not used.
        values: of every observation, `T + 1` of them.
        lengths: steps of each episode.
        terminated: bool `(E,)`.
        discount: gamma.
        trace: lambda.
    """
    episodes, steps = rewards.shape
    at = np.arange(steps)
    inside = at < lengths[:, None]
    values = values.copy()
    values[np.flatnonzero(terminated), lengths[terminated]] = 0.0
    errors = np.where(inside, rewards + discount * values[:, 1:] - values[:, :-1], 0.0)
    advantages = np.zeros((episodes, steps + 1), np.float32)
    for t in range(steps - 1, -1, -1):
        advantages[:, t] = errors[:, t] + discount * trace * advantages[:, t + 1]
    return advantages[:, :-1]
