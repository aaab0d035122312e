from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled, act, equal_leaves
from probes import START, fork, two_arms

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.bcq_lag import BCQLag
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.nets.cvae import Decoder, clipped_normal
from safetrax.nets.mlp import MLP
from safetrax.policies.perturbed import PerturbedActor, perturbed
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId
from safetrax.training.train import train

STEPS, EPISODES = 5, 8
TINY = BCQLag(
    hidden=(16,),
    cvae_hidden=16,
    batch_size=32,
    samples=4,
    discount=0.9,
    target_rate=0.1,
    policy_learning_rate=3e-3,
    critic_learning_rate=3e-3,
    cvae_learning_rate=3e-3,
)
PROBE = replace(
    TINY, hidden=(32,), cvae_hidden=32, group_size=1, batch_size=128, updates=500, target_rate=0.05, standardise=False
)


def constant(cost: float) -> Trajectories:
    """One state, one action; every step earns 1 and costs `cost`; the shapes are those of the toy."""
    n = STEPS * EPISODES
    ends = np.arange(n) % STEPS == STEPS - 1
    return Trajectories.from_arrays(
        np.ones((n, 1)), np.zeros((n, 1)), np.ones(n), np.full(n, cost), np.zeros(n, bool), ends
    )


@pytest.fixture(scope="module")
def problem() -> Compiled:
    return Compiled(TINY, toy_episodes([STEPS] * EPISODES, observation_size=1, action_size=1), 2.0)


@pytest.fixture(scope="module")
def updated(problem):
    return problem.update(problem.state, problem.store, problem.index, jax.random.key(3))


# Equations


def test_parameter_counts():
    state = jax.eval_shape(lambda: BCQLag().init(jax.random.key(0), Spec.of(toy_episodes([3], observation_size=8))))
    count = {
        name: sum(leaf.size for leaf in jax.tree.leaves(getattr(state, name).network))
        for name in ("policy", "reward_critic", "cost_critic", "cvae")
    }
    assert count == {"policy": 69_122, "reward_critic": 275_460, "cost_critic": 275_460, "cvae": 334_410}
    assert state.policy.network.activation == state.policy.network.output == "tanh"
    assert state.reward_critic.network.members[0].activation == "relu"


def test_targets_are_the_maximum_over_the_draws(problem):
    batch, state = problem.batch, problem.state
    other = jax.tree.map(lambda weight: -weight, state.policy.target)  # else the target is the network itself
    state = replace(state, policy=replace(state.policy, target=other))
    rewards, costs = problem.targets(state, batch, jax.random.key(1))
    observations = batch.next_observations
    decoder, latents = state.cvae.network.decoder, clipped_normal(jax.random.key(1), (4, 32, 2), 0.5)

    def mixed(critic, z):
        decoded = decoder(observations, z)
        direction = state.policy.target(jnp.concatenate([observations, decoded], axis=1))
        values = critic.target(observations, jnp.clip(decoded + 0.05 * direction, -1, 1))
        first, second = values[:2].min(axis=0), values[2:].min(axis=0)
        return 0.75 * jnp.minimum(first, second) + 0.25 * jnp.maximum(first, second)

    @jax.jit
    def greatest(critic):
        return jnp.max(jnp.stack([mixed(critic, z) for z in latents]), axis=0)

    value, cost_value = greatest(state.reward_critic), greatest(state.cost_critic)
    np.testing.assert_allclose(rewards, 0.1 * batch.rewards + 0.9 * jnp.where(batch.done, 0, value), atol=1e-6)
    np.testing.assert_allclose(costs, batch.costs + 0.9 * cost_value, atol=1e-6)


@pytest.mark.parametrize("cost_done", [False, True])
def test_the_end_of_an_episode_ends_the_reward_return_and_the_cost_return_where_asked(problem, cost_done):
    targets = jax.jit(replace(TINY, cost_done=True).targets) if cost_done else problem.targets
    ends, goes_on = (replace(problem.batch, done=jnp.full(32, done)) for done in (True, False))
    (reward_end, cost_end), (reward_on, cost_on) = (
        targets(problem.state, batch, jax.random.key(0)) for batch in (ends, goes_on)
    )
    np.testing.assert_allclose(reward_end, 0.1 * problem.batch.rewards)
    assert bool(jnp.all(reward_end != reward_on))
    if cost_done:
        np.testing.assert_allclose(cost_end, problem.batch.costs)
        assert bool(jnp.all(cost_end != cost_on))
    else:
        np.testing.assert_array_equal(cost_end, cost_on)


