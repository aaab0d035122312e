"""The bound of the mutual information on tables whose numbers are exact, and the discriminator's losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.losses.imitation import gradient_penalty, separation_loss
from safetrax.losses.mutual_information import class_loss, vclub


def bound(counts: np.ndarray, conditional: np.ndarray) -> float:
    """vCLUB of a batch in which the pair (z, r) is there `counts[z, r]` times, with q(r | z) = conditional."""
    z, r = np.repeat(np.argwhere(counts >= 0), counts.reshape(-1), axis=0).T
    return float(vclub(jnp.log(conditional[z]), jnp.asarray(r)))


def exact(counts: np.ndarray) -> tuple[float, float]:
    """I(z; r) and KL(p(z) p(r) || p(z, r))."""
    joint = counts / counts.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    return float((joint * np.log(joint / product)).sum()), float((product * np.log(product / joint)).sum())


def test_two_by_two():
    counts = np.array([[3, 1], [1, 3]])
    assert bound(counts, counts / 4) == pytest.approx(0.25 * np.log(3), rel=1e-5)
    assert sum(exact(counts)) == pytest.approx(0.25 * np.log(3))


@pytest.mark.parametrize("seed", range(5))
def test_with_the_exact_classifier_it_is_the_information_and_a_divergence(seed):
    counts = np.random.default_rng(seed).integers(1, 9, (4, 3))
    information, divergence = exact(counts)
    found = bound(counts, counts / counts.sum(1, keepdims=True))
    assert found == pytest.approx(information + divergence, rel=1e-4, abs=1e-6)
    assert found >= information


def test_what_is_independent_has_none():
    counts = np.outer([1, 2, 3], [4, 1, 2])
    assert bound(counts, counts / counts.sum(1, keepdims=True)) == pytest.approx(0, abs=1e-6)
    counts = np.eye(3, dtype=int)  # and so has a classifier that does not look at z
    assert bound(counts, np.full((3, 3), 1 / 3)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("error", [0.1, 0.01])
def test_ten_classes_that_z_tells(error):
    conditional = np.where(np.eye(10, dtype=bool), 1 - error, error / 9)
    expected = 0.9 * (np.log(1 - error) - np.log(error / 9))
    assert bound(np.full((10, 10), 2) * np.eye(10, dtype=int), conditional) == pytest.approx(expected, rel=1e-5)


def test_the_classifier_is_fitted_to_pairs_and_not_to_the_product_of_the_marginals():
    """Eq. 5: the likelihood of pairs has its optimum at p(r | z), where the product's has it at p(r)."""
    classes = jnp.array([0, 0, 0, 1, 0, 1, 1, 1])
    z = jnp.array([0, 0, 0, 0, 1, 1, 1, 1])

    def slope(p: float) -> float:
        return float(
            jax.grad(
                lambda q: class_loss(jnp.log(jnp.stack([jnp.stack([q, 1 - q]), jnp.stack([1 - q, q])]))[z], classes)
            )(p)
        )

    assert slope(0.75) == pytest.approx(0, abs=1e-5)
    assert slope(0.5) < -0.5


def test_the_discriminator_by_hand():
    assert float(separation_loss(jnp.zeros(3), jnp.zeros(5))) == pytest.approx(2 * np.log(2))
    third = float(np.log(1 / 3 / (2 / 3)))  # D = 1/3
    assert float(separation_loss(jnp.array([third]), jnp.array([0.0, third]))) == pytest.approx(
        np.log(3) + (np.log(2) + np.log(1.5)) / 2
    )
    assert np.isfinite(separation_loss(jnp.array([-1e4]), jnp.array([1e4])))


def test_the_gradient_penalty_by_hand():
    gradients = jnp.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    assert float(gradient_penalty(gradients)) == pytest.approx((16 + 0 + 1) / 3)
    assert np.isfinite(jax.grad(lambda g: gradient_penalty(g))(gradients)).all()
