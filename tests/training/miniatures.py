"""Three small algorithms that need more of the contract than TraC does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from safetrax.algorithms.base import Algorithm, Spec, Stage, keep_state
from safetrax.algorithms.learners import ActionBounds, policy_network
from safetrax.data.segments import within_limit
from safetrax.data.store import TransitionIndex
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.nets.saving import saveable
from safetrax.policies.actor import Actor

OPTIMISER = optax.adam(1e-3)


def descend(loss, parameters, optimiser):
    value, gradient = jax.value_and_grad(loss)(parameters)
    updates, optimiser = OPTIMISER.update(gradient, optimiser)
    return optax.apply_updates(parameters, updates), optimiser, value


# 1. A twin critic with target networks, over all transition fields


class TwinCriticState(eqx.Module):
    policy: MLP
    critics: MLP  # two, stacked
    targets: MLP
    policy_optimiser: optax.OptState
    critic_optimiser: optax.OptState
    bounds: ActionBounds


@dataclass(frozen=True)
class TwinCritic(Algorithm):
    fields: ClassVar = ("observations", "actions", "rewards", "terminated", "next_observations")
    updates: int = 6

    @property
    def uses_cost_limit(self):
        return False

    def index(self, trajectories, cost_limit):
        return TransitionIndex.make(trajectories, np.ones(trajectories.num_episodes, bool))

    def init(self, key, spec: Spec):
        policy_key, critic_key = jax.random.split(key)
        policy = policy_network(policy_key, spec, (16,), dropout=0.0, initialiser=kaiming_uniform)
        sizes = (spec.observation_size + spec.action_size, 16, 1)
        critics = jax.vmap(lambda k: MLP.make(k, sizes))(jax.random.split(critic_key))
        return TwinCriticState(
            policy, critics, critics, OPTIMISER.init(policy), OPTIMISER.init(critics), ActionBounds.of(spec)
        )

    def stages(self):
        return (Stage("learn", self.updates, keep_state, self._update),)

    def actor(self, state):
        return state.bounds.actor(state.policy)

    def _update(self, state, store, index, key):
        rows = index.sample(key, 32)
        s, a, s1 = store.observations[rows], store.actions[rows], store.next_observations[rows]

        def q(critics, s, a):
            return jax.vmap(lambda critic: critic(jnp.concatenate([s, a], -1))[:, 0])(critics)

        target = store.rewards[rows] + 0.99 * ~store.terminated[rows] * q(state.targets, s1, state.policy(s1)).min(0)
        critics, critic_optimiser, critic_loss = descend(
            lambda c: jnp.mean(jnp.square(q(c, s, a) - target)), state.critics, state.critic_optimiser
        )
        policy, policy_optimiser, policy_loss = descend(
            lambda p: -jnp.mean(q(critics, s, p(s)).min(0)), state.policy, state.policy_optimiser
        )
        targets = jax.tree.map(lambda old, new: 0.995 * old + 0.005 * new, state.targets, critics)
        metrics = {"critic_loss": critic_loss, "policy_loss": policy_loss}
        return TwinCriticState(policy, critics, targets, policy_optimiser, critic_optimiser, state.bounds), metrics


# 2. An actor with a context window that rewards and costs are fed to


@saveable
class ContextActor(Actor):
    network: MLP
    window: int = eqx.field(static=True)

    def reset(self, n):
        return {"rewards": jnp.zeros((n, self.window)), "costs": jnp.zeros((n, self.window))}

    def act(self, memory, observations, noise):
        return self.network(jnp.concatenate([observations, memory["rewards"], memory["costs"]], -1)), memory

    def observe(self, memory, rewards, costs):
        def push(past, new):
            return jnp.concatenate([past[:, 1:], new[:, None]], -1)

        return {"rewards": push(memory["rewards"], rewards), "costs": push(memory["costs"], costs)}


class ContextState(eqx.Module):
    network: MLP
    optimiser: optax.OptState


@dataclass(frozen=True)
class ContextCloning(Algorithm):
    fields: ClassVar = ("observations", "actions", "rewards", "costs")
    updates: int = 6
    window: int = 3

    def index(self, trajectories, cost_limit):
        return TransitionIndex.make(trajectories, within_limit(trajectories.cost_returns, cost_limit))

    def init(self, key, spec: Spec):
        network = MLP.make(key, (spec.observation_size + 2 * self.window, 16, spec.action_size), output="tanh")
        return ContextState(network, OPTIMISER.init(network))

    def stages(self):
        return (Stage("clone", self.updates, keep_state, self._update),)

    def actor(self, state):
        return ContextActor(state.network, self.window)

    def _update(self, state, store, index, key):
        rows = index.sample(key, 32)
        start = store.offsets[jnp.searchsorted(store.offsets, rows, side="right") - 1]
        past = rows[:, None] - jnp.arange(self.window, 0, -1)
        seen = past >= start[:, None]
        context = [jnp.where(seen, x[past], 0.0) for x in (store.rewards, store.costs)]
        inputs = jnp.concatenate([store.observations[rows], *context], -1)
        network, optimiser, loss = descend(
            lambda n: jnp.mean(jnp.square(n(inputs) - store.actions[rows])), state.network, state.optimiser
        )
        return ContextState(network, optimiser), {"loss": loss}


# 3. Three stages; the last one's data are generated when it begins


class GeneratorState(eqx.Module):
    generator: MLP
    policy: MLP
    optimiser: optax.OptState
    bounds: ActionBounds
    made: Any  # (rows, O + A) from the third stage on


@dataclass(frozen=True)
class ThreeStages(Algorithm):
    fields: ClassVar = ("observations", "actions")
    updates: int = 4
    rows: int = 64

    def index(self, trajectories, cost_limit):
        return TransitionIndex.make(trajectories, within_limit(trajectories.cost_returns, cost_limit))

    def init(self, key, spec: Spec):
        a, b = jax.random.split(key)
        generator = MLP.make(a, (spec.observation_size, 16, spec.action_size), output="tanh")
        policy = policy_network(b, spec, (16,), dropout=0.0, initialiser=kaiming_uniform)
        return GeneratorState(generator, policy, OPTIMISER.init(generator), ActionBounds.of(spec), None)

    def stages(self):
        return (
            Stage("model", self.updates, keep_state, self._fit("generator")),
            Stage("policy", 2 * self.updates, self._restart, self._fit("policy")),
            Stage("refine", self.updates, self._generate, self._refine),
        )

    def actor(self, state):
        return state.bounds.actor(state.policy)

    def _fit(self, which):
        def update(state, store, index, key):
            rows = index.sample(key, 32)

            def loss(network):
                return jnp.mean(jnp.square(network(store.observations[rows]) - store.actions[rows]))

            network, optimiser, value = descend(loss, getattr(state, which), state.optimiser)
            state = eqx.tree_at(lambda s: (getattr(s, which), s.optimiser), state, (network, optimiser))
            return state, {f"{which}_loss": value}

        return update

    def _restart(self, state, store, index, key):
        return eqx.tree_at(lambda s: s.optimiser, state, OPTIMISER.init(state.policy))

    def _generate(self, state, store, index, key):
        observations = store.observations[index.sample(key, self.rows)]
        made = jnp.concatenate([observations, state.generator(observations)], -1)
        return GeneratorState(state.generator, state.policy, OPTIMISER.init(state.policy), state.bounds, made)

    def _refine(self, state, store, index, key):
        width = store.observations.shape[1]
        batch = state.made[jax.random.randint(key, (16,), 0, self.rows)]

        def loss(policy):
            return jnp.mean(jnp.square(policy(batch[:, :width]) - batch[:, width:]))

        policy, optimiser, value = descend(loss, state.policy, state.optimiser)
        return GeneratorState(state.generator, policy, optimiser, state.bounds, state.made), {"refine_loss": value}


ALL = (TwinCritic(), ContextCloning(), ThreeStages())
