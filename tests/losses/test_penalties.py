import jax.numpy as jnp

from safetrax.losses.penalties import relabelled_rewards


def test_rewards_above_the_threshold_are_replaced_by_hand():
    rewards, share = relabelled_rewards(
        jnp.array([1.0, -3.0, 2.0, 0.5]), jnp.array([0.0, 5.0, 5.1, 9.0]), jnp.asarray(5.0), jnp.asarray(3.0)
    )
    assert rewards.tolist() == [1.0, -3.0, -3.0, -3.0]  # exactly at the threshold is within it
    assert float(share) == 0.5
