"""Policies under guard, many episodes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float

from safetrax.errors import ConfigError
from safetrax.monitoring.guard import Sentry
from safetrax.monitoring.interventions import Intervention, OnAlarm
from safetrax.monitoring.monitor import Monitor
from safetrax.policies.batched import BatchedActors, Feed
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId


@dataclass(frozen=True)
class Supervision:
    """Who watches, and what is done about an alarm.

    Attributes:
        monitors: one for every policy.
        fallback: who acts from an alarm on until the episode ends.
        on_alarm: what is done.
    """

    monitors: Mapping[RunId, Monitor]
    fallback: Policy | None
    on_alarm: OnAlarm

    @staticmethod
    def of(
        policies: Policies,
        monitor: Monitor | Mapping[RunId, Monitor],
        fallback: Policy | None,
        on_alarm: OnAlarm | None,
    ) -> Supervision:
        """Checked.

        Raises:
            ConfigError: a policy has no monitor, or there is nobody to fall back to.
        """
        found = dict.fromkeys(policies.ids, monitor) if isinstance(monitor, Monitor) else dict(monitor)
        if missing := [run for run in policies.ids if run not in found]:
            raise ConfigError(f"there is no monitor for {missing[0]}; make one with safetrax monitor.")
        if on_alarm == "fall-back" and fallback is None:
            raise ConfigError("an alarm shall fall back, but to nobody; give a fallback.")
        return Supervision(found, fallback, on_alarm or ("record" if fallback is None else "fall-back"))


class GuardedActors:
    """Like `BatchedActors`, with a monitor beside each policy.

    Attributes:
        stopped: `(P, n)`, whose episode ends here.
    """

    def __init__(self, actors: BatchedActors, runs: Sequence[RunId], seed: int, supervision: Supervision) -> None:
        """`actors`: of P policies, whose ids are `runs`."""
        shape = len(runs), actors.rows
        self._actors = actors
        self._fallback: BatchedActors | None = None
        if supervision.fallback is not None:
            alone = jax.tree.map(lambda leaf: leaf[None], supervision.fallback.actor)
            self._fallback = BatchedActors(alone, shape[0] * shape[1], seed)
        self._sentries = [Sentry(supervision.monitors[run].fresh(), supervision.on_alarm, str(run)) for run in runs]
        for sentry in self._sentries:
            sentry.reset(actors.rows)
        self._executed: Float[np.ndarray, "P n A"] | None = None
        self.stopped: Bool[np.ndarray, "P n"] = np.zeros(shape, bool)

    @property
    def interventions(self) -> list[Intervention]:
        """Of all policies."""
        return [row for sentry in self._sentries for row in sentry.interventions]

    def act(self, feed: Feed, acting: Bool[np.ndarray, "P n"]) -> Float[np.ndarray, "P n A"]:
        """Actions; rows that are not `acting` get some action too."""
        numbers, counts = np.asarray(feed.numbers), np.asarray(feed.counts)
        proposals = self._actors.act(feed)
        substitutes: list[np.ndarray | None] = [None] * len(proposals)
        if self._fallback is not None:
            flat = Feed(numbers.reshape(1, -1, numbers.shape[-1]), counts.reshape(1, -1, 2))
            substitutes = list(self._fallback.act(flat).reshape(proposals.shape))
        actions = np.array(proposals)
        for p, sentry in enumerate(self._sentries):
            fresh = counts[p, :, 1] == 0
            if self._executed is not None:
                sentry.monitor.observe(numbers[p, :, -1], self._executed[p])
            sentry.begin(fresh & acting[p])
            episodes, steps = counts[p].T
            actions[p] = sentry.decide(
                numbers[p, :, :-2], np.nan_to_num(proposals[p]), substitutes[p], episodes, steps, acting[p]
            )
            actions[p][~np.isfinite(proposals[p])] = np.nan  # whoever asks finds out
            self.stopped[p] = sentry.latched & (sentry.on_alarm == "stop") & acting[p]
        self._executed = np.nan_to_num(actions)
        return actions
