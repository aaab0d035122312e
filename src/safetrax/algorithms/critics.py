"""Functions that several algorithms with critics share: gradient steps, and values of many actions of each state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from annotated_types import MinLen
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.diagnosis import History, diverges
from safetrax.algorithms.learners import ActionBounds, Fit, Learner, N, Tracked
from safetrax.data.store import TRANSITION_FIELDS, Store, TransitionIndex, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.expectile import expectile_loss
from safetrax.losses.lagrange import PIDState, pid_multiplier
from safetrax.losses.latent import cvae_loss, kl_to_standard_normal, weighted_cvae_loss
from safetrax.losses.td import bellman_target, discounted_limit, squared_error, summed_errors
from safetrax.nets.cvae import CVAE
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, Initialiser, kaiming_uniform
from safetrax.settings import Count, Fraction, NonNegative, Positive, Whole

S = TypeVar("S", bound="LagrangianState[Any]")

_GROUPS = 2
_ALARMING_MULTIPLIER = 10.0  # OSRL's gains and rewards keep it well below 1 where the limit can be met


class ThresholdIndex(eqx.Module):
    """What may be drawn, and what the limit means for a discounted cost value."""

    transitions: TransitionIndex  # all of them
    threshold: Float[Array, ""]  # q, see `discounted_limit`

    @staticmethod
    def make(trajectories: Trajectories, cost_limit: float, discount: float) -> ThresholdIndex:
        """Of all transitions, with the threshold for the longest episode's length."""
        threshold = discounted_limit(cost_limit, trajectories.max_length, discount)
        return ThresholdIndex(TransitionIndex.all(trajectories), threshold)


# Fresh ones


def make_critic(
    key: Key[Array, ""],
    spec: Spec,
    hidden: tuple[int, ...],
    optimiser: optax.GradientTransformation,
    count: int = 2,
    initialiser: Initialiser = kaiming_uniform,
) -> Tracked[Ensemble]:
    """Q(s, a) of `count` networks."""
    sizes = (spec.observation_size + spec.action_size, *hidden)
    return Tracked.make(Ensemble.make(key, sizes, count, initialiser=initialiser), optimiser)


def make_value(
    key: Key[Array, ""],
    spec: Spec,
    hidden: tuple[int, ...],
    optimiser: optax.GradientTransformation,
    initialiser: Initialiser = kaiming_uniform,
) -> Learner[MLP]:
    """V(s)."""
    return Learner.make(MLP.make(key, (spec.observation_size, *hidden, 1), initialiser=initialiser), optimiser)


# Steps. All tell what they have seen before they moved.


def fit_critic(
    critic: Tracked[Ensemble],
    optimiser: optax.GradientTransformation,
    batch: Transitions,
    target: Float[Array, " B"],
    error: Callable[[jax.Array, jax.Array], jax.Array] = squared_error,
) -> tuple[Tracked[Ensemble], Fit[Float[Array, "K B"]]]:
    """A step of Q towards `target` at the logged actions; also Q of these. The target networks stay."""

    def loss(network: Ensemble) -> tuple[jax.Array, jax.Array]:
        values = network(batch.observations, batch.actions)
        return error(values, target), values

    return critic.step(optimiser, loss)


def fit_value(
    value: Learner[MLP],
    optimiser: optax.GradientTransformation,
    observations: Float[Array, "B O"],
    quality: Float[Array, " B"],
    expectile: float,
    least: float | None = None,
) -> tuple[Learner[MLP], Fit[Float[Array, " B"]]]:
    """A step of V, clipped at `least`, towards the expectile of `quality`, Q of the logged actions; also V itself."""

    def loss(network: MLP) -> tuple[jax.Array, jax.Array]:
        values = network(observations)[:, 0]
        fitted = values if least is None else jnp.maximum(values, least)
        return jnp.mean(expectile_loss(quality - fitted, expectile)), values

    return value.step(optimiser, loss)


