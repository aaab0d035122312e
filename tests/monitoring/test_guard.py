"""What is done about an alarm: recorded, somebody else acts, or nobody; live and in evaluations."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import safetrax as st
from safetrax.cli.main import main
from safetrax.errors import ConfigError, DataError, RunError
from safetrax.evaluation.rollout import evaluate
from safetrax.monitoring.guard import Guard
from safetrax.monitoring.monitor import LogModel, Monitor
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import DeterministicActor
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId
from safetrax.spaces import Part, named_parts


def always(value: float, name: str) -> Policy:
    """A policy of one number that does the same everywhere."""
    network = MLP((jnp.zeros((1, 1)),), (jnp.full(1, value),), "identity", 0.0)
    return Policy(DeterministicActor(network, -jnp.ones(1), jnp.ones(1)), RunId(name, None, 20.0, 0))


def monitor(**facts: Any) -> Monitor:
    """An alarm when the observation is further than 2 from 0 in the average."""
    one, none = np.ones(1, np.float32), np.zeros((2, 0), np.float32)
    points = np.zeros((2, 1), np.float32)
    log = LogModel(0 * one, one, -one, one, points, points, none, none[0], np.zeros((3, 1), np.float32), one)
    return Monitor(log, np.zeros(3), np.array([2.0, 1e6, 1e6]), facts)


def test_the_fallback_acts_from_the_alarm_on_until_the_episode_ends():
    guard = Guard(always(0.5, "A"), monitor(), fallback=always(-0.5, "B"))
    for episode in range(2):
        guard.reset()
        actions = []
        for step in range(6):
            actions.append(guard.act(np.array([50.0 if step == 3 else 0.0])).item())
            guard.observe(0.0, 0.0)
        assert actions == [0.5, 0.5, 0.5, -0.5, -0.5, -0.5]
        (row,) = (row for row in guard.interventions if row.episode == episode)
        assert (row.step, row.cause, row.response, row.policy) == (3, "observation", "fall-back", "A_limit-20_seed-0")
        assert row.score == pytest.approx(0.1 * 50 / 2)


def test_record_acts_on_and_tells_each_cause_once():
    guard = Guard(always(0.5, "A"), monitor(cost_limit=2.0), on_alarm="record")
    for _ in range(6):
        assert guard.act(np.array([50.0])).item() == 0.5
        guard.observe(0.0, 1.0)
    assert [(row.step, row.cause) for row in guard.interventions] == [(0, "observation"), (3, "budget")]
    assert guard.interventions[1].score == 1.5


def test_without_a_fallback_it_stops():
    guard = Guard(always(0.5, "A"), monitor())
    guard.act(np.zeros(1))
    guard.observe(0.0, 0.0)
    for _ in range(2):
        with pytest.raises(RunError, match="stopped episode 0 at step 1, for its observation"):
            guard.act(np.array([50.0]))
    assert guard.stopped.all()
    guard.reset()
    assert guard.act(np.zeros(1)).item() == 0.5


def test_side_by_side_each_has_its_own_alarm():
    guard = Guard(always(0.5, "A"), monitor(), fallback=always(-0.5, "B"))
    guard.reset(3)
    assert guard.act(np.array([[0.0], [50.0], [0.0]])).ravel().tolist() == [0.5, -0.5, 0.5]
    assert [row.episode for row in guard.interventions] == [1]
    guard.reset(2)
    guard.act(np.array([[50.0], [0.0]]))
    assert [row.episode for row in guard.interventions] == [1, 3]


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [1.0, 2.0], "text", [None], [1e300]])
def test_what_cannot_be_acted_on_is_never_acted_on(bad):
    guard = Guard(always(0.5, "A"), monitor(), fallback=always(-0.5, "B"))
    with pytest.raises(RunError, match="nobody can act on it"):
        guard.act(bad)  # nothing was seen before
    guard.reset()
    guard.act([0.0])
    assert guard.act(bad).item() == -0.5  # the fallback, on the last good one
    assert guard.act([0.0]).item() == -0.5
    assert guard.interventions[-1].cause == "input"
    recording = Guard(always(0.5, "A"), monitor(), on_alarm="record")
    recording.act([0.0])
    with pytest.raises(RunError, match="nobody can act on it"):
        recording.act(bad)


def test_observations_of_parts_are_put_together_or_an_alarm():
    def parted(value: float, name: str) -> Policy:
        return Policy(always(value, name).actor, always(value, name).id, {"data": named_parts([Part("x")])})

    guard = Guard(parted(0.5, "A"), monitor(), fallback=parted(-0.5, "B"))
    guard.reset(2)
    assert guard.act({"x": np.zeros(2)}).ravel().tolist() == [0.5, 0.5]
    assert guard.act({"y": np.zeros(2)}).ravel().tolist() == [-0.5, -0.5]
    assert {row.cause for row in guard.interventions} == {"input"}


def test_a_policy_that_gives_no_action_is_replaced():
    guard = Guard(always(np.nan, "A"), monitor(), fallback=always(-0.5, "B"))
    assert guard.act([0.0]).item() == -0.5
    assert [row.cause for row in guard.interventions] == ["output"]
    with pytest.raises(RunError, match="not a finite number"):
        Guard(always(np.nan, "A"), monitor()).act([0.0])


def test_wrong_words_and_counts():
    with pytest.raises(ConfigError, match="no fallback"):
        Guard(always(0.5, "A"), monitor(), on_alarm="fall-back")
    with pytest.raises(ConfigError, match="choose among record"):
        Guard(always(0.5, "A"), monitor(), on_alarm="panic")
    guard = Guard(always(0.5, "A"), monitor())
    with pytest.raises(ConfigError, match="before act"):
        guard.observe(0.0, 0.0)
    guard.reset(2)
    with pytest.raises(ConfigError, match="call reset"):
        guard.act(np.zeros((3, 1)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Any:
    """A run from the shell, with its monitors."""
    folder = tmp_path_factory.mktemp("guarded") / "run"
    words = ["train", "bc-safe", "--data", "demo", "--cost-limits", "20", "--updates", "300"]
    assert main([*words, "--out", str(folder)]) == 0
    assert main(["monitor", str(folder), "--data", "demo", "--false-alarms", "0.2"]) == 0
    return folder


def test_the_command_makes_monitors_of_a_run(trained, capsys):
    found = Monitor.load(trained / "monitors" / "BC-Safe_limit-20_seed-0.monitor")
    assert found.facts["cost_limit"] == 20
    assert found.facts["policy"]["algorithm"] == "BC-Safe"
    assert found.log.network
    assert main(["monitor", str(trained), "--data", "demo", "--false-alarms", "0.001"]) == 2
    assert "too few for a rate of 0.001" in capsys.readouterr().err


def test_evaluation_under_guard(trained, capsys):
    """The same episodes without and with guard; what is only recorded changes nothing."""
    words = ["evaluate", str(trained), "--episodes", "4", "--workers", "1", "--monitor"]
    policy = trained / "policies" / "BC-Safe_limit-20_seed-0.safetensors"
    assert main([*words, str(trained / "monitors"), "--fallback", str(policy)]) == 0
    text = capsys.readouterr().out
    assert "under guard" in text
    assert (trained / "monitors" / "interventions.csv").read_text().startswith("policy,episode,step,cause,score")
    assert main([*words, str(trained / "nowhere")]) == 2
    assert "no monitor at" in capsys.readouterr().err


def test_evaluate_records_falls_back_and_stops(trained):
    run = st.Policy.load(trained / "policies" / "BC-Safe_limit-20_seed-0.safetensors")
    kept = Monitor.load(trained / "monitors" / "BC-Safe_limit-20_seed-0.monitor")
    nervous = Monitor(kept.log, kept.typical, kept.typical + 1e-6, kept.facts)  # an alarm at the first sight
    plain = evaluate(run, "BallRun", episodes=3, workers=1)
    recorded = evaluate(run, "BallRun", episodes=3, workers=1, monitor=nervous)
    assert recorded.rows == plain.rows
    assert {row.episode for row in recorded.interventions} == {0, 1, 2}
    assert {row.response for row in recorded.interventions} == {"record"}
    same = evaluate(run, "BallRun", episodes=3, workers=1, monitor={run.id: nervous}, fallback=run)
    assert [row.length for row in same.rows] == [row.length for row in plain.rows]
    np.testing.assert_allclose([r.return_ for r in same.rows], [r.return_ for r in plain.rows], rtol=1e-2)
    assert len(same.interventions) == 3
    stopped = evaluate(run, "BallRun", episodes=3, workers=1, monitor=nervous, on_alarm="stop")
    assert max(row.length for row in stopped.rows) < 5
    with pytest.raises(ConfigError, match="no monitor for"):
        evaluate(run, "BallRun", episodes=1, monitor={})
    with pytest.raises(ConfigError, match="needs a monitor"):
        evaluate(run, "BallRun", episodes=1, on_alarm="stop")


def test_an_exported_policy_is_guarded_alike(trained, tmp_path):
    from safetrax.runtime import Runtime

    log = st.load("demo").select(range(10))
    policy = st.Policy.load(trained / "policies" / "BC-Safe_limit-20_seed-0.safetensors")
    st.export(policy, tmp_path / "policy.onnx", log)
    kept = Monitor.load(trained / "monitors" / "BC-Safe_limit-20_seed-0.monitor")
    guards = [Guard(one, kept.fresh(), on_alarm="record") for one in (policy, Runtime(tmp_path / "policy.onnx"))]
    for row in range(20):
        actions = [guard.act(log.observations[row]) for guard in guards]
        np.testing.assert_allclose(*actions, atol=1e-5)
        for guard in guards:
            guard.observe(log.rewards[row], log.logged_costs[row])
    assert guards[0]._sentry._policy == guards[1]._sentry._policy
    with pytest.raises(DataError):
        Monitor.load(tmp_path / "policy.onnx")
