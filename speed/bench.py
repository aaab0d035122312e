"""Speed and memory as ratios to what the machine can do: `make bench`. The last line is one JSON object.

Every rate is the best of several tries, taken in this one process, so that a ratio compares like with like.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loading import loading
from operations import operations, update_operations
from safetrax.algorithms import DSPO, TraC
from safetrax.algorithms.base import Algorithm, Spec
from safetrax.algorithms.registry import classes
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.policies.batched import BatchedActors, Feed
from safetrax.policies.policy import Policies, Policy
from safetrax.training.program import Program, stack

STEPS, OBSERVATIONS, ACTIONS = 100, 7, 2
LIMIT = 10.0
GENERATED = 4096  # steps
TRAC = TraC(label_source="costs")  # 96 segments of 100 steps

# Key in the result, class, and the stage that nearly all updates are made in; each with its published batch size.
METHODS = (
    ("trac", "TraC", "classify"),
    ("lspc", "LSPC", "train"),
    ("fisor", "FISOR", "train"),
    ("bars", "BARS", "policy"),
    ("cdt", "CDT", "train"),
    ("b2r", "B2R", "train"),
    ("dspo_signal", "DSPO", "signal"),
    ("dspo_diffusion", "DSPO", "diffusion"),
    ("dspo_clone", "DSPO", "clone"),
    ("cpq", "CPQ", "train"),
    ("bcq_lag", "BCQLag", "train"),
    ("bear_lag", "BEARLag", "train"),
    ("coptidice", "COptiDICE", "train"),
    ("iql", "IQL", "train"),
    ("td3_bc", "TD3BC", "train"),
    ("cql", "CQL", "train"),
    ("bc", "BC", "clone"),
)


def best_seconds(function: Callable[[], object], tries: int = 5) -> float:
    """Shortest of several timed calls, after one that warms up."""
    function()
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def gemm_rate(size: int = 4096) -> float:
    """Float operations per second of a square float32 product."""
    a = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    return 2 * size**3 / best_seconds(lambda: product(a).block_until_ready(), 7)


def generated(episodes: int, steps: int = STEPS) -> Trajectories:
    """Random data of BallRun's sizes; half of the episodes are safe at limit 10."""
    rng = np.random.default_rng(0)
    n = episodes * steps
    costs = np.zeros((episodes, steps), np.float32)
    costs[::2, :20] = 1
    ends = np.zeros(n, bool)
    ends[steps - 1 :: steps] = True
    labels = np.zeros(episodes, np.int8)
    labels[1:31:2] = 1  # fifteen demonstrations, for those that look at labels
    return Trajectories.from_arrays(
        rng.standard_normal((n, OBSERVATIONS), np.float32),
        rng.uniform(-1, 1, (n, ACTIONS)),
        rng.uniform(0, 10, n),
        costs.ravel(),
        np.zeros(n, bool),
        ends,
        labels=labels,
    )


def update_seconds(algorithm: Algorithm, data: Trajectories, runs: int, stage: int, updates: int) -> float:
    """Seconds per call of one update of all runs."""
    program = Program(algorithm, Spec.of(data))
    store = Store.make(data, algorithm.fields)
    indices = stack([algorithm.index(data, LIMIT)] * runs)
    keys = jax.vmap(jax.random.key)(np.arange(runs))
    states = program.init(keys)
    for i in range(stage + 1):
        states = program.begin(i, states, store, indices, keys)
    carry = (states, program.zero_metrics(stage, states, store, indices))

    def advance() -> None:
        nonlocal carry
        carry = program.advance(stage, carry, store, indices, keys, 0, updates)
        jax.block_until_ready(carry)

    return best_seconds(advance) / updates


def small_generation(algorithm: Algorithm) -> Algorithm:
    """The algorithm; where it generates steps before its last stage, few of them."""
    return replace(algorithm, generated_transitions=GENERATED) if isinstance(algorithm, DSPO) else algorithm


def generation_rate(data: Trajectories) -> float:
    """Steps per second that DSPO's diffusion of published size draws, all in one compiled call."""
    algorithm = small_generation(DSPO())
    program, store = Program(algorithm, Spec.of(data)), Store.make(data, ())
    indices, keys = stack([algorithm.index(data, LIMIT)]), jax.random.split(jax.random.key(0), 1)
    states = program.init(keys)
    begin = lambda: jax.block_until_ready(program.begin(2, states, store, indices, keys))  # noqa: E731
    return GENERATED / best_seconds(begin, 2)


