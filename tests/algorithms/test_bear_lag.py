from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled, act, equal_leaves
from probes import START, fork, two_arms

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.bear_lag import BEARLag
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.losses.mmd import gaussian_mmd
from safetrax.nets.cvae import clipped_normal
from safetrax.training.train import train

STEPS, EPISODES = 5, 8
TINY = BEARLag(
    hidden=(16,),
    cvae_hidden=16,
    batch_size=32,
    samples=4,
    mmd_samples=3,
    discount=0.9,
    target_rate=0.1,
    reward_scale=1.0,
    policy_learning_rate=3e-3,
    critic_learning_rate=3e-3,
    cvae_learning_rate=3e-3,
    alpha_learning_rate=0.03,
    start_policy_updates=1,
)
PROBE = replace(
    TINY, updates=500, hidden=(32,), cvae_hidden=32, group_size=1, batch_size=128, target_rate=0.05, standardise=False
)


@pytest.fixture(scope="module")
def problem() -> Compiled:
    return Compiled(TINY, toy_episodes([STEPS] * EPISODES, observation_size=1, action_size=1), 2.0)


@pytest.fixture(scope="module")
def improved(problem):
    return problem.improve(problem.state, problem.batch, jax.random.key(7))


def test_parameter_counts():
    state = jax.eval_shape(lambda: BEARLag().init(jax.random.key(0), Spec.of(toy_episodes([3], observation_size=8))))
    count = {
        name: sum(leaf.size for leaf in jax.tree.leaves(getattr(state, name).network))
        for name in ("policy", "reward_critic", "cost_critic", "cvae")
    }
    assert count == {"policy": 69_124, "reward_critic": 275_460, "cost_critic": 275_460, "cvae": 334_410}


def test_targets_are_the_maximum_over_draws_of_the_target_policy(problem):
    batch, state = problem.batch, problem.state
    other = jax.tree.map(lambda weight: -weight, state.policy.target)  # else the target is the network itself
    state = replace(state, policy=replace(state.policy, target=other))
    rewards, costs = problem.targets(state, batch, jax.random.key(1))
    draws = other.draw(jax.random.key(1), batch.next_observations, 4)

    def mixed(critic, draw):
        values = critic.target(batch.next_observations, jnp.tanh(draw))
        first, second = values[:2].min(axis=0), values[2:].min(axis=0)
        return 0.75 * jnp.minimum(first, second) + 0.25 * jnp.maximum(first, second)

    @jax.jit
    def greatest(critic):
        return jnp.max(jnp.stack([mixed(critic, draw) for draw in draws]), axis=0)

    value, cost_value = greatest(state.reward_critic), greatest(state.cost_critic)
    np.testing.assert_allclose(rewards, batch.rewards + 0.9 * jnp.where(batch.done, 0, value), atol=1e-6)
    np.testing.assert_allclose(costs, batch.costs + 0.9 * cost_value, atol=1e-6)


def test_the_policys_step_touches_neither_the_cvae_nor_the_critics(problem, improved):
    after, _ = improved
    for name in ("cvae", "reward_critic", "cost_critic", "threshold"):
        assert all(equal_leaves(getattr(problem.state, name), getattr(after, name)))
    assert all(equal_leaves(problem.state.policy.target, after.policy.target))
    assert not any(equal_leaves(problem.state.policy.network, after.policy.network))
    assert int(after.done) == 1


def test_distance_is_taken_before_the_squash_and_moves_alpha(problem, improved):
    after, metrics = improved
    latent_key, draw_key = jax.random.split(jax.random.key(7))
    state, observations = problem.state, problem.batch.observations
    latents = clipped_normal(latent_key, (3, 32, 2), 0.5)
    logged = jnp.stack([state.cvae.network.decoder.unsquashed(observations, z) for z in latents])
    draws = state.policy.network.draw(draw_key, observations, 3)
    mmd = float(jnp.mean(gaussian_mmd(logged, draws, 50.0)))
    assert float(metrics["mmd"]) == pytest.approx(mmd, rel=1e-3)
    assert float(metrics["alpha"]) == 1
    assert float(after.log_alpha) == pytest.approx(0.03 * (mmd - 0.05), abs=1e-5)


