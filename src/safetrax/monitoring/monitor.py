"""The monitor at work: how unlike the log is what happens, and how much of the limit is left."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from safetensors import SafetensorError

from safetrax.errors import ConfigError, DataError
from safetrax.files import read_tensors, write_tensors

FORMAT, VERSION = "safetrax-monitor", "1"
SCORES = ("observation", "action", "transition", "ratio")
TRANSITION, BUDGET = SCORES.index("transition"), "budget"
NEIGHBOURS = 32
_RATE = 0.1  # of the moving average: a score remembers about ten steps
_FAR = 1e3  # standard deviations beyond which it no longer matters how far
_WORST = 10.0  # of a single number's error, in standard deviations: a collision is no fault of ten steps


@dataclass(frozen=True)
class LogModel:
    """What a monitor knows of the log. Observations are standardised, actions in [-1, 1].

    Attributes:
        mean: of observations.
        std: of observations; where they are constant, a small number.
        low: action bounds.
        high: action bounds.
        states: a sample.
        actions: that were taken in them.
        frequencies: of random Fourier features of state and action.
        phases: of these.
        weights: of 1, state, action and features, for what a step changes.
        errors: standard deviations of what they get wrong in held-out episodes.
        network: weights and biases, layer by layer, of a clone of the whole log; empty: none.
    """

    mean: Float[np.ndarray, " O"]
    std: Float[np.ndarray, " O"]
    low: Float[np.ndarray, " A"]
    high: Float[np.ndarray, " A"]
    states: Float[np.ndarray, "S O"]
    actions: Float[np.ndarray, "S A"]
    frequencies: Float[np.ndarray, "OA C"]
    phases: Float[np.ndarray, " C"]
    weights: Float[np.ndarray, "D O"]
    errors: Float[np.ndarray, " O"]
    network: tuple[np.ndarray, ...] = ()

    def standardised(self, observations: Float[np.ndarray, "n O"]) -> Float[np.ndarray, "n O"]:
        """(s - mean) / std, as far as it matters."""
        return np.asarray(np.clip((observations - self.mean) / self.std, -_FAR, _FAR), np.float32)

    def unit(self, actions: Float[np.ndarray, "n A"]) -> Float[np.ndarray, "n A"]:
        """Actions in [-1, 1]."""
        return np.asarray((2 * actions - self.high - self.low) / (self.high - self.low), np.float32)

    def features(self, states: Float[np.ndarray, "n O"], actions: Float[np.ndarray, "n A"]) -> np.ndarray:
        """1, state, action and cosines."""
        points = np.concatenate([states, actions], axis=1)
        waves = np.cos(points @ self.frequencies + self.phases)
        return np.concatenate([np.ones((len(points), 1), np.float32), points, waves], axis=1)

    def scores(
        self,
        states: Float[np.ndarray, "n O"],
        weighed: Float[np.ndarray, "n A"],
        actions: Float[np.ndarray, "n A"],
        proposals: Float[np.ndarray, "n A"],
        states_before: Float[np.ndarray, "n O"],
        actions_before: Float[np.ndarray, "n A"],
    ) -> Float[np.ndarray, "n K"]:
        """Of one step each; more is worse.

        Distance of the state from logged ones; of the weighed action from those taken in the 32 nearest; error of the
        predicted change since the step before; and log-ratio of the log's clone and the policy for the action, each a
        Gaussian of variance 1/2 as in TraC (Gong et al., AAAI 2025), the policy's around its proposal.
        """
        apart = (self.states**2).sum(axis=1) - 2 * states @ self.states.T  # less |s|^2, which orders nothing
        count = min(NEIGHBOURS, apart.shape[1] - 1)
        near = np.argpartition(apart, count, axis=1)[:, : count + 1]
        distance = np.linalg.norm(self.states[near] - states[:, None], axis=2).min(axis=1)
        reach = np.linalg.norm(self.actions[near] - weighed[:, None], axis=2).min(axis=1)
        change = self.features(states_before, actions_before) @ self.weights
        wrong = np.clip((states - states_before - change) / self.errors, -_WORST, _WORST)
        found = [distance, reach, np.sqrt((wrong**2).mean(axis=1))]
        if self.network:
            layer = states
            for weight, bias in zip(self.network[:-2:2], self.network[1:-2:2], strict=True):
                layer = np.maximum(layer @ weight + bias, 0)
            cloned = np.tanh(layer @ self.network[-2] + self.network[-1])
            found.append(((actions - proposals) ** 2).sum(axis=1) - ((actions - cloned) ** 2).sum(axis=1))
        return np.stack(found, axis=1).astype(np.float64)


class Verdict(NamedTuple):
    """Of one step of n episodes.

    Attributes:
        names: of the scores.
        scores: moving averages, 1 at the threshold. Of the budget: the cost so far and to come over the limit.
        alarms: which are above.
    """

    names: tuple[str, ...]
    scores: Float[np.ndarray, "n K"]
    alarms: Bool[np.ndarray, "n K"]


class Monitor:
    """Watches episodes side by side, see docs/monitor.md. `safetrax.fit_monitor` makes one from a log.

    Attributes:
        log: what it knows of it.
        typical: mean of each score in logged episodes.
        threshold: of each score's moving average, at which the alarm is raised.
        facts: cost limit, stated rate of false alarms, how it was calibrated and verified; JSON-ready.
    """

    def __init__(
        self,
        log: LogModel,
        typical: Float[np.ndarray, " K"],
        threshold: Float[np.ndarray, " K"],
        facts: Mapping[str, Any],
    ) -> None:
        self.log, self.typical, self.threshold, self.facts = log, typical, threshold, dict(facts)
        limit, to_come, horizon = (self.facts.get(name) for name in ("cost_limit", "cost_to_come", "horizon"))
        self._limit = math.inf if limit is None else float(limit)
        self._to_come, self._horizon = float(to_come or 0.0), float(horizon or 1.0)
        self._names = (*SCORES[: len(typical)], BUDGET)
        self._n = 0

    def fresh(self) -> Monitor:
        """The same, watching nothing yet."""
        return Monitor(self.log, self.typical, self.threshold, self.facts)

    def reset(self, episodes: int = 1) -> None:
        """Begin so many episodes side by side."""
        self._n = episodes
        self._states = np.zeros((episodes, self.log.mean.size), np.float32)
        self._actions = np.zeros((episodes, self.log.low.size), np.float32)
        self._cost, self._steps = np.zeros(episodes), np.zeros(episodes, int)
        self._averages = np.tile(self.typical, (episodes, 1))

    def begin(self, which: Bool[np.ndarray, " n"]) -> None:
        """Begin a new episode in each of these places."""
        self._cost[which], self._steps[which], self._averages[which] = 0.0, 0, self.typical

    def judge(
        self,
        observations: Any,
        actions: Any,
        proposals: Any = None,
    ) -> Verdict:
        """Judge what is seen and about to be done.

        Args:
            observations: `(n, O)`, raw, in the log's units.
            actions: `(n, A)`, likewise.
            proposals: `(n, A)`, what the policy would do, if somebody else acts.

        Raises:
            ConfigError: sizes do not fit, or a number is not finite.
        """
        rows, given = (np.asarray(x, np.float32) for x in (observations, actions))
        sizes = self.log.mean.size, self.log.low.size
        fine = rows.ndim == given.ndim == 2 and (rows.shape[1], given.shape[1]) == sizes and len(rows) == len(given)
        if not (fine and np.isfinite(rows).all() and np.isfinite(given).all()):
            raise ConfigError(
                f"the monitor takes finite observations (n, {sizes[0]}) and actions (n, {sizes[1]}), got the shapes "
                f"{rows.shape} and {given.shape}."
            )
        if self._n != len(rows):
            self.reset(len(rows))
        states, doing = self.log.standardised(rows), self.log.unit(given)
        proposed = doing if proposals is None else self.log.unit(np.asarray(proposals, np.float32))
        scores = self.log.scores(states, doing, doing, proposed, self._states, self._actions)
        scores[self._steps == 0, TRANSITION] = self.typical[TRANSITION]
        self._averages = smoothed(self._averages, scores)
        self._states, self._actions = states, doing
        relative = (self._averages - self.typical) / (self.threshold - self.typical)
        spent = foreseen(self._cost, self._steps, self._to_come, self._horizon)
        alarms = np.column_stack([relative > 1, spent > self._limit])
        budget = spent / self._limit if self._limit > 0 else (spent > 0).astype(float)
        return Verdict(self._names, np.column_stack([relative, budget]), alarms)

    def observe(self, costs: Any, actions: Float[np.ndarray, "n A"] | None = None) -> None:
        """Tell what the last step cost and, if others than those judged were taken, the actions.

        Raises:
            ConfigError: a cost is negative or not finite.
        """
        if not self._n:
            raise ConfigError("observe was called before judge.")
        costs = np.asarray(costs, np.float64)
        if not (np.isfinite(costs).all() and (costs >= 0).all()):
            raise ConfigError("costs must be finite and not negative; with others the budget is unknown.")
        self._cost, self._steps = self._cost + costs, self._steps + 1
        if actions is not None:
            self._actions = self.log.unit(np.asarray(actions, np.float32))

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file.

        Raises:
            RunError: it cannot be written.
        """
        tensors = {f.name: getattr(self.log, f.name) for f in fields(LogModel) if f.name != "network"}
        tensors |= {f"network.{i}": array for i, array in enumerate(self.log.network)}
        tensors |= {"typical": self.typical, "threshold": self.threshold}
        write_tensors(path, tensors, {"format": FORMAT, "version": VERSION, "facts": json.dumps(self.facts)})
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Monitor:
        """Read a file that `save` wrote.

        Raises:
            DataError: it is missing, damaged, of a newer version, or no monitor.
        """
        if not Path(path).is_file():
            raise DataError(f"no monitor at {path}; make one with safetrax monitor.")
        try:
            header, tensors = read_tensors(path)
            if header.get("format") != FORMAT:
                raise DataError(f"{path} is a safetensors file, but no monitor.")
            if header.get("version") != VERSION:
                raise DataError(f"{path} is a monitor of another version of SafeTraX; update it, or fit it anew.")
            facts = json.loads(header["facts"])
            network = tuple(
                tensors.pop(f"network.{i}") for i in range(sum(n.startswith("network.") for n in tensors))
            )
            typical, threshold = tensors.pop("typical"), tensors.pop("threshold")
            log = LogModel(**tensors, network=network)
            _require_whole(log, typical, threshold, facts)
            return Monitor(log, typical, threshold, facts)
        except DataError:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"{path} is damaged or no monitor ({' '.join(str(error).split())[:200]}); fit it anew."
            ) from error


