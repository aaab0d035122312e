"""`safetrax signal`: which episodes a run of DSPO takes for safe."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms.dspo import DSPO
from safetrax.cli.main import main
from safetrax.data import write_hdf5
from safetrax.training import train as training
from safetrax.training.program import Program
from safetrax.training.train import train

TINY = DSPO(
    window=4,
    width=8,
    heads=1,
    signal_updates=2,
    signal_batch_size=4,
    horizon=4,
    denoiser_width=4,
    diffusion_steps=2,
    diffusion_updates=1,
    diffusion_batch_size=4,
    generated_transitions=8,
    hidden=(4,),
    updates=1,
    batch_size=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("signal")
    log = toy_episodes([10] * 12)
    write_hdf5(path / "log.hdf5", log)
    labels = np.repeat([1, 0], [3, 9]).astype(np.int8)
    write_hdf5(path / "bare.hdf5", replace(log, costs=None, labels=labels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Program", functools.cache(Program))  # compiled once
        for seed in (0, 1):
            train(TINY, replace(log, costs=None, labels=labels), out=path / f"run-{seed}", seeds=(seed,))
    return path


def test_two_runs_are_compared_and_drawn(folder, capsys, tmp_path):
    runs = [str(folder / "run-0"), str(folder / "run-1")]
    words = ["--data", str(folder / "log.hdf5"), "--labels", "safe:0,1,2", "--cost-limit", "3"]
    assert main(["signal", *runs, *words, "--figure", str(tmp_path / "signal.png")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    costs = toy_episodes([10] * 12).cost_returns[3:]
    assert f"9 episodes that are not marked safe, {(costs <= 3).sum()} of them within 3" in out
    assert "AUC accuracy recall precision F1 correlation with return" in out
    assert (tmp_path / "signal.png").stat().st_size > 10_000


def test_without_costs_it_counts(folder, capsys, tmp_path):
    words = [str(folder / "run-0"), "--data", str(folder / "bare.hdf5")]
    assert main(["signal", *words]) == 0
    assert "the log has no costs to hold D against" in " ".join(capsys.readouterr().out.split())
    assert main(["signal", *words, "--figure", str(tmp_path / "signal.png")]) == 2
    assert "the figure shows episodes by cost, and the log holds no costs" in capsys.readouterr().err


def test_what_is_refused(folder, capsys):
    assert main(["signal", "--data", "demo"]) == 2
    assert "safetrax signal needs folders of runs of DSPO" in capsys.readouterr().err
    words = ["signal", str(folder / "run-0"), "--data", str(folder / "log.hdf5")]
    assert main(words) == 2
    assert "no task names cost limits for this log; pass --cost-limit." in capsys.readouterr().err
    assert main([*words, "--cost-limit", "3", "--labels", f"safe:{','.join(map(str, range(12)))}"]) == 2
    assert "every episode of the log is marked safe, so there is none to ask about" in capsys.readouterr().err
    assert main(["signal", str(folder), "--data", "demo"]) == 2
    assert "is no run folder" in capsys.readouterr().err
