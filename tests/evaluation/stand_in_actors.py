"""Small actors whose episodes are easy to check. Not a test file: shared by those of this folder."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from safetrax.nets.mlp import MLP
from safetrax.policies.actor import Actor, DeterministicActor
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId


class Noisy(Actor):
    """Actions around a mean: `mean` plus a half times noise from its own key."""

    mean: Float[Array, " A"]

    def draw(self, keys: Key[Array, " n"]) -> Float[Array, "n A"]:
        return jax.vmap(lambda key: jax.random.uniform(key, self.mean.shape, minval=-0.5, maxval=0.5))(keys)

    def act(
        self, memory: Any, observations: Float[Array, "n O"], noise: Float[Array, "n A"]
    ) -> tuple[Float[Array, "n A"], Any]:
        return self.mean + noise, memory


class Diary(Actor):
    """Acts by what it has observed: pushes with `push`, and steers by its sums of rewards and costs."""

    push: Float[Array, ""]

    def reset(self, n: int) -> Any:
        return {"sums": jnp.zeros((n, 2)), "steps": jnp.zeros(n, jnp.int32)}

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n A"], Any]:
        rewards, costs = memory["sums"].T
        sideways = 0.4 * jnp.sin(rewards / 50 + costs + memory["steps"])
        forward = jnp.full(len(observations), self.push)
        return jnp.stack([forward, sideways], axis=1), {**memory, "steps": memory["steps"] + 1}

    def observe(self, memory: Any, rewards: Float[Array, " n"], costs: Float[Array, " n"]) -> Any:
        return {**memory, "sums": memory["sums"] + jnp.stack([rewards, costs], axis=1)}


def network_policy(seed: int, *, observation_size: int = 7, action_size: int = 2, limit: float = 10.0) -> Policy:
    """An untrained tanh network."""
    network = MLP.make(jax.random.key(seed), (observation_size, 32, 32, action_size), output="tanh")
    bound = jnp.ones(action_size)
    return Policy(DeterministicActor(network, -bound, bound), RunId("Net", "BallRun", limit, seed))


def as_policy(actor: Actor, seed: int = 0) -> Policy:
    """A policy around any actor, of an algorithm that ignores the limit."""
    return Policy(actor, RunId(type(actor).__name__, None, None, seed))
