"""Asking a Python process of its own, because a broken native library may end the process that imports it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from safetrax.envs.suites import SUITES

_SUITE = """
import json, sys
from safetrax.envs.suites import status_of
print(json.dumps(status_of(%r, probe=%r)))
"""


def ask_suites(names: Iterable[str], *, probe: bool = False) -> list[tuple[str, bool, str]]:
    """One `(suite, usable, versions or remedy)` for each suite, from a process of its own: none can hide another.

    Args:
        names: of the suites.
        probe: also build an environment and reset it; else the simulator is only imported.
    """
    names = tuple(names)
    with ThreadPoolExecutor(len(names) or 1) as pool:
        answers = pool.map(lambda name: ask(_SUITE % (name, probe)), names)
        return [
            (name, False, f"the {name} simulator {fault}; {SUITES[name].remedy}.") if fault else (name, *answer[1:])
            for name, (answer, fault) in zip(names, answers, strict=True)
        ]


def ask(code: str, seconds: float = 120) -> tuple[Any, str]:
    """The JSON that the last line of a Python program's output is, or its fault.

    Args:
        code: the program.
        seconds: that it may take.

    Returns:
        The answer and "", or None and what went wrong, in a few words.
    """
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, f"does not answer within {seconds:g} s"
    if done.returncode < 0:
        return None, f"crashed with signal {-done.returncode}"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode or not lines:
        return None, lines[-1] if lines else f"ended with code {done.returncode}"
    try:
        return json.loads(lines[-1]), ""
    except json.JSONDecodeError:
        return None, f"gave an unexpected answer: {lines[-1]}"
