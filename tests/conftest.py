"""Shared by all tests: shapes and types of the library are checked at run time."""

from __future__ import annotations

import atexit
import importlib.util
import mmap
import os
import re
import shutil
import tempfile
from pathlib import Path

from jaxtyping import install_import_hook

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling takes most of the time, a third of that for what makes long runs fast: make test-all has it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
_EMITTERS = "xla_cpu_use_fusion_emitters"  # what they emit takes two fifths of the time to compile
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and _EMITTERS not in os.environ.get("XLA_FLAGS", ""):
    _JAXLIB = importlib.util.find_spec("jaxlib")
    _LIBRARY = Path(str(_JAXLIB and _JAXLIB.origin)).with_name("libjax_common.so")
    if _LIBRARY.is_file():  # a flag that it does not know would end the process
        with _LIBRARY.open("rb") as _file, mmap.mmap(_file.fileno(), 0, access=mmap.ACCESS_READ) as _code:
            if _code.find(_EMITTERS.encode()) >= 0:
                os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{_EMITTERS}=false".strip()
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # many tests compile the same program: half of the suite's time
    _COMPILED = tempfile.mkdtemp(prefix="safetrax-tests-")
    atexit.register(shutil.rmtree, _COMPILED, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
install_import_hook("safetrax", "typecheck.checked").__enter__()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from safetrax.data.trajectories import Trajectories  # noqa: E402

hypothesis.settings.register_profile("safetrax", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("safetrax")


def toy_episodes(
    lengths: list[int], *, seed: int = 0, observation_size: int = 3, action_size: int = 2
) -> Trajectories:
    """Random episodes with costs of zero and one; every episode's cost rate is its own."""
    rng = np.random.default_rng(seed)
    return Trajectories.from_episodes(
        {
            "observations": rng.standard_normal((n, observation_size)),
            "actions": rng.uniform(-1, 1, (n, action_size)),
            "rewards": rng.uniform(0, 1, n),
            "costs": rng.binomial(1, rng.uniform(0, 0.6), n),
        }
        for n in lengths
    )


_MISSING = re.compile(r"the \w+ simulator cannot be imported \(No module named '\w+'\)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A test that fails for want of a simulator is skipped, with what the library said of it."""
    report = yield
    said = "\n".join([report.longreprtext, *(text for _, text in report.sections)])
    if report.failed and (missing := _MISSING.search(said)):
        report.outcome, report.longrepr = "skipped", (str(item.path), item.location[1], f"Skipped: {missing[0]}")
    return report


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs():
    """Loaded programs of a whole suite would fill several gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def toy() -> Trajectories:
    """Thirty episodes of ten steps."""
    return toy_episodes([10] * 30)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "run"
