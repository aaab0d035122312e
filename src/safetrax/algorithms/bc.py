"""Behaviour cloning, on all episodes or on the safe ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, keep_state
from safetrax.algorithms.policies import ActionBounds, policy_network
from safetrax.data.segments import within_limit
from safetrax.data.store import Store, TransitionIndex
from safetrax.data.trajectories import Trajectories
from safetrax.errors import DataError
from safetrax.nets.actors import Actor
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.settings import require


class BCState(eqx.Module):
    """Network, optimiser and bounds."""

    network: MLP
    optimiser: optax.OptState
    bounds: ActionBounds


@dataclass(frozen=True)
class BC(Algorithm):
    """Behaviour cloning: minimise the mean squared error between the policy's and the logged actions.

    The baselines BC-All and BC-Safe of DSRL and OSRL (Liu et al., 2024, arXiv:2306.09303), with OSRL's sizes and
    rates.

    Deviations: transitions after the last complete episode are dropped (OSRL counts them as safe).

    Metrics: `loss`, the squared error averaged over batch and action dimensions.
    """

    mode: Literal["all", "safe"] = "all"
    """"all": every episode. "safe": episodes whose cost return is within the limit, one policy per limit."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of each hidden layer."""
    updates: int = 100_000
    """Gradient steps."""
    batch_size: int = 512
    """Transitions per batch, uniform with replacement."""
    learning_rate: float = 1e-3
    """Adam's step size."""

    def __post_init__(self) -> None:
        require(self.mode in ("all", "safe"), "mode", self.mode, "be 'all' or 'safe'")
        require(self.updates >= 0, "updates", self.updates, "not be negative")
        require(self.batch_size > 0, "batch_size", self.batch_size, "be positive")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "be positive")

    @property
    def name(self) -> str:
        """BC-All or BC-Safe."""
        return f"BC-{self.mode.capitalize()}"

    @property
    def uses_cost_limit(self) -> bool:
        """Only the safe mode selects by cost."""
        return self.mode == "safe"

    @classmethod
    def preset(cls, suite: str, task: str | None = None) -> BC:
        """OSRL's schedule: twice as many updates on MetaDrive."""
        return cls(updates=200_000 if suite == "metadrive" else 100_000)

    def index(self, trajectories: Trajectories, cost_limit: float) -> TransitionIndex:
        """The transitions of the selected episodes."""
        selected = np.ones(trajectories.num_episodes, bool)
        if self.mode == "safe":
            costs = trajectories.cost_returns
            selected = within_limit(costs, cost_limit)
            if not selected.any():
                raise DataError(
                    f"no episode meets the cost limit {cost_limit:g}: the cheapest costs {costs.min():g}; "
                    "raise the limit or add safe episodes."
                )
        return TransitionIndex.make(trajectories, selected)

    def init(self, key: Key[Array, ""], spec: Spec) -> BCState:
        """PyTorch's default initialisation, as in OSRL."""
        network = policy_network(key, spec, self.hidden, dropout=0.0, initialiser=kaiming_uniform)
        return BCState(network, self._optimiser().init(network), ActionBounds.of(spec))

    def stages(self) -> tuple[Stage, ...]:
        """One."""
        return (Stage("clone", self.updates, keep_state, self._update),)

    def actor(self, state: BCState) -> Actor:
        """The network."""
        return state.bounds.actor(state.network)

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _update(
        self, state: BCState, store: Store, index: TransitionIndex, key: Key[Array, ""]
    ) -> tuple[BCState, Metrics]:
        rows = index.sample(key, self.batch_size)

        def loss(network: MLP) -> jax.Array:
            return jnp.mean(jnp.square(network(store.observations[rows]) - store.actions[rows]))

        value, gradient = jax.value_and_grad(loss)(state.network)
        updates, optimiser = self._optimiser().update(gradient, state.optimiser)
        network = optax.apply_updates(state.network, updates)
        return BCState(network, optimiser, state.bounds), {"loss": value}
