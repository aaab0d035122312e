"""Certificates from end to end: a world whose costs are known, refusals, the file, the command."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.certification import Certificate, clones, read_certificates, world_model, write_certificates
from safetrax.certification.certify import certify, choose
from safetrax.certification.examiner import Examiner, Options
from safetrax.certification.parts import Parts
from safetrax.cli.main import main
from safetrax.data import Trajectories, load
from safetrax.errors import ConfigError, DataError, SafeTraXError
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import DeterministicActor, Standardised
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId

STEPS = 10
SMALL = Options(steps=4000, features=40, resamples=10, model_updates=500)


def drift(episodes: int = 120, seed: int = 0) -> Trajectories:
    """A state that moves by a tenth of the action; every step costs the share of the action above 0, and earns it.

    Each episode has an action of its own, with noise, so that its cost is the mean of what is above 0.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(episodes):
        actions = np.clip(rng.uniform(-1, 1) + 0.2 * rng.standard_normal(STEPS), -1, 1)
        states = rng.uniform(-1, 1) + 0.1 * np.concatenate([[0], np.cumsum(actions)[:-1]])
        costs = np.maximum(actions, 0)
        found.append(
            {"observations": states[:, None], "actions": actions[:, None], "rewards": 1 + actions, "costs": costs}
        )
    return Trajectories.from_episodes(found)


