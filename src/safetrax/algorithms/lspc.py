"""LSPC: a latent space that decodes to safe actions, and an encoder that looks for return inside of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Gt, Le
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Variant
from safetrax.algorithms.critics import fit_critic, fit_cvae, fit_value, make_critic, make_value
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import ActionBounds, Fit, Learner, Tracked
from safetrax.data.store import TRANSITION_FIELDS, Store, TransitionIndex, Transitions
from safetrax.data.trajectories import Trajectories
from safetrax.losses.latent import centre_distance
from safetrax.losses.td import bellman_target
from safetrax.losses.weights import capped_exponential, effective_share, weight_metrics
from safetrax.nets.cvae import CVAE, Decoder
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.policies.latent import LARGEST_RESTRICTION, LatentActor, LatentEncoder
from safetrax.settings import BelowOne, Count, NonNegative, OpenFraction, Positive, Rate, Whole

_VANISHING = 1e-3  # mean weight below which nothing to speak of is cloned
_ONE_ACTION = 0.3  # of `centre`: below it, z = 0 decodes to much the same action in every state


class LSPCState(eqx.Module):
    """What LSPC trains."""

    reward_critic: Tracked[Ensemble]  # twin Q_r and its target
    reward_value: Learner[MLP]  # V_r
    cost_critic: Tracked[Ensemble]  # twin Q_c and its target
    cost_value: Learner[MLP]  # V_c
    cvae: Learner[CVAE]  # of actions, weighted towards the cheap ones
    encoder: Learner[LatentEncoder]  # of the latents that LSPC-O decodes
    bounds: ActionBounds


@dataclass(frozen=True)
class LSPC(Algorithm):
    """Latent safety-prioritised constraints (arXiv:2412.08794). Defaults: Table 2.

    One stage. Every update makes, in this order, with all values and advantages taken before it:

    * V_r and V_c by expectile regression on the target critics (Eqs. 39, 41), Q_r and Q_c on r + gamma V_r(s') and
      c + gamma V_c(s') (Eqs. 40, 42);
    * a CVAE that clones actions with weights exp(lambda (V_c - Q_c)), so that the centre of its latent space decodes
      to cheap actions (Eq. 43);
    * an encoder of states whose latents epsilon tanh(u), decoded by the frozen decoder, clone actions with weights
      exp(zeta (Q_r - V_r)) (Eq. 44).

    One training serves all cost limits and gives two policies. LSPC-S decodes draws of the prior, clipped to
    +-`prior_restriction`; LSPC-O decodes the encoder's latents. `policy.adjusted(restriction=0.1)` makes either of
    them more cautious afterwards, `policy.adjusted(noise=0)` deterministic.

    Deviations from the paper follow its code, which made the published numbers: targets do not bootstrap over an
    episode's end, V_c and Q_c are clipped at zero, the KL term is the mean over the latent dimensions (the paper's
    is the sum), a transition is masked where V_c or Q_c reaches `cost_threshold`. Both take the *lower* expectile of
    Q_c, although the paper's text says that it "discourages underestimation".
    Deviations from the code: LSPC-S has the paper's restriction 0.25 on Bullet-Safety-Gym too, where the code gives
    both policies 0.6 (`prior_restriction`); V_c learns where it is negative too (`clip_stops_gradient`), for without
    a gradient there it is dead from the start in many runs; the last policy is kept, not the best in the simulator.

    Metrics: see docs/lspc.md.
    """

    fast: ClassVar = {"updates": 20_000, "batch_size": 256, "target_rate": 0.05}

    restriction: Annotated[float, Gt(0), Le(LARGEST_RESTRICTION)] = 0.25
    """Bound on each number of the latent that LSPC-O decodes, epsilon. Larger: more return, more cost."""
    prior_restriction: Annotated[float, Ge(0), Le(LARGEST_RESTRICTION)] = 0.25
    """The same for LSPC-S; not used in training."""
    cost_temperature: NonNegative = 2.0
    """Inverse temperature of the cost weights, lambda. Larger: only the cheapest actions are cloned."""
    reward_temperature: NonNegative = 2.0
    """Inverse temperature of the reward weights, zeta."""
    cost_weight_cap: Positive = 200.0
    """Greatest weight by cost."""
    reward_weight_cap: Positive = 200.0
    """Greatest weight by reward."""
    cost_threshold: Positive | None = None
    """Transitions with V_c or Q_c at or above it get no weight by cost, theta. None: all get theirs."""
    expectile: OpenFraction = 0.7
    """xi: V_r is this expectile of Q_r, V_c the (1 - xi) one of Q_c; 0.5 gives means (ablation, Figure 8)."""
    converse: bool = False
    """Swap the weights: the CVAE clones by reward, the encoder by cost (ablation, Figure 5)."""
    deterministic: bool = False
    """Deploy without noise: LSPC-S decodes z = 0, LSPC-O the mean of u."""
    clip_stops_gradient: bool = False
    """V_c does not learn where it is negative, for its clip at zero stops the gradient (code): it may never learn."""
    discount: BelowOne = 0.99
    """gamma."""
    target_rate: Rate = 0.005
    """Rate at which target critics follow, tau."""
    reward_scale: Positive = 1.0
    """Rewards are multiplied by it; `reward_temperature` sees the scaled ones."""
    kl_weight: NonNegative = 0.5
    """Weight of the CVAE's divergence from the prior, which is a mean over latent dimensions."""
    latent: Count = 32
    """Dimensions of the latent space, L."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of critics, values and encoder."""
    cvae_hidden: Count = 256
    """Units of the two hidden layers on either side of the CVAE."""
    updates: Whole = 1_000_000
    """Gradient steps."""
    batch_size: Count = 1024
    """Transitions per batch, uniform with replacement."""
    critic_learning_rate: Positive = 3e-4
    """Adam's step size for the critics and values."""
    cvae_learning_rate: Positive = 3e-4
    """Adam's step size for the CVAE."""
    policy_learning_rate: Positive = 3e-4
    """Adam's step size for the encoder."""

    fields = TRANSITION_FIELDS
    losses = ("cvae_loss", "policy_loss", "reward_critic_loss", "cost_critic_loss")
    uses_cost_limit = False

    @property
    def name(self) -> str:
        """LSPC or LSPC-Converse; its policies have names of their own."""
        return "LSPC-Converse" if self.converse else "LSPC"

    @classmethod
    def published(cls, suite: str, task: str | None = None) -> LSPC:
        """A wider latent space for LSPC-O on Bullet-Safety-Gym but for AntRun, a mask on MetaDrive."""
        if suite == "bullet" and task != "AntRun":
            return cls(restriction=0.6)
        return cls(cost_threshold=0.02) if suite == "metadrive" else cls()

    def index(self, trajectories: Trajectories, cost_limit: float) -> TransitionIndex:
        """All transitions, whatever the limit."""
        return TransitionIndex.all(trajectories)

    def init(self, key: Key[Array, ""], spec: Spec) -> LSPCState:
        """PyTorch's default initialisation, as in the reference code."""
        keys = jax.random.split(key, 6)
        observation, action, adam = spec.observation_size, spec.action_size, optax.adam(self.critic_learning_rate)
        cvae = CVAE.make(keys[4], observation, action, self.cvae_hidden, self.latent)
        encoder = LatentEncoder.make(keys[5], observation, self.hidden, self.latent)
        return LSPCState(
            reward_critic=make_critic(keys[0], spec, self.hidden, adam),
            reward_value=make_value(keys[1], spec, self.hidden, adam),
            cost_critic=make_critic(keys[2], spec, self.hidden, adam),
            cost_value=make_value(keys[3], spec, self.hidden, adam),
            cvae=Learner.make(cvae, optax.adam(self.cvae_learning_rate)),
            encoder=Learner.make(encoder, optax.adam(self.policy_learning_rate)),
            bounds=ActionBounds.of(spec),
        )

    def actor(self, state: LSPCState) -> LatentActor:
        """That of LSPC-O."""
        return LatentActor(
            decoder=state.cvae.network.decoder,
            encoder=state.encoder.network,
            action_low=state.bounds.low,
            action_high=state.bounds.high,
            restriction=jnp.float32(self.restriction),
            from_prior=jnp.float32(0),
            noise=jnp.float32(0 if self.deterministic else 1),
        )

    def variants(self, cost_limits: Sequence[float]) -> tuple[Variant, ...]:
        """LSPC-O and LSPC-S; of the converse LSPC-O alone, for its prior decodes to rewarding actions."""
        if self.converse:
            return (Variant("LSPC-O-Converse"),)
        safe = {"from_prior": 1.0, "restriction": self.prior_restriction}
        return (Variant("LSPC-O"), Variant("LSPC-S", adjustments=safe))

    def diagnose(self, history: History) -> tuple[str, ...]:
        """Weights that tell nothing apart, or vanish; a latent's centre, an encoder or a cost value that lags."""
        by_cost, by_reward = ("policy_", "") if self.converse else ("", "policy_")
        who = {"": "the CVAE", "policy_": "the encoder"}
        sentences = []
        for kind, role in (("cost", by_cost), ("reward", by_reward)):
            if lasts(history, f"{role}clipped", lambda share: share == 1):
                sentences.append(
                    f"all weights of {who[role]} are at their cap, so that it clones all actions alike; lower "
                    f"{kind}_temperature or raise {kind}_weight_cap."
                )
            if kind == "cost" and lasts(history, "above_limit", lambda share: share == 1):
                sentences.append(
                    f"V_c or Q_c reaches cost_threshold everywhere, so that {who[role]} clones nothing; raise it or "
                    "set it to none."
                )
            elif lasts(history, f"{role}weight", lambda mean: mean < _VANISHING):
                sentences.append(
                    f"the weights of {who[role]} vanish, so that it clones next to nothing; lower {kind}_temperature."
                )
        if lasts(history, "centre", lambda distance: distance < _ONE_ACTION):
            sentences.append(
                "the centre of the latent space decodes to nearly one action everywhere, the mean of the rows that "
                "have the weight, and the policies act from there; train for more updates or raise kl_weight."
            )
        if lasts(history, "policy_gradient", lambda norm: norm == 0):
            sentences.append(
                "the encoder receives no gradient: its weights are zero, or the decoder ignores the latent; lower "
                "kl_weight or the inverse temperatures."
            )
        stuck = self.clip_stops_gradient and lasts(history, "below_zero", lambda share: share == 1)
        if stuck and lasts(history, "cost", lambda mean: mean > 0):
            sentences.append(
                "V_c is below zero everywhere although there are costs, and will stay there, for its clip at zero "
                "stops its gradient; switch clip_stops_gradient off."
            )
        return tuple(sentences)

    def _update(
        self, state: LSPCState, store: Store, index: TransitionIndex, key: Key[Array, ""]
    ) -> tuple[LSPCState, Metrics]:
        draw_key, learn_key = jax.random.split(key)
        return self._learn(state, store.transitions(index.sample(draw_key, self.batch_size)), learn_key)

    def _learn(self, state: LSPCState, batch: Transitions, key: Key[Array, ""]) -> tuple[LSPCState, Metrics]:
        cvae_key, encoder_key = jax.random.split(key)
        observations, following = batch.observations, batch.next_observations
        adam = optax.adam(self.critic_learning_rate)

        reward_q = state.reward_critic.target.min(observations, batch.actions)
        next_reward = state.reward_value.network(following)[:, 0]
        reward_target = bellman_target(self.reward_scale * batch.rewards, next_reward, self.discount, batch.done)
        reward_value, of_reward_value = fit_value(state.reward_value, adam, observations, reward_q, self.expectile)
        reward_critic, of_reward_critic = fit_critic(state.reward_critic, adam, batch, reward_target)
        reward_v = of_reward_value.extra

        cost_q = jax.nn.relu(state.cost_critic.target.max(observations, batch.actions))
        next_cost = jax.nn.relu(state.cost_value.network(following)[:, 0])
        cost_target = bellman_target(batch.costs, next_cost, self.discount, batch.done)
        least = 0.0 if self.clip_stops_gradient else None
        cost_value, of_cost_value = fit_value(state.cost_value, adam, observations, cost_q, 1 - self.expectile, least)
        cost_critic, of_cost_critic = fit_critic(state.cost_critic, adam, batch, cost_target)
        cost_v = jax.nn.relu(of_cost_value.extra)

        by_reward = capped_exponential(self.reward_temperature * (reward_q - reward_v), self.reward_weight_cap)
        by_cost = capped_exponential(self.cost_temperature * (cost_v - cost_q), self.cost_weight_cap)
        masked = jnp.maximum(cost_v, cost_q) >= (jnp.inf if self.cost_threshold is None else self.cost_threshold)
        roles = [(jnp.where(masked, 0.0, by_cost), self.cost_weight_cap), (by_reward, self.reward_weight_cap)]
        (weight, cap), (policy_weight, policy_cap) = roles[::-1] if self.converse else roles

        cvae_adam = optax.adam(self.cvae_learning_rate)
        cvae, of_cvae = fit_cvae(state.cvae, cvae_adam, batch, cvae_key, self.kl_weight, weight)
        decoder = cvae.network.decoder  # stays in the encoder's step
        encoder, of_encoder = self._fit_encoder(state.encoder, decoder, batch, policy_weight, encoder_key)
        at_zero = decoder(observations, jnp.zeros((weight.size, self.latent)))
        return replace(
            state,
            reward_critic=reward_critic.follow(self.target_rate),
            reward_value=reward_value,
            cost_critic=cost_critic.follow(self.target_rate),
            cost_value=cost_value,
            cvae=cvae,
            encoder=encoder,
        ), {
            "reward_value": jnp.mean(reward_v),
            "cost_value": jnp.mean(cost_v),
            "cost": jnp.mean(batch.costs),
            "below_zero": jnp.mean(of_cost_value.extra < 0),
            "above_limit": jnp.mean(masked),
            **weight_metrics(weight, cap),
            **{f"policy_{name}": value for name, value in weight_metrics(policy_weight, policy_cap).items()},
            "effective": effective_share(weight),
            "policy_effective": effective_share(policy_weight),
            "centre": centre_distance(at_zero, batch.actions, weight),
            "latent": of_encoder.extra,
            "policy_gradient": of_encoder.gradient,
            "reward_value_loss": of_reward_value.loss,
            "reward_critic_loss": of_reward_critic.loss,
            "cost_value_loss": of_cost_value.loss,
            "cost_critic_loss": of_cost_critic.loss,
            "cvae_loss": of_cvae.loss,
            "policy_loss": of_encoder.loss,
        }

    def _fit_encoder(
        self,
        learner: Learner[LatentEncoder],
        decoder: Decoder,
        batch: Transitions,
        weight: Float[Array, " B"],
        key: Key[Array, ""],
    ) -> tuple[Learner[LatentEncoder], Fit[Float[Array, ""]]]:
        """Eq. 44, through the decoder, which stays; also gives mean |tanh(u)|."""
        noise = jax.random.normal(key, (batch.observations.shape[0], self.latent))

        def loss(network: LatentEncoder) -> tuple[jax.Array, jax.Array]:
            squashed = network.squashed(batch.observations, noise)
            decoded = decoder(batch.observations, self.restriction * squashed)
            error = jnp.sum(jnp.square(batch.actions - decoded), axis=-1)
            return jnp.mean(weight * error), jnp.mean(jnp.abs(squashed))

        return learner.step(optax.adam(self.policy_learning_rate), loss)
