import functools
import math
import re
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import RISKY, SAFE, START, fork, two_arms

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.critics import fit_cvae
from safetrax.algorithms.learners import Learner, Tracked
from safetrax.algorithms.lspc import LSPC, LSPCState
from safetrax.data.store import Transitions
from safetrax.errors import ConfigError
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.policies.latent import LatentActor, LatentEncoder
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId
from safetrax.training.train import Run, train

TINY = LSPC(hidden=(16,), cvae_hidden=16, latent=4, batch_size=32, updates=3)
QUICK = replace(
    TINY,
    hidden=(32, 32),
    cvae_hidden=32,
    latent=2,
    batch_size=128,
    discount=0.9,
    target_rate=0.2,
    critic_learning_rate=5e-3,
    cvae_learning_rate=3e-3,
    policy_learning_rate=3e-3,
    standardise=False,  # the only state of the arms would be 0
)
ARMS_RUN = replace(QUICK, kl_weight=0.03, restriction=2.0, updates=1000)
ARMS = Spec(1, 1, 1, 1, 2, (-1.0,), (1.0,))
WEIGHT_BY_COST = (math.exp(-1.4), math.exp(0.6))  # of the risky and the safe arm: 0.2466 and 1.8221
WEIGHT_BY_REWARD = (math.exp(0.3), math.exp(-0.7))  # 1.350 and 0.497