def fit_cvae(
    cvae: Learner[CVAE],
    optimiser: optax.GradientTransformation,
    batch: Transitions,
    key: Key[Array, ""],
    kl_weight: float,
    weight: Float[Array, " B"] | None = None,
) -> tuple[Learner[CVAE], Fit[Float[Array, "B L"]]]:
    """A step towards the logged actions, which LSPC weighs; also the latents' divergence from the prior."""

    def loss(network: CVAE) -> tuple[jax.Array, jax.Array]:
        decoded, mean, log_std = network.reconstruct(key, batch.observations, batch.actions)
        divergence = kl_to_standard_normal(mean, log_std)
        if weight is None:
            return cvae_loss(decoded, batch.actions, divergence, kl_weight), divergence
        return weighted_cvae_loss(decoded, batch.actions, divergence, kl_weight, weight), divergence

    return cvae.step(optimiser, loss)


# Values of many actions


def group_values(values: Float[Array, "K n"]) -> Float[Array, "2 n"]:
    """Q^1 and Q^2: the least value within the first and the second half of the networks."""
    return jnp.min(values.reshape(_GROUPS, -1, values.shape[1]), axis=1)


def mixed_value(values: Float[Array, "K n"], min_weight: float) -> Float[Array, " n"]:
    """lambda min(Q^1, Q^2) + (1 - lambda) max(Q^1, Q^2), soft clipped double Q-learning (Fujimoto et al., 2019).

    Q^1 and Q^2 are the `group_values`, lambda is `min_weight`.
    """
    groups = group_values(values)
    return min_weight * jnp.min(groups, axis=0) + (1 - min_weight) * jnp.max(groups, axis=0)


def greatest_values(
    critics: Sequence[Ensemble],
    observations: Float[Array, "n O"],
    draws: Float[Array, "K n X"],
    action_of: Callable[[Float[Array, "n X"]], Float[Array, "n A"]],
    min_weight: float,
) -> Float[Array, "C n"]:
    """Of each critic the greatest mixed value over the actions that are made of the draws."""
    members = [[given(member, observations) for member in critic.members] for critic in critics]

    def mixed(draw: Float[Array, "n X"]) -> Float[Array, "C n"]:
        actions = action_of(draw)
        values = [jnp.stack([member(actions)[:, 0] for member in each]) for each in members]
        return jnp.stack([mixed_value(v, min_weight) for v in values])

    return jnp.max(over_samples(mixed, draws), axis=0)


def given(network: MLP, observations: Float[Array, "n O"]) -> Callable[[Float[Array, "n X"]], Float[Array, "n o"]]:
    """The network as a function of the inputs after the observations.

    What the observations add to the first layer is computed once, however often the function is called.
    """
    weight, size = network.weights[0], observations.shape[1]
    fixed = observations @ weight[:size] + network.biases[0]
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[network.activation]
    rest = MLP(network.weights[1:], network.biases[1:], network.output, 0.0, network.activation)

    def call(others: Float[Array, "n X"]) -> Float[Array, "n o"]:
        return rest(activation(fixed + others @ weight[size:]))

    return call


def over_samples(function: Callable[[jax.Array], Any], samples: Float[Array, "K n X"]) -> Any:
    """`function` of each `(n, X)` sample, results stacked.

    On a CPU one after the other, so that a layer's outputs stay in the cache: all K at once take half as long again.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(function, samples)
    return jax.vmap(function)(samples)


# A policy under a Lagrange multiplier


class LagrangianState(eqx.Module, Generic[N]):
    """What BCQ-Lag and BEAR-Lag train, each in a subclass: Equinox does not bear calls of an alias with `[N]`."""

    cvae: Learner[CVAE]  # the model of the logged actions
    policy: Tracked[N]  # what acts, and its target
    reward_critic: Tracked[Ensemble]  # two groups of networks, and their targets
    cost_critic: Tracked[Ensemble]  # likewise
    pid: PIDState[Array]  # the multiplier's controller
    threshold: Float[Array, ""]  # q, a copy of the index's, so that an actor can hold it; 0 before the first update
    bounds: ActionBounds


class Judgement(NamedTuple):
    """What critics say of a policy's actions."""

    value: Float[Array, ""]  # mean min(Q^1, Q^2)
    penalty: Float[Array, ""]  # lambda mean(Q_c - q), Q_c the smaller group's value too; lambda passes no gradient
    pid: PIDState[Array]  # the controller after this error
    metrics: Metrics  # to log


