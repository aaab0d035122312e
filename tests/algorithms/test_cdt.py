"""CDT: a probe with a known answer, equations, presets, and what is refused before any compute."""

import functools
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import new_key, quick

from conftest import toy_episodes
from safetrax.algorithms.base import Spec
from safetrax.algorithms.cdt import CDT
from safetrax.catalogue import tasks
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError, SafeTraXWarning
from safetrax.policies.policy import Policies
from safetrax.policies.sequence import Targets
from safetrax.training.train import train

SMALL = {"width": 16, "blocks": 1, "heads": 2, "batch_size": 16, "context": 4}
STEPS, SIDES = 6, {0.0: (-0.5, 1.0), 30.0: (0.5, 2.0)}  # of each cost, the action and the return


def two_behaviours(episodes: int = 20) -> Trajectories:
    """One state. Half of the episodes play -0.5 (C = 0, R = 1), half +0.5 (C = 30, R = 2)."""
    return Trajectories.from_episodes(
        {
            "observations": np.ones((STEPS, 1)),
            "actions": np.full((STEPS, 1), action),
            "rewards": np.full(STEPS, returned / STEPS),
            "costs": np.full(STEPS, cost / STEPS),
        }
        for cost, (action, returned) in list(SIDES.items()) * (episodes // 2)
    )


def played(policies: Policies) -> np.ndarray:
    """Actions of one episode of every policy, (P, T), in a world that pays as the nearer behaviour is paid."""
    rows = []
    for policy in policies:
        policy.reset(1)
        row = []
        for _ in range(STEPS):
            row.append(float(policy.act(np.ones(1))[0]))
            cost, (_, returned) = list(SIDES.items())[row[-1] > 0]
            policy.observe(returned / STEPS, cost / STEPS)
        rows.append(row)
    return np.array(rows)


def test_each_target_reproduces_its_behaviour():
    # between the two costs: the tokens' normalisation leaves little more than the sign of numbers far from zero
    between = {"cost_origin": 15.0, "relabel_share": 0.0, "dropout": 0.0}
    algorithm = CDT(**{**SMALL, "batch_size": 32}, updates=400, learning_rate=3e-3, warmup=20, **between)
    with quick():
        run = train(algorithm, two_behaviours(), cost_limits=tuple(SIDES), seeds=(0, 1, 2), batching="map")
        actions = played(run.policies)
    assert len(run.policies) == 6
    for policy, row in zip(run.policies, actions, strict=True):
        # nearer to its own behaviour than to the middle, in every step
        np.testing.assert_allclose(row, SIDES[policy.id.cost_limit][0], atol=0.25, err_msg=str(policy.id))


@functools.cache
def updated(summed: bool):
    """One update of heads that foresee nothing (mean 0, standard deviation 1, costs and none alike), on episodes of
    the length of a window whose actions are all +-1: the algorithm, the states, the metrics, the batch."""
    data = toy_episodes([4] * 8)
    data = replace(data, actions=np.where(data.actions > 0, 1, -1).astype(np.float32))
    algorithm = CDT(**SMALL, dropout=0.0, warmup=4, state_weight=1.0, summed=summed)
    store, index = Store.make(data, algorithm.fields), algorithm.index(data, np.inf)

    @jax.jit
    def first(key):
        state = algorithm.init(key, Spec.of(data))
        heads = {name: getattr(state.learner.network, name) for name in ("mean", "log_std", "cost", "next_state")}
        network = replace(state.learner.network, **jax.tree.map(jnp.zeros_like, heads))
        state = replace(state, learner=replace(state.learner, network=network))
        after, metrics = algorithm._update(state, store, index, key)
        return state, after, metrics, index.sequences.sample(jax.random.split(key)[0], store, 16, 4)

    with quick():
        return algorithm, *first(new_key(0))


@pytest.mark.parametrize("summed", [False, True])
def test_losses_by_hand(summed):
    _, _, _, metrics, windows = updated(summed)
    dims = 2 if summed else 1
    log_prob, entropy = -(0.5 + 0.9189385) * dims, 1.4189385 * dims  # a^2 = 1; log(2 pi) / 2; log(2 pi e) / 2
    assert float(metrics["log_likelihood"]) == pytest.approx(log_prob, rel=1e-5)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(metrics["temperature"]) == pytest.approx(0.1, rel=1e-5)
    assert float(metrics["action_loss"]) == pytest.approx(-log_prob - 0.1 * entropy, rel=1e-5)
    assert float(metrics["behaviour_distance"]) == pytest.approx(1, rel=1e-5)
    # windows that begin late are not full: masked steps count in the denominator, not above it
    mask = np.asarray(windows.mask)
    assert not mask.all()
    assert float(metrics["cost_loss"]) == pytest.approx(np.log(2) * mask.mean(), rel=1e-5)
    costless = np.asarray(windows.costs) < 1
    assert float(metrics["cost_accuracy"]) == pytest.approx(costless[mask].mean(), rel=1e-5)
    following = np.where(mask[:, 1:, None], windows.observations[:, 1:], 0) ** 2
    assert float(metrics["state_loss"]) == pytest.approx(following.mean(), rel=1e-5)


def test_the_temperature_and_the_rate():
    algorithm, before, after, *_ = updated(False)
    moved = float(after.log_temperature.network) - float(np.log(np.float32(0.1)))
    assert moved == pytest.approx(-1e-4, rel=0.05)  # Adam's first step, down: the entropy is above -2
    assert [float(algorithm.schedule(count)) for count in (0, 1, 3, 100)] == pytest.approx([2.5e-5, 5e-5, 1e-4, 1e-4])
    assert float(replace(algorithm, warmup=0).schedule(0)) == pytest.approx(1e-4)
    # AdamW's first step: the sign of the clipped gradient times the rate, and a little decay
    for a, b in zip(*(jax.tree.leaves(s.learner.network) for s in (before, after)), strict=True):
        assert np.abs(np.asarray(a) - b).max() <= 2.5e-5 * (1 + 1e-4 * np.abs(a).max()) * 1.01


def test_presets_are_the_published_numbers():
    run = CDT.preset("bullet", "BallRun")
    assert (run.target_limits, run.target_returns) == ((10, 20, 40), (500, 500, 700))
    assert (run.relabel_degree, run.relabel_ceiling, run.relabel_margin, run.relabel_decrease) == (2, 1400, 1, 200)
    assert (run.episode_length, run.updates, run.context) == (100, 100_000, 10)
    third = CDT.preset("bullet", "CarCircle")  # published for a cost of 50
    table = Targets(
        jnp.stack([jnp.array(third.target_limits), jnp.array(third.target_returns)], axis=1), *[jnp.zeros(2)] * 2
    )
    assert float(table.asked(40)) == pytest.approx(500 + 50 * 20 / 30)
    medium = [CDT.preset("metadrive", name) for name in ("mediumdense", "mediummean", "mediumsparse")]
    assert medium[0] == medium[1] == medium[2]
    assert medium[0].updates == 200_000
    for task in tasks():
        preset = CDT.preset(task.suite, task.name)
        assert preset.episode_length == task.horizon
        assert len(preset.target_limits) == 3
    assert CDT.preset("bullet") == CDT()


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="heads is 5, but must divide the width, 128"):
        CDT(heads=5)
    with pytest.raises(ConfigError, match="target_returns"):
        CDT(target_limits=(10.0,))
    with pytest.raises(ConfigError, match=r"target_limits is .* but must be ascending"):
        CDT(target_limits=(20.0, 10.0), target_returns=(1.0, 2.0))


