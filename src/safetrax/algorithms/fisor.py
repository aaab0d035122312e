"""FISOR: which states can still avoid every violation, and a diffusion policy cloned accordingly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, keep_state
from safetrax.algorithms.critics import fit_critic, fit_value, make_critic, make_value
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.diffusion_learner import diffusion_actor, fresh_denoiser, regression_loss
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked
from safetrax.algorithms.rewards import per_step_scale
from safetrax.data.store import TRANSITION_FIELDS, Store, TransitionIndex, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.feasibility import constraint_value, feasibility_target, feasibility_weights
from safetrax.losses.td import bellman_target, discounted_limit
from safetrax.losses.weights import weight_metrics
from safetrax.nets.denoiser import Denoiser
from safetrax.nets.diffusion import NoiseSchedule, ScheduleName
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, xavier_uniform
from safetrax.policies.diffusion import DiffusionActor, MostRewarding, Safest
from safetrax.settings import BelowOne, Count, NonNegative, OpenFraction, Positive, Rate, Whole, require


class FISORIndex(eqx.Module):
    """What may be drawn, and what data set and limit imply."""

    transitions: TransitionIndex  # every episode's
    reward_scale: Float[Array, ""]  # makes the range of episode returns equal to the number of steps
    threshold: Float[Array, ""]  # of the cost values, q; 0 where feasibility is learnt


class FISORState(eqx.Module):
    """What FISOR trains."""

    policy: Tracked[Denoiser]  # the denoiser, and the moving average of it that is deployed
    reward_critic: Tracked[Ensemble]  # twin Q_r and its target
    reward_value: Learner[MLP]  # V_r
    cost_critic: Tracked[Ensemble]  # twin Q_h and its target
    cost_value: Learner[MLP]  # V_h
    bounds: ActionBounds


@dataclass(frozen=True)
class FISOR(Algorithm):
    """Feasibility-guided safe offline RL (Zheng et al., ICLR 2024, arXiv:2401.10700). Defaults: its code.

    A hard constraint: no violation at all where that is possible. One stage; an update makes, in this order:

    * `policy_steps` steps of a diffusion policy, each on its own part of the batch: regression on the noise of logged
      actions with weights exp(`cost_temperature` (V_h - Q_h)) in infeasible states (V_h > 0),
      exp(`reward_temperature` (Q_r - V_r)) for feasible actions in feasible states, 0 for actions that leave the
      feasible set (Eqs. 9, 11);
    * on the first `critic_batch_size` transitions: V_r, an upper expectile of the least target Q_r; Q_r on
      r + gamma V_r(s'); V_h, a lower expectile of the greatest target Q_h; Q_h on the feasibility target of
      `safetrax.losses.feasibility` (Eqs. 5, 6).

    The limit does not matter to the training: it is a yardstick of the evaluation. With `constraint="cost"` Q_h and
    V_h are discounted costs instead, compared with the discounted limit q; then one run per limit is trained.

    Deviations from the code: rewards are scaled with the benchmark's returns where the task is known, else with those
    of the log; the Fourier features' layers are Xavier-initialised like all others.

    Metrics: see docs/fisor.md.
    """

    fast: ClassVar = {
        "updates": 10_000,
        "width": 64,
        "hidden": (128, 128),
        "policy_batch_size": 128,
        "critic_batch_size": 128,
        "ema_rate": 0.005,
        "learning_rate": 1e-3,
        "policy_learning_rate": 1e-3,
        "policy_steps": 1,
        "target_rate": 0.05,
    }

    fields = TRANSITION_FIELDS
    losses = ("policy_loss", "reward_critic_loss", "cost_critic_loss")

    constraint: Literal["feasibility", "cost"] = "feasibility"
    """What is learnt of costs: "feasibility" (whether they can be avoided) or "cost" (how much there will be)."""
    violation: Positive = 25.0
    """Constraint value of a step with a cost; a step without has -1."""
    cost_temperature: NonNegative = 5.0
    """Inverse temperature of the weights in infeasible states."""
    reward_temperature: NonNegative = 3.0
    """Inverse temperature of the weights in feasible states."""
    cost_weight_cap: Positive = 150.0
    """Greatest weight in infeasible states."""
    cost_weight_floor: NonNegative = 0.0
    """Least weight in infeasible states."""
    reward_weight_cap: Positive = 100.0
    """Greatest weight in feasible states."""
    reward_expectile: OpenFraction = 0.9
    """V_r is this expectile of Q_r."""
    cost_expectile: OpenFraction = 0.9
    """V_h is the (1 - this) expectile of Q_h."""
    candidates: Count = 16
    """Actions drawn per step when deployed, N."""
    choice: Literal["safest", "rewarding"] = "safest"
    """Which of them is played: the one of least Q_h ("safest") or of greatest Q_r ("rewarding")."""
    diffusion_steps: Count = 5
    """K."""
    noise_schedule: ScheduleName = "vp"
    """Noise schedule, "vp" or "cosine"."""
    width: Count = 256
    """Units of the denoiser's residual blocks; their hidden layers have four times as many."""
    blocks: Whole = 3
    """Residual blocks."""
    dropout: BelowOne = 0.1
    """Share of a block's inputs dropped in training."""
    ema_rate: Rate = 0.001
    """Rate at which the deployed denoiser follows."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of critics and values."""
    discount: BelowOne = 0.99
    """gamma."""
    target_rate: Rate = 0.005
    """Rate at which target critics follow."""
    learning_rate: Positive = 3e-4
    """Adam's step size for critics and values."""
    policy_learning_rate: Positive = 3e-4
    """Adam's first step size for the denoiser; it falls to zero along a half cosine."""
    policy_decay: Annotated[float, Ge(1)] = 1.5
    """Length of that cosine as a multiple of all policy steps: 1.5 ends at a quarter of the first step size."""
    policy_batch_size: Count = 1024
    """Transitions per policy step, uniform with replacement."""
    policy_steps: Count = 2
    """Policy steps per update."""
    critic_batch_size: Count = 256
    """How many of the first policy step's transitions the critics learn from."""
    updates: Whole = 1_000_000
    """Updates of everything."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high, batch = self.cost_weight_floor, self.cost_weight_cap, self.critic_batch_size
        require(low <= high, "cost_weight_floor", low, "lie between 0 and cost_weight_cap")
        require(batch <= self.policy_batch_size, "critic_batch_size", batch, "lie between 1 and policy_batch_size")

    @property
    def name(self) -> str:
        """FISOR, or FISOR-Cost."""
        return "FISOR" if self.constraint == "feasibility" else "FISOR-Cost"

    @property
    def uses_cost_limit(self) -> bool:
        """With discounted costs only."""
        return self.constraint == "cost"

    @classmethod
    def published(cls, suite: str, task: str | None = None) -> FISOR:
        """A floor under the weights on MetaDrive (the code's branch), other temperatures in the reach-avoid world."""
        if suite == "metadrive":
            return cls(cost_weight_floor=1.0)
        if suite == "reach_avoid":
            return cls(
                cost_temperature=2.0, reward_temperature=5.0, candidates=8, policy_batch_size=512, updates=100_000
            )
        return cls()

    def index(self, trajectories: Trajectories, cost_limit: float) -> FISORIndex:
        """All transitions; q with discounted costs."""
        limit = discounted_limit(cost_limit, trajectories.max_length, self.discount)
        return FISORIndex(
            transitions=TransitionIndex.all(trajectories),
            reward_scale=per_step_scale(trajectories),
            threshold=limit if self.constraint == "cost" else jnp.zeros(()),
        )

    def init(self, key: Key[Array, ""], spec: Spec) -> FISORState:
        """Xavier-uniform weights, zero biases."""
        keys = jax.random.split(key, 5)
        denoiser = fresh_denoiser(keys[0], spec, self.width, self.blocks, self.dropout)
        common = (spec, self.hidden, optax.adam(self.learning_rate))
        return FISORState(
            policy=Tracked.make(denoiser, self._policy_optimiser()),
            reward_critic=make_critic(keys[1], *common, initialiser=xavier_uniform),
            reward_value=make_value(keys[2], *common, initialiser=xavier_uniform),
            cost_critic=make_critic(keys[3], *common, initialiser=xavier_uniform),
            cost_value=make_value(keys[4], *common, initialiser=xavier_uniform),
            bounds=ActionBounds.of(spec),
        )

    def stages(self) -> tuple[Stage, ...]:
        """One. At first the few violations make every state look infeasible; to unlearn that takes the time in which
        values spread, 1 / (`target_rate` (1 - `discount`)) updates."""
        settles = round(1 / (self.target_rate * (1 - self.discount)))
        return (Stage("train", self.updates, keep_state, self._update, settles),)

    def actor(self, state: FISORState) -> DiffusionActor:
        """The averaged denoiser and the target critics."""
        safest = self.choice == "safest"
        choice = Safest(state.cost_critic.target) if safest else MostRewarding(state.reward_critic.target)
        schedule = NoiseSchedule.make(self.noise_schedule, self.diffusion_steps)
        return diffusion_actor(state.policy.target, schedule, choice, state.bounds, self.candidates)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """Nothing feasible, nothing cloned, or all alike."""
        sentences = []
        if lasts(history, "infeasible", lambda share: share > 0.99):
            remedy = "raise the cost limit" if self.uses_cost_limit else "lower violation, so that it looks less far"
            sentences.append(
                "nearly every state counts as infeasible, so that reward plays no part; "
                f"{remedy}, or add safe episodes."
            )
        if lasts(history, "clipped", lambda share: share > 0.99):
            sentences.append(
                "all weights are at their cap, so that the policy clones all actions alike; lower the temperatures."
            )
        if lasts(history, "policy_gradient", lambda norm: norm == 0):
            sentences.append(
                "the policy receives no gradient: every weight is zero; lower cost_temperature or set "
                "cost_weight_floor."
            )
        return tuple(sentences)

    def _update(
        self, state: FISORState, store: Store, index: FISORIndex, key: Key[Array, ""]
    ) -> tuple[FISORState, Metrics]:
        draw_key, *policy_keys = jax.random.split(key, 1 + self.policy_steps)
        rows = index.transitions.sample(draw_key, self.policy_steps * self.policy_batch_size)
        # the critics, and so the weights, are the same in all policy steps
        for part, policy_key in zip(jnp.split(rows, self.policy_steps), policy_keys, strict=True):
            state, metrics = self._improve(state, store.transitions(part), index, policy_key)
        state, critic_metrics = self._evaluate(state, store.transitions(rows[: self.critic_batch_size]), index)
        return state, {**metrics, **critic_metrics}

    def _improve(
        self, state: FISORState, batch: Transitions, index: FISORIndex, key: Key[Array, ""]
    ) -> tuple[FISORState, Metrics]:
        """One policy step (Eq. 11)."""
        pairs = (batch.observations, batch.actions)
        value = state.cost_value.network(batch.observations)[:, 0] - index.threshold
        action_value = state.cost_critic.target.max(*pairs) - index.threshold
        advantage = state.reward_critic.target.min(*pairs) - state.reward_value.network(batch.observations)[:, 0]
        weight = feasibility_weights(
            value,
            action_value,
            advantage,
            cost_temperature=self.cost_temperature,
            reward_temperature=self.reward_temperature,
            cost_bounds=(self.cost_weight_floor, self.cost_weight_cap),
            reward_cap=self.reward_weight_cap,
        )
        schedule = NoiseSchedule.make(self.noise_schedule, self.diffusion_steps)
        policy, fit = state.policy.step(
            self._policy_optimiser(), lambda denoiser: (regression_loss(denoiser, schedule, batch, weight, key), None)
        )
        infeasible = value > 0
        return replace(state, policy=policy.follow(self.ema_rate)), {
            "infeasible": jnp.mean(infeasible),
            "abandoned": jnp.mean(~infeasible & (action_value > 0)),
            **weight_metrics(weight, jnp.where(infeasible, self.cost_weight_cap, self.reward_weight_cap)),
            "policy_loss": fit.loss,
            "policy_gradient": fit.gradient,
        }

    def _evaluate(self, state: FISORState, batch: Transitions, index: FISORIndex) -> tuple[FISORState, Metrics]:
        """One step of every critic and value, each with what came before it."""
        adam, observations = optax.adam(self.learning_rate), batch.observations

        reward_q = state.reward_critic.target.min(observations, batch.actions)
        reward_value, of_reward_value = fit_value(
            state.reward_value, adam, observations, reward_q, self.reward_expectile
        )
        next_reward = reward_value.network(batch.next_observations)[:, 0]
        reward_target = bellman_target(index.reward_scale * batch.rewards, next_reward, self.discount, batch.done)
        reward_critic, of_reward_critic = fit_critic(state.reward_critic, adam, batch, reward_target)

        cost_q = state.cost_critic.target.max(observations, batch.actions)
        cost_value, of_cost_value = fit_value(state.cost_value, adam, observations, cost_q, 1 - self.cost_expectile)
        next_cost = cost_value.network(batch.next_observations)[:, 0]
        if self.constraint == "feasibility":
            constraint = constraint_value(batch.costs, self.violation)
            cost_target = feasibility_target(constraint, next_cost, batch.done, self.discount)
        else:
            cost_target = bellman_target(batch.costs, next_cost, self.discount, batch.done)
        cost_critic, of_cost_critic = fit_critic(state.cost_critic, adam, batch, cost_target)
        return replace(
            state,
            reward_critic=reward_critic.follow(self.target_rate),
            reward_value=reward_value,
            cost_critic=cost_critic.follow(self.target_rate),
            cost_value=cost_value,
        ), {
            "reward_value": jnp.mean(of_reward_value.extra),
            "cost_value": jnp.mean(of_cost_value.extra),
            "reward_value_loss": of_reward_value.loss,
            "reward_critic_loss": of_reward_critic.loss,
            "cost_value_loss": of_cost_value.loss,
            "cost_critic_loss": of_cost_critic.loss,
            "cost": jnp.mean(batch.costs),
        }

    def _policy_optimiser(self) -> optax.GradientTransformation:
        decay = round(self.policy_decay * max(self.updates * self.policy_steps, 1))
        return optax.adam(optax.cosine_decay_schedule(self.policy_learning_rate, decay))