def judged(
    state: LagrangianState[Any],
    observations: Float[Array, "n O"],
    actions: Float[Array, "n A"],
    gains: tuple[float, float, float],
) -> Judgement:
    """The policy's actions as the critics judge them, under the multiplier that follows from it."""
    values = state.reward_critic.network.min(observations, actions)
    cost_values = state.cost_critic.network.min(observations, actions)
    gap = jnp.mean(cost_values) - state.threshold
    pid, multiplier = pid_multiplier(state.pid, jax.lax.stop_gradient(gap), gains)
    metrics = {
        "reward_value": jnp.mean(values),
        "cost_value": jnp.mean(cost_values),
        "cost_gap": gap,
        "above_limit": jnp.mean(cost_values > state.threshold),
        "multiplier": multiplier,
    }
    return Judgement(jnp.mean(values), multiplier * gap, pid, metrics)


def fit_critics(
    state: S,
    optimiser: optax.GradientTransformation,
    batch: Transitions,
    targets: tuple[Float[Array, " B"], Float[Array, " B"]],
) -> tuple[S, Metrics]:
    """A step of the reward critic and one of the cost critic towards their targets; also their losses."""
    reward_critic, of_rewards = fit_critic(state.reward_critic, optimiser, batch, targets[0], summed_errors)
    cost_critic, of_costs = fit_critic(state.cost_critic, optimiser, batch, targets[1], summed_errors)
    losses = {"reward_critic_loss": of_rewards.loss, "cost_critic_loss": of_costs.loss}
    return replace(state, reward_critic=reward_critic, cost_critic=cost_critic), losses


def followed(state: S, rate: float) -> S:
    """With all targets moved."""
    return replace(
        state,
        policy=state.policy.follow(rate),
        reward_critic=state.reward_critic.follow(rate),
        cost_critic=state.cost_critic.follow(rate),
    )


