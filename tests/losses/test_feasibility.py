import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.feasibility import constraint_value, feasibility_target, feasibility_weights

target = jax.jit(feasibility_target, static_argnums=3)


def test_a_step_with_any_cost_violates():
    np.testing.assert_array_equal(constraint_value(jnp.array([0.0, 0.02, 1.0, 7.0]), 25.0), [-1, 25, 25, 25])
    np.testing.assert_array_equal(constraint_value(jnp.array([0.0, 1.0]), 1.0), [-1, 1])


def test_targets_by_hand():
    constraint = jnp.array([-1.0, -1.0, 25.0, 25.0, -1.0, 25.0])
    following = jnp.array([5.0, -3.0, 30.0, -1.0, 24.0, -1.0])
    done = jnp.array([False, False, False, False, True, True])
    # 0.1 h + 0.9 max(h, V); where the episode ends, h
    np.testing.assert_allclose(target(constraint, following, done, 0.9), [4.4, -1, 29.5, 25, -1, 25], rtol=1e-6)


def values_before_a_violation(violation: float, steps: int) -> np.ndarray:
    """Of the states 0, 1, ... steps before a violation that then lasts for ever."""

    def earlier(value, _):
        value = feasibility_target(jnp.float32(-1), value, jnp.asarray(False), 0.99)
        return value, value

    start = jnp.float32(violation)
    assert target(start, start, jnp.asarray(False), 0.99) == pytest.approx(violation)
    return np.asarray([start, *jax.lax.scan(earlier, start, length=steps)[1]])


@pytest.mark.parametrize(("violation", "horizon"), [(25.0, 324), (1.0, 68)])
def test_a_violation_ahead_makes_infeasible_as_far_as_the_closed_form_says(violation, horizon):
    values = values_before_a_violation(violation, 400)
    reach = 0.99 ** np.arange(401)
    np.testing.assert_allclose(values, violation * reach - (1 - reach), atol=1e-4)
    assert values[horizon] > 0 > values[horizon + 1]
    assert (np.diff(values) < 0).all()


def test_without_violations_ahead_the_value_is_that_of_no_cost():
    value = jnp.float32(3.0)
    for _ in range(2000):
        value = target(jnp.float32(-1), value, jnp.asarray(False), 0.99)
    assert float(value) == pytest.approx(-1, abs=1e-4)


def test_values_stay_between_the_two_constraint_values():
    constraint = constraint_value(jnp.arange(50.0) % 3, 25.0)
    following = jnp.linspace(-1, 25, 50)
    result = target(constraint, following, jnp.zeros(50, bool), 0.99)
    assert result.min() >= -1
    assert result.max() <= 25
    np.testing.assert_allclose(result[constraint == 25], 25, rtol=1e-6)


# Weights

PUBLISHED = {
    "cost_temperature": 5.0,
    "reward_temperature": 3.0,
    "cost_bounds": (0.0, 150.0),
    "reward_cap": 100.0,
}


def weights(value, action_value, advantage=0.0, **settings) -> np.ndarray:
    arrays = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.float32) for x in (value, action_value, advantage)))
    return np.asarray(feasibility_weights(*arrays, **{**PUBLISHED, **settings}))


def test_weights_by_hand():
    value = [1.0, 1.0, -0.5, -0.5, 0.0, 0.0]
    action_value = [0.6, 1.2, -0.6, 0.1, 0.0, 0.1]
    advantage = [9.0, 9.0, 0.5, 9.0, -0.5, 9.0]
    expected = [math.exp(2), math.exp(-1), math.exp(1.5), 0, math.exp(-1.5), 0]
    np.testing.assert_allclose(weights(value, action_value, advantage), expected, rtol=1e-5)


def test_exactly_one_case_holds_for_every_pair_of_values():
    """Each case has weights that tell it: by cost 2, by reward 3, none 0."""
    value, action_value = (x.ravel() for x in np.meshgrid(*[[-30, -1, -1e-6, 0, 1e-6, 1, 30]] * 2))
    told = weights(value, action_value, cost_bounds=(2.0, 2.0), reward_temperature=math.log(3), advantage=1.0)
    infeasible, earning, leaving = value > 0, (value <= 0) & (action_value <= 0), (value <= 0) & (action_value > 0)
    np.testing.assert_array_equal(infeasible.astype(int) + earning + leaving, 1)
    np.testing.assert_allclose(told, 2 * infeasible + 3 * earning, rtol=1e-6)
    np.testing.assert_array_equal(told == 0, leaving)


def test_weights_are_bounded_without_overflow():
    np.testing.assert_allclose(weights([1e5, 1.0, 1.0], [-1e5, 1e5, 0.0]), [150, 0, math.exp(5)], rtol=1e-5)
    np.testing.assert_allclose(weights(1.0, [1e5, 1.2], cost_bounds=(1.0, 150.0)), [1, 1])
    np.testing.assert_allclose(weights(-1.0, -1.0, [1e5, -1e5]), [100, 0])


def test_the_fixed_point_of_one_state_where_half_of_the_actions_violate():
    """V_h is the 0.1-expectile of 25 and of Q_h of the other action. Though that one never violates, the state counts
    as infeasible; the weights tell the actions apart."""
    value = 0.0
    for _ in range(5000):
        safe = float(-0.01 + 0.99 * max(-1.0, value))
        value = (0.1 * 25 + 0.9 * safe) / (0.1 + 0.9)
    assert value == pytest.approx(22.853, abs=1e-3)
    assert safe == pytest.approx(22.615, abs=1e-3)
    both = target(jnp.array([25.0, -1.0]), jnp.full(2, value), jnp.zeros(2, bool), 0.99)
    np.testing.assert_allclose(both, [25, safe], rtol=1e-6)
    np.testing.assert_allclose(weights(value, both), [2.2e-5, 3.30], rtol=0.02)
