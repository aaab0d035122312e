"""Transformers: equations by hand, causality, padding, relative positions, and that a read changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.nets.saving import deserialise, serialise
from safetrax.nets.transformer import Affine, Block, Norm, Transformer, attend, gelu, layer_norm, rotated

B, T, E, H = 3, 9, 16, 4
kinds = pytest.mark.parametrize(
    ("order", "rotary"),
    # each order and each kind of positions once, the other combinations slowly
    [
        ("pre", True),
        ("post", False),
        pytest.param("pre", False, marks=pytest.mark.slow),
        pytest.param("post", True, marks=pytest.mark.slow),
    ],
)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


run = jax.jit(lambda net, x, valid=None, seed=None: net(x, valid, seed))


def model(order: str, rotary: bool, dropout: float = 0.0) -> Transformer:
    fresh = lambda key: Transformer.make(key, E, 2, H, dropout=dropout, order=order, rotary=rotary)  # noqa: E731
    return jax.jit(fresh)(jax.random.key(1))


def test_layer_norm_by_hand():
    x = jnp.array([[1.0, 3.0], [5.0, 5.0]])
    expected = [[-2 + 1, 3 + 1], [1, 1]]  # (x - 2) / 1 and 0 / sqrt(1e-5), times (2, 3), plus 1
    np.testing.assert_allclose(layer_norm(x, jnp.array([2.0, 3.0]), jnp.ones(2)), expected, atol=2e-5)


def test_the_gradients_written_by_hand_are_those_of_the_equations():
    x, scale, bias, weight = normal(0, 5, 6), normal(1, 6), normal(2, 6), normal(3, 5, 6)

    def equation(x, scale, bias):
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + bias

    @jax.jit
    def gradients(x, scale, bias):
        norms = [jax.grad(lambda *a, f=f: (weight * f(*a)).sum(), (0, 1, 2)) for f in (layer_norm, equation)]
        gelus = [jax.grad(lambda x, f=f: (weight * f(x)).sum()) for f in (gelu, lambda x: jax.nn.gelu(x, False))]
        return [(*norm(x, scale, bias), unit(x)) for norm, unit in zip(norms, gelus, strict=True)]

    for ours, theirs in zip(*gradients(x, scale, bias), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_gelu_by_hand():
    # Phi(1) = 0.8413447, Phi(-2) = 0.0227501
    np.testing.assert_allclose(gelu(jnp.array([0.0, 1.0, -2.0])), [0, 0.8413447, -0.0455003], atol=1e-6)


def test_attention_by_hand():
    q = jnp.array([1.0, 2.0]).reshape(1, 2, 1, 1)
    k = jnp.array([0.0, np.log(3) / 2]).reshape(1, 2, 1, 1)
    v = jnp.array([4.0, 8.0]).reshape(1, 2, 1, 1)
    causal = jnp.tril(jnp.ones((2, 2), bool))[None, None]
    # the first query sees the first value alone; the second's weights are 1 and exp(2 log(3) / 2) = 3, over 4
    np.testing.assert_allclose(attend(q, k, v, causal).ravel(), [4, 7], rtol=1e-6)


def test_attention_with_dropout_averages_to_attention_without():
    q, k, v = (normal(seed, 2, 5, 2, 4) for seed in range(3))
    allowed = jnp.tril(jnp.ones((5, 5), bool))[None, None]
    draw = jax.jit(jax.vmap(lambda seed: attend(q, k, v, allowed, 0.25, seed)))
    draws = np.asarray(draw(jnp.arange(4000, dtype=jnp.uint32)))
    exact = attend(q, k, v, allowed)
    error = 6 * np.std(draws, axis=0) / np.sqrt(len(draws)) + 1e-6
    assert (np.abs(np.mean(draws, axis=0) - exact) < error).all()
    assert float(jnp.abs(attend(q, k, v, allowed, 1e-9, jnp.uint32(1)) - exact).max()) < 1e-5


@kinds
def test_no_token_hears_a_later_one(order, rotary):
    net, x = model(order, rotary), np.array(normal(0, 1, T, E))
    versions = np.repeat(x, T + 1, axis=0)  # the last is as it was
    versions[np.arange(T), np.arange(T)] *= -2
    *after, before = np.asarray(run(net, versions))
    for changed, heard in enumerate(after):
        np.testing.assert_array_equal(heard[:changed], before[:changed])
        assert (np.abs(heard[changed:] - before[changed:]).max(axis=1) > 1e-4).all()


@kinds
def test_padding_to_the_left_is_not_heard(order, rotary):
    net, x = model(order, rotary), normal(0, B, T, E)
    valid = jnp.arange(T) >= jnp.array([0, 3, 8])[:, None]
    one = run(net, x, valid)
    other = run(net, jnp.where(valid[..., None], x, 7.0 * x), valid)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(jnp.where(valid[..., None], one - other, 0), np.zeros((B, T, E)))
    # rotary positions tell differences alone, so that padding in front changes nothing but rounding
    np.testing.assert_allclose(one[1, 3:], run(net, x[1:2, 3:])[0], atol=2e-5)


def test_rotary_products_depend_on_the_difference_of_positions():
    q, k = normal(0, 1, 1, E), normal(1, 1, 1, E)

    def products(i: int, j: int) -> np.ndarray:
        a, b = rotated(q, np.array([i])), rotated(k, np.array([j]))
        return np.asarray((a * b).reshape(H, -1).sum(axis=1))  # of every head

    for i, j in ((0, 0), (4, 1), (1, 4), (11, 0)):
        for shift in (1, 5, 30):
            np.testing.assert_allclose(products(i + shift, j + shift), products(i, j), atol=2e-4)
    assert np.abs(products(4, 1) - products(1, 4)).max() > 1e-2
    np.testing.assert_array_equal(rotated(q, np.array([0])), q)
    # one pair of numbers turns by one radian per position
    np.testing.assert_allclose(
        rotated(jnp.array([[[1.0, 0.0]]]), np.array([2]))[0, 0], [np.cos(2), np.sin(2)], atol=1e-6
    )


@kinds
def test_reading_some_tokens_gives_those(order, rotary):
    net, x = model(order, rotary, 0.5), normal(0, B, T, E)
    everything = run(net, x)
    for read in (lambda x: x[:, -1:], lambda x: x[:, 1::3]):
        some = jax.jit(lambda net, x, read=read: net(x, read=read))(net, x)
        np.testing.assert_allclose(some, read(everything), atol=1e-5)


@kinds
def test_dropout_needs_a_seed_and_follows_it(order, rotary):
    net, x = model(order, rotary, 0.5), normal(0, B, T, E)
    np.testing.assert_array_equal(run(net, x), run(model(order, rotary), x))
    one, same, other = (run(net, x, None, jnp.uint32(seed)) for seed in (1, 1, 9))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - run(net, x)).max() > 1e-3


def test_a_post_normalised_block_ends_in_a_normalisation():
    out = run(model("post", False), normal(0, B, T, E))
    np.testing.assert_allclose(out.mean(-1), np.zeros((B, T)), atol=1e-5)
    np.testing.assert_allclose(out.std(-1), np.ones((B, T)), atol=1e-3)


def test_a_block_is_saved_and_loaded():
    block = Block.make(jax.random.key(0), E, H, rotary=True)
    again = deserialise(*serialise(block))
    x = normal(0, B, T, E)
    np.testing.assert_array_equal(run(block, x), run(again, x))
    assert isinstance(again.attention_norm, Norm)
    assert isinstance(again.inner, Affine)
