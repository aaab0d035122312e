"""What a benchmark costs before it is run: matrix products of every algorithm on every task, over a measured rate.

    python benchmarks/grid_cost.py --suites bullet safety_gymnasium metadrive --rate 100

Counts the useful operations of the published schedules (`benchmarks/operations.py`) on data of each task's sizes; the
rate, in GFLOP/s, is that of a product times the ratio that docs/benchmarks.md gives, for whatever one job has.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from operations import update_operations
from safetrax.algorithms.base import Algorithm
from safetrax.algorithms.registry import ALGORITHMS
from safetrax.catalogue import SUITES, Task, tasks
from safetrax.data.trajectories import Trajectories

RUNS = 9  # three limits, three seeds
DEFAULT = ("trac", "lspc", "fisor", "bars", "cpq", "bcq-lag", "bear-lag", "coptidice", "bc-all", "bc-safe")


def sample(task: Task) -> Trajectories:
    """A few episodes of the task's sizes, of every cost and return."""
    random = np.random.default_rng(0)
    size = task.observation_size

    def episode(number: int) -> dict[str, np.ndarray]:
        steps = task.horizon
        return {
            "observations": random.standard_normal((steps, size)).astype(np.float32),
            "next_observations": random.standard_normal((steps, size)).astype(np.float32),
            "actions": random.uniform(-1, 1, (steps, task.action_size)).astype(np.float32),
            "rewards": random.uniform(0, 0.1 * (number + 1), steps).astype(np.float32),
            "costs": (np.arange(steps) < 15 * number).astype(np.float32),
        }

    data = Trajectories.from_episodes([episode(number) for number in range(12)])
    return replace(data, info={**data.info, "task": task.name})


def cost(word: str, task: Task, data: Trajectories) -> float:
    """Operations of one run's training as published."""
    choice = ALGORITHMS[word]
    algorithm: Algorithm = replace(choice.load().preset(task.suite, task.name), **choice.fixed)
    often = 1 / getattr(algorithm, "policy_every", 1)
    return sum(
        stage.updates * update_operations(algorithm, data, task.cost_limits[1], stage=number, often=often)
        for number, stage in enumerate(algorithm.stages())
        if stage.updates
    )


def runs_of(word: str) -> int:
    """Trainings per task: a method that ignores the limit is trained once per seed."""
    choice = ALGORITHMS[word]
    return RUNS if choice.load()(**choice.fixed).uses_cost_limit else RUNS // 3


def table(words: Sequence[str], suites: Sequence[str], rate: float) -> str:
    """In Markdown: PFLOP, and hours of one job's share of a machine."""
    chosen = [task for suite in suites for task in tasks(suite)]
    shapes: dict[tuple[object, ...], float] = {}
    lines = ["| algorithm | runs | PFLOP of one run | PFLOP of all | hours at the rate |", "|---|---|---|---|---|"]
    total, count = 0.0, 0
    for word in words:
        work, runs = 0.0, 0
        for task in chosen:
            shape = (word, task.suite, task.observation_size, task.action_size, task.horizon)
            if shape not in shapes:
                shapes[shape] = cost(word, task, sample(task))
            work += shapes[shape] * runs_of(word)
            runs += runs_of(word)
        total, count = total + work, count + runs
        hours = work / (rate * 1e9) / 3600
        lines.append(f"| {word} | {runs} | {work / runs / 1e15:.2f} | {work / 1e15:,.0f} | {hours:,.0f} |")
    lines.append(f"| all | {count} | | {total / 1e15:,.0f} | {total / (rate * 1e9) / 3600:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="*", default=list(DEFAULT), choices=list(ALGORITHMS))
    parser.add_argument("--suites", nargs="*", default=list(SUITES), choices=SUITES)
    parser.add_argument("--rate", type=float, default=100.0, help="useful GFLOP/s of one job")
    args = parser.parse_args()
    print(table(args.algorithms, args.suites, args.rate))


if __name__ == "__main__":
    main()
