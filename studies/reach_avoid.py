"""The reach-avoid world in docs/experiments.md: data of falling quality, bad starts, the anchor, collecting.

    python studies/reach_avoid.py quality --out runs/reach-avoid
    python studies/reach_avoid.py long --out runs/reach-avoid
    python studies/reach_avoid.py collect --out runs/reach-avoid

Each prints a table in Markdown and keeps its runs, which are resumed where they stopped; `quality` also draws.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import safetrax as st
from safetrax.algorithms.base import Algorithm, Spec
from safetrax.data.store import Store
from safetrax.envs.reach_avoid.dataset import drive
from safetrax.envs.reach_avoid.play import world_of
from safetrax.evaluation.episodes import EpisodeRow, append_episodes, read_episodes
from safetrax.grid.grid import Grid
from safetrax.report.reach_avoid import feasible_region, trajectory_map
from safetrax.training.checkpoint import load_checkpoint
from safetrax.training.program import Program, stack

SHORT = Path(__file__).with_name("short.toml")  # the short schedule
RATIOS = (19, 10, 5)
ABLATIONS = ("BARS, no anchor", "BARS, regression")  # on the poorest data only
SEEDS = (0, 1, 2)
# With what counts as safe: inside the hazard the expert itself pays 7.
STARTS = {"ReachAvoid": 5.0, "ReachAvoid-FISOR": 5.0, "ReachAvoid-Hazard": 10.0}
WORLD_LIMIT, WORLD_EPISODES, COLLECTED = 5.0, 50, 200
UPDATES = ("critic_updates", "pretrain_updates", "updates")
LONGER = 10  # times as many updates, in `long`
SLICE = {"v": 1.5, "theta": 0.0}  # of the pictures of feasible regions


def algorithms() -> dict[str, Algorithm]:
    """What is compared: the presets with a short schedule."""
    schedule = {
        word: {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        for word, settings in Grid.read(SHORT).settings.items()
    }
    bars = replace(st.BARS.preset("reach_avoid"), **schedule["bars"])
    return {
        "FISOR": replace(st.FISOR.preset("reach_avoid"), **schedule["fisor"]),
        "BARS": bars,
        "BARS, no anchor": replace(bars, anchor_after=1.0),
        "BARS, regression": replace(bars, unsafe_loss="regression"),
        "BARS, raw limit": replace(bars, raw_limit=True),
        "TraC": replace(st.TraC.preset("bullet"), **{**schedule["trac"], "segment_ratio": 0.1}),
    }


@dataclass(frozen=True)
class Trial:
    """One training and its evaluations.

    Attributes:
        folder: the run's.
        algorithm: with its settings.
        limit: of the cost of an episode.
    """

    folder: Path
    algorithm: Algorithm
    limit: float

    def train(self, data: st.Trajectories, start_from: Path | None = None) -> None:
        """Train all seeds, or go on, unless that is done."""
        if (self.folder / "policies").exists():
            return
        st.train(
            self.algorithm,
            data,
            cost_limits=(self.limit,),
            seeds=SEEDS,
            out=self.folder,
            resume=(self.folder / "config.json").exists(),
            start_from=start_from,
            log_every=500,
            progress=True,
        )

    def policies(self) -> st.Policies:
        """The trained ones."""
        files = sorted((self.folder / "policies").iterdir())
        return st.Policies.stack([st.Policy.load(file) for file in files])

    def rows(self, task: str, episodes: int) -> list[EpisodeRow]:
        """Of all seeds in a task, played once."""
        file = self.folder / f"{task}.csv"
        if not file.exists():
            append_episodes(file, st.evaluate(self.policies(), task, episodes=episodes).rows)
        return read_episodes(file)

    def cell(self, task: str, episodes: int) -> str:
        """Normalised reward and cost of an episode: mean and standard error over seeds; bold within the limit."""
        entry, rows = st.get_task(task), self.rows(task, episodes)
        span = entry.reward_max - entry.reward_min
        reward = per_seed(rows, lambda row: (row.return_ - entry.reward_min) / span)
        cost = per_seed(rows, lambda row: row.cost)
        text = f"{mean_and_error(reward, 2)} / {mean_and_error(cost, 1)}"
        return f"**{text}**" if cost.mean() <= STARTS.get(task, self.limit) else text


def per_seed(rows: Sequence[EpisodeRow], value: Callable[[EpisodeRow], float]) -> np.ndarray:
    """Means over episodes."""
    seeds = sorted({row.seed for row in rows})
    return np.array([np.mean([value(row) for row in rows if row.seed == seed]) for seed in seeds])


def mean_and_error(values: np.ndarray, digits: int) -> str:
    """Over seeds."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def quality(out: Path, names: Sequence[str]) -> str:
    """Three qualities of data, three starts."""
    lines = []
    for ratio in RATIOS:
        data = st.reach_avoid_data(safe_to_unsafe=ratio)
        world_pictures(out, ratio, {"the log": data})
        drives = {}
        for name, algorithm in algorithms().items():
            if name not in names or (ratio != RATIOS[-1] and name in ABLATIONS):
                continue
            trial = Trial(out / f"reach-avoid-{ratio}-{slug(name)}", algorithm, WORLD_LIMIT)
            trial.train(data)
            lines.append([f"{ratio}:1", name, *(trial.cell(start, WORLD_EPISODES) for start in STARTS)])
            drives[name] = trial
        policies = {name: trial.policies()[0] for name, trial in drives.items()}
        for start in STARTS:
            driven = {name: drive(policy.actor, world_of(f"{start}-v0")) for name, policy in policies.items()}
            if driven:
                trajectory_map(driven, out / f"{start.lower()}-{ratio}.png")
        for name, trial in drives.items():
            region_picture(out, f"{ratio}:1", name, trial, data)
    return table(["data", "algorithm", *STARTS], lines)


