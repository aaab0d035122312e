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
from safetrax.algorithms.base import Spec
from safetrax.algorithms.fisor import FISOR, FISORIndex, FISORState
from safetrax.algorithms.learners import Learner, Tracked
from safetrax.data.store import Store, TransitionIndex, Transitions
from safetrax.errors import ConfigError
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.policies.diffusion import MostRewarding, Safest

TINY = FISOR(
    hidden=(8,),
    width=8,
    blocks=1,
    diffusion_steps=2,
    candidates=3,
    policy_batch_size=8,
    critic_batch_size=4,
    updates=3,
)
COST = replace(TINY, constraint="cost")
QUICK = replace(
    TINY,
    hidden=(32,),
    width=32,
    diffusion_steps=5,
    dropout=0.0,
    policy_batch_size=64,
    critic_batch_size=64,
    policy_steps=1,
    discount=0.9,
    target_rate=0.1,
    learning_rate=5e-3,
    policy_learning_rate=3e-3,
    ema_rate=0.02,
    updates=800,
)
ARMS = Spec(1, 1, 1, 1, 2, (-1.0,), (1.0,))
# the fixed point of the two arms: the 0.1-expectile of 25 and of what is worth -0.01 + 0.99 V
VALUE = (0.1 * 25 - 0.9 * 0.01) / (1 - 0.9 * 0.99)
CAREFUL = -0.01 + 0.99 * VALUE


