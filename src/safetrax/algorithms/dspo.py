"""DSPO: a log without costs, some safe demonstrations, and a diffusion that generates more of their kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from annotated_types import MinLen
from jaxtyping import Array, Float, Key

from safetrax.algorithms.base import Algorithm, Metrics, Spec, Stage, keep_state
from safetrax.algorithms.diagnosis import History
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked, policy_network
from safetrax.algorithms.safety_signal import (
    Backbone,
    BinEdges,
    Demonstrations,
    ReturnAgnostic,
    episode_signal,
    fit_guesser,
    fresh_network,
    signal_doubts,
    signal_loss,
)
from safetrax.algorithms.trajectory_diffusion import Generated, diffusion_loss, generate, step_range
from safetrax.data.sequences import draw_windows
from safetrax.data.store import Store, TransitionIndex
from safetrax.data.trajectories import SAFE, Trajectories
from safetrax.errors import DataError
from safetrax.nets.diffusion import NoiseSchedule, ScheduleName
from safetrax.nets.mlp import MLP, kaiming_uniform
from safetrax.nets.safety_transformer import SafetyNetwork
from safetrax.nets.temporal_unet import TemporalUNet
from safetrax.policies.actor import Actor
from safetrax.settings import BelowOne, Count, Fraction, NonNegative, Positive, Rate, Whole, require


class DSPOState(eqx.Module):
    """What DSPO trains and computes."""

    signal: Learner[SafetyNetwork]  # phi: logits of D
    guesser: Learner[MLP]  # theta: the bin of the return, from a logit
    denoiser: Tracked[TemporalUNet]  # psi, and its average
    policy: Learner[MLP]
    bounds: ActionBounds
    conditions: Float[Array, "E 2"]  # return in [0, 1] and D of every episode; zeros in the first stage
    generated: Generated | None  # in the last stage


class DSPOIndex(eqx.Module):
    """What is told of the episodes, and how much is generated."""

    episodes: Demonstrations
    transitions: TransitionIndex  # of the demonstrations
    longest: int = eqx.field(static=True)  # steps of the longest episode
    windows: int = eqx.field(static=True)  # to generate


@dataclass(frozen=True)
class DSPO(Algorithm):
    """Diffusion-guided safe policy optimisation from a log without costs ("DSPO", ICLR 2025 submission).

    Some episodes are marked safe, the demonstrations D^S; what the others, D^U, cost nobody knows. Three stages:

    * "signal": a transformer D tells demonstrations from the rest (Eq. 1). Demonstrations also earn much, and that D
      shall not see: the mutual information of its logit z and the return, bounded by vCLUB with a classifier q of
      return bins, is kept low (Eqs. 2-5).
    * "diffusion": of windows of all episodes, conditioned on the episode's return and D (Eq. 6).
    * "clone": it generates steps with the returns of demonstrations and their least D; the policy clones these, and
      the demonstrations.

    Costs and the cost limit are not looked at; episodes that are marked unsafe count among the others.

    Deviations: q is trained on the joint log-likelihood, as Eq. 5 has it (the sentence below it names the product of
    the marginals); D sees windows, and an episode's D is the sigmoid of the mean of its windows' logits; the paper
    gives no sizes, rates or schedules, and no code is public: these are a choice, see docs/dspo.md.

    Metrics: see docs/dspo.md.
    """

    fast: ClassVar = {
        "window": 25,
        "width": 32,
        "heads": 2,
        "mi_weight": 0.1,
        "signal_updates": 1000,
        "signal_batch_size": 64,
        "horizon": 16,
        "denoiser_width": 32,
        "diffusion_updates": 3000,
        "diffusion_batch_size": 64,
        "diffusion_learning_rate": 1e-3,
        "generated_transitions": 20_000,
        "updates": 3000,
        "batch_size": 256,
    }

    backbone: Backbone = "transformer"
    """What tells demonstrations from the rest. "mlp": every step by itself, with as many parameters (Figure 4)."""
    return_agnostic: ReturnAgnostic = "vclub"
    """What keeps D from seeing returns. "vclub": the bound of the mutual information. "none": nothing.
    "gradient-penalty": nothing, but gradients by inputs are penalised (Table 2)."""
    mi_weight: NonNegative = 1.0
    """Weight of the bound beside the loss of D, lambda_MI."""
    return_bins: Count = 10
    """Classes of the return."""
    bin_edges: BinEdges = "width"
    """Where they end. "width": evenly over the log's returns. "quantile": each holds as many episodes."""
    guesser_steps: Count = 5
    """Steps of q per step of D."""
    window: Count = 100
    """Steps that D sees at once; of a shorter episode all."""
    width: Count = 256
    """Numbers of a token."""
    blocks: Count = 1
    """Causal blocks before the last layer of attention."""
    heads: Count = 4
    """Attention heads of a block; they divide the width."""
    dropout: BelowOne = 0.1
    """Share of embeddings, attention weights and block outputs (of hidden units: "mlp") dropped while training D."""
    scaled_attention: bool = True
    """Divide the products of the last layer by the root of their length; false: as in the paper."""
    signal_updates: Whole = 20_000
    """Gradient steps of D."""
    signal_batch_size: Count = 256
    """Windows per batch, half of them of demonstrations, half of the others."""
    signal_learning_rate: Positive = 1e-4
    """AdamW's step size at the beginning and the end."""
    signal_peak: Positive = 10.0
    """Factor on it after a tenth of the updates; from there it falls as a cosine. 1: constant."""
    weight_decay: NonNegative = 1e-4
    """AdamW's, of every parameter of D."""
    guesser_learning_rate: Positive = 1e-3
    """Adam's step size for q."""
    horizon: Count = 32
    """Steps of a window of the diffusion."""
    denoiser_width: Count = 128
    """Channels of the temporal U-Net at full length."""
    denoiser_multiples: Annotated[tuple[Count, ...], MinLen(1)] = (1, 2)
    """Its channels over that, each time after halving the steps."""
    diffusion_steps: Count = 20
    """Steps from noise to data, K."""
    noise_schedule: ScheduleName = "cosine"
    """How the noise grows over the steps."""
    condition_dropout: Fraction = 0.1
    """Share of windows whose conditions are not told."""
    ema_rate: Rate = 0.005
    """Rate at which the average of the denoiser follows, which generates."""
    diffusion_updates: Whole = 200_000
    """Gradient steps of the diffusion."""
    diffusion_batch_size: Count = 128
    """Windows per batch."""
    diffusion_learning_rate: Positive = 2e-4
    """Adam's step size for the denoiser."""
    guidance: NonNegative = 2.0
    """w: the noise is taken to be eps_0 + w (eps_c - eps_0). 1: what the conditions say. 0: they are ignored."""
    noise_scale: Fraction = 0.5
    """Factor on all noise while generating."""
    generated_transitions: Count | None = None
    """Steps to generate, in whole windows. None: as many as the other episodes have."""
    generated_share: Fraction = 0.5
    """Of a batch of the policy; the rest is of demonstrations. 0: nothing is cloned but these."""
    hidden: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of the policy."""
    updates: Whole = 100_000
    """Gradient steps of the policy."""
    batch_size: Count = 512
    """Transitions per batch of the policy, uniform with replacement."""
    learning_rate: Positive = 1e-3
    """Adam's step size for the policy."""

    losses = ("signal_loss", "diffusion_loss", "clone_loss")
    uses_cost_limit = False
    needs_costs = False
    needs_labels = "safe"
    reference_std = 0.0  # a diffusion needs numbers of order one

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % self.heads == 0, "heads", self.heads, f"divide the width, {self.width}")
        parts = 2 ** (len(self.denoiser_multiples) - 1)
        require(self.horizon % parts == 0, "horizon", self.horizon, f"be a multiple of {parts}, for the denoiser")
        require(self.denoiser_width % 2 == 0, "denoiser_width", self.denoiser_width, "be even")
        require(self.signal_batch_size % 2 == 0, "signal_batch_size", self.signal_batch_size, "be even")

    def index(self, trajectories: Trajectories, cost_limit: float) -> DSPOIndex:
        """Demonstrations and others, whatever the limit.

        Raises:
            DataError: there are no demonstrations, nothing else, or all episodes are shorter than a window.
        """
        episodes = Demonstrations.make(trajectories, self.name, self.return_bins, self.bin_edges)
        longest, safe = trajectories.max_length, trajectories.marks == SAFE
        for name, steps in (("window", self.window), ("horizon", self.horizon)):
            if steps > longest:
                raise DataError(f"{name} is {steps} steps, but the longest episode has {longest}; lower {name}.")
        amount = self.generated_transitions or int(trajectories.lengths[~safe].sum())
        return DSPOIndex(episodes, TransitionIndex.make(trajectories, safe), longest, -(-amount // self.horizon))

    def init(self, key: Key[Array, ""], spec: Spec) -> DSPOState:
        """Fresh networks; nothing is known of the episodes yet."""
        keys, sizes = jax.random.split(key, 4), (self.width, self.blocks, self.heads)
        signal = fresh_network(keys[0], spec, self.backbone, *sizes, self.dropout, self.scaled_attention)
        guesser = MLP.make(keys[1], (1, 64, self.return_bins))
        channels = spec.observation_size + spec.action_size
        unet = TemporalUNet.make(keys[2], channels, width=self.denoiser_width, multiples=self.denoiser_multiples)
        policy = policy_network(keys[3], spec, self.hidden, dropout=0.0, initialiser=kaiming_uniform)
        return DSPOState(
            signal=Learner.make(signal, self._signal_optimiser()),
            guesser=Learner.make(guesser, optax.adam(self.guesser_learning_rate)),
            denoiser=Tracked.make(unet, optax.adam(self.diffusion_learning_rate)),
            policy=Learner.make(policy, optax.adam(self.learning_rate)),
            bounds=ActionBounds.of(spec),
            conditions=jnp.zeros((spec.num_episodes, 2)),
            generated=None,
        )

    def stages(self) -> tuple[Stage, ...]:
        """The signal, the diffusion, the policy."""
        return (
            Stage("signal", self.signal_updates, keep_state, self._update_signal, settles=self.signal_updates // 10),
            Stage("diffusion", self.diffusion_updates, self._label, self._update_diffusion),
            Stage("clone", self.updates, self._generate, self._update_policy),
        )

    def actor(self, state: DSPOState) -> Actor:
        """The policy, which learns in the last stage only."""
        return state.bounds.actor(state.policy.network)

    def diagnose(self, history: History) -> tuple[str, ...]:
        """A signal that tells demonstrations and others not apart, or by heart."""
        return signal_doubts(history)

    def _signal_optimiser(self) -> optax.GradientTransformation:
        ends, warmup = self.signal_learning_rate, self.signal_updates // 10
        schedule = optax.warmup_cosine_decay_schedule(
            ends, self.signal_peak * ends, warmup, max(self.signal_updates, warmup + 1), ends
        )
        return optax.adamw(schedule, weight_decay=self.weight_decay)

    def _update_signal(
        self, state: DSPOState, store: Store, index: DSPOIndex, key: Key[Array, ""]
    ) -> tuple[DSPOState, Metrics]:
        """A step of phi with theta frozen, then steps of theta on the logits that phi's has seen."""
        draw_key, window_key, loss_key = jax.random.split(key, 3)
        episodes = index.episodes.draw(draw_key, self.signal_batch_size // 2)
        batch, bins = draw_windows(window_key, store, episodes, self.window), index.episodes.bins[episodes]

        def loss(network: SafetyNetwork) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
            guesser, how = state.guesser.network, (self.return_agnostic, self.mi_weight)
            return signal_loss(network, guesser, batch, bins, loss_key, *how)

        signal, fit = state.signal.step(self._signal_optimiser(), loss)
        logits, metrics = fit.extra
        guesser = fit_guesser(state.guesser, logits, bins, self.guesser_learning_rate, self.guesser_steps)
        return replace(state, signal=signal, guesser=guesser), {**metrics, "gradient": fit.gradient}

    def _label(self, state: DSPOState, store: Store, index: DSPOIndex, key: Key[Array, ""]) -> DSPOState:
        signal = episode_signal(state.signal.network, store, self.window, index.longest)
        return replace(state, conditions=jnp.stack([index.episodes.returns, signal], axis=-1))

    def _update_diffusion(
        self, state: DSPOState, store: Store, index: DSPOIndex, key: Key[Array, ""]
    ) -> tuple[DSPOState, Metrics]:
        episode_key, window_key, noise_key = jax.random.split(key, 3)
        episodes = jax.random.randint(episode_key, (self.diffusion_batch_size,), 0, state.conditions.shape[0])
        batch = draw_windows(window_key, store, episodes, self.horizon)
        told = (state.conditions[episodes], self.condition_dropout, noise_key)
        schedule = NoiseSchedule.make(self.noise_schedule, self.diffusion_steps)

        def loss(network: TemporalUNet) -> tuple[jax.Array, None]:
            return diffusion_loss(network, schedule, batch, *told), None

        denoiser, fit = state.denoiser.step(optax.adam(self.diffusion_learning_rate), loss)
        metrics = {"diffusion_loss": fit.loss, "gradient": fit.gradient}
        return replace(state, denoiser=denoiser.follow(self.ema_rate)), metrics

    def _generate(self, state: DSPOState, store: Store, index: DSPOIndex, key: Key[Array, ""]) -> DSPOState:
        """D^G: returns uniform between the demonstrations', the least D of one."""
        return_key, noise_key = jax.random.split(key)
        returns, signal = state.conditions.T
        low, high = index.episodes.least(returns), index.episodes.greatest(returns)
        asked = jax.random.uniform(return_key, (index.windows,), minval=low, maxval=high)
        steps = generate(
            state.denoiser.target,
            NoiseSchedule.make(self.noise_schedule, self.diffusion_steps),
            jnp.stack([asked, jnp.full_like(asked, index.episodes.least(signal))], axis=-1),
            self.horizon,
            bounds=step_range(store),
            guidance=self.guidance,
            noise_scale=self.noise_scale,
            key=noise_key,
        )
        return replace(
            state, generated=Generated(steps, index.episodes.rewards[0] + asked * index.episodes.rewards[1])
        )

    def _update_policy(
        self, state: DSPOState, store: Store, index: DSPOIndex, key: Key[Array, ""]
    ) -> tuple[DSPOState, Metrics]:
        assert state.generated is not None
        logged_key, generated_key = jax.random.split(key)
        made = round(self.generated_share * self.batch_size)
        rows = index.transitions.sample(logged_key, self.batch_size - made)
        logged = jnp.concatenate([store.observations[rows], store.actions[rows]], axis=-1)
        steps = jnp.concatenate([logged, state.generated.draw(generated_key, made)])
        observations, actions = jnp.split(steps, [store.observations.shape[-1]], axis=-1)

        def loss(network: MLP) -> tuple[jax.Array, None]:
            return jnp.mean(jnp.square(network(observations) - actions)), None

        policy, fit = state.policy.step(optax.adam(self.learning_rate), loss)
        return replace(state, policy=policy), {"clone_loss": fit.loss}
