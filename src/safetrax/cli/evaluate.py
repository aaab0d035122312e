"""`safetrax evaluate`: trained policies in their simulator."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from safetrax.catalogue import get_task, set_reference_returns
from safetrax.cli.console import say
from safetrax.cli.parsing import parse, shown
from safetrax.data.segments import check_cost_limits
from safetrax.envs.pool import STEP_TIMEOUT
from safetrax.errors import ConfigError
from safetrax.evaluation.episodes import EpisodeRow, read_episodes, write_episodes
from safetrax.files import check_writable
from safetrax.monitoring.interventions import OnAlarm

if TYPE_CHECKING:
    from safetrax.cli.policy_sources import Source
    from safetrax.evaluation.result import Evaluation

_PROG = "safetrax evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Roll trained policies out in their simulator, and tabulate reward and cost."""

    policies: Annotated[tyro.conf.Positional[tuple[str, ...]], shown("FOLDER|POLICY ...")]
    """Folders that safetrax train made, or single policy files (*.safetensors)."""
    task: Annotated[str | None, shown("NAME", "the one they were trained for")] = None
    """Benchmark task to evaluate in, or an environment with a cost in info, such as my_package:MyEnv-v0."""
    episodes: int = 20
    """Episodes per policy."""
    seed: int = 0
    """Seed of the evaluation: of the environments' resets and the policies' random numbers."""
    workers: Annotated[int | None, shown("INT", "one per processor core")] = None
    """Processes that step environments. The results do not depend on it."""
    step_timeout: Annotated[float, shown("SECONDS")] = STEP_TIMEOUT
    """How long an environment may take for a step or a reset. Its process is then ended, and replaced twice."""
    horizon: Annotated[int | None, shown("STEPS", "as registered")] = None
    """Steps of an episode, for an environment of your own."""
    simulator_python: Annotated[str | None, shown("PATH", "this one")] = None
    """Another Python that has the simulator and numpy; it needs nothing of safetrax."""
    reference_returns: Annotated[tuple[float, float] | None, shown("LOW HIGH", "none")] = None
    """Returns that count as 0 and 1, for an environment of your own; without them returns are not normalised."""
    cost_limits: Annotated[tuple[float, ...], shown("COST [COST ...]", "the task's")] = ()
    """Limits at which to score algorithms that ignore the limit; others are scored at their own."""
    adjust: Annotated[tuple[str, ...], shown("NAME=VALUE ...", "as they were saved")] = ()
    """Change what the algorithm lets one change after training, such as restriction=0.1 or cost-limit=30."""
    out: Annotated[str | None, shown("FILE.csv", "the run folder's episodes.csv, added to")] = None
    """Write one row per episode to this file."""
    video: Annotated[str | None, shown("FILE.gif", "none")] = None
    """Record one episode of the first policy."""
    monitor: Annotated[str | None, shown("FOLDER", "none")] = None
    """Evaluate under guard too: folder of the monitors that safetrax monitor made. What they do is tabulated."""
    fallback: Annotated[str | None, shown("POLICY", "none")] = None
    """Who acts from an alarm on until the episode ends, a policy file (*.safetensors)."""
    on_alarm: Annotated[OnAlarm | None, shown("WHAT", "fall-back if there is one, else record")] = None
    """What is done about an alarm: record it, fall back, or stop the episode."""


