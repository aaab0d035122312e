"""One training on the command line, from the data set to the closing words."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetrax.algorithms.base import Algorithm
from safetrax.cli.console import complain, say
from safetrax.cli.results_table import NOTE, results_table
from safetrax.data import Trajectories, load
from safetrax.data.filters import Filter, filter_steps, parse_filters
from safetrax.data.loading import absolute_source
from safetrax.errors import SafeTraXError, SimulatorError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.files import place_of_this_process
from safetrax.training.run_folder import JobState, RunFolder
from safetrax.training.train import Run, TrainingInterruptedError, train

if TYPE_CHECKING:
    from safetrax.cli.train import TrainOptions


@dataclass(frozen=True)
class Session:
    """What to train and how.

    Attributes:
        algorithm: with its settings.
        options: the shared flags, with `out` set.
        resume: go on in that folder.
    """

    algorithm: Algorithm
    options: TrainOptions
    resume: bool

    def run(self) -> int:
        """Train, evaluate and say where everything is; the exit code."""
        options = self.options
        earlier = RunFolder(Path(options.out)).state() if self.resume and options.out else None
        filters = parse_filters(options.filters, options.cost_limits)
        following = "next_observations" in self.algorithm.fields
        source = load(options.data, task=options.task, next_observations=following, progress=True)
        data = _filtered(source, filters)
        obstacle = _obstacle(options.task or data.info.get("task"))
        if obstacle and options.evaluate_every:
            raise SimulatorError(f"{obstacle} Without evaluate-every, training needs no simulator.")
        if obstacle and options.evaluate:
            complain(f"the trained policies will not be evaluated: {obstacle}", kind="warning: ")
        began = time.monotonic()
        try:
            run = train(
                self.algorithm,
                data,
                cost_limits=options.cost_limits or None,
                seeds=options.seeds,
                task=options.task,
                out=options.out,
                resume=self.resume,
                start_from=options.start_from,
                log_every=options.log_every,
                evaluate_every=options.evaluate_every,
                evaluation_episodes=options.evaluation_episodes,
                checkpoint_seconds=options.checkpoint_seconds,
                log_to=options.log_to,
                precision=options.precision,
                progress=True,
                record=self._record(),
            )
        except TrainingInterruptedError as stop:
            complain(str(stop))
            return 130
        seconds = time.monotonic() - began
        count = len(run.ids)
        say(f"trained {count} {'policy' if count == 1 else 'policies'} of {self.algorithm.name} in {seconds:.0f} s")
        assert run.folder is not None
        evaluated = bool(options.evaluate and not obstacle) and self._evaluate(run, run.folder)
        self._note(run.folder, began, seconds, earlier)
        self._draw_curves(run, run.folder)
        _say_where(run, run.folder, evaluated)
        return 0

    def _note(self, folder: RunFolder, began: float, training: float, earlier: JobState | None) -> None:
        """How the job ended, as jobs of a grid say it."""
        now, total = time.time(), self.algorithm.total_updates
        spent = time.monotonic() - began
        folder.write_state(
            JobState(
                "done",
                started=now - spent,
                beat=now,
                place=place_of_this_process(),
                updates=total,
                total=total,
                attempts=earlier.attempts + 1 if earlier else 1 + self.resume,
                seconds={"training": training, "evaluation": spent - training},
            )
        )

    def _record(self) -> dict[str, object]:
        """For the run folder: what `--resume` needs to need no other flag."""
        options = self.options
        kept = (
            "filters",
            "start_from",
            "evaluation_episodes",
            "evaluate_every",
            "log_every",
            "checkpoint_seconds",
            "precision",
        )
        values = dataclasses.asdict(options)
        return {
            "data_path": absolute_source(options.data),
            "options": {name: list(v) if isinstance(v := values[name], tuple) else v for name in (*kept, "log_to")},
        }

    def _evaluate(self, run: Run, folder: RunFolder) -> bool:
        """Roll out and tabulate the policies; a failure is only a warning, for they are trained and saved."""
        task = run.ids[0].task
        if task is None:
            return False
        from safetrax.evaluation.rollout import evaluate

        rows: list[EpisodeRow] = []
        try:
            result = evaluate(
                run.policies,
                task,
                episodes=self.options.evaluation_episodes,
                step=self.algorithm.total_updates,
                on_episode=rows.append,
            )
            rows = list(result.rows)
            say(results_table(rows, self.options.cost_limits, title=task), NOTE)
        except SafeTraXError as error:
            complain(f"the policies are trained and saved, but their evaluation failed: {error}", kind="warning: ")
            return False
        except KeyboardInterrupt:
            complain("the evaluation was interrupted; the policies are trained and saved.", kind="warning: ")
            return False
        finally:  # whatever ended it: what there is is kept
            folder.add_episodes(rows)
        return True

    def _draw_curves(self, run: Run, folder: RunFolder) -> None:
        from safetrax.charts.drawing import save

        try:
            save(run.chart(), folder.path / "curves.png")
        except SafeTraXError as error:
            complain(f"the learning curves could not be drawn: {error}", kind="warning: ")


def _filtered(data: Trajectories, filters: Sequence[Filter]) -> Trajectories:
    """The data set that is trained on; each filter is said."""
    for entry, after in zip(filters, filter_steps(data, filters), strict=True):
        say(f"filter    {entry}: {data.num_episodes:,} episodes to {after.num_episodes:,}")
        data = after
    return data


def _obstacle(task: str | None) -> str | None:
    """Why policies cannot be evaluated; None: they can."""
    if task is None:
        return "the data set names no task; pass --task if it comes from one."
    from safetrax.envs.make import require_simulator

    try:
        require_simulator(task)
    except SimulatorError as error:
        return str(error)
    return None


def _say_where(run: Run, folder: RunFolder, evaluated: bool) -> None:
    places = [
        ("policies", folder.policies_folder),
        ("metrics", folder.metrics_file),
        ("episodes", folder.episodes_file),
        ("curves", folder.path / "curves.png"),
    ]
    for name, path in places:
        if path.exists():
            say(f"{name:<10}{path}")
    quoted = shlex.quote(str(folder.path))
    if not run.ids[0].task:
        say(
            "next      safetrax tasks lists what the policies can be evaluated in, if the log comes from one of these"
        )
        return
    more = f" --episodes 100 --video {shlex.quote(str(folder.path / 'episode.gif'))}" if evaluated else ""
    say(f"next      safetrax evaluate {quoted}{more}")
