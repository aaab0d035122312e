"""Actions that are choices, from the log to what is played: by TraC and BC, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from own_env import STEPS, gift, valve_policy, write_module
from safetrax.algorithms.base import Spec
from safetrax.algorithms.bc import BC
from safetrax.algorithms.registry import classes
from safetrax.algorithms.trac import TraC
from safetrax.certification.calibration import fit_monitor
from safetrax.certification.certify import certify
from safetrax.collection.collecting import collect
from safetrax.data import Trajectories, load, validate, write_hdf5, write_npz, write_parquet
from safetrax.data.store import Store
from safetrax.envs import make_env
from safetrax.errors import ConfigError, DataError, SimulatorError, TaskError
from safetrax.evaluation.rollout import evaluate
from safetrax.exporting.export import export
from safetrax.nets.mlp import LOGITS, MLP
from safetrax.policies.actor import DeterministicActor, Standardised
from safetrax.policies.conditioned import ConditionedActor
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId
from safetrax.runtime import Runtime
from safetrax.training.plan import check_needs
from safetrax.training.train import train

NAME = "valves:Switch-v0"


def log(count: int = 40, steps: int = 10) -> Trajectories:
    """One of three numbers is shown in every step; every fifth step chooses the next one instead.

    Every other episode costs 1 a step and chooses the one after the next in every step: what TraC is to unlearn.
    """
    shown = np.arange(steps) % 3
    slips = np.arange(steps) % 5 == 4
    return Trajectories.from_episodes(
        (
            {
                "observations": np.eye(3)[shown],
                "actions": (shown + (2 if costly else slips)) % 3,
                "rewards": np.ones(steps),
                "costs": np.full(steps, float(costly)),
            }
            for costly in np.arange(count) % 2 == 1
        ),
        action_choices=3,
    )


def chooser(logits: list[float], name: str = "Chooser", seed: int = 0) -> Policy:
    """A policy of two observed numbers that always finds the choices so likely."""
    network = MLP((jnp.zeros((2, len(logits))),), (jnp.array(logits),), LOGITS, 0.0)
    ends = jnp.zeros(len(logits)), jnp.ones(len(logits))
    return Policy(DeterministicActor(network, *ends), RunId(name, NAME, 2.0, seed), {"updates": 1})


@pytest.fixture
def valves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(write_module(tmp_path)))


@pytest.mark.parametrize("actions", [[0, 2, 1], [[0], [2], [1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]]])
def test_numbers_and_one_hot_are_the_same_log(actions: Any):
    rows = {"observations": np.zeros((3, 1)), "actions": np.array(actions), "rewards": np.zeros(3)}
    data = Trajectories.from_episodes([rows], action_choices=3)
    assert data.actions.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert (data.action_choices, data.action_low.tolist(), data.action_high.tolist()) == (3, [0] * 3, [1] * 3)
    assert data.select([0]).action_choices == 3
    assert Trajectories.concatenate([data, data]).action_choices == 3
    with pytest.raises(DataError, match="other choices of actions"):
        Trajectories.concatenate(
            [data, Trajectories.from_episodes([{**rows, "actions": data.actions}], action_low=0)]
        )


@pytest.mark.parametrize(
    ("actions", "choices", "words"),
    [
        ([0, 3, 1], 3, "actions is 3, but must be a choice of 0 to 2"),
        ([0, 0.5, 1], 3, "actions is 0.5, but must be a choice of 0 to 2"),
        ([[1, 0], [1, 1], [0, 1]], 2, "actions has rows that are not one-hot"),
        ([[0, 0]] * 3, 3, "actions has shape"),
        ([0, 1, 0], 1, "action_choices is 1; pass how many there are, 2 or more"),
        ([0, 1, 0], "all", "action_choices is 'all'"),
    ],
)
def test_what_are_no_choices(actions: Any, choices: Any, words: str):
    zeros, flags = np.zeros((3, 1)), np.array([0, 0, 1])
    with pytest.raises(DataError, match=words):
        Trajectories.from_arrays(zeros, actions, zeros, zeros, flags, flags, action_choices=choices)


def test_every_format_keeps_them(tmp_path: Path):
    data = log(4)
    for writer, name in ((write_hdf5, "log.hdf5"), (write_npz, "log.npz"), (write_parquet, "log.parquet")):
        writer(tmp_path / name, data)
        back = load(tmp_path / name)
        assert (back.fingerprint(), back.action_choices) == (data.fingerprint(), 3)
    table = "observation_0,action,reward,cost,episode\n0,0,1,0,a\n1,2,1,0,a\n"
    (tmp_path / "log.csv").write_text(table)
    (tmp_path / "log.columns.json").write_text('{"action_choices": 3}')
    assert load(tmp_path / "log.csv").actions.tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
def test_files_of_numbers(suffix: str, tmp_path: Path):
    path = tmp_path / f"log{suffix}"
    arrays = {"observations": np.zeros((3, 1)), "actions": np.array([0, 2, 1]), "timeouts": np.array([0, 0, 1])}
    arrays |= {"rewards": np.zeros(3), "costs": np.ones(3)}
    if suffix == ".npz":
        np.savez(path, action_choices=3, **arrays)
    else:
        with h5py.File(path, "w") as file:
            file.attrs["action_choices"] = 3
            for key, array in arrays.items():
                file[key] = array
    assert load(path).actions.argmax(axis=1).tolist() == [0, 2, 1]
    assert load(path, action_choices=4).actions.shape == (3, 4)


def test_said_to_be_choices_they_are_not_warned_of():
    assert not [finding for finding in validate(log()) if "choices" in finding.message]
    odd = Trajectories.from_episodes([{**log().episode(0), "actions": log().actions[:10]}], action_low=0)
    assert any("say how many (action_choices)" in finding.message for finding in validate(odd))


@pytest.mark.parametrize("mode", ["all", "conditioned"])
def test_the_loss_of_a_clone_is_minus_the_log_likelihood(mode: Any):
    """Of a network that finds the choices 1 : 2 : 5 likely everywhere, over a log of each as often as the others."""
    data, algorithm = log(2, 15), BC(mode=mode, hidden=(), batch_size=4096, learning_rate=0.1)
    index, state = algorithm.index(data, 0.0), algorithm.init(jax.random.key(0), Spec.of(data))
    fixed = jnp.zeros_like(state.learner.network.weights[0]), jnp.log(jnp.array([1.0, 2.0, 5.0]))
    state = eqx.tree_at(lambda s: (s.learner.network.weights[0], s.learner.network.biases[0]), state, fixed)
    after, metrics = algorithm._update(state, Store.make(data, algorithm.fields), index, jax.random.key(1))
    assert metrics["loss"] == pytest.approx(-np.log([1 / 8, 2 / 8, 5 / 8]).mean(), abs=0.05)
    moved = after.learner.network.biases[0] - fixed[1]
    assert moved.tolist() == pytest.approx([0.1, 0.1, -0.1], abs=1e-3)  # Adam's first step


def test_trac_unlearns_what_costs(tmp_path: Path):
    """Three steps of four choose what costs, and so does a clone; the classifier does not."""
    costly, cheap = log().select(np.arange(1, 40, 2)), log().select(np.arange(0, 40, 2))
    data = Trajectories.concatenate([costly, costly, costly, cheap])
    assert np.mean((data.actions.argmax(axis=1) - data.observations.argmax(axis=1)) % 3 == 2) == 0.75
    settings: dict[str, Any] = {"hidden": (16,), "dropout": 0.0, "batch_size": 32, "pretrain_data": "all"}
    rates: dict[str, Any] = {"pretrain_learning_rate": 1e-2, "learning_rate": 3e-3, "warmup": 0}
    trac = TraC(pretrain_updates=60, updates=150, **settings, **rates)
    run = train(trac, data, cost_limits=(0.0,), seeds=(0, 1, 2))
    for policy in run.policies:
        policy.reset(3)
        assert policy.act(np.eye(3)).tolist() == [0, 1, 2]
    policy = Policy.load(run.policies[0].save(tmp_path / "policy.safetensors"))
    assert policy.act([0, 0, 1]) == 2
    runtime = Runtime(export(policy, tmp_path / "policy.onnx", data).path)
    assert runtime.act([0, 0, 1]) == 2
    assert type(runtime.act([0, 0, 1])) is int
    runtime.reset(3)
    assert runtime.act(np.eye(3)).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="only policies of continuous actions can be certified"):
        certify([policy], data, cost_limits=(1.0,))
    with pytest.raises(DataError, match="a monitor watches continuous ones only"):
        fit_monitor(data, policy=policy)
    plain = Trajectories.from_episodes([{**data.episode(0), "actions": data.actions[:10]}], action_low=0)
    with pytest.raises(DataError, match="are of two kinds, continuous and choices"):
        certify([policy], plain, cost_limits=(1.0,))


def test_the_conditioned_clone_chooses_by_the_limit():
    """Logits of the limit and of 5."""
    network = MLP((jnp.array([[0.0, 0.0], [1.0, 0.0]]),), (jnp.array([0.0, 5.0]),), LOGITS, 0.0)
    actor = ConditionedActor(network, jnp.zeros(2), jnp.ones(2), jnp.array(4.0))
    policy = Policy(actor, RunId("BC-Conditioned", None, 4.0, 0))
    assert policy.act([9.0]) == 1
    assert policy.adjusted(cost_limit=6.0).act([9.0]) == 0


def test_all_others_refuse_them():
    """What does not take them says which do."""
    takers = {name for name, kind in classes().items() if kind.takes_choices}
    assert takers == {"TraC", "BC"}
    data = log()
    for name in set(classes()) - takers:
        with pytest.raises(
            DataError, match=r"learns continuous actions, .* one of 3 choices; choose trac or one of bc"
        ):
            check_needs(classes()[name](), data)


def test_an_environment_of_choices(valves: None):
    env = make_env(NAME)
    for action, opening in ((2, 10.0), (np.int64(1), 5.0), (np.eye(3)[2], 10.0)):
        env.reset(seed=3)
        assert env.step(action)[1] == pytest.approx(opening / 10 + gift(3))
    for action in (3, 0.5, [0.5, 0.5, 0.0], [1.0, 0.0]):
        with pytest.raises(SimulatorError, match="is none of the 3 choices of valves:Switch-v0"):
            env.step(np.array(action))


def test_policies_play_in_it(valves: None, tmp_path: Path):
    from valves import Switch, Valve

    policies = Policies.stack([chooser([0.0, 1.0, 0.5], "Half"), chooser([0.0, 0.1, 0.5], "Open")])
    rows = evaluate(policies, Switch, horizon=STEPS, episodes=2).rows
    for row in rows:
        opening = {"Half": 5.0, "Open": 10.0}[row.algorithm]
        assert row.return_ == pytest.approx(STEPS * opening / 10 + gift(row.env_seed), abs=1e-5)
        assert row.cost == pytest.approx(STEPS * (opening - 5) / 10, abs=1e-5)
    scaled = Policy(Standardised(policies[0].actor, jnp.zeros(2), jnp.ones(2)), policies[0].id)
    assert scaled.act([0, 0]) == 1
    with pytest.raises(TaskError, match=r"takes one of 3 choices, but the policy Open4_.* plays continuous actions"):
        evaluate(valve_policy(4.0), Switch, horizon=STEPS)
    with pytest.raises(TaskError, match=r"takes continuous actions, but the policy Half_.* plays choices"):
        evaluate(policies, Valve, horizon=STEPS)
    for options in ({"policies": policies, "noise": 0.1}, {"cost_limits": (0, 2)}):
        with pytest.raises(ConfigError, match="takes choices, which only policies collect, without noise"):
            collect(NAME, tmp_path / "log.hdf5", **options)
    collect(NAME, tmp_path / "log.hdf5", policies=policies, episodes=2, workers=1)
    data = load(tmp_path / "log.hdf5")
    assert data.action_choices == 3
    assert data.actions.argmax(axis=1).tolist() == [1] * STEPS + [2] * STEPS


def test_networks_that_do_not_choose_play_as_before():
    network = MLP.make(jax.random.key(0), (2, 4, 3), output="tanh")
    actor = DeterministicActor(network, -jnp.ones(3), jnp.ones(3))
    assert not actor.chooses
    np.testing.assert_array_equal(actor.act((), jnp.ones((1, 2)), ())[0], network(jnp.ones((1, 2))))