def arms(*which: float, done: bool = False, cost: float | None = None) -> Transitions:
    """Four transitions in the state of `probes.two_arms`, the named arms repeated: one shape compiles once."""
    played = np.asarray(which * (4 // len(which)), np.float32)
    state = jnp.ones((4, 1))
    risky = played == RISKY
    return Transitions(
        observations=state,
        actions=jnp.asarray(played[:, None]),
        rewards=jnp.asarray(np.where(risky, 1.0, 0.5), jnp.float32),
        costs=jnp.asarray(risky if cost is None else np.full(4, cost), jnp.float32),
        done=jnp.full(4, done),
        next_observations=state,
    )


def constant(value: float) -> MLP:
    """V(s) = value, as large as the networks of TINY."""
    return MLP(
        (jnp.zeros((1, 8)), jnp.zeros((8, 1))), (jnp.zeros(8), jnp.full(1, value, jnp.float32)), "identity", 0.0
    )


def of_arm(risky: float, safe: float, spread: float = 0.0) -> Ensemble:
    """Q(s, a) is `risky` at the risky arm, `safe` at the safe one, linear in between; in the second network larger by
    `spread`."""
    gain = (risky - safe) / (RISKY - SAFE)
    # the first hidden unit is a + 1, which is positive
    weights = (jnp.zeros((2, 8)).at[1, 0].set(1.0), jnp.zeros((8, 1)).at[0, 0].set(gain))
    least = (risky + safe) / 2 - gain
    return Ensemble(
        tuple(
            MLP(weights, (jnp.ones(8), jnp.full(1, least + more, jnp.float32)), "identity", 0.0)
            for more in (0.0, spread)
        )
    )


def limit(threshold: float = 0.0, reward_scale: float = 1.0) -> FISORIndex:
    transitions = TransitionIndex.all(toy_episodes([10] * 3))
    return FISORIndex(transitions, jnp.float32(reward_scale), jnp.float32(threshold))


@functools.cache
def fresh_state() -> FISORState:
    with quick():
        return jax.jit(lambda key: TINY.init(key, ARMS))(new_key(0))


def with_values(reward_q: Ensemble, reward_value: float, cost_q: Ensemble, cost_value: float) -> FISORState:
    """A fresh state whose critics and values are given."""
    adam, fresh = optax.adam(TINY.learning_rate), fresh_state()
    return FISORState(
        policy=fresh.policy,
        reward_critic=Tracked.make(reward_q, adam),
        reward_value=Learner.make(constant(reward_value), adam),
        cost_critic=Tracked.make(cost_q, adam),
        cost_value=Learner.make(constant(cost_value), adam),
        bounds=fresh.bounds,
    )


@functools.cache
def _jitted(algorithm: FISOR):
    return jax.jit(algorithm._evaluate), jax.jit(algorithm._improve)


def evaluate(algorithm: FISOR, state: FISORState, batch: Transitions, index: FISORIndex | None = None):
    with quick():
        state, metrics = _jitted(algorithm)[0](state, batch, limit() if index is None else index)
    return state, {name: float(value) for name, value in metrics.items()}


def improve(algorithm: FISOR, state: FISORState, batch: Transitions, index: FISORIndex | None = None):
    batch = jax.tree.map(lambda x: jnp.concatenate([x, x]), batch)
    with quick():
        state, metrics = _jitted(algorithm)[1](state, batch, limit() if index is None else index, new_key(1))
    return state, {name: float(value) for name, value in metrics.items()}


def gradient(learner: Learner) -> list[np.ndarray]:
    """Of the learner's first step: Adam's first moment is a tenth of it."""
    return [np.asarray(10 * leaf) for leaf in jax.tree.leaves(learner.optimiser[0].mu)]


def same(a, b) -> bool:
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def weight_of(algorithm: FISOR, state: FISORState, arm: float, threshold: float = 0.0) -> float:
    return improve(algorithm, state, arms(arm), limit(threshold))[1]["weight"]


# The critics


def test_the_fixed_point_of_the_two_arms():
    """V_h = 22.853, Q_h = 25 and 22.615: all is infeasible, and the weights 2e-5 and 3.30 tell the arms apart.
    V_r, the 0.9-expectile, is 95, Q_r 95.05 and 94.55."""
    assert (pytest.approx(22.853, abs=1e-3), pytest.approx(22.615, abs=1e-3)) == (VALUE, CAREFUL)
    state = with_values(of_arm(95.05, 94.55), 95.0, of_arm(25.0, CAREFUL), VALUE)
    new, metrics = evaluate(TINY, state, arms(RISKY, SAFE))
    assert metrics["cost_value"] == pytest.approx(VALUE)
    for learner in (new.cost_value, new.reward_value):
        assert all(np.abs(g).max() < 2e-4 for g in gradient(learner))
    # Q_h looks at V_h after its step, which is no longer than the learning rate even where there is no gradient
    assert metrics["cost_critic_loss"] < (2 * TINY.learning_rate) ** 2
    assert metrics["reward_critic_loss"] < (2 * TINY.learning_rate) ** 2
    assert weight_of(TINY, state, RISKY) == pytest.approx(2.2e-5, rel=0.02)
    assert weight_of(TINY, state, SAFE) == pytest.approx(3.30, rel=0.01)
    _, metrics = improve(TINY, state, arms(RISKY, SAFE))
    assert (metrics["infeasible"], metrics["abandoned"], metrics["clipped"]) == (1, 0, 0)


def test_twins_are_read_with_caution_and_values_step_before_critics():
    algorithm = replace(TINY, discount=0.5, target_rate=0.25, learning_rate=0.125)
    state = with_values(of_arm(2, 1, spread=0.5), 4, of_arm(3, 1, spread=1), 2)
    new, metrics = evaluate(algorithm, state, arms(RISKY))
    assert metrics["reward_value_loss"] == pytest.approx(0.1 * 4)  # V_r above min(2, 2.5)
    assert metrics["cost_value_loss"] == pytest.approx(0.1 * 4)  # V_h below max(3, 4)
    values = [float(v.network(jnp.ones((1, 1)))[0, 0]) for v in (new.reward_value, new.cost_value)]
    np.testing.assert_allclose(values, [4 - 0.125, 2 + 0.125], rtol=1e-5)
    # targets 1 + 3.875 / 2 for 2 and 2.5, and 25 for 3 and 4
    assert metrics["reward_critic_loss"] == pytest.approx((0.9375**2 + 0.4375**2) / 2, rel=1e-5)
    assert metrics["cost_critic_loss"] == pytest.approx((22**2 + 21**2) / 2)
    for old, tracked in ((state.cost_critic, new.cost_critic), (state.reward_critic, new.reward_critic)):
        assert not same(old.network, tracked.network)
        for before, network, target in zip(
            *(jax.tree.leaves(t) for t in (old.target, tracked.network, tracked.target)), strict=True
        ):
            np.testing.assert_allclose(target, 0.75 * before + 0.25 * network, rtol=1e-5)
    _, metrics = evaluate(algorithm, state, arms(SAFE))
    # 0.5 (-1) + 0.5 V_h, for 1 and 2; V_h = 2 is at max(1, 2) and stays
    assert metrics["cost_critic_loss"] == pytest.approx((0.5**2 + 1.5**2) / 2)
    _, metrics = evaluate(algorithm, state, arms(SAFE, done=True), limit(reward_scale=3.0))
    assert metrics["cost_critic_loss"] == pytest.approx((2**2 + 3**2) / 2)  # -1
    assert metrics["reward_critic_loss"] == pytest.approx((0.5**2 + 0) / 2)  # 3 * 0.5 for 1 and 1.5


def test_discounted_costs_have_the_fixed_point_of_costs():
    """V = 0.1 / (1 - gamma), Q = V gamma + c."""
    state = with_values(of_arm(95.05, 94.55), 95.0, of_arm(10.9, 9.9), 10.0)
    new, metrics = evaluate(COST, state, arms(RISKY, SAFE), limit(threshold=3.0))
    assert all(np.abs(g).max() < 1e-4 for g in gradient(new.cost_value))
    assert metrics["cost_critic_loss"] < (2 * COST.learning_rate) ** 2
    _, metrics = evaluate(COST, state, arms(RISKY, SAFE, done=True))
    assert metrics["cost_critic_loss"] == pytest.approx(9.9**2, rel=1e-4)  # what follows the end costs nothing


# The policy


@pytest.mark.parametrize(
    ("threshold", "risky", "safe", "infeasible", "abandoned"),
    [
        (9.5, math.exp(-4.5), math.exp(0.5), 1, 0),
        (10.5, 0, math.exp(-1.35), 0, 0.5),  # the risky arm leaves the feasible set
        (11.0, math.exp(0.15), math.exp(-1.35), 0, 0),
    ],
)
def test_discounted_costs_are_compared_with_the_limit(threshold, risky, safe, infeasible, abandoned):
    state = with_values(of_arm(95.05, 94.55), 95.0, of_arm(10.9, 9.9), 10.0)
    assert weight_of(COST, state, RISKY, threshold) == pytest.approx(risky, rel=1e-3)
    assert weight_of(COST, state, SAFE, threshold) == pytest.approx(safe, rel=1e-3)
    _, metrics = improve(COST, state, arms(RISKY, SAFE), limit(threshold))
    assert (metrics["infeasible"], metrics["abandoned"]) == (infeasible, abandoned)
    assert metrics["weight"] == pytest.approx((risky + safe) / 2, rel=1e-3)


def test_advantages_read_twins_with_caution():
    state = with_values(of_arm(2, 1, spread=0.5), 2.5, of_arm(-2, -3, spread=1), -1)
    assert weight_of(TINY, state, RISKY) == pytest.approx(math.exp(3 * (2 - 2.5)), rel=1e-5)
    state = with_values(of_arm(2, 1), 2.5, of_arm(-0.9, -3, spread=1), -1)
    assert weight_of(TINY, state, RISKY) == 0  # max(-0.9, 0.1)
    state = with_values(of_arm(2, 1), 2.5, of_arm(0.7, -3, spread=0.5), 1)
    assert weight_of(TINY, state, RISKY) == pytest.approx(math.exp(5 * (1 - 1.2)), rel=1e-5)


def test_weights_at_their_cap_are_counted_where_their_own_cap_holds():
    state = with_values(of_arm(4, 1), 1, of_arm(-1, -1), -1)
    _, metrics = improve(TINY, state, arms(RISKY, SAFE))
    assert metrics["clipped"] == 0.5
    assert metrics["weight"] == pytest.approx((100 + 1) / 2)
    state = with_values(of_arm(4, 1), 1, of_arm(3, -1), 1)
    _, metrics = improve(TINY, state, arms(RISKY, SAFE))
    assert metrics["clipped"] == 0.5
    assert metrics["weight"] == pytest.approx((math.exp(-10) + 150) / 2)


def test_without_costs_all_is_feasible_and_reward_alone_weighs():
    state = with_values(of_arm(95.05, 94.55), 95.0, of_arm(-1, -1), -1)
    _, metrics = evaluate(TINY, state, arms(RISKY, SAFE, cost=0.0))
    assert metrics["cost_value_loss"] == 0
    assert metrics["cost_critic_loss"] == pytest.approx(0, abs=1e-12)
    _, metrics = improve(TINY, state, arms(RISKY, SAFE))
    assert (metrics["infeasible"], metrics["abandoned"]) == (0, 0)
    assert metrics["weight"] == pytest.approx((math.exp(0.15) + math.exp(-1.35)) / 2, rel=1e-3)


def test_where_every_step_costs_all_is_infeasible_and_all_actions_are_cloned_alike():
    state = with_values(of_arm(95.05, 94.55), 95.0, of_arm(25, 25), 25)
    _, metrics = evaluate(TINY, state, arms(RISKY, SAFE, cost=1.0))
    assert metrics["cost_value_loss"] == 0
    assert metrics["cost_critic_loss"] == pytest.approx(0, abs=1e-8)
    _, metrics = improve(TINY, state, arms(RISKY, SAFE))
    assert (metrics["infeasible"], metrics["weight"]) == (1, 1)


def test_each_step_changes_its_own_networks():
    state, batch = fresh_state(), arms(RISKY, SAFE)
    improved, _ = improve(TINY, state, batch)
    assert not same(improved.policy.network, state.policy.network)
    assert same(eqx.tree_at(lambda s: s.policy, improved, state.policy), state)
    for old, new, average in zip(
        *(jax.tree.leaves(x) for x in (state.policy.target, improved.policy.network, improved.policy.target)),
        strict=True,
    ):
        np.testing.assert_allclose(average, 0.999 * old + 0.001 * new, rtol=1e-5, atol=1e-7)
    evaluated, _ = evaluate(TINY, state, batch)
    for name in ("reward_critic", "reward_value", "cost_critic", "cost_value"):
        assert not same(getattr(evaluated, name).network, getattr(state, name).network)
    assert same((evaluated.policy, evaluated.bounds), (state.policy, state.bounds))


def test_an_update_is_two_policy_steps_on_their_own_rows_and_then_the_critics_on_the_first_ones():
    data = toy_episodes([10] * 3, observation_size=1, action_size=1)
    store, index, state = Store.make(data, TINY.fields), TINY.index(data, 1.0), fresh_state()
    with quick():
        new, metrics = jax.jit(TINY._update)(state, store, index, new_key(5))
        draw_key, *keys = jax.random.split(new_key(5), 3)
        rows = index.transitions.sample(draw_key, 16)
        evaluate, step = _jitted(TINY)
        policy = step(state, store.transitions(rows[:8]), index, keys[0])[0]
        policy, last = step(policy, store.transitions(rows[8:]), index, keys[1])
        critics, losses = evaluate(state, store.transitions(rows[:4]), index)
    expected = eqx.tree_at(lambda s: s.policy, critics, policy.policy)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert set(metrics) == set(last) | set(losses)
    for name, value in {**last, **losses}.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_policy_s_rate_falls_along_a_cosine_to_a_quarter():
    rates = optax.cosine_decay_schedule(3e-4, 3000)
    assert float(rates(2000)) == pytest.approx(3e-4 / 4, rel=1e-5)
    steps = []
    optimiser, weight = FISOR(updates=1000, policy_steps=2)._policy_optimiser(), jnp.zeros(())
    state = optimiser.init(weight)
    for count in (0, 2000):
        state = eqx.tree_at(lambda s: s[1].count, state, jnp.asarray(count, jnp.int32))
        update, _ = optimiser.update(jnp.ones(()), state)
        steps.append(float(update))
    np.testing.assert_allclose(steps[1] / steps[0], 0.25, rtol=1e-5)


def test_the_actor_is_the_average_with_the_target_critics():
    state = with_values(of_arm(1, -1), 0, of_arm(2, -2), 0)
    state = eqx.tree_at(lambda s: s.cost_critic.target, state, of_arm(-2, 2))
    safest, rewarding = (replace(TINY, choice=choice).actor(state) for choice in ("safest", "rewarding"))
    assert isinstance(safest.choice, Safest)
    assert isinstance(rewarding.choice, MostRewarding)
    assert same(safest.choice.critics, state.cost_critic.target)
    assert same(rewarding.choice.critics, state.reward_critic.target)
    assert same(safest.denoiser, state.policy.target)
    assert safest.candidates == 3
    # reward grows and the target's cost falls with the action
    many, other = (actions(replace(TINY, choice=choice), state, np.ones(1)) for choice in ("safest", "rewarding"))
    np.testing.assert_array_equal(many, other)
    assert many.mean() > actions(replace(TINY, candidates=1), state, np.ones(1)).mean()


# Probe problems


def wide(data):
    """The same log with three equal observations: the shapes of the fork's."""
    return replace(data, observations=np.repeat(data.observations, 3, axis=1))


def test_two_arms_are_infeasible_and_the_safe_one_is_played():
    """gamma = 0.9, and one row of five ends: Q_h of the safe arm is 0.2 (-1) + 0.8 (-0.1 + 0.9 V), so V_h = 6.39."""
    state, metrics = taught(QUICK, wide(two_arms(5, 400)), 1.0)
    assert metrics["cost_value"] == pytest.approx(6.39, abs=0.5)
    assert metrics["infeasible"] == 1
    assert np.abs(actions(QUICK, state, np.ones(3)) - SAFE).max() < 0.05


def test_at_the_fork_the_safe_branch_is_taken_whatever_the_limit():
    """V_h is 25 in the risky branch and -1 in the safe one; at the start the 0.1-expectile of 22.4 and -1."""
    state, _ = taught(QUICK, fork(), 8.0)
    values = np.asarray(state.cost_value.network(jnp.eye(3)))[:, 0]
    np.testing.assert_allclose(values, [1.34, 25, -1], atol=0.7)
    assert np.abs(actions(QUICK, state, START) - SAFE).max() < 0.1


@pytest.mark.slow
def test_with_discounted_costs_the_limit_decides_at_the_fork():
    """4 steps that cost are worth 3.1: above the discounted limit 1.6, below 6.6."""
    algorithm = replace(QUICK, constraint="cost", candidates=1)
    for limit_of_episode, arm in ((2.0, SAFE), (8.0, RISKY)):
        state, metrics = taught(algorithm, fork(), limit_of_episode)
        assert metrics["abandoned"] == pytest.approx(0.1 if arm == SAFE else 0, abs=0.03)
        assert np.abs(actions(algorithm, state, START) - arm).mean() < 0.2


# Settings, sizes, warnings


def test_the_limit_matters_with_discounted_costs_only():
    data = toy_episodes([1000, 500])
    assert not FISOR().uses_cost_limit
    assert float(FISOR().index(data, 10.0).threshold) == 0
    assert COST.uses_cost_limit
    assert float(COST.index(data, 10.0).threshold) == pytest.approx(1.0, abs=1e-3)
    assert (FISOR().name, COST.name) == ("FISOR", "FISOR-Cost")


def test_rewards_are_scaled_to_the_steps_of_an_episode():
    data = toy_episodes([10, 20])
    assert float(TINY.index(data, 1.0).reward_scale) == pytest.approx(20 / np.ptp(data.returns))


def test_parameter_counts():
    spec = Spec.of(toy_episodes([3], observation_size=8))
    state = jax.eval_shape(lambda key: FISOR().init(key, spec), jax.random.key(0))

    def count(tree) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    assert count(state.policy.network) == count(state.policy.target) == 1_639_202
    assert count(state.reward_value.network) == count(state.cost_value.network) == 68_353
    assert count(state.reward_critic.network) == count(state.cost_critic.target) == 137_730


def test_presets():
    published = FISOR()
    assert FISOR.preset("bullet", "BallRun") == FISOR.preset("safety_gymnasium") == published
    assert (published.cost_temperature, published.reward_temperature) == (5, 3)
    assert (published.cost_weight_cap, published.reward_weight_cap) == (150, 100)
    assert (published.candidates, published.diffusion_steps, published.updates) == (16, 5, 1_000_000)
    assert published.policy_steps * published.policy_batch_size == 2048
    assert FISOR.preset("metadrive", "easysparse") == replace(published, cost_weight_floor=1.0)
    small = FISOR.preset("reach_avoid")
    assert (small.cost_temperature, small.reward_temperature, small.candidates) == (2, 5, 8)
    assert (small.policy_steps * small.policy_batch_size, small.updates) == (1024, 100_000)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("violation", 0.0),
        ("cost_expectile", 1.0),
        ("reward_expectile", 0.0),
        ("discount", 1.0),
        ("dropout", 1.0),
        ("ema_rate", 0.0),
        ("cost_weight_floor", 151.0),
        ("policy_decay", 0.5),
        ("critic_batch_size", 1025),
        ("policy_steps", 0),
        ("candidates", 0),
        ("diffusion_steps", 0),
        ("reward_temperature", -1.0),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(FISOR(), **{setting: value})


HEALTHY = {"infeasible": [0.4], "clipped": [0.1], "policy_gradient": [0.1], "weight": [1.0]}


@pytest.mark.parametrize(
    ("settings", "signs", "said"),
    [
        ({}, {"infeasible": 1.0}, "every state counts as infeasible.*lower violation"),
        ({"constraint": "cost"}, {"infeasible": 1.0}, "every state counts as infeasible.*raise the cost limit"),
        ({}, {"clipped": 1.0}, "all weights are at their cap.*lower the temperatures"),
        ({}, {"policy_gradient": 0.0}, "no gradient.*cost_weight_floor"),
    ],
)
def test_degenerate_runs_are_told(settings, signs, said):
    algorithm = replace(FISOR(), **settings)
    healthy = {name: values * 6 for name, values in HEALTHY.items()}
    assert algorithm.diagnose(healthy) == ()
    (sentence,) = algorithm.diagnose({**healthy, **{name: [value] * 6 for name, value in signs.items()}})
    assert re.search(said, sentence)
