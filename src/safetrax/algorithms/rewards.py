"""What the rewards of a log say: how to scale them, and which values cannot be."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from safetrax.algorithms.diagnosis import History, lasts
from safetrax.catalogue import Task, get_task
from safetrax.data.store import TransitionIndex
from safetrax.data.trajectories import Trajectories
from safetrax.settings import Positive

ReturnRange = Positive | Literal["horizon"] | None

_ROUNDING = 1e-6
_IMPOSSIBLE = 10.0  # times the greatest value that the rewards allow


class RewardIndex(eqx.Module):
    """All transitions, and what their rewards say about returns and values."""

    transitions: TransitionIndex
    # max |r| / (1 - discount), or max |r| times the longest episode for discount 1: no policy's value is greater
    value_bound: Float[Array, ""]
    return_range: Float[Array, ""]  # greatest less smallest return of an episode; 0: equal up to rounding
    horizon: Float[Array, ""]  # steps of an episode of the task, or of the log's longest where the task is not known

    @staticmethod
    def make(trajectories: Trajectories, discount: float) -> RewardIndex:
        """Of a data set, on the host."""
        steps = trajectories.max_length if discount == 1 else 1 / (1 - discount)
        task = _task_of(trajectories)
        horizon = trajectories.max_length if task is None else task.horizon
        return RewardIndex(
            transitions=TransitionIndex.all(trajectories),
            value_bound=jnp.asarray(float(np.abs(trajectories.rewards).max()) * steps, jnp.float32),
            return_range=jnp.asarray(_return_range(trajectories), jnp.float32),
            horizon=jnp.asarray(horizon, jnp.float32),
        )

    def reward_scale(self, return_range: ReturnRange) -> Float[Array, ""]:
        """What rewards are multiplied with so that the log's returns span `return_range`, CORL's rule; 1 for None.

        "horizon" makes the rewards of a step about 1 in every task. Equal returns are left as they are.
        """
        if return_range is None:
            return jnp.ones(())
        span = self.horizon if return_range == "horizon" else return_range
        return jnp.where(self.return_range > 0, span / jnp.where(self.return_range > 0, self.return_range, 1.0), 1.0)

    def value_ratio(self, values: Float[Array, "*b"], reward_scale: Array | float = 1.0) -> Float[Array, ""]:
        """Mean |value| over the greatest that rewards times `reward_scale` allow; 0 where all rewards are 0."""
        bound = self.value_bound * reward_scale
        return jnp.where(bound > 0, jnp.mean(jnp.abs(values)) / jnp.where(bound > 0, bound, 1.0), 0.0)


def per_step_scale(trajectories: Trajectories) -> Float[Array, ""]:
    """What FISOR and BARS multiply rewards with, T / (r_max - r_min): the range of returns becomes that of T steps.

    The returns are the benchmark's where the data tell a task of it, else the log's; 1 where these are all equal.
    """
    task = _task_of(trajectories)
    if task is not None:
        return jnp.asarray(task.horizon / (task.reward_max - task.reward_min), jnp.float32)
    spread = _return_range(trajectories)
    return jnp.asarray(trajectories.max_length / spread if spread else 1.0, jnp.float32)


def value_warnings(history: History) -> tuple[str, ...]:
    """A sentence where the metric `value_ratio` says that the critics diverge."""
    if lasts(history, "value_ratio", lambda ratio: ratio > _IMPOSSIBLE):
        return (
            "the values are more than ten times max |r| / (1 - discount), which no policy can earn (value_ratio): "
            "the critics diverge; lower their learning rate or the discount.",
        )
    return ()


def _task_of(trajectories: Trajectories) -> Task | None:
    """Of the catalogue; None for logs of anything else."""
    name = trajectories.info.get("task")
    task = None if name is None else get_task(name)
    return None if task is None or task.own else task


def _return_range(trajectories: Trajectories) -> float:
    """Of the log's episodes; 0 where they are equal up to rounding."""
    returns = trajectories.returns
    spread = float(returns.max() - returns.min())
    return 0.0 if spread <= _ROUNDING * float(np.abs(returns).max()) else spread
