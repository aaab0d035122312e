"""What algorithms read off the data set: statistics of its observations, and bounds of its rewards."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from safetrax.algorithms.diagnosis import History, lasts
from safetrax.catalogue import get_task
from safetrax.data.store import Store, TransitionIndex
from safetrax.data.trajectories import Trajectories
from safetrax.policies.actor import Actor, Standardised
from safetrax.settings import Positive

ReturnRange = Positive | Literal["horizon"] | None

_ROWS_AT_ONCE = 4096
_LEAST_STD = 1e-6  # what varies less, or by less than the rounding of its mean, is constant
_MEAN_ROUNDING = 5e-7
_UNSEEN = float(np.finfo(np.float32).max)  # a deviation divided by it is 0
_ROUNDING = 1e-6
_IMPOSSIBLE = 10.0  # times the greatest value that the rewards allow


class Standardiser(eqx.Module):
    """The map s -> (s - mean) / std of observations.

    Attributes:
        mean: of every observation dimension.
        std: what its deviation from the mean is divided by.
    """

    mean: Float[Array, " O"]
    std: Float[Array, " O"]

    @staticmethod
    def of(observations: Float[Array, "N O"], added: float = 0.0) -> Standardiser:
        """Statistics of all rows, computed block by block: neither a copy of the rows nor a long sum is made.

        Blocks are merged as in Chan et al. (1979), so that rounding does not grow with N.

        Args:
            observations: of a log.
            added: to every standard deviation. With 0, a dimension that is constant up to rounding becomes 0 in any
                observation, for a network has learnt nothing about its other values.
        """
        total = observations.shape[0]
        rows = min(_ROWS_AT_ONCE, total)

        def merge(
            i: Array, carry: tuple[Array, Array, Array]
        ) -> tuple[Float[Array, " O"], Float[Array, " O"], Float[Array, ""]]:
            mean, squares, count = carry
            start = jnp.minimum(i * rows, total - rows)  # the last block reaches back; rows seen before do not count
            block = jax.lax.dynamic_slice_in_dim(observations, start, rows)
            fresh = (start + jnp.arange(rows) >= i * rows)[:, None]
            added = jnp.sum(fresh, dtype=jnp.float32)
            shift = jnp.sum(jnp.where(fresh, block - mean, 0.0), axis=0) / added
            deviation = jnp.where(fresh, block - (mean + shift), 0.0)
            share = added / (count + added)
            squares = squares + jnp.sum(jnp.square(deviation), axis=0) + jnp.square(shift) * count * share
            return mean + shift * share, squares, count + added

        first = (observations[0], jnp.zeros(observations.shape[1]), jnp.zeros(()))
        mean, squares, _ = jax.lax.fori_loop(0, -(-total // rows), merge, first)
        std = jnp.sqrt(squares / total)
        if added > 0:
            return Standardiser(mean, std + added)
        varies = std > jnp.maximum(_LEAST_STD, _MEAN_ROUNDING * jnp.abs(mean))
        return Standardiser(mean, jnp.where(varies, std, _UNSEEN))

    def __call__(self, observations: Float[Array, "*b O"]) -> Float[Array, "*b O"]:
        """(s - mean) / std."""
        return (observations - self.mean) / self.std

    def store(self, store: Store) -> Store:
        """The same rows with standardised observations, the next ones by the same statistics."""
        following = None if store.next_observations is None else self(store.next_observations)
        return replace(store, observations=self(store.observations), next_observations=following)

    def actor(self, actor: Actor) -> Standardised:
        """An actor that was trained on such rows, for observations as they are."""
        return Standardised(actor, self.mean, self.std)


class RewardIndex(eqx.Module):
    """All transitions, and what their rewards say about returns and values.

    Attributes:
        transitions: every episode's.
        value_bound: max |r| / (1 - discount), or max |r| times the longest episode for discount 1: no policy's value
            is greater.
        return_range: the greatest less the smallest episode return; 0 where they are equal up to rounding.
        horizon: steps of an episode of the task, or of the log's longest where the task is not known.
    """

    transitions: TransitionIndex
    value_bound: Float[Array, ""]
    return_range: Float[Array, ""]
    horizon: Float[Array, ""]

    @staticmethod
    def make(trajectories: Trajectories, discount: float) -> RewardIndex:
        """Of a data set, on the host."""
        returns = trajectories.returns
        spread = float(returns.max() - returns.min())
        equal = spread <= _ROUNDING * float(np.abs(returns).max())
        steps = trajectories.max_length if discount == 1 else 1 / (1 - discount)
        return RewardIndex(
            transitions=TransitionIndex.all(trajectories),
            value_bound=jnp.asarray(float(np.abs(trajectories.rewards).max()) * steps, jnp.float32),
            return_range=jnp.asarray(0.0 if equal else spread, jnp.float32),
            horizon=jnp.asarray(_horizon(trajectories), jnp.float32),
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
        """Mean |value| over the greatest value that the rewards allow; 0 where all rewards are 0.

        Args:
            values: of rewards times `reward_scale`.
            reward_scale: positive.
        """
        bound = self.value_bound * reward_scale
        return jnp.where(bound > 0, jnp.mean(jnp.abs(values)) / jnp.where(bound > 0, bound, 1.0), 0.0)


def _horizon(trajectories: Trajectories) -> int:
    name = trajectories.info.get("task")
    return trajectories.max_length if name is None else get_task(name).horizon


def per_step_scale(trajectories: Trajectories) -> Float[Array, ""]:
    """What FISOR and BARS multiply rewards with, T / (r_max - r_min): the range of returns becomes that of T steps.

    The returns are the benchmark's where the data tell a task of it, else the log's; 1 where these are all equal.
    """
    name = trajectories.info.get("task")
    if name is not None:
        task = get_task(name)
        return jnp.asarray(task.horizon / (task.reward_max - task.reward_min), jnp.float32)
    returns = trajectories.returns
    spread = float(returns.max() - returns.min())
    equal = spread <= _ROUNDING * float(np.abs(returns).max())
    return jnp.asarray(1.0 if equal else trajectories.max_length / spread, jnp.float32)


def value_warnings(history: History) -> tuple[str, ...]:
    """A sentence where the metric `value_ratio` says that the critics diverge."""
    if lasts(history, "value_ratio", lambda ratio: ratio > _IMPOSSIBLE):
        return (
            "the values are more than ten times max |r| / (1 - discount), which no policy can earn (value_ratio): "
            "the critics diverge; lower their learning rate or the discount.",
        )
    return ()
