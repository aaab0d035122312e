"""From policies and a log to certificates."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from safetrax.catalogue import get_task
from safetrax.certification.certificate import Certificate
from safetrax.certification.examiner import Examiner, Options
from safetrax.data.segments import check_cost_limits
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.policies.actor import Standardised
from safetrax.policies.policy import Policies, Policy
from safetrax.progress import Display, Reporter
from safetrax.run_id import RunId
from safetrax.spaces import difference

_FAR = 5.0  # standard deviations between what a policy and a log are used to


def certify(
    policies: Policies | Sequence[Policy],
    data: Trajectories | Examiner,
    *,
    cost_limits: Sequence[float] = (),
    options: Options | None = None,
    owners: Sequence[Hashable] | None = None,
    progress: bool = False,
) -> list[Certificate]:
    """Bound the cost of an episode of each policy, from the log alone.

    Args:
        policies: trained, of any algorithm.
        data: a log of the same task, whole episodes with costs; or an `Examiner` of one, which can be used again.
        cost_limits: for policies that were trained for none; others are judged at their own. None given: the task's.
        options: confidence and the like; an `Examiner` has its own.
        owners: who acted in each episode of the log, see `Examiner`, which has its own.
        progress: show a bar.

    Returns:
        One certificate for each policy and limit.

    Raises:
        DataError: the log is malformed, of another task or in other units than the policies' own, has no costs, or
            too few episodes.
        ConfigError: it is unknown at which limit to judge.
    """
    kept = list(policies)
    limits = [limits_of(policy.id, cost_limits) for policy in kept]
    log = data._whole if isinstance(data, Examiner) else data
    for policy in kept:
        require_alike(policy, log)
    examiner = data if isinstance(data, Examiner) else Examiner(data, options, owners=owners, progress=progress)
    report = Display("certify", "policies") if progress else Reporter()
    report.start(len(kept))
    found = []
    for place, (policy, at) in enumerate(zip(kept, limits, strict=True)):
        bounds = examiner.examine(policy.actor)
        found += [examiner.certificate(policy.id, limit, bounds) for limit in at]
        report.advance("", place + 1)
    report.stop()
    return found


def choose(
    policies: Policies | Sequence[Policy], examiner: Examiner, *, cost_limit: float
) -> tuple[int, Certificate] | None:
    """The policy of most return among those whose cost is bounded by the limit, and its certificate.

    The choice is made on one half of the log and the certificate on the other, so that having chosen among many does
    not flatter it.

    Returns:
        Its place, and the certificate, whose bound may still be above the limit; None where no policy qualifies.
    """
    best: tuple[float, int, Certificate] | None = None
    for place, policy in enumerate(policies):
        bounds = examiner.examine(policy.actor)
        first, second = (examiner.certificate(policy.id, cost_limit, bounds, half) for half in (0, 1))
        if first.safe and (best is None or first.return_ > best[0]):
            best = first.return_, place, second
    return None if best is None else best[1:]


def require_alike(policy: Policy, data: Trajectories) -> None:
    """Check that a log can be of what the policy was trained for.

    Raises:
        DataError: its task, sizes or units are others.
    """
    task = data.info.get("task")
    if task and policy.id.task and get_task(task).name != policy.id.task:
        raise DataError(f"the log is of {task} and the policy {policy.id} of {policy.id.task}; give its own log.")
    if policy.actor.chooses != (data.action_choices is not None):
        raise DataError(f"the log's actions and those of {policy.id} are of two kinds, continuous and choices.")
    policy.require_size(data.observation_size)
    if both := difference(policy.observation_parts, data.observation_parts):
        raise DataError(f"{policy.id} was trained on observations of other parts than the log's: {both}.")
    actor = policy.actor
    if isinstance(actor, Standardised):
        mean, std = data.observations.mean(axis=0), data.observations.std(axis=0)
        theirs_mean, theirs = np.asarray(actor.mean), np.asarray(actor.std)
        apart = np.abs(mean - theirs_mean) / np.maximum(theirs, 1e-6)
        wide = np.maximum(std, 1e-6) / np.maximum(theirs, 1e-6)
        odd = np.flatnonzero((apart > _FAR) | (wide > _FAR) & (std > 1e-6))
        if odd.size:
            o = int(odd[0])
            raise DataError(
                f"number {o} of an observation is {mean[o]:.3g} ± {std[o]:.3g} in the log, and was "
                f"{theirs_mean[o]:.3g} ± {theirs[o]:.3g} where {policy.id} was trained; check units and columns."
            )


def limits_of(run: RunId, cost_limits: Sequence[float]) -> tuple[float, ...]:
    """At which a policy is judged: its own, else those given, else its task's.

    Raises:
        ConfigError: there is none, or one is impossible.
    """
    if run.cost_limit is not None:
        return (run.cost_limit,)
    limits = tuple(cost_limits) or (() if run.task is None else get_task(run.task).cost_limits)
    if not limits:
        raise ConfigError(f"{run} was trained for no cost limit; pass cost_limits at which to judge it.")
    check_cost_limits(limits)
    return limits
