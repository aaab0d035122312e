"""The C program of docs/export.md acts as the policy does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

import safetrax as st
from safetrax.algorithms.base import Spec

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
HOME = Path(os.environ.get("ONNXRUNTIME", "/usr"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(
    not (HOME / "include" / "onnxruntime_c_api.h").is_file(),
    reason="no onnxruntime for C; ONNXRUNTIME names the folder of its include and lib",
)
def test_the_program_of_the_docs(tmp_path):
    log = st.load("demo").select(range(4))
    algorithm = st.TraC(hidden=(16,))
    actor = algorithm.actor(algorithm.init(jax.random.key(0), Spec.of(log)))
    policy = st.Policy(actor, st.RunId("TraC", "BallRun", 20.0, 0))
    file = st.export(policy, tmp_path / "policy.onnx", log).path
    (program,) = re.findall(r"```c\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "policy.c").write_text(program)
    library = HOME / "lib"
    words = [f"-I{HOME / 'include'}", "-Wall", "-Werror", "policy.c", f"-L{library}", "-lonnxruntime", "-o", "policy"]
    subprocess.run(["cc", *words], cwd=tmp_path, check=True)
    rows = log.observations[:50]
    answer = subprocess.run(
        ["./policy", str(file), str(log.observation_size), str(log.action_size)],
        input="\n".join(" ".join(f"{x:.9g}" for x in row) for row in rows),
        env={**os.environ, "LD_LIBRARY_PATH": str(library)},
        cwd=tmp_path,
        check=True,
        text=True,
        capture_output=True,
    ).stdout
    actions = np.array([line.split() for line in answer.splitlines()], float)
    np.testing.assert_allclose(actions, policy.act(rows), atol=1e-5)
