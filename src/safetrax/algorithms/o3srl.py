"""O3SRL: TD3+BC on rewards less lambda times the cost, lambda chosen by an adversarial bandit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec
from safetrax.algorithms.critics import fit_critic, make_critic
from safetrax.algorithms.deterministic import PolicyReport, delayed_policy_step, smoothed_actions
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Tracked, policy_network
from safetrax.algorithms.rewards import ReturnRange, RewardIndex, value_warnings
from safetrax.data.store import TRANSITION_FIELDS, Field, Store
from safetrax.data.trajectories import Trajectories
from safetrax.losses.bandit import arm_probabilities, gain_estimates, multiplier_gains, tuned_exploration
from safetrax.losses.td import bellman_target, discounted_limit, summed_errors
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.policies.actor import Actor
from safetrax.settings import Count, Fraction, NonNegative, Positive, Rate, Whole, require

_ALARMING_SHARE = 0.9  # of the greatest multiplier; exploration alone keeps the mean below the greatest


class O3SRLIndex(eqx.Module):
    """What may be drawn, and what a step may cost.

    Attributes:
        rewards: all transitions, and the scale of their rewards.
        allowance: what a step may cost.
        unit: of the excess, an episode's discounted cost less its allowance: no greater one counts more.
    """

    rewards: RewardIndex
    allowance: Float[Array, ""]
    unit: Float[Array, ""]


class Bandit(eqx.Module):
    """Who chooses the multiplier.

    Attributes:
        log_weights: of the arms.
        arm: number of the present multiplier.
        excess: of the policy, when the bandit last looked; 0 before.
    """

    log_weights: Float[Array, " K"]
    arm: Int32[Array, ""]
    excess: Float[Array, ""]


class O3SRLState(eqx.Module):
    """What it trains and remembers.

    Attributes:
        policy: deterministic, with its target.
        critics: Q of the rewards, two of them, with their targets.
        excess_critics: Q of the costs less their allowance, two of them, with their targets.
        bandit: who chooses the multiplier.
        count: updates made.
        report: of the last policy step.
        bounds: action bounds.
    """

    policy: Tracked[MLP]
    critics: Tracked[Ensemble]
    excess_critics: Tracked[Ensemble]
    bandit: Bandit
    count: Int32[Array, ""]
    report: PolicyReport
    bounds: ActionBounds


@dataclass(frozen=True)
class O3SRL(Algorithm):
    """Online optimisation for offline safe RL around TD3+BC (arXiv:2510.22027).

    The policy maximises, by TD3+BC, the value of r - lambda (c - allowance). lambda is one of a few evenly spaced
    arms, which EXP3 chooses anew every few updates so as to make that value small: high while the policy exceeds the
    limit, low while it does not.

    Critics of r and of c - allowance are kept apart, so that the value is exact for every lambda at once. What the
    bandit gains, in which units and at which rates, and how rewards compare with costs are choices made here: see
    docs/o3srl.md.

    Deviations: as in TD3BC, an episode that a time limit cut off ends like one that terminated.

    Metrics: see docs/o3srl.md.
    """

    fields: ClassVar[tuple[Field, ...]] = TRANSITION_FIELDS
    fast: ClassVar = {"updates": 4000, "target_rate": 0.05}
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")
    reference_std: ClassVar[float | None] = 1e-3

    allowance: Literal["even", "discounted"] = "even"
    """What a step may cost. "even": limit / T, T the steps of the log's longest episode. "discounted": (1 - gamma)
    limit, as in the paper, which makes the limit one of the discounted cost: more than the limit over T steps."""
    greatest_multiplier: Positive = 5.0
    """Arms lie evenly spaced from 0 to this."""
    arms: Annotated[int, Ge(2)] = 5
    """Multipliers to choose from."""
    round_updates: Count = 10
    """Updates between two choices."""
    exploration: Rate | None = None
    """gamma of EXP3, the share of choices at random. None: Auer's, for as many rounds as there are."""
    bandit_rate: Positive | None = None
    """eta of EXP3, the step of its log weights. None: exploration / arms."""
    feedback: Literal["played", "all"] = "played"
    """Which arms learn from a round. "played": the one that was chosen (EXP3). "all": every one, as their gains are
    known too (Hedge)."""
    return_range: ReturnRange = "horizon"
    """Rewards are multiplied so that the logged episodes' returns span it, which is the scale of the multipliers.
    "horizon": as many as an episode has steps; None: rewards as they are."""
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
    """Transitions per batch, uniform with replacement; as many first observations, when the bandit looks."""
    updates: Whole = 100_000
    """Gradient steps of the critics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        endless = self.discount == 1 and self.allowance == "discounted"
        require(not endless, "discount", self.discount, "be less than 1 where the allowance is discounted")

    def index(self, trajectories: Trajectories, cost_limit: float) -> O3SRLIndex:
        """All transitions, the allowance for the limit, and its unit, at least that of the dearest step's cost."""
        horizon, dearest = trajectories.max_length, float(trajectories.logged_costs.max())
        share = 1 / horizon if self.allowance == "even" else 1 - self.discount
        unit = discounted_limit(max(cost_limit, dearest) * share * horizon, horizon, self.discount)
        return O3SRLIndex(
            rewards=RewardIndex.make(trajectories, self.discount),
            allowance=jnp.asarray(cost_limit * share, jnp.float32),
            unit=jnp.where(unit > 0, unit, 1.0),
        )

    def init(self, key: Key[Array, ""], spec: Spec) -> O3SRLState:
        """PyTorch's default weights, and any arm."""
        policy_key, critic_key, excess_key, arm_key = jax.random.split(key, 4)
        policy = policy_network(policy_key, spec, self.hidden, dropout=0.0, initialiser=kaiming_uniform)
        return O3SRLState(
            policy=Tracked.make(policy, self._adam),
            critics=make_critic(critic_key, spec, self.hidden, self._adam),
            excess_critics=make_critic(excess_key, spec, self.hidden, self._adam),
            bandit=Bandit(jnp.zeros(self.arms), jax.random.randint(arm_key, (), 0, self.arms), jnp.zeros(())),
            count=jnp.zeros((), jnp.int32),
            report=PolicyReport.empty(),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: O3SRLState) -> Actor:
        """The policy, without noise."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """Values that cannot be, or a limit that no multiplier enforces."""
        sentences = value_warnings(history)
        alarming = _ALARMING_SHARE * self.greatest_multiplier
        if lasts(history, "expected_multiplier", lambda mean: mean > alarming) and lasts(
            history, "cost_gap", lambda gap: gap > 0
        ):
            sentences += (
                "the policy's cost stays above the limit under the greatest multiplier; raise greatest_multiplier or "
                "the cost limit, or add safer data.",
            )
        return sentences

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    @property
    def _multipliers(self) -> Float[Array, " K"]:
        return jnp.linspace(0.0, self.greatest_multiplier, self.arms)

    @property
    def _exploration(self) -> float:
        return self.exploration or tuned_exploration(self.arms, self.updates // self.round_updates)

    def _update(
        self, state: O3SRLState, store: Store, index: O3SRLIndex, key: Key[Array, ""]
    ) -> tuple[O3SRLState, Metrics]:
        draw_key, noise_key, round_key = jax.random.split(key, 3)
        batch = store.transitions(index.rewards.transitions.sample(draw_key, self.batch_size))
        scale = index.rewards.reward_scale(self.return_range)
        # TD3's target, the lesser of reward critics and the greater of cost critics
        following = (
            batch.next_observations,
            smoothed_actions(state.policy, batch, noise_key, self.target_noise, self.noise_clip),
        )
        value, excess = state.critics.target.min(*following), state.excess_critics.target.max(*following)
        target = bellman_target(scale * batch.rewards, value, self.discount, batch.done)
        excess_target = bellman_target(batch.costs - index.allowance, excess, self.discount, batch.done)
        critics, of_reward = fit_critic(state.critics, self._adam, batch, target, summed_errors)
        excess_critics, of_excess = fit_critic(state.excess_critics, self._adam, batch, excess_target, summed_errors)
        multiplier = self._multipliers[state.bandit.arm]
        first, first_excess = critics.network.members[0], excess_critics.network.members[0]
        count = state.count + 1
        policy, (critics, excess_critics), report = delayed_policy_step(
            count,
            state.policy,
            (critics, excess_critics),
            lambda inputs: first(inputs) - multiplier * first_excess(inputs),
            state.report,
            batch,
            self._adam,
            delay=self.policy_delay,
            value_weight=self.value_weight,
            target_rate=self.target_rate,
        )
        bandit = jax.lax.cond(
            count % self.round_updates == 0,
            lambda: self._next_round(state.bandit, policy.network, excess_critics.network, store, index, round_key),
            lambda: state.bandit,
        )
        probabilities = arm_probabilities(bandit.log_weights, self._exploration)
        metrics = {
            "multiplier": multiplier,
            "expected_multiplier": probabilities @ self._multipliers,
            "cost_gap": bandit.excess,
            "reward_value": jnp.mean(of_reward.extra),
            "value_ratio": index.rewards.value_ratio(of_reward.extra, scale),
            "reward_critic_loss": of_reward.loss,
            "cost_critic_loss": of_excess.loss,
            **report.metrics(),
        }
        return O3SRLState(policy, critics, excess_critics, bandit, count, report, state.bounds), metrics

    def _next_round(
        self, bandit: Bandit, policy: MLP, excess: Ensemble, store: Store, index: O3SRLIndex, key: Key[Array, ""]
    ) -> Bandit:
        """The bandit after it has seen what the policy costs from the beginning of episodes, with its next choice."""
        start_key, arm_key = jax.random.split(key)
        episodes = jax.random.randint(start_key, (self.batch_size,), 0, store.offsets.size - 1)
        observations = store.observations[store.offsets[episodes]]
        gap = jnp.mean(excess.max(observations, policy(observations)))
        gains = multiplier_gains(self._multipliers, gap, index.unit)
        if self.feedback == "played":
            gains = gain_estimates(gains, arm_probabilities(bandit.log_weights, self._exploration), bandit.arm)
        log_weights = bandit.log_weights + (self.bandit_rate or self._exploration / self.arms) * gains
        arm = jax.random.categorical(arm_key, jnp.log(arm_probabilities(log_weights, self._exploration)))
        return Bandit(log_weights, arm, gap)
