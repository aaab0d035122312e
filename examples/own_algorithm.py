"""An algorithm of one's own: clone the episodes within the limit, the better ones more.

In a package, an entry point gives it a word, with `safetrax train`, `--help`, `benchmark` and reports like our own:

    [project.entry-points."safetrax.algorithms"]
    weighted-bc = "own_algorithm:WeightedBC"
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax

from safetrax.algorithms import Algorithm
from safetrax.algorithms.learners import ActionBounds, Learner, policy_network
from safetrax.data.segments import within_limit
from safetrax.data.store import TransitionIndex
from safetrax.nets.mlp import kaiming_uniform
from safetrax.settings import Count, NonNegative, Positive, Whole


@dataclass(frozen=True)
class WeightedBC(Algorithm):
    """Cloning of the episodes within the cost limit, those of high return more."""

    sharpness: NonNegative = 3.0
    """The best episode counts exp(sharpness) times as much as the worst; 0: all count alike."""
    updates: Whole = 10_000
    """Gradient steps."""
    batch_size: Count = 512
    """Transitions per batch."""
    learning_rate: Positive = 1e-3
    """Adam's step size."""

    def index(self, trajectories, cost_limit):  # on the host, once per limit: what to draw, and each episode's weight
        safe = within_limit(trajectories.cost_returns, cost_limit)
        transitions, returns = TransitionIndex.make(trajectories, safe), trajectories.returns
        gap = (returns[safe].max() - returns) / max(np.ptp(returns[safe]), 1e-9)
        return transitions, jnp.asarray(np.exp(-self.sharpness * np.clip(gap, 0.0, 1.0)), jnp.float32)

    def init(self, key, spec):  # the state: any tree of arrays
        network = policy_network(key, spec, (256, 256), dropout=0.0, initialiser=kaiming_uniform)
        return Learner.make(network, optax.adam(self.learning_rate)), ActionBounds.of(spec)

    def actor(self, state):  # what is deployed
        policy, bounds = state
        return bounds.actor(policy.network)

    def _update(self, state, store, index, key):  # one gradient step; a compiled program repeats it
        (policy, bounds), (transitions, weights) = state, index
        rows = transitions.sample(key, self.batch_size)
        weight = weights[jnp.searchsorted(store.offsets, rows, side="right") - 1]

        def loss(network):
            error = jnp.mean(jnp.square(network(store.observations[rows]) - store.actions[rows]), axis=-1)
            return jnp.sum(weight * error) / jnp.sum(weight), jnp.mean(error)

        policy, fit = policy.step(optax.adam(self.learning_rate), loss)
        return (policy, bounds), {"loss": fit.loss, "error": fit.extra}
