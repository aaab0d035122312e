"""A policy under guard: what is done about an alarm."""

from __future__ import annotations

import math
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from safetrax.errors import ConfigError, RunError
from safetrax.monitoring.interventions import Intervention, OnAlarm
from safetrax.monitoring.monitor import Monitor
from safetrax.run_id import RunId
from safetrax.spaces import flatten, is_structured


@runtime_checkable
class Acts(Protocol):
    """A `Policy`, or a `Runtime` of an exported one."""

    def reset(self, episodes: int = 1, *, seed: int = 0) -> None:
        """Begin."""

    def act(self, observations: Any) -> np.ndarray:
        """Decide."""

    def observe(self, rewards: Any, costs: Any) -> None:
        """Be told."""


class Sentry:
    """Judges n episodes side by side and decides who acts.

    Attributes:
        interventions: so far, each cause once per episode, and none once somebody else acts.
        latched: `(n,)`, in which episodes somebody else acts, or nobody.
    """

    def __init__(self, monitor: Monitor, on_alarm: str, policy: str) -> None:
        """`policy`: its name, for the rows."""
        known: dict[str, OnAlarm] = {word: word for word in get_args(OnAlarm)}
        if on_alarm not in known:
            raise ConfigError(f"on_alarm is {on_alarm!r}; choose among {', '.join(known)}.")
        self.monitor, self.on_alarm, self._policy = monitor, known[on_alarm], policy
        self.interventions: list[Intervention] = []

    def reset(self, n: int) -> None:
        """Begin n episodes."""
        self.monitor.reset(n)
        self.latched = np.zeros(n, bool)
        self._told: list[set[str]] = [set() for _ in range(n)]

    def begin(self, which: Bool[np.ndarray, " n"]) -> None:
        """Begin a new episode in each of these places."""
        self.monitor.begin(which)
        self.latched[which] = False
        for place in np.flatnonzero(which):
            self._told[place] = set()

    def decide(
        self,
        observations: Float[np.ndarray, "n O"],
        proposals: Float[np.ndarray, "n A"],
        substitutes: Float[np.ndarray, "n A"] | None,
        episodes: Int[np.ndarray, " n"],
        steps: Int[np.ndarray, " n"],
        active: Bool[np.ndarray, " n"] | None = None,
    ) -> Float[np.ndarray, "n A"]:
        """What is done: the policy's proposals, or another's from the first alarm on. `active`: rows that count."""
        judged = self.monitor.judge(observations, proposals)
        counts = ~self.latched if active is None else ~self.latched & active
        for place, k in np.argwhere(judged.alarms & counts[:, None]).tolist():
            self.raise_alarm(
                place, judged.names[k], float(judged.scores[place, k]), int(episodes[place]), int(steps[place])
            )
        if substitutes is None:
            return proposals
        return np.where(self.latched[:, None], substitutes, proposals)

    def raise_alarm(self, place: int, cause: str, score: float, episode: int, step: int) -> None:
        """Respond, and keep a row of it."""
        if cause in self._told[place]:
            return
        self._told[place].add(cause)
        self.latched[place] = self.on_alarm != "record"
        self.interventions.append(Intervention(self._policy, episode, step, cause, score, self.on_alarm))


