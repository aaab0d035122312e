"""Evaluating in the reach-avoid world: without workers and with them, the same episodes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from stand_in_actors import Diary, Noisy, as_policy, network_policy

import safetrax as st
from safetrax.cli.main import main
from safetrax.envs.pool import EnvPool
from safetrax.envs.reach_avoid.dataset import Expert
from safetrax.envs.reach_avoid.play import world_of
from safetrax.errors import RunError, SafeTraXWarning, TaskError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.rollout import evaluate
from safetrax.policies.policy import Policies, Policy
from safetrax.report.reach_avoid import trajectory_map


def networks(count: int) -> Policies:
    return Policies.stack([network_policy(seed, observation_size=11) for seed in range(count)])


def same(ours: tuple[EpisodeRow, ...], theirs: tuple[EpisodeRow, ...]) -> None:
    """The same episodes, returns but for rounding."""
    for a, b in zip(ours, theirs, strict=True):
        assert (a.algorithm, a.task, a.cost_limit, a.seed, a.step) == (
            b.algorithm,
            b.task,
            b.cost_limit,
            b.seed,
            b.step,
        )
        assert (a.episode, a.env_seed, a.cost, a.length) == (b.episode, b.env_seed, b.cost, b.length)
        assert a.return_ == pytest.approx(b.return_, abs=1e-4)


def test_workers_and_the_compiled_program_agree():
    three = networks(3)
    alone = evaluate(three, "ReachAvoid", episodes=5, seed=2, step=7)
    same(alone.rows, evaluate(three, "ReachAvoid", episodes=5, seed=2, step=7, workers=1).rows)
    assert [(row.seed, row.episode) for row in alone.rows] == [(s, e) for s in range(3) for e in range(5)]
    assert alone.rows[4].env_seed == 200_004
    assert len({row.return_ for row in alone.rows}) == 15
    assert alone.environment_steps == sum(row.length for row in alone.rows)


@pytest.mark.parametrize("name", ["ReachAvoid-FISOR", "ReachAvoid-Hazard"])
def test_they_agree_for_actors_with_memory_and_with_noise(name: str):
    diary, noisy = as_policy(Diary(jnp.float32(0.3))), as_policy(Noisy(jnp.float32([0.2, 0.1])))
    for policy in (diary, noisy):
        same(
            evaluate(policy, name, episodes=3, seed=1).rows,
            evaluate(policy, name, episodes=3, seed=1, workers=1).rows,
        )


def test_rows_do_not_depend_on_the_number_of_episodes_and_a_pool_is_left_alone():
    two = networks(2)
    many = evaluate(two, "ReachAvoid", episodes=70).rows
    assert [(row.seed, row.episode) for row in many] == [(s, e) for s in range(2) for e in range(70)]
    with EnvPool("ReachAvoid") as pool:
        assert evaluate(two, "ReachAvoid", episodes=3, pool=pool).rows == many[:3] + many[70:73]
        assert pool.slots == 0


@pytest.mark.parametrize("name", ["ReachAvoid", "ReachAvoid-Hazard"])
def test_the_expert_scores_one(name: str):
    expert = as_policy(Expert.make(world_of(f"{name}-v0")))
    (summary,) = evaluate(expert, name, episodes=30).summary(cost_limits=[10])
    assert summary.normalised_return.mean == pytest.approx(1.0, abs=0.005)
    assert summary.safe


def test_standing_still_scores_near_zero():
    # all that is gained is the way of braking, from 1.2 m/s
    (summary,) = evaluate(as_policy(Noisy(jnp.float32([-1.6, 0.0]))), "ReachAvoid", episodes=4).summary([5])
    assert 0 < summary.normalised_return.mean < 0.14


def test_faults_are_those_of_every_evaluation():
    with pytest.raises(TaskError, match="does not take the 11 numbers of an observation of ReachAvoid"):
        evaluate(network_policy(0), "ReachAvoid")
    bad = [as_policy(Noisy(jnp.full(2, mean)), seed) for seed, mean in enumerate((0.1, np.nan))]
    with pytest.raises(RunError, match=r"Noisy_seed-1 gave an action that is not a finite number"):
        evaluate(bad, "ReachAvoid", episodes=2)


@pytest.mark.filterwarnings(f"ignore::{SafeTraXWarning.__module__}.{SafeTraXWarning.__name__}")
def test_the_whole_way_from_data_to_a_verdict(tmp_path, capsys):
    data = st.reach_avoid_data(19.0, transitions=2000)
    clone = st.BC(mode="all", updates=40, batch_size=64, hidden=(16,))
    run = st.train(clone, data, seeds=(0, 1), out=tmp_path / "run", evaluate_every=20, evaluation_episodes=2)
    assert run.config["cost_limits"] == [5.0, 10.0, 20.0]
    assert [(row.step, row.seed, row.episode) for row in run.episodes] == [
        (step, seed, episode) for step in (20, 40) for seed in (0, 1) for episode in (0, 1)
    ]
    same(run.episodes[4:], evaluate(run.policies, "ReachAvoid", episodes=2, step=40).rows)
    film = str(tmp_path / "x.gif")
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "2", "--video", film, "--task", "ReachAvoid"]) == 0
    assert "ReachAvoid" in capsys.readouterr().out
    saved = Policy.load(run.policies[0].save(tmp_path / "policy.safetensors"))
    from safetrax.envs.reach_avoid.dataset import drive

    log = drive(saved.actor, env_seeds=range(2))
    assert log.returns.tolist() == pytest.approx([row.return_ for row in run.episodes[4:6]], abs=1e-4)
    assert trajectory_map({"clone": log}, tmp_path / "paths.svg").exists()
