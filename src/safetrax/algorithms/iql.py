"""Implicit Q-learning: values of the logged actions only, and a policy cloned from them by advantage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from annotated_types import Lt
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.critics import fit_critic, fit_value, make_critic, make_value
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked
from safetrax.algorithms.rewards import ReturnRange, RewardIndex, value_warnings
from safetrax.data.store import TRANSITION_FIELDS, Store
from safetrax.data.trajectories import Trajectories
from safetrax.losses.likelihood import gaussian_log_prob
from safetrax.losses.td import bellman_target
from safetrax.losses.weights import capped_exponential, weight_metrics
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import Actor
from safetrax.settings import Count, Fraction, NonNegative, OpenFraction, Positive, Rate, Whole

_LARGEST_LOG_STD = 2.0


class GaussianPolicy(eqx.Module):
    """N(network(s), exp(log_std)^2): one log standard deviation per action dimension, the same in all states."""

    network: MLP  # the mean
    log_std: Float[Array, " A"]  # not clipped


class IQLState(eqx.Module):
    """What IQL trains and remembers."""

    policy: Learner[GaussianPolicy]  # a Gaussian
    critics: Tracked[Ensemble]  # Q, two of them, and their targets
    value: Learner[MLP]  # V
    bounds: ActionBounds


@dataclass(frozen=True)
class IQL(Algorithm):
    """Implicit Q-learning (Kostrikov et al., ICLR 2022, arXiv:2110.06169), a yardstick: it ignores costs.

    V is the expectile of the target critics' minimum over logged actions, Q regresses on r + discount V(s'), and the
    policy clones logged actions with weights exp(inverse_temperature A), A = min Q - V. The deployed policy is the
    mean. Sizes, rates and the policy's form are those of CORL's single-file implementation.

    The authors' code takes V after its step where CORL takes it before; this follows CORL.

    Deviations from CORL: an episode that a time limit cut off ends like one that terminated, as everywhere here.
    Rewards are scaled by the range of returns on every task (`return_range`), where CORL does so on three, all of
    1000 steps; here the scaled returns span the task's own horizon, so that a step's rewards are as large as there.

    Metrics: see docs/iql.md.
    """

    fast: ClassVar = {"updates": 5000, "target_rate": 0.05}

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "value_loss", "reward_critic_loss")
    uses_cost_limit = False
    needs_costs = False
    reference_std = 1e-3

    expectile: OpenFraction = 0.7
    """Which expectile of Q over logged actions V is; 0.5: their mean, towards 1: the best action's value."""
    inverse_temperature: NonNegative = 3.0
    """beta: the greater, the more the policy keeps to actions of high advantage; 0: behaviour cloning."""
    weight_cap: Positive = 100.0
    """Greatest weight of a transition in the policy's loss."""
    return_range: ReturnRange = "horizon"
    """Rewards are multiplied so that the logged episodes' returns span it. "horizon": as many as an episode of the
    task has steps, or the longest of the log where the task is not known; None: rewards as they are."""
    squashed_mean: bool = True
    """The policy's mean goes through tanh (CORL). False: it is free and clipped when deployed (JAX-CORL)."""
    smallest_log_std: Annotated[float, Lt(_LARGEST_LOG_STD)] = -20.0
    """Lower bound of the policy's log standard deviation (JAX-CORL: -5)."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of policy, critics and value."""
    discount: Fraction = 0.99
    """gamma."""
    target_rate: Rate = 0.005
    """tau: how far the target critics move towards the critics in each update."""
    learning_rate: Positive = 3e-4
    """Adam's step size; the policy's falls to zero along a half cosine over `updates`."""
    batch_size: Count = 256
    """Transitions per batch, uniform with replacement."""
    updates: Whole = 1_000_000
    """Gradient steps."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> RewardIndex:
        """All transitions; the limit does not matter."""
        return RewardIndex.make(trajectories, self.discount)

    def init(self, key: Key[Array, ""], spec: Spec) -> IQLState:
        """PyTorch's default weights; standard deviation 1."""
        policy_key, critic_key, value_key = jax.random.split(key, 3)
        observations, actions = spec.observation_size, spec.action_size
        output = "tanh" if self.squashed_mean else "identity"
        mean = MLP.make(policy_key, (observations, *self.hidden, actions), output=output)
        return IQLState(
            policy=Learner.make(GaussianPolicy(mean, jnp.zeros(actions)), self._policy_optimiser()),
            critics=make_critic(critic_key, spec, self.hidden, optax.adam(self.learning_rate)),
            value=make_value(value_key, spec, self.hidden, optax.adam(self.learning_rate)),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: IQLState) -> Actor:
        """The policy's mean."""
        return state.bounds.actor(state.policy.network.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """All weights at the cap, all weights zero, or values that cannot be."""
        sentences = value_warnings(history)
        if lasts(history, "clipped", lambda share: share > 0.99):
            sentences += (
                "all weights are at their cap, so the policy is plain behaviour cloning; "
                "lower inverse_temperature or return_range.",
            )
        if lasts(history, "policy_gradient", lambda norm: norm == 0):
            sentences += (
                "the policy receives no gradient: every weight is zero; lower inverse_temperature or return_range.",
            )
        return sentences

    def _policy_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, max(self.updates, 1)))

    def _log_std(self, policy: GaussianPolicy) -> Float[Array, " A"]:
        return jnp.clip(policy.log_std, self.smallest_log_std, _LARGEST_LOG_STD)

    def _update(
        self, state: IQLState, store: Store, index: RewardIndex, key: Key[Array, ""]
    ) -> tuple[IQLState, Metrics]:
        """All three losses are taken at the networks before the update, as in CORL."""
        batch = store.transitions(index.transitions.sample(key, self.batch_size))
        scale = index.reward_scale(self.return_range)
        quality = state.critics.target.min(batch.observations, batch.actions)
        next_value = state.value.network(batch.next_observations)[:, 0]
        target = bellman_target(scale * batch.rewards, next_value, self.discount, batch.done)
        value, of_value = fit_value(
            state.value, optax.adam(self.learning_rate), batch.observations, quality, self.expectile
        )
        critics, of_critics = fit_critic(state.critics, optax.adam(self.learning_rate), batch, target)
        advantage = quality - of_value.extra
        weight = capped_exponential(self.inverse_temperature * advantage, self.weight_cap)

        def policy_loss(policy: GaussianPolicy) -> tuple[jax.Array, jax.Array]:
            mean = policy.network(batch.observations)
            log_prob = gaussian_log_prob(batch.actions, mean, self._log_std(policy))
            return -jnp.mean(weight * log_prob), jnp.mean(jnp.square(mean - batch.actions))

        policy, of_policy = state.policy.step(self._policy_optimiser(), policy_loss)
        metrics = {
            "reward_value": jnp.mean(of_value.extra),
            "advantage": jnp.mean(advantage),
            "value_loss": of_value.loss,
            "reward_critic_loss": of_critics.loss,
            "policy_loss": of_policy.loss,
            "policy_gradient": of_policy.gradient,
            **weight_metrics(weight, self.weight_cap),
            "behaviour_distance": of_policy.extra,
            "policy_std": jnp.mean(jnp.exp(self._log_std(state.policy.network))),
            "value_ratio": index.value_ratio(of_value.extra, scale),
        }
        return IQLState(policy, critics.follow(self.target_rate), value, state.bounds), metrics
