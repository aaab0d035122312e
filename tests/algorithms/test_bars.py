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
from quick import new_key, quick
from taught import actions, taught

from conftest import toy_episodes
from safetrax.algorithms.bars import BARS, BARSIndex, BARSState, Regions
from safetrax.algorithms.base import Spec
from safetrax.algorithms.diffusion_learner import draw_actions, regression_loss
from safetrax.algorithms.learners import Learner, Tracked
from safetrax.data.store import Store, TransitionIndex, Transitions
from safetrax.errors import ConfigError
from safetrax.nets.denoiser import Denoiser
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.policies.diffusion import MostRewardingWithin, Safest

TINY = BARS(
    hidden=(8,),
    width=8,
    blocks=1,
    diffusion_steps=2,
    candidates=3,
    reward_temperature=0.0,
    policy_batch_size=8,
    unsafe_batch_size=4,
    critic_batch_size=4,
    anchor_every=3,
    critic_updates=2,
    updates=4,
)
WEIGHED = replace(TINY, reward_temperature=3.0)
QUICK = replace(
    WEIGHED,
    hidden=(32,),
    width=32,
    diffusion_steps=5,
    dropout=0.0,
    candidates=1,
    policy_batch_size=64,
    unsafe_batch_size=32,
    critic_batch_size=64,
    discount=0.9,
    continuation=1.0,
    target_rate=0.1,
    learning_rate=5e-3,
    policy_learning_rate=3e-3,
    ema_rate=0.02,
    anchor_after=1.0,
    critic_updates=600,
    updates=600,
)
ARMS = Spec(1, 1, 1, 1, 2, (-1.0,), (1.0,))