def arms(*which: float, done: bool = False) -> Transitions:
    """Four transitions in the state of `probes.two_arms`, the named arms repeated: one shape compiles once."""
    played = jnp.asarray(which * (4 // len(which)))
    state = jnp.ones((4, 1))
    return Transitions(
        observations=state,
        actions=played[:, None],
        rewards=jnp.where(played == RISKY, 1.0, 0.5),
        costs=jnp.where(played == RISKY, 1.0, 0.0),
        done=jnp.full(4, done),
        next_observations=state,
    )


def constant(value: float) -> MLP:
    """V(s) = value."""
    biases = (jnp.zeros(1), jnp.full(1, value, jnp.float32))
    return MLP((jnp.zeros((1, 1)), jnp.zeros((1, 1))), biases, "identity", 0.0)


def of_arm(risky: float, safe: float, spread: float = 0.0) -> Ensemble:
    """Q(s, a) is `risky` at the risky arm, `safe` at the safe one; in the second network larger by `spread`."""
    weights = (jnp.asarray([[0.0], [1.0]]), jnp.full((1, 1), (risky - safe) / RISKY, jnp.float32))
    offsets = (jnp.full(1, safe, jnp.float32), jnp.full(1, safe + spread, jnp.float32))
    return Ensemble(tuple(MLP(weights, (jnp.zeros(1), offset), "identity", 0.0) for offset in offsets))


@functools.cache
def fresh_state() -> LSPCState:
    return TINY.init(jax.random.key(0), ARMS)


def with_values(
    algorithm: LSPC, reward_q: Ensemble, reward_value: float, cost_q: Ensemble, cost_value: float
) -> LSPCState:
    """A fresh state whose critics and values are given."""
    optimiser = optax.adam(algorithm.critic_learning_rate)
    fresh = fresh_state()
    return LSPCState(
        reward_critic=Tracked.make(reward_q, optimiser),
        reward_value=Learner.make(constant(reward_value), optimiser),
        cost_critic=Tracked.make(cost_q, optimiser),
        cost_value=Learner.make(constant(cost_value), optimiser),
        cvae=fresh.cvae,
        encoder=fresh.encoder,
        bounds=fresh.bounds,
    )


def fixed_point(algorithm: LSPC) -> LSPCState:
    """Where V_c = (1 - xi) / (1 - gamma) and V_r = (1/2 + xi / 2) / (1 - gamma), xi = 0.7."""
    scale = 1 / (1 - algorithm.discount)
    cost, reward = 0.3 * scale, 0.85 * scale
    return with_values(algorithm, of_arm(reward + 0.15, reward - 0.35), reward, of_arm(cost + 0.7, cost - 0.3), cost)


def learn(algorithm: LSPC, state: LSPCState, batch: Transitions) -> tuple[LSPCState, dict[str, float]]:
    state, metrics = algorithm._learn(state, batch, jax.random.key(1))
    return state, {name: float(value) for name, value in metrics.items()}


def gradient(learner: Learner) -> list[np.ndarray]:
    """Of the learner's first step: Adam's first moment is a tenth of it."""
    return [np.asarray(10 * leaf) for leaf in jax.tree.leaves(learner.optimiser[0].mu)]


def same(a, b) -> bool:
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def actions(policy: Policy, observation: np.ndarray, count: int = 500, seed: int = 0) -> np.ndarray:
    policy.reset(count, seed=seed)
    return policy.act(np.tile(observation, (count, 1)))[:, 0]


# The update


@pytest.mark.parametrize(("discount", "cost", "reward"), [(0.99, 30.0, 85.0), (0.9, 3.0, 8.5)])
def test_the_fixed_point_of_the_two_arms(discount, cost, reward):
    """gamma = 0.99: V_c = 30, Q_c = 30.7 and 29.7, V_r = 85, Q_r = 85.15 and 84.65. The weights need no gamma."""
    algorithm = replace(TINY, discount=discount)
    state, metrics = learn(algorithm, fixed_point(algorithm), arms(RISKY, SAFE))
    assert metrics["cost_value"] == pytest.approx(cost)
    assert metrics["reward_value"] == pytest.approx(reward)
    assert metrics["cost_critic_loss"] == pytest.approx(0, abs=1e-9)
    assert metrics["reward_critic_loss"] == pytest.approx(0, abs=1e-8)
    for learner in (state.cost_value, state.reward_value):
        assert all(np.abs(g).max() < 1e-4 for g in gradient(learner))
    assert metrics["weight"] == pytest.approx(sum(WEIGHT_BY_COST) / 2, rel=1e-4)
    assert metrics["policy_weight"] == pytest.approx(sum(WEIGHT_BY_REWARD) / 2, rel=1e-4)
    for arm, by_cost, by_reward in zip((RISKY, SAFE), WEIGHT_BY_COST, WEIGHT_BY_REWARD, strict=True):
        _, metrics = learn(algorithm, fixed_point(algorithm), arms(arm))
        assert metrics["weight"] == pytest.approx(by_cost, rel=1e-4)
        assert metrics["policy_weight"] == pytest.approx(by_reward, rel=1e-4)


def test_twins_are_read_with_caution_and_targets_taken_before_the_update():
    """Rewards by the smaller twin, costs by the larger one; nothing is added after an episode's end."""
    algorithm = replace(TINY, discount=0.5, target_rate=0.25)
    state = with_values(algorithm, of_arm(2, 1, spread=0.5), 4, of_arm(3, 1, spread=1), 2)
    new, metrics = learn(algorithm, state, arms(RISKY))
    assert metrics["policy_weight"] == pytest.approx(math.exp(2 * (2 - 4)))  # Q_r = min(2, 2.5)
    assert metrics["weight"] == pytest.approx(math.exp(2 * (2 - 4)))  # Q_c = max(3, 4)
    assert metrics["reward_value_loss"] == pytest.approx(0.3 * 4)  # V_r above Q_r
    assert metrics["cost_value_loss"] == pytest.approx(0.3 * 4)  # V_c below Q_c
    # targets 1 + 0.5 * 4 = 3 for Q_r in (2, 2.5), and 1 + 0.5 * 2 = 2 for Q_c in (3, 4)
    assert metrics["reward_critic_loss"] == pytest.approx((1 + 0.25) / 2)
    assert metrics["cost_critic_loss"] == pytest.approx((1 + 4) / 2)
    for old, tracked in ((state.cost_critic, new.cost_critic), (state.reward_critic, new.reward_critic)):
        for before, network, target in zip(
            *(jax.tree.leaves(t) for t in (old.target, tracked.network, tracked.target)), strict=True
        ):
            np.testing.assert_allclose(target, 0.75 * before + 0.25 * network, rtol=1e-5)
    _, metrics = learn(algorithm, state, arms(RISKY, done=True))
    assert metrics["reward_critic_loss"] == pytest.approx((1 + 1.5**2) / 2)
    assert metrics["cost_critic_loss"] == pytest.approx((4 + 9) / 2)
    _, metrics = learn(replace(algorithm, reward_scale=0.1), state, arms(RISKY, done=True))
    assert metrics["reward_critic_loss"] == pytest.approx((1.9**2 + 2.4**2) / 2)


def test_costs_are_never_taken_to_be_negative():
    state = with_values(TINY, of_arm(0, 0), 0, of_arm(-1, -2), -3)
    _, metrics = learn(TINY, state, arms(RISKY, SAFE))
    assert metrics["cost_value"] == 0
    assert metrics["below_zero"] == 1
    assert metrics["weight"] == 1  # both V_c and Q_c count as zero
    # targets c + 0: 1 and 0 for Q_c = -1 and -2
    assert metrics["cost_critic_loss"] == pytest.approx((4 + 4) / 2)


@pytest.mark.parametrize("stops", [False, True])
def test_a_negative_cost_value_learns_unless_its_clip_stops_the_gradient(stops):
    algorithm = replace(TINY, clip_stops_gradient=stops)
    state = with_values(algorithm, of_arm(0, 0), 0, of_arm(1, 1), -3)
    new, _ = learn(algorithm, state, arms(RISKY, SAFE))
    assert same(new.cost_value.network, state.cost_value.network) == stops
    # d/dV 0.3 (V - 1)^2 at V = -3
    assert gradient(new.cost_value)[-1] == pytest.approx(0 if stops else -2.4, rel=1e-5)


def test_weights_are_capped():
    algorithm = replace(TINY, cost_weight_cap=1.5, reward_weight_cap=1.2)
    _, metrics = learn(algorithm, fixed_point(algorithm), arms(RISKY, SAFE, SAFE, SAFE))
    assert metrics["clipped"] == 0.75
    assert metrics["policy_clipped"] == 0.25
    assert metrics["weight"] == pytest.approx((WEIGHT_BY_COST[0] + 3 * 1.5) / 4, rel=1e-4)


def test_the_mask_needs_both_values_below_the_threshold():
    batch = arms(RISKY, SAFE)
    for value, quality, masked in ((1.0, (3.0, 1.0), 0.5), (3.0, (1.0, 1.0), 1.0), (1.0, (1.0, 1.0), 0.0)):
        state = with_values(TINY, of_arm(0, 0), 0, of_arm(*quality), value)
        _, metrics = learn(replace(TINY, cost_threshold=2.0), state, batch)
        assert metrics["above_limit"] == masked
        _, free = learn(TINY, state, batch)
        assert free["above_limit"] == 0
        safe_weight = math.exp(2 * (value - quality[1]))
        assert metrics["weight"] == pytest.approx(safe_weight * (1 - masked))
        assert metrics["policy_weight"] == free["policy_weight"]
    state = with_values(TINY, of_arm(0, 0), 0, of_arm(2, 2), 1)
    _, metrics = learn(replace(TINY, cost_threshold=2.0), state, batch)
    assert metrics["above_limit"] == 1  # at the threshold
    new, metrics = learn(replace(TINY, cost_threshold=0.02), state, batch)
    assert metrics["cvae_loss"] == 0
    assert same(new.cvae.network, state.cvae.network)


def test_each_step_changes_its_own_networks():
    state, batch = fresh_state(), arms(RISKY, SAFE)
    new, _ = learn(TINY, state, batch)
    for name in ("reward_critic", "reward_value", "cost_critic", "cost_value", "cvae", "encoder"):
        assert not same(getattr(new, name), getattr(state, name))
    assert same(new.bounds, state.bounds)
    # the encoder's step leaves everything else, the decoder too
    other, _ = learn(replace(TINY, policy_learning_rate=0.1), state, batch)
    assert not same(other.encoder.network, new.encoder.network)
    assert same(eqx.tree_at(lambda s: s.encoder, other, new.encoder), new)
    # the CVAE's step leaves the critics; the encoder's looks through its new decoder
    other, _ = learn(replace(TINY, cvae_learning_rate=0.1), state, batch)
    assert not same(other.cvae.network.decoder, new.cvae.network.decoder)
    assert not same(other.encoder.network, new.encoder.network)
    assert same(eqx.tree_at(lambda s: (s.cvae, s.encoder), other, (new.cvae, new.encoder)), new)


def zero_but(network: MLP, last: list[float]) -> MLP:
    """All weights and biases zero, but the last layer's biases."""
    zeros = jax.tree.map(jnp.zeros_like, network)
    return eqx.tree_at(lambda net: net.biases[-1], zeros, jnp.asarray(last))


def test_losses_by_hand():
    """The decoder gives tanh(z_1) in every state; q(z|s,a) and the latent encoder do not look at their input."""
    state, batch, weight = fresh_state(), arms(RISKY, SAFE), jnp.asarray([2.0, 1.0, 2.0, 1.0])
    decoder = zero_but(state.cvae.network.decoder.network, [0.0])
    decoder = eqx.tree_at(
        lambda net: net.weights,
        decoder,
        (
            decoder.weights[0].at[1, :2].set(jnp.asarray([1.0, -1.0])),
            decoder.weights[1].at[:2, :2].set(jnp.eye(2)),
            decoder.weights[2].at[:2, 0].set(jnp.asarray([1.0, -1.0])),
        ),
    )
    encoder = zero_but(state.cvae.network.encoder, [0.5, 0, 0, 0, -4, -4, -4, -4])
    cvae = eqx.tree_at(lambda c: (c.encoder, c.decoder.network), state.cvae.network, (encoder, decoder))
    optimiser = optax.adam(1e-3)

    # sum of squared errors, and half the mean divergence over four dimensions; z_1 = 0.5 +- e^-4
    learner = Learner.make(cvae, optimiser)
    _, fit = fit_cvae(learner, optimiser, batch, jax.random.key(0), TINY.kl_weight, weight)
    divergence = (math.exp(-8) - 1) / 2 + 4 + 0.25 / 8
    errors = [(arm - math.tanh(0.5)) ** 2 + 0.5 * divergence for arm in (RISKY, SAFE)]
    assert float(fit.loss) == pytest.approx((2 * errors[0] + errors[1]) / 2, rel=0.01)

    # z_1 = epsilon tanh(0.3), with hardly any noise
    network = zero_but(state.encoder.network.network, [0.3, 0, 0, 0, -10, -10, -10, -10])
    learner = Learner.make(LatentEncoder(network), optimiser)
    epsilon, squashed = TINY.restriction, math.tanh(0.3)
    decoded = math.tanh(epsilon * squashed)
    _, fit = TINY._fit_encoder(learner, cvae.decoder, batch, weight, jax.random.key(0))
    errors = [arm - decoded for arm in (RISKY, SAFE)]
    assert float(fit.loss) == pytest.approx((2 * errors[0] ** 2 + errors[1] ** 2) / 2, rel=1e-3)
    assert float(fit.extra) == pytest.approx(squashed / 4, rel=1e-3)
    slope = epsilon * (1 - squashed**2) * (1 - decoded**2)
    assert float(fit.gradient) == pytest.approx(abs(-(2 * errors[0] + errors[1]) * slope), rel=1e-3)


def test_converse_swaps_the_weights():
    algorithm = replace(TINY, cost_weight_cap=1.5)
    _, plain = learn(algorithm, fixed_point(algorithm), arms(RISKY, SAFE))
    _, swapped = learn(replace(algorithm, converse=True), fixed_point(algorithm), arms(RISKY, SAFE))
    for a, b in (("weight", "policy_weight"), ("clipped", "policy_clipped")):
        assert (swapped[a], swapped[b]) == (plain[b], plain[a])
    _, masked = learn(replace(algorithm, converse=True, cost_threshold=0.02), fixed_point(algorithm), arms(RISKY))
    assert masked["policy_weight"] == 0  # the mask goes with the weights by cost
    assert masked["weight"] == pytest.approx(WEIGHT_BY_REWARD[0], rel=1e-4)


# The policies


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(replace(TINY, restriction=0.6).actor(fresh_state()), RunId("LSPC-O", None, None, 0))


HERE = np.asarray([0.3], np.float32)


def latents(policy: Policy, count: int = 400) -> np.ndarray:
    observations = jnp.tile(jnp.asarray(HERE), (count, 1))
    noise = policy.actor.draw(jax.random.split(jax.random.key(0), count))
    return np.asarray(policy.actor.latents(observations, noise))


@pytest.mark.parametrize("from_prior", [0, 1])
@pytest.mark.parametrize("restriction", [0.1, 0.6])
def test_latents_stay_within_the_restriction(policy, from_prior, restriction):
    drawn = latents(policy.adjusted(restriction=restriction, from_prior=from_prior))
    assert drawn.shape == (400, 4)
    assert np.abs(drawn).max() <= np.float32(restriction)
    assert drawn.std(axis=0).min() > 0.1 * restriction
    if from_prior:  # what lies outside is moved to the edge, as often as a standard normal is there
        at_edge = np.mean(np.abs(drawn) == np.float32(restriction))
        assert at_edge == pytest.approx(math.erfc(restriction / math.sqrt(2)), abs=0.05)


def test_no_room_makes_both_policies_one(policy):
    centre = policy.actor.decoder(jnp.asarray(HERE)[None], jnp.zeros((1, 4)))[0]
    for from_prior in (0, 1):
        safe = policy.adjusted(from_prior=from_prior)
        np.testing.assert_allclose(safe.adjusted(restriction=0).act(HERE), centre, rtol=1e-5)
        np.testing.assert_allclose(safe.adjusted(restriction=1e-4).act(HERE), centre, atol=1e-3)
    calm = policy.adjusted(from_prior=1, noise=0)
    np.testing.assert_allclose(calm.act(HERE), centre, rtol=1e-5)


def test_without_noise_the_key_does_not_matter(policy):
    calm = policy.adjusted(noise=0)
    drawn = actions(calm, HERE, 50)
    assert np.ptp(drawn) == 0
    mean, _ = policy.actor.encoder.moments(jnp.asarray(HERE)[None])
    expected = policy.actor.decoder(jnp.asarray(HERE)[None], 0.6 * jnp.tanh(mean))[0, 0]
    assert drawn[0] == pytest.approx(float(expected), rel=1e-5)
    assert len(np.unique(actions(policy, HERE, 50))) == 50  # every episode draws for itself
    assert float(replace(TINY, deterministic=True).actor(fresh_state()).noise) == 0


def test_what_cannot_be_adjusted_is_said(policy):
    with pytest.raises(ConfigError, match=r"from_prior is 0\.5, but must be 0 or 1"):
        policy.adjusted(from_prior=0.5)
    with pytest.raises(ConfigError, match="restriction"):
        policy.adjusted(restriction=-0.1)
    with pytest.raises(ConfigError, match="no adjustable 'cost_limit'"):
        policy.adjusted(cost_limit=10)


def test_names():
    assert [variant.name for variant in TINY.variants([10.0])] == ["LSPC-O", "LSPC-S"]
    converse = replace(TINY, converse=True)
    assert converse.name == "LSPC-Converse"
    assert [variant.name for variant in converse.variants([10.0])] == ["LSPC-O-Converse"]


# Probe problems


@pytest.fixture(scope="module")
def arms_run() -> Run:
    return train(ARMS_RUN, two_arms(), cost_limits=[1, 3])


def settled(policy: Policy) -> Policy:
    """The encoder's optimum in this decoder: the decoder stays, and the steps become ever smaller."""
    actor = policy.actor
    assert isinstance(actor, LatentActor)
    learner = Learner.make(actor.encoder, optax.adam(1.0))
    batch, weight = arms(RISKY, SAFE), jnp.asarray(WEIGHT_BY_REWARD * 2)
    for rate in (1e-3, 1e-4):
        algorithm = replace(ARMS_RUN, policy_learning_rate=rate)

        def body(i, learner, algorithm=algorithm):
            return algorithm._fit_encoder(learner, actor.decoder, batch, weight, jax.random.key(i))[0]

        learner = jax.jit(lambda learner, body=body: jax.lax.fori_loop(0, 1000, body, learner))(learner)
    return Policy(eqx.tree_at(lambda a: a.encoder, actor, learner.network), policy.id)


def test_two_arms_are_learnt(arms_run):
    """V_c = 3 and V_r = 8.5 with gamma = 0.9. The CVAE's weights make the risky arm rare (0.2466 against 1.8221), so
    the latent space's centre decodes to the safe one. Both arms lie within the restriction, so that the encoder's
    optimum is their weighted mean, 0.5 (1.350 - 0.497) / (1.350 + 0.497); kept near the centre it is as safe as the
    prior. The mean is at the steep edge between the arms, which moves while the decoder learns: see `settled`."""
    last = {row.metric: row.value for row in arms_run.metrics}
    assert last["cost_value"] == pytest.approx(3, abs=0.1)
    assert last["reward_value"] == pytest.approx(8.5, abs=0.2)
    assert last["weight"] == pytest.approx(sum(WEIGHT_BY_COST) / 2, abs=0.1)
    assert last["policy_weight"] == pytest.approx(sum(WEIGHT_BY_REWARD) / 2, abs=0.1)
    seeking, safe = arms_run.policies
    state = np.ones(1, np.float32)
    assert np.abs(actions(safe, state) - SAFE).max() < 0.05
    assert np.abs(actions(seeking.adjusted(restriction=0.25), state) - SAFE).max() < 0.05
    risky, cheap = WEIGHT_BY_REWARD
    assert actions(settled(seeking), state).mean() == pytest.approx(0.5 * (risky - cheap) / (risky + cheap), abs=0.03)


def test_one_training_gives_two_policies_for_every_limit(arms_run):
    assert [str(run) for run in arms_run.ids] == ["LSPC-O_seed-0", "LSPC-S_seed-0"]
    seeking, safe = (policy.actor for policy in arms_run.policies)
    assert (float(seeking.restriction), float(seeking.from_prior)) == (2, 0)
    assert (float(safe.restriction), float(safe.from_prior)) == (0.25, 1)
    assert same(seeking.decoder, safe.decoder)


def test_a_latent_that_costs_too_much_says_nothing():
    """Then the decoder gives the mean of the arms weighted by cost, -0.381, whatever the latent."""
    batch, weight = arms(RISKY, SAFE), jnp.asarray(WEIGHT_BY_COST * 2)
    adam = optax.adam(3e-3)

    @jax.jit
    def clone(learner):
        def body(i, learner):
            return fit_cvae(learner, adam, batch, jax.random.key(i), 5.0, weight)[0]

        return jax.lax.fori_loop(0, 1000, body, learner)

    cvae = clone(Learner.make(fresh_state().cvae.network, adam)).network
    risky, safe = WEIGHT_BY_COST
    decoded = cvae.decoder(jnp.ones((3, 1)), jnp.asarray([[0.0] * 4, [0.5] * 4, [-0.5, 0.5, 0.5, 0.0]]))
    np.testing.assert_allclose(decoded, 0.5 * (risky - safe) / (risky + safe), atol=0.03)


@pytest.mark.slow
def test_at_the_fork_all_policies_go_the_safe_way():
    """Whatever the limit: only later steps cost, 3.1 more on the risky branch, and the CVAE's weights at the start
    differ by e^6.2, so that near the centre of its latent space there is no other way."""
    for policy in train(replace(QUICK, updates=500), fork()).policies:
        assert np.abs(actions(policy, START) - SAFE).max() < 0.15


# Settings, sizes, warnings


def test_parameter_counts():
    spec = Spec.of(toy_episodes([3], observation_size=8))
    state = jax.eval_shape(lambda key: LSPC().init(key, spec), jax.random.key(0))

    def count(tree) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    assert count(state.reward_value.network) == count(state.cost_value.network) == 68_353
    assert count(state.reward_critic.network) == count(state.cost_critic.target) == 137_730
    assert count(state.cvae.network) == 161_858
    assert count(state.encoder.network) == 84_544


def test_presets():
    for suite, task, restriction, threshold in (
        ("bullet", "BallRun", 0.6, None),
        ("bullet", None, 0.6, None),
        ("bullet", "AntRun", 0.25, None),
        ("safety_gymnasium", "CarGoal1", 0.25, None),
        ("metadrive", "easysparse", 0.25, 0.02),
    ):
        preset = LSPC.preset(suite, task)
        assert (preset.restriction, preset.cost_threshold) == (restriction, threshold)
        assert preset.prior_restriction == 0.25
        assert (preset.updates, preset.batch_size, preset.uses_cost_limit) == (1_000_000, 1024, False)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("restriction", 0.0),
        ("restriction", 11.0),
        ("prior_restriction", -1.0),
        ("expectile", 1.0),
        ("discount", 1.0),
        ("cost_threshold", 0.0),
        ("latent", 0),
        ("cost_temperature", -1.0),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(LSPC(), **{setting: value})


HEALTHY = {
    "clipped": [0.0],
    "policy_clipped": [0.1],
    "weight": [1.0],
    "policy_weight": [1.0],
    "above_limit": [0.5],
    "centre": [0.9],
    "policy_gradient": [0.1],
    "below_zero": [0.1],
    "cost": [0.1],
}


@pytest.mark.parametrize(
    ("settings", "signs", "said"),
    [
        ({}, {"clipped": 1.0}, "all weights of the CVAE are at their cap.*cost_temperature"),
        ({}, {"policy_clipped": 1.0}, "all weights of the encoder are at their cap.*reward_temperature"),
        ({"converse": True}, {"clipped": 1.0}, "all weights of the CVAE are at their cap.*reward_temperature"),
        ({}, {"weight": 1e-4}, "weights of the CVAE vanish.*cost_temperature"),
        ({}, {"policy_weight": 1e-4}, "weights of the encoder vanish.*reward_temperature"),
        ({}, {"weight": 0.0, "above_limit": 1.0}, "reaches cost_threshold everywhere, so that the CVAE"),
        ({}, {"centre": 0.2}, "nearly one action everywhere.*kl_weight"),
        ({}, {"policy_gradient": 0.0}, "the encoder receives no gradient"),
        ({"clip_stops_gradient": True}, {"below_zero": 1.0}, "V_c is below zero everywhere"),
    ],
)
def test_degenerate_runs_are_told(settings, signs, said):
    algorithm = replace(LSPC(), **settings)
    healthy = {name: values * 6 for name, values in HEALTHY.items()}
    assert algorithm.diagnose(healthy) == ()
    (sentence,) = algorithm.diagnose({**healthy, **{name: [value] * 6 for name, value in signs.items()}})
    assert re.search(said, sentence)
    assert LSPC().diagnose({**healthy, "below_zero": [1.0] * 6}) == ()
