"""One training on the command line, from the data set to the closing words."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetrax.algorithms.base import Algorithm
from safetrax.catalogue import get_task
from safetrax.charts.drawing import save
from safetrax.cli.console import complain, say
from safetrax.cli.open_log import open_log
from safetrax.cli.results_table import NOTE, results_table
from safetrax.data.loading import absolute_labels, absolute_source
from safetrax.errors import ConfigError, SafeTraXError, SimulatorError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.statistics import require_limits
from safetrax.files import place_of_this_process
from safetrax.run_id import RunId
from safetrax.training.evaluator import require_playable
from safetrax.training.run_folder import JobState, RunFolder
from safetrax.training.train import Run, TrainingInterruptedError, train

if TYPE_CHECKING:
    from safetrax.cli.train import TrainOptions
    from safetrax.data.trajectories import Trajectories

# Flags that are settings of `train`; the run folder keeps them, so that `--resume` needs no other flag.
_LOOP = (
    "start_from",
    "evaluation_episodes",
    "evaluate_every",
    "log_every",
    "checkpoint_seconds",
    "precision",
    "log_to",
)


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
        loop = {name: getattr(options, name) for name in _LOOP}
        kept = {"filters": list(options.filters), **loop, "log_to": list(options.log_to)}
        kept |= {"labels": absolute_labels(options.labels)} if options.labels else {}
        earlier = RunFolder(Path(options.out)).state() if self.resume and options.out else None
        data = open_log(
            options.data,
            task=options.task,
            filters=options.filters,
            cost_limits=options.cost_limits,
            labels=options.labels,
            next_observations="next_observations" in self.algorithm.fields,
        )
        obstacle = self._obstacle(options.task or data.info.get("task"), data)
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
                progress=True,
                record={"data_path": absolute_source(options.data), "options": kept},
                **loop,
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
        try:
            save(run.chart(), run.folder.path / "curves.png")
        except SafeTraXError as error:
            complain(f"the learning curves could not be drawn: {error}", kind="warning: ")
        _say_where(run, run.folder, evaluated)
        return 0

    def _obstacle(self, task: str | None, data: Trajectories) -> str | None:
        """Why the policies cannot be evaluated; None: they can, or nobody wants it."""
        if not (self.options.evaluate or self.options.evaluate_every):
            return None
        if task is None:
            return "the data set names no task; pass --task if it comes from one."
        try:
            if not self.algorithm.needs_cost_limits:
                alone = RunId(self.algorithm.name, task, None, 0)
                require_limits([alone], get_task(task), self.options.cost_limits)
            require_playable(task, data)
        except (ConfigError, SimulatorError) as error:
            return str(error)
        return None

    def _note(self, folder: RunFolder, began: float, training: float, earlier: JobState | None) -> None:
        """How the job ended, as jobs of a grid say it."""
        now, total = time.time(), self.algorithm.total_updates
        spent = time.monotonic() - began
        state = JobState(
            "done",
            started=now - spent,
            beat=now,
            place=place_of_this_process(),
            updates=total,
            total=total,
            attempts=earlier.attempts + 1 if earlier else 1 + self.resume,
            seconds={"training": training, "evaluation": spent - training},
        )
        folder.write_state(state)

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
                cost_limits=self.options.cost_limits,
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


def _say_where(run: Run, folder: RunFolder, evaluated: bool) -> None:
    places = {
        "policies": folder.policies_folder,
        "metrics": folder.metrics_file,
        "episodes": folder.episodes_file,
        "curves": folder.path / "curves.png",
    }
    for name, path in places.items():
        if path.exists():
            say(f"{name:<10}{path}")
    more = f" --episodes 100 --video {shlex.quote(str(folder.path / 'episode.gif'))}" if evaluated else ""
    following = f"safetrax evaluate {shlex.quote(str(folder.path))}{more}"
    if not run.ids[0].task:
        record = folder.config().get("record", {})
        log, filters = record.get("data_path") or "LOG", record.get("options", {}).get("filters")
        verb = "export" if run.ids[0].cost_limit is None or run.policies.actor.chooses else "certify"
        following = f"safetrax {verb} {shlex.quote(str(folder.path))} --data {shlex.quote(log)}"
        following += f" --filters {shlex.join(filters)}" if filters else ""
    say(f"next      {following}")
