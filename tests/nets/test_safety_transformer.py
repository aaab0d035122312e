"""The network of DSPO's signal: what it sees and what it does not."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.nets.safety_transformer import SafetyMLP, SafetyTransformer
from safetrax.nets.transformer import Affine

STEPS, OBS, ACT = 6, 3, 2


@functools.cache
def network(**settings) -> SafetyTransformer:
    """Ten times the fresh weights, with which hardly anything would differ."""
    make = jax.jit(lambda key: SafetyTransformer.make(key, OBS, ACT, 20, width=8, heads=2, **settings))
    return jax.tree.map(lambda leaf: 10 * leaf if leaf.ndim == 2 else leaf, make(jax.random.key(0)))


def windows(seed: int = 0, batch: int = 4):
    keys = jax.random.split(jax.random.key(seed), 2)
    observations = jax.random.normal(keys[0], (batch, STEPS, OBS))
    actions = jax.random.uniform(keys[1], (batch, STEPS, ACT), minval=-1.0)
    times = jnp.tile(jnp.arange(STEPS), (batch, 1))
    return observations, actions, times, jnp.ones((batch, STEPS), bool)


def test_features_see_the_present_and_the_past_alone():
    observations, actions, times, _ = windows()
    made = network()
    features = jax.jit(lambda *inputs: made.features(*inputs))
    before = features(observations, actions, times)
    for step in (0, 3, STEPS - 1):
        for changed in (
            (observations.at[:, step].add(1.0), actions),
            (observations, actions.at[:, step].add(-0.5)),
        ):
            differs = np.abs(features(*changed, times) - before).max(axis=(0, 2)) > 1e-6
            assert not differs[:step].any()
            assert differs[step]


def test_the_last_layer_knows_no_order():
    features = jax.random.normal(jax.random.key(1), (4, STEPS, 8))
    mask = jnp.arange(STEPS) < jnp.array([[6], [4], [1], [3]])
    order = np.array([3, 0, 5, 1, 4, 2])
    logits = network().pooled(features, mask)
    np.testing.assert_allclose(network().pooled(features[:, order], mask[:, order]), logits, rtol=1e-4, atol=1e-5)


def test_the_last_layer_by_hand():
    """Two steps with q = (1, 2), k = (1, 0) and values (0, 4): the weights of the second are s(-1) and s(-2)."""
    plain = SafetyTransformer.make(jax.random.key(0), OBS, ACT, 20, width=4, heads=2, scaled=False)
    features = jnp.array([[[1.0, 1.0, 0.0, 0.0], [2.0, 0.0, 4.0, 0.0]]])

    def picks(*entries: tuple[int, int], outputs: int) -> Affine:
        weight = jnp.zeros((4, outputs))
        for row, column in entries:
            weight = weight.at[row, column].set(1.0)
        return Affine(weight, jnp.zeros(outputs))

    layers = (picks((0, 0), outputs=4), picks((1, 0), outputs=4), picks((2, 0), outputs=1))

    def with_layers(scaled: bool) -> SafetyTransformer:
        changed = eqx.tree_at(lambda net: (net.queries, net.keys, net.values), plain, layers)
        return dataclasses.replace(changed, scaled=scaled)

    mask = jnp.ones((1, 2), bool)
    sigmoid = jax.nn.sigmoid
    expected = 4 * (sigmoid(-1.0) + sigmoid(-2.0)) / 2
    assert float(with_layers(False).pooled(features, mask)[0]) == pytest.approx(float(expected), rel=1e-5)
    expected = 4 * (sigmoid(-0.5) + sigmoid(-1.0)) / 2  # divided by the root of 4
    assert float(with_layers(True).pooled(features, mask)[0]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("value", [-3.0, 0.0, 1.5])
def test_where_all_values_are_equal_the_signal_is_theirs(value):
    made = network()
    constant = Affine(jnp.zeros_like(made.values.weight), jnp.full(1, value))
    made = eqx.tree_at(lambda network: network.values, made, constant)
    signal = jax.nn.sigmoid(made(*windows()))
    np.testing.assert_allclose(signal, 1 / (1 + np.exp(-value)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_padding_changes_nothing_and_the_signal_lies_between_0_and_1(kind):
    made = network() if kind == "transformer" else SafetyMLP.make(jax.random.key(0), OBS, ACT, width=8)
    observations, actions, times, mask = windows()
    mask = mask & (jnp.arange(STEPS) < 4)
    call = jax.jit(lambda *inputs: made(*inputs))
    logits = call(observations, actions, times, mask)
    other = call(observations.at[:, 4:].set(7.0), actions.at[:, 4:].set(0.0), times, mask)
    np.testing.assert_allclose(other, logits, rtol=1e-5, atol=1e-6)
    short = call(observations[:, :4], actions[:, :4], times[:, :4], mask[:, :4])
    np.testing.assert_allclose(short, logits, rtol=1e-4, atol=1e-5)
    signal = jax.nn.sigmoid(logits)
    assert ((signal > 0) & (signal < 1)).all()
    assert not np.allclose(call(*windows(), jnp.uint32(3)), call(*windows(), jnp.uint32(4)))  # dropout


@pytest.mark.parametrize(("width", "blocks"), [(256, 1), (64, 3)])
def test_both_networks_are_about_as_large(width, blocks):
    def size(made) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(made))

    key = jax.random.key(0)
    large = jax.eval_shape(lambda: SafetyTransformer.make(key, 8, 2, 1, width=width, blocks=blocks))
    plain = jax.eval_shape(lambda: SafetyMLP.make(key, 8, 2, width=width, blocks=blocks))
    assert size(plain) == pytest.approx(size(large), rel=0.03)
