"""Episodes within a cost limit whose costs-to-go are moved so that each begins at the limit: B2R's data."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key

from safetrax.data.relabelling import Relabelled
from safetrax.data.segments import within_limit
from safetrax.data.sequences import SequenceBatch, SequenceIndex
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories

Alignment = Literal["shift", "avg", "rand", "scale"]


class AlignedIndex(eqx.Module):
    """The episodes within a limit, all drawn alike, with aligned costs-to-go.

    Three of the alignments are numbers per episode: the told cost-to-go of a step is factor (cost-to-go + shift) +
    slope (steps left, this one included), the shift being the sequences'.

    Attributes:
        sequences: all episodes of the log, of which those above the limit are never drawn.
        factor: of each episode.
        slope: of each episode.
    """

    sequences: SequenceIndex
    factor: Float32[Array, " E"]
    slope: Float32[Array, " E"]

    @staticmethod
    def make(trajectories: Trajectories, cost_limit: float, alignment: Alignment, seed: int = 0) -> AlignedIndex:
        """On the host, once per limit. At least one episode must meet it.

        Args:
            trajectories: E episodes, of costs C and lengths L.
            cost_limit: at which they are to begin.
            alignment: "shift": all steps are told limit - C more. "avg": every step costs (limit - C) / L more.
                "scale": every cost is multiplied by limit / C; an episode without cost stays so. "rand": see
                `filled_up`; the costs of steps change one by one, and instead of the log's own costs-to-go others are
                kept, as many.
            seed: decides what "rand" draws.
        """
        own, lengths = trajectories.cost_returns, trajectories.lengths
        safe = within_limit(own, cost_limit)
        factor, slope, told = np.ones(own.size), np.zeros(own.size), own
        if alignment == "scale":
            factor = np.where(safe & (own > 0), cost_limit / np.where(own > 0, own, 1.0), 1.0)
        elif alignment == "avg":
            slope = np.where(safe, (cost_limit - own) / lengths, 0.0)
        else:
            told = np.where(safe, cost_limit, own)
        if alignment == "rand":
            trajectories = replace(trajectories, costs=filled_up(trajectories, cost_limit, seed))
        entries = Relabelled(np.arange(own.size), trajectories.returns, told)
        return AlignedIndex(
            SequenceIndex.of(trajectories, entries, safe.astype(np.float64)),
            jnp.asarray(factor, jnp.float32),
            jnp.asarray(slope, jnp.float32),
        )

    def sample(self, key: Key[Array, ""], store: Store, size: int, steps: int) -> SequenceBatch:
        """Draw windows: an episode within the limit, then its first step, both uniformly; see `SequenceIndex`."""
        entry, first = self.sequences.draw(key, size)
        batch = self.sequences.windows(store, entry, first, steps)
        left = self.sequences.lengths[entry][:, None] - batch.times
        told = self.factor[entry][:, None] * batch.costs_to_go + self.slope[entry][:, None] * left
        return replace(batch, costs_to_go=jnp.where(batch.mask, told, 0.0))


def filled_up(trajectories: Trajectories, cost_limit: float, seed: int = 0) -> Float32[np.ndarray, " N"]:
    """Costs of steps with which every episode within the limit spends all of it.

    Steps are taken in random order and each is made as dear as is allowed until nothing is left of the limit: to 1
    where all costs of the log are 0 or 1, so that costs stay so, and to limit / L otherwise, or where the limit
    exceeds the L steps of the episode. The last one that is changed may get less.
    """
    rng, costs = np.random.default_rng(seed), trajectories.logged_costs.astype(np.float64)
    binary = bool(np.isin(costs, (0.0, 1.0)).all())
    for episode in np.flatnonzero(within_limit(trajectories.cost_returns, cost_limit)):
        own = costs[trajectories.offsets[episode] : trajectories.offsets[episode + 1]]
        own[:] = _filled(own, cost_limit, max(1.0 if binary else 0.0, cost_limit / own.size), rng)
    return costs.astype(np.float32)


def _filled(
    costs: Float[np.ndarray, " L"], total: float, most: float, rng: np.random.Generator
) -> Float[np.ndarray, " L"]:
    order = rng.permutation(costs.size)
    room = np.maximum(most - costs[order], 0.0)
    taken = np.cumsum(room) - room
    filled = costs.copy()
    filled[order] += np.clip(total - costs.sum() - taken, 0.0, room)
    return filled
