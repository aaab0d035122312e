"""TD3+BC: the twin delayed deterministic policy gradient, kept near the log by a cloning term."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.critics import fit_critic, make_critic
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Tracked, policy_network
from safetrax.algorithms.rewards import RewardIndex, value_warnings
from safetrax.data.store import TRANSITION_FIELDS, Store, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.td import bellman_target, summed_errors
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor
from safetrax.settings import Count, Fraction, NonNegative, Positive, Rate, Whole

_SMALLEST_VALUE = 1e-8  # of mean |Q|, where it divides


class PolicyReport(eqx.Module):
    """What is logged of a policy step, kept until the next one."""

    loss: Float[Array, ""]  # the policy's
    gradient: Float[Array, ""]  # its gradient's norm
    value_weight: Float[Array, ""]  # lambda
    distance: Float[Array, ""]  # mean squared distance to the logged actions


class TD3BCState(eqx.Module):
    """What TD3+BC trains and remembers."""

    policy: Tracked[MLP]  # deterministic, with its target
    critics: Tracked[Ensemble]  # Q, two of them, with their targets
    count: Int32[Array, ""]  # updates made
    report: PolicyReport  # of the last policy step
    bounds: ActionBounds


@dataclass(frozen=True)
class TD3BC(Algorithm):
    """TD3+BC (Fujimoto and Gu, NeurIPS 2021, arXiv:2106.06860), a yardstick: it ignores costs.

    The policy maximises lambda Q_1(s, pi(s)) - (pi(s) - a)^2, lambda = value_weight / mean |Q_1| over the batch, so
    that the scale of rewards does not matter. Critics regress on the smaller of two target critics at the target
    policy's action with clipped noise (TD3). Sizes and rates are those of the authors' code.

    Deviation from the code: an episode that a time limit cut off ends like one that terminated, as in all algorithms
    here.

    Metrics: see docs/td3-bc.md.
    """

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss")
    name = "TD3+BC"
    uses_cost_limit = False
    reference_std = 1e-3

    value_weight: NonNegative = 2.5
    """alpha: weight of the normalised value against the distance to the logged actions; 0: behaviour cloning."""
    policy_delay: Count = 2
    """The policy and all targets move in every such update."""
    target_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target policy's actions, in units of half the action range."""
    noise_clip: NonNegative = 0.5
    """Greatest size of that noise."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of policy and critics."""
    discount: Fraction = 0.99
    """gamma."""
    target_rate: Rate = 0.005
    """tau: how far targets move whenever they do."""
    learning_rate: Positive = 3e-4
    """Adam's step size."""
    batch_size: Count = 256
    """Transitions per batch, uniform with replacement."""
    updates: Whole = 1_000_000
    """Gradient steps of the critics."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> RewardIndex:
        """All transitions; the limit does not matter."""
        return RewardIndex.make(trajectories, self.discount)

    def init(self, key: Key[Array, ""], spec: Spec) -> TD3BCState:
        """PyTorch's default weights."""
        policy_key, critic_key = jax.random.split(key)
        policy = policy_network(policy_key, spec, self.hidden, dropout=0.0, initialiser=kaiming_uniform)
        zero = jnp.zeros(())
        return TD3BCState(
            policy=Tracked.make(policy, optax.adam(self.learning_rate)),
            critics=make_critic(critic_key, spec, self.hidden, optax.adam(self.learning_rate)),
            count=jnp.zeros((), jnp.int32),
            report=PolicyReport(zero, zero, zero, zero),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: TD3BCState) -> Actor:
        """The policy, without noise."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """A policy at the edge of the action box, or values that cannot be."""
        sentences = value_warnings(history)
        if lasts(history, "policy_gradient", lambda norm: norm == 0):
            sentences += (
                "the policy receives no gradient: its actions sit at the edge of the action box; lower value_weight.",
            )
        return sentences

    def policy_loss(
        self, policy: MLP, critic: MLP, batch: Transitions
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
        """-lambda mean Q(s, pi(s)) + mean (pi(s) - a)^2, lambda = value_weight / mean |Q|; also lambda and distance.

        lambda passes no gradient; the distance is averaged over batch and dimensions (Eqs. 3 and 4, the authors'
        code).
        """
        actions = policy(batch.observations)
        values = critic(jnp.concatenate([batch.observations, actions], axis=-1))
        size = jnp.maximum(jnp.mean(jnp.abs(jax.lax.stop_gradient(values))), _SMALLEST_VALUE)
        weight = self.value_weight / size
        distance = jnp.mean(jnp.square(actions - batch.actions))
        return distance - weight * jnp.mean(values), (weight, distance)

    def _update(
        self, state: TD3BCState, store: Store, index: RewardIndex, key: Key[Array, ""]
    ) -> tuple[TD3BCState, Metrics]:
        draw_key, noise_key = jax.random.split(key)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))
        target = self._target(state, batch, noise_key)
        critics, fit = fit_critic(state.critics, optax.adam(self.learning_rate), batch, target, summed_errors)
        count = state.count + 1
        # runs that are vmapped make the policy step in every update and choose: a condition becomes a selection
        policy, critics, report = jax.lax.cond(
            count % self.policy_delay == 0,
            lambda policy, critics, _: self._move_policy(policy, critics, batch),
            lambda policy, critics, report: (policy, critics, report),
            state.policy,
            critics,
            state.report,
        )
        metrics = {
            "reward_value": jnp.mean(fit.extra),
            "reward_critic_loss": fit.loss,
            "policy_loss": report.loss,
            "policy_gradient": report.gradient,
            "value_weight": report.value_weight,
            "behaviour_distance": report.distance,
            "value_ratio": index.value_ratio(fit.extra),
        }
        return TD3BCState(policy, critics, count, report, state.bounds), metrics

    def _target(self, state: TD3BCState, batch: Transitions, key: Key[Array, ""]) -> Float[Array, " B"]:
        """r + discount (1 - done) min Q'(s', pi'(s') + noise)."""
        noise = self.target_noise * jax.random.normal(key, batch.actions.shape)
        noise = jnp.clip(noise, -self.noise_clip, self.noise_clip)
        actions = jnp.clip(state.policy.target(batch.next_observations) + noise, -1, 1)
        following = state.critics.target.min(batch.next_observations, actions)
        return bellman_target(batch.rewards, following, self.discount, batch.done)

    def _move_policy(
        self, policy: Tracked[MLP], critics: Tracked[Ensemble], batch: Transitions
    ) -> tuple[Tracked[MLP], Tracked[Ensemble], PolicyReport]:
        critic = critics.network.members[0]
        policy, fit = policy.step(
            optax.adam(self.learning_rate), lambda network: self.policy_loss(network, critic, batch)
        )
        report = PolicyReport(fit.loss, fit.gradient, *fit.extra)
        return policy.follow(self.target_rate), critics.follow(self.target_rate), report
