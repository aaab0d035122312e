import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.lagrange import PIDState, ascended, pid_multiplier

GAINS = (0.1, 0.003, 0.001)


def trace(errors, gains=GAINS):
    state, multipliers, integrals = PIDState.start(), [], []
    for error in errors:
        state, multiplier = pid_multiplier(state, jnp.float32(error), gains)
        multipliers.append(float(multiplier))
        integrals.append(float(state.integral))
    return multipliers, integrals


def test_the_golden_trace():
    multipliers, integrals = trace(np.array([5, 5, 5, 1, 1, 1, 4]) - 3)
    np.testing.assert_allclose(multipliers, [0.208, 0.212, 0.218, 0.012, 0.006, 0, 0.106], atol=1e-6)
    assert integrals == [2, 4, 6, 4, 2, 0, 1]


def test_the_golden_trace_in_double_precision():
    state, multipliers = PIDState(0.0, 0.0), []
    for cost in (5, 5, 5, 1, 1, 1, 4):
        state, multiplier = pid_multiplier(state, float(cost - 3), GAINS)
        multipliers.append(multiplier)
    assert all(isinstance(each, float) for each in (state.integral, *multipliers))
    assert multipliers == pytest.approx([0.208, 0.212, 0.218, 0.012, 0.006, 0.0, 0.106], rel=1e-12)


def test_neither_multiplier_nor_integral_is_ever_negative():
    multipliers, integrals = trace(np.random.default_rng(0).normal(-1, 3, 200))
    assert min(multipliers) == min(integrals) == 0


def test_time_within_the_limit_is_no_credit():
    assert trace([-100, 1], (0, 1, 0))[0] == trace([0, 1], (0, 1, 0))[0] == [0, 1]


def test_a_falling_error_adds_no_derivative():
    assert trace([3, 2, 5], (0, 0, 1))[0] == [3, 0, 3]


def test_under_a_lasting_violation_it_grows_by_the_integral_gain_times_the_error():
    multipliers, _ = trace([2.0] * 50)
    np.testing.assert_allclose(np.diff(multipliers)[1:], 0.003 * 2, rtol=1e-3)
    assert multipliers[-1] == pytest.approx(0.1 * 2 + 0.003 * 100, rel=1e-4)


def test_a_weight_rises_only_under_a_violation_and_stays_within_its_bounds():
    assert float(ascended(jnp.float32(1.0), jnp.float32(0.2), 0.1)) == pytest.approx(1 + 0.1 * np.e * 0.2)
    assert float(ascended(jnp.float32(1.0), jnp.float32(-0.05), 0.1)) < 1
    assert float(ascended(jnp.float32(1.0), jnp.float32(0.0), 0.1)) == 1
    assert float(ascended(jnp.float32(4.9), jnp.float32(1.0), 0.1)) == 5
    assert float(ascended(jnp.float32(-4.9), jnp.float32(-100.0), 1.0)) == -5
