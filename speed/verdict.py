"""How soon TraC's verdict is there: updates, operations and seconds until it is safe with the reward of a long run.

    python speed/verdict.py FILE... [--long RUN...] [--seeds 0 10 20] [--every 250] [--set batch_size=24 ...]

For every data set one training with the fast schedule, or with the settings after `--set` in place of its own,
evaluated every so many updates of its second stage. The verdict stands from the first evaluation on after
which every one has a mean cost within each limit and a reward, a mean over limits and seeds, at most 0.02 below the
long run's: of the run folders after `--long`, or, where none is of that data's task and limits, below its own last
one's. One line of a table each, with the operations of a run over those of the published schedule; docs/benchmarks.md
keeps them.
"""

from __future__ import annotations

import argparse
import ast
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import safetrax as st
from operations import update_operations
from safetrax.evaluation.statistics import Summary, summarise
from safetrax.runs import read_sources

NEAR = 0.02  # of the long run's reward


def total_operations(algorithm: st.TraC, data: st.Trajectories, limit: float, updates: int | None = None) -> float:
    """Of the first updates of a run, or of all."""
    left, found = algorithm.total_updates if updates is None else updates, 0.0
    for place, stage in enumerate(algorithm.stages()):
        found += min(stage.updates, left) * update_operations(algorithm, data, limit, stage=place)
        left -= min(stage.updates, left)
    return found


def reward(summaries: list[Summary]) -> float:
    return float(np.mean([summary.normalised_return.mean for summary in summaries]))


def cost(summaries: list[Summary]) -> float:
    """The greatest of all limits."""
    return max(summary.normalised_cost.mean for summary in summaries)


def long_reward(folders: list[str], task: str, limits: tuple[float, ...]) -> float | None:
    """Of the last evaluation of a run on the same task at all of these limits."""
    for training in read_sources(folders).trainings if folders else ():
        rows = [row for row in training.rows if row.run.task == task and row.run.cost_limit in limits]
        if {row.run.cost_limit for row in rows} == set(limits):
            return reward(summarise(rows))
    return None


def measure(name: str, algorithm: st.TraC, data: st.Trajectories, asked: argparse.Namespace) -> str:
    """One line of the table."""
    task = st.get_task(data.info["task"])
    limits = tuple(asked.cost_limits or task.cost_limits)
    began = time.process_time()
    run = st.train(algorithm, data, cost_limits=limits, seeds=asked.seeds, evaluate_every=asked.every)
    seconds = (time.process_time() - began) / len(run.ids)
    by_update = defaultdict(list)
    last = () if algorithm.total_updates % asked.every == 0 else run.evaluate().rows
    for row in (*run.episodes, *last):
        if row.step is not None and row.step >= algorithm.pretrain_updates:
            by_update[row.step].append(replace(row, step=None))
    found = {update: summarise(rows) for update, rows in sorted(by_update.items())}
    wanted = long_reward(asked.long, task.name, limits)
    goal = reward(found[max(found)]) if wanted is None else wanted
    good = [cost(each) <= 1 and reward(each) >= goal - NEAR for each in found.values()]
    stands = next((update for place, update in enumerate(found) if all(good[place:])), None)
    published = st.TraC.preset(task.suite, task.name)
    whole = total_operations(published, data, limits[0])
    fewer = "-" if stands is None else f"{whole / total_operations(algorithm, data, limits[0], stands):.0f}"
    last = found[max(found)]
    cells = (
        *(task.name, name, f"{reward(last):.2f} / {cost(last):.2f}", f"{goal:.2f}" + "*" * (wanted is None)),
        *("-" if stands is None else f"{stands:,}", f"{algorithm.total_updates:,}", fewer, f"{seconds:.0f}"),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--long", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--cost-limits", nargs="*", type=float, default=[])
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--set", nargs="*", default=[])
    asked = parser.parse_args()
    pairs = [word.split("=", 1) for word in asked.set]
    changes: dict[str, Any] = {key: value if value == "whole" else ast.literal_eval(value) for key, value in pairs}
    print(
        "| task | schedule | reward / greatest cost | long run | verdict after | of updates | fewer operations | s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for file in asked.files:
        data = st.load(Path(file))
        task = st.get_task(data.info["task"])
        fast = st.TraC.preset(task.suite, task.name, schedule="fast")
        print(measure(" ".join(asked.set) or "fast", replace(fast, **changes), data, asked), flush=True)


if __name__ == "__main__":
    main()
