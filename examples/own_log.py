"""Your own log, without a benchmark task or an installed simulator: from arrays to a policy file, in seconds.

A thermostat: observations are (how much too cold it is, heating power of the last step), the action is the new power,
the reward is minus the error, and a step at high power costs 1. The log comes from controllers of random strength; an
episode of 40 steps may cost 10.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import safetrax as st

LIMIT = 10


def episode(act: Callable[[np.ndarray], float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Forty steps of the room under a controller."""
    error, power = rng.uniform(1.0, 3.0), 0.0
    rows = []
    for _ in range(40):
        observation = np.array([error, power])
        power = float(np.clip(act(observation), -1, 1))
        rows.append((observation, [power], -abs(error), float(power > 0.6)))
        error += 0.04 - 0.15 * power
    observations, actions, rewards, costs = (np.array(column) for column in zip(*rows, strict=True))
    return {"observations": observations, "actions": actions, "rewards": rewards, "costs": costs}


def some_controller(rng: np.random.Generator) -> Callable[[np.ndarray], float]:
    """Proportional control of random strength, with noise."""
    gain, most = rng.uniform(0.2, 1.0), rng.uniform(0.2, 1.0)
    return lambda observation: min(gain * observation[0], most) + 0.05 * rng.standard_normal()


def main() -> None:
    rng = np.random.default_rng(0)
    data = st.Trajectories.from_episodes(episode(some_controller(rng), rng) for _ in range(300))
    print(data)
    for finding in st.validate(data):
        print(finding.message)

    small = {"hidden": (64, 64), "batch_size": 64}
    clone = st.BC(mode="safe", updates=1000, **small)
    trac = st.TraC(
        pretrain_updates=1000, updates=500, pretrain_learning_rate=1e-3, learning_rate=3e-5, warmup=0, **small
    )
    policies = []
    for algorithm in (clone, trac):
        policy = st.train(algorithm, data, cost_limits=[LIMIT]).policies[0]
        with tempfile.TemporaryDirectory() as folder:  # a policy is one file, and needs nothing but itself
            policy = st.Policy.load(policy.save(Path(folder) / "thermostat.safetensors"))
        controlled = [episode(lambda o, p=policy: float(p.act(o)[0]), rng) for _ in range(300)]
        returns, costs = (np.mean([e[key].sum() for e in controlled]) for key in ("rewards", "costs"))
        print(f"{policy.id.algorithm}: mean return {returns:.1f}, mean cost {costs:.2f} (limit {LIMIT})")
        policies.append(policy)

    print("what is known without trying them out, from the log alone:")
    for certificate in st.certify(policies, data):
        print(certificate)


if __name__ == "__main__":
    main()
