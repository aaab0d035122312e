"""A log in standardised numbers, and its episodes in parts: some to fit values to, some to test the bound on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from safetrax.algorithms.standardisation import Standardiser
from safetrax.certification.features import Log, rows_of
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories

HELD_OUT = 0.3  # share of the episodes
TESTS, OF_A_TEST = 20, 4  # most groups, and fewest episodes of one
_BLOCKS = 48  # that are resampled


@dataclass(frozen=True)
class Parts:
    """Of one log.

    Attributes:
        standardiser: of its observations.
        store: its rows, standardised, actions in [-1, 1].
        log: its transitions in blocks, which are resampled, and behind them the groups.
        fitted: rows of the blocks.
        groups: numbers of the episodes of each group that is held out.
        episode: of every row.
        weights: how often each block counts: once, and in every resample; groups never.
        halves: likewise in either half of the blocks.
    """

    standardiser: Standardiser
    store: Store
    log: Log
    fitted: Int[np.ndarray, " n"]
    groups: list[np.ndarray]
    episode: Int[np.ndarray, " N"]
    weights: Float[np.ndarray, "M1 G"]
    halves: Float[np.ndarray, "2 G"]

    @staticmethod
    def make(
        data: Trajectories, resamples: int, rng: np.random.Generator, owners: Shaped[np.ndarray, " E"] | None = None
    ) -> Parts:
        """Episodes are shuffled first. `owners`: who acted in each; None: groups are alike in cost and return."""
        raw = Store.make(data, ())
        standardiser = Standardiser.of(raw.observations)
        store = standardiser.store(raw)
        held, fitted = np.split(rng.permutation(data.num_episodes), [int(HELD_OUT * data.num_episodes)])
        blocks = np.array_split(fitted, min(_BLOCKS, len(fitted)))
        costs, returns = data.cost_returns[held], data.returns[held]
        groups = [
            held[group]
            for group in (
                alike(costs, returns, min(TESTS, len(held) // OF_A_TEST)) if owners is None else owned(owners[held])
            )
        ]
        last, first = np.zeros((2, data.num_transitions), bool)
        last[data.offsets[1:] - 1], first[data.offsets[:-1]] = True, True
        log = Log(
            points=np.concatenate([store.observations, store.actions], axis=1).astype(np.float64),
            targets=np.stack([data.logged_costs, data.rewards], axis=1).astype(np.float64),
            usable=~last | data.terminated,
            goes_on=~last,
            first=first,
            blocks=tuple(rows_of(data.offsets, block) for block in [*blocks, *groups]),
        )
        whole = np.repeat([1.0, 0.0], [len(blocks), len(groups)])
        drawn = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), resamples)
        odd = np.arange(len(whole)) % 2
        return Parts(
            standardiser=standardiser,
            store=store,
            log=log,
            fitted=rows_of(data.offsets, fitted),
            groups=groups,
            episode=np.repeat(np.arange(data.num_episodes), data.lengths),
            weights=np.concatenate([whole[None], np.pad(drawn, ((0, 0), (0, len(groups))))]),
            halves=np.stack([whole * odd, whole * (1 - odd)]),
        )

    def only(self, place: int) -> Float[np.ndarray, " G"]:
        """Nothing counts but the group of that place."""
        counts = np.zeros(self.weights.shape[1])
        counts[len(counts) - len(self.groups) + place] = 1
        return counts


def owned(owners: Shaped[np.ndarray, " E"]) -> list[np.ndarray]:
    """The episodes of each owner who has enough of them for a test, of the 20 who have most."""
    _, whose, counts = np.unique(owners, return_inverse=True, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:TESTS]
    return [np.flatnonzero(whose == owner) for owner in most if counts[owner] >= OF_A_TEST]


def alike(costs: Float[np.ndarray, " E"], returns: Float[np.ndarray, " E"], groups: int) -> list[np.ndarray]:
    """Episodes in groups of about equal size, ordered by cost, each other pair of neighbours split by return.

    Where their number is odd, those that cost most are not split.
    """
    order = np.argsort(costs, kind="stable")
    cheaper, alone = np.split(order, [len(order) - (len(order) // groups if groups % 2 else 0)])
    pairs = np.array_split(cheaper, groups // 2) if groups > 1 else []
    split = [half for pair in pairs for half in np.array_split(pair[np.argsort(returns[pair], kind="stable")], 2)]
    return [*split, *([alone] if groups % 2 else [])]
