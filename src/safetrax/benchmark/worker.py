"""The process of one job: `python -m safetrax.benchmark.worker FOLDER JOB WORKERS`."""

from __future__ import annotations

import sys

DONE, FAILED, INTERRUPTED = 0, 3, 130  # exit codes; any other means that the process died


def main(words: list[str]) -> int:
    """Do one job; the exit code."""
    from safetrax.benchmark.folder import BenchmarkFolder
    from safetrax.benchmark.work import perform

    path, name, workers = words
    folder = BenchmarkFolder.open(path)
    job = next(job for job in folder.jobs() if job.name == name)
    try:
        return DONE if perform(job, folder, workers=int(workers)) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
