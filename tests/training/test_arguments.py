"""Everything wrong with a request is said in one sentence, before any compute and before anything is written."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from conftest import toy_episodes
from safetrax import data
from safetrax.algorithms import BC, TraC
from safetrax.errors import ConfigError, DataError, SafeTraXError, SafeTraXWarning, TaskError
from safetrax.training import train as module
from safetrax.training.train import train

TINY = TraC(hidden=(8,), pretrain_updates=1, updates=1, batch_size=4)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"cost_limits": ()}, ConfigError, "cost_limits is empty"),
        ({"cost_limits": (-1.0,)}, ConfigError, "cost limit -1 must be"),
        ({"cost_limits": (math.nan,)}, ConfigError, "cost limit nan must be"),
        ({"cost_limits": (math.inf,)}, ConfigError, "cost limit inf must be"),
        ({"cost_limits": (3.0, 3.0)}, ConfigError, "cost limit 3 is given twice"),
        ({"cost_limits": None}, ConfigError, "needs cost limits"),
        ({"seeds": ()}, ConfigError, "seeds is empty"),
        ({"seeds": (1, 1)}, ConfigError, "seed 1 is given twice"),
        ({"seeds": (-1,)}, ConfigError, "each seed"),
        ({"seeds": (True,)}, ConfigError, "seed is True, but must be a whole number"),
        ({"cost_limits": (40.00001, 40.00001)}, ConfigError, "cost limit 40.00001 is given twice"),
        ({"log_every": 0}, ConfigError, "log_every is 0"),
        ({"evaluate_every": -1}, ConfigError, "evaluate_every is -1"),
        ({"evaluation_episodes": 0}, ConfigError, "evaluation_episodes is 0"),
        ({"evaluate_every": 5}, ConfigError, "needs a task"),
        ({"task": "BallRum"}, TaskError, "BallRun"),
        ({"task": "BallRun"}, DataError, "observations"),  # three numbers, not seven
        ({"resume": True}, ConfigError, "resume needs the run's folder"),
        ({"log_to": ("tensorboard",)}, ConfigError, "needs a run folder"),
    ],
)
def test_a_request_that_cannot_work_is_refused(toy, monkeypatch, change, kind, words):
    def no_compute(*args, **kwargs):
        pytest.fail("compute was spent")

    monkeypatch.setattr(module.Program, "init", no_compute)
    with pytest.raises(kind, match=words) as error:
        train(TINY, toy, **{"cost_limits": (3.0,), **change})
    assert isinstance(error.value, SafeTraXError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("limit", "words"), [(0.0, "no segment of 10 steps meets the cost limit 0"), (3.0, "1 value is missing")]
)
def test_data_that_cannot_work_leave_no_folder_behind(run_folder, limit, words):
    bad = toy_episodes([10] * 4)
    if limit:
        rewards = np.array(bad.rewards)
        rewards[3] = np.nan
        bad = replace(bad, rewards=rewards)
    else:
        bad = replace(bad, costs=np.ones(40, np.float32))
    with pytest.raises(DataError, match=words):
        train(TINY, bad, cost_limits=(limit,), out=run_folder)
    assert not run_folder.exists()


@pytest.mark.parametrize("change", [{"evaluate_every": 5}, {"log_to": ("wandb",)}])
def test_a_refused_request_leaves_no_folder_behind(toy, run_folder, monkeypatch, change):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError):
        train(TINY, toy, cost_limits=(3.0,), out=run_folder, **change)
    assert not run_folder.exists()


def test_segments_longer_than_every_other_episode_still_use_the_longest():
    ragged = toy_episodes([3, 3, 10])
    assert replace(TINY, segment_ratio=1.0).index(ragged, 10.0).steps.tolist() == [10]


def test_a_limit_of_zero_is_a_limit(toy):
    free = replace(toy, costs=np.where(np.arange(300) < 150, 0, toy.costs).astype(np.float32))
    run = train(BC(mode="safe", hidden=(8,), updates=1, batch_size=4), free, cost_limits=(0.0,))
    assert run.ids[0].cost_limit == 0.0


def test_limits_come_from_the_task_where_none_are_given():
    demo = data.load("demo").select(np.arange(0, 300, 5))
    run = train(BC(mode="safe", hidden=(8,), updates=1, batch_size=4), demo)
    assert [i.cost_limit for i in run.ids] == [10.0, 20.0, 40.0]
    assert run.ids[0].task == "BallRun"


def test_a_run_that_diverges_is_named(toy):
    said = r"TraC_limit-3_seed-0 diverged: .* lower the learning rate"
    with pytest.warns(SafeTraXWarning, match=said), pytest.raises(module.DivergedError, match=said):
        train(replace(TINY, pretrain_updates=0, updates=3, learning_rate=1e38, warmup=0), toy, cost_limits=(3.0,))