def test_threshold():
    data = toy_episodes([4, 10, 6])
    assert float(BCQLag(discount=0.9).index(data, 3.0).threshold) == pytest.approx(0.3 * (1 - 0.9**10) / 0.1)


# Updates


def test_an_update_changes_every_network_and_moves_targets_by_their_share(problem, updated):
    before, (after, metrics) = problem.state, updated
    for name in ("cvae", "policy", "reward_critic", "cost_critic"):
        assert not any(equal_leaves(getattr(before, name).network, getattr(after, name).network))
    for name in ("policy", "reward_critic", "cost_critic"):
        old, new, target = getattr(before, name).target, getattr(after, name).network, getattr(after, name).target
        for o, n, t in zip(*(jax.tree.leaves(tree) for tree in (old, new, target)), strict=True):
            np.testing.assert_allclose(t, o + 0.1 * (n - o), atol=1e-7)
    assert all(equal_leaves(before.bounds, after.bounds))
    assert float(after.threshold) == float(problem.index.threshold)
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_the_policys_step_touches_neither_the_cvae_nor_the_critics(problem):
    after, metrics = problem.improve(problem.state, problem.batch, jax.random.key(0))
    for name in ("cvae", "reward_critic", "cost_critic"):
        assert all(equal_leaves(getattr(problem.state, name), getattr(after, name)))
    assert all(equal_leaves(problem.state.policy.target, after.policy.target))
    assert not any(equal_leaves(problem.state.policy.network, after.policy.network))
    assert float(metrics["policy_gradient"]) > 0


def test_the_policy_is_judged_by_the_critics_that_were_just_fitted(problem, updated):
    after, metrics = updated
    keys = jax.random.split(jax.random.key(3), 4)
    batch = problem.store.transitions(problem.index.transitions.sample(keys[0], TINY.batch_size))
    middle = replace(after, policy=problem.state.policy, pid=problem.state.pid)
    _, expected = problem.improve(middle, batch, keys[3])
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6)


def test_the_policys_loss_is_penalty_minus_value(updated):
    _, metrics = updated
    gap = float(metrics["cost_gap"])
    assert gap == pytest.approx(float(metrics["cost_value"]) - 2 / 5 * 4.0951, abs=1e-5)
    multiplier = max(0.1 * max(gap, 0) + 0.003 * max(gap, 0) + 0.001 * max(gap, 0), 0)
    assert float(metrics["multiplier"]) == pytest.approx(multiplier, abs=1e-6)
    assert float(metrics["policy_loss"]) == pytest.approx(multiplier * gap - float(metrics["reward_value"]), abs=1e-6)


def test_costs_go_on_beyond_the_episode_rewards_do_not(problem):
    """Q_c = 1 / (1 - .9) = 10; Q = .1 / (1 - .9 * 4/5) = .357: a fifth of the rows end the reward's return.

    No episode costs more than its 5 steps. Yet at the limit 5, q = 4.0951 < 10: stricter than intended.
    """
    _, metrics = problem.train(constant(1.0), 5.0, 700)
    assert metrics["cost_value"] == pytest.approx(10, abs=0.5)
    assert metrics["reward_value"] == pytest.approx(0.357, abs=0.04)
    assert metrics["above_limit"] == 1
    assert metrics["multiplier"] > 1


# The actor


def test_without_perturbation_the_policy_is_the_cvae(problem):
    algorithm = replace(TINY, perturbation=0.0)
    observations = problem.batch.observations
    keys = jax.random.split(jax.random.key(0), 32)
    actions = act(algorithm.actor(problem.state), observations, keys)
    latents = jnp.stack([clipped_normal(key, (1, 2), 0.5)[0] for key in keys])
    np.testing.assert_allclose(actions, problem.state.cvae.network.decoder(observations, latents), atol=1e-6)


def test_the_perturbation_is_bounded():
    actions, direction = jnp.array([0.0, 0.98, -1.0]), jnp.array([1.0, 1.0, 0.5])
    np.testing.assert_allclose(perturbed(actions, direction, 0.05), [0.05, 1.0, -0.975])


def test_one_action_needs_no_critics_and_is_random_but_repeatable(problem):
    actor = TINY.actor(problem.state)
    assert isinstance(actor, PerturbedActor)
    assert actor.critics == actor.cost_critics == ()
    observations = jnp.ones((3, 1))
    actions = act(actor, observations, jax.random.split(jax.random.key(0), 3))
    again = act(actor, observations, jax.random.split(jax.random.key(0), 3))
    np.testing.assert_array_equal(actions, again)
    assert len(np.unique(np.asarray(actions), axis=0)) == 3


