"""DSPO's Figure 3: what the signal takes for safe in the plane of return and safety, with and without its bound.

    python studies/dspo_toy.py FOLDER

Episodes of one step are points (return, safety), drawn evenly from the unit square; 40 demonstrations are safe (above
0.5) and earn much (above 0.75). The picture has the decision of three signals on a lattice; docs/dspo.md shows it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import safetrax as st
from safetrax.charts.drawing import beside, save
from safetrax.charts.panels import segments
from safetrax.evaluation.detection import detection
from safetrax.training.generated import safety_signal

SETTINGS = {
    "backbone": "mlp",
    "window": 1,
    "width": 16,
    "heads": 1,
    "signal_updates": 1000,
    "signal_batch_size": 128,
    "horizon": 1,
    "denoiser_width": 2,
    "denoiser_multiples": (1,),
    "diffusion_updates": 0,
    "diffusion_steps": 1,
    "generated_transitions": 1,
    "updates": 0,
    "batch_size": 2,
}
TITLES = {"none": "no bound", "vclub": "vCLUB", "gradient-penalty": "gradient penalty"}


def log_of(points: np.ndarray, marked: int = 0) -> st.Trajectories:
    """Episodes of one step; the first are demonstrations."""
    ends = np.ones(len(points), bool)
    labels = (np.arange(len(points)) < marked).astype(np.int8)
    actions = np.zeros((len(points), 1))
    return st.Trajectories.from_arrays(2 * points - 1, actions, points[:, 0], None, ~ends, ends, labels=labels)


def main(folder: Path) -> None:
    """Train, print, draw."""
    rng = np.random.default_rng(0)
    demonstrations = np.stack([rng.uniform(0.75, 1, 40), rng.uniform(0.5, 1, 40)], axis=1)
    points = np.concatenate([demonstrations, rng.uniform(0, 1, (400, 2))])
    side = (np.arange(48) + 0.5) / 48
    lattice = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    panels = []
    for how, title in TITLES.items():
        out = folder / how
        st.train(st.DSPO(**SETTINGS, return_agnostic=how), log_of(points, 40), cost_limits=(1,), out=out)
        low = (points[:, 0] < 0.5) & (np.arange(440) >= 40)
        own, everywhere = (np.asarray(safety_signal(out, log_of(x)), float) for x in (points, lattice))
        found = detection(own[40:], points[40:, 1] > 0.5, points[40:, 0])
        recalled = (own[low & (points[:, 1] > 0.5)] >= 0.5).mean()
        print(f"{title}: AUC {found.auc:.2f}, F1 {found.f1:.2f}, safe points of low return found {recalled:.2f}")
        kind = np.concatenate([np.zeros(40, int), np.where(everywhere >= 0.5, 2, 3)])
        x, y = np.concatenate([demonstrations, lattice]).T
        kinds = {0: "demonstration", 2: "taken for safe", 3: "not"}
        panels.append(segments(1 - y, x, kind, 0.5, kinds=kinds, unit="episode", title=title))
    print(save(beside(panels, own_legends=True), folder / "toy.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
