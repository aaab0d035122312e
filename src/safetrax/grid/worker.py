"""The process of one job: `python -m safetrax.grid.worker FOLDER JOB WORKERS`."""

from __future__ import annotations

import os
import sys
import threading

DONE, FAILED, INTERRUPTED = 0, 3, 130  # exit codes; any other means that the process died


def main(words: list[str]) -> int:
    """Do one job; the exit code."""
    from safetrax.grid.folder import BenchmarkFolder
    from safetrax.grid.job import perform

    threading.Thread(target=_end_with_parent, daemon=True).start()
    path, name, workers = words
    folder = BenchmarkFolder.open(path)
    job = next(job for job in folder.jobs() if job.name == name)
    try:
        return DONE if perform(job, folder, workers=int(workers)) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _end_with_parent() -> None:
    """A job must not go on without its command, which would begin it a second time: its stdin ends with that."""
    while os.read(0, 1):
        pass
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
