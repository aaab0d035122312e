"""Feasibility by Hamilton-Jacobi reachability (FISOR): can a violation still be avoided, and by which action."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from safetrax.losses.weights import capped_exponential


def constraint_value(costs: Float[Array, "*b"], violation: float) -> Float[Array, "*b"]:
    """h: `violation` where there is a cost, -1 where there is none.

    Args:
        costs: of the steps.
        violation: positive. With 25 and a discount of 0.99, a state 324 steps before an inevitable violation still
            counts as infeasible; with 1 only one of 68 steps.
    """
    return jnp.where(costs > 0, violation, -1.0)


def feasibility_target(
    constraint: Float[Array, "*b"], next_value: Float[Array, "*b"], done: Bool[Array, "*b"], discount: float
) -> Float[Array, "*b"]:
    """(1 - gamma) h + gamma max(h, V(s')), and h where the episode ends (Fisac et al., 2019; FISOR, Eq. 6).

    V(s') is the value of the action that avoids most.
    """
    lasting = (1 - discount) * constraint + discount * jnp.maximum(constraint, next_value)
    return jnp.where(done, constraint, lasting)


def feasibility_weights(
    value: Float[Array, "*b"],
    action_value: Float[Array, "*b"],
    reward_advantage: Float[Array, "*b"],
    *,
    cost_temperature: float,
    reward_temperature: float,
    cost_bounds: tuple[float, float],
    reward_cap: float,
) -> Float[Array, "*b"]:
    """Weights of logged actions (FISOR, Eq. 9): by how much cost they avoid where a violation is inevitable, by how
    much reward they earn where it is not; none for an action that gives a feasible state up.

    Args:
        value: V_h(s); greater than 0: infeasible.
        action_value: Q_h(s, a).
        reward_advantage: Q_r - V_r.
        cost_temperature: inverse temperature of V_h - Q_h.
        reward_temperature: inverse temperature of the reward advantage.
        cost_bounds: least and greatest weight in infeasible states.
        reward_cap: greatest weight in feasible states.
    """
    least, cost_cap = cost_bounds
    escape = jnp.maximum(capped_exponential(cost_temperature * (value - action_value), cost_cap), least)
    earn = capped_exponential(reward_temperature * reward_advantage, reward_cap)
    return jnp.where(value > 0, escape, jnp.where(action_value <= 0, earn, 0.0))
