"""CARL: TD3+BC on rewards that are replaced where the present policy's cost would exceed the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.critics import fit_critic, make_critic
from safetrax.algorithms.deterministic import PolicyReport, delayed_policy_step, smoothed_target
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Tracked, policy_network
from safetrax.data.store import TRANSITION_FIELDS, Field, Store, TransitionIndex
from safetrax.data.trajectories import Trajectories
from safetrax.losses.penalties import relabelled_rewards
from safetrax.losses.td import bellman_target, discounted_limit, summed_errors
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor
from safetrax.settings import Count, Fraction, NonNegative, Positive, Rate, Whole


class CARLIndex(eqx.Module):
    """What may be drawn, and what is too costly.

    Attributes:
        transitions: all of them.
        threshold: of Q_c.
        penalty: max |r|, which costly actions lose.
    """

    transitions: TransitionIndex
    threshold: Float[Array, ""]
    penalty: Float[Array, ""]


class CARLState(eqx.Module):
    """What it trains and remembers.

    Attributes:
        policy: deterministic, with its target.
        critics: Q of the relabelled rewards, two of them, with their targets.
        cost_critics: Q_c of the policy, two of them, with their targets.
        count: updates made.
        report: of the last policy step.
        bounds: action bounds.
    """

    policy: Tracked[MLP]
    critics: Tracked[Ensemble]
    cost_critics: Tracked[Ensemble]
    count: Int32[Array, ""]
    report: PolicyReport
    bounds: ActionBounds


@dataclass(frozen=True)
class CARL(Algorithm):
    """Constraint-aware reward relabelling around TD3+BC (ICLR 2026 submission 22357).

    For every batch, first a step of Q_c towards the discounted cost of the present policy; then a step of TD3+BC on
    rewards that are -max |r| wherever Q_c(s, a) of the logged action exceeds the threshold, and r elsewhere. There is
    no multiplier.

    The paper's text leaves open, and settings decide: with what Q_c is compared (`threshold`), and how its two
    critics are combined: the greater counts, so that what is unknown is rather costly.

    Deviations: as in TD3BC, an episode that a time limit cut off ends like one that terminated.

    Metrics: see docs/carl.md.
    """

    fields: ClassVar[tuple[Field, ...]] = TRANSITION_FIELDS
    fast: ClassVar = {"updates": 4000, "target_rate": 0.05}
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")
    reference_std: ClassVar[float | None] = 1e-3

    threshold: Literal["limit", "discounted"] = "discounted"
    """What Q_c must not exceed. "limit": the cost limit itself. "discounted": the discounted cost of an episode that
    spends its limit evenly, (limit / T) (1 - gamma^T) / (1 - gamma)."""
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
    """gamma, of rewards and costs."""
    target_rate: Rate = 0.005
    """tau: how far targets move whenever they do."""
    learning_rate: Positive = 3e-4
    """Adam's step size."""
    batch_size: Count = 256
    """Transitions per batch, uniform with replacement."""
    updates: Whole = 100_000
    """Gradient steps of the critics."""

    def index(self, trajectories: Trajectories, cost_limit: float) -> CARLIndex:
        """All transitions, and the threshold for the limit."""
        horizon = trajectories.max_length
        even = discounted_limit(cost_limit, horizon, self.discount)
        return CARLIndex(
            transitions=TransitionIndex.all(trajectories),
            threshold=even if self.threshold == "discounted" else jnp.asarray(cost_limit, jnp.float32),
            penalty=jnp.asarray(abs(trajectories.rewards).max(), jnp.float32),
        )

    def init(self, key: Key[Array, ""], spec: Spec) -> CARLState:
        """PyTorch's default weights."""
        policy_key, critic_key, cost_key = jax.random.split(key, 3)
        policy = policy_network(policy_key, spec, self.hidden, dropout=0.0, initialiser=kaiming_uniform)
        return CARLState(
            policy=Tracked.make(policy, self._adam),
            critics=make_critic(critic_key, spec, self.hidden, self._adam),
            cost_critics=make_critic(cost_key, spec, self.hidden, self._adam),
            count=jnp.zeros((), jnp.int32),
            report=PolicyReport.empty(),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: CARLState) -> Actor:
        """The policy, without noise."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """Everything or nothing is relabelled."""
        if lasts(history, "relabelled", lambda share: share > 0.99):
            return ("every reward is replaced, as no action seems to meet the limit; raise the cost limit.",)
        return ()

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _update(
        self, state: CARLState, store: Store, index: CARLIndex, key: Key[Array, ""]
    ) -> tuple[CARLState, Metrics]:
        draw_key, noise_key = jax.random.split(key)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))
        # costs: of the present policy, as it is
        cost_after = state.cost_critics.target.max(
            batch.next_observations, state.policy.network(batch.next_observations)
        )
        cost_target = bellman_target(batch.costs, cost_after, self.discount, batch.done)
        cost_critics, of_cost = fit_critic(state.cost_critics, self._adam, batch, cost_target, summed_errors)
        cost_values = cost_critics.network.max(batch.observations, batch.actions)
        rewards, relabelled = relabelled_rewards(batch.rewards, cost_values, index.threshold, index.penalty)
        # rewards: TD3's target
        target = smoothed_target(
            state.policy,
            state.critics,
            batch,
            rewards,
            noise_key,
            discount=self.discount,
            noise=self.target_noise,
            clip=self.noise_clip,
        )
        critics, of_reward = fit_critic(state.critics, self._adam, batch, target, summed_errors)
        count = state.count + 1
        policy, (critics,), report = delayed_policy_step(
            count,
            state.policy,
            (critics,),
            critics.network.members[0],
            state.report,
            batch,
            self._adam,
            delay=self.policy_delay,
            value_weight=self.value_weight,
            target_rate=self.target_rate,
        )
        metrics = {
            "reward_value": jnp.mean(of_reward.extra),
            "cost_value": jnp.mean(cost_values),
            "relabelled": relabelled,
            "reward_critic_loss": of_reward.loss,
            "cost_critic_loss": of_cost.loss,
            **report.metrics(),
        }
        cost_critics = cost_critics.follow(self.target_rate)
        return CARLState(policy, critics, cost_critics, count, report, state.bounds), metrics
