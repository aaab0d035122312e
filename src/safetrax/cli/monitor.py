"""`safetrax monitor`: alarms for policies at work, calibrated on a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from safetrax.cli.console import say
from safetrax.cli.open_log import open_log
from safetrax.cli.parsing import Filters, parse, shown
from safetrax.data.segments import check_cost_limits
from safetrax.errors import ConfigError
from safetrax.files import exact

_PROG = "safetrax monitor"
SUFFIX = ".monitor"


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """Make a monitor for each policy, from a log: see docs/monitor.md.

    It raises an alarm where observations, actions or what a step changes are unlike the log, where the episode looks
    less like the policy's than like anybody's, or where the cost runs away. In an episode like the log's that stays
    within the limit, the chance of an alarm is at most --false-alarms; other episodes of the log check that."""

    policies: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("FOLDER|POLICY ...")]
    """Folders that safetrax train made, or single policy files (*.safetensors)."""
    data: Annotated[str, shown("FILE|demo")]
    """A log of the same task, whole episodes; best one that training has not seen."""
    filters: Filters = ()
    """Applied to the log first."""
    task: Annotated[str | None, shown("NAME", "the log's own")] = None
    """Benchmark task that the log is of."""
    cost_limit: Annotated[float | None, shown("COST", "the policy's own")] = None
    """Of an episode. Without one, the budget is not watched."""
    false_alarms: Annotated[float, shown("RATE")] = 0.1
    """Stated rate per episode. A rate of 0.01 takes some 330 episodes within the limit."""
    out: Annotated[str | None, shown("FOLDER", "monitors, in the run folder or beside the policy")] = None
    """Where the files go, each named after its policy."""
    seed: int = 0
    """Of the parts into which the episodes are put."""


def run(argv: list[str]) -> int:
    """Make them; the exit code."""
    options = parse(MonitorOptions, argv, prog=_PROG)
    if not options.policies:
        raise ConfigError(f"{_PROG} needs a run folder or policy files, for instance: {_PROG} runs/first --data demo")
    if options.cost_limit is not None:
        check_cost_limits([options.cost_limit])
    from safetrax.certification.calibration import fit_monitor
    from safetrax.cli.policy_sources import fitting, open_policies

    sources = open_policies(options.policies)  # a fault of theirs is said before a large log is read
    data = open_log(options.data, task=options.task, filters=options.filters)
    for opened in fitting(sources, options.policies, data, options.out, "monitors"):
        for policy in opened.policies:
            limit = policy.id.cost_limit if options.cost_limit is None else options.cost_limit
            monitor = fit_monitor(
                data,
                cost_limit=limit,
                false_alarms=options.false_alarms,
                policy=policy,
                certificate=next(
                    (c for c in opened.certificates if (c.policy, c.cost_limit) == (policy.id, limit)), None
                ),
                seed=options.seed,
            )
            path = monitor.save(opened.place / f"{policy.id}{SUFFIX}")
            facts = monitor.facts
            inside = "" if limit is None else f" within {exact(limit)}"
            to_come = f"; certified cost to come: {exact(facts['cost_to_come'])}" if facts["cost_to_come"] else ""
            say(
                f"{path}: {facts['verified_alarms']} false alarms in {facts['verified']} other episodes{inside} "
                f"(stated: {options.false_alarms:.4g}), calibrated on {facts['calibrated']}{to_come}."
            )
    return 0