def run(argv: list[str]) -> int:
    """Evaluate; the exit code."""
    options = parse(EvaluateOptions, argv, prog=_PROG)
    if not options.policies:
        raise ConfigError(f"{_PROG} needs a run folder or policy files, for instance: {_PROG} runs/BallRun-trac")
    if options.video is not None and Path(options.video).suffix.lower() != ".gif":
        raise ConfigError(f"the video {options.video} must be a file that ends in .gif.")
    if options.video is not None and options.simulator_python is not None:
        raise ConfigError("a video needs the simulator in this Python; leave out --video or --simulator-python.")
    check_cost_limits(options.cost_limits)
    if options.monitor is None and (options.fallback is not None or options.on_alarm is not None):
        raise ConfigError("a fallback needs a monitor that raises the alarm; pass --monitor FOLDER.")
    adjustments = parse_adjustments(options.adjust)
    if options.task is not None:
        get_task(options.task)
    for path in (options.out, options.video):
        if path is not None:
            check_writable(Path(path))
    from safetrax.cli.guards import Guards
    from safetrax.cli.policy_sources import adjusted, load_sources

    sources = [adjusted(source, adjustments) for source in load_sources(options.policies, options.task)]
    set_references(options.reference_returns, [source.task for source in sources])
    guards = [None if options.monitor is None else Guards.of(source, options) for source in sources]
    rows: list[EpisodeRow] = []
    try:
        for source, guard in zip(sources, guards, strict=True):
            first = len(rows)
            _evaluate(source, options, rows)
            if guard is not None:
                watched = {"monitor": guard.monitors, "fallback": guard.fallback, "on_alarm": options.on_alarm}
                guard.show(rows[first:], _play(source, options, **watched))
    finally:  # whatever ended it: what there is is kept
        if options.out is not None and rows:
            write_episodes(options.out, rows)
            say(f"episodes  {options.out} ({len(rows)})")
    if options.out is None and any(source.folder is None for source in sources):
        say("The episodes of single policy files are not saved; pass --out FILE.csv to keep them.")
    if options.video is not None:
        from safetrax.evaluation.video import record_gif

        policy = sources[0].policies[0]
        record_gif(policy, sources[0].task, options.video, seed=options.seed, horizon=options.horizon)
        say(f"video     {options.video} ({policy.id})")
    return 0


def set_references(returns: tuple[float, float] | None, tasks: Iterable[str]) -> None:
    """Normalise returns in the one environment among the tasks that is no benchmark's, and say so.

    Raises:
        ConfigError: there is none, there are several, or the two numbers do not rise.
    """
    if returns is None:
        return
    own = [task for task in dict.fromkeys(tasks) if get_task(task).own]
    if len(own) != 1:
        words = f"here are {', '.join(own)}" if own else "here is none"
        raise ConfigError(
            f"--reference-returns are of one environment that is no benchmark's, and {words}; leave it out."
        )
    set_reference_returns(own[0], *returns)
    say(f"reward    of {own[0]}: 0 is the return {returns[0]:g}, 1 is {returns[1]:g}, as --reference-returns says")


def parse_adjustments(words: Iterable[str]) -> dict[str, float]:
    """Numbers by name out of words such as `restriction=0.1`; dashes of a name become underscores.

    Raises:
        ConfigError: a word is not NAME=VALUE, its value is no finite number, or a name comes twice.
    """
    values: dict[str, float] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not (name and equals and text):
            raise ConfigError(f"--adjust cannot take {word!r}; write NAME=VALUE, for instance restriction=0.1.")
        value = math.nan
        with contextlib.suppress(ValueError):
            value = float(text)
        if not math.isfinite(value):
            raise ConfigError(f"--adjust cannot set {name} to {text!r}, which is not a finite number.")
        name = name.replace("-", "_")
        if name in values:
            raise ConfigError(f"--adjust sets {name} twice; give it one value, and the other in another command.")
        values[name] = value
    return values


def _play(source: Source, options: EvaluateOptions, **more: Any) -> Evaluation:
    """All episodes, as asked for."""
    from safetrax.evaluation.rollout import evaluate

    return evaluate(
        source.policies,
        source.task,
        cost_limits=options.cost_limits or source.cost_limits,
        episodes=options.episodes,
        seed=options.seed,
        horizon=options.horizon,
        workers=options.workers,
        step=source.step,
        step_timeout=options.step_timeout,
        simulator_python=options.simulator_python,
        **more,
    )


def _evaluate(source: Source, options: EvaluateOptions, rows: list[EpisodeRow]) -> None:
    """Add the rows to those there are, and to the run folder's if they have no file of their own."""
    from safetrax.cli.results_table import NOTE, results_table

    folder = source.folder if options.out is None else None
    if folder is not None and folder.episodes_file.exists():
        read_episodes(folder.episodes_file)  # a damaged one is said now
    first = len(rows)
    try:
        result = _play(source, options, on_episode=rows.append)
        rows[first:] = result.rows
    finally:
        if folder is not None and rows[first:]:
            folder.add_episodes(rows[first:])
            say(f"episodes  {folder.episodes_file} ({len(rows) - first})")
    limits = options.cost_limits or source.cost_limits
    say(results_table(result.rows, limits, title=f"{source.title}: {source.task}"), NOTE)
    rate = result.environment_steps / max(result.seconds, 1e-9)
    say(f"{len(result.rows)} episodes, {result.environment_steps:,} steps in {result.seconds:.1f} s ({rate:,.0f}/s)")
