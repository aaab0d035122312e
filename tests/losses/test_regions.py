import jax.numpy as jnp
import numpy as np

from safetrax.losses.regions import tempered_value


def tempered(reward, cost, delta, **settings) -> np.ndarray:
    reward, cost = jnp.broadcast_arrays(jnp.asarray(reward, jnp.float32), jnp.asarray(cost, jnp.float32))
    return np.asarray(tempered_value(reward, cost, delta, **settings))


def test_ratios_by_hand():
    # up to delta, and at it, the reward's value; beyond, divided by the cost's
    np.testing.assert_allclose(tempered(12.0, [-5, 0, 2, 2.5, 4, 1e4], 2.0), [12, 12, 12, 4.8, 3, 0.0012], rtol=1e-6)


def test_a_ratio_raises_negative_values_and_below_one_positive_ones():
    np.testing.assert_allclose(tempered(-12.0, [1, 4], 2.0), [-12, -3])
    np.testing.assert_allclose(tempered(12.0, [0.05, 0.5], 0.1), [12, 24])


def test_penalties_by_hand():
    # Q_r - |Q_r| (1 - 1 / Q_c)
    np.testing.assert_allclose(tempered([12.0, -12.0, -12.0], [4.0, 4.0, 1.0], 2.0, penalty=True), [3, -21, -12])


def test_a_penalty_never_raises_a_value_and_is_the_ratio_where_that_is_positive():
    rng = np.random.default_rng(0)
    reward, cost = rng.normal(0, 10, 500), rng.uniform(0, 20, 500)
    penalised, ratio = tempered(reward, cost, 1.0, penalty=True), tempered(reward, cost, 1.0)
    assert (penalised <= reward + 1e-4).all()
    np.testing.assert_allclose(penalised[reward > 0], ratio[reward > 0], rtol=1e-4, atol=1e-4)
    more = tempered(reward, cost + 1, 1.0, penalty=True)
    assert (more <= penalised + 1e-4).all()


def test_a_threshold_of_zero_as_printed_divides_by_nothing():
    np.testing.assert_allclose(tempered(3.0, [0.0, -1.0, 0.5], 0.0), [3, 3, 6])
    np.testing.assert_allclose(tempered(3.0, [0.0, -1.0, 0.5], 0.0, penalty=True), [3, 3, 6])
