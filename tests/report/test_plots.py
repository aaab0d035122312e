"""Figures: what is drawn is what the rows say. SVG keeps text as text, so that it can be read back."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from safetrax.data import load
from safetrax.errors import ConfigError, RunError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.statistics import benchmark_table, summarise
from safetrax.report import curves
from safetrax.report.plots import cost_return_scatter, learning_curves, results_plane
from safetrax.report.style import GREY, PALETTE, Key
from safetrax.training.logs import MetricRow


def metric(update: int, seed: int, value: float, *, stage: str = "clone", limit: float | None = 20.0) -> MetricRow:
    return MetricRow(stage, update, "BC-Safe", limit, seed, "loss", value)


def episode(step: int, seed: int, value: float, cost: float, *, limit: float | None = 20.0) -> EpisodeRow:
    return EpisodeRow("BC-Safe", "BallRun", limit, seed, step, 0, 0, value, cost, 100)


def test_scatter_counts_its_labels(tmp_path):
    path = cost_return_scatter(load("demo"), [40], tmp_path / "x.svg", top=0.5, bottom=0.2)
    text = path.read_text()
    # 141 of 300 episodes are safe: 71 of them desirable, 29 undesirable
    for entry in ("desirable (71)", "undesirable (188)", "unused (41)", "cost limit 40", "episode cost"):
        assert f">{entry}<" in text


def test_scatter_has_its_three_colours_in_the_picture(tmp_path):
    path = cost_return_scatter(load("demo"), [10, 20, 40, 60, 80], tmp_path / "x.png", top=0.5, bottom=0.0)
    with Image.open(path) as image:
        assert image.width > image.height > 800  # two rows of three
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in (PALETTE[0], PALETTE[1], GREY):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - rgb).max(axis=1) < 30).sum() > 300


def test_scatter_needs_a_limit_and_a_known_format(tmp_path):
    with pytest.raises(ConfigError, match="at least one cost limit"):
        cost_return_scatter(load("demo"), [], tmp_path / "x.png")
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        cost_return_scatter(load("demo"), [10], tmp_path / "x")


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(RunError, match="cannot write"):
        cost_return_scatter(load("demo"), [10], tmp_path / "file" / "x.png")
    assert (tmp_path / "file").read_text() == "old"


def test_bands_are_mean_and_extremes_over_seeds():
    panel = Figure().subplots()
    points = [("A", 20.0, 0, 100, 1.0), ("A", 20.0, 1, 100, 4.0), ("A", 20.0, 0, 200, 3.0), ("A", 20.0, 1, 200, 5.0)]
    points += [("A", 20.0, 1, 200, 7.0)]  # a second episode of seed 1: a seed counts once
    curves._bands(panel, points, Key(["A"], [10.0, 20.0]))
    (line,) = panel.lines
    assert line.get_xydata().tolist() == [[100, 2.5], [200, 4.5]]
    assert to_hex(line.get_color()).upper() == PALETTE[1]  # the second of two limits
    (band,) = panel.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(100, 1), (100, 4), (200, 3), (200, 6)} <= corners


def test_an_algorithm_that_ignores_the_limit_is_scored_at_every_limit():
    scores = curves._scored([episode(5, 0, 100.0, 30.0, limit=None)], "BallRun", [10, 20])
    assert [(s.limit, s.trained_limit, s.cost) for s in scores] == [(10.0, None, 3.0), (20.0, None, 1.5)]
    assert curves._scored([episode(5, 0, 100.0, 30.0)], "CarRun", None) == []


def test_learning_curves_with_evaluations_while_training(tmp_path):
    metrics = [
        metric(u, s, 1 / u, stage=stage) for u in (10, 20) for s in (0, 1) for stage in ("pretrain", "classify")
    ]
    episodes = [episode(step, s, 100.0 + step, 20.0) for step in (10, 20) for s in (0, 1)]
    text = learning_curves(metrics, episodes, tmp_path / "x.svg", task="BallRun").read_text()
    for entry in ("stage 'pretrain'", "stage 'classify'", "normalised reward", "normalised cost", "limit 20"):
        assert f">{entry}<" in text
    assert text.count(">updates<") == 4


def test_learning_curves_with_a_final_evaluation_only(tmp_path):
    metrics = [metric(u, 0, 1 / u, limit=limit) for u in (10, 20) for limit in (10.0, 20.0)]
    episodes = [episode(20, s, 100.0 + s, 20.0, limit=limit) for s in (0, 1) for limit in (10.0, 20.0)]
    text = learning_curves(metrics, episodes, tmp_path / "x.svg", task="BallRun").read_text()
    assert text.count(">updates<") == 1
    assert text.count(">cost limit<") == 2


def test_learning_curves_of_an_algorithm_with_several_losses(tmp_path):
    names = ("policy_loss", "reward_critic_loss", "entropy")
    metrics = [replace(metric(u, 0, 1 / u), metric=name) for u in (10, 20) for name in names]
    text = learning_curves(metrics, [], tmp_path / "x.svg", task=None).read_text()
    assert [f">{name.replace('_', ' ')}<" in text for name in names] == [True, True, False]
    text = learning_curves(metrics, [], tmp_path / "y.svg", task=None, losses=names[1:]).read_text()
    assert [f">{name.replace('_', ' ')}<" in text for name in names] == [False, True, True]


def test_learning_curves_survive_divergence_and_need_something_to_draw(tmp_path):
    rows = [metric(10, 0, 1.0), metric(20, 0, float("inf")), metric(30, 0, float("nan"))]
    with Image.open(learning_curves(rows, [], tmp_path / "x.png", task=None)) as image:
        assert image.width > 600
    with pytest.raises(ConfigError, match="no losses and no evaluations"):
        learning_curves([], [], tmp_path / "y.png", task=None)


def test_results_plane(tmp_path):
    rows = [episode(5, s, 200.0 + s, 10.0 + s, limit=limit) for s in (0, 1) for limit in (10.0, 20.0)]
    text = results_plane([*summarise(rows), *benchmark_table(rows)], tmp_path / "x.svg").read_text()
    for entry in ("limit 10", "limit 20", "all limits", "BC-Safe", "BallRun", "normalised cost"):
        assert f">{entry}<" in text
    with pytest.raises(ConfigError, match="no results"):
        results_plane([], tmp_path / "y.svg")


def test_drawing_changes_no_global_settings(tmp_path):
    before = dict(matplotlib.rcParams)
    results_plane(summarise([episode(5, 0, 200.0, 10.0)]), tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before