def line(weights: list[float]) -> MLP:
    """A linear function."""
    return MLP((jnp.array(weights)[:, None],), (jnp.zeros(1),), "identity", 0.0)


@pytest.mark.parametrize("threshold", [10.0, 0.1, -10.0])
def test_of_several_candidates_the_best_within_the_threshold_is_played(threshold):
    """s = 1, z has one number, the decoder gives tanh(z); Q = min(a, a + 1), Q_c = min(a, 2 + a)."""
    actor = PerturbedActor(
        decoder=Decoder(line([0.0, 1.0])),
        perturbation=line([0.0, 0.0]),
        critics=(line([0.0, 1.0]), line([1.0, 1.0])),
        cost_critics=(line([0.0, 1.0]), line([2.0, 1.0])),
        threshold=jnp.float32(threshold),
        action_low=-jnp.ones(1),
        action_high=jnp.ones(1),
        scale=0.05,
        candidates=6,
    )
    keys = jax.random.split(jax.random.key(0), 40)
    actions = act(actor, jnp.ones((40, 1)), keys)
    candidates = np.tanh([np.asarray(clipped_normal(key, (6, 1), 0.5))[:, 0] for key in keys])
    for action, of in zip(np.asarray(actions)[:, 0], candidates, strict=True):
        within = of[of <= threshold]
        assert action == pytest.approx(within.max() if within.size else of.min(), abs=1e-6)


def test_an_actor_with_candidates_survives_a_file(problem, tmp_path):
    policy = Policy(replace(TINY, candidates=3).actor(problem.state), RunId("BCQ-Lag", None, 2.0, 0))
    again = Policy.load(policy.save(tmp_path / "policy.safetensors"))
    assert jax.tree.structure(again.actor) == jax.tree.structure(policy.actor)
    assert len(again.actor.critics) == len(again.actor.cost_critics) == 4
    assert all(equal_leaves(again.actor, policy.actor))


# Probes


@pytest.mark.slow
def test_fork_the_limit_chooses_the_branch_where_episodes_end_their_costs():
    algorithm = replace(PROBE, perturbation=0.3, reward_scale=1.0, cost_done=True)
    run = train(algorithm, fork(), cost_limits=[1.0, 6.0])
    strict, loose = (policy.act(np.tile(START, (64, 1))) for policy in run.policies)
    assert strict.mean() < -0.1
    assert loose.mean() > 0.1


@pytest.mark.parametrize(("limit", "arm"), [(1.0, -1), (20.0, 1)])
def test_two_arms_one_random_latent_plays_both_and_candidates_choose(problem, limit, arm):
    """As published, the policy moves by 0.05 around a random decoded action: too little to choose an arm."""
    state, _ = problem.train(two_arms(STEPS, EPISODES), limit, 600)
    keys, observations = jax.random.split(jax.random.key(0), 64), jnp.ones((64, 1))
    published = act(TINY.actor(state), observations, keys)
    assert abs(float(published.mean())) < 0.25
    assert float(published.std()) > 0.2
    chosen = act(replace(TINY, candidates=16).actor(state), observations, keys)
    assert float((arm * chosen).min()) > 0.2


# The contract


def test_signs_of_degenerate_runs():
    growing = {
        "multiplier": [8.0, 9, 10, 11, 12, 13],
        "cost_value": [7.0] * 6,
        "cost_gap": [5.0] * 6,
        "policy_gradient": [0.1] * 6,
    }
    (sentence,) = BCQLag().diagnose(growing)
    assert "q = 2" in sentence
    assert "set cost_done" in sentence
    assert "set cost_done" not in BCQLag(cost_done=True).diagnose(growing)[0]
    assert BCQLag().diagnose({**growing, "multiplier": [8.0, 9, 10, 11, 12, 12]}) == ()
    still = {"policy_gradient": [0.0] * 5}
    assert "no gradient" in BCQLag().diagnose(still)[0]
    assert BCQLag(perturbation=0.0).diagnose(still) == ()
    assert BCQLag().diagnose({}) == ()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("samples", 0), ("gains", (0.1, -1.0, 0.0)), ("hidden", ()), ("candidates", 0), ("discount", 1.5)],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        replace(BCQLag(), **{setting: value})


def test_schedule_and_name():
    assert BCQLag().name == "BCQ-Lag"
    assert [BCQLag.preset(suite).updates for suite in ("bullet", "metadrive")] == [100_000, 200_000]
    assert BCQLag().total_updates == 100_000
