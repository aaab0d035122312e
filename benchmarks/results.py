"""The tables of docs/results.md: BC-All, BC-Safe and TraC on data sets of real physics.

    python benchmarks/results.py --data FOLDER --out runs/results --schedule short

FOLDER holds HDF5 files in DSRL's format whose names tell the task. Every run is resumed where it stopped, finished
runs are kept, and the table is printed from the episode rows that lie in the run folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import safetrax as st
from safetrax.data.catalogue import get_task
from safetrax.evaluation.episodes import EpisodeRow, append_episodes, read_episodes
from safetrax.evaluation.statistics import Summary, benchmark_table, summarise
from safetrax.training.folder import RunFolder

SHORT = {"pretrain_updates": 1500, "updates": 2000, "pretrain_learning_rate": 1e-3, "warmup": 0}
SEGMENT_STEPS = 100  # of the short schedule in long episodes


def algorithms(task: str, schedule: str) -> list[st.Algorithm]:
    """What is compared. "paper": everything as published; "short": minutes rather than hours on two cores."""
    suite = get_task(task).suite
    if schedule == "paper":
        return [replace(st.BC.preset(suite), mode=mode) for mode in ("all", "safe")] + [st.TraC.preset(suite)]
    return [st.BC(mode="all", updates=10_000), st.BC(mode="safe", updates=10_000), short_trac(task)]


def short_trac(task: str) -> st.TraC:
    """The suite's published settings, but for the schedule and the length of segments."""
    info = get_task(task)
    preset = replace(st.TraC.preset(info.suite), **SHORT)
    if info.suite != "bullet":
        return replace(preset, segment_ratio=SEGMENT_STEPS / info.horizon, learning_rate=3e-5)
    pretrain_updates = 3000 if task == "BallRun" else 1500
    return replace(preset, segment_ratio=0.5, learning_rate=1e-4, pretrain_updates=pretrain_updates)


def run(algorithm: st.Algorithm, file: Path, folder: Path, limits: Sequence[float], seeds: Sequence[int]) -> None:
    """Train and evaluate once, unless that is done."""
    episodes = folder / "episodes.csv"
    if episodes.exists():
        return
    data = st.load(file)
    trained = st.train(
        algorithm,
        data,
        cost_limits=limits,
        seeds=seeds,
        out=folder,
        resume=(folder / "config.json").exists(),
        log_every=500,
        progress=True,
        record={"data_path": file.name},
    )
    task = trained.ids[0].task or file.stem
    result = st.evaluate(trained.policies, task, episodes=20, step=algorithm.total_updates)
    append_episodes(episodes, result.rows)


def markdown(rows: Sequence[EpisodeRow], limits: Sequence[float]) -> str:
    """One line per (task, algorithm): normalised reward / cost at each limit, and the mean that papers report."""
    per_limit = {(s.task, s.algorithm, s.cost_limits[0]): s for s in summarise(rows, limits)}
    heads = " | ".join(f"limit {limit:g}" for limit in limits)
    lines = [
        f"| task | method | {heads} | mean | safe |",
        "|---" * (len(limits) + 4) + "|",
    ]
    for s in benchmark_table(rows, limits):
        cells = [_cell(per_limit[s.task, s.algorithm, limit]) for limit in limits]
        verdict = "yes" if s.safe else "no"
        lines.append(f"| {s.task} | {s.algorithm} | {' | '.join(cells)} | {_cell(s)} | {verdict} |")
    return "\n".join(lines)


def _cell(s: Summary) -> str:
    text = f"{s.normalised_return.text(2)} / {s.normalised_cost.text(2)}"
    return f"**{text}**" if s.safe else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of HDF5 files")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="where the run folders go")
    parser.add_argument("--schedule", choices=("short", "paper"), default="short")
    parser.add_argument("--tasks", nargs="*", default=["BallRun", "BallCircle", "CarCircle"])
    parser.add_argument("--algorithms", nargs="*", default=["BC-All", "BC-Safe", "TraC"])
    parser.add_argument("--limits", nargs="*", type=float, default=[10.0, 20.0, 40.0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 10, 20])
    args = parser.parse_args()
    rows: list[EpisodeRow] = []
    for task in args.tasks:
        files = sorted(args.data.glob(f"*{task}*.hdf5"))
        if not files:
            parser.error(f"no file of {task} in {args.data}")
        for algorithm in algorithms(task, args.schedule):
            if algorithm.name not in args.algorithms:
                continue
            folder = args.out / args.schedule / f"{task}-{algorithm.name}"
            run(algorithm, files[0], folder, args.limits, args.seeds)
            rows += read_episodes(RunFolder.open(folder).episodes_file)
            print(markdown(rows, args.limits), flush=True)


if __name__ == "__main__":
    main()
