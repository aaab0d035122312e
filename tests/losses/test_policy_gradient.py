import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.policy_gradient import advantage_estimates, clipped_objective


def test_advantages_by_hand():
    # gamma 0.5, lambda 0.5, values 1 everywhere; the second episode has one step and is terminated
    rewards = np.array([[1.0, 2.0], [3.0, 99.0]], np.float32)
    estimates = advantage_estimates(
        rewards, np.ones((2, 3), np.float32), np.array([2, 1]), np.array([False, True]), 0.5, 0.5
    )
    # errors: 1 + 0.5 - 1 = 0.5 and 2 + 0.5 - 1 = 1.5; 0.5 + 0.25 * 1.5 = 0.875; then 3 + 0 - 1 = 2
    assert estimates == pytest.approx(np.array([[0.875, 1.5], [2.0, 0.0]]))


def test_clipped_objective_by_hand():
    ratio = jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5, 1.1]))
    advantages = jnp.array([1.0, -1.0, 1.0, -1.0, 2.0])
    assert clipped_objective(ratio, advantages, 0.2) == pytest.approx(jnp.array([1.2, -1.5, 0.5, -0.8, 2.2]))
