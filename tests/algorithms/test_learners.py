import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from safetrax.algorithms.learners import Learner, Tracked


def test_a_target_moves_every_leaf_by_its_share():
    target, network = {"w": jnp.zeros(2), "b": jnp.ones(())}, {"w": jnp.array([1.0, -4.0]), "b": jnp.zeros(())}
    moved = Tracked(Learner.make(network, optax.sgd(1.0)), target).follow(0.25).target
    np.testing.assert_allclose(moved["w"], [0.25, -1.0])
    np.testing.assert_allclose(moved["b"], 0.75)


def test_a_step_goes_down_the_gradient_and_tells_what_it_saw_before():
    optimiser = optax.sgd(0.1)
    learner = Learner.make(jnp.array([3.0, 4.0]), optimiser)
    learner, fit = learner.step(optimiser, lambda w: (0.5 * jnp.sum(w**2), "seen"))
    np.testing.assert_allclose(learner.network, [2.7, 3.6], rtol=1e-6)
    assert fit.extra == "seen"
    assert float(fit.loss) == pytest.approx(12.5)
    assert float(fit.gradient) == pytest.approx(5.0)


def test_a_target_stays_until_it_follows():
    optimiser = optax.sgd(1.0)
    tracked = Tracked.make(jnp.array(2.0), optimiser)
    tracked, _ = tracked.step(optimiser, lambda w: (0.5 * w**2, None))
    assert (float(tracked.network), float(tracked.target)) == (0.0, 2.0)
    assert float(tracked.follow(0.25).target) == 1.5
    assert float(tracked.follow(0.25).network) == 0.0
    assert len(jax.tree.leaves(tracked)) == 2
