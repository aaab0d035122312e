from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms import BC
from safetrax.algorithms.base import Spec
from safetrax.data.filters import Boundary, Frontier, Risky, Safe
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError
from safetrax.training.plan import Plan
from safetrax.training.train import train

TINY = BC(hidden=(32,), updates=5, batch_size=64)
MODES = {
    "all": "BC-All",
    "safe": "BC-Safe",
    "risky": "BC-Risky",
    "boundary": "BC-Boundary",
    "frontier": "BC-Frontier",
    "conditioned": "BC-Conditioned",
}


def costing(*costs: int, steps: int = 8, action: float | None = None, returns=None) -> Trajectories:
    """One state; episodes of those costs, one per step from the first on, and those returns, earned at the end.

    Actions are 0.1 times the cost of the episode, or all as given.
    """
    returns = costs if returns is None else returns
    return Trajectories.from_episodes(
        {
            "observations": np.ones((steps, 1)),
            "actions": np.full((steps, 1), 0.1 * cost if action is None else action),
            "rewards": value * np.eye(steps)[-1],
            "costs": np.arange(steps) < cost,
        }
        for cost, value in zip(costs, returns, strict=True)
    )


def drawn(mode: str, data: Trajectories, limit: float) -> list[int]:
    """Numbers of the episodes that are drawn from."""
    rows = np.asarray(replace(TINY, mode=mode).index(data, limit).transitions.sample(jax.random.key(0), 2000))
    return sorted(set((np.searchsorted(data.offsets, rows, side="right") - 1).tolist()))


def test_usage_counts_the_episodes_that_are_cloned():
    data = toy_episodes([4] * 3 + [40] * 7, seed=1)  # the short ones cost at most 3, the others at least 6
    usage = BC(mode="safe").usage(data, 3.0)
    assert (usage.counts, usage.share) == ({"cloned": 3, "unused": 7}, pytest.approx(12 / 292))
    assert usage.warnings == (
        "at the cost limit 3 BC-Safe uses 4.1% of the log's steps; choose a limit that selects more episodes.",
    )
    assert BC(mode="all").usage(data, 3.0) is None


def test_a_linear_policy_is_recovered():
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1, 1, (400, 3))
    actions = observations @ np.array([[0.4, -0.2], [0.1, 0.3], [-0.3, 0.2]])
    data = Trajectories.from_episodes(
        {"observations": o, "actions": a, "rewards": np.zeros(40), "costs": np.zeros(40)}
        for o, a in zip(np.split(observations, 10), np.split(actions, 10), strict=True)
    )
    run = train(replace(TINY, updates=1500, learning_rate=3e-3), data)
    assert [row.value for row in run.metrics if row.metric == "loss"][-1] < 1e-3
    np.testing.assert_allclose(run.policies[0].act(observations[:5]), actions[:5], atol=0.08)


@pytest.mark.slow
def test_two_equally_frequent_actions_average_out():
    data = Trajectories.from_episodes(
        {"observations": np.ones((4, 1)), "actions": np.full((4, 1), a), "rewards": np.zeros(4), "costs": np.zeros(4)}
        for a in (0.5, -0.5)
    )
    run = train(replace(TINY, updates=800, batch_size=256), data)
    assert abs(float(run.policies[0].act(np.ones(1))[0])) < 0.05


# which episodes


def test_modes_choose_by_the_cost_of_whole_episodes():
    data = costing(0, 1, 2, 3, 4, 5, 6, 7, 8)
    assert drawn("all", data, 4.0) == list(range(9))
    assert drawn("safe", data, 4.0) == [0, 1, 2, 3, 4]
    assert drawn("risky", data, 4.0) == [8]
    assert drawn("risky", data, 3.0) == [6, 7, 8]
    assert drawn("boundary", data, 4.0) == [3, 4, 5, 6]  # half the limit is out, one and a half is in
    assert drawn("conditioned", data, 4.0) == list(range(9))


def test_the_frontier_is_what_earns_most_at_its_cost():
    # the frontier is R = C over a range of 8: within 1.6 of it
    data = costing(0, 2, 4, 6, 8, 8, 8, returns=[0, 2, 4, 6, 8, 6.5, 6.3])
    assert drawn("frontier", data, np.inf) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("mode", "chosen"),
    [("safe", Safe(3)), ("risky", Risky(3)), ("boundary", Boundary(3)), ("frontier", Frontier())],
)
def test_modes_choose_what_the_filter_of_that_name_keeps(toy, mode, chosen):
    assert drawn(mode, toy, 3.0) == chosen.episodes(toy).tolist()


def test_safe_and_risky_share_no_episode_and_safe_and_unsafe_are_all(toy):
    safe, risky = set(drawn("safe", toy, 2.0)), set(drawn("risky", toy, 2.0))
    assert not safe & risky
    assert set(range(30)) - safe == set(np.flatnonzero(toy.cost_returns > 2).tolist())


@pytest.mark.parametrize(
    ("mode", "costs", "limit", "words"),
    [
        ("safe", (3, 4), 2.0, "none of the 2 episodes to clone at the cost limit 2: the cheapest costs 3; raise"),
        ("risky", (3, 4), 3.0, "none of the 2 episodes to clone at the cost limit 3: the dearest costs 4"),
        ("boundary", (0, 8), 4.0, "none of the 2 episodes to clone at the cost limit 4: their costs go from 0 to 8"),
    ],
)
def test_no_episode_to_clone_is_refused_in_one_sentence(mode, costs, limit, words):
    with pytest.raises(DataError, match=words) as error:
        replace(TINY, mode=mode).index(costing(*costs), limit)
    assert "\n" not in str(error.value)


