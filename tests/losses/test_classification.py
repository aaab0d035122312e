import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.classification import class_weights, classification_loss, score_metrics, trajectory_score
from safetrax.losses.likelihood import fixed_variance_log_prob


def number(value: float) -> jax.Array:
    return jnp.asarray(value, jnp.float32)


def test_log_prob_is_the_negated_squared_distance():
    means, actions = jnp.array([[0.5, -0.5]]), jnp.array([[0.1, 0.5]])
    np.testing.assert_allclose(fixed_variance_log_prob(means, actions), [-(0.16 + 1.0)], rtol=1e-6)


def test_trajectory_score_by_hand():
    # alpha (1*0.5 + 0.9*(-1.0) + 0.81*2.0) = 0.2 * 1.22
    log_ratio = jnp.array([[0.5, -1.0, 2.0]])
    np.testing.assert_allclose(trajectory_score(log_ratio, discount=0.9, temperature=0.2), [0.244], rtol=1e-5)


def test_score_is_linear_in_temperature_and_odd_in_the_ratio():
    log_ratio = jax.random.normal(jax.random.key(0), (4, 7))
    one = trajectory_score(log_ratio, 0.99, 1.0)
    np.testing.assert_allclose(trajectory_score(log_ratio, 0.99, 0.3), 0.3 * one, rtol=1e-5)
    np.testing.assert_allclose(trajectory_score(-log_ratio, 0.99, 1.0), -one, rtol=1e-5)


def test_score_ignores_the_order_of_steps_without_discount_and_all_but_the_first_with_discount_zero():
    log_ratio = jax.random.normal(jax.random.key(1), (4, 7))
    reversed_score = trajectory_score(log_ratio[:, ::-1], 1.0, 0.2)
    np.testing.assert_allclose(trajectory_score(log_ratio, 1.0, 0.2), reversed_score, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trajectory_score(log_ratio, 0.0, 0.2), 0.2 * log_ratio[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("code", (1.0, 0.15)),  # 0.25 * 3 / 5
        ("normalised", (5 / 5.75, 0.75 / 5.75)),  # N_u / (N_u + eta N_d)
        ("paper", (1.25 / 4.25, 3 / 4.25)),  # eta N_u / (N_d + eta N_u) = 0.294
    ],
)
def test_class_weights_by_hand(rule, expected):
    weights = class_weights(number(3), number(5), eta=0.25, rule=rule)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize("rule", ["code", "normalised", "paper"])
@pytest.mark.parametrize("counts", [(0, 5), (5, 0)])
def test_class_weights_stay_finite_when_a_class_is_empty(rule, counts):
    weights = class_weights(number(counts[0]), number(counts[1]), eta=0.25, rule=rule)
    assert all(math.isfinite(float(w)) for w in weights)


def test_no_desirable_segment_means_no_weight_for_undesirable_ones():
    assert float(class_weights(number(0), number(5), eta=0.25)[1]) == 0.0


def test_loss_and_gradient_where_policy_and_reference_agree():
    # psi = 0: loss = log 2 * mean(lambda w), gradient = -lambda w (y - 1/2) / B
    desirable = jnp.array([True, True, False])
    weight = jnp.array([1.0, 0.7, 0.9])
    lambdas = (number(1.0), number(0.5))
    loss, gradient = jax.value_and_grad(classification_loss)(jnp.zeros(3), desirable, weight, *lambdas)
    np.testing.assert_allclose(loss, math.log(2) * (1.0 + 0.7 + 0.45) / 3, rtol=1e-6)
    np.testing.assert_allclose(gradient, [-0.5 / 3, -0.35 / 3, 0.225 / 3], rtol=1e-6)


