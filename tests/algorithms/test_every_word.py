"""Every method trains from the shell: on the demo, on a log without next observations, in a grid."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from quick import quick

from safetrax.algorithms.registry import ALGORITHMS
from safetrax.cli.main import main
from safetrax.data import load
from safetrax.data.formats.tables import to_pandas
from safetrax.data.trajectories import SAFE, UNKNOWN, UNSAFE, Trajectories
from safetrax.envs.pool import EnvPool
from safetrax.evaluation import rollout
from safetrax.grid import local
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.job import perform
from safetrax.runs import read_job
from safetrax.training.program import Program

# of every setting that makes a training long or a network large
SMALL = {
    **dict.fromkeys(("updates", "pretrain_updates", "critic_updates", "blocks", "candidates", "diffusion_steps"), 2),
    **dict.fromkeys(("hidden", "cvae_hidden", "width", "latent", "samples", "mmd_samples"), 4),
    "heads": 2,
    **dict.fromkeys(("signal_updates", "diffusion_updates", "discriminator_updates", "correction_updates"), 2),
    **dict.fromkeys(("discriminator_units", "discriminator_batch_size", "correction_batch_size"), 8),
    **dict.fromkeys(("batch_size", "policy_batch_size", "critic_batch_size", "unsafe_batch_size"), 8),
    **dict.fromkeys(("signal_batch_size", "diffusion_batch_size", "denoiser_width", "generated_transitions"), 8),
}

# in a grid: one policy a run, several, a memory, stages that generate data, a registered word of the same class
SOME = ("trac", "trac-conditioned", "lspc", "cdt", "dspo", "bc-safe", "bc-risky")

FEW = ("trac-conditioned", "cdt", "bc-safe", "bc-risky")

every_word = pytest.mark.parametrize("word", ALGORITHMS)


def small(word: str) -> dict[str, int]:
    """The settings of `SMALL` that the word takes."""
    names = {entry.name for entry in fields(ALGORITHMS[word].load())}
    return {name: value for name, value in SMALL.items() if name in names}


@pytest.fixture(params=["traced", pytest.param("compiled", marks=pytest.mark.slow)], autouse=True)
def quickly(request):
    """Compiling takes most of the time; what is wrong with the data is found before, when the update is traced."""
    with quick() as patch:
        first, last = (lambda place: place < 10), (lambda place: place >= place.size - 10)
        patch.setattr(  # for words that learn from labels
            Trajectories,
            "marks",
            property(
                lambda data: np.select(
                    [first(np.arange(data.num_episodes)), last(np.arange(data.num_episodes))], [SAFE, UNSAFE], UNKNOWN
                )
            ),
        )
        if request.param == "traced":
            patch.setattr(Program, "advance", lambda self, stage, carry, *_: carry)
        yield patch


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The demo as a table, which names no task."""
    path = tmp_path_factory.mktemp("log") / "plant.csv"
    data = load("demo")
    assert data.next_observations is None
    to_pandas(data).to_csv(path, index=False)
    return path


def train(word: str, data: str, out) -> int:
    flags = [part for name, value in small(word).items() for part in (f"--{name.replace('_', '-')}", str(value))]
    words = ["train", word, "--data", data, "--cost-limits", "40", "--out", str(out), "--no-evaluate", *flags]
    return main([*words, "--log-every", "1"])


def trains(word: str, data: str, out: Path) -> None:
    assert train(word, data, out) == 0
    assert list((out / "policies").iterdir())
    assert (out / "curves.png").stat().st_size > 10_000


@every_word
def test_on_the_demo(word, tmp_path):
    trains(word, "demo", tmp_path / "demo")


@pytest.mark.parametrize(
    "word",
    # no task is known: no preset, and observations are standardised, which only some methods do to known tasks
    [word if word in ("trac", "iql") else pytest.param(word, marks=pytest.mark.slow) for word in ALGORITHMS],
)
def test_on_a_table(word, log, tmp_path):
    trains(word, str(log), tmp_path / "log")


@pytest.mark.parametrize(
    "chosen", [FEW, pytest.param(SOME, marks=pytest.mark.slow)], ids=["some kinds", "every kind"]
)
def test_in_a_grid(chosen, tmp_path, quickly):
    pytest.importorskip("bullet_safety_gym", reason="the demo is played in Bullet-Safety-Gym")

    def here(folder, jobs, places, *, report):  # processes of their own would each import JAX
        for job in jobs:
            perform(job, folder)

    settings = [f"{word}.{name}={value}" for word in chosen for name, value in small(word).items()]
    settings = [text.replace("hidden=4", "hidden=[4]") if ".hidden=" in text else text for text in settings]
    words = ["--algorithms", *chosen, "--tasks", "BallRun", "--data", "demo", "--out", str(tmp_path / "b")]
    limits = ["--cost-limits", "40", "--seeds", "0", "--episodes", "1"]
    quickly.setattr(local, "run_locally", here)
    evaluate = rollout.evaluate
    with EnvPool("BallRun") as pool:
        quickly.setattr(rollout, "evaluate", lambda *args, workers, **more: evaluate(*args, pool=pool, **more))
        assert main(["benchmark", *words, *limits, "--set", *settings]) == 0
    folder = BenchmarkFolder.open(tmp_path / "b")
    assert all(read_job(folder, state.job).rows for state in folder.states())
