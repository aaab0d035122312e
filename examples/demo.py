"""The main job in a few minutes on two cores: `make demo`.

A log of 300 episodes of real BallRun physics ships with the package. BC-All, BC-Safe and TraC are trained on it for
three cost limits and three seeds each, evaluated for 20 episodes per policy in the simulator, and shown.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import safetrax as st
from safetrax.charts.drawing import Chart, beside, save
from safetrax.charts.panels import segments
from safetrax.data.segment_chart import segment_chart
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.result import format_summaries
from safetrax.evaluation.statistics import benchmark_table, last_steps, summarise
from safetrax.evaluation.video import record_gif
from safetrax.report.page import report_page

LIMITS, SEEDS, TASK = (10, 20, 40), (0, 1, 2), "BallRun"

# A quarter of the fast schedule, and of its batch: a demonstration. docs/results.md has the rest.
TRAC = replace(st.TraC.preset("bullet", schedule="fast"), batch_size=32, pretrain_updates=500, updates=500)
ALGORITHMS = (st.BC(mode="all", updates=1500), st.BC(mode="safe", updates=1500), TRAC)


def overview(data: st.Trajectories, rows: Sequence[EpisodeRow], limit: float = LIMITS[1]) -> Chart:
    """The log as TraC sees it for a limit, beside the episodes of the policies that were trained for it."""
    names = ("TraC", "BC-All", "BC-Safe")
    played = [row for row in rows if row.cost_limit in (None, limit)]
    ends = segments(
        np.array([row.cost for row in played]),
        np.array([row.return_ for row in played]),
        np.array([names.index(row.algorithm) for row in played]),
        limit,
        kinds=dict(enumerate(names)),
        earlier=(data.cost_returns, data.returns),
        behind="log",
        unit="episode",
        title="the trained policies in the simulator",
    )
    return beside([segment_chart(data, [limit]), ends], own_legends=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="folder for the report, the pictures and the policies"
    )
    args = parser.parse_args()
    start = time.perf_counter()

    data = st.load("demo")
    print(data)

    shutil.rmtree(args.out / "runs", ignore_errors=True)  # of an earlier demo
    rows, folders = [], []
    for algorithm in ALGORITHMS:
        folders.append(args.out / "runs" / algorithm.name.lower())
        run = st.train(
            algorithm,
            data,
            cost_limits=LIMITS,
            seeds=SEEDS,
            task=TASK,
            out=folders[-1],
            evaluate_every=algorithm.total_updates // 4,
            progress=True,
            record={"data_path": "demo"},
        )
        rows += run.episodes
        save(run.chart(), folders[-1] / "curves.png")
    record_gif(run.policies[0], TASK, folders[-1] / "episode.gif")

    trained = last_steps(rows)  # the policies at the end, not those on the way
    save(overview(data, trained), args.out / "overview.png")
    print(f"\n{TASK}, 20 episodes of each of {len(SEEDS)} seeds; a normalised cost of at most 1 is safe\n")
    print(format_summaries(summarise(trained, LIMITS)))
    print("\nMeans over the limits, as papers report them\n")
    print(format_summaries(benchmark_table(trained, LIMITS)))
    report_page(folders, args.out / "report.html", title="The demo of SafeTraX", figures=False)
    print(f"\nEverything on one page: {args.out}/report.html; runs and policies: {args.out}/runs/")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