class Guard:
    """A policy that acts as long as its monitor raises no alarm.

    Attributes:
        interventions: rows so far, of all episodes since it was made.
        stopped: `(n,)`, in which episodes nobody acts any more.
    """

    def __init__(
        self, policy: Acts, monitor: Monitor, *, fallback: Acts | None = None, on_alarm: str | None = None
    ) -> None:
        """Watch a policy.

        Args:
            policy: a `Policy`, or a `Runtime`.
            monitor: for it.
            fallback: who acts from an alarm on until the episode ends. It is led along from the beginning.
            on_alarm: "fall-back", "stop", or "record" to act on; by default "fall-back" if there is one, else "stop".

        Raises:
            ConfigError: on_alarm is unknown, or there is nobody to fall back to.
        """
        self._policy, self._fallback = policy, fallback
        if on_alarm == "fall-back" and fallback is None:
            raise ConfigError('on_alarm is "fall-back", but there is no fallback; give a policy, or "stop".')
        self._sentry = Sentry(monitor, on_alarm or ("stop" if fallback is None else "fall-back"), _name(policy))
        self._episode, self._n = -1, 0

    @property
    def interventions(self) -> list[Intervention]:
        """Rows so far."""
        return self._sentry.interventions

    @property
    def stopped(self) -> Bool[np.ndarray, " n"]:
        """In which episodes nobody acts any more."""
        return self._sentry.latched & (self._sentry.on_alarm == "stop")

    def reset(self, episodes: int = 1, *, seed: int = 0) -> None:
        """Begin so many episodes side by side."""
        self._episode, self._n, self._step = self._episode + max(self._n, 1), episodes, 0
        self._sentry.reset(episodes)
        self._last: np.ndarray | None = None
        self._executed: np.ndarray | None = None
        for one in filter(None, (self._policy, self._fallback)):
            one.reset(episodes, seed=seed)

    def act(self, observations: Any) -> np.ndarray:
        """Actions for one observation `(O,)` or for one of each episode `(n, O)`; same leading shape back.

        Observations of several parts are taken as the policy takes them. One of a wrong size, of other parts, or
        with a number that is not finite, is an alarm: the fallback acts on the last good one.

        Raises:
            RunError: an episode is stopped; or its observation cannot be acted on and nobody can step in.
        """
        observations = self._vectors(observations)
        rows, good = self._readable(observations)
        single = np.ndim(observations) <= 1
        if not self._n:
            self.reset(len(rows))
        if len(rows) != self._n:
            raise ConfigError(f"got {len(rows)} observations for {self._n} episodes; call reset({len(rows)}) first.")
        if not good.all():
            for place in np.flatnonzero(~good & ~self._sentry.latched):
                self._sentry.raise_alarm(int(place), "input", math.inf, self._episode + int(place), self._step)
            if self._last is None or self._sentry.on_alarm == "record":
                raise RunError(
                    f"the observation is no row of {self._sentry.monitor.log.mean.size} finite numbers, and nobody "
                    "can act on it; stop what it controls."
                )
            rows = np.where(good[:, None], rows, self._last)
        self._last = rows
        if not self.stopped.any():
            substitutes = None if self._fallback is None else self._fallback.act(rows)
            episodes, steps = self._episode + np.arange(self._n), np.full(self._n, self._step)
            self._executed = self._sentry.decide(
                rows, self._proposals(rows, substitutes), substitutes, episodes, steps
            )
        if self.stopped.any():
            last = self._sentry.interventions[-1].episode
            row = next(row for row in self._sentry.interventions if row.episode == last)
            raise RunError(f"the monitor has stopped episode {row.episode} at step {row.step}, for its {row.cause}.")
        assert self._executed is not None
        return self._executed[0] if single else self._executed

    def observe(self, rewards: Any, costs: Any) -> None:
        """Tell everybody what the environment answered."""
        if not self._n:
            raise ConfigError("observe was called before act or reset.")
        self._step += 1
        self._sentry.monitor.observe(costs, self._executed)
        for one in filter(None, (self._policy, self._fallback)):
            one.observe(rewards, costs)

    def _proposals(self, rows: np.ndarray, substitutes: np.ndarray | None) -> np.ndarray:
        """The policy's actions; where it gives none that can be taken, the fallback's, and an alarm."""
        try:
            return self._policy.act(rows)
        except RunError:
            if substitutes is None or self._sentry.on_alarm == "record":
                raise
            for place in np.flatnonzero(~self._sentry.latched):
                self._sentry.raise_alarm(int(place), "output", math.inf, self._episode + int(place), self._step)
            return substitutes

    def _vectors(self, observations: Any) -> Any:
        """With parts put together; what cannot be is empty, and thereby not readable."""
        parts = getattr(self._policy, "observation_parts", ())
        if not is_structured(observations, parts):
            return observations
        try:
            return flatten(parts, observations)
        except ConfigError:
            return np.zeros((self._n, 0) if self._n > 1 else 0)

    def _readable(self, observations: Any) -> tuple[np.ndarray, np.ndarray]:
        """As rows of the right size, zeros where they cannot be read, and which can be."""
        size = self._sentry.monitor.log.mean.size
        try:
            with np.errstate(over="ignore"):
                rows = np.atleast_2d(np.asarray(observations)).astype(np.float32)
        except (TypeError, ValueError):
            rows = np.zeros((0, 0), np.float32)
        if rows.ndim != 2 or rows.shape[1] != size:
            count = self._n or 1
            return np.zeros((count, size), np.float32), np.zeros(count, bool)
        good = np.asarray(np.isfinite(rows).all(axis=1))
        return np.where(good[:, None], rows, 0), good


def _name(policy: Acts) -> str:
    """Of the rows."""
    identity = getattr(policy, "id", None) or RunId(**policy.facts["policy"])  # type: ignore[attr-defined]
    return str(identity)
