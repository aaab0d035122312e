"""BARS: values of the most careful policy divide the states; the policy clones in safe ones and flees from others.

Longer than the other files: three stages, and a switch for every reading that the paper leaves open (docs/bars.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int32, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, keep_state
from safetrax.algorithms.critics import fit_critic, fit_value, make_critic, make_value
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.diffusion_learner import (
    diffusion_actor,
    draw_actions,
    fresh_denoiser,
    noised_actions,
    regression_loss,
)
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked
from safetrax.algorithms.rewards import per_step_scale
from safetrax.data.store import TRANSITION_FIELDS, Store, TransitionIndex, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.regions import tempered_value
from safetrax.losses.td import bellman_target, discounted_limit
from safetrax.losses.weights import capped_exponential, straightened_exponential
from safetrax.nets.denoiser import Denoiser
from safetrax.nets.diffusion import NoiseSchedule, ScheduleName
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, xavier_uniform
from safetrax.policies.diffusion import DiffusionActor, MostRewarding, MostRewardingWithin, Safest
from safetrax.settings import BelowOne, Count, Fraction, NonNegative, OpenFraction, Positive, Rate, Whole, require


class BARSIndex(eqx.Module):
    """What may be drawn, and what data set and limit imply."""

    transitions: TransitionIndex  # every episode's
    reward_scale: Float[Array, ""]  # makes the range of episode returns equal to the number of steps
    region_limit: Float[Array, ""]  # what the most careful policy's cost values are compared with
    policy_limit: Float[Array, ""]  # what the policy's own cost values are compared with, delta


class BARSState(eqx.Module):
    """What BARS trains."""

    region_critic: Tracked[Ensemble]  # twin Q_c of the most careful policy, and its target. Stage 1 only
    region_value: Learner[MLP]  # its V_c. Stage 1 only
    reward_critic: Tracked[Ensemble]  # twin Q_r of the policy, and its target
    reward_value: Learner[MLP]  # V_r of the policy
    cost_critic: Tracked[Ensemble]  # twin Q_c of the policy, and its target
    policy: Tracked[Denoiser]  # the denoiser, and the moving average of it that is deployed
    previous: Denoiser  # the denoiser some updates ago, to which the last stage is anchored
    anchored: Int32[Array, ""]  # updates of the last stage so far
    region_limit: Float[Array, ""]  # a copy of the index's, for the actor
    bounds: ActionBounds


class Regions(eqx.Module):
    """What the most careful policy's values say of a batch."""

    safe: Bool[Array, " B"]  # rows of safe states whose logged action is safe too
    unsafe: Bool[Array, " B"]  # rows of unsafe states
    value: Float[Array, " B"]  # V_c
    advantage: Float[Array, " B"]  # Q_c - V_c of the logged action


