"""The decision transformer: its size, who sees what, and the window of a deployed one."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.nets.decision_transformer import DecisionTransformer

B, K, O, A = 2, 4, 3, 2  # noqa: E741
SMALL = {"width": 16, "blocks": 2, "heads": 2}


def make(*sizes: int, factor: float = 1.0, **settings) -> DecisionTransformer:
    """Fresh weights times a factor."""

    def fresh(key: jax.Array) -> DecisionTransformer:
        network = DecisionTransformer.make(key, *sizes, **settings)
        return jax.tree.map(lambda leaf: factor * leaf if leaf.ndim == 2 else leaf, network)

    return jax.jit(fresh)(jax.random.key(0))


@pytest.fixture(scope="module")
def network() -> DecisionTransformer:
    """With weights so large that every token is heard."""
    return make(O, A, 12, factor=5.0, **SMALL)


run = jax.jit(lambda network, *parts: network(*parts))
last = jax.jit(lambda network, *parts: network.last_features(*parts))


def history(seed: int = 0) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    parts = [jnp.asarray(rng.standard_normal((B, K, *more)), jnp.float32) for more in ((), (), (O,), (A,))]
    return [*parts, jnp.tile(jnp.arange(3, 3 + K), (B, 1))]


def test_it_has_as_many_parameters_as_the_reference():
    network = jax.eval_shape(lambda key: DecisionTransformer.make(key, 8, 2, 200 + 10), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == 626_062


def test_fresh_weights_are_small_and_biases_zero():
    network = make(8, 2, 210, width=64, blocks=1, heads=8)
    block = network.transformer.blocks[0]
    for weight in (block.inner.weight, network.times, block.attention_output.weight):
        error = 5 * 0.02 / np.sqrt(2 * weight.size)
        assert abs(float(weight.std()) - 0.02) < error
    bound = np.sqrt(6 / 256)  # Xavier's, of a 64 x 192 matrix
    assert float(jnp.abs(block.queries_keys_values.weight).max()) <= bound
    assert not network.mean.bias.any()


def test_an_action_is_foreseen_from_all_that_was_before_it_alone(network):
    names = ("returns", "costs", "states", "actions")
    before, seen = run(network, *history())
    for number, step in itertools.product(range(4), range(K)):
        changed = [np.array(part) for part in history()]
        changed[number][:, step] += 100.0
        states, actions = run(network, *changed)
        hidden = step + (names[number] == "actions")  # first state token that sees the change
        np.testing.assert_array_equal(states[:, :hidden], before[:, :hidden])
        np.testing.assert_array_equal(actions[:, :step], seen[:, :step])
        assert (np.abs(states[:, hidden:] - before[:, hidden:]).max(axis=-1) > 1e-6).all()
        assert (np.abs(actions[:, step:] - seen[:, step:]).max(axis=-1) > 1e-6).all()


def test_the_time_is_seen_and_beyond_the_table_it_stands_still(network):
    parts = history()
    later = [*parts[:4], parts[4] + 1]
    assert np.abs(run(network, *later)[0] - run(network, *parts)[0]).max() > 1e-6
    beyond = [[*parts[:4], jnp.full((B, K), time)] for time in (11, 12, 500)]
    for other in beyond[1:]:
        np.testing.assert_array_equal(run(network, *other)[0], run(network, *beyond[0])[0])


def test_the_window_of_a_deployed_one_is_the_same_function(network):
    parts = history()
    states = run(network, *parts)[0]
    valid = jnp.ones((B, K), bool)
    np.testing.assert_allclose(last(network, *parts, valid), states[:, -1], atol=1e-5)
    # a step into an episode, three places in front are padding
    short = [np.array(part) for part in parts]
    for part in short:
        part[:, :-1] = 0
    alone = run(network, *[part[:, -1:] for part in parts])[0][:, 0]
    np.testing.assert_allclose(last(network, *short, np.arange(K) >= [[K - 1]] * B), alone, atol=1e-5)
    # the present action is not looked at
    parts[3] = parts[3].at[:, -1].set(9.0)
    np.testing.assert_allclose(last(network, *parts, valid), states[:, -1], atol=1e-5)


def test_scales_and_bounds(network):
    plain = replace(network, return_scale=1.0, cost_scale=1.0, cost_origin=0.0)
    scaled = replace(plain, return_scale=0.5, cost_scale=2.0, cost_origin=3.0)
    parts = history()
    seen = [0.5 * parts[0], 3.0 - 2.0 * parts[1], *parts[2:]]
    seen[1] = -seen[1]  # plain sees 0 - cost
    np.testing.assert_allclose(run(scaled, *parts)[0], run(plain, *seen)[0], atol=1e-5)
    clamped = replace(plain, clamped=True)
    features = 1e4 * jnp.ones((1, 16))
    free = scaled.moments(features)[1]
    np.testing.assert_array_equal(clamped.moments(features)[1], jnp.clip(free, -5, 2))
    assert jnp.abs(free).max() > 5
