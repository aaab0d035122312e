"""The count of float operations behind the benchmark's ratios."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from conftest import toy_episodes
from safetrax.algorithms import TD3BC, TraC
from safetrax.nets.mlp import MLP

SQUARE = jnp.ones((10, 10))
PRODUCT = 2 * 10**3


@pytest.fixture
def counted(monkeypatch):
    """speed/operations.py, which is no part of the package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "speed"))
    import operations

    yield operations
    sys.modules.pop("operations")


def test_a_product_counts_two_m_n_k_and_nothing_else_counts(counted):
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert counted.operations(lambda a, b: jnp.tanh(a @ b) + 1, a, b) == 2 * 3 * 5 * 7
    assert counted.operations(lambda a: jnp.einsum("bij,bjk->bik", a, a), jnp.ones((4, 3, 3))) == 2 * 4 * 3 * 3 * 3


def test_what_nobody_uses_does_not_count(counted):
    @jax.jit
    def both(x):
        return x @ x, x.T @ x

    assert counted.operations(lambda x: both(x)[0], SQUARE) == PRODUCT
    assert counted.operations(both, SQUARE) == 2 * PRODUCT


def test_loops_count_their_passes_and_conditions_their_branches(counted):
    def loop(x):
        return jax.lax.fori_loop(0, 5, lambda _, y: y @ x, x)

    def either(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x)

    assert counted.operations(loop, SQUARE) == 5 * PRODUCT
    assert (
        counted.operations(lambda x: jax.lax.scan(lambda y, _: (y @ x, None), x, length=3)[0], SQUARE) == 3 * PRODUCT
    )
    assert counted.operations(either, SQUARE) == 2 * PRODUCT
    assert counted.operations(either, SQUARE, often=0.5) == PRODUCT


def test_a_network_and_its_gradient(counted):
    sizes = (10, 40, 30, 5)
    network = jax.eval_shape(lambda key: MLP.make(key, sizes), jax.random.key(0))
    layers = [2 * 100 * i * o for i, o in itertools.pairwise(sizes)]
    x = jnp.ones((100, 10))
    assert counted.operations(lambda network, x: network(x), network, x) == sum(layers)
    gradient = jax.grad(lambda network, x: jnp.sum(jnp.square(network(x))))
    biases = 2 * 100 * (40 + 30 + 5)  # sums over the batch, which are products with ones
    assert counted.operations(gradient, network, x) == 2 * sum(layers) + sum(layers[1:]) + biases


def test_an_update_of_trac_has_the_operations_that_were_worked_out(counted):
    """Forward, weight gradients, and input gradients but the first, of 96 x 100 steps."""
    data = toy_episodes([100] * 20, observation_size=7)
    products = [i * o for i, o in itertools.pairwise((7, 256, 256, 2))]
    expected = 2.0 * 96 * 100 * (2 * sum(products) + sum(products[1:]))
    for stage in (0, 1):
        assert counted.update_operations(TraC(), data, 100.0, stage=stage) == pytest.approx(expected, rel=0.01)


def test_a_policy_that_moves_in_every_second_update_counts_half(counted):
    data = toy_episodes([10] * 3)
    always, mean, never = (counted.update_operations(TD3BC(), data, 10.0, often=often) for often in (1.0, 0.5, 0.0))
    assert never > 0
    assert mean == pytest.approx((always + never) / 2)
    # the policy's step: forward and back through the policy and one critic, without the critic's weight gradients
    policy, critic = 3 * 256 + 256**2 + 256 * 2, 5 * 256 + 256**2 + 256
    step = 2 * 256 * (3 * policy - 3 * 256 + 2 * critic)
    assert always - never == pytest.approx(step, rel=0.01)
