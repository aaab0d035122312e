"""What a job costs beyond its own work: processes of this computer and Ray, on trainings of a second.

    python benchmarks/executors.py

Runs a grid of two jobs and one of six, two side by side, with either executor, and prints what every further job adds
and what there is once. The seconds that a job reports, its training and its evaluation, are not counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetrax.runs import read_place

WORDS = ("bc-all", "bc-safe", "bc-risky", "bc-boundary", "bc-frontier", "bc-conditioned")
SIDE_BY_SIDE = 2


def measure(executor: str, words: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Wall-clock seconds of the command, and the mean of those that a job reports."""
    command = [sys.executable, "-m", "safetrax", "benchmark", "--tasks", "BallRun", "--data", "demo"]
    command += ["--algorithms", *words, "--set", *(f"{word}.updates=200" for word in words)]
    command += ["--cost-limits", "20", "--seeds", "0", "--episodes", "2", "--executor", executor]
    command += ["--workers", str(SIDE_BY_SIDE)] if executor == "local" else []
    began = time.perf_counter()
    subprocess.run([*command, "--out", str(folder)], check=True, capture_output=True)
    wall = time.perf_counter() - began
    trainings, _ = read_place(folder)
    return wall, sum(sum(training.seconds.values()) for training in trainings) / len(trainings)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| executor | seconds of a job's own | added per job | once |")
    print("|---|---|---|---|")
    for executor in ("local", "ray"):
        with tempfile.TemporaryDirectory() as place:
            few, own_few = measure(executor, WORDS[:2], Path(place) / "few")
            many, own = measure(executor, WORDS, Path(place) / "many")
        rounds = len(WORDS) / SIDE_BY_SIDE
        added = (many - few) / (rounds - 1) - own
        once = few - own_few - added
        print(f"| {executor} | {own:.1f} | {added:.1f} | {once:.1f} |", flush=True)


if __name__ == "__main__":
    main()
