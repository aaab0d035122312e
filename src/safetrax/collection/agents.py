"""Agents that learn while they are recorded, each under a cost limit that moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from typing_extensions import override

import safetrax.collection.ppo as ppo
from safetrax.catalogue import Task
from safetrax.collection.recorder import Episode, EpisodeMaker, Keep, Recorded, Tally, episode_seed, record
from safetrax.envs.lockstep import Start
from safetrax.envs.pool import GROUPS, EnvPool
from safetrax.errors import RunError
from safetrax.losses.lagrange import PIDState, pid_multiplier
from safetrax.losses.policy_gradient import advantage_estimates
from safetrax.policies.batched import Feed

_PADDING = 4096  # rows; so that few shapes are compiled
# FSRL's 0.05, 0.005 and 0.1 for limits that go up to 80, here for costs that are divided by the loosest limit
_GAINS = (4.0, 0.4, 8.0)


@dataclass(frozen=True)
class Sweep:
    """A cost limit that moves linearly from `start` to `end` in the middle of a training.

    One training then passes through the whole plane of cost and return (Liu et al., 2024, arXiv:2306.09303,
    appendix on data collection).

    Attributes:
        start: limit on the cost of an episode at first.
        end: limit at last.
        begin: share of the training after which it starts to move.
        finish: share of the training after which it stands.
    """

    start: float
    end: float
    begin: float = 0.1
    finish: float = 0.9

    def limit(self, progress: float) -> float:
        """The limit when `progress`, from 0 to 1, of the training is done."""
        share = min(max((progress - self.begin) / (self.finish - self.begin), 0.0), 1.0)
        return self.start + share * (self.end - self.start)


def default_sweeps(low: float, high: float, agents: int) -> tuple[Sweep, ...]:
    """Limits that fall from `high` to `low` for every other agent, and rise for those between."""
    return tuple(Sweep(low, high) if agent % 2 else Sweep(high, low) for agent in range(agents))


class SweepingAgents(EpisodeMaker):
    """`P` PPO-Lagrangian agents side by side, whose limits sweep over the training.

    One iteration is at least `steps` steps of every agent, in whole episodes, then its updates. The last one makes
    what is left of `total` and has no updates, for nobody acts after them.

    Attributes:
        iterations: of the whole training, if all episodes last to the horizon; fewer where they end early.
    """

    def __init__(
        self, task: Task, sweeps: Sequence[Sweep], *, steps: int, total: int, seed: int, settings: ppo.PPO
    ) -> None:
        """Make untrained agents, one per sweep; `steps`: of each in an iteration, `total`: of all together."""
        self._owners, self._horizon, self._total = len(sweeps), task.horizon, total
        self._sweeps, self._seed, self._settings = tuple(sweeps), seed, settings
        self._share = -(-steps // (GROUPS * task.horizon))  # episodes of each agent in each group of an iteration
        self._steps = self._share * GROUPS * task.horizon
        self.iterations = -(-total // (self._steps * self._owners))
        keys = jax.random.split(jax.random.key(seed), self._owners)
        sizes = task.observation_size, task.action_size
        self._agents = jax.vmap(lambda key: ppo.Agent.make(key, *sizes, settings))(keys)
        self._controllers = [(PIDState(0.0, 0.0), 0.0) for _ in sweeps]  # and the multipliers that follow
        self._counters = np.zeros(GROUPS, np.int64)  # episodes begun by each group
        self._return_scales = np.ones((2, self._owners))  # of reward and cost, for the value networks
        self._iteration, self._made = 0, 0

    @override
    def done(self, iteration: int, steps: int) -> bool:
        return steps >= self._total

    @override
    def run(self, pool: EnvPool, iteration: int, steps: int, keep: Keep) -> list[Episode]:
        self._iteration, self._made = iteration, steps
        pool.begin()
        self._clock = [0] * GROUPS
        recorded = record(pool, self._owners, self._act, self._next, keep)
        if not self.done(iteration + 1, steps + sum(len(episode) for episode, _ in recorded)):
            self._learn(recorded)
        return [episode for episode, _ in recorded]

    def _act(self, group: int, feed: Feed) -> np.ndarray:
        place = np.array([self._seed, self._iteration * GROUPS + group, self._clock[group]], np.int32)
        self._clock[group] += 1
        with jax.default_matmul_precision("float32"):
            return np.asarray(ppo.act(self._agents, feed.numbers[..., :-2], place))

    @override
    def tally(self, episodes: Sequence[Episode]) -> list[Tally]:
        progress = self._made / self._total
        tallies = []
        for owner, sweep in enumerate(self._sweeps):
            own = [e for e in episodes if e.owner == owner]
            if own:  # the last iteration may be short
                tallies.append(Tally.of(f"agent {owner}", own, sweep.limit(progress)))
        return tallies

    @override
    def state(self) -> dict[str, Any]:
        leaves = jax.tree.leaves(self._agents)
        return {
            "counters": self._counters.copy(),
            "return_scales": self._return_scales.copy(),
            "multipliers": np.array([(pid.integral, pid.error, number) for pid, number in self._controllers]),
            **{f"agents.{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)},
        }

    @override
    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self._counters = arrays["counters"].copy()
        self._return_scales = arrays["return_scales"].copy()
        rows = arrays["multipliers"].tolist()
        self._controllers = [(PIDState(error, integral), multiplier) for integral, error, multiplier in rows]
        old, structure = jax.tree.flatten(self._agents)
        leaves = [jnp.asarray(arrays[f"agents.{i}"]) for i in range(len(old))]
        self._agents = jax.tree.unflatten(structure, leaves)

    def _next(self, group: int, owner: int, steps: int) -> Start | None:
        """Another episode, as long as the owner's share of the group's steps is not reached.

        Shares are of the iteration's size; those of the last one add up to what is left, in whole episodes.
        """
        left, parts = -(-(self._total - self._made) // self._horizon), GROUPS * self._owners
        share = min(self._share, (left + parts - 1 - owner * GROUPS - group) // parts)
        if steps >= share * self._horizon:
            return None
        number = int(self._counters[group]) * GROUPS + group
        self._counters[group] += 1
        return Start(number, episode_seed(self._seed, number))

    def _learn(self, recorded: list[Recorded]) -> None:
        progress = self._made / self._total
        owned = [[each for each in recorded if each[0].owner == owner] for owner in range(self._owners)]
        for owner, (sweep, mine) in enumerate(zip(self._sweeps, owned, strict=True)):
            mean = float(np.mean([episode.cost for episode, _ in mine]))
            loosest = max(sweep.start, sweep.end) or 1.0
            excess = mean / loosest - sweep.limit(progress) / loosest
            self._controllers[owner] = pid_multiplier(self._controllers[owner][0], excess, _GAINS)
        observations = _pad([np.concatenate([episode.observations for episode, _ in mine]) for mine in owned])
        if self._iteration == 0:  # else the first actions' scale would be that of nothing
            self._agents = ppo.rescale(self._agents, observations)
        with jax.default_matmul_precision("float32"):
            values = np.asarray(ppo.values(self._agents, observations))
            parts = [self._targets(owner, mine, values[:, owner]) for owner, mine in enumerate(owned)]
            rows = min(len(part[0]) for part in parts)
            batch = ppo.Batch(*(jnp.asarray(_pad(columns)) for columns in zip(*parts, strict=True)))
            self._agents = ppo.improve(self._agents, batch, jnp.asarray(self._order(rows)), self._settings)
        if not np.isfinite(np.asarray(self._agents.learner.network.log_std)).all():
            raise RunError("the agents' training has diverged; collect with another seed or a lower learning rate.")
        self._agents = ppo.rescale(self._agents, observations)

    def _targets(self, owner: int, mine: list[Recorded], values: Float[np.ndarray, "2 N"]) -> tuple[np.ndarray, ...]:
        """The columns of `ppo.Batch` for one agent, with its advantages under its multiplier."""
        settings = self._settings
        episodes = [episode for episode, _ in mine]
        lengths = np.array([len(e) for e in episodes])
        terminated = np.array([e.terminated for e in episodes])
        known = np.arange(lengths.max() + 1) <= lengths[:, None]  # one value more than steps
        inside = known[:, 1:]
        advantages, targets = [], []
        for kind, name in enumerate(("rewards", "costs")):
            scale = self._return_scales[kind, owner]
            signal, value = np.zeros(inside.shape, np.float32), np.zeros(known.shape, np.float32)
            signal[inside] = np.concatenate([getattr(e, name) for e in episodes])
            value[known] = values[kind, : known.sum()] * scale
            own = advantage_estimates(signal, value, lengths, terminated, settings.discount, settings.trace)
            returns = (own + value[:, :-1])[inside]
            # slowly, for the networks have learned in the old units
            fresh = max(float(returns.std()), 1e-3)
            new = fresh if self._iteration == 0 else scale + 0.1 * (fresh - scale)
            self._return_scales[kind, owner] = new
            targets.append(returns / new)
            own = own[inside]
            advantages.append((own - own.mean()) / (own.std() + 1e-6))
        _, multiplier = self._controllers[owner]
        total = (advantages[0] - multiplier * advantages[1]) / (1 + multiplier)
        return (
            np.concatenate([e.observations[:-1] for e in episodes]),
            np.concatenate([wanted for _, wanted in mine]),
            *(column.astype(np.float32) for column in (total / (total.std() + 1e-6), *targets)),
        )

    def _order(self, rows: int) -> np.ndarray:
        """Rows of every minibatch, int32 `(P, epochs * minibatches, minibatch)`; a remainder is left out."""
        rng = np.random.default_rng((self._seed, self._iteration))
        # as many as the fewest rows that an iteration can have, so that one shape is compiled
        size = min(self._settings.minibatch, self._steps)
        count = self._steps // size
        passes = self._owners * self._settings.epochs
        drawn = np.stack([rng.permutation(rows)[: count * size] for _ in range(passes)])
        return drawn.reshape(self._owners, self._settings.epochs * count, size).astype(np.int32)


def _pad(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Stack arrays of unequal length, by repeating the rows of each."""
    rows = -(-max(len(part) for part in parts) // _PADDING) * _PADDING
    return np.stack([np.resize(part, (rows, *part.shape[1:])) for part in parts])
