from dataclasses import replace

import jax
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms import BC
from safetrax.algorithms.base import Spec
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.training.train import train

TINY = BC(hidden=(32,), updates=5, batch_size=64)


def test_a_linear_policy_is_recovered():
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1, 1, (400, 3))
    actions = observations @ np.array([[0.4, -0.2], [0.1, 0.3], [-0.3, 0.2]])
    data = Trajectories.from_episodes(
        {"observations": o, "actions": a, "rewards": np.zeros(40), "costs": np.zeros(40)}
        for o, a in zip(np.split(observations, 10), np.split(actions, 10), strict=True)
    )
    run = train(replace(TINY, updates=1500, learning_rate=3e-3), data)
    assert [row.value for row in run.metrics if row.metric == "loss"][-1] < 1e-3
    np.testing.assert_allclose(run.policies[0].act(observations[:5]), actions[:5], atol=0.08)


def test_two_equally_frequent_actions_average_out():
    data = Trajectories.from_episodes(
        {"observations": np.ones((4, 1)), "actions": np.full((4, 1), a), "rewards": np.zeros(4), "costs": np.zeros(4)}
        for a in (0.5, -0.5)
    )
    run = train(replace(TINY, updates=800, batch_size=256), data)
    assert abs(float(run.policies[0].act(np.ones(1))[0])) < 0.05


def test_safe_mode_draws_from_safe_episodes_only(toy):
    rows = np.asarray(replace(TINY, mode="safe").index(toy, 3.0).sample(jax.random.key(0), 2000))
    episodes = np.searchsorted(toy.offsets, rows, side="right") - 1
    assert set(episodes.tolist()) == set(np.flatnonzero(toy.cost_returns <= 3).tolist())


def test_one_run_per_seed_where_the_limit_is_ignored(toy):
    run = train(TINY, toy, cost_limits=[1.0, 3.0], seeds=[0, 1])
    assert [(i.algorithm, i.cost_limit, i.seed) for i in run.ids] == [("BC-All", None, 0), ("BC-All", None, 1)]
    run = train(replace(TINY, mode="safe"), toy, cost_limits=[2.0, 3.0], seeds=[0, 1])
    assert [(i.algorithm, i.cost_limit, i.seed) for i in run.ids] == [
        ("BC-Safe", limit, seed) for limit in (2.0, 3.0) for seed in (0, 1)
    ]


def test_no_safe_episode_is_refused_in_one_sentence():
    data = replace(toy_episodes([10]), costs=np.ones(10, np.float32))
    with pytest.raises(DataError, match="no episode meets the cost limit 0"):
        replace(TINY, mode="safe").index(data, 0.0)


def test_parameter_count_and_initial_range():
    state = BC().init(jax.random.key(0), Spec.of(toy_episodes([3], observation_size=8)))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.network)) == 68_610
    for weight, bias in zip(state.network.weights, state.network.biases, strict=True):
        bound = weight.shape[0] ** -0.5
        assert float(abs(weight).max()) <= bound
        assert float(abs(bias).max()) <= bound
        assert float(abs(weight).max()) > 0.9 * bound


@pytest.mark.parametrize(("setting", "value"), [("mode", "sure"), ("batch_size", 0), ("updates", -1)])
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises((ConfigError, Exception), match=setting):
        replace(BC(), **{setting: value})


def test_metadrive_trains_twice_as_long():
    assert BC.preset("metadrive").updates == 2 * BC.preset("bullet").updates
