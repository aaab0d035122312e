"""Starting a training with the networks of one that has ended."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.algorithms import BC, IQL
from safetrax.data.trajectories import Trajectories
from safetrax.errors import RunError
from safetrax.spaces import Part, named_parts
from safetrax.training.train import train

SMALL = BC(hidden=(16,), batch_size=16, updates=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return folder, train(SMALL, toy_episodes([10] * 30), cost_limits=(5,), seeds=(0, 1), out=folder)


def weights(run) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.policies.actor)]


def test_without_updates_the_networks_are_those_of_the_earlier_run(finished, toy):
    folder, first = finished
    second = train(replace(SMALL, updates=0), toy, cost_limits=(5,), seeds=(0, 1), start_from=folder)
    for before, after in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(before, after)


def test_training_goes_on_from_there_with_other_data(finished):
    folder, first = finished
    settings = {"data": toy_episodes([12] * 9, seed=1), "cost_limits": (5,), "seeds": (0, 1)}
    on, anew = weights(train(SMALL, start_from=folder, **settings)), weights(train(SMALL, **settings))
    for other in (weights(first), anew):
        assert any((a != b).any() for a, b in zip(on, other, strict=True))


def test_the_signature_names_the_start_so_that_only_the_same_is_resumed(finished, toy, tmp_path):
    folder, _ = finished
    settings = {"cost_limits": (5,), "seeds": (0, 1), "out": tmp_path / "second"}
    train(SMALL, toy, start_from=folder, **settings)
    train(SMALL, toy, start_from=folder, resume=True, **settings)
    with pytest.raises(RunError, match="belongs to another configuration: start_from"):
        train(SMALL, toy, resume=True, **settings)


@pytest.mark.parametrize(
    ("algorithm", "seeds", "observations", "said"),
    [
        (IQL(hidden=(16,), batch_size=16, updates=3), (0, 1), 3, "trained BC, so IQL cannot start from it"),
        (SMALL, (0, 2), 3, "start with the same limits and seeds"),
        (replace(SMALL, hidden=(8,)), (0, 1), 3, r"holds .* as \[2, 3, 16\], but \[2, 3, 8\] is needed"),
        (SMALL, (0, 1), 4, "trained on observations of 3 numbers, not 4"),
    ],
)
def test_what_does_not_fit_is_refused(finished, algorithm, seeds, observations, said):
    data = toy_episodes([10] * 30, observation_size=observations)
    with pytest.raises(RunError, match=said):
        train(algorithm, data, cost_limits=(5,), seeds=seeds, start_from=finished[0])


def test_the_same_sizes_of_another_kind_are_refused(tmp_path, toy):
    """Networks whose arrays would fit: of the same parts in another order, and of choices."""
    parts = [named_parts([Part("a"), Part("b", (2,))]), named_parts([Part("b", (2,)), Part("a")])]
    folder, settings = tmp_path / "first", {"cost_limits": (5,), "seeds": (0,)}
    train(SMALL, replace(toy, info=parts[0]), out=folder, **settings)
    with pytest.raises(RunError, match=r"observations of other parts than the log's: a \(1\), b \(2\) and b"):
        train(SMALL, replace(toy, info=parts[1]), start_from=folder, **settings)
    chosen = (toy.episode(number) for number in range(len(toy)))
    rows = [{**each, "actions": (each["actions"][:, 0] > 0).astype(int)} for each in chosen]
    with pytest.raises(RunError, match="are of two kinds, continuous and choices"):
        train(SMALL, Trajectories.from_episodes(rows, action_choices=2), start_from=folder, **settings)


def test_a_folder_without_a_run_or_a_checkpoint_is_refused(finished, toy, tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        train(SMALL, toy, cost_limits=(5,), seeds=(0, 1), start_from=tmp_path)
    (tmp_path / "config.json").write_text((finished[0] / "config.json").read_text())
    with pytest.raises(RunError, match="there is no checkpoint"):
        train(SMALL, toy, cost_limits=(5,), seeds=(0, 1), start_from=tmp_path)