def constant(action: float, limit: float | None = 4.0, seed: int = 0) -> Policy:
    """A policy that always plays one action: it costs STEPS times what is above 0 of it."""
    network = MLP((jnp.zeros((1, 1)),), (jnp.full(1, np.arctanh(action)),), "tanh", 0.0)
    actor = DeterministicActor(network, -jnp.ones(1), jnp.ones(1))
    return Policy(actor, RunId("BC-Safe", None, limit, seed))


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """States as simple as these are foretold by smaller networks, and behaviours cloned in a fifth of the updates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clones, "_UPDATES", 300)
        patch.setattr(world_model, "_MOVES", (64, 64))
        patch.setattr(world_model, "_NEAR", 64)
        yield


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    """With twenty self-tests, as a confidence of 95 % needs."""
    return Examiner(drift(300), replace(SMALL, model_updates=1500))


@pytest.mark.parametrize("action", [-0.5, 0.2, 0.6])
def test_bounds_hold_and_are_near_in_a_world_that_is_known(examiner, action):
    (found,) = certify([constant(action)], examiner)
    cost, returned = STEPS * max(action, 0), STEPS * (1 + action)
    # a policy that always does the same stays at one point of the networks, which round the kink of the cost at 0
    assert cost <= found.cost_bound + 0.03 * STEPS
    assert found.return_bound <= returned + 0.01  # which is linear in the features, and known to a thousandth
    # the kink of the cost at 0 is blurred by the features
    assert abs(found.cost - cost) < 0.2 * STEPS
    assert found.supported > 0.9
    assert found.held <= found.tests
    assert str(found).startswith("BC-Safe_limit-4_seed-0: cost at most ")
    assert "of 4 with 95 % confidence, on " in str(found)


def test_where_values_run_away_the_world_model_is_believed_alone(examiner):
    policy = constant(0.2)
    bounds = examiner.examine(policy.actor)
    estimates, halves = bounds.estimates.copy(), bounds.halves.copy()
    estimates[:2], halves[:, :2] = -1e30, np.nan
    wild = replace(bounds, estimates=estimates, halves=halves)
    for half in (None, 0, 1):
        found = examiner.certificate(policy.id, 4.0, wild, half)
        assert found.estimator == "world model"
        assert found.cost_bound + 0.03 * STEPS >= 2.0
        assert abs(found.cost - 2.0) < 0.2 * STEPS
    halves[0, 2] = 9.0  # one half of the log says more than the whole, by more than the limit
    apart = examiner.certificate(policy.id, 4.0, replace(wild, halves=halves))
    assert apart.cost_bound is None
    assert "a second estimate says" in apart.refusal
    estimates[2] = np.nan
    assert "do not settle" in examiner.certificate(policy.id, 4.0, replace(wild, estimates=estimates)).refusal


@pytest.mark.parametrize("value", [1e30, np.nan])
def test_where_values_run_away_upwards_nothing_is_believed_but_the_most_that_is_possible(examiner, value):
    policy, most = constant(0.2), float(STEPS)
    bounds = examiner.examine(policy.actor)
    estimates = bounds.estimates.copy()
    estimates[:2, 0] = value
    wild = replace(bounds, estimates=estimates)
    assert "its fitted values run away" in examiner.certificate(policy.id, 4.0, wild).refusal
    assert examiner.certificate(policy.id, 2 * most, wild).cost_bound == pytest.approx(most, rel=0.01)


def test_a_second_opinion_that_says_more_widens_the_bound(examiner):
    policy = constant(0.2)
    bounds = examiner.examine(policy.actor)
    second = examiner.cost.order[1]
    estimates = bounds.estimates.copy()
    # mended, the second says 5, which is more than any bound of a policy that costs 2, and less than a limit above
    estimates[second, 0] = (5 - examiner.cost.offsets[second]) / examiner.cost.slopes[second]
    found = examiner.certificate(policy.id, 6.0, replace(bounds, estimates=estimates))
    assert examiner.certificate(policy.id, 6.0, bounds).cost_bound < 5
    assert found.cost_bound == pytest.approx(5)
    assert found.cost == pytest.approx(examiner.certificate(policy.id, 6.0, bounds).cost)


def test_a_line_that_mends_downwards_lowers_no_bound(examiner, monkeypatch):
    policy = constant(0.6)
    bounds = examiner.examine(policy.actor)
    k = examiner.cost.order[0]
    before = examiner.certificate(policy.id, 9.0, bounds)
    monkeypatch.setattr(examiner, "cost", replace(examiner.cost, offsets=examiner.cost.offsets - 3.0))
    found = examiner.certificate(policy.id, 9.0, bounds)
    assert found.cost == pytest.approx(before.cost - 3)
    assert found.cost_bound >= bounds.estimates[k, 0]


def test_a_policy_that_does_what_nobody_did_gets_no_number():
    data = drift(400)
    data = data.select(np.abs(data.actions[data.offsets[:-1], 0]) < 0.3)
    (found,) = certify([constant(0.999)], data, options=replace(SMALL, model_updates=0))
    assert found.cost_bound is None
    assert "the log supports only" in str(found)
    assert not found.safe


def test_the_fewest_episodes_make_the_fewest_groups():
    data = drift(67)  # of which 20 are held out, four for each of five self-tests
    assert [len(group) for group in Parts.make(data, 10, np.random.default_rng(0)).groups] == [4] * 5


def test_self_tests_can_be_by_owner():
    data = drift()
    owners = [f"agent {int(e % 8)}" for e in range(data.num_episodes)]
    parts = Parts.make(data, 10, np.random.default_rng(0), np.array(owners))
    assert all(len({owners[e] for e in group}) == 1 and len(group) >= 4 for group in parts.groups)
    with pytest.raises(DataError, match="owners has 119 entries, but the log 120 episodes"):
        Examiner(data, SMALL, owners=owners[:-1])
    with pytest.raises(DataError, match="only 2 owners have 4 of the episodes that are held out"):
        certify([constant(0.2)], data, owners=[e % 2 for e in range(120)], options=SMALL)


def test_the_choice_is_the_best_within_the_limit(examiner):
    policies = [constant(action, seed=seed) for seed, action in enumerate((-0.5, 0.0, 0.9))]
    place, certificate = choose(policies, examiner, cost_limit=6.0)
    assert place == 1
    assert certificate.policy.seed == 1
    assert choose([constant(0.9)], examiner, cost_limit=1.0) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: replace(data, costs=np.zeros_like(data.costs)), "no step of the log costs anything"),
        (lambda data: replace(data, costs=None), "the log holds no costs"),
        (lambda data: data.select([0]), "the log has 1 episode; at least 67 are needed"),
        (lambda data: replace(data, info={"task": "BallRun"}), "7 columns|observations has 1"),
    ],
)
def test_logs_that_cannot_tell_are_refused(change, words):
    with pytest.raises(SafeTraXError, match=words):
        certify([constant(0.2)], change(drift()))


def test_policies_of_other_things_are_refused():
    data = drift()
    policy = constant(0.2)
    metres = Policy(Standardised(policy.actor, jnp.full(1, 100.0), jnp.ones(1)), policy.id)
    with pytest.raises(DataError, match=r"number 0 of an observation is .* in the log, and was 100 ± 1"):
        certify([metres], data, options=SMALL)
    with pytest.raises(DataError, match="the log is of BallCircle and the policy"):
        certify(
            [Policy(policy.actor, policy.id._replace(task="BallRun"))], replace(data, info={"task": "BallCircle"})
        )
    with pytest.raises(ConfigError, match="was trained for no cost limit; pass cost_limits"):
        certify([constant(0.2, limit=None)], data)


@pytest.mark.parametrize(
    ("name", "value"), [("confidence", 1.0), ("confidence", 0.4), ("discount", 0.0), ("horizon", 0), ("steps", 10)]
)
def test_odd_options_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value}, but must"):
        Options(**{name: value})


def row(**changes: object) -> Certificate:
    values = {"cost": 9.0, "cost_bound": 13.91, "return_": 5.0, "return_bound": 4.0, "supported": 0.81}
    values |= {"episodes": 50.0, "disagreement": 1.0, "raised": 2.5, "held": 7, "tests": 8, "horizon": 10}
    return Certificate(
        **{
            **{"policy": RunId("TraC", "BallRun", 20.0, 0), "cost_limit": 20.0, "confidence": 0.95, "resamples": 30},
            "estimator": "world model",
            **values,
            "data": "hash",
            **changes,
        }
    )


def test_a_bound_is_rounded_up_in_the_sentence():
    assert str(row()) == (
        f"{row().policy}: cost at most 14 of 20 with 95 % confidence, on 81% supported states; held in 7 of 8 "
        "self-tests, and raised by 2.5 so that all hold."
    )
    assert "cost at most 0 of 20" in str(row(cost_bound=0.0))


def test_certificates_are_read_back_and_damaged_ones_are_refused(tmp_path):
    rows, path = [row(), row(cost_bound=None, return_bound=None, refusal="so")], tmp_path / "certificates.json"
    write_certificates(path, rows)
    assert read_certificates(path) == rows
    for damage in ([{}], [1], {}, {"a": 1}, [{**json.loads(path.read_text())[0], "cost": "much"}]):
        path.write_text(json.dumps(damage))
        with pytest.raises(DataError, match="no file of certificates"):
            read_certificates(path)


def test_the_command(tmp_path, capsys):
    run = str(tmp_path / "run")
    train = ["train", "bc-safe", "--data", "demo", "--cost-limits", "20", "--updates", "200", "--hidden", "16"]
    assert main([*train, "--no-evaluate", "--out", run]) == 0
    small = ["--data", "demo", "--steps", "8000", "--features", "50", "--resamples", "10"]
    small += ["--model-updates", "100"]
    capsys.readouterr()
    assert main(["certify", run, *small]) == 0
    out = capsys.readouterr().out
    assert "BC-Safe" in out
    (saved,) = read_certificates(tmp_path / "run" / "certificates.json")
    assert saved.data == load("demo").fingerprint()
    assert str(saved) in out
    assert main(["certify", run, *small, "--choose"]) == 2
    assert "--choose needs the one limit" in capsys.readouterr().err
    assert main(["certify", "--data", "demo"]) == 2
    assert "needs a run folder or policy files" in capsys.readouterr().err


def test_where_no_clone_is_supported_nobody_gets_a_bound(examiner):
    lonely = copy.copy(examiner)
    lonely.bounds = [replace(bounds, supported=0.0) for bounds in examiner.bounds]
    lonely._learn()
    (found,) = certify([constant(0.2)], lonely)
    assert found.cost_bound is None
    assert "only 0 of 20 clones of the log's own behaviours have bounds" in found.refusal
