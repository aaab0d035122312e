"""The tables of docs/results.md: every algorithm on data sets of real physics.

    python benchmarks/results.py --data FOLDER --out runs/results --schedule short

FOLDER holds HDF5 files in DSRL's format whose names tell the task. Every run is resumed where it stopped, finished
runs are kept, and the table is printed from the episode rows that lie in the run folders. Two such commands with
different --algorithms or --tasks may run side by side.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetrax as st
from safetrax.algorithms import Algorithm
from safetrax.algorithms.registry import classes
from safetrax.catalogue import get_task
from safetrax.evaluation.episodes import append_episodes, read_episodes
from safetrax.evaluation.statistics import Summary, benchmark_table, summarise
from safetrax.files import write_json
from safetrax.training.folder import RunFolder

SEGMENT_STEPS = 100  # of TraC's short schedule in long episodes
TIMES = "seconds.json"

# What is compared: a class and the settings that distinguish it from the suite's preset.
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{
        f"BC-{mode.capitalize()}": ("BC", {"mode": mode}) for mode in ("all", "safe", "risky", "boundary", "frontier")
    },
    "BC-Conditioned": ("BC", {"mode": "conditioned"}),
    "TraC": ("TraC", {}),
    "LSPC": ("LSPC", {}),
    "FISOR": ("FISOR", {}),
    "FISOR-Cost": ("FISOR", {"constraint": "cost"}),
    "BARS": ("BARS", {}),
    "BARS-Raw": ("BARS", {"raw_limit": True}),
    "CPQ": ("CPQ", {}),
    "CPQ-OSRL": ("CPQ", {"osrl_compat": True}),
    "BCQ-Lag": ("BCQLag", {}),
    "BEAR-Lag": ("BEARLag", {}),
    "COptiDICE": ("COptiDICE", {}),
    "COptiDICE-OSRL": ("COptiDICE", {"osrl_compat": True}),
    "IQL": ("IQL", {}),
    "TD3+BC": ("TD3BC", {}),
    "CQL": ("CQL", {}),
}

# Values spread over 1 / (target_rate (1 - discount)) updates: 20,000 as published, more than there are here.
FAST_TARGETS = {"target_rate": 0.05}

# A fifteenth of the published denoiser's parameters; what is deployed follows within the schedule.
DIFFUSION = {
    "width": 64,
    "hidden": (128, 128),
    "policy_batch_size": 128,
    "critic_batch_size": 128,
    "ema_rate": 0.005,
    "learning_rate": 1e-3,
    "policy_learning_rate": 1e-3,
}

# Minutes rather than hours on two cores: fewer updates, smaller batches where an update is dear, higher rates where
# the published ones are made for many more updates.
SHORT: Mapping[str, Mapping[str, Any]] = {
    "BC": {"updates": 10_000},
    "LSPC": {"updates": 20_000, "batch_size": 256, **FAST_TARGETS},  # with 5,000 the latent's centre lags
    "FISOR": {**DIFFUSION, "updates": 10_000, "policy_steps": 1, **FAST_TARGETS},
    "BARS": {**DIFFUSION, "critic_updates": 6_000, "updates": 3_000, "unsafe_batch_size": 32, **FAST_TARGETS},
    "CPQ": {
        "updates": 2_000,
        "batch_size": 64,
        "policy_learning_rate": 3e-4,
        "critic_learning_rate": 3e-3,
        "cvae_learning_rate": 3e-3,
        "target_rate": 0.02,
    },
    "BCQLag": {"updates": 2_000, "batch_size": 64, **FAST_TARGETS},
    "BEARLag": {"updates": 2_000, "batch_size": 64, **FAST_TARGETS},
    "COptiDICE": {
        "updates": 3_000,
        "batch_size": 128,
        "policy_learning_rate": 3e-3,
        "critic_learning_rate": 3e-3,
        "multiplier_learning_rate": 3e-2,
    },
    "IQL": {"updates": 5_000, **FAST_TARGETS},
    "TD3BC": {"updates": 6_000, **FAST_TARGETS},
    "CQL": {"updates": 1_500, "batch_size": 64, "policy_learning_rate": 3e-4, **FAST_TARGETS},
}
SHORT_TRAC = {"pretrain_updates": 1500, "updates": 2000, "pretrain_learning_rate": 1e-3, "warmup": 0}


def algorithm_for(method: str, task: str, schedule: str) -> Algorithm:
    """The method as published for the task's suite ("paper"), or with a short schedule."""
    name, settings = METHODS[method]
    preset = replace(classes()[name].preset(get_task(task).suite, task), **settings)
    if schedule == "paper":
        return preset
    return short_trac(preset, task) if isinstance(preset, st.TraC) else replace(preset, **SHORT[name])


