"""The examiner: a log made ready to judge policies, and what it has learnt of its own mistakes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from safetrax.certification.acting import logged_state_actions
from safetrax.certification.certificate import ESTIMATORS, Certificate
from safetrax.certification.clones import clones
from safetrax.certification.features import Features
from safetrax.certification.fitted_q import Estimate, estimate, regression, values
from safetrax.certification.mending import Mending
from safetrax.certification.parts import HELD_OUT, OF_A_TEST, Parts
from safetrax.certification.support import Support, effective_episodes
from safetrax.certification.world_model import WorldModel
from safetrax.data.store import to_unit_box
from safetrax.data.trajectories import Trajectories
from safetrax.data.validation import check
from safetrax.errors import ConfigError, DataError
from safetrax.policies.actor import Actor
from safetrax.progress import Display, Reporter
from safetrax.run_id import RunId

_FEWEST = 5  # groups that are held out
_RIDGES, _EXACT = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), 1e-12
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
        model_updates: of the world model in which policies are played; 0: none is made.
        seed: of everything that is drawn.
    """

    confidence: float = 0.95
    discount: float = 1.0
    horizon: int | None = None
    resamples: int = 30
    steps: int = 80_000
    features: int = 400
    model_updates: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, words, possible in (
            ("confidence", self.confidence, "lie above 0.5 and below 1", 0.5 < self.confidence < 1),
            ("discount", self.discount, "lie above 0 and not above 1", 0 < self.discount <= 1),
            ("horizon", self.horizon, "be at least 1", self.horizon is None or self.horizon >= 1),
            ("resamples", self.resamples, "be at least 10", self.resamples >= 10),
            ("steps", self.steps, "be at least 1000", self.steps >= 1000),
            ("features", self.features, "be at least 10", self.features >= 10),
            ("model_updates", self.model_updates, "not be negative", self.model_updates >= 0),
        ):
            if not possible:
                raise ConfigError(f"{name} is {value}, but must {words}.")


@dataclass(frozen=True)
class Bounds:
    """Of one policy, before the self-tests have their say.

    Attributes:
        estimates: of cost and return, by fitted Q evaluation, the doubly robust one, and in a world model if there is
            one, (K, 2).
        spread: their standard deviations, over resamples or members.
        halves: estimates on either half of the log.
        supported: see `Certificate`.
        episodes: see `Certificate`.
        worst: numbers of episode and step where its action is least like the log.
    """

    estimates: Float[np.ndarray, "K 2"]
    spread: Float[np.ndarray, "K 2"]
    halves: Float[np.ndarray, "2 K 2"]
    supported: float
    episodes: float
    worst: tuple[int, int]


