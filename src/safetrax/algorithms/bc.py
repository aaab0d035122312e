"""Behaviour cloning: of all episodes, of those that lie right in cost and return, or conditioned on the cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import LITTLE, Metrics, Spec, Stage, Usage, Variant
from safetrax.algorithms.label_source import FromLabels
from safetrax.algorithms.learners import ActionBounds, Learner, policy_network
from safetrax.algorithms.standardisation import Standardiser
from safetrax.data.filters.base import Selection
from safetrax.data.filters.frontier import Frontier
from safetrax.data.filters.selections import Boundary, Labelled, Risky, Safe
from safetrax.data.store import Store, TransitionIndex
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.losses.likelihood import categorical_log_prob
from safetrax.nets.mlp import LOGITS, MLP, kaiming_uniform
from safetrax.policies.actor import Actor
from safetrax.policies.conditioned import ConditionedActor, with_cost
from safetrax.settings import Count, Positive, Whole

Mode = Literal["all", "safe", "risky", "boundary", "frontier", "conditioned"]

_PER_LIMIT: dict[str, Callable[[float], Selection]] = {"safe": Safe, "risky": Risky, "boundary": Boundary}


class BCState(eqx.Module):
    """The policy that is trained, the action bounds, and through what it sees costs; None: as they are."""

    learner: Learner[MLP]
    bounds: ActionBounds
    costs: Standardiser | None


class BCIndex(eqx.Module):
    """What may be drawn; of a conditioned policy also every episode's cost return."""

    transitions: TransitionIndex  # those of the selected episodes
    cost_returns: Float[Array, " E"] | None
    costs: Standardiser | None  # statistics of the cost returns, where they are standardised like observations


