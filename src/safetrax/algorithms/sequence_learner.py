"""What policies that read sequences are trained by: a Gaussian's likelihood with a learned temperature."""

from __future__ import annotations

from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt32

from safetrax.algorithms.base import Metrics
from safetrax.algorithms.learners import ActionBounds, Learner
from safetrax.data.sequences import SequenceBatch
from safetrax.errors import DataError
from safetrax.losses import masked
from safetrax.losses.likelihood import gaussian_entropy, gaussian_log_prob
from safetrax.losses.masked import masked_mean
from safetrax.nets.decision_transformer import DecisionTransformer
from safetrax.policies.sequence import Targets
from safetrax.settings import require

N = TypeVar("N")


class SequenceState(eqx.Module, Generic[N]):
    """The transformer with all heads, the temperature of the entropy, action bounds, and what may be asked for."""

    learner: Learner[N]
    log_temperature: Learner[Array]
    bounds: ActionBounds
    targets: Targets

    def asking(self, targets: Targets) -> SequenceState[N]:
        """The same, once the log has told what may be asked for."""
        return SequenceState(self.learner, self.log_temperature, self.bounds, targets)


def new_temperature(start: float, rate: float) -> Learner[Array]:
    """The logarithm of a temperature, which Adam moves."""
    return Learner.make(jnp.log(jnp.float32(start)), optax.adam(rate))


def move_temperature(
    log_temperature: Learner[Array], rate: float, entropy: Float[Array, ""], target: float
) -> Learner[Array]:
    """One step of `masked.temperature_loss`."""
    moved, _ = log_temperature.step(optax.adam(rate), lambda x: (masked.temperature_loss(x, entropy, target), None))
    return moved


def action_loss(
    batch: SequenceBatch,
    mean: Float[Array, "B K A"],
    log_std: Float[Array, "B K A"],
    temperature: Float[Array, ""],
    share: float = 1.0,
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of the Gaussian policy at the logged actions, and what is logged of it.

    Args:
        batch: windows.
        mean, log_std: of the policy at each step.
        temperature: of the entropy; a number here.
        share: factor on log-likelihood and entropy; 1: both are summed over action dimensions.
    """
    log_prob = share * gaussian_log_prob(batch.actions, mean, log_std)
    entropy = share * gaussian_entropy(log_std)
    value = masked.likelihood_loss(log_prob, entropy, batch.mask, temperature)
    return value, {
        "action_loss": value,
        "log_likelihood": masked_mean(log_prob, batch.mask),
        "entropy": masked_mean(entropy, batch.mask),
        "behaviour_distance": masked_mean(jnp.mean(jnp.square(mean - batch.actions), -1), batch.mask),
    }


def cloning_step(
    state: SequenceState[DecisionTransformer],
    batch: SequenceBatch,
    classes: Int[Array, "B K"],
    optimiser: optax.GradientTransformation,
    seed: UInt32[Array, ""],
    *,
    temperature_rate: float,
    target_entropy: float | None,
    summed: bool = False,
    cost_weight: float = 0.0,
    state_weight: float = 0.0,
) -> tuple[SequenceState[DecisionTransformer], Metrics]:
    """A step of CDT: the network, then the temperature.

    Args:
        state: before it.
        batch: windows.
        classes: which of their steps are costly, 0 or 1.
        optimiser: of the network.
        seed: of the dropout.
        temperature_rate: Adam's step size for the temperature's logarithm.
        target_entropy: of the policy. None: less the number of action dimensions.
        summed: log-likelihood and entropy are sums over action dimensions, not means.
        cost_weight, state_weight: of the losses that foresee a step's class and the next observation.
    """
    temperature = jnp.exp(state.log_temperature.network)
    size = batch.actions.shape[-1]

    def loss(network: DecisionTransformer) -> tuple[jax.Array, Metrics]:
        states, actions = network(*batch.history, seed)
        likelihood, metrics = action_loss(batch, *network.moments(states), temperature, 1.0 if summed else 1.0 / size)
        logits = network.cost(actions)
        costs = masked.cost_loss(logits, classes, batch.mask)
        value = likelihood + cost_weight * costs
        foreseen = (jnp.argmax(logits, -1) == classes).astype(jnp.float32)
        metrics = {**metrics, "cost_loss": costs, "cost_accuracy": masked_mean(foreseen, batch.mask)}
        if state_weight:
            metrics["state_loss"] = masked.next_state_loss(
                network.next_state(actions), batch.observations, batch.mask
            )
            value += state_weight * metrics["state_loss"]
        return value, metrics

    learner, fit = state.learner.step(optimiser, loss)
    target = -float(size) if target_entropy is None else target_entropy
    log_temperature = move_temperature(state.log_temperature, temperature_rate, fit.extra["entropy"], target)
    metrics = {**fit.extra, "temperature": temperature, "gradient": fit.gradient}
    return SequenceState(learner, log_temperature, state.bounds, state.targets), metrics


def require_sizes(width: int, heads: int, limits: tuple[float, ...], returns: tuple[float, ...]) -> None:
    """Rules between the settings of a transformer and of what is asked for.

    Raises:
        ConfigError: one is broken.
    """
    require(width % heads == 0, "heads", heads, f"divide the width, {width}")
    require(len(returns) == len(limits), "target_returns", returns, f"have {len(limits)} entries")
    require(list(limits) == sorted(set(limits)), "target_limits", limits, "be ascending")


def require_steps(context: int, longest: int) -> None:
    """Some window must be full.

    Raises:
        DataError: every episode is shorter than the context.
    """
    if longest < context:
        raise DataError(f"context is {context} steps, but the longest episode has {longest}; lower context.")