@dataclass(frozen=True)
class LagrangianAlgorithm(Algorithm):
    """What BCQ-Lag and BEAR-Lag share: settings, those of OSRL (Liu et al., 2024), and the order of an update."""

    fast: ClassVar = {"updates": 2000, "batch_size": 64, "target_rate": 0.05}

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")
    presets: ClassVar = {"metadrive": {"updates": 200_000}}  # OSRL's schedule

    updates: Whole = 100_000
    """Gradient steps of every network."""
    batch_size: Count = 512
    """Transitions per batch, uniform with replacement."""
    hidden: Annotated[tuple[Count, ...], MinLen(1)] = (256, 256)
    """Units of each hidden layer of the policy and of each critic."""
    cvae_hidden: Count = 400
    """Units of each of the two hidden layers of the CVAE's encoder and decoder."""
    discount: Fraction = 0.99
    """gamma, of rewards and of costs."""
    target_rate: Fraction = 0.005
    """Share by which the targets move towards their networks at each update, tau."""
    reward_scale: Positive = 0.1
    """Rewards are multiplied by it; costs are not."""
    samples: Count = 10
    """Actions per next state of which a critic's target takes the best, and of the cost the worst."""
    min_weight: Fraction = 0.75
    """Weight of the smaller of the two groups' values in a target; the larger has the rest."""
    group_size: Count = 2
    """Networks in each of a critic's two groups, whose value is their least."""
    kl_weight: NonNegative = 0.5
    """Weight of the CVAE's divergence from the prior, beta."""
    gains: tuple[NonNegative, NonNegative, NonNegative] = (0.1, 0.003, 0.001)
    """Proportional, integral and derivative gain of the Lagrange multiplier."""
    cost_done: bool = False
    """The end of an episode ends its cost return. As in OSRL it does not: costs go on beyond the episode."""
    policy_learning_rate: Positive = 1e-3
    """Adam's step size for the policy."""
    critic_learning_rate: Positive = 1e-3
    """Adam's step size for the critics."""
    cvae_learning_rate: Positive = 1e-3
    """Adam's step size for the CVAE."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> ThresholdIndex:
        """All transitions, and the discounted threshold for the longest episode's length."""
        return ThresholdIndex.make(trajectories, cost_limit, self.discount)

    def _parts(self, keys: Key[Array, " 4"], policy: N, spec: Spec) -> dict[str, Any]:
        """Fields of a fresh `LagrangianState`; keys of CVAE, policy, reward critic and cost critic."""
        adam, networks = optax.adam(self.critic_learning_rate), 2 * self.group_size
        cvae = CVAE.make(keys[0], spec.observation_size, spec.action_size, self.cvae_hidden, 2 * spec.action_size)
        return {
            "cvae": Learner.make(cvae, optax.adam(self.cvae_learning_rate)),
            "policy": Tracked.make(policy, optax.adam(self.policy_learning_rate)),
            "reward_critic": make_critic(keys[2], spec, self.hidden, adam, networks),
            "cost_critic": make_critic(keys[3], spec, self.hidden, adam, networks),
            "pid": PIDState.start(),
            "threshold": jnp.zeros(()),
            "bounds": ActionBounds.of(spec),
        }

    def _update(self, state: S, store: Store, index: ThresholdIndex, key: Key[Array, ""]) -> tuple[S, Metrics]:
        """The reference's order: CVAE, reward critic, cost critic, policy, targets; each sees those before it."""
        draw_key, cvae_key, target_key, policy_key = jax.random.split(key, 4)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))
        cvae, of_cvae = fit_cvae(state.cvae, optax.adam(self.cvae_learning_rate), batch, cvae_key, self.kl_weight)
        state = replace(state, cvae=cvae, threshold=index.threshold)
        targets = self.targets(state, batch, target_key)
        state, critic_losses = fit_critics(state, optax.adam(self.critic_learning_rate), batch, targets)
        state, metrics = self._improve(state, batch, policy_key)
        return followed(state, self.target_rate), {**metrics, "cvae_loss": of_cvae.loss, **critic_losses}

    def targets(
        self, state: LagrangianState[Any], batch: Transitions, key: Key[Array, ""]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Regression targets of the reward critic and of the cost critic, from one draw of next actions.

        Each is the step's reward or cost plus the discounted maximum of the mixed value over the drawn actions.
        """
        value, cost_value = self._next_values(state, batch.next_observations, key)
        cost_ends = batch.done if self.cost_done else None
        return (
            bellman_target(self.reward_scale * batch.rewards, value, self.discount, batch.done),
            bellman_target(batch.costs, cost_value, self.discount, cost_ends),
        )

    def _next_values(self, state: Any, observations: Float[Array, "B O"], key: Key[Array, ""]) -> Float[Array, "2 B"]:
        """The `greatest_values` of both target critics."""
        raise NotImplementedError

    def _improve(self, state: Any, batch: Transitions, key: Key[Array, ""]) -> tuple[Any, Metrics]:
        """One step of the policy and of what limits it."""
        raise NotImplementedError


NO_GRADIENT = (
    "the policy receives no gradient: its actions lie at their bounds; lower policy_learning_rate and start again.",
)


def multiplier_warnings(history: History, cost_done: bool) -> tuple[str, ...]:
    """A sentence where the multiplier of `judged` runs away."""
    if not diverges(history, "multiplier", _ALARMING_MULTIPLIER):
        return ()
    threshold = history["cost_value"][-1] - history["cost_gap"][-1]
    switch = "" if cost_done else "set cost_done, "
    return (
        "the multiplier keeps growing: the policy's cost values stay above the threshold "
        f"q = {threshold:.3g}, and the reward no longer counts; raise the cost limit, {switch}or add safer data.",
    )