def method_rates(data: Trajectories, gemm: float) -> dict[str, tuple[float, float]]:
    """Of every algorithm that there is: updates per second, and useful float operations per second."""
    rates = {}
    for key, name, stage_name in METHODS:
        if name not in classes():
            continue
        algorithm = small_generation(classes()[name]())
        stage = [entry.name for entry in algorithm.stages()].index(stage_name)
        delay = getattr(algorithm, "policy_delay", 1)  # TD3: the policy moves in every second update
        operations = update_operations(algorithm, data, LIMIT, stage=stage, often=1 / delay)
        # about 0.3 s at half of the product's rate, and whole rounds of TD3's updates
        updates = delay * round(min(max(0.15 * gemm / operations, 3 if delay == 1 else 4), 200) / delay)
        seconds = update_seconds(algorithm, data, runs=1, stage=stage, updates=updates)
        rates[key] = (1 / seconds, operations / seconds)
        print(
            f"{key} update: {seconds * 1e3:.2f} ms, {1 / seconds:.0f} updates/s, "
            f"{operations / 1e9:.2f} GFLOP, {operations / seconds / 1e9:.0f} GFLOP/s useful",
            flush=True,
        )
    return rates


def acting_seconds(data: Trajectories, policies: int = 3, episodes: int = 20) -> float:
    """Seconds that a sequence policy of published size takes for one step of all those episodes side by side."""
    program = Program(classes()["CDT"](), Spec.of(data))
    actors = BatchedActors(program.actors(program.init(jax.vmap(jax.random.key)(np.arange(policies)))), episodes, 0)
    feed = Feed.blank(policies, episodes, OBSERVATIONS)
    return best_seconds(lambda: actors.act(feed), 20)


def certify_rate(data: Trajectories, updates: int = 100) -> float:
    """Useful operations per second of the certificates' dearest part, the training of their world model."""
    from safetrax.certification.parts import Parts
    from safetrax.certification.world_model import BATCH, WorldModel

    parts = Parts.make(data, 10, np.random.default_rng(0))

    def fit(updates: int) -> WorldModel:
        return jax.block_until_ready(WorldModel.fit(data, parts, updates, 0))

    # each weight once forwards and twice backwards, but the first layers' inputs need no gradient
    members = fit(1).members
    sizes = [[leaf.size for leaf in network.weights] for network in (members.moves, members.outcome)]
    useful = sum(2 * BATCH * (3 * sum(each) - each[0]) for each in sizes) * updates
    return useful / (best_seconds(partial(fit, updates + 1), 2) - best_seconds(partial(fit, 1), 2))


def index_bytes() -> float:
    """Bytes of TraC's index per transition, at the segment ratio with the most windows of a useful length."""
    data = generated(1000)
    index = replace(TRAC, segment_ratio=0.1).index(data, LIMIT)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(index)) / data.num_transitions


def raw_environment_rate(policies: Policies, task: str, seconds: float = 2.0) -> float:
    """Steps per second of one environment in this process, replaying each policy's first episode, resets included.

    What a step costs depends on what the agent does, so the yardstick plays the episodes that are evaluated.
    """
    from safetrax.envs.make import make_env

    env = make_env(task)
    episodes = [_actions_of(policy, env) for policy in policies]
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for actions in episodes:
            env.reset(seed=0)
            for action in actions:
                env.step(action)
            steps += len(actions)
    rate = steps / (time.perf_counter() - start)
    env.close()
    return rate


def _actions_of(policy: Policy, env: Any) -> list[np.ndarray]:
    observation, _ = env.reset(seed=0)
    actions, ended = [], False
    while not ended:
        actions.append(policy.act(observation))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        ended = terminated or truncated
    return actions


def evaluation(task: str = "BallRun") -> tuple[float, float, int]:
    """(raw rate of one environment, steps per second of an evaluation, processes)."""
    from safetrax.data import load
    from safetrax.envs.pool import EnvPool
    from safetrax.evaluation.rollout import evaluate
    from safetrax.training.train import train

    tiny = TraC(pretrain_updates=300, updates=300, batch_size=32, segment_ratio=0.2, learning_rate=1e-4, warmup=0)
    policies = train(tiny, load("demo"), cost_limits=(10, 20, 40), seeds=(0, 1, 2)).policies
    with EnvPool(task) as pool:
        evaluate(policies, task, episodes=20, pool=pool)  # compiles, and constructs the environments
        results = [evaluate(policies, task, episodes=20, pool=pool) for _ in range(3)]
        workers = pool.workers
    raw = raw_environment_rate(policies, task)
    rate = max(result.environment_steps / result.seconds for result in results)
    return raw, rate, workers


