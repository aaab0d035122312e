"""docs/monitor.md, "Where the truth is known": false alarms, and five faults, with and without a fallback.

    python studies/monitor.py TASK LOG POLICY FALLBACK [EPISODES]

LOG is a data set, POLICY and FALLBACK are policy files. First, for stated rates of 0.1 and 0.01 and five ways of
parting the log, alarms in episodes that verify. Then the policy acts in its simulator, as it is and with each fault
from step 50 on (a changed body and a changed start from the beginning): in how many episodes there is an alarm before
and after the fault, after how many steps (median), by what, and what an episode costs and returns when the alarm is
recorded, and when the fallback takes over.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import safetrax as st
from safetrax.errors import DataError

AT = 50  # step at which a fault sets in
BEHIND = 5  # steps that a delayed action is late
HEAVIER, APART = 4.0, 3.0  # factor of all masses; metres from where the task begins


class Faulty:
    """An environment with a fault between it and the policy."""

    def __init__(self, task: str, kind: str, std: np.ndarray) -> None:
        self.env: Any = st.make_env(task)
        self.kind, self.std = kind, std

    def reset(self, seed: int) -> np.ndarray:
        self.rng, self.step_number = np.random.default_rng(seed), 0
        observation, _ = self.env.reset(seed=seed)
        self.stuck = int(self.rng.choice(np.flatnonzero(self.std > 1e-3)))
        self.queue: list[np.ndarray] = []
        if self.kind in ("heavy", "start"):
            getattr(self, f"_{self.kind}")()
        return self._seen(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, float, bool]:
        self.step_number += 1
        self.queue.append(action)
        if self.kind == "delay" and self.step_number > AT:
            action = self.queue[-1 - BEHIND]
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(observation), float(reward), float(info["cost"]), terminated or truncated

    def _seen(self, observation: np.ndarray) -> np.ndarray:
        seen = np.array(observation, np.float32)
        if self.step_number >= AT:
            if self.kind == "noise":
                seen += (0.5 * self.std * self.rng.standard_normal(seen.shape)).astype(np.float32)
            if self.kind == "stuck":
                seen[self.stuck] = self.held[self.stuck]
        else:
            self.held = seen
        return seen

    def _heavy(self) -> None:
        simulator = self.env.unwrapped._simulator
        if hasattr(simulator, "bc"):
            body = simulator.agent.body_id
            for link in range(-1, simulator.bc.getNumJoints(body)):
                mass = simulator.bc.getDynamicsInfo(body, link)[0]
                self.masses = getattr(self, "masses", {})
                simulator.bc.changeDynamics(body, link, mass=HEAVIER * self.masses.setdefault(link, mass))
        else:
            simulator.task.model.body_mass[:] *= HEAVIER  # reset makes a new model
            simulator.task.model.body_inertia[:] *= HEAVIER

    def _start(self) -> None:
        simulator = self.env.unwrapped._simulator
        if hasattr(simulator, "bc"):
            body = simulator.agent.body_id
            place, turned = simulator.bc.getBasePositionAndOrientation(body)
            simulator.bc.resetBasePositionAndOrientation(body, np.add(place, (APART, APART, 0.0)), turned)
        else:
            simulator.task.data.qpos[:2] += APART


def play(
    faulty: Faulty, make: Callable[[], st.Guard], episodes: int
) -> tuple[list[tuple[int, str] | None], list[float], list[float], list[float]]:
    """Of each episode the first alarm's step and cause, its cost, its cost until then, and its return."""
    alarms: list[tuple[int, str] | None] = []
    costs, until, returns = [], [], []
    guard = make()
    for episode in range(episodes):
        guard.reset(seed=episode)
        observation, done, cost, returned, before = faulty.reset(1000 + episode), False, 0.0, 0.0, 0.0
        known = len(guard.interventions)
        while not done:
            action = guard.act(observation)
            before = cost if len(guard.interventions) == known else before
            observation, reward, price, done = faulty.step(action)
            guard.observe(reward, price)
            cost, returned = cost + price, returned + reward
        rows = guard.interventions[known:]
        until.append(before if rows else cost)
        alarms.append((rows[0].step, rows[0].cause) if rows else None)
        costs.append(cost)
        returns.append(returned)
    return alarms, costs, until, returns


def main(task: str, log: str, file: str, other: str, episodes: int = 20) -> None:
    data, policy, fallback = st.load(log, task=task), st.Policy.load(file), st.Policy.load(other)
    limit = policy.id.cost_limit
    for rate in (0.1, 0.01):
        found = []
        for within in (limit, 2 * limit, 4 * limit, 8 * limit):  # the lowest limit with enough episodes
            try:
                found = [
                    st.fit_monitor(data, policy=policy, cost_limit=within, false_alarms=rate, seed=seed).facts
                    for seed in range(5)
                ]
                break
            except DataError as error:
                print(f"{task}: {error}")
        alarms, others = (sum(facts[name] for facts in found) for name in ("verified_alarms", "verified"))
        inside = f"stated {rate:g}, within {within}"
        print(f"{task}: {inside}: {alarms} alarms in {others} other episodes ({alarms / others:.3f})", flush=True)
    monitor = st.fit_monitor(data, policy=policy, false_alarms=0.1)
    print(f"{task}: {policy.id}, falls back to {fallback.id}, limit {limit:g}")
    print("| fault | before | after | steps | by | cost | if stopped | with fallback | return | with fallback |")
    for kind in ("none", "noise", "stuck", "delay", "heavy", "start"):
        faulty = Faulty(task, kind, data.observations.std(axis=0))
        alarms, costs, until, returns = play(faulty, lambda: st.Guard(policy, monitor, on_alarm="record"), episodes)
        _, guarded, _, earned = play(faulty, lambda: st.Guard(policy, monitor, fallback=fallback), episodes)
        since = {"heavy": 0, "start": 0, "none": 0}.get(kind, AT)
        early = sum(alarm is not None and alarm[0] < since for alarm in alarms)
        late = [alarm for alarm in alarms if alarm is not None and alarm[0] >= since]
        steps = f"{np.median([alarm[0] - since for alarm in late]):.0f}" if late else "-"
        causes = ", ".join(f"{cause} {count}" for cause, count in Counter(c for _, c in late).most_common())
        numbers = " | ".join(f"{np.mean(x):.1f}" for x in (costs, until, guarded, returns, earned))
        print(f"| {kind} | {early} | {len(late)} of {episodes} | {steps} | {causes} | {numbers} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], *map(int, sys.argv[5:]))
