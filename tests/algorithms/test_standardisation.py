from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms.iql import IQL
from safetrax.algorithms.rewards import RewardIndex, per_step_scale, value_warnings
from safetrax.algorithms.standardisation import Standardiser
from safetrax.catalogue import get_task
from safetrax.data.store import TRANSITION_FIELDS, Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError

statistics = jax.jit(Standardiser.of, static_argnums=1)


@pytest.mark.parametrize("rows", [1, 7, 4096, 10_001])
def test_statistics_are_those_of_all_rows_and_each_row_counts_once(rows):
    data = np.random.default_rng(0).normal([0.0, 5.0, -2.0], [1.0, 0.1, 30.0], (rows, 3)).astype(np.float32)
    data[rows // 2 :] += 1.0  # blocks differ
    result = statistics(jnp.asarray(data), 1e-3)
    np.testing.assert_allclose(result.mean, data.mean(0, dtype=np.float64), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(result.std, data.std(0, dtype=np.float64) + 1e-3, rtol=1e-4)


def test_rounding_does_not_grow_with_the_number_of_rows():
    data = np.full((200_000, 2), 0.1, np.float32)
    data[:, 1] = 1000 + 0.01 * np.random.default_rng(0).standard_normal(len(data))
    result = statistics(jnp.asarray(data), 1e-3)
    assert (float(result.mean[0]), float(result.std[0])) == (np.float32(0.1), np.float32(1e-3))
    np.testing.assert_allclose(result.mean[1], data[:, 1].mean(dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(result.std[1], data[:, 1].std(dtype=np.float64) + 1e-3, rtol=1e-3)


def test_what_does_not_vary_counts_for_nothing_whatever_is_seen_later():
    rng = np.random.default_rng(0)
    data = np.empty((5000, 6), np.float32)
    data[:, 0] = 101_325  # a constant
    data[:, 1] = 1 + 1e-7 * rng.standard_normal(5000)  # the rounding of one
    data[:, 2] = 1e-14 * rng.standard_normal(5000)  # a simulator's rounding of 0
    data[:, 3:] = rng.normal([101_325.0, 0.0, 1e12], [0.5, 1e-5, 1e7], (5000, 3))  # these do vary
    result = statistics(jnp.asarray(data), 0.0)
    seen = np.asarray(result(jnp.asarray(data + np.float32([7, 7, 7, 0, 0, 0]))))
    assert np.abs(seen[:, :3]).max() < 1e-30
    np.testing.assert_allclose(seen[:, 3:].mean(0), 0, atol=0.01)  # float32 resolves 0.5 Pa beside 1 bar in 64 steps
    np.testing.assert_allclose(seen[:, 3:].std(0), 1, rtol=0.01)


@pytest.mark.parametrize("unit", [2.0**17, 2.0**-9])
def test_the_unit_of_a_dimension_changes_no_bit(unit):
    data = np.random.default_rng(0).normal([0.0, 5.0, -2.0], [1.0, 0.1, 30.0], (5000, 3)).astype(np.float32)
    units = np.array([unit, 1, 1 / unit], np.float32)
    rows = [statistics(jnp.asarray(x), 0.0)(jnp.asarray(x)) for x in (data, data * units)]
    np.testing.assert_array_equal(*rows)


def test_rows_are_standardised_by_the_statistics_of_observations():
    data = toy_episodes([5, 5])
    batch = Store.make(data, TRANSITION_FIELDS).transitions(jnp.arange(10))
    standardiser = statistics(jnp.asarray(data.observations), 0.0)
    result = standardiser.store(Store.make(data, TRANSITION_FIELDS)).transitions(jnp.arange(10))
    mean, std = data.observations.mean(0), data.observations.std(0)
    np.testing.assert_allclose(result.observations, (batch.observations - mean) / std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.next_observations, (batch.next_observations - mean) / std, rtol=1e-4, atol=1e-5)
    for name in ("actions", "rewards", "costs", "done"):
        np.testing.assert_array_equal(getattr(result, name), getattr(batch, name))
    logged = replace(data, next_observations=data.observations + 1)
    following = standardiser.store(Store.make(logged, TRANSITION_FIELDS)).next_observations
    np.testing.assert_allclose(following, (data.observations + 1 - mean) / std, rtol=1e-4, atol=1e-5)


def episodes_of(*rewards: list[float]) -> Trajectories:
    return Trajectories.from_episodes(
        {
            "observations": np.ones((len(r), 1)),
            "actions": np.zeros((len(r), 1)),
            "rewards": r,
            "costs": np.zeros(len(r)),
        }
        for r in rewards
    )


def test_bounds_of_values_and_returns_by_hand():
    data = episodes_of([1.0, -3.0], [2.0, 2.0, 1.0])
    index = RewardIndex.make(data, 0.9)
    np.testing.assert_allclose(index.value_bound, 30.0, rtol=1e-6)
    np.testing.assert_allclose(index.return_range, 7.0)
    np.testing.assert_allclose(index.value_ratio(jnp.array([-60.0, 0.0])), 1.0, rtol=1e-6)
    np.testing.assert_allclose(index.value_ratio(jnp.array([-60.0, 0.0]), 0.5), 2.0, rtol=1e-6)
    np.testing.assert_allclose(RewardIndex.make(data, 1.0).value_bound, 9.0)


def test_rewards_of_zero_and_equal_returns_stay_finite():
    index = RewardIndex.make(episodes_of([0.0, 0.0], [0.0]), 0.9)
    assert float(index.value_ratio(jnp.ones(3))) == 0.0
    assert float(index.return_range) == 0.0
    assert float(RewardIndex.make(episodes_of([0.1] * 10, [0.5, 0.5]), 0.9).return_range) == 0.0  # rounding only


def test_scaled_returns_span_the_horizon_of_the_task_or_of_the_log():
    data = episodes_of([1.0, -3.0], [2.0, 2.0, 1.0])  # returns from -2 to 5, three steps at most
    index = RewardIndex.make(data, 0.9)
    np.testing.assert_allclose(index.reward_scale("horizon"), 3 / 7, rtol=1e-6)
    np.testing.assert_allclose(index.reward_scale(30.0), 30 / 7, rtol=1e-6)
    assert float(index.reward_scale(None)) == 1
    known = RewardIndex.make(replace(data, info={**data.info, "task": "CarCircle"}), 0.9)
    np.testing.assert_allclose(known.reward_scale("horizon"), get_task("CarCircle").horizon / 7, rtol=1e-6)
    equal = RewardIndex.make(episodes_of([0.1] * 10, [0.5, 0.5]), 0.9)
    assert float(equal.reward_scale("horizon")) == float(equal.reward_scale(30.0)) == 1


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_return_range_that_is_none_is_named(value):
    with pytest.raises(ConfigError, match=r"return_range is .* positive, horizon or none"):
        IQL(return_range=value)


def test_impossible_values_are_named():
    assert value_warnings({"value_ratio": [1.5] * 9}) == ()
    (sentence,) = value_warnings({"value_ratio": [1.0, 11, 12, 15, 20, 30]})
    assert "no policy can earn" in sentence


def test_rewards_per_step_follow_the_returns_of_the_benchmark_or_of_the_log():
    def episode(length: int, reward: float) -> dict[str, np.ndarray]:
        zeros = np.zeros((length, 2), np.float32)
        steps = np.ones(length, np.float32)
        return {"observations": zeros, "actions": zeros, "rewards": reward * steps, "costs": 0 * steps}

    log = Trajectories.from_episodes([episode(4, 1.0), episode(5, 2.0), episode(2, -1.0)])
    assert float(per_step_scale(log)) == pytest.approx(5 / 12)  # returns from -2 to 10 in up to 5 steps
    task = get_task("BallRun")
    known = replace(log, info={**log.info, "task": "BallRun"})
    expected = task.horizon / (task.reward_max - task.reward_min)
    assert float(per_step_scale(known)) == pytest.approx(expected)
    equal = Trajectories.from_episodes([episode(3, 0.1), episode(1, 0.3)])
    assert float(per_step_scale(equal)) == 1
