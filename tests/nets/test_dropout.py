import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.nets.dropout import hash32, keep_mask, relu_dropout
from safetrax.nets.mlp import MLP, linear


def mask(seed: int, shape=(4000, 256), rate=0.25) -> np.ndarray:
    return np.asarray(keep_mask(jnp.uint32(seed), shape, rate), np.float64)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_units_are_kept_with_the_right_frequency_in_rows_and_columns(rate):
    kept = mask(1, rate=rate)
    n, h = kept.shape
    spread = (rate * (1 - rate)) ** 0.5
    assert abs(kept.mean() - (1 - rate)) < 4 * spread / (n * h) ** 0.5
    assert np.abs(kept.mean(0) - (1 - rate)).max() < 5 * spread / n**0.5
    assert kept.mean(0).std() == pytest.approx(spread / n**0.5, rel=0.2)
    assert kept.mean(1).std() == pytest.approx(spread / h**0.5, rel=0.1)


def test_masks_of_neighbouring_seeds_rows_and_columns_are_uncorrelated():
    kept = mask(5)
    size = kept.size**0.5
    pairs = [
        (kept, mask(6)),
        (kept[1:], kept[:-1]),
        (kept[:, 1:], kept[:, :-1]),
        (kept[:, 4:], kept[:, :-4]),  # the next hash word
    ]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / size


def test_a_seed_is_a_mask():
    np.testing.assert_array_equal(mask(3), mask(3))
    assert (mask(3) != mask(4)).any()


@pytest.mark.parametrize("rate", [1e-9, 1e-3, 1 / 513])
def test_a_rate_below_the_resolution_drops_nothing(rate):
    np.testing.assert_array_equal(relu_dropout(jnp.ones((8, 5)), jnp.uint32(1), rate), 1.0)


@pytest.mark.parametrize("rate", [0.999, 1 - 1e-6])
def test_a_rate_near_one_keeps_the_mean_too(rate):
    x = np.asarray(relu_dropout(jnp.ones((4000, 256)), jnp.uint32(1), rate))
    kept = x[x > 0]
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(kept, 256.0)
    assert len(kept) / x.size == pytest.approx(1 / 256, rel=4 * (256 / x.size) ** 0.5)


def test_sizes_that_are_no_multiple_of_four():
    assert keep_mask(jnp.uint32(0), (3, 7), 0.25).shape == (3, 7)


def test_hash_is_a_permutation_of_what_it_is_given():
    values = np.asarray(hash32(jnp.arange(100_000, dtype=jnp.uint32)))
    assert np.unique(values).size == 100_000


def test_dropout_keeps_the_mean():
    x = jnp.ones((4000, 64))
    y = relu_dropout(x, jnp.uint32(0), 0.25)
    assert np.unique(y).tolist() == pytest.approx([0.0, 4 / 3])
    assert float(y.mean()) == pytest.approx(1.0, abs=0.01)


def test_gradients_equal_those_of_the_plain_expressions():
    keys = jax.random.split(jax.random.key(0), 3)
    x, w, b = (jax.random.normal(k, s) for k, s in zip(keys, ((8, 3), (3, 5), (5,)), strict=True))
    seed = jnp.uint32(7)

    def ours(x, w, b):
        return jnp.sum(jnp.sin(relu_dropout(linear(x, w, b), seed, 0.25)))

    def plain(x, w, b):
        kept = keep_mask(seed, (8, 5), 0.25)
        return jnp.sum(jnp.sin(jnp.where(kept, jax.nn.relu(x @ w + b) * (4 / 3), 0.0)))

    np.testing.assert_allclose(ours(x, w, b), plain(x, w, b), rtol=1e-6)
    for a, c in zip(jax.grad(ours, (0, 1, 2))(x, w, b), jax.grad(plain, (0, 1, 2))(x, w, b), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)


def test_networks_drop_only_where_a_seed_is_given():
    network = MLP.make(jax.random.key(0), (3, 64, 64, 2), dropout_rate=0.25)
    x = jax.random.normal(jax.random.key(1), (5, 3))
    np.testing.assert_array_equal(network(x), network(x))
    assert float(abs(network(x, jnp.uint32(1)) - network(x)).max()) > 0
    assert float(abs(network(x, jnp.uint32(1)) - network(x, jnp.uint32(2))).max()) > 0


def test_a_network_by_hand():
    network = MLP(
        weights=(jnp.array([[1.0, -1.0]]), jnp.array([[2.0], [3.0]])),
        biases=(jnp.array([0.5, 0.0]), jnp.array([1.0])),
        output="identity",
        dropout_rate=0.0,
    )
    # x = 2: relu(2.5, -2) = (2.5, 0), 2 * 2.5 + 1 = 6
    np.testing.assert_allclose(network(jnp.array([[2.0]])), [[6.0]])
