"""The examiner: a log made ready to judge policies, and what it has learnt of its own mistakes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from safetrax.certification.acting import logged_state_actions
from safetrax.certification.certificate import Certificate
from safetrax.certification.clones import clones
from safetrax.certification.features import Features
from safetrax.certification.fitted_q import Estimate, estimate, regression, values
from safetrax.certification.parts import HELD_OUT, OF_A_TEST, Parts
from safetrax.certification.support import Support, effective_episodes
from safetrax.data.store import to_unit_box
from safetrax.data.trajectories import Trajectories
from safetrax.data.validation import check
from safetrax.errors import ConfigError, DataError
from safetrax.policies.actor import Actor
from safetrax.progress import Display, Reporter
from safetrax.run_id import RunId

_FEWEST = 5  # groups that are held out
_SCALES, _RIDGES, _EXACT = (1.0, 2.0), (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), 1e-12
_BEYOND = 0.1  # of the greatest possible cost, that an estimate may be below 0 or above it
_LEAST_SUPPORT, _LEAST_EPISODES = 0.5, 5.0


@dataclass(frozen=True)
class Options:
    """How certificates are made.

    Attributes:
        confidence: of each bound, in (0.5, 1).
        discount: of costs and returns; limits are on plain sums.
        horizon: steps of an episode; None: the log's longest.
        resamples: of the log's episodes, for the spread of an estimate.
        steps: of the log, in whole episodes, that are used at most.
        features: cosines in which values are linear.
        seed: of everything that is drawn.
    """

    confidence: float = 0.95
    discount: float = 1.0
    horizon: int | None = None
    resamples: int = 30
    steps: int = 80_000
    features: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, words, possible in (
            ("confidence", self.confidence, "lie above 0.5 and below 1", 0.5 < self.confidence < 1),
            ("discount", self.discount, "lie above 0 and not above 1", 0 < self.discount <= 1),
            ("horizon", self.horizon, "be at least 1", self.horizon is None or self.horizon >= 1),
            ("resamples", self.resamples, "be at least 10", self.resamples >= 10),
            ("steps", self.steps, "be at least 1000", self.steps >= 1000),
            ("features", self.features, "be at least 10", self.features >= 10),
        ):
            if not possible:
                raise ConfigError(f"{name} is {value}, but must {words}.")


@dataclass(frozen=True)
class Bounds:
    """Of one policy, before the self-tests have their say: cost and return.

    Attributes:
        estimated: the more careful of two estimates, greater cost and smaller return, cut to what is possible, (2,).
        fitted: by fitted Q evaluation alone, as it is, (2,).
        settled: whether both estimates of the cost are numbers, and not far beyond what is possible.
        spread: standard deviation over resamples, (2,).
        apart: how far the two estimates of the cost are apart.
        halves: estimates on either half of the log, cost and return, (2, 2).
        supported: see `Certificate`.
        episodes: see `Certificate`.
        worst: numbers of episode and step where its action is least like the log.
    """

    estimated: Float[np.ndarray, " 2"]
    fitted: Float[np.ndarray, " 2"]
    settled: bool
    spread: Float[np.ndarray, " 2"]
    apart: float
    halves: Float[np.ndarray, "2 2"]
    supported: float
    episodes: float
    worst: tuple[int, int]


class Examiner:
    """A log made ready to judge policies: values are fitted to 70 % of its episodes, the rest is for self-tests."""

    def __init__(self, data: Trajectories, options: Options | None = None, *, progress: bool = False) -> None:
        """Takes about as long as 20 policies, which the self-tests are.

        Raises:
            DataError: the log is malformed, has no costs or none above 0, or too few episodes.
        """
        self.options = options or Options()
        check(data)
        _require_enough(data)
        rng = np.random.default_rng(self.options.seed)
        self._whole, self._numbers = data, _within(data, self.options.steps, rng)
        self.data = data = data.select(self._numbers)
        self.horizon = self.options.horizon or data.max_length
        # of an episode's cost and return, which may end at any time
        steps = np.stack([self.data.logged_costs, data.rewards])
        self._least, self._most = (
            self.horizon * extreme for extreme in (np.minimum(steps.min(axis=1), 0), np.maximum(steps.max(axis=1), 0))
        )
        self._parts = parts = Parts.make(data, self.options.resamples, rng)
        actions = np.asarray(parts.store.actions, np.float64)
        self._states, self._units = np.asarray(parts.store.observations, np.float64), actions.std(axis=0) + 1e-6
        self._support = Support.of(self._states, actions / self._units, parts.episode, self.options.seed)
        self.truth = np.array([[data.cost_returns[g].mean(), data.returns[g].mean()] for g in parts.groups])
        tested = clones(data, parts.groups, parts.store, parts.standardiser)
        self._features, ridge = self._settle([self._chosen(actor) for actor in tested])
        self._moments = moments = parts.log.moments(self._features)
        self._inverses = np.stack([regression(moments, weights, ridge) for weights in parts.weights])
        self._half_inverses = np.stack([regression(moments, weights, ridge) for weights in parts.halves])
        self._test(tested, Display("certify", "self-tests") if progress else Reporter())

    def _settle(self, chosen: list[np.ndarray]) -> tuple[Features, float]:
        """The length scale and the ridge with which the self-tests come out best: least mean error over spread.

        `chosen`: what each clone would do, see `_chosen`.
        """
        options, points, groups = self.options, self._parts.log.points, len(self._parts.groups)
        log = replace(self._parts.log, blocks=(self._parts.fitted, *self._parts.log.blocks[-groups:]))
        weights, unit = np.eye(1, groups + 1)[0], self.truth.std(axis=0) + 1e-9
        candidates: list[tuple[float, Features, float]] = []
        for scale in _SCALES:
            size = min(options.features, max(len(points) // 20, 10))
            features = Features.of(points, size, options.seed, scale)
            moments = log.moments(features)
            tested, n = [log.policy_moments(features, states) for states in chosen], moments.rows[0]
            for ridge in (_EXACT,) if features.points is not None else _RIDGES:
                inverse, targets = regression(moments, weights, ridge), moments.targets[0] / n
                found = [
                    one.initial[place]
                    / one.starts[place]
                    @ values(inverse, one.following[0] / n, targets, self.horizon, options.discount)[-1]
                    for place, one in enumerate(tested, start=1)
                ]
                error = np.abs(np.clip(found, self._least, self._most) - self.truth) / unit
                candidates.append((float(np.where(np.isfinite(error), error, np.inf).mean()), features, ridge))
            if features.points is not None:
                break
        _, features, ridge = min(candidates, key=lambda candidate: candidate[0])
        return features, ridge

    def _test(self, tested: list[Actor], report: Reporter) -> None:
        """Bound the cost of the clone of every held-out group, and compare it with the group's own.

        A clone that would be refused a bound tests none.
        """
        report.start(len(tested))
        self.bounds = []
        for place, actor in enumerate(tested):
            self.bounds.append(self.examine(actor, self._parts.only(place)))
            report.advance("", place + 1)
        report.stop()
        self.estimated = np.stack([bounds.estimated for bounds in self.bounds])
        spread = np.stack([bounds.spread for bounds in self.bounds])
        margin = NormalDist().inv_cdf(self.options.confidence) * spread
        self.given = np.array([not self._unsupported(bounds) for bounds in self.bounds])
        short = ((self.truth - self.estimated) * [1, -1] - margin)[self.given]
        self.held, self.raised = int((short[:, 0] <= 0).sum()), np.zeros(2)
        if not len(short):
            return
        # split conformal prediction (Vovk et al., 2005): of 19 tests or more the confidence 0.95 takes the worst
        place = min(math.ceil((len(short) + 1) * self.options.confidence), len(short)) - 1
        self.raised = np.maximum(np.sort(short, axis=0)[place], 0)

    def _chosen(self, actor: Actor) -> Float[np.ndarray, "K N d"]:
        """Every state with what the policy would do in it."""
        low, high = self.data.action_low, self.data.action_high
        actions = np.asarray(to_unit_box(logged_state_actions(actor, self.data, draws=4), low, high), np.float64)
        return np.concatenate([np.broadcast_to(self._states, (len(actions), *self._states.shape)), actions], axis=2)

    def examine(self, actor: Actor, starts: Float[np.ndarray, " G"] | None = None) -> Bounds:
        """Estimate one policy. `starts`: how often the first states of each block count; None: like it."""
        data, parts = self.data, self._parts
        chosen = self._chosen(actor)
        found: Estimate = estimate(
            self._moments,
            parts.log.policy_moments(self._features, chosen),
            parts.weights,
            self._inverses,
            parts.halves,
            self._half_inverses,
            starts,
            self.horizon,
            self.options.discount,
        )
        visits = self._features(parts.log.points[parts.fitted]) @ found.visits
        likely = np.where(np.isfinite(visits), np.maximum(visits, 0), 0) + 1e-12
        full = np.zeros(data.num_transitions)
        full[parts.fitted] = likely
        actions = chosen[0, :, -data.action_size :] / self._units
        supported, worst = self._support.share(actions, full, self.options.seed)
        episode = int(parts.episode[worst[0]])
        both = np.stack([found.fitted, found.robust])
        careful = np.array([both[:, 0].max(), both[:, 1].min()])
        return Bounds(
            estimated=np.clip(np.nan_to_num(careful), self._least, self._most),
            fitted=found.fitted,
            settled=bool((np.abs(both[:, 0] - self._most[0] / 2) <= (0.5 + _BEYOND) * self._most[0]).all()),
            spread=found.resampled.std(axis=0, ddof=1),
            apart=float(np.abs(both[0, 0] - both[1, 0])),
            halves=np.clip(np.nan_to_num(found.halves), self._least, self._most),
            supported=supported,
            episodes=effective_episodes(likely, parts.episode[parts.fitted]),
            worst=(int(self._numbers[episode]), int(worst[0] - data.offsets[episode])),
        )

    def certificate(self, run: RunId, cost_limit: float, bounds: Bounds, half: int | None = None) -> Certificate:
        """From what `examine` found. `half`: on one half of the log alone."""
        options = self.options
        estimated, spread = bounds.estimated, bounds.spread
        if half is not None:
            estimated, spread = bounds.halves[half], spread * math.sqrt(2)
        margin = NormalDist().inv_cdf(options.confidence) * spread + self.raised
        (cost, returned), (least, most) = estimated + margin * [1, -1], (self._least, self._most)
        refusal = self._refusal(bounds, cost_limit)
        return Certificate(
            policy=run,
            cost_limit=cost_limit,
            confidence=options.confidence,
            cost=float(estimated[0]),
            cost_bound=None if refusal else float(np.clip(cost, least[0], most[0])),
            return_=float(estimated[1]),
            return_bound=None if refusal else float(np.clip(returned, least[1], most[1])),
            supported=bounds.supported,
            episodes=bounds.episodes,
            disagreement=_finite(bounds.apart),
            raised=float(self.raised[0]),
            held=self.held,
            tests=int(self.given.sum()),
            horizon=self.horizon,
            resamples=options.resamples,
            data=self._whole.fingerprint(),
            refusal=refusal,
        )

    def _refusal(self, bounds: Bounds, cost_limit: float) -> str:
        """Why there is no bound; empty where there is one."""
        if bounds.apart > max(cost_limit, float(self.raised[0])):
            return self._unsupported(bounds) or f"its two estimates are {bounds.apart:.3g} apart"
        if (tests := int(self.given.sum())) < _FEWEST:
            return (
                f"only {tests} of {len(self.given)} clones of the log's own behaviours have bounds, too few to test "
                "one by"
            )
        return self._unsupported(bounds)

    def _unsupported(self, bounds: Bounds) -> str:
        """Why the log does not tell the cost, whatever the limit and the self-tests; empty where it does."""
        if bounds.supported < _LEAST_SUPPORT:
            episode, step = bounds.worst
            return (
                f"the log supports only {bounds.supported:.0%} of what it would do, least of all in states such as "
                f"step {step} of episode {episode}"
            )
        if bounds.episodes < _LEAST_EPISODES:
            return f"its estimate rests on the like of {bounds.episodes:.1f} episodes only"
        return "" if bounds.settled else "its values do not settle on this log"


def _require_enough(data: Trajectories) -> None:
    if not data.logged_costs.any():
        raise DataError(
            "no step of the log costs anything, so it cannot tell what would: a bound from it would mean nothing; "
            "certify with a log that holds unsafe episodes too."
        )
    needed = _needed()
    if data.num_episodes < needed:
        raise DataError(
            f"the log has {data.num_episodes} episode{'s' * (data.num_episodes > 1)}; at least {needed} are needed, "
            f"of which {_FEWEST} groups of {OF_A_TEST} are held out to test the bound itself."
        )


def _needed() -> int:
    """Episodes, so that the fewest groups can be held out."""
    return math.ceil(_FEWEST * OF_A_TEST / HELD_OUT)


def _within(data: Trajectories, steps: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Numbers of random episodes that have no more steps together, but enough of them."""
    order = rng.permutation(data.num_episodes)
    count = int(np.searchsorted(np.cumsum(data.lengths[order]), steps, side="right"))
    return np.sort(order[: max(count, min(len(order), _needed()))])


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0
