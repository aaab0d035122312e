"""Draw the small data set that ships with the package out of a full BallRun file: the same bytes every time.

Usage: python tools/make_demo_data.py SOURCE DEST

Episodes are drawn by strata of episode cost, in the shares of the full file. Within a stratum they are drawn evenly
over the range of returns, so that its best and its worst episodes are always in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from safetrax.data import Trajectories, load, write_hdf5

EPISODES = 300
SEED = 0
UPPER_COSTS = (0.0, 10.0, 20.0, 40.0, np.inf)  # of the strata
RETURN_BINS = 15


def main() -> None:
    """Read the arguments, draw, write and print what is in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="full data set, HDF5 in DSRL's format")
    parser.add_argument("dest", type=Path, help="HDF5 file to write")
    arguments = parser.parse_args()

    full = load(arguments.source)
    drawn = full.select(draw(full.returns, full.cost_returns))
    attributes = {
        "title": "SafeTraX demonstration data: BallRun of Bullet-Safety-Gym",
        "task": "BallRun",
        "source": f"{arguments.source.name}, recorded for SafeTraX (not the file that DSRL publishes)",
        "source_sha256": full.info["sha256"],
        "licence": "Apache-2.0",
        "provenance": "see PROVENANCE.md beside this file in the package",
    }
    write_hdf5(arguments.dest, drawn, attributes=attributes, compression=9)
    print(table({"full file": full, "demo": drawn}))
    print(f"\n{arguments.dest}: {arguments.dest.stat().st_size / 1e6:.2f} MB")


def draw(returns: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Numbers of the drawn episodes, ascending."""
    rng = np.random.default_rng(SEED)
    strata = np.searchsorted(UPPER_COSTS, costs, side="left")
    sizes = np.bincount(strata, minlength=len(UPPER_COSTS))
    quotas = np.rint(EPISODES * sizes / sizes.sum()).astype(int)
    quotas[-1] = EPISODES - quotas[:-1].sum()
    chosen = [
        draw_evenly(np.flatnonzero(strata == stratum), returns, quota, rng) for stratum, quota in enumerate(quotas)
    ]
    return np.asarray(np.sort(np.concatenate(chosen)))


def draw_evenly(candidates: np.ndarray, returns: np.ndarray, quota: int, rng: np.random.Generator) -> np.ndarray:
    """`quota` of the candidates: the best, the worst, then one of every return bin in turn."""
    ranked = candidates[np.argsort(returns[candidates], kind="stable")]
    edges = np.linspace(returns[ranked[0]], returns[ranked[-1]], RETURN_BINS + 1)[1:-1]
    inner = rng.permutation(ranked[1:-1])
    bins = np.digitize(returns[inner], edges)
    turn = np.array([np.count_nonzero(bins[:i] == bins[i]) for i in range(len(inner))])  # rank within its bin
    order = np.lexsort((bins, turn))
    return np.asarray(np.concatenate([ranked[[-1, 0]], inner[order]])[:quota])


def table(columns: dict[str, Trajectories]) -> str:
    """Statistics as a Markdown table, one column per data set."""
    rows = {
        "episodes": [f"{len(data)}" for data in columns.values()],
        "transitions": [f"{data.num_transitions}" for data in columns.values()],
        "return": [f"{data.returns.min():.1f} to {data.returns.max():.1f}" for data in columns.values()],
        "cost": [f"{data.cost_returns.min():g} to {data.cost_returns.max():g}" for data in columns.values()],
    }
    for limit in UPPER_COSTS[:-1]:
        rows[f"episodes at cost {limit:g} or less, best return"] = [
            f"{np.count_nonzero(safe)} ({safe.mean():.1%}), {data.returns[safe].max():.1f}"
            for data in columns.values()
            for safe in [data.cost_returns <= limit]
        ]
    lines = [["", *columns], ["---"] * (len(columns) + 1), *([name, *cells] for name, cells in rows.items())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