def test_the_floor_bounds_the_loss_and_ends_the_gradient():
    one, score = number(1.0), jnp.array([-20.0])
    args = (jnp.array([True]), jnp.ones(1), one, one)
    loss, gradient = jax.value_and_grad(classification_loss)(score, *args)
    np.testing.assert_allclose(loss, 13.8155, rtol=1e-5)  # -log 1e-6
    assert gradient[0] == 0.0
    loss, gradient = jax.value_and_grad(classification_loss)(score, *args, None)
    np.testing.assert_allclose(loss, 20.0, rtol=1e-5)
    np.testing.assert_allclose(gradient, [-1.0], rtol=1e-5)


def bandit_loss(mean: float, temperature: float, eta: float, steps: int = 1, discount: float = 0.99) -> float:
    """One state, desirable action +0.5, undesirable -0.5, reference 0, equal counts."""
    actions = jnp.broadcast_to(jnp.array([0.5, -0.5])[:, None, None], (2, steps, 1))
    ratio = fixed_variance_log_prob(jnp.full_like(actions, mean), actions) - fixed_variance_log_prob(
        jnp.zeros_like(actions), actions
    )
    score = trajectory_score(ratio, discount, temperature)
    lambdas = class_weights(number(1), number(1), eta)
    return float(classification_loss(score, jnp.array([True, False]), jnp.ones(2), *lambdas))


@pytest.mark.parametrize(
    ("temperature", "eta", "steps", "best"),
    [
        (0.2, 0.25, 1, 0.781),
        (1.0, 0.25, 1, 0.663),
        (0.2, 0.0, 1, 0.500),
        (0.1, 0.5, 1, 1.0),  # at the boundary
        (0.2, 1.0, 1, 1.0),
        (0.2, 0.25, 100, 0.5005),  # with longer segments the desirable term dominates
    ],
)
def test_bandit_minimum(temperature, eta, steps, best):
    grid = np.arange(-1, 1.0001, 0.005) if steps == 1 else np.arange(0.49, 0.511, 0.0005)
    losses = [bandit_loss(float(mean), temperature, eta, steps) for mean in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(best, abs=0.006 if steps == 1 else 0.0011)


def test_undesirable_data_alone_have_no_minimum_inside():
    grid = np.arange(-1, 1.0001, 0.01)

    def loss(mean: float) -> float:
        score = trajectory_score(jnp.array([[-((mean + 0.5) ** 2) + 0.25]]), 0.99, 0.2)
        return float(classification_loss(score, jnp.array([False]), jnp.ones(1), number(1), number(1)))

    assert grid[int(np.argmin([loss(float(mean)) for mean in grid]))] == pytest.approx(1.0)


def test_constants_of_the_likelihood_do_not_matter():
    keys = jax.random.split(jax.random.key(0), 3)
    means, reference, actions = (jax.random.normal(key, (4, 5, 2)) for key in keys)
    policy, frozen = fixed_variance_log_prob(means, actions), fixed_variance_log_prob(reference, actions)
    score = trajectory_score(policy - frozen, 0.99, 0.2)
    np.testing.assert_allclose(trajectory_score((policy + 3) - (frozen + 3), 0.99, 0.2), score, atol=1e-5)
    # half the squared distance at twice the temperature
    np.testing.assert_allclose(trajectory_score(policy / 2 - frozen / 2, 0.99, 0.4), score, rtol=1e-5)


def test_bandit_loss_values():
    assert bandit_loss(0.0, 0.2, 0.25) == pytest.approx(0.43322, abs=1e-5)
    assert bandit_loss(0.781, 0.2, 0.25) == pytest.approx(0.40856, abs=1e-5)


def test_score_metrics_by_hand():
    score, desirable = jnp.array([2.0, -1.0, 4.0, -30.0]), jnp.array([True, True, False, True])
    metrics = {name: float(value) for name, value in score_metrics(score, desirable, 1e-6).items()}
    assert metrics == pytest.approx(
        {"score_desirable": -29 / 3, "score_undesirable": 4, "accuracy": 1 / 4, "clipped": 1 / 4}
    )
    assert float(score_metrics(score, desirable, None)["clipped"]) == 0
    assert float(score_metrics(score, jnp.ones(4, bool), None)["score_undesirable"]) == 0
