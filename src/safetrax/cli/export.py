"""`safetrax export`: policies as ONNX files, which act as they do on a log, or are not written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from safetrax.cli.console import say
from safetrax.cli.open_log import open_log
from safetrax.cli.parsing import Filters, parse, shown
from safetrax.errors import ConfigError

_PROG = "safetrax export"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write trained policies as ONNX files, which run without JAX: see docs/export.md.

    A file holds everything from the raw observation to the action in its own units, with the policy's id, limit,
    training and certificate. Before it is written, it acts beside the policy on the log; if they differ, it is not.
    """

    policies: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("FOLDER|POLICY ...")]
    """Folders that safetrax train made, or single policy files (*.safetensors)."""
    data: Annotated[str, shown("FILE|demo")]
    """A log with observations such as the policies will see, for the comparison."""
    filters: Filters = ()
    """Applied to the log first."""
    to: Literal["onnx"] = "onnx"
    """The format."""
    out: Annotated[str | None, shown("FOLDER", "exported, in the run folder or beside the policy")] = None
    """Where the files go, each named after its policy."""
    deterministic: bool = False
    """All noise is 0 and no input of the graph; for policies that draw."""
    tolerance: float = 1e-5
    """Largest difference from the policy, in halves of the action range, with which a file is written."""
    task: Annotated[str | None, shown("NAME", "the log's own")] = None
    """Benchmark task that the log is of."""


def run(argv: list[str]) -> int:
    """Export; the exit code."""
    options = parse(ExportOptions, argv, prog=_PROG)
    if not options.policies:
        raise ConfigError(f"{_PROG} needs a run folder or policy files, for instance: {_PROG} runs/first --data demo")
    if not 0 < options.tolerance < 1:
        raise ConfigError(f"--tolerance is {options.tolerance:g}, but must lie between 0 and 1.")
    from safetrax.cli.policy_sources import fitting, open_policies
    from safetrax.exporting.export import export

    sources = open_policies(options.policies)  # a fault of theirs is said before a large log is read
    data = open_log(options.data, task=options.task, filters=options.filters)
    for opened in fitting(sources, options.policies, data, options.out, "exported"):
        for policy in opened.policies:
            own = [found.to_json() for found in opened.certificates if found.policy == policy.id]
            facts: dict[str, Any] = {"certificates": own} if own else {}
            path = opened.place / f"{policy.id}.onnx"
            quiet, tolerance = options.deterministic, options.tolerance
            say(str(export(policy, path, data, deterministic=quiet, tolerance=tolerance, facts=facts)))
    return 0
