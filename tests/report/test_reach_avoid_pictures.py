"""Pictures of the reach-avoid world say what they show; SVG keeps text as text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from safetrax.charts.drawing import BLUE, VERMILION
from safetrax.data.trajectories import Trajectories
from safetrax.envs.reach_avoid.feasible_region import feasible, margin
from safetrax.envs.reach_avoid.world import ReachAvoid
from safetrax.errors import ConfigError
from safetrax.report.reach_avoid import feasible_region, trajectory_map

WORLD = ReachAvoid()


def crossing(y: float) -> dict[str, np.ndarray]:
    """Straight from left to right."""
    x = np.linspace(-2.5, 2.5, 60, dtype=np.float32)
    states = np.stack([x, np.full_like(x, y), np.full_like(x, 1.0), np.zeros_like(x)], axis=1)
    costs = (WORLD.clearance(states) < 0).astype(np.float32)
    return {
        "observations": WORLD.observe(states),
        "actions": np.zeros((60, 2)),
        "rewards": np.zeros(60),
        "costs": costs,
    }


def pixels_of(image: np.ndarray, colour: str) -> int:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image.astype(int) - rgb).max(axis=-1) < 40).sum())


def test_a_map_has_a_panel_per_group_with_its_mean_cost(tmp_path):
    groups = {
        "clean": Trajectories.from_episodes([crossing(0.0)]),
        "low": Trajectories.from_episodes([crossing(1.2)]),
    }
    text = trajectory_map(groups, tmp_path / "x.svg").read_text()
    cost = groups["low"].cost_returns[0]
    assert 15 < cost < 20
    for entry in ("clean: mean cost 0.0", f"low: mean cost {cost:.1f}", "in a hazard", "without cost", "x (m)"):
        assert f">{entry}<" in text


def test_costly_steps_have_a_colour_of_their_own(tmp_path):
    counts = []
    for y in (0.0, 1.2):
        with Image.open(
            trajectory_map({"a": Trajectories.from_episodes([crossing(y)])}, tmp_path / "x.png")
        ) as image:
            pixels = np.asarray(image.convert("RGB"))
        counts.append((pixels_of(pixels, BLUE), pixels_of(pixels, VERMILION)))
    (free, rims), (less, more) = counts
    assert free > 250
    assert less < free
    assert more > rims + 80


def test_the_true_value_agrees_with_the_true_region_and_a_shifted_one_less(tmp_path):

    def true(observations: np.ndarray) -> np.ndarray:
        return -np.asarray(margin(WORLD, WORLD.state_of(observations)))[:, None]

    chosen = {"v": 1.5, "theta": math.pi / 4, "cells": 41}
    assert feasible_region(true, tmp_path / "x.svg", **chosen) > 0.998  # a state at the very edge may round elsewhere
    for entry in ("learned: safe up to 0", "blue: its boundary", "v = 1.5 m/s, θ = 45°", "learned value"):
        assert f">{entry}<" in (tmp_path / "x.svg").read_text()
    unsafe = 1 - float(np.asarray(feasible(WORLD, grid(41, 1.5, math.pi / 4))).mean())
    never = feasible_region(lambda o: np.ones(len(o)), tmp_path / "y.png", **chosen)
    always = feasible_region(lambda o: np.ones(len(o)), tmp_path / "y.png", **chosen, threshold=1.0)
    assert (never, always) == (pytest.approx(unsafe), pytest.approx(1 - unsafe))
    with Image.open(tmp_path / "y.png") as image:
        assert image.width > 1.5 * image.height > 800


def grid(cells: int, v: float, theta: float) -> np.ndarray:
    axis = np.linspace(-3, 3, cells, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return np.stack([x, y, np.full_like(x, v), np.full_like(x, theta)], axis=-1)


def test_faults_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="no episodes to draw"):
        trajectory_map({}, tmp_path / "x.png")
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        feasible_region(np.ravel, tmp_path / "x", v=1.0, theta=0.0)
    with pytest.raises(ConfigError, match=r"gave the shape \(25, 11\) for 25 observations"):
        feasible_region(lambda o: o, tmp_path / "x.png", v=1.0, theta=0.0, cells=5)
    with pytest.raises(ConfigError, match="cells is 1, but must be at least 2"):
        feasible_region(np.ravel, tmp_path / "x.png", v=1.0, theta=0.0, cells=1)