def world_pictures(out: Path, ratio: int, groups: Mapping[str, st.Trajectories]) -> None:
    """The log's episodes."""
    out.mkdir(parents=True, exist_ok=True)
    trajectory_map(groups, out / f"log-{ratio}.png")


def region_picture(out: Path, log: str, name: str, trial: Trial, data: st.Trajectories) -> None:
    """What the first seed takes for feasible or safe, beside what is feasible; the share that agrees is printed."""
    if name not in ("FISOR", "BARS"):
        return
    algorithm = trial.algorithm
    index = algorithm.index(data, trial.limit)
    state = final_state(trial, data)
    if isinstance(algorithm, st.FISOR):
        value, threshold = state.cost_value.network, 0.0
    else:
        value, threshold = state.region_value.network, float(index.region_limit)
    path = out / f"region-{log.removesuffix(':1')}-{slug(name)}.png"
    share = feasible_region(lambda o: value(o)[:, 0], path, threshold=threshold, **SLICE)
    print(f"{name} at {log} and the true region agree on {share:.1%} of the positions ({path})")


def final_state(trial: Trial, data: st.Trajectories) -> Any:
    """Everything that the first seed has trained."""
    program = Program(trial.algorithm, Spec.of(data))
    store = Store.make(data, trial.algorithm.fields)
    indices = stack([trial.algorithm.index(data, trial.limit)] * len(SEEDS))
    structure = program.state_structure(len(program.stages) - 1, store, indices, len(SEEDS))
    states = load_checkpoint(trial.folder / "checkpoint.safetensors", (structure, {}))[0]
    return jax.tree.map(lambda leaf: leaf[0], states)


def long(out: Path, names: Sequence[str]) -> str:
    """The poorest log, and many more updates: as many as the world's presets have."""
    data = st.reach_avoid_data(safe_to_unsafe=RATIOS[-1])
    lines = []
    for name, algorithm in algorithms().items():
        if name not in names or name in ABLATIONS:
            continue
        changes = {field: LONGER * getattr(algorithm, field) for field in UPDATES if hasattr(algorithm, field)}
        trial = Trial(out / f"long-{slug(name)}", replace(algorithm, **changes), WORLD_LIMIT)
        trial.train(data)
        lines.append([name, *(trial.cell(start, WORLD_EPISODES) for start in STARTS)])
        region_picture(out, "long", name, trial, data)
    return table(["algorithm", *STARTS], lines)


def collecting(out: Path, names: Sequence[str]) -> str:
    """Train on the poorest log, collect with the policies, train on with both, twice; and without collecting."""
    log = st.reach_avoid_data(safe_to_unsafe=RATIOS[-1])
    lines = []
    for name, algorithm in algorithms().items():
        if name not in names:
            continue
        first = Trial(out / f"reach-avoid-{RATIOS[-1]}-{slug(name)}", algorithm, WORLD_LIMIT)
        first.train(log)
        lines.append([name, "the log", cost_of(log), first.cell("ReachAvoid", WORLD_EPISODES)])
        earlier = {"log": first, "more": first}
        data = log
        for number in (1, 2):
            file = out / f"collected-{slug(name)}-{number}.hdf5"
            if not file.exists():
                st.collect("ReachAvoid", file, policies=earlier["more"].policies(), episodes=COLLECTED, seed=number)
            collected = st.load(file, next_observations=True)
            data = st.Trajectories.concatenate([data, collected])
            for kind, rows in (("more", data), ("log", log)):
                trial = Trial(out / f"collect-{slug(name)}-{number}-{kind}", algorithm, WORLD_LIMIT)
                trial.train(rows, start_from=earlier[kind].folder)
                source = f"and {COLLECTED} of its episodes" if kind == "more" else "the log again"
                cost = cost_of(collected) if kind == "more" else cost_of(log)
                lines.append([name, f"{number}. {source}", cost, trial.cell("ReachAvoid", WORLD_EPISODES)])
                earlier[kind] = trial
    return table(["algorithm", "trained on", "cost of an episode in it", "ReachAvoid"], lines)


def cost_of(data: st.Trajectories) -> str:
    """Mean and share of episodes without any."""
    return f"{data.cost_returns.mean():.2f} ({np.mean(data.cost_returns == 0):.0%} without)"


def slug(name: str) -> str:
    """For a folder."""
    return name.lower().replace(",", "").replace(" ", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=("quality", "long", "collect"))
    parser.add_argument("--out", type=Path, default=Path("runs/reach-avoid"), help="where runs and pictures go")
    parser.add_argument("--algorithms", nargs="*", default=list(algorithms()), choices=list(algorithms()))
    args = parser.parse_args()
    if args.experiment == "quality":
        print(quality(args.out, args.algorithms))
    elif args.experiment == "long":
        print(long(args.out, args.algorithms))
    else:
        print(collecting(args.out, args.algorithms))


if __name__ == "__main__":
    main()
