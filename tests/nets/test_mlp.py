"""Linear layers, in either precision, against numbers that are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from safetrax.nets.mlp import linear

ROUNDING = 2.0**-8  # of a number in bfloat16, at most


def gradients(x, weight, bias):
    return jax.grad(lambda *each: jnp.sum(linear(*each) ** 2) / 2, argnums=(0, 1, 2))(x, weight, bias)


def test_products_in_bfloat16_are_float32s_up_to_the_rounding_of_their_operands():
    x, weight, bias = (
        jax.random.normal(jax.random.key(seed), shape) for seed, shape in enumerate(((64, 32), (32, 16), (16,)))
    )
    exact, slopes = linear(x, weight, bias), gradients(x, weight, bias)
    with jax.default_matmul_precision("bfloat16"):
        rounded, rough = linear(x, weight, bias), gradients(x, weight, bias)
    assert {leaf.dtype for leaf in (rounded, *rough)} == {jnp.float32.dtype}
    assert not np.array_equal(rounded, exact)
    # each factor of a sum's terms is off by ROUNDING at most, so the sum by twice that of its terms' sizes
    sizes = np.abs(x) @ np.abs(weight)
    assert np.all(np.abs(rounded - exact) <= 2.01 * ROUNDING * sizes)
    # a gradient's factors are what came out, itself that far off, and what went in
    off = 2.01 * ROUNDING * sizes + ROUNDING * np.abs(exact)
    assert np.all(np.abs(rough[1] - slopes[1]) <= np.abs(x).T @ (off + ROUNDING * np.abs(exact)) * 1.01)


def test_sums_stay_float32():
    # 300 ones: in bfloat16, whose next number after 256 is 258, they would end at 256
    with jax.default_matmul_precision("bfloat16"):
        found = linear(jnp.ones((1, 300)), jnp.ones((300, 1)), jnp.zeros(1))
    assert float(found[0, 0]) == 300
