"""The papers' tables and figures as grids: each can be run, and each claim is of something that its grid gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetrax.catalogue import get_task
from safetrax.errors import ConfigError, look_up
from safetrax.files import exact
from safetrax.grid.expected import expected
from safetrax.grid.experiments import EXPERIMENTS, Experiment
from safetrax.grid.grid import Grid, Job, algorithm_of
from safetrax.runs import labelled


def grid(own: Experiment, data: str, schedule: str) -> Grid:
    """On one task of each suite; settings differ by suite."""
    some = {task.suite: task.name for task in map(get_task, own.task_names)}
    return Grid(
        own.algorithms,
        tuple(some.values()),
        own.ablations,
        data,
        own.protocol,
        own.cost_limits,
        schedule=schedule,
        filters=own.filters,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """A folder with something under the name of every data set."""
    folder = tmp_path_factory.mktemp("data")
    for own in EXPERIMENTS.values():
        for name in own.task_names:
            (folder / get_task(name).dataset_file).touch()
    return str(folder)


def names(jobs: tuple[Job, ...], by_limit: bool) -> set[str]:
    """Of the policies, as results have them."""
    found = set()
    for job in jobs:
        algorithm = algorithm_of(job)
        for name in [v.name for v in algorithm.variants(job.cost_limits)] or [algorithm.name]:
            limits = [f" at limit {exact(limit)}" for limit in job.cost_limits] if by_limit else [""]
            found |= {labelled(name, job.label) + text for text in limits}
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_run_and_gives_what_its_claims_name(name, data):
    own = EXPERIMENTS[name]
    jobs = grid(own, data, "fast").jobs()
    grid(own, data, "published").jobs()
    given, where = names(jobs, own.by_limit), set(own.task_names)
    for claim in own.claims:
        assert {claim.first, claim.second or claim.first} <= given, claim
        assert set(claim.tasks) <= where, claim
        assert bool(claim.second) == (claim.kind in ("more reward", "less cost", "reward alike")), claim
    assert own.claims or own.beyond
    assert own.source.split(",")[0] in ("TraC", "LSPC", "BARS", "DSPO")


def test_an_unknown_name_says_the_nearest():
    with pytest.raises(ConfigError, match=r"there is no table or figure 'trac-etta'; did you mean trac-eta\?"):
        look_up("trac-etta", EXPERIMENTS, "table or figure")


def test_the_expected_time_grows_with_runs_and_updates_and_is_shared_by_lanes(tmp_path):
    (tmp_path / get_task("BallRun").dataset_file).touch()
    (tmp_path / get_task("BallCircle").dataset_file).touch()
    small = Grid(("trac",), ("BallRun", "BallCircle"), data=str(tmp_path), schedule="fast", seeds=(0,))

    def seconds(made: Grid, lanes: int = 1, *, fast: bool = True) -> float:
        return expected(made.jobs(), lanes, fast=fast).seconds

    overhead = seconds(replace(small, settings={"trac": {"updates": 0, "pretrain_updates": 0}}))
    one = seconds(small) - overhead
    assert seconds(replace(small, seeds=(0, 1, 2))) - overhead == pytest.approx(3 * one)
    assert seconds(replace(small, cost_limits=(10.0,))) - overhead == pytest.approx(one / 3)
    assert seconds(small) / 2 <= seconds(small, lanes=2) < seconds(small)
    assert seconds(small, lanes=2) == seconds(small, lanes=9)  # two jobs, and never less than the longer
    blind = replace(small, algorithms=("lspc",))
    assert seconds(replace(blind, cost_limits=(10.0,))) == seconds(blind)
    assert seconds(replace(blind, schedule="published"), fast=False) > 20 * seconds(blind)


def test_what_nobody_measured_is_named(tmp_path):
    (tmp_path / get_task("BallRun").dataset_file).touch()
    jobs = Grid(("rgm", "bc-all"), ("BallRun",), data=str(tmp_path)).jobs()
    assert expected(jobs, 1, fast=False).unknown == ("rgm",)
    assert expected(jobs[:1], 1, fast=False).seconds == 0
