import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from safetrax.algorithms import diffusion_learner
from safetrax.algorithms.diffusion_learner import draw_actions, noised_actions, regression_loss
from safetrax.data.store import Transitions
from safetrax.errors import ConfigError
from safetrax.nets.denoiser import Denoiser, ResidualBlock, mish
from safetrax.nets.diffusion import NoiseSchedule, draw_noise, sample
from safetrax.nets.dropout import dropout
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP, xavier_uniform
from safetrax.policies.diffusion import Choice, DiffusionActor, MostRewarding, MostRewardingWithin, Safest
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId

KEY = jax.random.key(0)
FIVE = NoiseSchedule.make("vp", 5)
OBS, ACT, CANDIDATES = 3, 2, 6


# Schedules and noising


def test_the_vp_schedule_of_five_steps():
    np.testing.assert_allclose(1 - FIVE.alpha, [0.195875, 0.458818, 0.635781, 0.754878, 0.835031], atol=1e-6)
    np.testing.assert_allclose(FIVE.alpha_bar, [0.804125, 0.435178, 0.158500, 0.038852, 0.006409], atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 20, 1000])
def test_what_the_vp_schedule_leaves_of_an_action_does_not_depend_on_the_steps(steps):
    schedule = NoiseSchedule.make("vp", steps)
    assert schedule.steps == steps
    assert float(schedule.alpha_bar[-1]) == pytest.approx(math.exp(-5.05), rel=1e-4)


def test_the_cosine_schedule_of_twenty_steps():
    schedule = NoiseSchedule.make("cosine", 20)
    assert float(1 - schedule.alpha[0]) == pytest.approx(0.0079927, abs=1e-7)
    assert float(1 - schedule.alpha[-1]) == pytest.approx(0.999)
    assert float(schedule.alpha_bar[-1]) == pytest.approx(6.06e-6, rel=1e-3)
    angles = (np.arange(1, 20) / 20 + 0.008) / 1.008 * math.pi / 2
    start = math.cos(0.008 / 1.008 * math.pi / 2)
    np.testing.assert_allclose(schedule.alpha_bar[:-1], (np.cos(angles) / start) ** 2, rtol=1e-5)


def test_a_schedule_needs_a_step():
    with pytest.raises(ConfigError, match="diffusion_steps"):
        NoiseSchedule.make("vp", 0)


def test_noised_actions_have_the_schedule_s_moments_at_steps_drawn_evenly():
    actions = jnp.tile(jnp.array([[0.5, -1.0]]), (50_000, 1))
    noised, steps, noise = jax.jit(lambda *x: noised_actions(FIVE, *x))(actions, KEY)
    for k, kept in enumerate(FIVE.alpha_bar):
        at = np.asarray(noised)[np.asarray(steps) == k]
        assert len(at) / 50_000 == pytest.approx(0.2, abs=0.01)
        np.testing.assert_allclose(at.mean(0), np.sqrt(kept) * np.array([0.5, -1.0]), atol=0.04)
        np.testing.assert_allclose(at.std(0), np.sqrt(1 - kept), rtol=0.02)
        assert abs(np.corrcoef(at.T)[0, 1]) < 0.04
    kept = np.asarray(FIVE.alpha_bar)[steps, None]
    by_hand = np.sqrt(kept) * actions + np.sqrt(1 - kept) * noise
    np.testing.assert_allclose(noised, by_hand, rtol=1e-4, atol=1e-5)


# Sampling


@pytest.mark.parametrize(("steps", "spread"), [(100, 0.205), (20, 0.208), (5, 0.114)])
def test_the_exact_noise_of_a_gaussian_samples_its_mean_and_in_few_steps_less_than_its_spread(steps, spread):
    """Of N(0.3, 0.2^2): five steps keep the mean and shrink the deviation, which is expected and no fault."""
    schedule = NoiseSchedule.make("vp", steps)

    def exact(x, k):
        kept = schedule.alpha_bar[k][:, None]
        return jnp.sqrt(1 - kept) * (x - jnp.sqrt(kept) * 0.3) / (kept * 0.2**2 + 1 - kept)

    drawn = np.asarray(sample(exact, schedule, draw_noise(KEY, steps, (20_000, 1)), clip=False))
    assert drawn.mean() == pytest.approx(0.3, abs=0.005)
    assert drawn.std() == pytest.approx(spread, abs=0.004)


