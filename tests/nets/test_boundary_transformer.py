"""B2R's network: its size, who sees what, and the window of a deployed one."""

import itertools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.nets.boundary_transformer import BoundaryTransformer

B, K, O, A = 2, 4, 3, 2  # noqa: E741


@pytest.fixture(scope="module")
def network() -> BoundaryTransformer:
    """With weights so large that every token is heard, and biases, else of a number its sign alone."""

    def fresh(key: jax.Array) -> BoundaryTransformer:
        made = BoundaryTransformer.make(key, O, A, width=16, blocks=2, heads=2)
        large = jax.tree.map(lambda leaf: 5.0 * leaf if leaf.ndim == 2 else leaf, made)
        biases = 0.2 * jax.random.normal(key, (2, 16))
        return eqx.tree_at(lambda n: (n.costs.bias, n.returns.bias), large, tuple(biases))

    return jax.jit(fresh)(jax.random.key(0))


run = jax.jit(lambda network, *parts: network(*parts))
last = jax.jit(lambda network, *parts: network.last_features(*parts))


def history() -> list[jax.Array]:
    """Returns, costs, observations, actions and times."""
    rng = np.random.default_rng(0)
    parts = [jnp.asarray(rng.standard_normal((B, K, *more)), jnp.float32) for more in ((), (), (O,), (A,))]
    return [parts[0], jnp.abs(parts[1]), *parts[2:], jnp.tile(jnp.arange(3, 3 + K), (B, 1))]


def test_its_parameters_counted_by_hand():
    network = jax.eval_shape(lambda key: BoundaryTransformer.make(key, 8, 2), jax.random.key(0))
    width, inner = 128, 512
    tokens = (8 + 1) * width + 2 * (1 + 1) * width + (2 + 1) * width + 2 * width  # states, scalars, actions, norm
    attention = width * 3 * width + 3 * width + width * width + width
    block = attention + (width * inner + inner) + (inner * width + width) + 2 * 2 * width
    head = width * 2 + 2 + 2  # means, and two log standard deviations
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == tokens + 3 * block + head == 597_380


def test_an_action_is_foreseen_from_all_that_was_before_it_alone(network):
    names = ("returns", "costs", "states", "actions")
    before = run(network, *history())
    for number, step in itertools.product(range(4), range(K)):
        changed = [np.array(part) for part in history()]
        changed[number][:, step] += 100.0
        seen = run(network, *changed)
        hidden = step + (names[number] == "actions")  # first action that sees the change
        np.testing.assert_array_equal(seen[:, :hidden], before[:, :hidden])
        assert (np.abs(seen[:, hidden:] - before[:, hidden:]).max(axis=-1) > 1e-6).all()


def test_times_are_not_seen(network):
    parts = history()
    np.testing.assert_array_equal(run(network, *parts[:4], parts[4] + 100), run(network, *parts))
    assert network.time_steps is None


def test_the_window_of_a_deployed_one_is_the_same_function(network):
    parts = history()
    features = run(network, *parts)
    np.testing.assert_allclose(last(network, *parts, jnp.ones((B, K), bool)), features[:, -1], atol=1e-5)
    # a step into an episode, three places in front are padding; positions are differences, so that nothing is shifted
    alone = run(network, *[part[:, -1:] for part in parts])[:, 0]
    np.testing.assert_allclose(last(network, *parts, np.arange(K) >= [[K - 1]] * B), alone, atol=1e-4)
    parts[3] = parts[3].at[:, -1].set(9.0)  # the present action is not looked at
    np.testing.assert_allclose(last(network, *parts, jnp.ones((B, K), bool)), features[:, -1], atol=1e-5)


def test_scales_and_a_budget_that_is_exceeded(network):
    scaled = replace(network, return_scale=2.0, cost_scale=0.5)
    parts = history()
    seen = [parts[0] / 2, parts[1] / 0.5, *parts[2:]]
    np.testing.assert_allclose(run(scaled, *parts), run(network, *seen), atol=1e-5)
    spent, exceeded = ([parts[0], jnp.full((B, K), left), *parts[2:]] for left in (0.0, -7.0))
    np.testing.assert_array_equal(run(network, *exceeded), run(network, *spent))


def test_the_gaussian_has_one_deviation_for_all_states(network):
    features = jnp.asarray(np.random.default_rng(0).standard_normal((5, 16)), jnp.float32)
    given = replace(network, log_std=jnp.array([-50.0, 3.0]))
    mean, log_std = given.moments(100 * features)
    np.testing.assert_array_equal(log_std, [[-20, 2]] * 5)
    assert np.abs(mean).max() <= 1
    expected = np.tanh(features @ np.asarray(network.mean.weight) + np.asarray(network.mean.bias))
    np.testing.assert_allclose(network.moments(features)[0], expected, atol=1e-5)
