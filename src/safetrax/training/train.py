"""From a data set and an algorithm to policies: the loop around the compiled program."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from safetrax.algorithms.base import Algorithm, Spec
from safetrax.algorithms.standardisation import Standardiser
from safetrax.data.formats.damage import package
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, RunError, SafeTraXError, SafeTraXWarning, TaskError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.rollout import Evaluation, evaluate
from safetrax.evaluation.statistics import evaluations
from safetrax.policies.policy import Policies, Policy
from safetrax.progress import Reporter, make_reporter
from safetrax.run_id import RunId
from safetrax.training.checkpoint import Position, load_checkpoint, read_position, require_same, save_checkpoint
from safetrax.training.evaluator import Evaluator
from safetrax.training.interrupt import StopRequest, catch_signals
from safetrax.training.logs import CsvSink, MetricRow, MetricSink, Sink, make_sinks, require_sinks
from safetrax.training.plan import Plan, check_counts
from safetrax.training.program import Batching, Precision, Program, stack
from safetrax.training.run_folder import RunFolder, environment_facts, promise
from safetrax.training.warm_start import WarmStart
from safetrax.training.watch import Watch

if TYPE_CHECKING:  # what a notebook shows
    import pandas as pd
    from altair import TopLevelMixin

_LARGE = 1e4  # a value that may overflow somewhere once it is summed over time, squared or exponentiated
_CHUNK_SECONDS = 1.0  # how long the device works between two looks at the clock, the log and Ctrl-C


class TrainingInterruptedError(SafeTraXError):
    """Ctrl-C or a termination signal: what was done is saved, and the message says how to go on."""


class DivergedError(RunError):
    """Parameters of a run are not finite, so that it gives no policy.

    Attributes:
        policies: of the runs beside it that ended well; they are saved if there is a folder.
    """

    def __init__(self, message: str, policies: Sequence[Policy] = ()) -> None:
        super().__init__(message)
        self.policies = tuple(policies)


@dataclass(frozen=True, eq=False)
class Run:
    """What training hands back.

    Attributes:
        policies: one per (cost limit, seed), in the order of `ids`; several where there are several variants.
        config: the resolved configuration.
        metrics: all metric rows.
        episodes: of the evaluations while training, if any.
        folder: where it is saved; None if nowhere.
        losses: the metrics that the algorithm calls its losses.
    """

    policies: Policies
    config: Mapping[str, Any]
    metrics: tuple[MetricRow, ...]
    episodes: tuple[EpisodeRow, ...]
    folder: RunFolder | None
    losses: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[RunId, ...]:
        """Which run each policy is."""
        return self.policies.ids

    def to_pandas(self) -> pd.DataFrame:
        """A data frame with one row per metric, run and interval, and the columns of `metrics.csv`.

        Raises:
            DataError: pandas is not installed.
        """
        frames = package("pandas", extra="pandas", purpose="a data frame")
        return frames.DataFrame(list(self.metrics), columns=list(MetricRow._fields))

    def plot(self) -> TopLevelMixin:
        """Learning curves: the losses of every stage, and reward and cost where they were evaluated on the way.

        Lines are means over seeds, bands reach from the smallest to the largest seed. A notebook shows the chart;
        its own `save` writes PNG, PDF or SVG.

        Raises:
            ConfigError: nothing has two points, for instance since `log_every` is larger than the training.
        """
        from safetrax.charts.drawing import altair_chart

        return altair_chart(self.chart())

    def chart(self) -> dict[str, Any]:
        """What `plot` shows, as a Vega-Lite specification; `safetrax.charts.drawing.save` writes it as a file."""
        from safetrax.training.curves import evaluation_panels, metric_panels, training_chart

        task, limits = self.ids[0].task, self.config["cost_limits"]
        evaluated = [] if task is None else evaluation_panels(task, evaluations(self.episodes), limits)
        losses = dict.fromkeys({row.algorithm for row in self.metrics}, self.losses)
        return training_chart([*evaluated, *metric_panels(self.metrics, losses)])

    def evaluate(self, episodes: int = 20, *, workers: int | None = None) -> Evaluation:
        """Play the trained policies in the simulator of their task; the run's folder keeps the episodes.

        Args:
            episodes: per policy.
            workers: see `safetrax.evaluate`.

        Raises:
            TaskError: the run is of no known task.
            RunError, SimulatorError: see `safetrax.evaluate`; the episodes until then are kept.
        """
        task, rows = self.ids[0].task, list[EpisodeRow]()
        if task is None:
            raise TaskError("the run is of no known task; use safetrax.evaluate, which takes one.")
        try:
            result = evaluate(
                self.policies,
                task,
                cost_limits=self.config["cost_limits"],
                episodes=episodes,
                workers=workers,
                step=self.config["updates"],
                on_episode=rows.append,
            )
            rows = list(result.rows)
        finally:
            if self.folder is not None:
                self.folder.add_episodes(rows)
        return result


def train(
    algorithm: Algorithm,
    data: Trajectories,
    *,
    cost_limits: Sequence[float] | None = None,
    seeds: Sequence[int] = (0,),
    task: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    start_from: str | Path | None = None,
    log_every: int = 100,
    evaluate_every: int = 0,
    evaluation_episodes: int = 20,
    checkpoint_seconds: float = 60.0,
    log_to: Sequence[Sink] = (),
    progress: bool | Reporter = False,
    batching: Batching = "auto",
    precision: Precision = "float32",
    record: Mapping[str, Any] | None = None,
) -> Run:
    """Train one policy per (cost limit, seed), all in one compiled program.

    Everything that can be wrong with the input is found before any compute is spent.

    Args:
        algorithm: settings of the algorithm, for instance `TraC()`.
        data: the log.
        cost_limits: limits on the cost of an episode, each at least 0. None: the task's limits in the benchmark.
            An algorithm that ignores the limit is trained once per seed.
        seeds: one run each.
        task: a benchmark task, to check the data against and to evaluate on. None: what the data's file name says, if
            anything.
        out: run folder for checkpoints, metrics and policies. None: nothing is written.
        resume: go on from the checkpoint in `out`; the result is bitwise what an uninterrupted run gives.
        start_from: folder of a finished run of the same algorithm, network sizes, limits and seeds: this one begins
            with its networks, which go on to see observations standardised as there, and with fresh optimisers and
            schedules.
        log_every: updates between metric rows, which are means over the updates between.
        evaluate_every: updates between evaluations in the simulator; 0: none. Never used to choose a checkpoint.
        evaluation_episodes: per policy and evaluation.
        checkpoint_seconds: time between checkpoints; one is also written at the end of each stage.
        log_to: further places for metrics: "tensorboard", "wandb" (see `safetrax.training.logs.WandbSink`).
        progress: show progress on standard error, or tell it, metrics included, to this `safetrax.Reporter`.
        batching: how runs share the device, see `safetrax.training.program.over_runs`.
        precision: of matrix products. "tensorfloat32" is faster and coarser on a GPU, "bfloat16" also on a CPU that
            has such products (AVX512-BF16, AMX): linear layers round their operands to it; sums, parameters and
            policies stay float32.
        record: further facts to save with the configuration, for instance where the data file lies.

    Raises:
        DataError: the data are malformed, do not fit the task, or no episode or segment meets a limit.
        ConfigError: a setting is out of range.
        RunError: the folder exists, cannot be written, is in use, or holds a checkpoint of another configuration;
            or `start_from` does not fit.
        DivergedError: a run ended with parameters that are not finite. Runs beside it train to their end; their
            policies are saved and are part of the error. Where all diverge, training stops at once and the last
            checkpoint before stays.
        TrainingInterruptedError: Ctrl-C or SIGTERM; progress is saved.
    """
    check_counts(log_every=log_every, evaluate_every=evaluate_every, evaluation_episodes=evaluation_episodes)
    algorithm = algorithm.resolved(data)
    plan = Plan.make(algorithm, data, cost_limits, seeds, task, precision)
    warm = None if start_from is None else WarmStart.of(start_from, plan.signature, data)
    if warm is not None:
        plan = replace(plan, signature={**plan.signature, "start_from": warm.digest})
    way = algorithm.added_std(plan.in_catalogue) if warm is None else warm.standardiser
    algorithm = replace(algorithm, standardise=way is not None)  # from here on it is decided
    indices = plan.indices(algorithm, data)
    usage = plan.usage(algorithm, data)
    for sentence in dict.fromkeys(sentence for entry in usage for sentence in entry.warnings):
        warnings.warn(sentence, SafeTraXWarning, stacklevel=2)
    config = {
        "algorithm": plan.signature["algorithm"],
        "task": plan.task,
        "cost_limits": list(plan.cost_limits),
        "seeds": [int(seed) for seed in seeds],
        "updates": algorithm.total_updates,
        "policies": promise(plan.policy_ids(algorithm)),
        "data": dict(data.info),
        "usage": [{**asdict(entry), "text": str(entry)} for entry in usage],
        "made_with": environment_facts(),
        "record": dict(record or {}),
        "signature": plan.signature,
    }
    if resume and out is None:
        raise ConfigError("resume needs the run's folder; pass it as out.")
    require_sinks(log_to, has_folder=out is not None)
    episodes_file = None if out is None else RunFolder(out).episodes_file
    evaluator = Evaluator(
        plan.task,
        evaluate_every,
        evaluation_episodes,
        episodes_file,
        plan.policy_ids(algorithm),
        plan.cost_limits,
        data,
    )
    store = Store.make(data, algorithm.fields)
    standardiser = plan.standardiser(algorithm, store) if warm is None else warm.standardiser
    if standardiser is not None:
        store = standardiser.store(store)
    folder = None if out is None else RunFolder.open(out) if resume else RunFolder(out)
    with contextlib.nullcontext() if folder is None else folder.locked():
        if folder is not None and not resume:
            RunFolder.create(folder.path, config)
        start = None
        if resume and folder is not None:
            require_same(folder.config_file, folder.config().get("signature"), plan.signature)
            if folder.checkpoint_file.exists():
                start = read_position(folder.checkpoint_file, plan.signature)
        reporter = make_reporter(algorithm.name, progress)
        for entry in usage:
            reporter.note(str(entry))
        loop = _Loop(
            program=Program(algorithm, Spec.of(data), batching, precision),
            store=store,
            standardiser=standardiser,
            indices=stack(indices),
            keys=jax.vmap(jax.random.key)(np.asarray([run.seed for run in plan.ids], np.uint32)),
            plan=plan,
            folder=folder,
            sinks=make_sinks(log_to, folder, config),
            evaluator=evaluator,
            reporter=reporter,
            log_every=log_every,
            checkpoint_seconds=checkpoint_seconds,
            warm=warm,
            watch=Watch(algorithm, plan, _remedy(algorithm, data, standardised=standardiser is not None)),
        )
        if resume:
            loop.rewind(start)
        states = loop.run(start)
        metadata = {key: config[key] for key in ("algorithm", "task", "updates", "data", "made_with")}
        policies = loop.policies(states, metadata)
        usable = _usable(policies)
        if folder is not None and usable:
            folder.save_policies(Policies.stack(usable))
        if len(usable) < len(policies):
            raise DivergedError(loop.watch.divergence(policies, folder), usable)
        return Run(policies, config, tuple(loop.rows), tuple(evaluator.rows), folder, algorithm.losses)


def _usable(policies: Policies) -> list[Policy]:
    """Those that did not diverge."""
    return [policy for policy, finite in zip(policies, policies.finite, strict=True) if finite]


def _remedy(algorithm: Algorithm, data: Trajectories, *, standardised: bool) -> str:
    """What to do if a run diverges: numbers as large as these overflow at any learning rate."""
    read: list[str] = [name for name in ("rewards", "costs") if name in algorithm.fields]
    read += [] if standardised else ["observations"]
    arrays = {name: array for name in read if (array := getattr(data, name)) is not None}
    size, name = max(((float(np.abs(array).max()), name) for name, array in arrays.items()), default=(0.0, ""))
    return f"{name} reaches {size:.3g}, so give it in a larger unit" if size > _LARGE else "lower the learning rate"


@dataclass(eq=False)
class _Loop:
    """The host's part: chunks of updates, and what happens between them."""

    program: Program
    store: Store
    standardiser: Standardiser | None
    indices: Any
    keys: jax.Array
    plan: Plan
    folder: RunFolder | None
    sinks: list[MetricSink]
    evaluator: Evaluator
    reporter: Reporter
    log_every: int
    checkpoint_seconds: float
    warm: WarmStart | None
    watch: Watch
    rows: list[MetricRow] = field(default_factory=list)
    _logged: int = 0  # updates of the stage whose metrics are written
    _saved_at: float = field(default_factory=time.monotonic)
    _stop: StopRequest = field(default_factory=StopRequest)

    @cached_property
    def _before(self) -> list[int]:
        """Updates of all stages before each, and of all."""
        return [0, *itertools.accumulate(stage.updates for stage in self.program.stages)]

    def run(self, start: Position | None) -> Any:
        """Train from `start`, or from the beginning, and return the final states."""
        stages = self.program.stages
        self.watch.see(self.rows, warn=False)
        self.reporter.start(self._before[-1], len(self.plan.ids))
        try:
            with catch_signals() as self._stop:
                states = self.program.init(self.keys) if start is None else None
                if start is None and self.warm is not None:
                    states = self.warm.apply(states)
                for stage in range(0 if start is None else start.stage, len(stages)):
                    resumed = start if start is not None and start.stage == stage else None
                    states = self._run_stage(stage, states, resumed)
        finally:
            self.reporter.stop()
            for sink in self.sinks:
                sink.close()
            self.evaluator.close()
        return states

    def _run_stage(self, stage: int, states: Any, start: Position | None) -> Any:
        length = self.program.stages[stage].updates
        if start is None:
            states = self.program.begin(stage, states, self.store, self.indices, self.keys)
            update = self._logged = 0
            carry: Any = (states, self.program.zero_metrics(stage, states, self.store, self.indices))
        else:
            update, self._logged = start.update, start.logged
            carry = self._restore(stage, update)
        speed: float | None = None
        while update < length:
            updates = self._chunk(stage, update, speed)
            began = time.monotonic()
            carry = self.program.advance(stage, carry, self.store, self.indices, self.keys, update, updates)
            jax.tree.leaves(carry)[0].block_until_ready()
            # the first call of a stage compiles, so it does not tell the speed
            speed = 0.0 if speed is None else updates / max(time.monotonic() - began, 1e-6)
            update += updates
            carry = self._after_chunk(stage, update, carry)
        return carry[0]

    def _chunk(self, stage: int, update: int, speed: float | None) -> int:
        """Updates until the next event, at most about a second's worth."""
        total = self._before[stage] + update
        ends = [self.program.stages[stage].updates - update, self.log_every - update % self.log_every]
        if self.evaluator.every:
            ends.append(self.evaluator.every - total % self.evaluator.every)
        ends.append(max(1, int((speed or 0.0) * _CHUNK_SECONDS)))
        return min(ends)

    def _after_chunk(self, stage: int, update: int, carry: Any) -> Any:
        length = self.program.stages[stage].updates
        total = self._before[stage] + update
        self.reporter.advance(self._words(stage, update, carry[1]), total)
        if update % self.log_every == 0 or update == length:
            carry = self._log(stage, update, carry)
        if self.evaluator.every and total % self.evaluator.every == 0:
            policies = self.policies(carry[0])
            if policies.finite.any():
                usable = Policies.stack(_usable(policies))
                self.reporter.evaluated(self.evaluator.evaluate(usable, total))
        if self._stop.requested:
            self._interrupt(stage, update, carry)
        if update == length or time.monotonic() - self._saved_at > self.checkpoint_seconds:
            self._save(stage, update, carry)
        return carry

    def _words(self, stage: int, update: int, sums: Mapping[str, jax.Array]) -> str:
        """The stage, and the mean over runs of its first loss since the last row of metrics."""
        name, updates = self.program.stages[stage].name, max(1, update - self._logged)
        losses = [loss for loss in self.program.algorithm.losses if loss in sums]
        return f"{name}, {losses[0]} {float(sums[losses[0]].mean()) / updates:.3g}" if losses else name

    def _log(self, stage: int, update: int, carry: Any) -> Any:
        states, sums = carry
        count, self._logged = update - self._logged, update
        present, total = self.program.stages[stage], self._before[stage] + update
        rows = [
            MetricRow(present.name, total, run.algorithm, run.cost_limit, run.seed, metric, float(value) / count)
            for metric, values in sums.items()
            for run, value in zip(self.plan.ids, np.asarray(values), strict=True)
        ]
        self.rows += rows
        for sink in self.sinks:
            sink.write(rows)
        self.reporter.logged(rows)
        self.watch.see(rows)
        if self.watch.all_diverged:
            policies = self.policies(states)
            if not policies.finite.any():
                raise DivergedError(self.watch.divergence(policies, self.folder))
        if update >= min(present.settles, present.updates):
            self.watch.diagnose(present.name)
        return states, jax.tree.map(jnp.zeros_like, sums)

    def policies(self, states: Any, metadata: Mapping[str, Any] | None = None) -> Policies:
        """What would be deployed now."""
        return self.plan.policies(self.program.algorithm, self.program.actors(states, self.standardiser), metadata)

    def _save(self, stage: int, update: int, carry: Any) -> None:
        if self.folder is not None and self.policies(carry[0]).finite.any():  # else the last good one stays
            position = Position(stage, update, self._logged)
            save_checkpoint(self.folder.checkpoint_file, position, carry, self.plan.signature)
            self._saved_at = time.monotonic()

    def rewind(self, start: Position | None) -> None:
        """Drop what was logged after the checkpoint: the resumed run logs it again."""
        total = 0 if start is None else self._before[start.stage] + start.update
        for sink in self.sinks:
            if isinstance(sink, CsvSink):
                self.rows = sink.truncate(total)
        self.evaluator.forget_after(total)

    def _restore(self, stage: int, update: int) -> Any:
        assert self.folder is not None
        states = self.program.state_structure(stage, self.store, self.indices, len(self.plan.ids))
        sums = jax.eval_shape(lambda: self.program.zero_metrics(stage, states, self.store, self.indices))
        carry = load_checkpoint(self.folder.checkpoint_file, (states, sums))
        self.reporter.advance(self.program.stages[stage].name, self._before[stage] + update)
        return carry

    def _interrupt(self, stage: int, update: int, carry: Any) -> None:
        done, total = self._before[stage] + update, self._before[-1]
        if self.folder is None:
            raise TrainingInterruptedError(
                f"stopped at update {done} of {total}; nothing is saved without a run folder."
            )
        self._save(stage, update, carry)
        raise TrainingInterruptedError(
            f"stopped at update {done} of {total} and saved; go on with: safetrax train --resume {self.folder.path}"
        )