def test_the_policys_loss_has_three_terms_and_the_reward_joins_later(problem, improved):
    """The value is that of the first of the compared actions."""
    _, metrics = improved
    _, draw_key = jax.random.split(jax.random.key(7))
    observations = problem.batch.observations
    action = jnp.tanh(problem.state.policy.network.draw(draw_key, observations, 3)[0])
    value = float(jnp.mean(problem.state.reward_critic.network.min(observations, action)))
    cost_value = float(jnp.mean(problem.state.cost_critic.network.min(observations, action)))
    assert float(metrics["reward_value"]) == pytest.approx(value, abs=1e-5)
    assert float(metrics["cost_gap"]) == pytest.approx(cost_value - float(problem.state.threshold), abs=1e-5)
    without = float(metrics["mmd"]) - 0.05 + float(metrics["multiplier"]) * float(metrics["cost_gap"])
    assert float(metrics["policy_loss"]) == pytest.approx(without, abs=1e-5)
    later = replace(problem.state, done=jnp.int32(1))
    _, metrics = problem.improve(later, problem.batch, jax.random.key(7))
    assert float(metrics["policy_loss"]) == pytest.approx(without - value, abs=1e-5)


def test_the_deployed_action_is_the_tanh_of_the_mean(problem):
    observations = jnp.ones((2, 1))
    actions = act(BEARLag().actor(problem.state), observations, jax.random.split(jax.random.key(0), 2))
    np.testing.assert_allclose(actions, jnp.tanh(problem.state.policy.network.moments(observations)[0]), atol=1e-6)


def test_an_update_changes_every_network_and_moves_targets_by_their_share(problem):
    before = problem.state
    after, metrics = problem.update(before, problem.store, problem.index, jax.random.key(3))
    for name in ("cvae", "policy", "reward_critic", "cost_critic"):
        assert not any(equal_leaves(getattr(before, name).network, getattr(after, name).network))
    for name in ("policy", "reward_critic", "cost_critic"):
        old, new, target = getattr(before, name).target, getattr(after, name).network, getattr(after, name).target
        for o, n, t in zip(*(jax.tree.leaves(tree) for tree in (old, new, target)), strict=True):
            np.testing.assert_allclose(t, o + 0.1 * (n - o), atol=1e-7)
    assert all(equal_leaves(before.bounds, after.bounds))
    assert all(np.isfinite(float(value)) for value in metrics.values())


@pytest.mark.parametrize(("limit", "arm"), [(1.0, -1), (20.0, 1)])
def test_two_arms_the_limit_chooses_the_arm(problem, limit, arm):
    state, _ = problem.train(two_arms(STEPS, EPISODES), limit, 500)
    actions = act(TINY.actor(state), jnp.ones((1, 1)), jax.random.split(jax.random.key(0), 1))
    assert arm * float(actions[0, 0]) > 0.2


def fork_with_any_later_action() -> Trajectories:
    """`fork`, but the actions after the first are uniform, so that critics learn that they make no difference.

    Where the log has one action only, the wide kernel lets the policy leave it, to where the cost critic extrapolates
    below the truth: then the mean constraint is met by these states, and the first action stays risky.
    """
    data = fork()
    later = ~data.observations.astype(bool)[:, :1]
    drawn = np.random.default_rng(1).uniform(-1, 1, data.actions.shape)
    return replace(data, actions=np.where(later, drawn, data.actions).astype(np.float32))


@pytest.mark.slow
def test_fork_the_limit_chooses_the_branch_where_episodes_end_their_costs():
    run = train(replace(PROBE, cost_done=True), fork_with_any_later_action(), cost_limits=[1.0, 6.0])
    strict, loose = (float(policy.act(START)[0]) for policy in run.policies)
    assert strict < -0.2
    assert loose > 0.2


@pytest.mark.parametrize(
    ("setting", "value"), [("mmd_samples", 0), ("kernel_width", 0.0), ("start_policy_updates", -1), ("samples", 0)]
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(BEARLag(), **{setting: value})


def test_schedule_and_name():
    assert BEARLag().name == "BEAR-Lag"
    assert [BEARLag.preset(suite).updates for suite in ("bullet", "metadrive")] == [300_000, 200_000]
    assert BEARLag().total_updates == 300_000