def smoothed(averages: Float[np.ndarray, "n K"], scores: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n K"]:
    """One step of the moving average."""
    return np.asarray(averages + _RATE * (scores - averages))


def foreseen(
    cost: Float[np.ndarray, " n"], steps: Int[np.ndarray, " n"], to_come: float, horizon: float
) -> Float[np.ndarray, " n"]:
    """Cost of an episode, by what it has cost in so many steps and what is certified of a whole one."""
    return np.asarray(cost + to_come * np.maximum(1 - steps / horizon, 0))


def _require_whole(
    log: LogModel, typical: Shaped[np.ndarray, ...], threshold: Shaped[np.ndarray, ...], facts: Any
) -> None:
    """ValueError where arrays do not fit one another or hold what cannot be."""
    o, a, s, c = log.mean.size, log.low.size, len(log.states), log.phases.size
    wanted = {
        "mean": (o,), "std": (o,), "low": (a,), "high": (a,), "states": (s, o), "actions": (s, a), "errors": (o,),
        "frequencies": (o + a, c), "phases": (c,), "weights": (1 + o + a + c, o),
    }  # fmt: skip
    arrays = [getattr(log, name) for name in wanted]
    layers = [*log.network[::2]]
    inner = all(one.shape[1] == bias.size for one, bias in zip(layers, log.network[1::2], strict=True))
    chain = all(one.shape[1] == two.shape[0] for one, two in itertools.pairwise(layers))
    count = len(SCORES) - (not layers)
    if not (
        all(array.shape == shape for array, shape in zip(arrays, wanted.values(), strict=True))
        and s > 1
        and typical.shape == threshold.shape == (count,)
        and all(np.issubdtype(x.dtype, np.floating) for x in (*arrays, *log.network, typical, threshold))
        and all(np.isfinite(x).all() for x in (*arrays, *log.network, typical, threshold))
        and (log.std > 0).all() and (log.errors > 0).all() and (log.high > log.low).all()
        and (threshold > typical).all()
        and (not layers or (inner and chain and layers[0].shape[0] == o and layers[-1].shape[1] == a))
    ):  # fmt: skip
        raise ValueError("its arrays do not fit one another, or hold impossible numbers")
    if not isinstance(facts, dict):
        raise ValueError("its facts are no table")
    for name, least in (("cost_limit", 0.0), ("cost_to_come", 0.0), ("horizon", 1.0)):
        value = facts.get(name)
        if value is not None and not (isinstance(value, int | float) and least <= value < math.inf):
            raise ValueError(f"{name} is {value!r:.40}")
