"""docs/export.md, "Parity": every algorithm's policy, exported, against itself on 10,000 logged observations.

    python studies/parity.py LOG

Policies are of published size, with the weights that training begins with. One line each: the greatest difference in
halves of the action range, bytes of the file, and microseconds of a call with one observation in `Policy.act`, in the
runtime, and in onnxruntime itself.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np

import safetrax as st
from safetrax.algorithms.base import Spec
from safetrax.algorithms.registry import classes
from safetrax.exporting import export as exporting
from safetrax.runtime import OBSERVATIONS, Runtime

exporting._EPISODES, exporting._STEPS = 50, 200  # 10,000 actions


def microseconds(call: Callable[[], object], most: float = 2.0) -> float:
    """The median of calls, for at most so many seconds."""
    call()
    spent: list[float] = []
    while len(spent) < 500 and sum(spent) < most:
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return 1e6 * float(np.median(spent))


def main(log: str) -> None:
    data = st.load(log)
    print("| algorithm | difference | bytes | `Policy.act`, µs | runtime, µs | onnxruntime, µs |")
    for name, algorithm_class in classes().items():
        limits = {"limits": (10.0, 80.0)} if name == "TraCConditioned" else {}
        algorithm = algorithm_class(**limits).resolved(data)
        actor = algorithm.actor(algorithm.init(jax.random.key(0), Spec.of(data)))
        policy = st.Policy(actor, st.RunId(name, "BallCircle", 20.0, 0))
        with tempfile.TemporaryDirectory() as folder:
            found = st.export(policy, Path(folder) / "policy.onnx", data, tolerance=1e-2)
            size, runtime = found.path.stat().st_size, Runtime(found.path)
        row = data.observations[0]
        policy.reset()
        runtime.reset()
        feed = {OBSERVATIONS: row[None], **dict(zip(runtime._noise, runtime.draw(), strict=True))}
        feed |= {**runtime._state, **(runtime._answers if runtime._memory else {})}
        calls = (
            partial(policy.act, row),
            partial(runtime.act, row),
            partial(runtime._session.run, runtime._outputs, feed),
        )
        spent = " | ".join(f"{microseconds(call):,.0f}" for call in calls)
        print(f"| {name} | {found.difference:.1e} | {size:,} | {spent} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
