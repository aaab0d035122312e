"""Every task of the benchmark as it runs here: sizes, speed of one process on one core, and whether seeds hold.

    python benchmarks/tasks.py [TASK ...] [--pictures FOLDER] [--markdown FILE]

Each task is measured in a process of its own, so that a simulator that is missing or crashes spoils one row only.
O and A are the sizes of observations and actions. Steps per second are those of whole episodes of random actions with
their resets. Seconds are of processor time, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Column, Table

from safetrax.catalogue import Task, get_task, tasks
from safetrax.envs import make_env
from safetrax.envs.suites import load_suite

SEEDING_STEPS = 200
PICTURED = ("PointGoal1", "HalfCheetahVelocity", "BallCircle", "harddense")
HEADER = ("task", "O", "A", "horizon", "steps/s", "reset, ms", "one seed, one episode")
TIMEOUT = 300.0  # seconds for a task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="*", help="names of tasks; all of them by default")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write a picture of one task per suite here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here, too")
    parser.add_argument("--seconds", type=float, default=2.0, help="least time to step each task for")
    parser.add_argument("--child", choices=("measure", "picture"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "measure":
        print(json.dumps(measure(options.task[0], options.seconds)), flush=True)
    elif options.child == "picture":
        print(json.dumps(draw(options.task[0], options.pictures)), flush=True)
    else:
        chosen = [get_task(name) for name in options.task] or list(tasks())
        report(chosen, options.seconds, options.pictures, options.markdown)


def report(chosen: list[Task], seconds: float, pictures: Path | None, markdown: Path | None) -> None:
    """Measure, print, and write what was asked for."""
    console = Console()
    rows, versions = [], {}
    for task in chosen:
        with console.status(task.name):
            found = in_own_process("measure", task.name, "--seconds", str(seconds))
        rows.append(row_of(task, found))
        if "versions" in found:
            versions[task.suite] = found["versions"]
    table = Table(Column(HEADER[0], no_wrap=True), *HEADER[1:])
    for row in rows:
        table.add_row(*row)
    console.print(table)
    notes = "; ".join(versions.values())
    console.print(notes)
    if markdown is not None:
        lines = [HEADER, ("---",) * len(HEADER), *rows]
        text = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        markdown.write_text(f"{text}\n\n{notes}\n", encoding="utf-8")
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for name in PICTURED:
            found = in_own_process("picture", name, "--pictures", str(pictures))
            console.print(f"{name}: {found.get('file') or found['failure']}")


def in_own_process(job: str, task: str, *arguments: str) -> dict[str, Any]:
    """The answer of a child, or why there is none."""
    command = [sys.executable, __file__, "--child", job, task, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return {"failure": f"no answer within {TIMEOUT:.0f} s"}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            return dict(json.loads(line))  # even if the simulator crashed while the process ended
    last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
    return {"failure": f"exit code {done.returncode}: {last[0]}"}


def row_of(task: Task, found: dict[str, Any]) -> tuple[str, ...]:
    if "failure" in found:
        return (task.name, "-", "-", str(task.horizon), "-", "-", found["failure"])
    observation = str(found["observation_size"])
    if found["observation_size"] != task.observation_size:
        observation += f" (catalogue: {task.observation_size})"
    return (
        task.name,
        observation,
        str(found["action_size"]),
        str(task.horizon),
        f"{found['steps_per_second']:.0f}",
        f"{found['reset_ms']:.1f}",
        "yes, bitwise" if found["reproducible"] else "NO",
    )


def measure(name: str, seconds: float) -> dict[str, Any]:
    """All numbers of a task's row, or `failure`."""
    keep_to_one_core()
    task = get_task(name)
    try:
        env = make_env(name)
        rng = np.random.default_rng(0)
        actions = rng.uniform(-1, 1, (SEEDING_STEPS, task.action_size)).astype(np.float32)
        seen = [trajectory(env, actions), trajectory(env, actions)]
        answer = {
            "observation_size": int(np.prod(env.observation_space.shape)),
            "action_size": int(np.prod(env.action_space.shape)),
            "reset_ms": 1000 * reset_seconds(env),
            "steps_per_second": steps_per_second(env, actions, seconds),
            "versions": load_suite(task.suite).versions(),
        }
        env.close()  # before the next is made: MetaDrive allows one per process
        env = make_env(name)
        seen.append(trajectory(env, actions))
        env.close()
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {error}"}
    return {**answer, "reproducible": len(set(seen)) == 1}


def trajectory(env: gymnasium.Env, actions: np.ndarray) -> bytes:
    """Everything that an episode shows, to the bit."""
    seen = [env.reset(seed=7)[0].tobytes()]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation.tobytes() + np.float64([reward, info["cost"], terminated, truncated]).tobytes())
        if terminated or truncated:
            break
    return b"".join(seen)


def reset_seconds(env: gymnasium.Env, resets: int = 10) -> float:
    """Mean time of a reset; how long one takes depends on its seed."""
    start = time.process_time()
    for seed in range(resets):
        env.reset(seed=seed)
    return (time.process_time() - start) / resets


def steps_per_second(env: gymnasium.Env, actions: np.ndarray, seconds: float) -> float:
    """The rate of so many whole episodes that they take at least `seconds`."""
    start = time.process_time()
    steps, elapsed = 0, 0.0
    endless = itertools.cycle(actions)
    while elapsed < seconds:
        env.reset(seed=steps)
        ended = False
        while not ended:
            _, _, terminated, truncated, _ = env.step(next(endless))
            steps, ended = steps + 1, terminated or truncated
        elapsed = time.process_time() - start
    return steps / elapsed


def keep_to_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def draw(name: str, folder: Path) -> dict[str, str]:
    """Write the task's picture: of a driver on the way, or after some forty steps of this and that."""
    task, file = get_task(name), folder / f"{name}.png"
    try:
        env = make_env(name, render=True)
        if task.suite == "metadrive":
            suite = load_suite(task.suite)
            env.reset(seed=0, options=dict(zip(suite.DRIVER_OPTIONS, (2.4, 17.0, 0), strict=True)))
            for _ in range(135):
                env.step(env.driver_action())
        else:
            env.reset(seed=0)
            rng = np.random.default_rng(0)
            for _ in range(4):
                action = rng.uniform(-0.6, 0.6, task.action_size)
                for _ in range(10):
                    env.step(action)
        Image.fromarray(env.render()).save(file)
        env.close()
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {error}"}
    return {"file": str(file)}


if __name__ == "__main__":
    main()