@pytest.mark.parametrize("clip", [False, True])
def test_sampling_by_hand(clip):
    schedule = NoiseSchedule.make("vp", 3)
    noise = np.asarray(draw_noise(KEY, 3, (4, 2)))
    x = noise[0].astype(np.float64)
    for k, xi in ((2, noise[1]), (1, noise[2]), (0, 0.0)):  # the last step adds nothing
        alpha, kept = float(schedule.alpha[k]), float(schedule.alpha_bar[k])
        predicted = 0.5 * x + 0.1 * k
        x = (x - (1 - alpha) / math.sqrt(1 - kept) * predicted) / math.sqrt(alpha) + math.sqrt(1 - alpha) * xi
        x = np.clip(x, -1, 1) if clip else x
    drawn = sample(lambda x, k: 0.5 * x + 0.1 * k[:, None], schedule, jnp.asarray(noise), clip=clip)
    np.testing.assert_allclose(drawn, x, rtol=1e-4, atol=1e-5)
    assert (np.abs(drawn).max() <= 1) == clip


def test_gradients_pass_through_all_steps():
    noise = draw_noise(KEY, 3, (200, 1))
    schedule = NoiseSchedule.make("vp", 3)

    @jax.jit
    def mean(gain):
        return jnp.mean(sample(lambda x, k: gain[k][:, None] * x + 0.1, schedule, noise, clip=False))

    gain = jnp.array([0.9, 0.8, 0.7])
    for k, slope in enumerate(jax.jit(jax.grad(mean))(gain)):
        step = 0.01 * jnp.eye(3)[k]
        assert float(slope) == pytest.approx(float(mean(gain + step) - mean(gain - step)) / 0.02, rel=0.1)
        assert abs(float(slope)) > 0.01


def test_an_action_beyond_its_bounds_passes_no_gradient_and_one_within_does():
    @jax.jit
    @jax.grad
    def slopes(shift):
        return jnp.sum(sample(lambda x, k: shift[:, None], NoiseSchedule.make("vp", 1), jnp.zeros((1, 2, 1))))

    inside, outside = slopes(jnp.array([0.01, 1.0]))
    assert inside < 0
    assert outside == 0


# The network


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_scales_the_others(rate):
    dropped = np.asarray(dropout(-jnp.ones((4000, 64)), jnp.uint32(3), rate))
    kept = round(256 * (1 - rate)) / 256
    np.testing.assert_allclose(np.unique(dropped), [-1 / kept, 0])
    assert (dropped == 0).mean() == pytest.approx(1 - kept, abs=0.005)
    assert 1 - kept == pytest.approx(rate, abs=1 / 256)
    assert dropped.mean() == pytest.approx(-1, abs=0.01)


def test_mish_is_x_tanh_of_softplus_everywhere():
    x = np.concatenate([np.linspace(-90, 90, 181), np.linspace(-3, 3, 61), [-1e4, -1e30, 1e4, 1e30, 19.99, 20.01]])
    with np.errstate(over="ignore"):
        expected = x * np.tanh(np.where(x > 700, x, np.log1p(np.exp(np.minimum(x, 700)))))
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(mish)))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-30)
    assert np.isfinite(slopes).all()
    np.testing.assert_allclose(slopes[x > 15], 1, rtol=1e-5)
    np.testing.assert_allclose(slopes[x < -50], 0, atol=1e-15)


def test_parameter_count_of_the_published_network():
    network = jax.eval_shape(lambda: Denoiser.make(KEY, 8, 2))
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == 1_639_202


@jax.jit
def apply(network, *arguments):
    return network(*arguments)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return jax.jit(lambda: Denoiser.make(KEY, OBS, ACT, width=8, blocks=2))()


