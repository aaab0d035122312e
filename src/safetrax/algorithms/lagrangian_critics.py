"""What BCQ-Lag and BEAR-Lag share: grouped critics, their targets, and the multiplier that weighs cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from annotated_types import MinLen
from jaxtyping import Array, Bool, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, keep_state
from safetrax.algorithms.diagnosis import diverges, lasts
from safetrax.algorithms.learners import Learner, Tracked, discounted_limit
from safetrax.algorithms.policies import ActionBounds
from safetrax.data.store import TRANSITION_FIELDS, Field, Store, TransitionIndex, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.lagrange import PIDState, pid_multiplier
from safetrax.losses.latent import kl_to_standard_normal
from safetrax.nets.cvae import CVAE
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.settings import Count, Fraction, NonNegative, Positive, Whole

P = TypeVar("P", bound=eqx.Module)

_GROUPS = 2
_ALARMING_MULTIPLIER = 10.0  # OSRL's gains and rewards keep it well below 1 where the limit can be met


class LagrangianIndex(eqx.Module):
    """What may be drawn, and what the limit means for a discounted cost value.

    Attributes:
        transitions: all of them.
        threshold: q.
    """

    transitions: TransitionIndex
    threshold: Float[Array, ""]


class LagrangianState(eqx.Module, Generic[P]):
    """What training changes.

    Attributes:
        cvae: the model of the logged actions.
        policy: what acts, and its target.
        reward_critic: both groups' networks, and their targets.
        cost_critic: likewise.
        pid: the multiplier's controller.
        threshold: q, a copy of the index's, so that an actor can hold it; 0 before the first update.
        bounds: action bounds.
    """

    cvae: Learner[CVAE]
    policy: Tracked[P]
    reward_critic: Tracked[Ensemble]
    cost_critic: Tracked[Ensemble]
    pid: PIDState
    threshold: Float[Array, ""]
    bounds: ActionBounds


def group_values(values: Float[Array, "K n"]) -> Float[Array, "2 n"]:
    """Q^1 and Q^2: the least value within the first and the second half of the networks."""
    return jnp.min(values.reshape(_GROUPS, -1, values.shape[1]), axis=1)


def mixed_value(values: Float[Array, "K n"], min_weight: float) -> Float[Array, " n"]:
    """lambda min(Q^1, Q^2) + (1 - lambda) max(Q^1, Q^2), soft clipped double Q-learning (Fujimoto et al., 2019).

    Args:
        values: of all networks, see `group_values`.
        min_weight: lambda.
    """
    groups = group_values(values)
    return min_weight * jnp.min(groups, axis=0) + (1 - min_weight) * jnp.max(groups, axis=0)


def bootstrapped(
    received: Float[Array, " B"], following: Float[Array, " B"], discount: float, ends: Bool[Array, " B"] | None
) -> Float[Array, " B"]:
    """y = x + gamma (1 - d) Q'.

    Args:
        received: x, the reward or cost of the step.
        following: Q', the value of the state that follows.
        discount: gamma.
        ends: d, after which nothing follows. None: nothing ends.
    """
    return received + discount * (following if ends is None else jnp.where(ends, 0.0, following))


def summed_errors(values: Float[Array, "K B"], targets: Float[Array, " B"]) -> Float[Array, ""]:
    """Sum over the networks of their mean squared errors."""
    return jnp.sum(jnp.mean(jnp.square(values - targets), axis=-1))


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


@dataclass(frozen=True)
class LagrangianCritics(Algorithm):
    """The common settings and update of BCQ-Lag and BEAR-Lag.

    A subclass defines `_policy`, `_following_actions` and `_improve`.
    """

    fields: ClassVar[tuple[Field, ...]] = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")

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

    def index(self, trajectories: Trajectories, cost_limit: float) -> LagrangianIndex:
        """All transitions, and the discounted threshold for the longest episode's length."""
        threshold = discounted_limit(cost_limit, trajectories.max_length, self.discount)
        return LagrangianIndex(TransitionIndex.all(trajectories), threshold)

    def init(self, key: Key[Array, ""], spec: Spec) -> LagrangianState[Any]:
        """PyTorch's default weights; targets start as copies."""
        cvae_key, policy_key, reward_key, cost_key = jax.random.split(key, 4)
        observation_size, action_size = spec.observation_size, spec.action_size
        cvae = CVAE.make(cvae_key, observation_size, action_size, self.cvae_hidden, 2 * action_size)
        sizes = (observation_size + action_size, *self.hidden)
        reward_critic, cost_critic = (
            Tracked.make(Ensemble.make(k, sizes, _GROUPS * self.group_size), self._critic_optimiser())
            for k in (reward_key, cost_key)
        )
        return LagrangianState(
            cvae=Learner.make(cvae, self._cvae_optimiser()),
            policy=Tracked.make(self._policy(policy_key, spec), self._policy_optimiser()),
            reward_critic=reward_critic,
            cost_critic=cost_critic,
            pid=PIDState.start(),
            threshold=jnp.zeros(()),
            bounds=ActionBounds.of(spec),
        )

    def stages(self) -> tuple[Stage, ...]:
        """One; everything is trained together."""
        return (Stage("train", self.updates, keep_state, self._update),)

    def diagnose(self, history: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
        """A multiplier that runs away, and a policy that stands still."""
        found = []
        if diverges(history, "multiplier", _ALARMING_MULTIPLIER):
            threshold = history["cost_value"][-1] - history["cost_gap"][-1]
            switch = "" if self.cost_done else "set cost_done, "
            found.append(
                "the multiplier keeps growing: the policy's cost values stay above the threshold "
                f"q = {threshold:.3g}, and the reward no longer counts; raise the cost limit, {switch}or add "
                "safer data."
            )
        if lasts(history, "policy_gradient", lambda norm: norm == 0):
            found.append(
                "the policy receives no gradient: its actions lie at their bounds; lower policy_learning_rate and "
                "start again."
            )
        return tuple(found)

    # What a subclass defines

    def _policy(self, key: Key[Array, ""], spec: Spec) -> eqx.Module:
        """A fresh policy network."""
        raise NotImplementedError

    def _following_actions(
        self, state: LagrangianState[Any], observations: Float[Array, "n O"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "K n X"], Callable[[Float[Array, "n X"]], Float[Array, "n A"]]]:
        """Draws for every next state, and the function that makes an action of a draw, by the target policy."""
        raise NotImplementedError

    def _improve(
        self, state: LagrangianState[Any], batch: Transitions, key: Key[Array, ""]
    ) -> tuple[LagrangianState[Any], Metrics]:
        """One step of the policy and the multiplier."""
        raise NotImplementedError

    # The update

    def _policy_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.policy_learning_rate)

    def _critic_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.critic_learning_rate)

    def _cvae_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.cvae_learning_rate)

    def _update(
        self, state: LagrangianState[Any], store: Store, index: LagrangianIndex, key: Key[Array, ""]
    ) -> tuple[LagrangianState[Any], Metrics]:
        """The reference's order: CVAE, reward critic, cost critic, policy, targets; each sees those before it."""
        draw_key, cvae_key, target_key, policy_key = jax.random.split(key, 4)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))
        cvae, cvae_loss = self._fit_cvae(state.cvae, batch, cvae_key)
        state = replace(state, cvae=cvae, threshold=index.threshold)
        reward_targets, cost_targets = self.targets(state, batch, target_key)
        reward_critic, reward_loss = self._fit_critic(state.reward_critic, batch, reward_targets)
        cost_critic, cost_loss = self._fit_critic(state.cost_critic, batch, cost_targets)
        state = replace(state, reward_critic=reward_critic, cost_critic=cost_critic)
        state, metrics = self._improve(state, batch, policy_key)
        state = replace(
            state,
            policy=state.policy.follow(self.target_rate),
            reward_critic=state.reward_critic.follow(self.target_rate),
            cost_critic=state.cost_critic.follow(self.target_rate),
        )
        losses = {"cvae_loss": cvae_loss, "reward_critic_loss": reward_loss, "cost_critic_loss": cost_loss}
        return state, {**metrics, **losses}

    def targets(
        self, state: LagrangianState[Any], batch: Transitions, key: Key[Array, ""]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Regression targets of the reward critic and of the cost critic, from one draw of next actions.

        Each is the step's reward or cost plus the discounted maximum of the mixed value over the drawn actions.
        """
        observations = batch.next_observations
        draws, action_of = self._following_actions(state, observations, key)
        critics = [
            [given(member, observations) for member in critic.target.members]
            for critic in (state.reward_critic, state.cost_critic)
        ]

        def following(draw: Float[Array, "n X"]) -> Float[Array, "2 n"]:
            actions = action_of(draw)
            values = [jnp.stack([member(actions)[:, 0] for member in members]) for members in critics]
            return jnp.stack([mixed_value(v, self.min_weight) for v in values])

        value, cost_value = jnp.max(over_samples(following, draws), axis=0)
        rewards = self.reward_scale * batch.rewards
        return (
            bootstrapped(rewards, value, self.discount, batch.done),
            bootstrapped(batch.costs, cost_value, self.discount, batch.done if self.cost_done else None),
        )

    def _fit_cvae(
        self, cvae: Learner[CVAE], batch: Transitions, key: Key[Array, ""]
    ) -> tuple[Learner[CVAE], Float[Array, ""]]:
        def loss(network: CVAE) -> tuple[jax.Array, jax.Array]:
            actions, mean, log_std = network.reconstruct(key, batch.observations, batch.actions)
            error = jnp.mean(jnp.square(actions - batch.actions))
            value = error + self.kl_weight * jnp.mean(kl_to_standard_normal(mean, log_std))
            return value, value

        cvae, value, _ = cvae.step(self._cvae_optimiser(), loss)
        return cvae, value

    def _fit_critic(
        self, critic: Tracked[Ensemble], batch: Transitions, targets: Float[Array, " B"]
    ) -> tuple[Tracked[Ensemble], Float[Array, ""]]:
        def loss(network: Ensemble) -> tuple[jax.Array, jax.Array]:
            value = summed_errors(network(batch.observations, batch.actions), targets)
            return value, value

        critic, value, _ = critic.step(self._critic_optimiser(), loss)
        return critic, value

    def _judge(
        self,
        state: LagrangianState[Any],
        observations: Float[Array, "n O"],
        actions: Float[Array, "n A"],
    ) -> tuple[Float[Array, ""], Float[Array, ""], PIDState, Metrics]:
        """Of the policy's actions: mean min(Q^1, Q^2), the penalty lambda mean(Q_c - q), the controller, metrics.

        Q_c is the smaller group's value too. The multiplier is that of the controller after this error, a constant.
        """
        values = state.reward_critic.network.min(observations, actions)
        cost_values = state.cost_critic.network.min(observations, actions)
        gap = jnp.mean(cost_values) - state.threshold
        pid, multiplier = pid_multiplier(state.pid, jax.lax.stop_gradient(gap), self.gains)
        metrics = {
            "reward_value": jnp.mean(values),
            "cost_value": jnp.mean(cost_values),
            "cost_gap": gap,
            "above_limit": jnp.mean(cost_values > state.threshold),
            "multiplier": multiplier,
        }
        return jnp.mean(values), multiplier * gap, pid, metrics
