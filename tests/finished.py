"""Run folders of jobs as a grid leaves them, without a training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from safetrax.evaluation.episodes import EpisodeRow, write_episodes
from safetrax.files import write_json
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Job
from safetrax.run_id import RunId
from safetrax.training.run_folder import JobState, promised


def finish(
    folder: BenchmarkFolder,
    job: Job,
    rows: Iterable[EpisodeRow],
    config: Mapping[str, Any] | None = None,
    **progress: Any,
) -> None:
    """What is left of a job that is done."""
    place = folder.run_folder(job)
    record = {"record": {"data_path": job.data, "job": json.loads(json.dumps(job.to_json()))}}
    write_json(place.config_file, {**record, **(config or {})})
    write_episodes(place.episodes_file, rows)
    place.policies_folder.mkdir(exist_ok=True)
    for name, limit, seed in promised(config or {}) or [("of an older version", None, 0)]:
        (place.policies_folder / f"{RunId(name, None, limit, seed)}.safetensors").touch()
    facts = {"attempts": 1, "seconds": {"training": 10.0, "evaluation": 2.0}, **progress}
    place.write_state(JobState("done", **facts))