def inputs(rows: int = 5) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    observations, actions = rng.standard_normal((rows, OBS)), rng.standard_normal((rows, ACT))
    return jnp.asarray(observations, jnp.float32), jnp.asarray(actions, jnp.float32), jnp.arange(rows) % 5


def test_weights_start_within_glorot_s_bounds_and_biases_at_zero():
    weight, bias = xavier_uniform(KEY, 30, 70)
    bound = math.sqrt(6 / 100)
    assert 0.98 * bound < float(jnp.abs(weight).max()) <= bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not bias.any()


def test_a_denoiser_by_hand(denoiser):
    def dense(layer, x):
        return x @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias, np.float64)

    def activation(x):
        return x * np.tanh(np.log1p(np.exp(x)))

    observations, actions, steps = (np.asarray(x, np.float64) for x in inputs())
    angles = 2 * np.pi * steps[:, None] * np.asarray(denoiser.frequencies, np.float64)
    first, second = denoiser.time
    time = dense(second, activation(dense(first, np.concatenate([np.cos(angles), np.sin(angles)], axis=1))))
    x = dense(denoiser.enter, np.concatenate([actions, observations, time], axis=1))
    for block in denoiser.blocks:
        h = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
        x = x + dense(block.narrow, activation(dense(block.widen, h)))
    np.testing.assert_allclose(apply(denoiser, *inputs()), dense(denoiser.leave, activation(x)), atol=1e-4)
    assert [block.widen.weight.shape for block in denoiser.blocks] == [(8, 32)] * 2
    assert denoiser.frequencies.shape == (32,)


def test_a_block_normalises_what_dropout_leaves_and_adds_it_to_what_came_in():
    block = jax.jit(lambda: ResidualBlock.make(KEY, 8))()
    block = eqx.tree_at(lambda b: (b.scale, b.offset), block, (jnp.full(8, 2.0), jnp.full(8, 0.5)))
    x, seed = jnp.asarray(np.random.default_rng(1).normal(1, 2, (5, 8)), jnp.float32), jnp.uint32(4)
    h = np.asarray(dropout(x, seed, 0.5), np.float64)
    h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-6) * 2 + 0.5
    added = jax.jit(lambda block, h: block.narrow(mish(block.widen(h))))(block, jnp.asarray(h, jnp.float32))
    np.testing.assert_allclose(jax.jit(lambda block: block(x, seed, 0.5))(block), x + added, rtol=1e-4, atol=1e-4)


