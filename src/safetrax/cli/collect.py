"""`safetrax collect`: a data set out of a simulator."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from safetrax.catalogue import get_task
from safetrax.cli.collection_suite import ENDING, collect_all, flags_of, require_alone
from safetrax.cli.console import complain, say
from safetrax.cli.parsing import parse, shown
from safetrax.envs.pool import STEP_TIMEOUT
from safetrax.errors import ConfigError, SafeTraXError
from safetrax.files import file_name
from safetrax.progress import Display

if TYPE_CHECKING:
    from safetrax.collection.collecting import Collection, CollectionProgress

_PROG = "safetrax collect"


@dataclass(frozen=True, kw_only=True)
class CollectOptions:
    """Make a data set in DSRL's format: run episodes, keep whole ones, write HDF5.

    Who acts: agents that learn by PPO-Lagrangian while their cost limits sweep (everywhere but in MetaDrive),
    MetaDrive's rule-based driver, or trained policies (--policy).
    """

    environment: Annotated[tyro.conf.Positional[str], shown("TASK|ENVIRONMENT|FILE.toml")]
    """A benchmark task such as BallCircle, or a Gymnasium environment with a cost in info: its id, or module:id.
    Or a file that names several with their flags: all are collected, resumably, with a page each."""
    out: Annotated[str | None, shown("FILE.hdf5|FOLDER", "./<task>-collected, or ./<name of FILE.toml>")] = None
    """The data set to write; it must not exist. Of several, the folder."""
    method: Annotated[
        Literal["agents", "driver", "policies"] | None, tyro.conf.arg(help_behavior_hint="(default: as above)")
    ] = None
    """Who acts."""
    policy: Annotated[tuple[str, ...], shown("FOLDER|POLICY ...", "none")] = ()
    """Run folders or policy files of trained policies; each runs its share of the episodes."""
    episodes: int = 1000
    """Episodes to keep of those that agents make, spread evenly over cost and return; others make just so many."""
    steps: int = 2_000_000
    """Environment steps of all agents together, in whole episodes."""
    agents: int = 2
    """Agents that learn side by side; the limit of every other one falls, that of those between rises."""
    cost_limits: Annotated[tuple[float, float] | None, shown("LOW HIGH", "5 and the largest in DSRL's file")] = None
    """Limits on the cost of an episode between which the agents' limit moves."""
    max_cost: Annotated[float | None, shown("COST", "the largest in DSRL's file")] = None
    """Agents' episodes of a higher cost are not kept."""
    min_return: Annotated[float | None, shown("RETURN", "none")] = None
    """Agents' episodes of a lower return are not kept."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on policies' actions, which lie in [-1, 1]."""
    seed: int = 0
    """Of everything; 0 to 199."""
    horizon: Annotated[int | None, shown("STEPS", "as registered")] = None
    """Steps of an episode, for an environment that is registered without."""
    next_observations: bool = True
    """Write them: within an episode they are the next row's observations, so that they double the file."""
    workers: Annotated[int | None, shown("INT", "one per processor core")] = None
    """Processes that step environments. The data do not depend on it."""
    step_timeout: Annotated[float, shown("SECONDS")] = STEP_TIMEOUT
    """How long an environment may take for a step or a reset. Its process is then ended, and replaced twice."""
    resume: bool = False
    """Go on with the collection into the same file that was stopped; all other flags as they were."""


def run(argv: list[str]) -> int:
    """Collect; the exit code."""
    options = parse(CollectOptions, argv, prog=_PROG)
    from safetrax.collection.collecting import CollectionInterruptedError

    try:
        if options.environment.endswith(ENDING):
            return _run_suite(options, argv)
        _collect(_checked(options))
    except CollectionInterruptedError as stop:
        complain(str(stop))
        return 130
    return 0


def _checked(options: CollectOptions) -> CollectOptions:
    """With the file to write."""
    if options.noise and not options.policy:
        raise ConfigError("--noise is for trained policies; pass them with --policy.")
    return replace(options, out=_default_out(options.environment) if options.out is None else options.out)


def _run_suite(options: CollectOptions, argv: list[str]) -> int:
    """Everything that a file names."""
    file = Path(options.environment)
    require_alone(argv)
    folder = Path(options.out or file.stem)
    sets: dict[str, CollectOptions] = {}
    for environment, words in flags_of(file).items():
        try:
            own = _checked(parse(CollectOptions, [environment, *words], prog=_PROG))
            name = get_task(environment).name
        except SafeTraXError as error:
            raise ConfigError(f"{file}, [{environment}]: {error}") from error
        if name in sets:
            raise ConfigError(f"{file} names {name} twice; keep one of its tables.")
        out = str(folder / _default_out(environment))
        sets[name] = replace(own, out=out, workers=options.workers, step_timeout=options.step_timeout)
    return collect_all(sets, folder, _collect)


def _collect(options: CollectOptions) -> Collection:
    """One data set, with its progress and what came of it."""
    from safetrax.cli.policy_sources import load_policies
    from safetrax.collection.collecting import collect

    assert options.out is not None
    display = Display(options.environment, "iterations", seconds=10.0)
    display.start(None)
    try:
        made = collect(
            options.environment,
            options.out,
            policies=load_policies(options.policy) if options.policy else None,
            report=lambda progress: display.advance(_words(progress), progress.iteration, progress.iterations),
            **{name: value for name, value in vars(options).items() if name not in ("environment", "out", "policy")},
        )
    finally:
        display.stop()
    _sum_up(made)
    return made


def _default_out(environment: str) -> str:
    """In the working directory, and named so that the file tells its task."""
    task = get_task(environment)
    return f"{file_name(task.name) if task.own else task.dataset_prefix}-collected.hdf5"


def _sum_up(made: Collection) -> None:
    data = made.trajectories
    rate = made.steps_made / max(made.seconds, 1e-9)
    say(
        f"{made.episodes_made:,} episodes, {made.steps_made:,} steps in {made.seconds:.0f} s ({rate:,.0f}/s); "
        f"kept {data.num_episodes:,}"
    )
    for name, values in (("return", data.returns), ("cost", data.cost_returns)):
        low, middle, high = np.quantile(values, (0.0, 0.5, 1.0))
        say(f"{name:<9} {low:.6g} to {high:.6g}, median {middle:.6g}")
    say(f"data      {made.path}")
    say(f"next      safetrax inspect {shlex.quote(str(made.path))} --figure {shlex.quote(str(made.path.stem))}.png")


def _words(progress: CollectionProgress) -> str:
    kept = f"{len(progress.buffer.episodes):,} of {progress.buffer.offered:,} episodes"
    return "; ".join([kept, *map(str, progress.tallies)])