def short_trac(preset: st.TraC, task: str) -> st.TraC:
    """The published settings, but for the schedule and the length of segments."""
    info = get_task(task)
    preset = replace(preset, **SHORT_TRAC)
    if info.suite != "bullet":
        return replace(preset, segment_ratio=SEGMENT_STEPS / info.horizon, learning_rate=3e-5)
    pretrain_updates = 3000 if task == "BallRun" else 1500
    return replace(preset, segment_ratio=0.5, learning_rate=1e-4, pretrain_updates=pretrain_updates)


def run(algorithm: st.Algorithm, file: Path, folder: Path, limits: Sequence[float], seeds: Sequence[int]) -> None:
    """Train and evaluate once, unless that is done."""
    episodes = folder / "episodes.csv"
    if episodes.exists():
        return
    data = st.load(file, next_observations="next_observations" in algorithm.fields)
    resumed = (folder / "config.json").exists()
    began, worked = time.perf_counter(), time.process_time()
    trained = st.train(
        algorithm,
        data,
        cost_limits=limits,
        seeds=seeds,
        out=folder,
        resume=resumed,
        log_every=500,
        progress=True,
        record={"data_path": file.name},
    )
    trained_at, cpu = time.perf_counter(), time.process_time() - worked
    task = trained.ids[0].task or file.stem
    result = st.evaluate(trained.policies, task, episodes=20, step=algorithm.total_updates)
    count = len(limits) * len(seeds) if algorithm.uses_cost_limit else len(seeds)
    seconds = {"wall": trained_at - began, "cpu": cpu, "evaluation": time.perf_counter() - trained_at}
    write_json(folder / TIMES, {**seconds, "resumed": resumed, "runs": count, "updates": algorithm.total_updates})
    append_episodes(episodes, result.rows)


def markdown(folders: Sequence[RunFolder], limits: Sequence[float]) -> str:
    """One line per (task, algorithm): normalised reward / cost at each limit, the mean that papers report, and the
    processor time of one run's training. A run that was resumed has none."""
    heads = " | ".join(f"limit {limit:g}" for limit in limits)
    lines = [
        f"| task | method | {heads} | mean | safe | updates | processor s per run |",
        "|---" * (len(limits) + 6) + "|",
    ]
    for folder in folders:
        rows = read_episodes(folder.episodes_file)
        per_limit = {(s.algorithm, s.cost_limits[0]): s for s in summarise(rows, limits)}
        taken = json.loads((folder.path / TIMES).read_text()) if (folder.path / TIMES).exists() else {}
        known = taken and not taken["resumed"]
        seconds = f"{taken['cpu'] / taken['runs']:.0f}" if known else ""
        updates = folder.config()["updates"]
        for s in benchmark_table(rows, limits):
            cells = [_cell(per_limit[s.algorithm, limit]) for limit in limits]
            verdict = "yes" if s.safe else "no"
            figures = f"{' | '.join(cells)} | {_cell(s)} | {verdict} | {updates:,} | {seconds}"
            lines.append(f"| {s.task} | {s.algorithm} | {figures} |")
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
    parser.add_argument("--algorithms", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--limits", nargs="*", type=float, default=[10.0, 20.0, 40.0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 10, 20])
    args = parser.parse_args()
    folders: list[RunFolder] = []
    for task in args.tasks:
        files = sorted(args.data.glob(f"*{task}*.hdf5"))
        if not files:
            parser.error(f"no file of {task} in {args.data}")
        for method in args.algorithms:
            folder = args.out / args.schedule / f"{task}-{method}"
            run(algorithm_for(method, task, args.schedule), files[0], folder, args.limits, args.seeds)
            folders.append(RunFolder.open(folder))
            print(markdown(folders, args.limits), flush=True)


if __name__ == "__main__":
    main()
