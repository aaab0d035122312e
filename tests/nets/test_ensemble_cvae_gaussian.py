import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safetrax.errors import ConfigError
from safetrax.nets.cvae import CVAE, Decoder, clipped_normal
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.gaussian import SquashedGaussian
from safetrax.nets.mlp import MLP, orthogonal
from safetrax.policies.actor import DeterministicActor, Standardised
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId

KEY = jax.random.key(0)
OBS, ACT = 8, 2


def parameters(network) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(network))


def batch(rows: int = 5) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    observations, actions = rng.standard_normal((rows, OBS)), rng.uniform(-1, 1, (rows, ACT))
    return jnp.asarray(observations, jnp.float32), jnp.asarray(actions, jnp.float32)


@pytest.fixture(scope="module")
def critics() -> Ensemble:
    return jax.jit(lambda: Ensemble.make(KEY, (OBS + ACT, 16), 3))()


@pytest.fixture(scope="module")
def cvae() -> CVAE:
    return jax.jit(lambda: CVAE.make(KEY, OBS, ACT, 16, 3))()


@pytest.fixture(scope="module")
def gaussian() -> SquashedGaussian:
    return jax.jit(lambda: SquashedGaussian.make(KEY, OBS, ACT, (16,)))()


@pytest.fixture(scope="module")
def network() -> MLP:
    return jax.jit(lambda: MLP.make(KEY, (OBS, 16, ACT), output="tanh"))()


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: MLP.make(KEY, (OBS, 256, 256, ACT)), 68_610),
        (lambda: MLP.make(KEY, (OBS + ACT, 256, 256, ACT)), 69_122),  # BCQ-Lag's perturbation
        (lambda: SquashedGaussian.make(KEY, OBS, ACT, (256, 256)), 69_124),
        (lambda: Ensemble.make(KEY, (OBS + ACT, 256, 256), 4), 275_460),
        (lambda: Ensemble.make(KEY, (OBS + ACT, 256, 256), 2), 137_730),
        (lambda: MLP.make(KEY, (OBS, 256, 256, 1)), 68_353),
        (lambda: CVAE.make(KEY, OBS, ACT, 400, 2 * ACT), 334_410),  # OSRL
        (lambda: CVAE.make(KEY, OBS, ACT, 256, 32), 161_858),  # LSPC
    ],
)
def test_parameter_counts_of_the_reference_implementations(make, count):
    assert parameters(eqx.filter_eval_shape(make)) == count


# Ensembles


