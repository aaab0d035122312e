"""One job from its data set to its results, wherever it runs."""

from __future__ import annotations

import time
import traceback
import warnings
from dataclasses import dataclass, replace

from safetrax.data.trajectories import Trajectories
from safetrax.errors import SafeTraXError, SafeTraXWarning
from safetrax.grid.folder import BenchmarkFolder, State
from safetrax.grid.grid import Job, algorithm_of
from safetrax.grid.results import JobResult, labelled, write_result
from safetrax.progress import Reporter

_BEAT_SECONDS = 3.0


def perform(
    job: Job,
    folder: BenchmarkFolder,
    *,
    workers: int = 1,
    data: Trajectories | None = None,
) -> bool:
    """Train, or go on; evaluate; write the results. A failure is recorded, not raised.

    Args:
        job: which.
        folder: where everything is kept.
        workers: processes that step environments.
        data: the job's data set, if it is in memory already.

    Returns:
        Whether it is done.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; progress is saved.
    """
    from safetrax.training.train import TrainingInterruptedError

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SafeTraXWarning)
            result = _result(job, folder, workers, data)
        said = [str(entry.message) for entry in caught if issubclass(entry.category, SafeTraXWarning)]
        write_result(folder.results_file(job.name), replace(result, warnings=tuple(dict.fromkeys(said))))
        folder.state_file(job.name).unlink(missing_ok=True)
    except TrainingInterruptedError:
        raise KeyboardInterrupt from None
    except SafeTraXError as error:
        folder.fail(job, str(error))
        return False
    except Exception as error:  # a fault of the library or of a simulator must not end the grid
        where = traceback.extract_tb(error.__traceback__)[-1]
        folder.fail(job, f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})")
        return False
    return True


def _result(
    job: Job,
    folder: BenchmarkFolder,
    workers: int,
    data: Trajectories | None,
) -> JobResult:
    from safetrax.data import load
    from safetrax.evaluation.rollout import evaluate
    from safetrax.training.folder import RunFolder
    from safetrax.training.train import train

    algorithm = algorithm_of(job)
    beats = _Beats(folder, folder.begin(job, algorithm.total_updates))
    if data is None:
        data = load(job.data, task=job.task, next_observations="next_observations" in algorithm.fields)
    out = folder.run_folder(job.name)
    with RunFolder(out).locked(lambda: None):  # a lost node may still be at it, or its lock not yet have expired
        pass
    began = time.monotonic()
    run = train(
        algorithm,
        data,
        cost_limits=job.cost_limits,
        seeds=job.seeds,
        task=job.task,
        out=out,
        resume=(out / "config.json").exists(),
        evaluate_every=job.evaluate_every,
        evaluation_episodes=job.episodes,
        progress=beats,
        record={"data_path": job.data, "job": job.name},
    )
    trained = time.monotonic()
    last = evaluate(run.policies, job.task, episodes=job.episodes, workers=workers, step=algorithm.total_updates)
    earlier = [row for row in run.episodes if row.step != algorithm.total_updates]
    rows = labelled([*earlier, *last.rows], job.label)
    seconds = {"training": trained - began, "evaluation": time.monotonic() - trained}
    return JobResult(job, rows, run.config, seconds, beats.state.attempts, ())


@dataclass(eq=False)
class _Beats(Reporter):
    """Writes down every few seconds how far the training is."""

    folder: BenchmarkFolder
    state: State
    stage: str = ""
    written: float = 0.0

    def advance(self, stage: str, done: int) -> None:
        """Note it."""
        self.state = replace(self.state, updates=done)
        if stage != self.stage or time.monotonic() - self.written >= _BEAT_SECONDS:
            self.stage = stage
            self.write()

    def evaluated(self, text: str) -> None:
        """Note that it lives."""
        self.write()

    def write(self) -> None:
        """Write it down."""
        self.state = replace(self.state, beat=time.time())
        self.folder.write_state(self.state)
        self.written = time.monotonic()
