"""Behaviours whose cost is known: groups of held-out episodes, and clones of them."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from safetrax.data.trajectories import Trajectories
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor, DeterministicActor, Standardised

_HIDDEN, _UPDATES, _BATCH, _RATE = (128, 128), 1500, 256, 1e-3


def alike(costs: Float[np.ndarray, " E"], returns: Float[np.ndarray, " E"], groups: int) -> list[np.ndarray]:
    """Episodes in groups of about equal size, ordered by cost, each other pair of neighbours split by return."""
    pairs = np.array_split(np.argsort(costs, kind="stable"), max(groups // 2, 1))
    if groups == 1:
        return pairs
    return [half for pair in pairs for half in np.array_split(pair[np.argsort(returns[pair], kind="stable")], 2)]


def clone(data: Trajectories, groups: list[np.ndarray], mean: np.ndarray, std: np.ndarray) -> Actor:
    """One deterministic policy for each group, behaviour cloning of its episodes; stacked `(groups, ...)`."""
    parts = [np.concatenate([np.arange(data.offsets[e], data.offsets[e + 1]) for e in group]) for group in groups]
    longest = max(map(len, parts))
    rows = jnp.asarray(np.stack([np.resize(part, longest) for part in parts]))
    counts = jnp.asarray([len(part) for part in parts])
    low, high = data.action_low, data.action_high
    states = jnp.asarray((data.observations - mean) / std, jnp.float32)
    unit = jnp.clip((jnp.asarray(data.actions) - low) * (2 / (high - low)) - 1, -1, 1)
    sizes = (data.observation_size, *_HIDDEN, data.action_size)
    optimiser = optax.adam(optax.cosine_decay_schedule(_RATE, _UPDATES))

    def fit(each: tuple[Array, Array, Key[Array, ""]]) -> MLP:
        mine, count, key = each
        network = MLP.make(key, sizes, output="tanh", dropout_rate=0.0, initialiser=kaiming_uniform)

        def update(i: Array, carry: tuple[MLP, optax.OptState]) -> tuple[MLP, optax.OptState]:
            network, state = carry
            batch = mine[jax.random.randint(jax.random.fold_in(key, i), (_BATCH,), 0, count)]
            gradient = jax.grad(lambda n: jnp.mean(jnp.square(n(states[batch]) - unit[batch])))(network)
            updates, state = optimiser.update(gradient, state)
            return optax.apply_updates(network, updates), state

        trained: MLP
        trained, _ = jax.lax.fori_loop(0, _UPDATES, update, (network, optimiser.init(network)))
        return trained

    keys = jax.random.split(jax.random.key(0), len(groups))
    networks = jax.jit(lambda: jax.lax.map(fit, (rows, counts, keys)))()
    bounds, scale = [[jnp.asarray(x, jnp.float32) for x in pair] for pair in ((low, high), (mean, std))]
    stacked: Actor = eqx.filter_vmap(lambda one: Standardised(DeterministicActor(one, *bounds), *scale))(networks)
    return stacked