def test_members_differ_and_are_evaluated_on_inputs_side_by_side(critics):
    observations, actions = batch()
    values, smallest, greatest = jax.jit(lambda c, *x: (c(*x), c.min(*x), c.max(*x)))(critics, observations, actions)
    assert values.shape == (3, 5)
    joined = np.concatenate([observations, actions], axis=-1)
    for member, row in zip(critics.members, np.asarray(values), strict=True):
        (first, last), (first_bias, last_bias) = member.weights, member.biases
        by_hand = np.maximum(joined @ first + first_bias, 0) @ last + last_bias
        np.testing.assert_allclose(by_hand[:, 0], row, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(smallest, np.asarray(values).min(0))
    np.testing.assert_array_equal(greatest, np.asarray(values).max(0))
    assert np.ptp(values, axis=0).min() > 0


def test_an_ensemble_takes_its_initialiser_to_every_layer():
    critics = jax.jit(lambda: Ensemble.make(KEY, (4, 4), 2, initialiser=orthogonal))()
    for member in critics.members:
        first, last = (np.asarray(weight) for weight in member.weights)
        np.testing.assert_allclose(first @ first.T, np.eye(4), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(last), 1.0, rtol=1e-5)
        assert not any(np.asarray(bias).any() for bias in member.biases)


# Autoencoder


def test_shapes_and_range_of_the_autoencoder(cvae):
    mean, log_std = jax.jit(CVAE.encode)(cvae, *batch())
    assert mean.shape == log_std.shape == (5, 3)
    assert cvae.latent_size == 3
    decoded, again, _ = jax.jit(CVAE.reconstruct)(cvae, KEY, *batch())
    np.testing.assert_allclose(mean, again, rtol=1e-6)
    assert decoded.shape == (5, ACT)
    assert abs(np.asarray(decoded)).max() < 1


def test_latent_deviations_are_clamped(cvae):
    encode = jax.jit(CVAE.encode)
    for bias, expected in ((-100.0, -4.0), (100.0, 15.0)):
        bent = eqx.tree_at(lambda c: c.encoder.biases[-1], cvae, jnp.full(6, bias))
        np.testing.assert_array_equal(encode(bent, *batch())[1], np.full((5, 3), expected))


def test_decoding_is_tanh_of_the_unsquashed_output(cvae):
    decode = jax.jit(lambda decoder, *x: (decoder(*x), decoder.unsquashed(*x)))
    observations, latents = batch()[0], jnp.ones((5, 3))
    actions, unsquashed = decode(cvae.decoder, observations, latents)
    np.testing.assert_allclose(actions, np.tanh(unsquashed), rtol=1e-5)
    assert abs(np.asarray(unsquashed) - decode(cvae.decoder, observations, 2 * latents)[1]).min() > 0


def test_reconstruction_draws_latents_from_the_encoder(cvae):
    # an encoder with mean 0.2 and log std -1 everywhere, and a decoder that hands the first two latents through
    zeros = jax.tree.map(jnp.zeros_like, cvae.encoder)
    encoder = eqx.tree_at(lambda e: e.biases[-1], zeros, jnp.repeat(jnp.array([0.2, -1.0]), 3))
    through = jnp.eye(OBS + 3, ACT, k=-OBS)
    decoder = Decoder(MLP((through,), (jnp.zeros(ACT),), output="identity", dropout_rate=0.0))
    actions, mean, log_std = jax.jit(CVAE.reconstruct)(CVAE(encoder, decoder), KEY, *batch(10_000))
    latents = np.arctanh(np.asarray(actions, np.float64))
    assert (float(mean[0, 0]), float(log_std[0, 0])) == (pytest.approx(0.2), -1.0)
    assert latents.mean() == pytest.approx(0.2, abs=0.01)
    assert latents.std() == pytest.approx(np.exp(-1), rel=0.02)


def test_prior_draws_stay_near_the_centre():
    draws = np.asarray(clipped_normal(KEY, (10_000,), 0.5))
    assert abs(draws).max() == 0.5
    assert (abs(draws) < 0.5).mean() == pytest.approx(0.383, abs=0.02)  # P(|z| < 1/2)


# Gaussian policy


def test_squashed_gaussian_acts_by_its_mean_and_clamps_its_deviation(gaussian):
    evaluate = jax.jit(lambda policy, x: (policy(x), *policy.moments(x)))
    observations = batch()[0]
    actions, mean, log_std = evaluate(gaussian, observations)
    assert mean.shape == log_std.shape == (5, ACT)
    np.testing.assert_allclose(actions, np.tanh(mean), rtol=1e-5)
    for bias, expected in ((-100.0, -20.0), (100.0, 2.0)):
        bent = eqx.tree_at(lambda p: p.network.biases[-1], gaussian, jnp.full(2 * ACT, bias))
        np.testing.assert_array_equal(evaluate(bent, observations)[2], np.full((5, ACT), expected))


def test_draws_have_the_policy_s_moments_and_pass_gradients(gaussian):
    def total(policy: SquashedGaussian):
        draws = policy.draw(KEY, batch(2)[0], 20_000)
        return jnp.sum(draws), (draws, policy.moments(batch(2)[0]))

    gradient, (draws, (mean, log_std)) = jax.jit(jax.grad(total, has_aux=True))(gaussian)
    assert draws.shape == (20_000, 2, ACT)
    np.testing.assert_allclose(np.asarray(draws).mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.asarray(draws).std(0), np.exp(log_std), rtol=0.05)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


# Actors


class Gain(DeterministicActor):
    """A linear policy whose gain can be changed."""

    gain: jax.Array

    @property
    def adjustable(self):
        return {"gain": (0.0, 2.0)}

    def act(self, memory, observations, noise):
        actions, memory = super().act(memory, observations, noise)
        return self.gain * actions, memory


@jax.jit
def act(actor, observations):
    return actor.act((), observations, actor.draw(jax.random.split(KEY, len(observations))))[0]


def test_standardised_actor_sees_standardised_observations(network):
    inner = DeterministicActor(network, jnp.array([-1.0, 0.0]), jnp.array([1.0, 4.0]))
    mean, std = np.arange(8, dtype=np.float32), np.linspace(0.5, 2, 8, dtype=np.float32)
    observations = np.asarray(batch()[0])
    actions = act(Standardised(inner, jnp.asarray(mean), jnp.asarray(std)), jnp.asarray(observations))
    np.testing.assert_allclose(actions, act(inner, jnp.asarray((observations - mean) / std)), atol=1e-6)
    assert np.asarray(actions)[:, 1].min() >= 0
    assert np.asarray(actions)[:, 1].max() > 1


def test_standardised_actor_is_adjusted_where_the_inner_one_is(network):
    inner = Gain(network, -jnp.ones(ACT), jnp.ones(ACT), jnp.ones(()))
    actor = Standardised(inner, jnp.zeros(OBS), jnp.ones(OBS))
    assert actor.adjustable == {"gain": (0.0, 2.0)}
    halved = act(actor.adjusted(gain=0.5), batch()[0])
    np.testing.assert_allclose(halved, np.asarray(act(actor, batch()[0])) / 2, rtol=1e-6)
    with pytest.raises(ConfigError, match="gain is 3"):
        actor.adjusted(gain=3)
    with pytest.raises(ConfigError, match="no adjustable 'mean'"):
        actor.adjusted(mean=0)
    with pytest.raises(ConfigError, match="it has nothing"):
        DeterministicActor(network, -jnp.ones(ACT), jnp.ones(ACT)).adjusted(gain=1)


@pytest.mark.parametrize("kind", ["network", "gaussian"])
def test_standardised_policies_are_saved_and_loaded(tmp_path, request, kind):
    inside = request.getfixturevalue(kind)
    inner = DeterministicActor(inside, -jnp.ones(ACT), jnp.ones(ACT))
    policy = Policy(Standardised(inner, jnp.arange(8.0), jnp.full(8, 2.0)), RunId("CQL", "BallRun", None, 0))
    restored = Policy.load(policy.save(tmp_path / "policy.safetensors"))
    observations = np.asarray(batch()[0])
    np.testing.assert_array_equal(policy.act(observations), restored.act(observations))
    assert type(restored.actor.actor.network) is type(inside)