def test_a_denoiser_drops_only_where_a_seed_is_given_and_in_every_block_by_another_mask(denoiser):
    plain = apply(denoiser, *inputs())
    np.testing.assert_array_equal(plain, apply(denoiser, *inputs()))
    once, again, other = (apply(denoiser, *inputs(), jnp.uint32(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert (once != plain).any()
    assert (once != other).any()
    parts = (denoiser.frequencies, denoiser.time, denoiser.enter, denoiser.blocks, denoiser.leave)
    without = Denoiser(*parts, dropout_rate=0.0)
    np.testing.assert_array_equal(plain, apply(without, *inputs(), jnp.uint32(1)))


def test_the_noise_depends_on_observation_action_and_step(denoiser):
    observations, actions, steps = inputs()
    plain = apply(denoiser, observations, actions, steps)
    for changed in ((observations + 1, actions, steps), (observations, actions + 1, steps)):
        assert (apply(denoiser, *changed) != plain).all()
    assert (apply(denoiser, observations, actions, steps + 1) != plain).all()


def rows_of(actions: jax.Array, observation_size: int = 1) -> Transitions:
    n = actions.shape[0]
    ones = jnp.ones((n, observation_size))
    return Transitions(ones, actions, jnp.zeros(n), jnp.zeros(n), jnp.zeros(n, bool), ones)


def test_the_loss_by_hand():
    """A network that always says 0.5 for both dimensions is off by sum (eps - 0.5)^2 for each row."""
    network = jax.tree.map(
        lambda x: jnp.zeros(x.shape), jax.eval_shape(lambda: Denoiser.make(KEY, 1, 2, width=4, blocks=1))
    )
    network = eqx.tree_at(lambda d: d.leave.bias, network, jnp.full(2, 0.5))
    batch, weight = rows_of(jnp.zeros((20_000, 2))), jnp.tile(jnp.array([0.0, 2.0]), 10_000)
    losses = jax.jit(lambda weight: regression_loss(network, FIVE, batch, weight, KEY))
    loss = losses(weight)
    # E (eps - 0.5)^2 = 1.25, two dimensions, mean weight 1
    assert float(loss) == pytest.approx(2.5, rel=0.03)
    assert losses(0 * weight) == 0


def test_noise_and_dropout_are_drawn_with_keys_of_their_own(monkeypatch, denoiser):
    keys = {}

    def recorded(name):
        original = getattr(diffusion_learner, name)

        def record(*arguments):
            keys[name] = arguments[-1]
            return original(*arguments)

        return record

    for name in ("noised_actions", "dropout_seed"):
        monkeypatch.setattr(diffusion_learner, name, recorded(name))

    @jax.jit
    def taken():
        regression_loss(denoiser, FIVE, rows_of(jnp.zeros((5, ACT)), OBS), jnp.ones(5), KEY)
        noise, dropped = keys["noised_actions"], keys["dropout_seed"]
        return [jax.random.key_data(key) for key in (dropped, noise, *jax.random.split(noise))]

    dropped, *others = taken()
    assert not any(np.array_equal(dropped, key) for key in others)


@pytest.mark.slow
def test_weights_of_one_to_three_give_shares_of_one_to_three():
    actions = jnp.where(jnp.arange(256) % 2 == 0, -0.8, 0.8)[:, None]
    weight = jnp.where(actions[:, 0] < 0, 0.5, 1.5)
    adam, schedule = optax.adam(3e-3), NoiseSchedule.make("vp", 20)

    @jax.jit
    def train(key):
        network = Denoiser.make(key, 1, 1, width=32, blocks=1, dropout_rate=0.0)

        def step(carry, key):
            network, state = carry
            gradient = jax.grad(regression_loss)(network, schedule, rows_of(actions), weight, key)
            updates, state = adam.update(gradient, state)
            return (optax.apply_updates(network, updates), state), None

        return jax.lax.scan(step, (network, adam.init(network)), jax.random.split(key, 600))[0][0]

    drawn = np.asarray(draw_actions(train(KEY), schedule, jnp.ones((4000, 1)), KEY, 1))[:, 0]
    np.testing.assert_allclose(np.median(drawn[drawn > 0]), 0.8, atol=0.05)
    np.testing.assert_allclose(np.median(drawn[drawn < 0]), -0.8, atol=0.05)
    assert (np.abs(np.abs(drawn) - 0.8) < 0.2).mean() > 0.9
    assert (drawn > 0).mean() == pytest.approx(0.75, abs=0.05)


# The actor


def linear(*gains: tuple[float, float]) -> Ensemble:
    """Q_i(s, a) = gain_i a, whatever the state."""
    members = (jnp.concatenate([jnp.zeros(OBS), jnp.array(gain)])[:, None] for gain in gains)
    return Ensemble(tuple(MLP((weight,), (jnp.zeros(1),), "identity", 0.0) for weight in members))


FIRST, SECOND = (1.0, 0.0), (0.0, 1.0)


def within(threshold: float) -> MostRewardingWithin:
    """The greatest second coordinate among candidates whose first one is within the threshold."""
    return MostRewardingWithin(MostRewarding(linear(SECOND)), Safest(linear(FIRST)), jnp.float32(threshold))


def make_actor(denoiser: Denoiser, choice: Choice) -> DiffusionActor:
    low, high = jnp.array([-1.0, 0.0]), jnp.array([1.0, 4.0])
    return DiffusionActor(denoiser, FIVE, choice, low, high, jnp.float32(1), CANDIDATES)


@eqx.filter_jit
def act(actor: DiffusionActor, observations: jax.Array, keys: jax.Array) -> jax.Array:
    return actor.act((), observations, actor.draw(keys))[0]


@pytest.fixture(scope="module")
def candidates(denoiser) -> np.ndarray:
    """What each of five episodes draws, one episode after the other."""
    keys, observations = jax.random.split(KEY, 5), inputs()[0]

    @jax.jit
    def draw(observation, key):
        repeated = jnp.tile(observation, (CANDIDATES, 1))
        return sample(lambda x, k: denoiser(repeated, x, k), FIVE, draw_noise(key, 5, (CANDIDATES, ACT)))

    return np.stack([draw(observation, key) for observation, key in zip(observations, keys, strict=True)])


@pytest.mark.parametrize(
    ("choice", "score"),
    [
        (Safest(linear(FIRST, SECOND)), lambda a: -a.max(-1)),
        (MostRewarding(linear(FIRST, SECOND)), lambda a: a.min(-1)),
        (within(0.0), lambda a: np.where(a[..., 0] <= 0, a[..., 1], -10 - a[..., 0])),
        (within(-2.0), lambda a: -a[..., 0]),  # none is within
        (within(2.0), lambda a: a[..., 1]),  # all are
    ],
)
def test_the_candidate_of_the_best_score_is_played(denoiser, candidates, choice, score):
    played = act(make_actor(denoiser, choice), inputs()[0], jax.random.split(KEY, 5))
    best = score(candidates).argmax(1)
    expected = candidates[np.arange(5), best]
    np.testing.assert_allclose(played, expected * [1, 2] + [0, 2], atol=1e-4)
    assert np.ptp(candidates, axis=1).min() > 0


def test_each_episode_draws_with_its_own_key_whatever_is_beside_it(denoiser):
    actor, observations, keys = make_actor(denoiser, Safest(linear(FIRST))), inputs()[0], jax.random.split(KEY, 5)
    played, order = act(actor, observations, keys), np.array([3, 0, 4, 2, 1])
    np.testing.assert_allclose(act(actor, observations[order], keys[order]), played[order], atol=1e-5)
    alike = act(actor, jnp.tile(observations[:1], (5, 1)), keys)
    assert len(np.unique(alike, axis=0)) > 1
    again = act(actor, observations, keys[np.array([0, 0, 0, 0, 0])])
    np.testing.assert_allclose(again[0], played[0], atol=1e-5)


def test_without_noise_the_key_does_not_matter(denoiser):
    actor, observations = make_actor(denoiser, Safest(linear(FIRST))), inputs()[0]
    assert actor.adjustable == {"noise": (0.0, 1.0)}
    calm = actor.adjusted(noise=0)
    played = [act(calm, observations, jax.random.split(jax.random.key(seed), 5)) for seed in (0, 1)]
    np.testing.assert_array_equal(*played)
    centre = sample(lambda x, k: denoiser(observations, x, k), FIVE, jnp.zeros((5, 5, ACT)))
    np.testing.assert_allclose(played[0], centre * jnp.array([1.0, 2]) + jnp.array([0.0, 2]), atol=1e-5)
    with pytest.raises(ConfigError, match=r"noise is 1\.5"):
        actor.adjusted(noise=1.5)


def test_policies_are_saved_and_loaded(tmp_path, denoiser):
    policy = Policy(make_actor(denoiser, within(0.0)), RunId("FISOR", "BallRun", None, 0))
    restored = Policy.load(policy.save(tmp_path / "policy.safetensors"))
    choice = restored.actor.choice
    kinds = [type(part) for part in (choice, choice.rewarding, choice.safe)]
    assert kinds == [MostRewardingWithin, MostRewarding, Safest]
    observations = np.asarray(inputs()[0])
    for one in (policy, restored):
        one.reset(5, seed=2)
    np.testing.assert_array_equal(policy.act(observations), restored.act(observations))
    halved = restored.adjusted(noise=0.5)
    assert str(halved.id) == "FISOR@noise=0.5_seed-0"
    assert float(halved.actor.noise) == 0.5
