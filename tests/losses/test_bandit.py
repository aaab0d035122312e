"""EXP3 on numbers by hand, and against an adversary whose best arm is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.bandit import arm_probabilities, gain_estimates, multiplier_gains, tuned_exploration


def test_probabilities_by_hand():
    weights = jnp.log(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(arm_probabilities(weights, 0.2), [0.8 / 4 + 0.1, 0.8 * 3 / 4 + 0.1], rtol=1e-6)
    np.testing.assert_allclose(arm_probabilities(weights, 1.0), [0.5, 0.5])
    # a weight that float32 cannot hold
    np.testing.assert_allclose(arm_probabilities(jnp.array([1e4, 0.0]), 0.2), [0.9, 0.1], rtol=1e-6)


def test_estimates_by_hand_are_right_on_average():
    gains, probabilities = jnp.array([0.5, 1.0, 0.2]), jnp.array([0.25, 0.25, 0.5])
    estimates = jnp.stack([gain_estimates(gains, probabilities, jnp.asarray(arm)) for arm in range(3)])
    np.testing.assert_allclose(estimates, np.diag([2.0, 4.0, 0.4]), rtol=1e-6)
    np.testing.assert_allclose(probabilities @ estimates, gains, rtol=1e-6)


@pytest.mark.parametrize(
    ("excess", "expected"),
    [(0.0, [0.5, 0.5, 0.5]), (2.0, [0.5, 0.625, 0.75]), (-1.0, [0.5, 0.4375, 0.375]), (9.0, [0.5, 0.75, 1.0])],
)
def test_multipliers_gain_where_the_limit_is_exceeded_by_hand(excess, expected):
    gains = multiplier_gains(jnp.array([0.0, 2.5, 5.0]), jnp.asarray(excess), jnp.asarray(4.0))
    np.testing.assert_allclose(gains, expected)


def test_tuned_exploration_by_hand():
    assert tuned_exploration(2, 100) == pytest.approx(math.sqrt(2 * math.log(2) / ((math.e - 1) * 100)))
    assert tuned_exploration(5, 1) == tuned_exploration(5, 0) == 1.0  # too few rounds to learn anything


def play(gains, exploration, key):
    """The gain of every round and the last probabilities, of EXP3 with Auer's step on a known sequence of gains."""

    def step(log_weights, given):
        gain, key = given
        probabilities = arm_probabilities(log_weights, exploration)
        arm = jax.random.categorical(key, jnp.log(probabilities))
        moved = log_weights + exploration / gain.size * gain_estimates(gain, probabilities, arm)
        return moved, gain[arm]

    log_weights, gained = jax.lax.scan(step, jnp.zeros(gains.shape[1]), (gains, jax.random.split(key, len(gains))))
    return gained, arm_probabilities(log_weights, exploration)


def test_the_better_arm_is_found_and_the_regret_is_bounded():
    """Arm 3 gains 0.8 and the others 0.3, but in the first fifth of the rounds the other way round.

    The best arm gains (0.2 * 0.3 + 0.8 * 0.8) T = 0.7 T, any other 0.4 T; T is many enough that the bound on the
    expected regret, 2 sqrt((e - 1) T K ln K), is below the difference. It holds of the mean over keys, whose standard
    error is added.
    """
    rounds, arms, best = 8_000, 5, 3
    gains = np.full((rounds, arms), 0.3, np.float32)
    gains[:, best] = 0.8
    gains[: rounds // 5] = 1.1 - gains[: rounds // 5]
    bound = 2 * math.sqrt((math.e - 1) * rounds * arms * math.log(arms))
    assert bound < 0.3 * rounds
    exploration = tuned_exploration(arms, rounds)
    keys = jax.random.split(jax.random.key(0), 20)
    gained, last = jax.jit(jax.vmap(lambda key: play(jnp.asarray(gains), exploration, key)))(keys)
    regret = gains[:, best].sum() - np.asarray(gained).sum(1)
    assert regret.mean() + 2 * regret.std() / math.sqrt(len(keys)) < bound
    assert (np.argmax(last, axis=1) == best).all()
    assert float(last[:, best].min()) > 0.5
