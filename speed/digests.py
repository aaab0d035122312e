"""Whether a redesign leaves every number as it was: digests of what every algorithm learns, before and after.

    python benchmarks/digests.py before.json            # at the commit before: writes what is learnt there
    python benchmarks/digests.py before.json --compare  # after: a line each, exit code 1 unless all are bitwise equal

A digest is a hash of all arrays of the last checkpoint, whatever they are called and wherever they lie, and of the
policies. Digests belong to one processor, so the file is made anew where the comparison is made. Where the arrays
differ, the largest relative difference of the logged metrics says by how much.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests" / "algorithms"))

from test_every_algorithm import SETTINGS, ball_run

from safetrax.algorithms import Algorithm
from safetrax.algorithms.registry import classes
from safetrax.catalogue import SUITES
from safetrax.errors import ConfigError
from safetrax.training.checkpoint import read_checkpoint
from safetrax.training.run_folder import RunFolder
from safetrax.training.train import train


def trainings() -> Iterator[tuple[str, Algorithm]]:
    """Every class, small: as it is, with every suite's presets, and with each of its switches turned."""
    for name, cls in classes().items():
        base = cls(**{**SETTINGS[name], "standardise": True})
        yield name, base
        yield f"{name} standardise=False", replace(base, standardise=False)
        for suite in SUITES:
            preset = cls.preset(suite, None)
            if preset != cls():
                yield f"{name} {suite}", replace(preset, **{"standardise": True, **SETTINGS[name]})
        hints = get_type_hints(cls)
        for entry in fields(cls):
            current = getattr(base, entry.name)
            if entry.name != "standardise":
                for value in values(hints[entry.name]):
                    if value != current:
                        with suppress(ConfigError):  # where it does not go with the others
                            yield f"{name} {entry.name}={value}", replace(base, **{entry.name: value})


def values(kind: Any) -> tuple[Any, ...]:
    """Those that a switch can have; none for a number."""
    if kind is bool:
        return (False, True)
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(value for part in get_args(kind) for value in values(part))


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Of the arrays as a set: names and order do not count."""
    each = sorted(f"{a.dtype} {a.shape} {hashlib.sha256(a.tobytes()).hexdigest()}" for a in arrays)
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def learnt(algorithm: Algorithm) -> dict[str, Any]:
    """Digests and metrics after a training of two limits and two seeds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = train(
            algorithm, ball_run(), cost_limits=(20.0, 30.0), seeds=(0, 1), log_every=2, batching="map", out=out
        )
        states = read_checkpoint(RunFolder(out).checkpoint_file)[1]
    policies = (np.asarray(leaf) for leaf in jax.tree.leaves(run.policies.actor))
    return {
        "state": digest(states.values()),
        "policies": digest(policies),
        "metrics": [row.value for row in run.metrics],
    }


def difference(before: list[float], now: list[float]) -> str:
    """The largest relative one of two trainings' metrics."""
    a, b = np.array(before), np.array(now)
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return "no comparable amount"
    return f"{np.nanmax(np.abs(a - b) / np.maximum(np.abs(a), 1e-3)):.1e}"


def compared(before: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    """What became of a training; None where there is no such training."""
    if before is None or now is None:
        return "is new" if before is None else "is gone"
    unequal = [part for part in ("state", "policies") if before[part] != now[part]]
    if not unequal:
        return "bitwise equal"
    return f"{' and '.join(unequal)} differ; metrics by {difference(before['metrics'], now['metrics'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where the digests lie")
    parser.add_argument("--compare", action="store_true", help="with the file, instead of writing it")
    parser.add_argument("--only", default="", help="trainings whose name begins so, such as TraC")
    args = parser.parse_args()
    chosen = {name: algorithm for name, algorithm in trainings() if name.startswith(args.only)}
    if not args.compare:
        args.file.write_text(json.dumps({name: learnt(algorithm) for name, algorithm in chosen.items()}))
        return
    known = json.loads(args.file.read_text())
    equal = True
    for name in dict.fromkeys([*chosen, *(name for name in known if name.startswith(args.only))]):
        verdict = compared(known.get(name), learnt(chosen[name]) if name in chosen else None)
        equal = equal and verdict == "bitwise equal"
        print(f"{name}: {verdict}", flush=True)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
