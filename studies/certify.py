"""docs/trust.md, "Where the truth is known": certificates of every policy of a benchmark, held against its simulator.

    python studies/certify.py BENCHMARK[,BENCHMARK...] DATA TASK...

BENCHMARK is a folder of `safetrax benchmark` with evaluated episodes, DATA a folder of logs, those that were trained
on or others of the same task (`python studies/halves.py` makes two of one). One line per task and
way of bounding: how many policies there are, how many get no bound, how many bounds hold, how far they are above the
truth (the median, in limits), how estimates rank the policies, how many are bounded within the limit and how many of
these wrongly, and what return the best of these loses to the best safe one, limit by limit. All bounds that failed
are listed.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

import safetrax as st
from safetrax.algorithms.standardisation import Standardiser
from safetrax.certification.certify import limits_of
from safetrax.certification.clones import clones
from safetrax.certification.examiner import Bounds, Examiner
from safetrax.data.store import Store
from safetrax.runs import read_sources
from safetrax.training.run_folder import RunFolder

Z = 1.645


class Row(NamedTuple):
    """One way's answer about one policy at one limit."""

    policy: str
    estimate: float
    bound: float | None
    truth: float
    limit: float
    returned: float


class Candidate(NamedTuple):
    """A policy to choose, and the truth about it."""

    run: st.RunId
    bounds: Bounds
    truth: float
    returned: float


def choice(examiner: Examiner, candidates: list[Candidate], limit: float) -> str:
    """What `safetrax certify --choose` would say at a limit, whatever limits the policies were trained for."""
    halves = [[examiner.certificate(c.run, limit, c.bounds, half) for half in (0, 1)] for c in candidates]
    safe = [c.returned for c in candidates if c.truth <= limit]
    best = max(safe) if safe else float("nan")
    fit = [place for place, (first, _) in enumerate(halves) if first.safe]
    if not fit:
        return f"chosen at {limit:g}: none; the best safe one returns {best:.0f}"
    place = max(fit, key=lambda p: halves[p][0].return_)
    bound, taken = halves[place][1].cost_bound, candidates[place]
    said = "no bound" if bound is None else f"at most {bound:.1f}"
    return (
        f"chosen at {limit:g}: {taken.run}, {said} on the other half, truly {taken.truth:.1f}; returns "
        f"{taken.returned:.0f}, the best safe one {best:.0f}"
    )


class Rivals:
    """What else one could do with a log."""

    def __init__(self, examiner: Examiner) -> None:
        self.data = data = examiner.data
        raw = Store.make(data, ())
        standardiser = Standardiser.of(raw.observations)
        (behaviour,) = clones(data, [np.arange(data.num_episodes)], standardiser.store(raw), standardiser)
        chosen = examiner.chosen(behaviour)[0, :, -data.action_size :]
        self.logged = np.asarray(Store.make(data, ()).actions)
        self.error = (self.logged - chosen).std(axis=0)
        self.behaviour = (((self.logged - chosen) / self.error) ** 2).sum(axis=1)

    def ask(self, chosen: np.ndarray) -> dict[str, tuple[float, float]]:
        """Estimate and 95 % bound. `chosen`: states with the policy's actions."""
        data = self.data
        actions = chosen[0, :, -data.action_size :]
        apart = np.linalg.norm(actions - self.logged, axis=1)
        near = np.argsort(np.add.reduceat(apart, data.offsets[:-1]) / data.lengths)
        costs = data.cost_returns[near[: max(data.num_episodes // 10, 5)]]
        # self-normalised importance sampling of episodes, both densities Gaussian with the behaviour's error
        ratio = 0.5 * (self.behaviour - (((self.logged - actions) / self.error) ** 2).sum(axis=1))
        summed = np.add.reduceat(ratio, data.offsets[:-1])
        weights = np.exp(summed - summed.max())
        weights /= weights.sum()
        sampled = float(weights @ data.cost_returns)
        error = float(np.sqrt((weights**2) @ (data.cost_returns - sampled) ** 2))
        return {
            "nearest episodes": (
                float(costs.mean()),
                float(costs.mean() + Z * costs.std(ddof=1) / len(costs) ** 0.5),
            ),
            "importance sampling": (sampled, sampled + Z * error),
        }


def rows_of(
    examiner: Examiner,
    rivals: Rivals,
    policy: st.Policy,
    costs: list[float],
    returns: list[float],
    refusals: list[str],
    candidates: list[Candidate],
) -> dict[str, list[Row]]:
    """What each way says of one policy, at each of its limits.

    Why there is no bound joins the `refusals`, and the policy the `candidates`.
    """
    found: dict[str, list[Row]] = defaultdict(list)
    chosen = examiner.chosen(policy.actor)
    bounds, others = examiner.examine(policy.actor, chosen), rivals.ask(chosen)
    candidates.append(Candidate(policy.id, bounds, float(np.mean(costs)), float(np.mean(returns))))
    plain = np.nan_to_num(bounds.estimates[0, 0], nan=1e9, posinf=1e9, neginf=-1e9)
    others["plain fitted Q"] = float(plain), float(plain + Z * bounds.spread[0, 0])
    for limit in limits_of(policy.id, ()):
        certificate = examiner.certificate(policy.id, limit, bounds)
        if certificate.refusal:
            refusals.append(re.sub(r"[-\d.]+(e[+-]?\d+)?", "#", certificate.refusal).split(", least")[0])
        truth = (float(np.mean(costs)), limit, float(np.mean(returns)))
        found["certificate"].append(Row(str(policy.id), certificate.cost, certificate.cost_bound, *truth))
        for way, answer in others.items():
            found[way].append(Row(str(policy.id), *answer, *truth))
    return found


def line(task: str, way: str, rows: list[Row]) -> str:
    """Of a table."""
    estimate, truth, limit, returned = (np.array([row[i] for row in rows], float) for i in (1, 3, 4, 5))
    bound = np.array([np.nan if row.bound is None else row.bound for row in rows], float)
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
    trainings = read_sources(benchmark.split(",")).trainings
    for task in tasks:
        (file,) = Path(folder).glob(f"*{task}*.hdf5")
        began = time.monotonic()
        examiner = Examiner(st.load(file))
        ready, count = time.monotonic() - began, 0
        rivals, found, refusals, candidates = Rivals(examiner), defaultdict(list), list[str](), list[Candidate]()
        for training in trainings:
            if training.tasks != (task,):
                continue
            for policy in RunFolder.open(training.folder).load_policies():
                own = [row for row in training.rows if row.run == policy.id]
                costs, returns = [row.cost for row in own], [row.return_ for row in own]
                for way, rows in rows_of(examiner, rivals, policy, costs, returns, refusals, candidates).items():
                    found[way] += rows
                count += 1
        seconds = (time.monotonic() - began - ready) / max(count, 1)
        print(f"{task}: {count} policies, the log ready in {ready:.0f} s, then {seconds:.1f} s a policy")
        print(f"self-tests: {examiner.cost}")
        for way, rows in found.items():
            print(line(task, way, rows), flush=True)
        for why, count in Counter(refusals).most_common():
            print(f"no bound, {count} times: {why}")
        for limit in st.get_task(task).cost_limits:
            print(choice(examiner, candidates, limit))
        for row in found["certificate"]:
            if row.bound is not None and row.bound < row.truth:
                print(f"failed: {row.policy} at {row.limit:g}: at most {row.bound:.1f}, but {row.truth:.1f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
