"""Everything that algorithms of other kinds need, through the same loop as the library's own.

Those are in tests/algorithms/test_every_algorithm.py.
"""

import contextlib
import functools
from typing import ClassVar

import jax
import numpy as np
import pytest
from miniatures import ALL

from safetrax import data
from safetrax.algorithms import BC
from safetrax.data.trajectories import Trajectories
from safetrax.evaluation.episodes import read_episodes
from safetrax.evaluation.rollout import evaluate
from safetrax.policies.policy import Policy
from safetrax.progress import Reporter
from safetrax.training import train as module
from safetrax.training.program import Program
from safetrax.training.train import train

PROGRAM = functools.cache(Program)

each = pytest.mark.parametrize("algorithm", ALL, ids=[algorithm.name for algorithm in ALL])


@pytest.fixture(scope="session")
def ball_run() -> Trajectories:
    """Part of the demo data, with next observations."""
    part = data.load("demo").select(np.arange(0, 300, 10))
    following = np.concatenate([part.observations[1:], part.observations[-1:]])
    following[part.truncated] = part.observations[part.truncated]  # what follows an episode's last row is not logged
    columns = {name: getattr(part, name) for name in ("observations", "actions", "rewards", "costs", "truncated")}
    return Trajectories.from_arrays(
        **columns, terminated=part.terminated, next_observations=following, info={"task": "BallRun"}
    )


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Trainings of one algorithm and as many runs share a program."""
    monkeypatch.setattr(module, "Program", PROGRAM)


def leaves(run) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.policies.actor)]


@pytest.mark.parametrize(
    "algorithm",
    # the other two repeat what the library's own algorithms are put through
    [pytest.param(one, marks=() if one.name == "ThreeStages" else pytest.mark.slow, id=one.name) for one in ALL],
)
def test_trains_checkpoints_resumes_saves_and_evaluates(algorithm, ball_run, run_folder):
    settings = {"cost_limits": (20, 40), "seeds": (0, 1), "log_every": 3}
    plain = train(algorithm, ball_run, **settings)
    assert len(plain.policies) == (4 if algorithm.uses_cost_limit else 2)

    # stop after the first look at the clock, then at every one: each part of the run is resumed
    stops = 0
    while True:
        stopped = interrupt_at_once(algorithm, ball_run, run_folder, settings, resume=stops > 0)
        if stopped is not None:
            break
        stops += 1
    assert stops >= len(algorithm.stages())
    for a, b in zip(leaves(plain), leaves(stopped), strict=True):
        np.testing.assert_array_equal(a, b)
    assert stopped.metrics == plain.metrics

    files = sorted((run_folder / "policies").iterdir())
    assert len(files) == len(plain.policies)
    restored = [Policy.load(file) for file in files]
    observation = ball_run.observations[:1]
    for policy in restored:
        twin = next(p for p in plain.policies if p.id == policy.id)
        np.testing.assert_array_equal(policy.act(observation), twin.act(observation))

    result = evaluate(plain.policies, "BallRun", episodes=1)
    assert len(result.rows) == len(plain.policies)
    assert all(row.length == 100 for row in result.rows)


def interrupt_at_once(algorithm, trajectories, folder, settings, *, resume):
    """Train until the first chunk is done; None if that was not the end."""

    class StopSoon:
        looks = 0

        @property
        def requested(self) -> bool:
            StopSoon.looks += 1
            return StopSoon.looks > 1

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(module.TrainingInterruptedError):
        patch.setattr(module, "catch_signals", lambda: contextlib.nullcontext(StopSoon()))
        return train(algorithm, trajectories, **settings, out=folder, resume=resume)
    return None


@pytest.mark.slow  # tests/algorithms/test_every_algorithm.py has it for every algorithm
@each
def test_runs_side_by_side_equal_runs_alone(algorithm, ball_run):
    together = train(algorithm, ball_run, cost_limits=(20, 40), seeds=(0, 1), batching="map")
    alone = train(algorithm, ball_run, cost_limits=(40,), seeds=(1,), batching="map")
    last = jax.tree.map(lambda leaf: leaf[-1], together.policies.actor)
    for a, b in zip(jax.tree.leaves(last), leaves(alone), strict=True):
        np.testing.assert_array_equal(a, b[0])


@pytest.mark.slow
@each
def test_vmapped_runs_equal_mapped_ones_up_to_rounding(algorithm, ball_run):
    settings = {"cost_limits": (20, 40), "seeds": (0, 1)}
    mapped = train(algorithm, ball_run, **settings, batching="map")
    vmapped = train(algorithm, ball_run, **settings, batching="vmap")
    for a, b in zip(leaves(mapped), leaves(vmapped), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_progress_tells_the_first_loss_since_the_last_row_of_metrics(ball_run):
    class Heard(Reporter):
        words: ClassVar[dict[int, str]] = {}

        def advance(self, stage, done):
            self.words[done] = stage

    run = train(BC(updates=4), ball_run, seeds=(0, 1), log_every=2, progress=Heard())
    for update in (2, 4):
        losses = [row.value for row in run.metrics if row.update == update and row.metric == "loss"]
        assert Heard.words[update] == f"{run.metrics[0].stage}, loss {np.mean(losses):.3g}"


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32", "bfloat16"])
def test_products_have_the_precision_that_was_asked_for(ball_run, precision):
    seen = set()

    class Watched(BC):
        def _update(self, state, store, index, key):
            seen.add(jax.config.jax_default_matmul_precision)
            return super()._update(state, store, index, key)

    train(Watched(hidden=(4,), updates=1, batch_size=4), ball_run, precision=precision)
    assert seen - {None} == {precision}  # None: where only shapes were asked for


def test_evaluations_while_training_are_rows_that_a_resume_does_not_repeat(ball_run, run_folder):
    algorithm = BC(hidden=(8,), updates=4, batch_size=8)
    settings = {"seeds": (0, 1), "evaluate_every": 2, "evaluation_episodes": 1}
    plain = train(algorithm, ball_run, **settings)
    assert [(row.step, row.seed) for row in plain.episodes] == [(2, 0), (2, 1), (4, 0), (4, 1)]
    assert interrupt_at_once(algorithm, ball_run, run_folder, settings, resume=False) is None
    with (run_folder / "episodes.csv").open("a") as file:  # as if killed while an evaluation was written
        file.write(",".join(map(str, (["BC-All", "BallRun", "", 0, 4, 0, 0, 1.0, 0.0, 100]))) + "\nBC-All,Ball")
    stopped = train(algorithm, ball_run, **settings, out=run_folder, resume=True)
    assert stopped.episodes == plain.episodes
    assert tuple(read_episodes(run_folder / "episodes.csv")) == plain.episodes