@dataclass(frozen=True)
class BARS(Algorithm):
    """Behavior-aware, region-based offline safe RL (2025 submission; no code is public). Defaults: the paper's, and
    FISOR's where it is silent.

    Three stages:

    * `critics`: V_c and Q_c of the most careful policy that the log supports, by expectile regression (Eqs. 5, 6).
    * `policy`: they stay. In safe states (V_c within the limit), logged actions that are safe too (Q_c within the
      limit) are cloned by a diffusion policy with weights exp(`reward_temperature` A_r) (Eq. 9), where A_r is the
      policy's own Q_r, divided by its own Q_c where that exceeds delta (Eq. 7). In unsafe states, actions drawn from
      the policy move to where Q_c is least (Eq. 10). The policy's own values follow it (Eqs. 13, 14).
    * `anchored`: the same, and in unsafe states the policy keeps close to what it was a few updates ago (Eq. 11).

    The paper leaves much open, and some of its formulas cannot be meant as printed; docs/bars.md lists every
    decision and the setting that takes the other one.

    Metrics: see docs/bars.md.
    """

    fast: ClassVar = {
        "critic_updates": 6000,
        "updates": 3000,
        "width": 64,
        "hidden": (128, 128),
        "policy_batch_size": 128,
        "critic_batch_size": 128,
        "unsafe_batch_size": 32,
        "ema_rate": 0.005,
        "learning_rate": 1e-3,
        "policy_learning_rate": 1e-3,
        "target_rate": 0.05,
    }

    fields = TRANSITION_FIELDS
    losses = ("cost_critic_loss", "cost_value_loss", "clone_loss", "escape_loss", "reward_critic_loss")

    raw_limit: bool = False
    """Compare discounted cost values with the episode's limit itself (as printed), not with its discounted share."""
    continuation: Rate = 0.99
    """alpha: an episode goes on with this probability, so that stage 1 discounts with alpha gamma."""
    cost_expectile: OpenFraction = 0.9
    """V_c of stage 1 is the (1 - this) expectile of Q_c, tau."""
    unsafe_loss: Literal["escape", "regression", "literal"] = "escape"
    """In unsafe states: "escape" minimises exp(+mu_2 A_c) of drawn actions, "regression" clones logged actions with
    weights exp(-mu_2 A_c), "literal" minimises exp(-mu_2 A_c) of drawn actions, as printed: it seeks cost."""
    temper: Literal["ratio", "penalty"] = "ratio"
    """A_r where Q_c > delta: "ratio" is Q_r / Q_c (Eq. 7), "penalty" Q_r - |Q_r| (1 - 1/Q_c), which is never more."""
    delta: Positive | None = None
    """delta of Eq. 7. None: the limit, discounted unless `raw_limit`."""
    least_delta: NonNegative = 1.0
    """delta is at least this: dividing by a Q_c below 1 would reward cost. 0: as printed."""
    baseline: Literal["value", "batch", "none"] = "value"
    """Subtracted from A_r: "value" (V_r, a fifth critic), "batch" (the mean over the cloned), "none" (as printed)."""
    clone_unsafe_actions: bool = False
    """Weight 1 instead of 0 for unsafe actions in safe states: Eq. 9 as printed, against Algorithm 1."""
    reward_temperature: NonNegative = 3.0
    """mu_1."""
    cost_temperature: NonNegative = 5.0
    """mu_2."""
    safe_weight: NonNegative = 1.0
    """b_1, of the loss in safe states."""
    unsafe_weight: NonNegative = 3.0
    """b_2, of the loss in unsafe states."""
    reward_weight_cap: Positive = 100.0
    """Greatest weight of a cloned action."""
    cost_weight_cap: Positive = 150.0
    """Greatest exp(mu_2 A_c); beyond, the loss goes on in a straight line, so that its gradient stays."""
    anchor_after: Fraction = 0.5
    """Share of `updates` before the anchor, K_trust; 1: no anchor."""
    anchor_weight: NonNegative = 1.0
    """Weight of the anchor within the loss in unsafe states."""
    anchor_every: Count = 5
    """Updates between two refreshments of what the policy is anchored to, k."""
    bootstrap: Literal["average", "current"] = "average"
    """Which policy draws a' of Eqs. 13 and 14: the moving average, or the current one."""
    candidates: Count = 16
    """Actions drawn per step when deployed, N."""
    choice: Literal["safest", "rewarding"] = "safest"
    """Which of them is played: the one of least Q_c of stage 1 ("safest"), or, of those within the limit, the one of
    greatest Q_r ("rewarding")."""
    diffusion_steps: Count = 5
    """K."""
    noise_schedule: ScheduleName = "vp"
    """Noise schedule, "vp" or "cosine"."""
    width: Count = 256
    """Units of the denoiser's residual blocks; their hidden layers have four times as many."""
    blocks: Whole = 3
    """Residual blocks."""
    dropout: BelowOne = 0.1
    """Share of a block's inputs dropped while cloning."""
    ema_rate: Rate = 0.001
    """Rate at which the deployed denoiser follows."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of critics and values."""
    discount: BelowOne = 0.99
    """gamma."""
    mask_ends: bool = True
    """Values end where an episode does; off: they go on, as printed."""
    target_rate: Rate = 0.005
    """Rate at which target critics follow."""
    learning_rate: Positive = 3e-4
    """Adam's step size for critics and values."""
    policy_learning_rate: Positive = 3e-4
    """Adam's step size for the denoiser."""
    policy_batch_size: Count = 1024
    """Transitions per policy step, uniform with replacement."""
    unsafe_batch_size: Count = 256
    """Of these, how many in unsafe states actions are drawn for."""
    critic_batch_size: Count = 256
    """How many of the transitions the critics learn from."""
    critic_updates: Whole = 1_000_000
    """Updates of the first stage."""
    updates: Whole = 1_000_000
    """Updates of the policy, with and without the anchor."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("unsafe_batch_size", "critic_batch_size"):
            size = getattr(self, name)
            require(size <= self.policy_batch_size, name, size, "lie between 1 and policy_batch_size")

    @classmethod
    def published(cls, suite: str, task: str | None = None) -> BARS:
        """b_1 = 3 and b_2 = 1 on the two tasks where the paper finds safety easy (D.5), a shorter schedule in the
        reach-avoid world."""
        if task in ("AntVelocity", "HalfCheetahVelocity"):
            return cls(safe_weight=3.0, unsafe_weight=1.0)
        if suite == "reach_avoid":
            return cls(candidates=8, policy_batch_size=512, critic_updates=100_000, updates=100_000)
        return cls()

    def index(self, trajectories: Trajectories, cost_limit: float) -> BARSIndex:
        """All transitions, and the limit in the units of either value."""
        horizon, limit = trajectories.max_length, jnp.float32(cost_limit)
        careful = limit if self.raw_limit else discounted_limit(limit, horizon, self.continuation * self.discount)
        own = limit if self.raw_limit else discounted_limit(limit, horizon, self.discount)
        return BARSIndex(
            transitions=TransitionIndex.all(trajectories),
            reward_scale=per_step_scale(trajectories),
            region_limit=careful,
            policy_limit=jnp.maximum(own if self.delta is None else self.delta, self.least_delta),
        )

    def init(self, key: Key[Array, ""], spec: Spec) -> BARSState:
        """Xavier-uniform weights, zero biases."""
        keys = jax.random.split(key, 6)
        common = (spec, self.hidden, self._optimiser())
        denoiser = fresh_denoiser(keys[5], spec, self.width, self.blocks, self.dropout)
        return BARSState(
            region_critic=make_critic(keys[0], *common, initialiser=xavier_uniform),
            region_value=make_value(keys[1], *common, initialiser=xavier_uniform),
            reward_critic=make_critic(keys[2], *common, initialiser=xavier_uniform),
            reward_value=make_value(keys[3], *common, initialiser=xavier_uniform),
            cost_critic=make_critic(keys[4], *common, initialiser=xavier_uniform),
            policy=Tracked.make(denoiser, self._policy_optimiser()),
            previous=denoiser,
            anchored=jnp.zeros((), jnp.int32),
            region_limit=jnp.zeros(()),
            bounds=ActionBounds.of(spec),
        )

    def stages(self) -> tuple[Stage, ...]:
        """Regions, the policy, and the policy held near its past."""
        free = round(self.anchor_after * self.updates)
        return (
            Stage("critics", self.critic_updates, self._begin, self._learn_regions),
            Stage("policy", free, keep_state, partial(self._improve, anchored=False)),
            Stage("anchored", self.updates - free, self._anchor, partial(self._improve, anchored=True)),
        )

    def actor(self, state: BARSState) -> DiffusionActor:
        """The averaged denoiser."""
        safest = Safest(state.region_critic.target)
        choice: Safest | MostRewardingWithin = safest
        if self.choice == "rewarding":
            rewarding = MostRewarding(state.reward_critic.target)
            choice = MostRewardingWithin(rewarding, safest, state.region_limit)
        schedule = self._noise_schedule()
        return diffusion_actor(state.policy.target, schedule, choice, state.bounds, self.candidates)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """Nothing safe, nothing cloned, or all alike."""
        sentences = []
        if lasts(history, "unsafe", lambda share: share > 0.99):
            sentences.append(
                "nearly every state counts as unsafe, so that reward plays no part; raise the cost limit, set "
                "raw_limit, or add safe episodes."
            )
        if lasts(history, "clipped", lambda share: share > 0.99):
            sentences.append(
                "all weights are at their cap, so that the policy clones all safe actions alike; lower "
                "reward_temperature."
            )
        if lasts(history, "policy_gradient", lambda norm: norm == 0):
            sentences.append(
                "the policy receives no gradient: it clones nothing, and in unsafe states, if there are any, all its "
                "actions are at their bounds."
            )
        return tuple(sentences)

    # Stage 1

    def _begin(self, state: BARSState, store: Store, index: BARSIndex, key: Key[Array, ""]) -> BARSState:
        return replace(state, region_limit=index.region_limit)

    def _learn_regions(
        self, state: BARSState, store: Store, index: BARSIndex, key: Key[Array, ""]
    ) -> tuple[BARSState, Metrics]:
        """Eqs. 5 and 6."""
        batch = store.transitions(index.transitions.sample(key, self.critic_batch_size))
        quality = state.region_critic.target.max(batch.observations, batch.actions)

        value, of_value = fit_value(
            state.region_value, self._optimiser(), batch.observations, quality, 1 - self.cost_expectile
        )
        following = value.network(batch.next_observations)[:, 0]
        target = bellman_target(batch.costs, following, self.continuation * self.discount, self._ends(batch))
        critic, of_critic = fit_critic(state.region_critic, self._optimiser(), batch, target)
        metrics = {
            "cost_value": jnp.mean(of_value.extra),
            "unsafe": jnp.mean(of_value.extra > index.region_limit),
            "cost_value_loss": of_value.loss,
            "cost_critic_loss": of_critic.loss,
            "cost": jnp.mean(batch.costs),
        }
        return replace(state, region_critic=critic.follow(self.target_rate), region_value=value), metrics

    # Stages 2 and 3

    def _anchor(self, state: BARSState, store: Store, index: BARSIndex, key: Key[Array, ""]) -> BARSState:
        """Anchor to the policy of now."""
        return replace(state, previous=state.policy.network, anchored=jnp.zeros((), jnp.int32))

    def _improve(
        self, state: BARSState, store: Store, index: BARSIndex, key: Key[Array, ""], *, anchored: bool
    ) -> tuple[BARSState, Metrics]:
        draw_key, critic_key, clone_key, escape_key = jax.random.split(key, 4)
        batch = store.transitions(index.transitions.sample(draw_key, self.policy_batch_size))
        # the critics' rows are the first, so that nothing is gathered twice
        few: Transitions = jax.tree.map(lambda x: x[: self.critic_batch_size], batch)
        state, metrics = self._evaluate(state, few, index, critic_key)
        regions = self.regions(state, batch, index)
        weight, weight_metrics = self.clone_weights(state, batch, regions, index)
        if anchored:
            renewed = state.anchored % self.anchor_every == 0
            previous = jax.tree.map(
                lambda old, new: jnp.where(renewed, new, old), state.previous, state.policy.network
            )
            state = replace(state, previous=previous, anchored=state.anchored + 1)

        schedule = self._noise_schedule()

        def loss(denoiser: Denoiser) -> tuple[jax.Array, Metrics]:
            clone = regression_loss(denoiser, schedule, batch, weight, clone_key)
            escape, parts = self._escape(denoiser, state, batch, regions, escape_key, anchored=anchored)
            return clone + self.unsafe_weight * escape, {"clone_loss": clone, **parts}

        policy, fit = state.policy.step(self._policy_optimiser(), loss)
        metrics = {
            **metrics,
            **weight_metrics,
            **fit.extra,
            "unsafe": jnp.mean(regions.unsafe),
            "safe": jnp.mean(regions.safe),
            "ignored": jnp.mean(~regions.safe & ~regions.unsafe),
            "policy_gradient": fit.gradient,
        }
        return replace(state, policy=policy.follow(self.ema_rate)), metrics

    def regions(self, state: BARSState, batch: Transitions, index: BARSIndex) -> Regions:
        """Algorithm 1, lines 7 and 8: rows that are neither are left out."""
        value = state.region_value.network(batch.observations)[:, 0]
        quality = state.region_critic.target.max(batch.observations, batch.actions)
        unsafe = value > index.region_limit
        return Regions(
            safe=~unsafe & (quality <= index.region_limit), unsafe=unsafe, value=value, advantage=quality - value
        )

    def clone_weights(
        self, state: BARSState, batch: Transitions, regions: Regions, index: BARSIndex
    ) -> tuple[Float[Array, " B"], Metrics]:
        """b_1 times the weights of Eq. 9, and with `unsafe_loss="regression"` b_2 times those of unsafe states."""
        pairs = (batch.observations, batch.actions)
        reward, cost = state.reward_critic.target.min(*pairs), state.cost_critic.target.max(*pairs)
        advantage = self._tempered(reward, cost, index)
        count = jnp.maximum(jnp.sum(regions.safe), 1)
        if self.baseline == "value":
            advantage -= state.reward_value.network(batch.observations)[:, 0]
        elif self.baseline == "batch":
            advantage -= jnp.sum(jnp.where(regions.safe, advantage, 0.0)) / count
        clone = capped_exponential(self.reward_temperature * advantage, self.reward_weight_cap)
        metrics = {
            "weight": jnp.sum(jnp.where(regions.safe, clone, 0.0)) / count,
            "clipped": jnp.sum(regions.safe & (clone >= self.reward_weight_cap)) / count,
        }
        other = 1.0 if self.clone_unsafe_actions else 0.0
        weight = self.safe_weight * jnp.where(regions.safe, clone, jnp.where(regions.unsafe, 0.0, other))
        if self.unsafe_loss == "regression":
            escape = capped_exponential(-self.cost_temperature * regions.advantage, self.cost_weight_cap)
            weight += self.unsafe_weight * jnp.where(regions.unsafe, escape, 0.0)
        return weight, metrics

    def _escape(
        self,
        denoiser: Denoiser,
        state: BARSState,
        batch: Transitions,
        regions: Regions,
        key: Key[Array, ""],
        *,
        anchored: bool,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Eqs. 10 and 11 as `unsafe_loss` reads them, on unsafe rows drawn from the batch."""
        nothing = jnp.zeros(())
        if self.unsafe_loss == "regression" and not anchored:  # that one is cloned
            return nothing, {"escape_loss": nothing, "anchor_loss": nothing, "escape_advantage": nothing}
        # unsafe ones first; the batch is in random order
        rows = jnp.argsort(~regions.unsafe)[: self.unsafe_batch_size]
        mask, observations = regions.unsafe[rows], batch.observations[rows]

        def mean(x: Float[Array, " U"]) -> Float[Array, ""]:
            """Over the whole batch, safe rows counting as 0."""
            return jnp.mean(regions.unsafe) * jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1)

        action_key, noise_key = jax.random.split(key)
        schedule = self._noise_schedule()
        actions = draw_actions(denoiser, schedule, observations, action_key, batch.actions.shape[1])
        advantage = state.region_critic.target.max(observations, actions) - regions.value[rows]
        tempered = self.cost_temperature * advantage
        weight = capped_exponential(-tempered, self.cost_weight_cap)
        escape, anchor = nothing, nothing
        if self.unsafe_loss == "escape":
            escape = mean(straightened_exponential(tempered, self.cost_weight_cap))
        elif self.unsafe_loss == "literal" and not anchored:
            escape = mean(weight)
        if anchored:
            noised, steps, _ = noised_actions(schedule, jax.lax.stop_gradient(actions), noise_key)
            inputs = (observations, noised, steps)
            distance = jnp.sum(jnp.square(denoiser(*inputs) - state.previous(*inputs)), axis=-1)
            factor = weight if self.unsafe_loss == "literal" else jax.lax.stop_gradient(weight)
            anchor = self.anchor_weight * mean(factor * distance)
        average = jnp.sum(jnp.where(mask, advantage, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
        metrics = {"escape_loss": escape, "anchor_loss": anchor, "escape_advantage": average}
        return escape + anchor, metrics

    def _evaluate(
        self, state: BARSState, batch: Transitions, index: BARSIndex, key: Key[Array, ""]
    ) -> tuple[BARSState, Metrics]:
        """Eqs. 13 and 14, and V_r: the mean A_r of the actions that the policy draws."""
        policy = state.policy.target if self.bootstrap == "average" else state.policy.network
        states = batch.next_observations
        if self.baseline == "value":  # an episode's first state follows none
            states = jnp.concatenate([states, batch.observations])
        actions = draw_actions(policy, self._noise_schedule(), states, key, batch.actions.shape[1])
        reward, cost = state.reward_critic.target.min(states, actions), state.cost_critic.target.max(states, actions)
        next_reward, next_cost = (x[: batch.rewards.shape[0]] for x in (reward, cost))

        adam, ends = self._optimiser(), self._ends(batch)
        reward_target = bellman_target(index.reward_scale * batch.rewards, next_reward, self.discount, ends)
        reward_critic, of_reward_critic = fit_critic(state.reward_critic, adam, batch, reward_target)
        cost_target = bellman_target(batch.costs, next_cost, self.discount, ends)
        cost_critic, of_cost_critic = fit_critic(state.cost_critic, adam, batch, cost_target)
        tempered = self._tempered(reward, cost, index)
        reward_value, of_reward_value = state.reward_value.step(
            adam, lambda network: (jnp.mean(jnp.square(network(states)[:, 0] - tempered)), None)
        )
        state = replace(
            state,
            reward_critic=reward_critic.follow(self.target_rate),
            cost_critic=cost_critic.follow(self.target_rate),
            reward_value=reward_value,
        )
        return state, {
            "reward_value": jnp.mean(next_reward),
            "policy_cost_value": jnp.mean(next_cost),
            "reward_critic_loss": of_reward_critic.loss,
            "policy_cost_critic_loss": of_cost_critic.loss,
            "reward_value_loss": of_reward_value.loss,
        }

    def _tempered(self, reward: Float[Array, "*b"], cost: Float[Array, "*b"], index: BARSIndex) -> Float[Array, "*b"]:
        return tempered_value(reward, cost, index.policy_limit, penalty=self.temper == "penalty")

    def _ends(self, batch: Transitions) -> Bool[Array, " B"] | None:
        return batch.done if self.mask_ends else None

    def _noise_schedule(self) -> NoiseSchedule:
        return NoiseSchedule.make(self.noise_schedule, self.diffusion_steps)

    def _policy_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.policy_learning_rate)

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