@dataclass(frozen=True)
class BC(FromLabels):
    """Behaviour cloning: minimise the mean squared error between the policy's and the logged actions.

    The baselines BC-All, BC-Safe, BC-Risky, BC-Boundary, BC-Frontier and, as BC-Conditioned, the one that the code
    calls "multi-task" (Liu et al., 2024, arXiv:2306.09303, and its code, OSRL), with OSRL's sizes and rates. The
    modes select episodes exactly as the filters of those names do, see `safetrax.data.filters`.

    BC-Conditioned clones every episode and sees the cost return of the episode, undiscounted and, on known tasks, not
    scaled, as one more number of the observation. The deployed policy is given the limit in its place; one training
    serves every limit, and `policy.adjusted(cost_limit=30)` gives another one.

    From labels (`label_source`) BC-Safe clones the episodes that are marked safe: the demonstrations.

    Deviations: transitions after the last complete episode are dropped (OSRL counts them as safe).

    Where actions are choices, the policy's are logits, and the loss is minus their log-likelihood.

    Metrics: `loss`, the squared error averaged over batch and action dimensions, or minus the log-likelihood.
    """

    takes_choices: ClassVar[bool] = True
    presets: ClassVar = {"metadrive": {"updates": 200_000}}  # OSRL's schedule
    fast: ClassVar = {"updates": 10_000}

    mode: Mode = "all"
    """Which episodes, C being an episode's cost. "all": every one. "safe": C within the limit. "risky": C at least
    twice the limit. "boundary": C above half the limit, at most one and a half limits. "frontier": near the most that
    was earned at each cost. "conditioned": every one, with C as an input that the limit replaces when deployed."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer."""
    updates: Whole = 100_000
    """Gradient steps."""
    batch_size: Count = 512
    """Transitions per batch, uniform with replacement."""
    learning_rate: Positive = 1e-3
    """Adam's step size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_source == "labels" and not self._can_use_labels:
            raise ConfigError(f"label_source is labels, but {self.name} selects by cost; choose the mode safe.")

    @property
    def name(self) -> str:
        """BC-All, BC-Safe, BC-Risky, BC-Boundary, BC-Frontier or BC-Conditioned."""
        return f"BC-{self.mode.capitalize()}"

    @property
    def uses_cost_limit(self) -> bool:
        """Where the limit selects episodes."""
        return self.mode in _PER_LIMIT and super().uses_cost_limit

    @property
    def needs_cost_limits(self) -> bool:
        """Also where the deployed policy is told the limit."""
        return self.uses_cost_limit or self.mode == "conditioned"

    @property
    def needs_costs(self) -> bool:
        """Unless it clones everything, or what is marked."""
        return self.mode != "all" and super().needs_costs

    @property
    def needs_labels(self) -> Literal["safe", "both"] | None:
        """Demonstrations, where they are cloned."""
        return "safe" if self.label_source == "labels" else None

    def index(self, trajectories: Trajectories, cost_limit: float) -> BCIndex:
        """The transitions of the selected episodes.

        Raises:
            DataError: the mode selects no episode.
            ConfigError: the limit is 0 and the mode is "boundary": then the boundary has no width.
        """
        selected = np.ones(trajectories.num_episodes, bool)
        selection = self._selection(cost_limit)
        if selection is not None:
            chosen = selection.episodes(trajectories)
            if not chosen.size:
                at = f" at the cost limit {cost_limit:g}" if self.uses_cost_limit else ""
                raise DataError(
                    f"{self.name} finds none of the {trajectories.num_episodes} episodes to clone{at}: "
                    f"{selection.advice(trajectories)}"
                )
            selected = np.isin(np.arange(trajectories.num_episodes), chosen)
        transitions = TransitionIndex.make(trajectories, selected)
        if self.mode != "conditioned":
            return BCIndex(transitions, None, None)
        costs = jnp.asarray(trajectories.cost_returns, jnp.float32)
        return BCIndex(transitions, costs, Standardiser.of(costs[:, None]) if self.standardise else None)

    def usage(self, trajectories: Trajectories, cost_limit: float) -> Usage | None:
        """How many episodes it clones, and the share of the log's steps that they have."""
        selection = self._selection(cost_limit)
        if selection is None:
            return None
        chosen = selection.episodes(trajectories)
        share = float(trajectories.lengths[chosen].sum() / trajectories.num_transitions)
        counts = {"cloned": len(chosen), "unused": trajectories.num_episodes - len(chosen)}
        if self.label_source == "labels":
            return Usage(None, "episodes", counts, share)
        little = (
            f"at the cost limit {cost_limit:g} {self.name} uses {share:.1%} of the log's steps; choose a limit that "
            "selects more episodes."
        )
        return Usage(cost_limit, "episodes", counts, share, (little,) if share < LITTLE else ())

    def init(self, key: Key[Array, ""], spec: Spec) -> BCState:
        """PyTorch's default initialisation, as in OSRL."""
        costs = None
        if self.mode == "conditioned":
            spec = replace(spec, observation_size=spec.observation_size + 1)
            costs = Standardiser(jnp.zeros(1), jnp.zeros(1)) if self.standardise else None
        network = policy_network(key, spec, self.hidden, dropout=0.0, initialiser=kaiming_uniform)
        return BCState(Learner.make(network, optax.adam(self.learning_rate)), ActionBounds.of(spec), costs)

    def stages(self) -> tuple[Stage, ...]:
        """Cloning, once it is known how costs are standardised."""
        return (Stage("clone", self.updates, self._begin, self._update),)

    def actor(self, state: BCState) -> Actor:
        """The network; the conditioned one until its variants tell it a limit with the limit zero."""
        network, bounds = state.learner.network, state.bounds
        if state.costs is not None:
            network = _of_raw_cost(network, state.costs)
        if self.mode == "conditioned":
            return ConditionedActor(network, bounds.low, bounds.high, jnp.zeros(()))
        return bounds.actor(network)

    def variants(self, cost_limits: Sequence[float]) -> tuple[Variant, ...]:
        """The conditioned policy at every limit."""
        if self.mode != "conditioned":
            return super().variants(cost_limits)
        return tuple(Variant(self.name, limit, {"cost_limit": limit}) for limit in cost_limits)

    def _selection(self, cost_limit: float) -> Selection | None:
        """The filter that keeps the mode's episodes; None: all are kept."""
        if self.label_source == "labels":
            return Labelled("safe")
        if self.mode in _PER_LIMIT:
            return _PER_LIMIT[self.mode](cost_limit)
        return Frontier() if self.mode == "frontier" else None

    @property
    def _can_use_labels(self) -> bool:
        return self.mode == "safe"

    def _begin(self, state: BCState, store: Store, index: BCIndex, key: Key[Array, ""]) -> BCState:
        if state.costs is None:
            return state
        known = state.costs.std > 0  # to networks that go on
        costs = jax.tree.map(lambda old, new: jnp.where(known, old, new), state.costs, index.costs)
        return BCState(state.learner, state.bounds, costs)

    def _update(self, state: BCState, store: Store, index: BCIndex, key: Key[Array, ""]) -> tuple[BCState, Metrics]:
        rows = index.transitions.sample(key, self.batch_size)
        observations, actions = store.observations[rows], store.actions[rows]
        if index.cost_returns is not None:
            episodes = jnp.searchsorted(store.offsets, rows, side="right") - 1
            costs = index.cost_returns[episodes]
            if state.costs is not None:
                costs = state.costs(costs[:, None])[:, 0]
            observations = with_cost(observations, costs)

        def loss(network: MLP) -> tuple[jax.Array, None]:
            outputs = network(observations)
            if network.output == LOGITS:
                return -jnp.mean(categorical_log_prob(outputs, actions)), None
            return jnp.mean(jnp.square(outputs - actions)), None

        learner, fit = state.learner.step(optax.adam(self.learning_rate), loss)
        return BCState(learner, state.bounds, state.costs), {"loss": fit.loss}


def _of_raw_cost(network: MLP, costs: Standardiser) -> MLP:
    """The same function of a cost that is not standardised."""
    slope = network.weights[0][-1] / costs.std
    first = (network.weights[0].at[-1].set(slope), network.biases[0] - costs.mean * slope)
    changed: MLP = eqx.tree_at(lambda n: (n.weights[0], n.biases[0]), network, first)
    return changed
