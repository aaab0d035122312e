"""The three ways into the library, command by command as their pages have them, each in an empty folder.

SAFETRAX_WHEEL=dist/safetrax-X.whl tries each in an environment of its own, made by the page's own pip commands.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import safetrax as st

DOCS = Path(__file__).parent.parent / "docs"
WHEEL = os.environ.get("SAFETRAX_WHEEL")

# Flags that make the commands of a page short; the text is the page's.
SHORT = {
    "safetrax train trac": "--updates 100 --pretrain-updates 100 --evaluation-episodes 1",
    "safetrax train bc-safe": "--updates 100 --evaluation-episodes 1",
    "safetrax certify": "--steps 20000 --features 50 --resamples 10 --model-updates 50",
    "safetrax collect": "--agents 1 --episodes 120 --steps 8000",
    "safetrax benchmark --algorithms": "--data demo --cost-limits 20 --seeds 0 --episodes 1 --set trac.updates=20 "
    "trac.pretrain_updates=20 bc-safe.updates=20 lspc.updates=20",
    "safetrax report": "--no-figures",
}
# What the reader has, and what is called so here.
MEANT = {"FILE": "my_package%3AMyEnv-v0-collected.hdf5", "--tasks bullet": "--tasks BallRun"}
NEEDS_THE_NET = ("safetrax download",)

MY_PACKAGE = '''
import gymnasium
import numpy as np


class MyEnv(gymnasium.Env):
    """An action earns its size, and costs 1 where it and what is seen add up to more than 0."""

    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1.5, 1.5, 1).astype(np.float32)
        return self.place, {}

    def step(self, action):
        return self.place, float(action[0]), False, False, {"cost": float(action[0] + self.place[0] > 0)}


gymnasium.register("MyEnv-v0", MyEnv, max_episode_steps=40)
'''


def commands(page: str) -> list[str]:
    """The lines of its blocks of shell commands, without remarks."""
    blocks = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("safetrax ", "pip "))]


def as_meant(command: str) -> str:
    for word, meant in MEANT.items():
        command = re.sub(rf"{word}(?!\w)", meant, command)
    extra = next((flags for start, flags in SHORT.items() if command.startswith(start)), "")
    return f"{command} {extra}".strip()


def tools(folder: Path) -> Path:
    """A folder with `safetrax`: this one, or, where a wheel is given, a fresh environment's for pip to fill."""
    if WHEEL:
        venv.create(folder / "venv", with_pip=True)
        return folder / "venv" / "bin"
    (folder / "bin").mkdir()
    script = folder / "bin" / "safetrax"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m safetrax "$@"\n')
    script.chmod(0o755)
    return script.parent


@pytest.mark.slow
@pytest.mark.parametrize("page", ["from-a-log.md", "from-an-environment.md", "from-a-benchmark.md"])
def test_a_way_can_be_walked(page: str, tmp_path: Path):
    place, source = tmp_path / "empty", str(Path(st.__file__).parents[1])
    place.mkdir()
    found = commands(page)
    assert len(found) > 3
    if page == "from-a-log.md":
        st.to_pandas(st.load("demo")).to_csv(place / "tank.csv", index=False)
    elif page == "from-an-environment.md":
        (place / "my_package.py").write_text(MY_PACKAGE)
    elif not WHEEL:
        pytest.importorskip("bullet_safety_gym")
    path = os.pathsep.join([str(tools(tmp_path)), os.environ["PATH"]])
    seen = os.pathsep.join([str(place), *([] if WHEEL else [source])])
    if WHEEL and not any(command.startswith("pip ") for command in found):  # the page takes it for granted
        found = ['pip install "safetrax[bullet,gymnasium]"', *found]
    for command in found:
        if command.startswith(NEEDS_THE_NET) or (command.startswith("pip ") and not WHEEL):
            continue
        line = as_meant(command).replace('"safetrax[', f'"{Path(WHEEL or "safetrax").resolve()}[')
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=place,
            env={**os.environ, "PATH": path, "PYTHONPATH": seen},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
    made = {
        "from-a-log.md": "runs/trac/monitors",
        "from-an-environment.md": "runs/mine/certificates.json",
        "from-a-benchmark.md": "report.html",
    }
    assert (place / made[page]).exists()
