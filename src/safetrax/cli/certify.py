"""`safetrax certify`: how far policies can be trusted, from the log alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import tyro

from safetrax.cli.console import plain_table, say
from safetrax.cli.open_log import open_log
from safetrax.cli.parsing import Filters, parse, shown
from safetrax.data.segments import check_cost_limits
from safetrax.errors import ConfigError
from safetrax.files import exact

if TYPE_CHECKING:
    from rich.table import Table

    from safetrax.certification import Certificate

_PROG = "safetrax certify"


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Bound the cost of an episode of trained policies, from a log alone: no simulator is asked.

    Where the log does not tell, it says so and gives no number. See docs/trust.md for what a certificate means."""

    policies: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("FOLDER|POLICY ...")]
    """Folders that safetrax train made, or single policy files (*.safetensors)."""
    data: Annotated[str, shown("FILE|demo")]
    """A log of the same task with costs, whole episodes; best one that training has not seen."""
    filters: Filters = ()
    """Applied to the log first."""
    task: Annotated[str | None, shown("NAME", "the log's own")] = None
    """Benchmark task that the log is of."""
    confidence: float = 0.95
    """Of each bound."""
    cost_limits: Annotated[tuple[float, ...], shown("COST [COST ...]", "the task's")] = ()
    """Limits at which to judge algorithms that ignore the limit; others are judged at their own."""
    choose: bool = False
    """Choose, among all of them, the policy of most return whose bound is within the limit: on one half of the log,
    and certify it on the other. Needs one cost limit."""
    discount: float = 1.0
    """Of costs and returns; limits are on plain sums."""
    horizon: Annotated[int | None, shown("INT", "the log's longest episode")] = None
    """Steps of an episode."""
    resamples: int = 30
    """Of the log's episodes, for the spread of an estimate."""
    steps: int = 80_000
    """Of the log, in whole episodes, that are used at most."""
    features: int = 400
    """Random features in which values are linear."""
    model_updates: int = 4000
    """Gradient steps of the world model in which policies are played; 0: none is made."""
    seed: int = 0
    """Of everything that is drawn."""


def run(argv: list[str]) -> int:
    """Certify; the exit code."""
    options = parse(CertifyOptions, argv, prog=_PROG)
    if not options.policies:
        raise ConfigError(f"{_PROG} needs a run folder or policy files, for instance: {_PROG} runs/first --data demo")
    check_cost_limits(options.cost_limits)
    if options.choose and len(options.cost_limits) != 1:
        raise ConfigError("--choose needs the one limit to choose for; pass --cost-limits with one number.")
    from safetrax.certification.certificate import FILE, write_certificates
    from safetrax.certification.certify import certify, choose, limits_of, require_alike
    from safetrax.certification.examiner import Examiner, Options
    from safetrax.cli.policy_sources import open_policies

    names = ("confidence", "discount", "horizon", "resamples", "steps", "features", "model_updates", "seed")
    settings = Options(**{name: getattr(options, name) for name in names})
    sources = open_policies(options.policies)
    data = open_log(options.data, task=options.task, filters=options.filters, cost_limits=options.cost_limits)
    policies = [policy for _, group in sources for policy in group]
    for policy in policies:
        require_alike(policy, data)
        limits_of(policy.id, options.cost_limits)
    examiner = Examiner(data, settings, progress=True)
    if options.choose:
        chosen = choose(policies, examiner, cost_limit=options.cost_limits[0])
        if chosen is None:
            say(f"no policy of {len(policies)} has a bound within {exact(options.cost_limits[0])}; none is chosen.")
            return 0
        say(f"chosen of {len(policies)} on one half of the log; certified on the other:", str(chosen[1]))
        return 0
    found: list[Certificate] = []
    for folder, group in sources:
        rows = certify(group, examiner, cost_limits=options.cost_limits, progress=True)
        if folder is not None:
            write_certificates(folder.path / FILE, rows)
            say(f"certificates  {folder.path / FILE} ({len(rows)})")
        found += rows
    say(_table(found))
    for certificate in found:
        say(str(certificate))
    return 0


def _table(rows: list[Certificate]) -> Table:
    """One line per policy and limit."""
    from rich.table import Column

    right = partial(Column, justify="right")
    names = ("limit", "seed", "cost", "at most", "return", "at least", "support", "within")
    table = plain_table("", "algorithm", *map(right, names))
    for row in rows:
        bounds = (
            ("-", "-", "?") if row.cost_bound is None else (f"{row.cost_bound:.1f}", f"{row.return_bound:.1f}", "")
        )
        table.add_row(
            row.policy.algorithm,
            exact(row.cost_limit),
            str(row.policy.seed),
            f"{row.cost:.1f}",
            bounds[0],
            f"{row.return_:.1f}",
            bounds[1],
            f"{row.supported:.0%}",
            bounds[2] or ("yes" if row.safe else "no"),
        )
    return table
