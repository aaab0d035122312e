"""One job from its data set to a whole run folder, wherever it runs."""

from __future__ import annotations

import time
import traceback
import warnings
from dataclasses import dataclass, replace

from safetrax.data.filters import apply_filters, parse_filters
from safetrax.data.trajectories import Trajectories
from safetrax.errors import SafeTraXError, SafeTraXWarning
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Job, algorithm_of
from safetrax.progress import Reporter
from safetrax.training.run_folder import JobState, RunFolder

_BEAT_SECONDS = 3.0


def perform(
    job: Job,
    folder: BenchmarkFolder,
    *,
    workers: int = 1,
    data: Trajectories | None = None,
) -> bool:
    """Train, or go on; evaluate; say in `result.json` how it ended. A failure is recorded, not raised.

    Args:
        job: which.
        folder: where everything is kept.
        workers: processes that step environments.
        data: the job's data set, if it is in memory already; its filters are still to be applied.

    Returns:
        Whether it is done.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; progress is saved.
    """
    from safetrax.training.train import TrainingInterruptedError

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SafeTraXWarning)
            details = _perform(job, folder, workers, data)
        said = [str(entry.message) for entry in caught if issubclass(entry.category, SafeTraXWarning)]
        folder.run_folder(job).write_state(replace(details, warnings=tuple(dict.fromkeys(said))))
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


def _perform(job: Job, folder: BenchmarkFolder, workers: int, data: Trajectories | None) -> JobState:
    """What is to be said of it in the end."""
    from safetrax.data import load
    from safetrax.training.evaluator import require_playable
    from safetrax.training.train import train

    algorithm, out = algorithm_of(job), folder.run_folder(job)
    with out.locked(lambda: None):  # a lost node may still be at it, or its lock not yet have expired
        beats = _Beats(out, folder.begin(job, algorithm.total_updates))
    if data is None:
        data = load(job.data, task=job.task, next_observations="next_observations" in algorithm.fields)
    data = apply_filters(data, parse_filters(job.filters, job.cost_limits)) if job.filters else data
    require_playable(job.task, data)
    began = time.monotonic()
    run = train(
        algorithm,
        data,
        cost_limits=job.cost_limits,
        seeds=job.seeds,
        task=job.task,
        out=out.path,
        resume=out.config_file.exists(),
        evaluate_every=job.evaluate_every,
        evaluation_episodes=job.episodes,
        progress=beats,
        record={"data_path": job.data, "job": job.to_json()},
    )
    trained = time.monotonic()
    run.evaluate(job.episodes, workers=workers)
    seconds = {"training": trained - began, "evaluation": time.monotonic() - trained}
    return replace(beats.details, name="done", updates=algorithm.total_updates, beat=time.time(), seconds=seconds)


@dataclass(eq=False)
class _Beats(Reporter):
    """Writes down every few seconds how far the training is."""

    folder: RunFolder
    details: JobState
    written: float = 0.0

    def advance(self, stage: str, done: int) -> None:
        self.details = replace(self.details, updates=done)
        if time.monotonic() - self.written >= _BEAT_SECONDS:
            self.write()

    def evaluated(self, text: str) -> None:
        self.write()

    def write(self) -> None:
        self.details = replace(self.details, beat=time.time())
        self.folder.write_state(self.details)
        self.written = time.monotonic()
