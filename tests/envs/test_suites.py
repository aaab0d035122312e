"""The registry hides no suite behind another, imports nothing early, and speaks in sentences."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from safetrax.envs import make_env, suite_status, suites
from safetrax.envs.silence import silenced
from safetrax.errors import SimulatorError


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_importing_envs_imports_no_simulator_and_no_jax():
    code = (
        "import sys, safetrax.envs; print([m for m in ('jax', 'pybullet', 'bullet_safety_gym') if m in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


def test_a_missing_simulator_is_one_sentence():
    code = (
        "import sys; sys.modules['pybullet'] = None\n"
        "from safetrax.envs import make_env\n"
        "try: make_env('BallRun')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    answer = run_python(code).stdout.strip()
    assert answer.startswith("SimulatorError")
    assert answer.endswith(f"; {suites.SUITES['bullet'].remedy}.")
    assert "\n" not in answer


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ((3, 11, 9), 'pip install "safetrax[bullet]"'),
        (
            (3, 13, 0),
            'it has no builds for Python 3.13, so install it in a Python 3.11 (pip install "safetrax[bullet]"), and '
            "evaluate with --simulator-python PATH, that Python's",
        ),
    ],
)
def test_the_remedy_is_one_for_this_python(python, said, monkeypatch):
    monkeypatch.setattr(suites, "sys", SimpleNamespace(version_info=python))
    assert suites.SUITES["bullet"].remedy == said
    assert suites.SUITES["metadrive"].remedy.startswith("pip install")


def test_making_an_environment_prints_nothing():
    pytest.importorskip("bullet_safety_gym")
    done = run_python("from safetrax.envs import make_env; make_env('BallRun').reset(seed=0)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unsupported_suite(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(suites.SUITES, "metadrive")
    with pytest.raises(SimulatorError, match="not supported by this version"):
        make_env("easysparse")


def test_one_broken_suite_hides_no_other(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("bullet_safety_gym")
    broken = suites.Suite("safetrax.no_such_module", "pip install something")
    monkeypatch.setattr(suites, "SUITES", {"broken": broken, **suites.SUITES})
    status = {suite: (usable, detail) for suite, usable, detail in suite_status()}
    assert status["bullet"][0]
    assert "pybullet" in status["bullet"][1]
    assert not status["broken"][0]
    assert "pip install something" in status["broken"][1]


def test_silence_reaches_c_and_ends(capfd: pytest.CaptureFixture[str]):
    libc = ctypes.CDLL(None)
    with silenced():
        print("from Python")
        libc.puts(b"from C")
        os.write(2, b"straight to stderr")
    print("after")
    libc.fflush(None)
    assert capfd.readouterr() == ("after\n", "")


def test_silence_ends_after_an_error():
    stream = sys.stdout
    with pytest.raises(ZeroDivisionError), silenced():
        _ = 1 / 0
    assert sys.stdout is stream
