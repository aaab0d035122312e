"""docs/trust.md, "Where the truth is known": certificates of every policy of a benchmark, held against its simulator.

    python studies/certify.py BENCHMARK DATA TASK...

BENCHMARK is a folder of `safetrax benchmark` with evaluated episodes, DATA a folder of logs. One line per task and
way of bounding: how many policies there are, how many get no bound, how many bounds hold, how far they are above the
truth (the median, in limits), how estimates rank the policies, how many are bounded within the limit and how many of
these wrongly, and what return the best of these loses to the best safe one, limit by limit.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

import safetrax as st
from safetrax.certification.certify import limits_of
from safetrax.certification.examiner import Examiner
from safetrax.runs import read_sources
from safetrax.training.run_folder import RunFolder

Z = 1.645
Row = tuple[float, float | None, float, float, float]  # estimate, bound, true cost, limit, true return


def nearest(examiner: Examiner, actions: np.ndarray, share: float = 0.1) -> tuple[float, float]:
    """Cost of the tenth of the episodes whose actions are nearest the policy's, and its 95 % bound."""
    data = examiner.data
    apart = np.linalg.norm(actions - data.actions, axis=1)
    by_episode = np.add.reduceat(apart, data.offsets[:-1]) / data.lengths
    chosen = np.argsort(by_episode)[: max(int(share * data.num_episodes), 5)]
    costs = data.cost_returns[chosen]
    return float(costs.mean()), float(costs.mean() + Z * costs.std(ddof=1) / len(costs) ** 0.5)


def rows_of(examiner: Examiner, policy: st.Policy, costs: list[float], returns: list[float]) -> dict[str, list[Row]]:
    """What each way says of one policy, at each of its limits."""
    from safetrax.certification.acting import logged_state_actions

    bounds = examiner.examine(policy.actor)
    found: dict[str, list[Row]] = defaultdict(list)
    near = nearest(examiner, logged_state_actions(policy.actor, examiner.data, draws=1)[0])
    for limit in limits_of(policy.id, ()):
        certificate = examiner.certificate(policy.id, limit, bounds)
        truth = (float(np.mean(costs)), limit, float(np.mean(returns)))
        plain = float(bounds.fitted[0]) if np.isfinite(bounds.fitted[0]) else 1e9
        found["certificate"].append((certificate.cost, certificate.cost_bound, *truth))
        found["plain fitted Q"].append((plain, plain + Z * float(bounds.spread[0]), *truth))
        found["nearest episodes"].append((*near, *truth))
    return found


def line(task: str, way: str, rows: list[Row]) -> str:
    """Of a table."""
    estimate, truth, limit, returned = (np.array([row[i] for row in rows], float) for i in (0, 2, 3, 4))
    bound = np.array([np.nan if row[1] is None else row[1] for row in rows], float)
    given = np.isfinite(bound)
    held = (truth <= bound)[given]
    ranks = [np.argsort(np.argsort(x)) for x in (estimate, truth)]
    regrets = []
    for at in np.unique(limit):
        ours, safe = (limit == at) & (bound <= at), (limit == at) & (truth <= at)
        if ours.any() and safe.any():
            picked = np.flatnonzero(ours)[returned[ours].argmax()]
            regrets.append(returned[safe].max() - returned[picked] if truth[picked] <= at else np.inf)
    tight = np.median(((bound - truth) / limit)[given]) if given.any() else np.nan
    within = given & (np.where(given, bound, np.inf) <= limit)
    lost = ", ".join("unsafe" if np.isinf(x) else f"{x:.0f}" for x in regrets) or "-"
    cells = (
        *(task, way, len(rows), (~given).sum(), f"{held.sum()} of {given.sum()}", f"{tight:.2f}"),
        *(f"{np.corrcoef(*ranks)[0, 1]:.2f}", f"{within.sum()}, {(within & (truth > limit)).sum()}", lost),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main(benchmark: str, folder: str, tasks: list[str]) -> None:
    """Certify and tabulate."""
    trainings = read_sources([benchmark]).trainings
    for task in tasks:
        (file,) = Path(folder).glob(f"*{task}*.hdf5")
        began = time.monotonic()
        examiner = Examiner(st.load(file))
        ready, count = time.monotonic() - began, 0
        found: dict[str, list[Row]] = defaultdict(list)
        for training in trainings:
            if training.tasks != (task,):
                continue
            for policy in RunFolder.open(training.folder).load_policies():
                own = [row for row in training.rows if row.run == policy.id]
                for way, rows in rows_of(examiner, policy, [r.cost for r in own], [r.return_ for r in own]).items():
                    found[way] += rows
                count += 1
        seconds = (time.monotonic() - began - ready) / max(count, 1)
        held, tests = examiner.held, examiner.given.sum()
        print(f"{task}: {count} policies, the log ready in {ready:.0f} s, then {seconds:.1f} s a policy")
        print(f"self-tests: {held} of {tests} held; raised by {examiner.raised[0]:.1f}")
        for way, rows in found.items():
            print(line(task, way, rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