def test_a_boundary_at_zero_is_refused_in_one_sentence(run_folder):
    with pytest.raises(ConfigError, match="must be positive, for the boundary has a width"):
        train(replace(TINY, mode="boundary"), costing(0, 1), cost_limits=(0.0,), out=run_folder)
    assert not run_folder.exists()


# conditioned on the cost


def test_the_conditioned_clone_sees_the_cost_of_its_episode():
    data = costing(0, 5, 3)
    algorithm = replace(TINY, mode="conditioned")
    index = algorithm.index(data, np.inf)
    assert index.cost_returns.tolist() == [0, 5, 3]
    state = jax.jit(algorithm.init, static_argnums=1)(jax.random.key(0), Spec.of(data))
    store = Store.make(data, algorithm.fields)
    key = jax.random.key(1)
    _, metrics = jax.jit(algorithm._update)(state, store, index, key)
    rows = np.asarray(index.transitions.sample(key, 64))
    inputs = jnp.stack([jnp.ones(64), jnp.array([0.0, 5.0, 3.0])[rows // 8]], axis=1)
    expected = np.square(state.learner.network(inputs) - data.actions[rows]).mean()
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_one_conditioned_clone_does_at_every_limit_what_episodes_of_that_cost_did():
    run = train(
        replace(TINY, mode="conditioned", updates=800, learning_rate=3e-3),
        costing(0, 2, 4, 6, 8),
        cost_limits=(2.0, 6.0),
        seeds=(0, 1),
    )
    assert [(i.algorithm, i.cost_limit, i.seed) for i in run.ids] == [
        ("BC-Conditioned", limit, seed) for limit in (2.0, 6.0) for seed in (0, 1)
    ]
    actions = [float(policy.act(np.ones(1))[0]) for policy in run.policies]
    np.testing.assert_allclose(actions, [0.2, 0.2, 0.6, 0.6], atol=0.04)
    between = run.policies[0].adjusted(cost_limit=4)
    assert str(between.id) == "BC-Conditioned_limit-4_seed-0"
    assert float(between.act(np.ones(1))[0]) == pytest.approx(0.4, abs=0.04)
    for bad in (-1.0, np.inf, np.nan):
        with pytest.raises(ConfigError, match="but must lie between 0"):
            run.policies[0].adjusted(cost_limit=bad)


def test_the_conditioned_clone_needs_limits_that_its_training_ignores(toy):
    algorithm = replace(TINY, mode="conditioned")
    assert algorithm.needs_cost_limits
    assert not algorithm.uses_cost_limit
    with pytest.raises(ConfigError, match="BC-Conditioned needs cost limits"):
        train(algorithm, toy)


# runs, sizes, settings


def test_one_run_per_seed_where_the_limit_is_ignored(toy):
    def runs(mode: str) -> list[tuple[str, float | None, int]]:
        plan = Plan.make(replace(TINY, mode=mode), toy, (2.0, 3.0), (0, 1), None)
        return [(run.algorithm, run.cost_limit, run.seed) for run in plan.ids]

    assert runs("all") == [("BC-All", None, 0), ("BC-All", None, 1)]
    assert runs("safe") == [("BC-Safe", limit, seed) for limit in (2.0, 3.0) for seed in (0, 1)]


@pytest.mark.parametrize(("mode", "name"), MODES.items())
def test_names_and_who_uses_the_limit(mode, name):
    algorithm = BC(mode=mode)
    assert algorithm.name == name
    assert algorithm.uses_cost_limit == (mode in ("safe", "risky", "boundary"))
    assert [variant.name for variant in algorithm.variants((1.0,))] == [name]


@pytest.mark.parametrize(("mode", "count"), [("all", 68_610), ("conditioned", 68_610 + 256)])
def test_parameter_count_and_initial_range(mode, count):
    state = BC(mode=mode).init(jax.random.key(0), Spec.of(toy_episodes([3], observation_size=8)))
    network = state.learner.network
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == count
    for weight, bias in zip(network.weights, network.biases, strict=True):
        bound = weight.shape[0] ** -0.5
        assert float(abs(weight).max()) <= bound
        assert float(abs(bias).max()) <= bound
        assert float(abs(weight).max()) > 0.9 * bound


@pytest.mark.parametrize(
    ("setting", "value"), [("mode", "sure"), ("batch_size", 0), ("updates", -1), ("learning_rate", 0.0)]
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises((ConfigError, Exception), match=setting):
        replace(BC(), **{setting: value})


def test_metadrive_trains_twice_as_long():
    assert BC.preset("metadrive").updates == 2 * BC.preset("bullet").updates


def test_the_unit_of_costs_does_not_matter_to_a_conditioned_clone(toy):
    algorithm = BC(mode="conditioned", hidden=(8,), batch_size=16, updates=20)
    limits, unit = (2.0, 5.0), 2.0**13  # so that no rounding differs
    dear = replace(toy, costs=toy.costs * np.float32(unit))
    runs = train(algorithm, toy, cost_limits=limits), train(algorithm, dear, cost_limits=[unit * x for x in limits])
    assert runs[0].metrics == runs[1].metrics
    for usual, other in zip(*(run.policies for run in runs), strict=True):
        np.testing.assert_array_equal(usual.act(toy.observations[:20]), other.act(toy.observations[:20]))
    cheap, costly = (policy.act(toy.observations[:20]) for policy in runs[0].policies)
    assert np.abs(cheap - costly).max() > 1e-4
