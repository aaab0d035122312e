"""A monitor from a log: what is usual there, and from where on an alarm is raised."""

from __future__ import annotations

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from safetrax.algorithms.standardisation import Standardiser
from safetrax.certification.acting import logged_state_actions
from safetrax.certification.certificate import Certificate
from safetrax.certification.clones import Clone, clones
from safetrax.certification.features import Features, rows_of
from safetrax.data.segments import check_cost_limits
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.data.validation import check
from safetrax.errors import ConfigError, DataError
from safetrax.monitoring.monitor import TRANSITION, LogModel, Monitor, foreseen, smoothed
from safetrax.policies.actor import Standardised
from safetrax.policies.policy import Policy

_SHARES = (0.4, 0.1, 0.3)  # of the episodes: known, to scale scores, to calibrate; the others verify
_KNOWN, _FEATURES, _FITTED = 4096, 256, 50_000  # states kept, cosines, steps that predictions are fitted to
_RIDGE, _LEAST_STD, _LEAST_RISE = 1e-3, 1e-4, 1e-3
_HIGH = 0.9  # of episodes of the scaling part, whose greatest score is below a score's unit
_ROWS = 2048


def fit_monitor(
    data: Trajectories,
    *,
    cost_limit: float | None = None,
    false_alarms: float = 0.1,
    policy: Policy | None = None,
    certificate: Certificate | None = None,
    seed: int = 0,
) -> Monitor:
    """A monitor whose thresholds are conformal.

    In an episode like the log's that stays within the limit, the chance of an alarm is at most the stated rate.

    Episodes are put into four parts by chance: 40 % are known to the monitor, 10 % set the units of its scores, 30 %
    calibrate, 20 % verify. Of the last two, those within the limit count.

    Args:
        data: a log, whole episodes.
        cost_limit: of an episode; None: of the policy, and if that has none, the budget is not watched.
        false_alarms: stated rate per episode, in (0, 1).
        policy: who will be watched. Then actions are held against what it would have done in the log, and the ratio
            is watched too.
        certificate: of the policy, whose bound of the cost still to come counts against the limit.
        seed: of the parts and of all that is drawn.

    Raises:
        DataError: the log is malformed, or has too few episodes within the limit for the rate.
        ConfigError: the rate or the limit is impossible, or no costs are known.
    """
    check(data)
    if data.action_choices is not None:
        raise DataError("the log's actions are choices, and a monitor watches continuous ones only; do without one.")
    if not 0 < false_alarms < 1:
        raise ConfigError(f"false_alarms is {false_alarms:g}, but must lie between 0 and 1.")
    limit = cost_limit if cost_limit is not None or policy is None else policy.id.cost_limit
    if limit is not None:
        check_cost_limits([limit])
        if data.costs is None:
            raise ConfigError("the log has no costs, so no budget can be watched; leave the cost limit out.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(data.num_episodes)
    known, scaling, calibrating, verifying = np.split(order, (np.cumsum(_SHARES) * len(order)).astype(int))
    within = np.ones(len(order), bool) if limit is None else data.cost_returns <= limit
    calibrating, verifying = (part[within[part]] for part in (calibrating, verifying))
    needed = math.ceil(1 / false_alarms) - 1
    if len(calibrating) < needed or not len(scaling):
        inside = "" if limit is None else f" within the limit of {limit:g}"
        raise DataError(
            f"{len(calibrating)} held-out episodes{inside} are too few for a rate of {false_alarms:g}, which takes "
            f"{needed}; state a higher rate, or give about {math.ceil(needed / 0.3)} episodes{inside}."
        )
    log = _log_model(data, known, policy is not None, rng)
    series = _Series(data, log, policy)
    episodes = series.episodes(scaling)
    typical = np.concatenate(episodes).mean(axis=0)
    peaks = np.stack([_averages(one, typical).max(axis=0) for one in episodes])
    rise = np.maximum(np.quantile(peaks, _HIGH, axis=0) - typical, _LEAST_RISE)

    horizon = data.max_length
    to_come = _to_come(certificate, limit)
    spending = _spend(data, calibrating, limit, to_come, horizon)
    if to_come and spending.mean() > false_alarms / 2:
        to_come, spending = 0.0, np.zeros_like(spending)
    highest = [((_averages(one, typical) - typical) / rise).max() for one in series.episodes(calibrating, typical)]
    ordered = np.sort(np.where(spending, np.inf, highest))
    factor = ordered[min(math.ceil((len(ordered) + 1) * (1 - false_alarms)), len(ordered)) - 1]
    threshold = typical + max(float(factor), _LEAST_RISE) * rise
    facts = {
        "cost_limit": limit,
        "false_alarms": false_alarms,
        "cost_to_come": to_come,
        "horizon": horizon,
        "policy": None if policy is None else policy.id._asdict(),
        "data": data.fingerprint(),
        "calibrated": len(calibrating),
    }
    monitor = Monitor(log, typical, threshold, facts)
    alarms = _spend(data, verifying, limit, to_come, horizon)
    alarms |= [bool((_averages(one, typical) > threshold).any()) for one in series.episodes(verifying, typical)]
    monitor.facts |= {"verified": len(verifying), "verified_alarms": int(alarms.sum())}
    return monitor


def _to_come(certificate: Certificate | None, limit: float | None) -> float:
    """What the certificate says of a whole episode, if that is within the limit."""
    if certificate is None or limit is None or certificate.cost_bound is None or certificate.cost_bound > limit:
        return 0.0
    return max(certificate.cost_bound, 0.0)


def _spend(
    data: Trajectories, episodes: Int[np.ndarray, " e"], limit: float | None, to_come: float, horizon: int
) -> Bool[np.ndarray, " e"]:
    """In which logged episodes the budget raises an alarm."""
    found = np.zeros(len(episodes), bool)
    if limit is None:
        return found
    for place, episode in enumerate(episodes):
        costs = data.logged_costs[data.offsets[episode] : data.offsets[episode + 1]]
        before = np.cumsum(costs, dtype=float) - costs
        found[place] = (foreseen(before, np.arange(len(costs)), to_come, horizon) > limit).any()
    return found


def _averages(scores: Float[np.ndarray, "T K"], typical: Float[np.ndarray, " K"]) -> Float[np.ndarray, "T K"]:
    """Moving averages along one episode."""
    found, now = [], typical
    for row in scores:
        now = smoothed(now[None], row[None])[0]
        found.append(now)
    return np.stack(found)


class _Series:
    """Scores along logged episodes."""

    def __init__(self, data: Trajectories, log: LogModel, policy: Policy | None) -> None:
        self._data, self._log = data, log
        taken = data.actions
        # what the policy would do there, with its own memory and noise
        self._proposed = taken if policy is None else logged_state_actions(policy.actor, data, 1)[0]
        self._states = log.standardised(data.observations)
        self._taken, self._proposals = log.unit(taken), log.unit(self._proposed)

    def episodes(
        self, numbers: Int[np.ndarray, " e"], typical: Float[np.ndarray, " K"] | None = None
    ) -> list[Float[np.ndarray, "T K"]]:
        """Of these episodes: the ratio of what was done, and the distance of what the policy would do.

        `typical`: what counts in an episode's first step, which no step has led to; None: the mean.
        """
        if not len(numbers):
            return []
        rows = np.concatenate([np.arange(self._data.offsets[e], self._data.offsets[e + 1]) for e in numbers])
        parts = []
        for chunk in np.array_split(np.arange(len(rows)), -(-len(rows) // _ROWS)):
            at, earlier = rows[chunk], np.maximum(rows[chunk] - 1, 0)
            proposed, before = self._proposals[at], (self._states[earlier], self._taken[earlier])
            parts.append(self._log.scores(self._states[at], proposed, self._taken[at], proposed, *before))
        scores = np.concatenate(parts)
        firsts = np.isin(rows, self._data.offsets[:-1])
        led_to = scores[~firsts, TRANSITION]
        scores[firsts, TRANSITION] = (
            typical[TRANSITION] if typical is not None else led_to.mean() if led_to.size else 0.0
        )
        return np.split(scores, np.cumsum(self._data.lengths[numbers])[:-1])


def _log_model(
    data: Trajectories, known: Int[np.ndarray, " e"], with_clone: bool, rng: np.random.Generator
) -> LogModel:
    rows = rows_of(data.offsets, known)
    observations = data.observations[rows]
    mean = observations.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = np.maximum(observations.std(axis=0, dtype=np.float64), _LEAST_STD * (1 + np.abs(mean))).astype(np.float32)
    kept = rng.choice(rows, min(_KNOWN, len(rows)), replace=False)
    o, a = data.observation_size, data.action_size
    low, high = data.action_low.astype(np.float32), data.action_high.astype(np.float32)
    none, two = np.zeros((o + a, 0), np.float32), np.zeros((2, o + a), np.float32)
    weights = np.zeros((1 + o + a, o), np.float32)
    log = LogModel(mean, std, low, high, two[:, :o], two[:, o:], none, none[0], weights, std)  # its units, as yet
    states, actions = log.standardised(data.observations), log.unit(data.actions)
    log = replace(log, states=states[kept], actions=actions[kept])
    # what a step changes: ridge regression on steps that are not an episode's last
    ends = np.zeros(data.num_transitions, bool)
    ends[data.offsets[1:] - 1] = True
    steps = rows[~ends[rows]]
    steps = rng.choice(steps, min(_FITTED, len(steps)), replace=False)
    features = Features.of(np.concatenate([states[steps], actions[steps]], axis=1).astype(float), _FEATURES, 0)
    if features.points is None:
        single = features.frequencies.astype(np.float32), features.phases.astype(np.float32)
        log = replace(log, frequencies=single[0], phases=single[1])
    half = len(steps) // 2
    phi = log.features(states[steps], actions[steps]).astype(float)
    change = (states[steps + 1] - states[steps]).astype(float)

    def fitted(which: slice) -> np.ndarray:
        x = phi[which]
        return np.asarray(np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ change[which]))

    left = change[half:] - phi[half:] @ fitted(slice(0, half))  # errors on steps that the fit has not seen
    errors = np.maximum(left.std(axis=0), _LEAST_STD).astype(np.float32)
    log = replace(log, weights=fitted(slice(None)).astype(np.float32), errors=errors)
    if not with_clone:
        return log
    standardiser = Standardiser(jnp.asarray(mean), jnp.asarray(std))
    (clone,) = clones(data, [known], standardiser.store(Store.make(data, ())), standardiser)
    assert isinstance(clone, Standardised)
    assert isinstance(clone.actor, Clone)
    network = clone.actor.network
    layers = [np.asarray(x) for pair in zip(network.weights, network.biases, strict=True) for x in pair]
    return replace(log, network=tuple(layers))
