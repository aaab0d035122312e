"""What holds for every algorithm, whatever it does: one line in `SETTINGS` subjects it to all of this."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from quick import new_key, program, quick

from safetrax import data
from safetrax.algorithms import Algorithm, registry
from safetrax.algorithms.base import Spec
from safetrax.algorithms.registry import classes
from safetrax.algorithms.standardisation import Standardiser
from safetrax.catalogue import tasks
from safetrax.cli.train import TrainOptions
from safetrax.data.store import Store
from safetrax.data.trajectories import SAFE, UNKNOWN, Trajectories
from safetrax.errors import ConfigError, DataError, SafeTraXWarning
from safetrax.policies.policy import Policies, Policy
from safetrax.settings import attribute_docs
from safetrax.training.program import Program, stack
from safetrax.training.train import Run, TrainingInterruptedError, train

_SMALL: dict[str, Any] = {"hidden": (16,), "batch_size": 16}
_LAGRANGIAN: dict[str, Any] = {**_SMALL, "updates": 3, "cvae_hidden": 16, "samples": 3}
_DIFFUSION: dict[str, Any] = {
    "hidden": (16,),
    "width": 16,
    "blocks": 1,
    "candidates": 2,
    "diffusion_steps": 2,
    "policy_batch_size": 16,
    "critic_batch_size": 16,
}

_TRANSFORMER: dict[str, Any] = {"width": 16, "blocks": 2, "heads": 2, "batch_size": 16, "updates": 3}
_CORRECTION: dict[str, Any] = {
    "hidden": (16,),
    "discriminator_units": 8,
    "discriminator_updates": 2,
    "discriminator_batch_size": 16,
}

# Of every class, settings that train at once. Each stage needs two updates or more.
SETTINGS: dict[str, dict[str, Any]] = {
    "BC": {**_SMALL, "updates": 3, "mode": "conditioned", "label_source": "costs"},
    "TraC": {**_SMALL, "pretrain_updates": 2, "updates": 3, "segment_ratio": 0.2, "label_source": "costs"},
    "TraCConditioned": {**_SMALL, "pretrain_updates": 2, "updates": 3, "segment_ratio": 0.2, "limits": (10.0, 250.0)},
    "LSPC": {**_SMALL, "updates": 3, "cvae_hidden": 16, "latent": 4},
    "FISOR": {**_DIFFUSION, "updates": 3},
    "BARS": {**_DIFFUSION, "critic_updates": 2, "updates": 4, "unsafe_batch_size": 8},
    "CDT": {**_TRANSFORMER, "context": 4},
    "B2R": _TRANSFORMER,
    "CPQ": {**_LAGRANGIAN, "critics": 1},
    "BCQLag": {**_LAGRANGIAN, "group_size": 1},
    "BEARLag": {**_LAGRANGIAN, "group_size": 1, "mmd_samples": 3, "start_policy_updates": 1},
    "COptiDICE": {**_SMALL, "updates": 3, "critics": 1},
    "CARL": {**_SMALL, "updates": 4},
    "O3SRL": {**_SMALL, "updates": 4, "round_updates": 2},
    "DSPO": {
        **_SMALL,
        **dict.fromkeys(("updates", "signal_updates", "diffusion_updates"), 2),
        **dict.fromkeys(("window", "horizon", "denoiser_width", "signal_batch_size", "diffusion_batch_size"), 4),
        **{"width": 8, "heads": 2, "denoiser_multiples": (1,), "diffusion_steps": 2, "generated_transitions": 16},
    },
    "DWBC": {**_SMALL, "updates": 3, "discriminator_units": 8, "discriminator_every": 2},
    "RGM": {**_SMALL, **_CORRECTION, "updates": 3},
    "CDTV": {
        **_TRANSFORMER,
        **_CORRECTION,
        "blocks": 1,
        "context": 4,
        "correction_updates": 2,
        "correction_batch_size": 16,
    },
    "IQL": {**_SMALL, "updates": 3},
    "TD3BC": {**_SMALL, "updates": 4},
    "CQL": {**_SMALL, "updates": 3, "samples": 3},
}

DOCS = Path(__file__).parents[2] / "docs"
LIMITS, SEEDS = (20.0, 40.0), (0, 1)
OBSERVATIONS = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)

VMAPPED = ("BC", "LSPC", "TraC")  # in the fast suite; side by side everything is compiled once more

every_class = pytest.mark.parametrize("name", classes())


def small(name: str) -> Algorithm:
    """The algorithm with small settings."""
    if name not in SETTINGS:
        pytest.fail(f"{name} is in safetrax.algorithms.CLASSES, but not in SETTINGS of {__file__}; add it there.")
    return classes()[name](**SETTINGS[name], standardise=True)  # as `train` decides for `ball_run`


@functools.cache
def ball_run() -> Trajectories:
    """Thirty episodes of the demo data, some of them labelled, with next observations, as a log of no known task."""
    part = data.load("demo").select(np.arange(0, 300, 10))
    following = np.concatenate([part.observations[1:], part.observations[-1:]])
    following[part.truncated] = part.observations[part.truncated]  # what follows an episode's last row is not logged
    labels = np.where(part.cost_returns <= LIMITS[0], SAFE, UNKNOWN).astype(np.int8)
    return replace(part, next_observations=following, labels=labels, info={})


@dataclass(frozen=True)
class Trained:
    """One algorithm after one training, and what went into it; `run` is at (limit, seed), limits varying slowest."""

    algorithm: Algorithm
    program: Program
    store: Store
    indices: tuple[Any, ...]
    keys: jax.Array
    run: Run

    @property
    def runs(self) -> list[int]:
        """Their numbers."""
        return list(range(len(self.indices)))

    def states(self, runs: list[int], updates: int | None = None) -> Any:
        """The states of those runs after all stages, of so many updates each; None: of all of them."""
        indices, keys = stack([self.indices[run] for run in runs]), self.keys[np.array(runs)]
        states = self.program.init(keys)
        for number, stage in enumerate(self.program.stages):
            states = self.program.begin(number, states, self.store, indices, keys)
            carry = (states, self.program.zero_metrics(number, states, self.store, indices))
            count = stage.updates if updates is None else updates
            states, _ = self.program.advance(number, carry, self.store, indices, keys, 0, count)
        return states

    def weights(self, states: Any) -> list[np.ndarray]:
        """What would be deployed: of every array of the actor, one row per run."""
        return [np.asarray(leaf) for leaf in jax.tree.leaves(self.program.actors(states))]


@functools.cache
def trained(name: str) -> Trained:
    """All tests of an algorithm share one training, for its compilation takes longer than anything else."""
    algorithm, episodes = small(name), ball_run()
    with quick():
        run = train(algorithm, episodes, cost_limits=LIMITS, seeds=SEEDS, log_every=2, batching="map")
        limits = LIMITS if algorithm.uses_cost_limit else (np.inf,)
        return Trained(
            algorithm,
            program(algorithm, Spec.of(episodes), "map", "float32"),
            standardised(algorithm),
            tuple(index for limit in limits for index in [algorithm.index(episodes, limit)] * len(SEEDS)),
            jax.vmap(new_key)(np.array(SEEDS * len(limits), np.uint32)),
            run,
        )


def standardised(algorithm: Algorithm) -> Store:
    """What `train` trains on."""
    store = Store.make(ball_run(), algorithm.fields)
    return jax.jit(Standardiser.of)(store.observations).store(store)


def same(a: Policies, b: Policies) -> bool:
    """Whether policies are the same in every bit."""
    leaves = (jax.tree.leaves(policies.actor) for policies in (a, b))
    return a.ids == b.ids and all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True))


def batch_sizes(algorithm: Algorithm) -> list[str]:
    """The settings that say how many transitions or segments an update sees."""
    return [entry.name for entry in fields(algorithm) if entry.name.endswith("batch_size")]


# Settings


@every_class
def test_settings_and_presets_survive_json(name):
    presets = {classes()[name].preset(task.suite, word) for task in tasks() for word in (None, task.name)}
    for algorithm in (small(name), *presets):  # many tasks share one
        again = classes()[name].from_config(json.loads(json.dumps(algorithm.config())))
        assert again == algorithm
        assert hash(again) == hash(algorithm)
    with pytest.raises(ConfigError, match="no setting named 'nonsense'"):
        classes()[name].from_config({"nonsense": 1})


@every_class
def test_every_setting_is_explained_and_no_setting_is_needed(name):
    documented = attribute_docs(classes()[name])
    assert {entry.name for entry in fields(classes()[name])} == set(documented)
    assert all(text.endswith((".", '."')) for text in documented.values())
    assert classes()[name]().total_updates > 0


@every_class
def test_its_page_explains_every_metric(name):
    page = DOCS / f"{registry.HOMES[name].partition(':')[0].rpartition('.')[2].replace('_', '-')}.md"
    text = page.read_text(encoding="utf-8")
    shared = re.findall(r"\]\((\w[\w-]*\.md)", re.split(r"^(?:## |\*\*)Metric", text, flags=re.MULTILINE)[-1])
    explained = re.findall(r"`(\w+)`", text + "".join((DOCS / other).read_text(encoding="utf-8") for other in shared))
    assert {row.metric for row in trained(name).run.metrics} <= set(explained)


@every_class
def test_updates_that_cannot_be_are_refused(name):
    for setting in SETTINGS[name]:
        if setting.endswith("updates"):
            with pytest.raises(ConfigError, match=setting):
                replace(small(name), **{setting: -1})
    for setting in batch_sizes(small(name)):
        with pytest.raises(ConfigError, match="batch_size"):
            replace(small(name), **{setting: 0})


@every_class
def test_the_index_depends_on_the_limit_where_training_uses_it_and_never_its_shapes(name):
    algorithm = small(name)
    low, high = (jax.tree.leaves(algorithm.index(ball_run(), limit)) for limit in LIMITS)
    assert [leaf.shape for leaf in low] == [leaf.shape for leaf in high]
    alike = all(np.array_equal(a, b) for a, b in zip(low, high, strict=True))
    assert alike != algorithm.uses_cost_limit


# Randomness


@every_class
def test_a_seed_decides_every_bit(name):
    first = trained(name)
    with quick():
        again = train(first.algorithm, ball_run(), cost_limits=LIMITS, seeds=SEEDS, log_every=2, batching="map")
    assert same(again.policies, first.run.policies)
    assert again.metrics == first.run.metrics
    for a, b in itertools.combinations(first.run.policies, 2):
        if a.id.seed != b.id.seed:
            leaves = zip(jax.tree.leaves(a.actor), jax.tree.leaves(b.actor), strict=True)
            assert any(not np.array_equal(x, y) for x, y in leaves), f"{a.id} is {b.id}"


@every_class
def test_a_run_does_not_depend_on_those_beside_it(name):
    first = trained(name)
    with quick():
        together = first.weights(first.states(first.runs))
        alone = first.weights(first.states([first.runs[-1]] * len(first.runs)))
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(b, np.broadcast_to(a[-1], a.shape))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_fast_schedule_differs_from_the_published_one_by_a_few_settings(name):
    kind = classes()[name]
    for suite in ("bullet", "safety_gymnasium", "metadrive"):
        published, fast = kind.preset(suite), kind.preset(suite, schedule="fast")
        assert fast.total_updates * 10 <= published.total_updates
        assert fast == replace(published, **kind.fast)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in VMAPPED else pytest.mark.slow) for name in classes()]
)
def test_vmapped_runs_equal_mapped_ones_up_to_rounding(name):
    first = trained(name)

    def go(state: Any, index: Any, key: jax.Array) -> Any:
        """One update of every stage, from the random numbers that `Program` takes."""
        for number, stage in enumerate(first.program.stages):
            begin, update = (jax.random.fold_in(jax.random.fold_in(key, number + 1), i) for i in (0, 1))
            state = stage.begin(state, first.store, index, begin)
            state, _ = stage.update(state, first.store, index, update)
        return state

    with quick():
        mapped = first.states(first.runs, updates=1)
        vmapped = jax.jit(jax.vmap(go))(first.program.init(first.keys), stack(first.indices), first.keys)
    for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(vmapped), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4)


@every_class
def test_every_stage_logs_what_the_algorithm_calls_its_losses(name):
    rows = trained(name).run.metrics
    for stage in small(name).stages():
        assert any(row.metric in classes()[name].losses for row in rows if row.stage == stage.name)
    assert set(classes()[name].losses) <= {row.metric for row in rows}


# Stopping


@every_class
def test_stopped_in_every_stage_and_resumed_the_result_is_bitwise_the_same(name, run_folder):
    first = trained(name)
    lengths = [stage.updates for stage in first.algorithm.stages()]
    assert min(lengths) >= 2
    stops = {sum(lengths[:number]) + 1 for number in range(len(lengths))}

    class Signals:
        """Looked at after every update."""

        updates = 0

        @property
        def requested(self) -> bool:
            self.updates += 1
            return self.updates in stops

    signals = Signals()
    with quick() as patch:
        patch.setattr("safetrax.training.train.catch_signals", lambda: contextlib.nullcontext(signals))
        patch.setattr("safetrax.training.train._CHUNK_SECONDS", 0.0)

        def go_on(resume: bool) -> Run:
            return train(
                first.algorithm,
                ball_run(),
                cost_limits=LIMITS,
                seeds=SEEDS,
                out=run_folder,
                resume=resume,
                log_every=2,
                batching="map",
            )

        for number in range(len(stops)):
            with pytest.raises(TrainingInterruptedError):
                go_on(resume=number > 0)
        last = go_on(resume=True)
    assert signals.updates == sum(lengths)
    assert same(last.policies, first.run.policies)
    assert last.metrics == first.run.metrics


# Policies


@every_class
def test_every_variant_is_saved_and_loaded_and_acts_alike(name, tmp_path):
    policies, algorithm = trained(name).run.policies, small(name)
    assert len(policies) == len(trained(name).indices) * len(algorithm.variants(LIMITS))
    assert len({str(policy.id) for policy in policies}) == len(policies)
    loaded = [Policy.load(policy.save(tmp_path / f"{policy.id}.safetensors")) for policy in policies]
    assert same(Policies.stack(loaded), policies)
    for policy, again in zip(policies, loaded, strict=True):
        with quick():
            policy.reset(5, seed=3)
            again.reset(5, seed=3)
            actions = policy.act(OBSERVATIONS)
            np.testing.assert_array_equal(again.act(OBSERVATIONS), actions)
        assert np.isfinite(actions).all()
        assert np.abs(actions).max() <= 1
    for setting, (low, high) in policies.actor.adjustable.items():
        assert low < high
        assert same(policies.adjusted(**{setting: low}), Policies.stack(loaded).adjusted(**{setting: low}))


def test_every_algorithm_plays_in_the_simulator():
    pytest.importorskip("bullet_safety_gym")
    from safetrax.envs.pool import EnvPool
    from safetrax.evaluation.rollout import evaluate

    with EnvPool("BallRun") as pool, quick():
        for name in classes():
            policies = trained(name).run.policies[::3]  # of either limit and seed
            result = evaluate(policies, "BallRun", episodes=1, pool=pool)
            played = [(row.algorithm, row.cost_limit, row.seed) for row in result.rows]
            assert played == [(run.algorithm, run.cost_limit, run.seed) for run in policies.ids]
            assert all(row.length == 100 and np.isfinite(row.return_) for row in result.rows)


# Data


@every_class
def test_the_units_of_observations_do_not_matter(name):
    first = trained(name)
    units = np.array([2**17, 1, 2**-7, 1, 2**10, 1, 1], np.float32)  # powers of two, so that no rounding differs
    before, following = ball_run().observations, ball_run().next_observations
    assert following is not None
    episodes = replace(ball_run(), observations=before * units, next_observations=following * units)
    with quick():
        run = train(first.algorithm, episodes, cost_limits=LIMITS, seeds=SEEDS, log_every=2, batching="map")
        for policy, other in zip(first.run.policies, run.policies, strict=True):
            policy.reset(5, seed=3)
            other.reset(5, seed=3)
            np.testing.assert_array_equal(policy.act(OBSERVATIONS), other.act(OBSERVATIONS * units))
    assert run.metrics == first.run.metrics


@every_class
@pytest.mark.parametrize("cost", [0, 1])
def test_where_no_step_or_every_step_costs_all_stays_finite(name, cost):
    first = trained(name)
    episodes = replace(ball_run(), costs=np.full_like(ball_run().costs, cost))
    limits = LIMITS
    try:
        first.algorithm.index(episodes, LIMITS[0])
    except DataError:  # the method needs safe episodes
        limits = (100.0, 200.0)
    with quick(), warnings.catch_warnings():
        warnings.simplefilter("ignore", SafeTraXWarning)
        run = train(first.algorithm, episodes, cost_limits=limits, seeds=SEEDS, log_every=2, batching="map")
    assert all(np.isfinite(row.value) for row in (*run.metrics, *first.run.metrics))
    assert finite(run.policies.actor)


@every_class
def test_where_all_episodes_are_the_same_all_stays_finite(name):
    first = trained(name)
    episodes = ball_run().select(np.repeat(dearest_safe(), ball_run().num_episodes))
    episodes = replace(episodes, labels=ball_run().labels)
    with quick():
        run = train(first.algorithm, episodes, cost_limits=LIMITS, seeds=SEEDS, log_every=2, batching="map")
    assert all(np.isfinite(row.value) for row in run.metrics)
    assert finite(run.policies.actor)


@every_class
@pytest.mark.slow  # arrays of other sizes: it compiles everything anew
def test_a_single_episode_suffices(name):
    algorithm = small(name)
    with quick():
        others = [] if algorithm.needs_labels is None else [int(np.argmax(ball_run().cost_returns))]
        episodes = ball_run().select([dearest_safe(), *others])  # labels need two to tell apart
        run = train(algorithm, episodes, cost_limits=LIMITS[:1], seeds=SEEDS[:1])
    assert all(np.isfinite(row.value) for row in run.metrics)
    assert finite(run.policies.actor)


@every_class
def test_no_array_grows_with_the_batch_or_with_the_updates(name):
    first = trained(name)
    longer = {entry.name for entry in fields(first.algorithm) if entry.name.endswith("updates")}
    more = (*longer, *batch_sizes(first.algorithm))
    doubled = {setting: 2 * getattr(first.algorithm, setting) for setting in more}
    algorithm, half = replace(first.algorithm, **doubled), ball_run().select(np.arange(0, 30, 2))
    runs = len(first.runs)
    with quick():
        index = algorithm.index(half, LIMITS[0])
        store = Store.make(half, algorithm.fields)
        by = Program(algorithm, Spec.of(half), "map")
        states = by.state_structure(len(by.stages) - 1, store, stack([index] * runs), runs)
        before = (first.states(first.runs), first.indices[0])
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves((states, index)), strict=True):
        for long, short in zip(a.shape, b.shape, strict=True):
            assert long == short or (abs(long - 2 * short) <= 1 and long <= first.store.num_transitions + 1)


def dearest_safe() -> int:
    """The number of the episode that costs most of those within the limit."""
    costs = ball_run().cost_returns
    return int(np.argmax(np.where(costs <= LIMITS[0], costs, -1.0)))


def finite(tree: Any) -> bool:
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def test_no_setting_hides_a_flag_of_training():
    taken = {field.name for field in fields(TrainOptions)}
    assert {name: found for name in SETTINGS if (found := taken & {f.name for f in fields(classes()[name])})} == {}