class Examiner:
    """A log made ready to judge policies: values are fitted to 70 % of its episodes, the rest is for self-tests."""

    def __init__(
        self,
        data: Trajectories,
        options: Options | None = None,
        *,
        owners: Sequence[Hashable] | None = None,
        progress: bool = False,
    ) -> None:
        """Takes about as long as 20 policies, which the self-tests are.

        Args:
            data: the log.
            options: confidence and the like.
            owners: who acted in each episode, a name or number: then a self-test is of one owner's episodes. None:
                of episodes alike in cost and return.
            progress: show a bar.

        Raises:
            DataError: the log is malformed, has no costs or none above 0, or too few episodes, or owners do not fit.
        """
        self.options = options or Options()
        check(data)
        if data.action_choices is not None:
            raise DataError(
                "the log's actions are choices, and only policies of continuous actions can be certified; judge "
                "these in a simulator."
            )
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
        whose = None if owners is None else _names(owners, self._whole.num_episodes)[self._numbers]
        self._parts = parts = Parts.make(data, self.options.resamples, rng, whose)
        if len(parts.groups) < _FEWEST:
            raise DataError(
                f"only {len(parts.groups)} owners have {OF_A_TEST} of the episodes that are held out, and {_FEWEST} "
                "are needed; without owners, groups are made by cost and return."
            )
        actions = np.asarray(parts.store.actions, np.float64)
        self._states, self._units = np.asarray(parts.store.observations, np.float64), actions.std(axis=0) + 1e-6
        self._support = Support.of(self._states, actions / self._units, parts.episode, self.options.seed)
        self.truth = np.array([[data.cost_returns[g].mean(), data.returns[g].mean()] for g in parts.groups])
        tested = clones(data, parts.groups, parts.store, parts.standardiser)
        chosen = [self.chosen(actor, draws=2) for actor in tested]
        self._features = Features.of(parts.log.points, self._size(), self.options.seed)
        self._moments = moments = parts.log.moments(self._features)
        ridge = self._settle(chosen)
        self._inverses = np.stack([regression(moments, weights, ridge) for weights in parts.weights])
        self._half_inverses = np.stack([regression(moments, weights, ridge) for weights in parts.halves])
        updates, exact = self.options.model_updates, self._features.points is not None
        self._world = None if exact or not updates else WorldModel.fit(data, parts, updates, self.options.seed)
        report = Display("certify", "self-tests") if progress else Reporter()
        report.start(len(tested))
        self.bounds = []
        for place, actor in enumerate(tested):
            self.bounds.append(self._bounds(actor, chosen[place], place))
            report.advance("", place + 1)
        report.stop()
        self._learn()

    def _learn(self) -> None:
        """Compare the clones' estimates with what is known of their groups.

        A clone that would be refused a bound tests none.
        """
        given = np.array([not self._unsupported(bounds) for bounds in self.bounds])
        estimates, spread = (
            np.stack([getattr(bounds, name) for bounds in self.bounds])[given] for name in ("estimates", "spread")
        )
        settled = self._settled(estimates)
        self.cost, self.return_ = (
            Mending.learn(
                self.truth[given, i],
                estimates[..., i],
                spread[..., i],
                settled[..., i],
                self.options.confidence,
                sign,
            )
            for i, sign in enumerate((1, -1))
        )

    def _settled(self, estimates: Float[np.ndarray, "*T K 2"]) -> Bool[np.ndarray, "*T K 2"]:
        """Which estimates are numbers, and not far beyond what is possible."""
        beyond = _BEYOND * (self._most - self._least)
        return np.asarray((self._least - beyond <= estimates) & (estimates <= self._most + beyond))

    def _runs_away(self, estimates: Float[np.ndarray, "K 2"]) -> bool:
        """Whether one of the cost is no number, or far above what is possible."""
        return not (self._settled(estimates)[:, 0] | (estimates[:, 0] < self._least[0])).all()

    def _size(self) -> int:
        """Of the features: fewer for a small log."""
        return min(self.options.features, max(len(self._parts.log.points) // 20, 10))

    def _settle(self, chosen: list[np.ndarray]) -> float:
        """The ridge with which values come out best on the self-tests: the least mean error.

        `chosen`: what each clone would do, see `chosen`.
        """
        if self._features.points is not None:
            return _EXACT
        parts, moments, groups = self._parts, self._moments, len(self._parts.groups)
        weights, unit = parts.weights[0], self.truth.std(axis=0) + 1e-9
        rows, targets = weights @ moments.rows, np.tensordot(weights, moments.targets, axes=1)
        inverses = [regression(moments, weights, ridge) for ridge in _RIDGES]
        errors = np.zeros(len(_RIDGES))
        for place, states in enumerate(chosen):
            log = replace(parts.log, blocks=(parts.fitted, parts.log.blocks[place - groups]))
            one = log.policy_moments(self._features, states)
            for r, inverse in enumerate(inverses):
                theta = values(inverse, one.following[0] / rows, targets / rows, self.horizon, self.options.discount)
                found = np.clip(one.initial[1] / one.starts[1] @ theta[-1], self._least, self._most)
                errors[r] += (np.abs(found - self.truth[place]) / unit).sum() if np.isfinite(found).all() else np.inf
        return _RIDGES[int(errors.argmin())]

    def chosen(self, actor: Actor, draws: int = 4) -> Float[np.ndarray, "K N d"]:
        """Every state with what the policy would do in it, several times if it draws."""
        low, high = self.data.action_low, self.data.action_high
        actions = np.asarray(to_unit_box(logged_state_actions(actor, self.data, draws), low, high), np.float64)
        return np.concatenate([np.broadcast_to(self._states, (len(actions), *self._states.shape)), actions], axis=2)

    def examine(self, actor: Actor, chosen: Float[np.ndarray, "K N d"] | None = None) -> Bounds:
        """Estimate one policy. `chosen`: if `chosen(actor)` is known already."""
        return self._bounds(actor, self.chosen(actor) if chosen is None else chosen)

    def _bounds(self, actor: Actor, chosen: Float[np.ndarray, "K N d"], group: int | None = None) -> Bounds:
        """Of a policy that begins where a held-out group did, or, without one, where the fitted episodes did."""
        data, parts, options = self.data, self._parts, self.options
        found: Estimate = estimate(
            self._moments,
            parts.log.policy_moments(self._features, chosen),
            parts.weights,
            self._inverses,
            parts.halves,
            self._half_inverses,
            None if group is None else parts.only(group),
            self.horizon,
            options.discount,
        )
        visits = self._features(parts.log.points[parts.fitted]) @ found.visits
        likely = np.where(np.isfinite(visits), np.maximum(visits, 0), 0) + 1e-12
        full = np.zeros(data.num_transitions)
        full[parts.fitted] = likely
        actions = chosen[0, :, -data.action_size :] / self._units
        supported, worst = self._support.share(actions, full, options.seed)
        episode = int(parts.episode[worst[0]])
        spread = found.resampled.std(axis=0, ddof=1)
        estimates, spreads = [found.fitted, found.robust], [spread, spread]
        halves = [found.halves, found.halves]
        if self._world is not None:
            rows = parts.fitted if group is None else parts.log.blocks[group - len(parts.groups)]
            starts = self._states[rows[parts.log.first[rows]]]
            played = self._world.play(actor, starts, self.horizon, options.discount, options.seed)
            estimates.append(played.mean(axis=0))
            spreads.append(played.std(axis=0, ddof=1))
            halves.append(np.stack([played[::2].mean(axis=0), played[1::2].mean(axis=0)]))
        return Bounds(
            estimates=np.stack(estimates),
            spread=np.stack(spreads),
            halves=np.stack(halves, axis=1),
            supported=supported,
            episodes=effective_episodes(likely, parts.episode[parts.fitted]),
            worst=(int(self._numbers[episode]), int(worst[0] - data.offsets[episode])),
        )

    def certificate(self, run: RunId, cost_limit: float, bounds: Bounds, half: int | None = None) -> Certificate:
        """From what `examine` found. `half`: on one half of the log alone."""
        options = self.options
        estimates, spread = bounds.estimates, bounds.spread
        if half is not None:
            estimates, spread = bounds.halves[half], spread * math.sqrt(2)
        settled = self._settled(estimates) & self._settled(bounds.estimates)
        refusal, apart = self._refusal(bounds, settled, cost_limit)
        (k, cost, raised, most), (_, returned, _, least) = (self._end(i, estimates, spread, settled) for i in (0, 1))
        return Certificate(
            policy=run,
            cost_limit=cost_limit,
            confidence=options.confidence,
            cost=cost,
            cost_bound=None if refusal else most,
            return_=returned,
            return_bound=None if refusal else least,
            estimator=ESTIMATORS[k],
            supported=bounds.supported,
            episodes=bounds.episodes,
            disagreement=_finite(apart),
            raised=raised,
            held=int(self.cost.held[k]),
            tests=int(self.cost.tests[k]),
            horizon=self.horizon,
            resamples=options.resamples,
            data=self._whole.fingerprint(),
            refusal=refusal,
        )

    def _end(
        self,
        i: int,
        estimates: Float[np.ndarray, "K 2"],
        spread: Float[np.ndarray, "K 2"],
        settled: Bool[np.ndarray, "K 2"],
    ) -> tuple[int, float, float, float]:
        """Of the cost (0) or the return (1): who is believed, the mended estimate, what is added to it for the tests'
        sake, and the bound, which a second opinion may widen to what it says itself.

        Lines mend a bound for the worse only: self-tests are noisy, and a policy without noise is not overestimated.
        """
        mending, sign = ((self.cost, 1), (self.return_, -1))[i]
        believed = mending.believed(settled[:, i])[:2]
        k = (*believed, *mending.order, 0)[0]
        plain, mended = (
            np.clip(np.nan_to_num(values), self._least[i], self._most[i])
            for values in (estimates[:, i], mending.mend(estimates[:, i]))
        )
        worse = sign * np.maximum(sign * plain, sign * mended)
        raised = mending.raise_at(k, worse[k])
        margin = NormalDist().inv_cdf(self.options.confidence) * mending.slopes[k] * spread[k, i] + raised
        others = [*worse[list(believed[1:])], *([self._most[0]] if not i and self._runs_away(estimates) else [])]
        end = sign * max(sign * value for value in (worse[k] + sign * margin, *others))
        return k, float(mended[k]), raised, float(np.clip(end, self._least[i], self._most[i]))

    def _refusal(self, bounds: Bounds, settled: Bool[np.ndarray, "K 2"], cost_limit: float) -> tuple[str, float]:
        """Why there is no bound, empty where there is one; and how much more the second opinion says."""
        cost, tests = self.cost, int(self.cost.tests.max())
        if tests < _FEWEST:
            return (
                f"only {tests} of {len(self.bounds)} clones of the log's own behaviours have bounds, too few to test "
                "one by"
            ), math.inf
        if why := self._unsupported(bounds):
            return why, math.inf
        believed = cost.believed(settled[:, 0])
        if not (believed and self.return_.believed(settled[:, 1])):
            return "its values do not settle on this log", math.inf
        first, mended = believed[0], cost.mend(bounds.estimates[:, 0])
        if len(believed) > 1:
            apart, usual = float(mended[believed[1]] - mended[first]), cost.apart[first, believed[1]]
        else:  # then what the one says from either half of the log
            apart = float(cost.slopes[first] * (bounds.halves[:, first, 0].max() - bounds.estimates[first, 0]))
            usual = 0.0
        why = f"a second estimate says {apart:.3g} more"
        if self._runs_away(bounds.estimates):  # then that one says the most that is possible
            apart, usual = max(apart, float(self._most[0] - mended[first])), 0.0
            why = "its fitted values run away, above what any episode can cost"
        return "" if apart <= max(cost_limit, usual) else why, apart  # one that says less only reassures

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
        return ""


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


def _names(owners: Sequence[Hashable], episodes: int) -> Shaped[np.ndarray, " E"]:
    if len(owners) != episodes:
        raise DataError(f"owners has {len(owners)} entries, but the log {episodes} episodes; pass one for each.")
    return np.array([str(owner) for owner in owners])


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