def arms(*which: float, done: bool = False, following: float = 1.0) -> Transitions:
    """Four transitions in the state of `probes.two_arms`, the named arms repeated: one shape compiles once."""
    played = np.asarray(which * (4 // len(which)), np.float32)
    risky = played == RISKY
    return Transitions(
        observations=jnp.ones((4, 1)),
        actions=jnp.asarray(played[:, None]),
        rewards=jnp.asarray(np.where(risky, 1.0, 0.5), jnp.float32),
        costs=jnp.asarray(risky, jnp.float32),
        done=jnp.full(4, done),
        next_observations=jnp.full((4, 1), following),
    )


def arm_log(*which: float) -> tuple[Store, TransitionIndex]:
    """Twelve rows of the named arms in one state."""
    batch, data = arms(*which), toy_episodes([12], observation_size=1, action_size=1)
    rows = {name: np.tile(getattr(batch, name), (3, 1)) for name in ("observations", "actions")}
    rows |= {name: np.tile(getattr(batch, name), 3) for name in ("rewards", "costs")}
    data = replace(data, **rows)
    return Store.make(data, TINY.fields), TransitionIndex.all(data)


def constant(value: float, gain: float = 0.0) -> MLP:
    """V(s) = value + gain s for positive s, as large as the networks of TINY."""
    weights = (jnp.zeros((1, 8)).at[0, 0].set(1.0), jnp.zeros((8, 1)).at[0, 0].set(gain))
    return MLP(weights, (jnp.zeros(8), jnp.full(1, value, jnp.float32)), "identity", 0.0)


def of_arm(risky: float, safe: float, spread: float = 0.0) -> Ensemble:
    """Q(s, a) is `risky` at the risky arm, `safe` at the safe one, linear in a; in the second network larger by
    `spread`."""
    gain = (risky - safe) / (RISKY - SAFE)
    # the first hidden unit is a + 1, which is positive
    weights = (jnp.zeros((2, 8)).at[1, 0].set(1.0), jnp.zeros((8, 1)).at[0, 0].set(gain))
    least = (risky + safe) / 2 - gain
    offsets = (jnp.full(1, least + more, jnp.float32) for more in (0.0, spread))
    return Ensemble(tuple(MLP(weights, (jnp.ones(8), offset), "identity", 0.0) for offset in offsets))


def limits(region: float = 0.0, policy: float = 1.0, reward_scale: float = 1.0) -> BARSIndex:
    transitions = TransitionIndex.all(toy_episodes([12]))
    return BARSIndex(transitions, *(jnp.float32(x) for x in (reward_scale, region, policy)))


@functools.cache
def fresh_state() -> BARSState:
    with quick():
        return jax.jit(lambda key: TINY.init(key, ARMS))(new_key(0))


def saying(bias: float) -> Denoiser:
    """A denoiser that says `bias` whatever it sees. With 100 every drawn action is -1, with -100 it is 1."""
    leave = fresh_state().policy.network.leave
    leave = eqx.tree_at(lambda d: (d.weight, d.bias), leave, (0 * leave.weight, jnp.full(1, bias, jnp.float32)))
    return eqx.tree_at(lambda d: d.leave, fresh_state().policy.network, leave)


def with_values(
    region_q: Ensemble | None = None,
    region_value: float = 0.0,
    reward_q: Ensemble | None = None,
    reward_value: MLP | None = None,
    cost_q: Ensemble | None = None,
) -> BARSState:
    """A fresh state whose critics and values are given, else 0."""
    adam, fresh, zero = optax.adam(TINY.learning_rate), fresh_state(), of_arm(0, 0)
    critics = (Tracked.make(zero if q is None else q, adam) for q in (region_q, reward_q, cost_q))
    values = (constant(region_value), constant(0.0) if reward_value is None else reward_value)
    return eqx.tree_at(
        lambda s: (s.region_critic, s.reward_critic, s.cost_critic, s.region_value, s.reward_value),
        fresh,
        (*critics, *(Learner.make(value, adam) for value in values)),
    )


@functools.cache
def jitted(algorithm: BARS, method: str, **fixed: bool):
    return jax.jit(functools.partial(getattr(algorithm, method), **fixed))


def call(algorithm: BARS, method: str, *arguments, **fixed: bool):
    with quick():
        return jitted(algorithm, method, **fixed)(*arguments)


def same(a, b) -> bool:
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def gradient(learner: Learner) -> list[np.ndarray]:
    """Of the learner's first step: Adam's first moment is a tenth of it."""
    return [np.asarray(10 * leaf) for leaf in jax.tree.leaves(learner.optimiser[0].mu)]


# The regions


def test_where_every_step_costs_the_value_is_that_of_a_discount_of_alpha_gamma():
    """1 / (1 - 0.99^2) = 50.25."""
    store, rows = arm_log(RISKY)
    algorithm, index = replace(TINY, mask_ends=False), replace(limits(), transitions=rows)
    worth = 1 / (1 - 0.99**2)
    assert worth == pytest.approx(50.25, abs=0.01)
    state = with_values(of_arm(worth, 0), worth)
    new, metrics = call(algorithm, "_learn_regions", state, store, index, new_key(0))
    assert metrics["cost"] == 1
    assert metrics["cost_value_loss"] == pytest.approx(0, abs=1e-8)
    # Q looks at V after its step
    assert metrics["cost_critic_loss"] < (2 * TINY.learning_rate) ** 2
    assert metrics["unsafe"] == 1
    assert not same(new.region_critic.network, state.region_critic.target)
    assert same(
        eqx.tree_at(lambda s: (s.region_critic, s.region_value), new, (state.region_critic, state.region_value)),
        state,
    )


def test_the_fixed_point_of_the_two_arms():
    """V = 0.1 / (1 - 0.9801) = 5.025, though an action without cost is always there; Q = 5.925 and 4.925."""
    store, rows = arm_log(RISKY, SAFE)
    algorithm, index = replace(TINY, mask_ends=False), replace(limits(5.1), transitions=rows)
    value = 0.1 / (1 - 0.99**2)
    critics = (value * 0.9801 + 1, value * 0.9801)
    np.testing.assert_allclose([value, *critics], [5.025, 5.925, 4.925], atol=1e-3)
    state = with_values(of_arm(*critics), value)
    for seed in range(50):  # until each arm is drawn twice
        new, metrics = call(algorithm, "_learn_regions", state, store, index, new_key(seed))
        if metrics["cost"] == 0.5:
            break
    assert metrics["cost_critic_loss"] < (2 * TINY.learning_rate) ** 2
    assert all(np.abs(g).max() < 1e-5 for g in gradient(new.region_value))
    assert metrics["unsafe"] == 0
    regions = algorithm.regions(state, arms(RISKY, SAFE), index)
    np.testing.assert_allclose(regions.advantage, [0.9, -0.1, 0.9, -0.1], atol=1e-5)


def test_regions_end_where_an_episode_does_unless_told_otherwise():
    store, rows = arm_log(RISKY)
    store = eqx.tree_at(lambda s: s.truncated, store, jnp.ones(12, bool))
    index, state = replace(limits(), transitions=rows), with_values(of_arm(3, 0), 2.0)
    masked, printed = (
        call(replace(TINY, mask_ends=mask, learning_rate=1e-9), "_learn_regions", state, store, index, new_key(0))[1]
        for mask in (True, False)
    )
    assert masked["cost_critic_loss"] == pytest.approx((3 - 1) ** 2, rel=1e-5)
    assert printed["cost_critic_loss"] == pytest.approx((3 - 1 - 0.9801 * 2) ** 2, rel=1e-3)


@pytest.mark.parametrize(
    ("cost_limit", "careful", "own"), [(10, 0.5025, 1.0), (20, 1.005, 2.0), (40, 2.010, 4.0), (80, 4.020, 8.0)]
)
def test_limits_are_compared_as_discounted_ones_or_as_they_are(cost_limit, careful, own):
    data = toy_episodes([1000, 900])
    index = BARS().index(data, cost_limit)
    assert float(index.region_limit) == pytest.approx(careful, abs=5e-4)
    assert float(index.policy_limit) == pytest.approx(own, abs=1e-3)
    raw = BARS(raw_limit=True).index(data, cost_limit)
    assert (float(raw.region_limit), float(raw.policy_limit)) == (cost_limit, cost_limit)


def test_delta_is_given_or_the_limit_and_never_below_the_least():
    data = toy_episodes([1000])
    settings = [{}, {"least_delta": 0.0}, {"delta": 5.0}, {"delta": 0.3}, {"delta": 0.3, "least_delta": 0.0}]
    deltas = [float(BARS(**chosen).index(data, 5).policy_limit) for chosen in settings]
    np.testing.assert_allclose(deltas, [1, 0.5, 5, 1, 0.3], rtol=1e-3)


def test_regions_are_disjoint_and_unsafe_actions_of_safe_states_are_left_out():
    batch, state = arms(RISKY, SAFE), with_values(of_arm(6, 3, spread=1), 5.0)

    def regions(limit: float) -> tuple[list[bool], list[bool]]:
        found = TINY.regions(state, batch, limits(limit))
        assert not (found.safe & found.unsafe).any()
        return found.safe[:2].tolist(), found.unsafe[:2].tolist()

    assert regions(4.9) == ([False, False], [True, True])
    assert regions(5.0) == ([False, True], [False, False])  # max(6, 7) is above, max(3, 4) within
    assert regions(7.0) == ([True, True], [False, False])


@pytest.mark.parametrize(
    ("unsafe_to_safe", "value", "raw_is_unsafe"), [(1 / 8, 0.69, False), (1, 5.03, False), (3, 12.56, True)]
)
def test_the_units_of_the_limit_decide_what_is_safe(unsafe_to_safe, value, raw_is_unsafe):
    """If a share p of a state's rows costs, V = 50.25 0.1p / (0.1p + 0.9(1 - p)) whatever the other rows do."""
    share = unsafe_to_safe / (1 + unsafe_to_safe)
    worth = 0.1 * share / (0.1 * share + 0.9 * (1 - share)) / (1 - 0.99**2)
    assert worth == pytest.approx(value, abs=0.01)
    data, state = toy_episodes([1000]), with_values(of_arm(0, 0), worth)
    for raw in (False, True):
        index = BARS(raw_limit=raw).index(data, 10)
        assert bool(TINY.regions(state, arms(SAFE), index).unsafe.all()) == (raw_is_unsafe if raw else True)


# Weights of cloned actions

CLONING = Regions(
    safe=jnp.array([True, True, True, False]),
    unsafe=jnp.array([False, False, False, False]),
    value=jnp.zeros(4),
    advantage=jnp.zeros(4),
)
MIXED = replace(CLONING, safe=jnp.array([True, True, False, False]), unsafe=jnp.array([False, False, True, False]))


def weights(algorithm: BARS, state: BARSState, batch: Transitions, regions: Regions = CLONING, delta: float = 1.0):
    weight, metrics = call(algorithm, "clone_weights", state, batch, regions, limits(policy=delta))
    return np.asarray(weight), {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("settings", "risky", "safe"),
    [
        ({"baseline": "none"}, 0.9 / 3, 0.6),
        ({"baseline": "value"}, 0.9 / 3 - 0.5, 0.1),
        # the mean over the cloned: two risky rows of three
        ({"baseline": "batch"}, 0.3 - 0.4, 0.6 - 0.4),
    ],
)
def test_weights_by_hand_under_every_baseline(settings, risky, safe):
    state = with_values(reward_q=of_arm(0.9, 0.6, 5), reward_value=constant(0.5), cost_q=of_arm(2, 0.5, 1))
    state = eqx.tree_at(lambda s: s.cost_critic.target, state, of_arm(3, 1, -1))  # the greater of twins, the target's
    batch = replace(arms(RISKY), actions=jnp.array([[RISKY], [SAFE], [RISKY], [RISKY]]))
    weight, metrics = weights(replace(WEIGHED, **settings), state, batch)
    expected = np.exp(3 * np.array([risky, safe, risky]))
    np.testing.assert_allclose(weight, [*expected, 0], rtol=1e-4)
    assert metrics["weight"] == pytest.approx(expected.mean(), rel=1e-4)
    assert metrics["clipped"] == 0


def test_a_penalty_does_not_raise_what_is_negative():
    state = with_values(reward_q=of_arm(-0.9, -0.6), cost_q=of_arm(3, 0.5))
    ratio, penalty = (
        weights(replace(WEIGHED, baseline="none", temper=temper), state, arms(RISKY, SAFE))[0][:2]
        for temper in ("ratio", "penalty")
    )
    np.testing.assert_allclose(ratio, [math.exp(-0.9), math.exp(-1.8)], rtol=1e-4)
    np.testing.assert_allclose(penalty, [math.exp(3 * (-0.9 - 0.9 * 2 / 3)), math.exp(-1.8)], rtol=1e-4)


def test_weights_are_capped_and_multiplied_with_their_loss_s_weight():
    state = with_values(reward_q=of_arm(5, 0))
    algorithm = replace(WEIGHED, baseline="none", safe_weight=2.0)
    weight, metrics = weights(algorithm, state, arms(RISKY, SAFE))
    np.testing.assert_allclose(weight, [200, 2, 200, 0], rtol=1e-5)
    assert metrics["weight"] == pytest.approx((100 + 1 + 100) / 3, rel=1e-5)
    assert metrics["clipped"] == pytest.approx(2 / 3)


def test_unsafe_actions_of_safe_states_are_cloned_only_as_printed():
    state = with_values(reward_q=of_arm(0.2, 0.2))
    plain, printed = (
        weights(replace(WEIGHED, baseline="none", clone_unsafe_actions=clone), state, arms(SAFE), MIXED)[0]
        for clone in (False, True)
    )
    clone = math.exp(0.6)
    np.testing.assert_allclose(plain, [clone, clone, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(printed, [clone, clone, 0, 1], rtol=1e-5)  # e^0, of an unsafe state nothing


def test_regression_clones_unsafe_states_by_their_cost_advantage():
    regions = replace(MIXED, unsafe=~MIXED.safe, advantage=jnp.array([9.0, 9.0, 0.2, -9.0]))
    weight, _ = weights(replace(TINY, unsafe_loss="regression"), with_values(), arms(SAFE), regions)
    np.testing.assert_allclose(weight, [1, 1, 3 * math.exp(-1), 3 * 150], rtol=1e-5)


def test_with_all_safe_and_no_temperature_it_is_plain_cloning():
    """The gradient of an update is that of the regression with weight 1."""
    store, rows = arm_log(RISKY, SAFE)
    index, state = replace(limits(region=9.0), transitions=rows), with_values()
    new, metrics = call(TINY, "_improve", state, store, index, new_key(3), anchored=False)
    assert (metrics["safe"], metrics["unsafe"], metrics["weight"], metrics["escape_loss"]) == (1, 0, 1, 0)

    @jax.jit
    def plain(key):
        draw_key, _, clone_key, _ = jax.random.split(key, 4)
        batch = store.transitions(rows.sample(draw_key, 8))
        schedule = TINY._noise_schedule()
        return jax.grad(lambda d: regression_loss(d, schedule, batch, jnp.ones(8), clone_key))(state.policy.network)

    with quick():
        expected = plain(new_key(3))
    for a, b in zip(gradient(new.policy.learner), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


# The unsafe loss


def unsafe_everywhere(algorithm: BARS, state: BARSState) -> tuple[Transitions, Regions]:
    batch = arms(RISKY, SAFE)
    regions = algorithm.regions(state, batch, limits(region=-10.0))
    assert regions.unsafe.all()
    return batch, regions


LINEAR = (of_arm(0.5, -0.5), 0.0)  # Q_c(a) = a
ESCAPING = replace(TINY, diffusion_steps=5, dropout=0.0)


def descended(loss, denoiser: Denoiser, steps: int) -> np.ndarray:
    """Actions drawn after so many steps down the loss."""
    adam = optax.adam(5e-3)

    @jax.jit
    def run(denoiser, keys):
        def step(carry, key):
            denoiser, state = carry
            updates, state = adam.update(jax.grad(loss)(denoiser, key), state)
            return (optax.apply_updates(denoiser, updates), state), None

        denoiser = jax.lax.scan(step, (denoiser, adam.init(denoiser)), keys)[0][0]
        return draw_actions(denoiser, ESCAPING._noise_schedule(), jnp.ones((200, 1)), keys[0], 1)

    with quick():
        return np.asarray(run(denoiser, jax.random.split(new_key(2), steps)))


@pytest.mark.parametrize(("unsafe_loss", "end"), [("escape", -1), ("literal", 1)])
def test_an_escape_seeks_the_least_cost_and_the_printed_loss_the_greatest(unsafe_loss, end):
    algorithm, state = replace(ESCAPING, unsafe_loss=unsafe_loss), with_values(*LINEAR)
    batch, regions = unsafe_everywhere(algorithm, state)

    def loss(denoiser, key):
        return algorithm._escape(denoiser, state, batch, regions, key, anchored=False)[0]

    drawn = descended(loss, state.policy.network, 150)
    assert (drawn * end).mean() > 0.95


def test_regression_in_unsafe_states_finds_the_cheapest_of_the_log():
    algorithm, state = replace(ESCAPING, unsafe_loss="regression"), with_values(*LINEAR)
    batch, regions = unsafe_everywhere(algorithm, state)
    weight, _ = algorithm.clone_weights(state, batch, regions, limits())
    np.testing.assert_allclose(weight[0] / weight[1], math.exp(-5), rtol=1e-4)
    many, weight = jax.tree.map(lambda x: jnp.concatenate([x] * 16), (batch, weight))

    def loss(denoiser, key):
        return regression_loss(denoiser, algorithm._noise_schedule(), many, weight, key)

    drawn = descended(loss, state.policy.network, 800)
    assert np.abs(np.median(drawn) - SAFE) < 0.1
    assert (np.abs(drawn - SAFE) < 0.2).mean() > 0.8
    nothing, parts = algorithm._escape(state.policy.network, state, batch, regions, new_key(0), anchored=False)
    assert (nothing, parts["escape_loss"], parts["anchor_loss"]) == (0, 0, 0)


def escape(algorithm: BARS, state: BARSState, regions: Regions, anchored: bool, denoiser: Denoiser | None = None):
    denoiser = state.policy.network if denoiser is None else denoiser
    with quick():
        function = jitted(algorithm, "_escape", anchored=anchored)
        value, parts = function(denoiser, state, arms(RISKY, SAFE), regions, new_key(0))
    return float(value), {name: float(part) for name, part in parts.items()}


def test_the_unsafe_losses_by_hand():
    """All drawn actions are 1, where Q_c - V_c is 0.3; two of four rows are unsafe."""
    state = with_values(of_arm(0.65, 0.35, spread=-2), 0.5)
    regions = replace(MIXED, unsafe=jnp.array([False, True, True, False]), value=jnp.full(4, 0.5))
    for unsafe_loss, expected in (("escape", math.exp(1.5)), ("literal", math.exp(-1.5))):
        value, parts = escape(replace(TINY, unsafe_loss=unsafe_loss), state, regions, False, saying(-100.0))
        assert value == pytest.approx(expected / 2, rel=1e-4)
        assert parts["escape_loss"] == pytest.approx(value)
        assert parts["escape_advantage"] == pytest.approx(0.3, rel=1e-4)
    value, parts = escape(TINY, state, replace(regions, unsafe=jnp.zeros(4, bool)), False, saying(-100.0))
    assert (value, parts["escape_advantage"]) == (0, 0)


def test_the_anchor_by_hand():
    """Denoisers that say 1 and 1.5 are 0.25 apart; Q_c - V_c is 0.1 everywhere."""
    state = eqx.tree_at(lambda s: s.previous, with_values(of_arm(2, 2), 1.9), saying(1.0))
    regions = replace(MIXED, unsafe=jnp.array([False, True, True, False]), value=jnp.full(4, 1.9))
    distance = 0.5 * 0.25 * math.exp(-0.5)
    expected = {"escape": (0.5 * math.exp(0.5), distance), "literal": (0, distance), "regression": (0, distance)}
    for unsafe_loss, (escaping, anchoring) in expected.items():
        value, parts = escape(replace(TINY, unsafe_loss=unsafe_loss), state, regions, True, saying(1.5))
        assert parts["escape_loss"] == pytest.approx(escaping, rel=1e-4)
        assert parts["anchor_loss"] == pytest.approx(anchoring, rel=1e-4)
        assert value == pytest.approx(escaping + anchoring, rel=1e-4)
    _, parts = escape(replace(TINY, anchor_weight=4.0), state, regions, True, saying(1.5))
    assert parts["anchor_loss"] == pytest.approx(4 * distance, rel=1e-4)


@pytest.mark.parametrize("unsafe_loss", ["escape", "literal"])
def test_the_anchor_pulls_back_and_only_as_printed_also_seeks_cost(unsafe_loss):
    """A network that says b is pulled to 0.1 by 2 (b - 0.1) times the mean weight, if weights pass no gradient.

    In 256 draws, for a draw at the action's bound gives its weight no gradient, and most are there.
    """
    algorithm = replace(TINY, unsafe_loss=unsafe_loss, unsafe_batch_size=256, policy_batch_size=256)
    state = eqx.tree_at(lambda s: s.previous, with_values(*LINEAR), saying(0.1))
    batch, regions = jax.tree.map(lambda x: jnp.concatenate([x] * 64), unsafe_everywhere(algorithm, state))

    @jax.jit
    def anchor(denoiser, key):
        def loss(denoiser):
            return algorithm._escape(denoiser, state, batch, regions, key, anchored=True)[1]["anchor_loss"]

        return jax.value_and_grad(loss)(denoiser)

    with quick():
        value, slope = anchor(saying(0.3), new_key(0))
    pull, slope = 2 * float(value) / 0.2, float(slope.leave.bias[0])
    assert value > 0
    if unsafe_loss == "escape":
        assert slope == pytest.approx(pull, rel=1e-3)
    else:  # a greater b draws cheaper actions of a greater weight
        assert slope > 1.005 * pull


# The policy's critics


def test_critics_follow_the_policy_s_draws():
    """The average plays 1, the current network -1. Q_r(1) = 2.5, the greater Q_c(1) = 5."""
    algorithm = replace(TINY, discount=0.5, target_rate=0.25)
    value = constant(1.0, gain=2.0)  # 3 at the batch's state and 1 at what follows
    state = with_values(reward_q=of_arm(2, 1, spread=0.5), reward_value=value, cost_q=of_arm(3, 1, spread=1))
    state = eqx.tree_at(lambda s: (s.policy.target, s.policy.learner.network), state, (saying(-100.0), saying(100.0)))

    def metrics_of(algorithm: BARS, delta: float = 6.0, **how) -> tuple[BARSState, dict[str, float]]:
        index = limits(policy=delta, reward_scale=3.0)
        new, metrics = call(algorithm, "_evaluate", state, arms(RISKY, following=0.0, **how), index, new_key(0))
        return new, {name: float(value) for name, value in metrics.items()}

    new, metrics = metrics_of(algorithm)
    assert (metrics["reward_value"], metrics["policy_cost_value"]) == (2.5, 5.0)
    # 3 + 2.5 / 2 for 2 and 2.5; 1 + 5 / 2 for 3 and 4
    assert metrics["reward_critic_loss"] == pytest.approx((2.25**2 + 1.75**2) / 2)
    assert metrics["policy_cost_critic_loss"] == pytest.approx(0.25)
    # V_r tends to the mean A_r of the draws, here Q_r, at the states of the batch and at those that follow
    assert metrics["reward_value_loss"] == pytest.approx(((3 - 2.5) ** 2 + (1 - 2.5) ** 2) / 2)
    for name in ("reward_critic", "cost_critic"):
        for before, network, target in zip(
            *(
                jax.tree.leaves(x)
                for x in (getattr(state, name).target, getattr(new, name).network, getattr(new, name).target)
            ),
            strict=True,
        ):
            np.testing.assert_allclose(target, 0.75 * before + 0.25 * network, rtol=1e-5)
    changed = (new.reward_critic, new.cost_critic, new.reward_value)
    assert same(eqx.tree_at(lambda s: (s.reward_critic, s.cost_critic, s.reward_value), state, changed), new)
    # beyond delta A_r is 2.5 / 5
    assert metrics_of(algorithm, delta=4.0)[1]["reward_value_loss"] == pytest.approx(((3 - 0.5) ** 2 + 0.5**2) / 2)
    _, metrics = metrics_of(algorithm, done=True)
    assert metrics["reward_critic_loss"] == pytest.approx((1 + 0.5**2) / 2)
    assert metrics["policy_cost_critic_loss"] == pytest.approx((4 + 9) / 2)
    _, metrics = metrics_of(replace(algorithm, mask_ends=False, baseline="none", bootstrap="current"), done=True)
    # Q_r(-1) = 0.5 and the greater Q_c(-1) = 1, whatever the end
    assert metrics["reward_critic_loss"] == pytest.approx((1.25**2 + 0.75**2) / 2)
    assert metrics["policy_cost_critic_loss"] == pytest.approx((1.5**2 + 2.5**2) / 2)
    assert metrics["reward_value_loss"] == pytest.approx(0.25)


# Stages


@pytest.mark.parametrize("anchored", [False, True])
def test_the_later_stages_leave_the_regions_as_they_are(anchored):
    store, rows = arm_log(RISKY, SAFE)
    state = fresh_state()
    level = float(jnp.median(state.region_value.network(store.observations)))
    index = replace(limits(region=level - 0.01), transitions=rows)
    new, metrics = call(TINY, "_improve", state, store, index, new_key(1), anchored=anchored)
    assert metrics["unsafe"] == 1
    for name in ("region_critic", "region_value", "region_limit", "bounds"):
        assert same(getattr(new, name), getattr(state, name))
    for name in ("reward_critic", "reward_value", "cost_critic", "policy"):
        assert not same(getattr(new, name).network, getattr(state, name).network)
    assert same(new.previous, state.policy.network if anchored else state.previous)
    assert int(new.anchored) == anchored
    for old, now, average in zip(
        *(jax.tree.leaves(x) for x in (state.policy.target, new.policy.network, new.policy.target)), strict=True
    ):
        np.testing.assert_allclose(average, 0.999 * old + 0.001 * now, rtol=1e-5, atol=1e-7)


def test_the_anchor_is_renewed_every_few_updates_and_then_holds_nothing():
    store, rows = arm_log(RISKY, SAFE)
    state, index = with_values(*LINEAR), replace(limits(region=-1.0), transitions=rows)
    state = eqx.tree_at(lambda s: s.policy.learner.network, state, saying(0.3))
    state = eqx.tree_at(lambda s: (s.previous, s.anchored), state, (saying(0.0), jnp.int32(7)))
    state = TINY._anchor(state, store, index, new_key(0))
    assert int(state.anchored) == 0
    assert same(state.previous, state.policy.network)
    for number in range(7):
        before = state
        state, metrics = call(TINY, "_improve", state, store, index, new_key(number), anchored=True)
        assert metrics["anchor_loss"] == 0 or number % 3
        assert same(state.previous, (before.policy.network if number % 3 == 0 else before.previous))


def test_stages_share_the_updates_and_the_first_one_stores_the_limit():
    assert [(stage.name, stage.updates) for stage in BARS().stages()] == [
        ("critics", 1_000_000),
        ("policy", 500_000),
        ("anchored", 500_000),
    ]
    free = replace(TINY, anchor_after=1.0, updates=5)
    assert [stage.updates for stage in free.stages()] == [2, 5, 0]
    store, _ = arm_log(SAFE)
    state = free.stages()[0].begin(fresh_state(), store, limits(region=0.75), new_key(0))
    assert float(state.region_limit) == 0.75


def test_the_actor_is_the_average_with_the_regions_target_critic():
    state = eqx.tree_at(lambda s: s.region_limit, with_values(of_arm(1, -1), 0, of_arm(3, -3)), jnp.float32(0.2))
    safest, rewarding = (replace(TINY, choice=choice).actor(state) for choice in ("safest", "rewarding"))
    assert isinstance(safest.choice, Safest)
    assert isinstance(rewarding.choice, MostRewardingWithin)
    assert same(safest.choice.critics, state.region_critic.target)
    assert same(rewarding.choice.safe.critics, state.region_critic.target)
    assert same(rewarding.choice.rewarding.critics, state.reward_critic.target)
    assert float(rewarding.choice.threshold) == np.float32(0.2)
    assert same(safest.denoiser, state.policy.target)
    assert safest.candidates == 3


# Probe problems


def wide(data):
    """The same log with three equal observations: the shapes of the fork's."""
    return replace(data, observations=np.repeat(data.observations, 3, axis=1))


@pytest.mark.parametrize(
    ("cost_limit", "arm"),
    [(0.3, -1.0), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1.0, SAFE), (6.0, RISKY)))],
)
def test_the_limit_decides_between_escape_the_safe_arm_and_the_risky_one(cost_limit, arm):
    """gamma = 0.9, and one row of five ends: V_c = 0.1 + 0.72 V_c = 0.357, Q_c = 1.257 and 0.257. Discounted, the
    limits are 0.25, 0.82 and 4.9. If V_c is above it, the policy escapes beyond the log's cheapest arm."""
    state, metrics = taught(QUICK, wide(two_arms(5, 400)), cost_limit)
    assert float(state.region_value.network(jnp.ones((1, 3)))[0, 0]) == pytest.approx(0.357, abs=0.06)
    assert metrics["unsafe"] == pytest.approx(float(arm == -1), abs=1e-6)
    assert metrics["ignored"] == pytest.approx(0.5 if arm == SAFE else 0, abs=0.05)
    assert np.median(actions(QUICK, state, np.ones(3))) == pytest.approx(arm, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("cost_limit", "arm"), [(2.0, SAFE), (8.0, RISKY)])
def test_the_limit_decides_at_the_fork(cost_limit, arm):
    """4 steps that cost are worth 3.1: above the discounted limit 1.6, below 6.6."""
    state, metrics = taught(QUICK, fork(), cost_limit)
    assert metrics["unsafe"] == pytest.approx(0.4 if arm == SAFE else 0, abs=0.05)
    assert np.median(actions(QUICK, state, START)) == pytest.approx(arm, abs=0.15)


# Settings, sizes, warnings


def test_parameter_counts():
    spec = Spec.of(toy_episodes([3], observation_size=8))
    state = jax.eval_shape(lambda key: BARS().init(key, spec), jax.random.key(0))

    def count(tree) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    assert count(state.policy.network) == count(state.previous) == 1_639_202
    for critic in (state.region_critic, state.reward_critic, state.cost_critic):
        assert count(critic.network) == count(critic.target) == 137_730
    assert count(state.region_value.network) == count(state.reward_value.network) == 68_353


def test_presets_and_published_settings():
    published = BARS()
    assert (published.cost_expectile, published.discount, published.continuation) == (0.9, 0.99, 0.99)
    assert (published.reward_temperature, published.cost_temperature) == (3, 5)
    assert (published.diffusion_steps, published.candidates, published.anchor_every) == (5, 16, 5)
    assert (published.ema_rate, published.updates, published.uses_cost_limit) == (0.001, 1_000_000, True)
    for suite, task, weights in (
        ("safety_gymnasium", "CarGoal1", (1, 3)),
        ("safety_gymnasium", "AntVelocity", (3, 1)),
        ("safety_gymnasium", "HalfCheetahVelocity", (3, 1)),
        ("bullet", None, (1, 3)),
    ):
        preset = BARS.preset(suite, task)
        assert (preset.safe_weight, preset.unsafe_weight) == weights
        assert replace(preset, safe_weight=1.0, unsafe_weight=3.0) == published
    small = BARS.preset("reach_avoid")
    assert (small.candidates, small.critic_updates, small.updates) == (8, 100_000, 100_000)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cost_expectile", 0.0),
        ("continuation", 0.0),
        ("discount", 1.0),
        ("anchor_after", 1.5),
        ("anchor_every", 0),
        ("anchor_weight", -1.0),
        ("delta", 0.0),
        ("least_delta", -1.0),
        ("unsafe_weight", -1.0),
        ("cost_weight_cap", 0.0),
        ("unsafe_batch_size", 1025),
        ("critic_batch_size", 0),
        ("diffusion_steps", 0),
        ("candidates", 0),
        ("ema_rate", 2.0),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(BARS(), **{setting: value})


HEALTHY = {"unsafe": [0.4], "clipped": [0.1], "policy_gradient": [0.1], "weight": [1.0]}


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        ({"unsafe": 1.0}, "every state counts as unsafe.*raise the cost limit.*raw_limit"),
        ({"clipped": 1.0}, "all weights are at their cap.*reward_temperature"),
        ({"policy_gradient": 0.0}, "no gradient.*clones nothing"),
    ],
)
def test_degenerate_runs_are_told(signs, said):
    healthy = {name: values * 6 for name, values in HEALTHY.items()}
    assert BARS().diagnose(healthy) == ()
    (sentence,) = BARS().diagnose({**healthy, **{name: [value] * 6 for name, value in signs.items()}})
    assert re.search(said, sentence)
