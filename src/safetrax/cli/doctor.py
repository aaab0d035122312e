"""`safetrax doctor`: what is installed, what works, and how to mend what does not."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from rich.table import Column
from rich.text import Text

from safetrax._version import __version__
from safetrax.cli.console import plain_table, say
from safetrax.cli.parsing import parse
from safetrax.envs.suites import SUITES
from safetrax.errors import SafeTraXError

_PROG = "safetrax doctor"
_PACKAGES = ("jaxlib", "equinox", "optax", "numpy", "h5py", "safetensors", "altair")
_OPTIONAL = {"minari": "minari", "pandas": "pandas", "tensorboardX": "tensorboard", "wandb": "wandb"}

# Run in processes of their own, because a broken native library may end the process that imports it.
_SUITE = """
import json, sys
from safetrax.envs.suites import status_of
print(json.dumps(status_of(%r, probe=%r)))
"""
_JAX = """
import json, time
start = time.perf_counter()
import jax, equinox, optax, safetensors
devices = jax.devices()
jax.block_until_ready(jax.jit(lambda x: x @ x)(jax.numpy.ones((8, 8))))
kinds = [d.device_kind if d.platform != "cpu" else "cpu" for d in devices]
print(json.dumps([jax.__version__, devices[0].platform, kinds, time.perf_counter() - start]))
"""


@dataclass(frozen=True)
class DoctorOptions:
    """Check what is installed, and say how to install what is not. The exit code is 0 if the core works, else 1."""


class Check(NamedTuple):
    """A line of the report: `detail` is versions or the remedy; the library cannot do without what is `core`."""

    name: str
    ok: bool
    detail: str
    core: bool = False


def run(argv: list[str]) -> int:
    """Examine; the exit code."""
    parse(DoctorOptions, argv, prog=_PROG)
    checks = [*_core(), *(Check(*status) for status in ask_suites(SUITES, probe=True)), *_optional()]
    table = plain_table(f"safetrax {__version__}", *(Column(overflow="fold") for _ in range(3)))
    for check in checks:
        fault = Text("broken", style="bold red") if check.core else Text("missing", style="yellow")
        table.add_row(check.name, Text("ok", style="green") if check.ok else fault, check.detail)
    table.show_header = False
    say(table)
    healthy = all(check.ok for check in checks if check.core)
    say("The core works." if healthy else 'The core is broken: pip install --force-reinstall "safetrax"')
    return 0 if healthy else 1


def _core() -> list[Check]:
    python = f"{platform.python_version()} on {platform.platform(terse=True)}"
    packages = {name: _version(name) for name in _PACKAGES}
    absent = [name for name, found in packages.items() if found is None]
    listed = ", ".join(f"{name} {found}" for name, found in packages.items() if found)
    detail = f"pip install {' '.join(absent)}" if absent else listed
    return [
        Check("python", sys.version_info >= (3, 11), python, core=True),
        Check("packages", not absent, detail, core=True),
        *_jax(),
        _demo(),
    ]


def _jax() -> list[Check]:
    answer, fault = ask(_JAX)
    if fault:
        return [Check("jax", False, f"{fault}; pip install --force-reinstall jax jaxlib", core=True)]
    found, kind, devices, seconds = answer
    checks = [Check("jax", True, f"{found} on {_count(devices)} (starts in {seconds:.1f} s)", core=True)]
    if kind == "cpu" and shutil.which("nvidia-smi"):
        remedy = 'jax sees no GPU, though there is an NVIDIA driver; pip install "safetrax[cuda]"'
        checks.append(Check("gpu", False, remedy))
    return checks


def _demo() -> Check:
    from safetrax.data import load

    try:
        data = load("demo")
    except (SafeTraXError, OSError) as error:
        return Check("demo data", False, f"{error} pip install --force-reinstall safetrax", core=True)
    return Check("demo data", True, f"{data.num_episodes} episodes of {data.info.get('task')}", core=True)


def _optional() -> list[Check]:
    return [
        Check(extra, (found := _version(package)) is not None, found or f'pip install "safetrax[{extra}]"')
        for package, extra in _OPTIONAL.items()
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _count(names: list[str]) -> str:
    """`2 x NVIDIA A100` for two equal names."""
    kinds = dict.fromkeys(names)
    return ", ".join(f"{names.count(k)} x {k}" if names.count(k) > 1 else k for k in kinds)


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