def test_what_cannot_be_learnt_is_refused_and_doubted_before_any_compute(monkeypatch):
    data = toy_episodes([10] * 12)
    monkeypatch.setattr("safetrax.training.train.Program", None)  # nothing is compiled
    with pytest.raises(DataError, match="context is 11 steps, but the longest episode has 10; lower context"):
        train(CDT(context=11), data, cost_limits=(5,))
    with pytest.raises(DataError, match="an episode has 10 steps, but episode_length is 9; raise it"):
        train(CDT(episode_length=9), data, cost_limits=(5,))
    with pytest.raises(ConfigError, match="CDT needs cost limits"):
        train(CDT(), data)
    dearest = data.cost_returns.max()
    asked = CDT(target_limits=(1.0,), target_returns=(50.0,), episode_weight="uniform")
    for algorithm, limit, sentence in (
        (CDT(), dearest + 9, f"the cost limit {dearest + 9:g} lies outside of"),
        (CDT(cost_cap=2.0, relabel_share=0.0), 3.0, "costs of the episodes that are drawn"),
        (asked, 2.0, r"at the cost limit 2 .* the return 50, but it is trained on episodes that return"),
    ):
        with pytest.warns(SafeTraXWarning, match=sentence), pytest.raises(TypeError):
            train(algorithm, data, cost_limits=(limit,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError):
            train(CDT(), data, cost_limits=(float(np.median(data.cost_returns)),))


def test_usage_counts_what_is_drawn():
    data = two_behaviours()
    usage = CDT(cost_cap=20.0, relabel_share=0.0).usage(data, 10.0)
    assert usage.counts == {"within the limit": 10, "above it": 0, "relabelled": 0, "never drawn": 10}
    assert usage.share == 0.5
    assert CDT().usage(data, 10.0).counts["above it"] == 10


def test_one_training_is_a_policy_for_every_limit():
    algorithm = CDT()
    assert not algorithm.uses_cost_limit
    assert [variant.cost_limit for variant in algorithm.variants((10.0, 20.0))] == [10, 20]
    assert [variant.adjustments for variant in algorithm.variants((10.0,))] == [{"cost_limit": 10}]
