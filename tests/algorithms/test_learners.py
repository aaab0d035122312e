import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from safetrax.algorithms.learners import Learner, Tracked, discounted_limit, soft_update


@pytest.mark.parametrize(
    ("horizon", "thresholds"),
    [
        (100, {10: 6.340, 20: 12.679, 40: 25.359}),
        (200, {10: 4.330, 20: 8.660, 40: 17.320}),
        (300, {10: 3.170, 20: 6.340, 40: 12.680}),
        (500, {10: 1.987, 20: 3.974, 40: 7.947, 80: 15.895}),
        (1000, {10: 1.000, 20: 2.000, 40: 4.000, 80: 8.000}),
    ],
)
def test_the_golden_thresholds(horizon, thresholds):
    for limit, threshold in thresholds.items():
        assert float(discounted_limit(limit, horizon, 0.99)) == pytest.approx(threshold, abs=6e-4)


def test_a_limit_of_one_per_step_is_the_geometric_series_and_undiscounted_the_limit_itself():
    assert float(discounted_limit(5, 5, 0.9)) == pytest.approx(1 + 0.9 + 0.81 + 0.729 + 0.6561)
    assert float(discounted_limit(20, 300, 1.0)) == pytest.approx(20)
    assert float(discounted_limit(20, 10, 0.0)) == pytest.approx(2)


def test_soft_update_moves_every_leaf_by_its_share():
    target, network = {"w": jnp.zeros(2), "b": jnp.ones(())}, {"w": jnp.array([1.0, -4.0]), "b": jnp.zeros(())}
    moved = soft_update(target, network, 0.25)
    np.testing.assert_allclose(moved["w"], [0.25, -1.0])
    np.testing.assert_allclose(moved["b"], 0.75)


def test_a_step_goes_down_the_gradient_and_tells_its_norm():
    optimiser = optax.sgd(0.1)
    learner = Learner.make(jnp.array([3.0, 4.0]), optimiser)
    learner, extra, norm = learner.step(optimiser, lambda w: (0.5 * jnp.sum(w**2), "seen"))
    np.testing.assert_allclose(learner.network, [2.7, 3.6], rtol=1e-6)
    assert extra == "seen"
    assert float(norm) == pytest.approx(5.0)


def test_a_target_stays_until_it_follows():
    optimiser = optax.sgd(1.0)
    tracked = Tracked.make(jnp.array(2.0), optimiser)
    tracked, _, _ = tracked.step(optimiser, lambda w: (0.5 * w**2, None))
    assert (float(tracked.network), float(tracked.target)) == (0.0, 2.0)
    assert float(tracked.follow(0.25).target) == 1.5
    assert float(tracked.follow(0.25).network) == 0.0
    assert len(jax.tree.leaves(tracked)) == 2
