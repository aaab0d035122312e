"""The network of a trajectory diffusion: convolutions by hand, conditions, guidance; sampling within bounds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.nets.diffusion import NoiseSchedule, draw_noise, sample_within
from safetrax.nets.temporal_unet import Conv, ConvBlock, Layer, TemporalUNet, guided

STEPS, CHANNELS = 8, 3


def drawn(key: int, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(jax.random.key(key), shape)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (5, 1), (3, 2)])
def test_a_convolution_by_hand(size, stride):
    x, weight, bias = drawn(0, (2, STEPS, 2)), drawn(1, (size * 2, 4)), drawn(2, (4,))
    found = Conv(Layer(weight, bias), size=size, stride=stride)(x)
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (0, 0)))
    for place, t in enumerate(range(0, STEPS, stride)):
        near = padded[:, t : t + size].reshape(2, -1)
        np.testing.assert_allclose(found[:, place], near @ weight + bias, rtol=1e-4, atol=1e-5)
    assert found.shape == (2, STEPS // stride, 4)


def test_groups_are_normalised_over_steps_and_their_channels():
    """Sixteen channels are four groups. mish is the identity far above zero, so that it can be undone there."""
    block = ConvBlock.empty(2, 16, 3)
    block = eqx.tree_at(lambda b: b.conv.layer, block, Layer(3 * drawn(0, (6, 16)), drawn(1, (16,))))
    block = eqx.tree_at(lambda b: (b.scale, b.offset), block, (jnp.full(16, 0.1), jnp.full(16, 40.0)))
    normal = (block(drawn(2, (4, STEPS, 2))) - 40) / 0.1  # mish(x) = x there
    groups = np.asarray(normal).reshape(4, STEPS, 4, 4)
    np.testing.assert_allclose(groups.mean(axis=(1, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(groups.std(axis=(1, 3)), 1, atol=2e-3)


def unet(multiples: tuple[int, ...] = (1, 2)) -> TemporalUNet:
    make = jax.jit(lambda key: TemporalUNet.make(key, CHANNELS, width=8, multiples=multiples))
    return make(jax.random.key(0))


def called(network: TemporalUNet):
    return jax.jit(lambda *inputs: network(*inputs))


def hearing(network: TemporalUNet) -> TemporalUNet:
    """Fresh ones hear no condition."""
    last = network.conditions[2]
    return eqx.tree_at(lambda n: n.conditions[2].weight, network, drawn(9, last.weight.shape))


X, K = drawn(3, (4, STEPS, CHANNELS)), jnp.array([0, 5, 10, 19])
C, OTHER = drawn(4, (4, 2)), drawn(5, (4, 2))
YES, NO = jnp.ones(4, bool), jnp.zeros(4, bool)


@pytest.mark.parametrize("multiples", [pytest.param((1,), marks=pytest.mark.slow), (1, 2, 2)])
def test_noise_has_the_shape_of_the_windows_and_depends_on_the_step(multiples):
    network = called(unet(multiples))
    noise = network(X, K, C, YES)
    assert noise.shape == X.shape
    assert np.abs(network(X, K + 1, C, YES) - noise).min(axis=(1, 2)).max() > 0


def test_conditions_have_an_effect_only_where_they_are_told():
    fresh, network = called(unet()), called(hearing(unet()))
    np.testing.assert_array_equal(fresh(X, K, C, YES), fresh(X, K, OTHER, NO))
    np.testing.assert_array_equal(network(X, K, C, NO), network(X, K, OTHER, NO))
    for told in (YES, jnp.array([True, False, True, False])):
        differs = np.abs(network(X, K, C, told) - network(X, K, OTHER, NO)).max(axis=(1, 2)) > 1e-6
        assert differs.tolist() == told.tolist()


def test_guidance_is_a_line_through_both():
    made = hearing(unet())
    network = called(made)
    told, untold = network(X, K, C, YES), network(X, K, C, NO)
    line = jax.jit(lambda weight: guided(made, X, K, C, weight))
    for weight, expected in ((0.0, untold), (1.0, told), (2.0, 2 * told - untold)):
        np.testing.assert_allclose(line(weight), expected, rtol=1e-3, atol=1e-4)


def test_weights_have_pytorch_s_spread():
    network = jax.jit(lambda key: TemporalUNet.make(key, CHANNELS, width=64))(jax.random.key(1))
    weight = np.asarray(network.middle[0].first.conv.layer.weight)
    assert weight.shape == (5 * 128, 128)
    assert np.abs(weight).max() <= 640**-0.5
    assert weight.std() == pytest.approx(640**-0.5 / 3**0.5, rel=0.01)  # 82,000 numbers


# Sampling within bounds


def test_bounds_that_meet_leave_one_sample():
    schedule = NoiseSchedule.make("cosine", 20)
    noise = draw_noise(jax.random.key(0), 20, (5, 2))
    end = jnp.array([0.25, -2.0])
    samples = sample_within(lambda x, k: jnp.zeros_like(x), schedule, noise, end, end)
    np.testing.assert_allclose(samples, np.tile(end, (5, 1)), rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_of_a_gaussian_the_moments_are_those_of_the_linear_recursion(scale):
    """With the exact noise and bounds that never matter each step is linear in x, so that both moments are known."""
    mean, std, rows = 0.3, 0.2, 40_000
    schedule = NoiseSchedule.make("cosine", 20)
    alpha, bar = (np.asarray(x, np.float64) for x in (schedule.alpha, schedule.alpha_bar))

    def exact(x: jax.Array, k: jax.Array) -> jax.Array:
        kept = schedule.alpha_bar[k][:, None]
        return jnp.sqrt(1 - kept) * (x - jnp.sqrt(kept) * mean) / (kept * std**2 + 1 - kept)

    noise = scale * draw_noise(jax.random.key(0), 20, (rows, 1))
    samples = np.asarray(sample_within(exact, schedule, noise, jnp.full(1, -1e6), jnp.full(1, 1e6)))
    expected, variance = 0.0, scale**2
    for k in reversed(range(20)):
        before = bar[k - 1] if k else 1.0
        slope = np.sqrt(bar[k]) * std**2 / (bar[k] * std**2 + 1 - bar[k])  # E[x_0 | x_k] is linear
        of_clean, of_x = (
            np.sqrt(before) * (1 - alpha[k]) / (1 - bar[k]),
            np.sqrt(alpha[k]) * (1 - before) / (1 - bar[k]),
        )
        gain = of_clean * slope + of_x
        expected = gain * expected + of_clean * (mean - slope * np.sqrt(bar[k]) * mean)
        variance = gain**2 * variance + scale**2 * (1 - alpha[k]) * (1 - before) / (1 - bar[k])
    assert samples.mean() == pytest.approx(expected, abs=5 * np.sqrt(variance / rows) + 1e-3)
    assert samples.std() == pytest.approx(np.sqrt(variance), rel=0.03)
    assert expected == pytest.approx(mean, abs=0.01)
