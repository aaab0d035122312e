"""TD3+BC: the twin delayed deterministic policy gradient, kept near the log by a cloning term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.critics import fit_critic, make_critic
from safetrax.algorithms.deterministic import PolicyReport, delayed_policy_step, smoothed_target
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Tracked, policy_network
from safetrax.algorithms.rewards import RewardIndex, value_warnings
from safetrax.data.store import TRANSITION_FIELDS, Store
from safetrax.data.trajectories import Trajectories
from safetrax.losses.td import summed_errors
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor
from safetrax.settings import Count, Fraction, NonNegative, Positive, Rate, Whole


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

    fast: ClassVar = {"updates": 6000, "target_rate": 0.05}

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss")
    name = "TD3+BC"
    uses_cost_limit = False
    needs_costs = False
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
        return TD3BCState(
            policy=Tracked.make(policy, optax.adam(self.learning_rate)),
            critics=make_critic(critic_key, spec, self.hidden, optax.adam(self.learning_rate)),
            count=jnp.zeros((), jnp.int32),
            report=PolicyReport.empty(),
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

    def _update(
        self, state: TD3BCState, store: Store, index: RewardIndex, key: Key[Array, ""]
    ) -> tuple[TD3BCState, Metrics]:
        draw_key, noise_key = jax.random.split(key)
        batch = store.transitions(index.transitions.sample(draw_key, self.batch_size))
        target = smoothed_target(
            state.policy,
            state.critics,
            batch,
            batch.rewards,
            noise_key,
            discount=self.discount,
            noise=self.target_noise,
            clip=self.noise_clip,
        )
        optimiser = optax.adam(self.learning_rate)
        critics, fit = fit_critic(state.critics, optimiser, batch, target, summed_errors)
        count = state.count + 1
        policy, (critics,), report = delayed_policy_step(
            count,
            state.policy,
            (critics,),
            critics.network.members[0],
            state.report,
            batch,
            optimiser,
            delay=self.policy_delay,
            value_weight=self.value_weight,
            target_rate=self.target_rate,
        )
        metrics = {
            "reward_value": jnp.mean(fit.extra),
            "reward_critic_loss": fit.loss,
            **report.metrics(),
            "value_ratio": index.value_ratio(fit.extra),
        }
        return TD3BCState(policy, critics, count, report, state.bounds), metrics