def reach_avoid(gemm: float) -> dict[str, float]:
    """The compiled world: episodes per second under a small network, and of a diffusion policy of published size
    (16 candidates of 5 steps) the useful operations over those of a product."""
    from safetrax.algorithms import BC, FISOR
    from safetrax.envs.reach_avoid.dataset import reach_avoid_data
    from safetrax.evaluation.rollout import evaluate
    from safetrax.training.train import train

    data = reach_avoid_data(10, transitions=2_000)
    rates = {}
    for name, algorithm, episodes in (
        ("clone", BC(updates=300, hidden=(64, 64)), 2048),
        ("fisor", FISOR(updates=1), 64),
    ):
        policies = train(algorithm, data, cost_limits=(LIMIT,), seeds=(0,)).policies
        seconds = best_seconds(partial(evaluate, policies, "ReachAvoid", episodes=episodes), tries=3)
        steps = evaluate(policies, "ReachAvoid", episodes=episodes).environment_steps
        rates[f"{name}_episodes_per_s"] = episodes / seconds
        rates[f"{name}_steps_per_s"] = steps / seconds
    actor = policies[0].actor
    one = actor.reset(1), jnp.zeros((1, 11)), actor.draw(jax.random.split(jax.random.key(0), 1))
    per_step = operations(actor.act, *one)
    rates["diffusion_gemm_ratio"] = rates["fisor_steps_per_s"] * per_step / gemm
    return rates


def collection_rate(task: str = "BallRun") -> float:
    """Steps per second of a collection with two learning agents, their updates included, once all is compiled."""
    import tempfile

    from safetrax.collection import collect

    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        collect(
            task,
            Path(folder) / "bench.hdf5",
            steps=256_000,
            report=lambda progress: seen.append((time.perf_counter(), progress.steps)),
        )
    steady = seen[3:]
    return sum(steps for _, steps in steady[1:]) / (steady[-1][0] - steady[0][0])


def import_seconds() -> float:
    """Seconds to import the package and every public name, in a fresh process, best of three."""
    code = "import time; t = time.perf_counter(); from safetrax import *; print(time.perf_counter() - t)"
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3))


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"device: {jax.devices()[0].device_kind} ({jax.default_backend()}), {cores} cores, jax {jax.__version__}")
    gemm = gemm_rate()
    print(f"float32 product 4096^3: {gemm / 1e9:.0f} GFLOP/s")

    data = generated(400)
    rates = method_rates(data, gemm)
    gemm = max(gemm, gemm_rate())  # minutes later: the machine may be faster now
    one = 1 / rates["trac"][0]
    cloning = update_seconds(TRAC, data, runs=1, stage=0, updates=40)
    print(f"TraC's cloning update: {cloning * 1e3:.2f} ms")
    nine = update_seconds(TRAC, data, runs=9, stage=1, updates=10)
    print(f"nine runs of TraC: {nine * 1e3:.2f} ms per update of all nine, {9 / nine:.0f} updates/s")
    acting = acting_seconds(data)
    print(f"CDT acting in 60 episodes: {acting * 1e3:.1f} ms per step of all")
    drawn = generation_rate(data)
    print(f"DSPO generating: {drawn:.0f} steps/s")
    certifying = certify_rate(data)
    print(f"certificates: the world model's training at {certifying / 1e9:.0f} GFLOP/s")
    size = index_bytes()
    print(f"TraC index: {size:.1f} bytes per transition")
    raw, rate, workers = evaluation()
    print(f"BallRun: raw {raw:.0f} steps/s of one environment; 9 policies x 20 episodes: {rate:.0f} steps/s")
    collected = collection_rate()
    print(f"collecting in BallRun with two learning agents: {collected:.0f} steps/s")
    world = reach_avoid(gemm)
    print(
        f"reach-avoid world, compiled: {world['clone_episodes_per_s']:.0f} episodes/s of a small network "
        f"({world['clone_steps_per_s']:.0f} steps/s), {world['fisor_steps_per_s']:.0f} steps/s of a diffusion policy"
    )
    seconds = import_seconds()
    print(f"import of every public name: {seconds:.2f} s")
    large = loading()
    print(
        f"loading {large['load_gb']:.2f} GB out of a gzipped file: {large['load_s']:.1f} s, "
        f"memory {large['load_memory_ratio']:.2f} x, on the device too {large['load_store_memory_ratio']:.2f} x"
    )
    print(
        json.dumps(
            {
                **{f"{key}_gemm_ratio": round(useful / gemm, 3) for key, (_, useful) in rates.items()},
                "vmap_ratio": round(nine / (9 * one), 3),
                "certify_gemm_ratio": round(certifying / gemm, 3),
                "cdt_acting_ms": round(acting * 1e3, 2),
                "dspo_generated_steps_per_s": round(drawn),
                "index_bytes_per_transition": round(size, 2),
                "eval_ratio": round(rate / (workers * raw), 3),
                "collect_ratio": round(collected / (workers * raw), 3),
                "reach_avoid_episodes_per_s": round(world["clone_episodes_per_s"], 1),
                "diffusion_gemm_ratio": round(world["diffusion_gemm_ratio"], 3),
                "import_s": round(seconds, 2),
                **large,
                **{f"{key}_updates_per_s": round(rate, 1) for key, (rate, _) in rates.items()},
                "trac_updates_per_s_9_runs": round(9 / nine, 1),
                "device": jax.default_backend(),
            }
        )
    )


if __name__ == "__main__":
    main()
