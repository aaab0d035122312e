"""What an algorithm can tell the training loop about itself: its policies, the limits it needs, what went wrong."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from safetrax import data
from safetrax.algorithms import BC, Stage
from safetrax.algorithms.base import Variant, keep_state
from safetrax.algorithms.diagnosis import LASTING, diverges, lasts
from safetrax.errors import ConfigError, SafeTraXWarning
from safetrax.policies.actor import Actor
from safetrax.run_id import RunId
from safetrax.training import train as module
from safetrax.training.plan import Plan
from safetrax.training.program import Program
from safetrax.training.train import TrainingInterruptedError, train

# Signs in logged means


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0] * LASTING, True),
        ([0.0] * (LASTING - 1), False),
        ([5.0] + [0.0] * LASTING, True),  # what was before does not count
        ([0.0] * LASTING + [5.0], False),
        ([], False),
    ],
)
def test_a_sign_lasts_when_each_of_the_last_means_shows_it(values, expected):
    assert lasts({"policy_gradient": values}, "policy_gradient", lambda value: value == 0) is expected
    assert lasts({"policy_gradient": values}, "another", lambda value: value == 0) is False


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], True),
        ([2, 3, 4, 5, 6], False),  # five means grow four times
        ([1, 2, 3, 3, 5, 6], False),
        ([9, 1, 2, 3, 4, 5, 6], True),
        ([1, 2, 3, 4, 5, 5.5], False),  # not above 5.5
        ([6, 5, 4, 3, 2, 1], False),
        ([1, 2, 3, np.nan, 5, 6], False),
    ],
)
def test_a_metric_diverges_that_grows_all_the_time_beyond_a_bound(values, expected):
    assert diverges({"multiplier": values}, "multiplier", above=5.5) is expected
    assert diverges({"multiplier": values}, "another", above=5.5) is False


# Variants


class LimitedActor(Actor):
    """Its two adjustable numbers are its action; one is trained, as it were."""

    seed: jnp.ndarray
    bias: jnp.ndarray
    cost_limit: jnp.ndarray

    @property
    def adjustable(self):
        return {"bias": (0.0, 1.0), "cost_limit": (0.0, 100.0)}


def actors(count: int) -> LimitedActor:
    """Stacked, one per run; `seed` is the number of the run."""
    return LimitedActor(jnp.arange(count, dtype=jnp.float32), jnp.zeros(count), jnp.zeros(count))


@dataclass(frozen=True)
class TwoNames(BC):
    """One training, two policies: at the limits of the runs."""

    def variants(self, cost_limits: Sequence[float]) -> tuple[Variant, ...]:
        return Variant("Timid"), Variant("Bold", adjustments={"bias": 0.5})


@dataclass(frozen=True)
class PerLimit(BC):
    """One training, one policy per limit, which is not that of a run."""

    @property
    def needs_cost_limits(self) -> bool:
        return True

    def variants(self, cost_limits: Sequence[float]) -> tuple[Variant, ...]:
        return tuple(Variant("PerLimit", limit, {"cost_limit": limit}) for limit in cost_limits)


def test_every_variant_of_every_run_is_a_policy(toy):
    algorithm = TwoNames(mode="safe")
    plan = Plan.make(algorithm, toy, (2.0, 3.0), (0, 7), None)
    assert {run.algorithm for run in plan.ids} == {"BC-Safe"}
    policies = plan.policies(algorithm, actors(4), {"note": "x"})
    assert policies.ids == tuple(
        RunId(name, None, limit, seed) for name in ("Timid", "Bold") for limit in (2.0, 3.0) for seed in (0, 7)
    )
    assert policies.actor.seed.tolist() == [0, 1, 2, 3] * 2
    assert policies.actor.bias.tolist() == [0.0] * 4 + [0.5] * 4
    assert policies[0].metadata == {"note": "x"}


def test_variants_may_be_for_limits_that_training_ignores(toy):
    algorithm = PerLimit()
    plan = Plan.make(algorithm, toy, (2.0, 3.0), (0, 7), None)
    assert [(run.cost_limit, run.seed) for run in plan.ids] == [(None, 0), (None, 7)]
    policies = plan.policies(algorithm, actors(2))
    assert [(run.cost_limit, run.seed) for run in policies.ids] == [(2.0, 0), (2.0, 7), (3.0, 0), (3.0, 7)]
    assert policies.actor.cost_limit.tolist() == [2.0, 2.0, 3.0, 3.0]
    assert policies.actor.seed.tolist() == [0, 1, 0, 1]


def test_a_method_without_variants_gives_its_runs(toy):
    plan = Plan.make(BC(), toy, (2.0,), (0, 7), None)
    policies = plan.policies(BC(), actors(2))
    assert policies.ids == plan.ids
    assert policies.actor.bias.tolist() == [0.0, 0.0]


def test_limits_are_asked_for_where_they_are_needed(toy):
    assert Plan.make(BC(), toy, None, (0,), None).cost_limits == ()
    with pytest.raises(ConfigError, match="BC-All needs cost limits, and no task names them"):
        Plan.make(PerLimit(), toy, None, (0,), None)
    with pytest.raises(ConfigError, match="cost_limits is empty"):
        Plan.make(PerLimit(), toy, (), (0,), None)
    demo = data.load("demo").select(np.arange(0, 300, 10))
    assert Plan.make(PerLimit(), demo, None, (0,), None).cost_limits == (10.0, 20.0, 40.0)


def test_variants_are_saved_under_their_own_names(toy, run_folder):
    algorithm = BC(mode="conditioned", hidden=(4,), updates=1, batch_size=4)
    run = train(algorithm, toy, cost_limits=(2.0, 3.0), out=run_folder)
    names = ["BC-Conditioned_limit-2_seed-0", "BC-Conditioned_limit-3_seed-0"]
    assert [str(i) for i in run.ids] == names
    assert sorted(file.stem for file in run.folder.policies_folder.iterdir()) == names
    assert run.folder.load_policies().ids == run.ids
    assert {row.algorithm for row in run.metrics} == {"BC-Conditioned"}


# Diagnoses

SENTENCE = "three means are known; stop it."


@dataclass(frozen=True)
class Watched(BC):
    """Clones in two stages; from the third mean of the second on says two things, one of them each time anew."""

    seen: ClassVar[list[tuple[str, int]]] = []
    settles: int = 0

    def stages(self):
        def second(*arguments):
            state, metrics = self._update(*arguments)
            return state, {"second": metrics["loss"]}

        return Stage("first", 4, keep_state, self._update), Stage("second", 5, keep_state, second, self.settles)

    def diagnose(self, history):
        ((metric, means),) = history.items()
        self.seen.append((metric, len(means)))
        enough = metric == "second" and len(means) >= 3
        return (SENTENCE, f"{len(means)} means are known.") if enough else ()


EXPECTED = Counter(
    f"BC-All_seed-{seed}: {text}"
    for seed in (0, 1)
    for text in (SENTENCE, *(f"{count} means are known." for count in (3, 4, 5)))
)
same_program = functools.cache(Program)  # compiled once


@pytest.fixture
def watched(toy, monkeypatch):
    """Train two runs; the sentences that were warned of."""
    monkeypatch.setattr(module, "Program", same_program)
    Watched.seen.clear()

    def go(settles: int = 0, **settings: Any) -> Counter[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with contextlib.suppress(TrainingInterruptedError):
                train(Watched(hidden=(4,), batch_size=4, settles=settles), toy, seeds=(0, 1), log_every=1, **settings)
        return Counter(str(entry.message) for entry in caught if issubclass(entry.category, SafeTraXWarning))

    return go


def test_a_sentence_is_said_once_of_every_run(watched):
    assert watched() == EXPECTED
    logs = [("loss", count) for count in range(1, 5)] + [("second", count) for count in range(1, 6)]
    assert Watched.seen == [log for log in logs for _ in (0, 1)]  # each stage has a history of its own


@pytest.mark.parametrize(("settles", "counts"), [(4, [4, 5]), (5, [5]), (9, [5])])
def test_a_stage_is_diagnosed_when_it_has_settled_or_ends(watched, settles, counts):
    said = watched(settles=settles)
    assert {text for text in said if "seed-0" in text} == {
        f"BC-All_seed-0: {text}" for text in (SENTENCE, *(f"{count} means are known." for count in counts))
    }
    assert [count for metric, count in Watched.seen if metric == "second"] == [n for n in counts for _ in (0, 1)]


def test_a_resumed_run_is_diagnosed_with_what_was_logged_before(watched, run_folder, monkeypatch):
    class Signals:
        """Stops after two updates of the second stage."""

        looks = 0

        @property
        def requested(self) -> bool:
            Signals.looks += 1
            return Signals.looks == 6

    monkeypatch.setattr(module, "catch_signals", lambda: contextlib.nullcontext(Signals()))
    assert not watched(out=run_folder)
    Watched.seen.clear()
    assert watched(out=run_folder, resume=True) == EXPECTED
    assert Watched.seen == [("second", count) for count in (3, 4, 5) for _ in (0, 1)]
