"""TD3+BC's pieces (Fujimoto and Gu, 2021, arXiv:2106.06860), for the algorithms that wrap it."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Metrics
from safetrax.algorithms.learners import Tracked
from safetrax.data.store import Transitions
from safetrax.losses.td import bellman_target
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP

Critic = Callable[[Float[Array, "B X"]], Float[Array, "B 1"]]
"""From observations and actions, side by side, to their values."""

_SMALLEST_VALUE = 1e-8  # of mean |Q|, where it divides


class PolicyReport(eqx.Module):
    """What is logged of a policy step, kept until the next one.

    Attributes:
        loss: the policy's.
        gradient: its gradient's norm.
        value_weight: lambda.
        distance: mean squared distance to the logged actions.
    """

    loss: Float[Array, ""]
    gradient: Float[Array, ""]
    value_weight: Float[Array, ""]
    distance: Float[Array, ""]

    @staticmethod
    def empty() -> PolicyReport:
        """Before the first step."""
        return PolicyReport(*[jnp.zeros(())] * 4)

    def metrics(self) -> Metrics:
        """To log."""
        return {
            "policy_loss": self.loss,
            "policy_gradient": self.gradient,
            "value_weight": self.value_weight,
            "behaviour_distance": self.distance,
        }


def smoothed_target(
    policy: Tracked[MLP],
    critics: Tracked[Ensemble],
    batch: Transitions,
    rewards: Float[Array, " B"],
    key: Key[Array, ""],
    *,
    discount: float,
    noise: float,
    clip: float,
) -> Float[Array, " B"]:
    """r + gamma (1 - d) min Q'(s', a'), a' the target policy's action with clipped noise (TD3, arXiv:1802.09477)."""
    actions = smoothed_actions(policy, batch, key, noise, clip)
    following = critics.target.min(batch.next_observations, actions)
    return bellman_target(rewards, following, discount, batch.done)


def smoothed_actions(
    policy: Tracked[MLP], batch: Transitions, key: Key[Array, ""], noise: float, clip: float
) -> Float[Array, "B A"]:
    """a', the target policy's actions in s' with clipped noise."""
    drawn = jnp.clip(noise * jax.random.normal(key, batch.actions.shape), -clip, clip)
    return jnp.clip(policy.target(batch.next_observations) + drawn, -1, 1)


def cloning_value_loss(
    policy: MLP, critic: Critic, batch: Transitions, value_weight: float
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
    """-lambda mean Q(s, pi(s)) + mean (pi(s) - a)^2, lambda = value_weight / mean |Q|; also lambda and distance.

    lambda passes no gradient; the distance is averaged over batch and dimensions (Eqs. 3 and 4, the authors' code).
    """
    actions = policy(batch.observations)
    values = critic(jnp.concatenate([batch.observations, actions], axis=-1))
    size = jnp.maximum(jnp.mean(jnp.abs(jax.lax.stop_gradient(values))), _SMALLEST_VALUE)
    weight = value_weight / size
    distance = jnp.mean(jnp.square(actions - batch.actions))
    return distance - weight * jnp.mean(values), (weight, distance)


def delayed_policy_step(
    count: Int32[Array, ""],
    policy: Tracked[MLP],
    critics: tuple[Tracked[Ensemble], ...],
    critic: Critic,
    report: PolicyReport,
    batch: Transitions,
    optimiser: optax.GradientTransformation,
    *,
    delay: int,
    value_weight: float,
    target_rate: float,
) -> tuple[Tracked[MLP], tuple[Tracked[Ensemble], ...], PolicyReport]:
    """In every `delay`-th update a step of the policy, whose and the critics' targets then move; else nothing.

    Runs that are vmapped make the step in every update and choose: a condition becomes a selection.
    """

    def move() -> tuple[Tracked[MLP], tuple[Tracked[Ensemble], ...], PolicyReport]:
        moved, fit = policy.step(optimiser, lambda network: cloning_value_loss(network, critic, batch, value_weight))
        seen = PolicyReport(fit.loss, fit.gradient, *fit.extra)
        return moved.follow(target_rate), tuple(each.follow(target_rate) for each in critics), seen

    after: tuple[Tracked[MLP], tuple[Tracked[Ensemble], ...], PolicyReport]
    after = jax.lax.cond(count % delay == 0, move, lambda: (policy, critics, report))
    return after
