"""Environments with known answers, registered when this module is imported, also by the worker processes."""

from __future__ import annotations

import math
import time
from typing import Any

import gymnasium
import numpy as np


class Throttle(gymnasium.Env):
    """Ten steps; an action of 0 to 10 units is rewarded by a tenth of it, and what exceeds 5 units costs as much.

    In the unit box, an action u earns (u + 1) / 2 and costs max(u, 0) / 2: an unlimited agent ends at u = 1, one that
    may spend 1 on an episode at u = 0.2.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64)
    action_space = gymnasium.spaces.Box(0.0, 10.0, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._place = self.np_random.uniform(-1.0, 1.0, 2)
        return self._place, {}

    def step(self, action):
        action = float(action[0])
        return self._place, action / 10.0, False, False, {"cost": max(action - 5.0, 0.0) / 10.0}


class NoCost(Throttle):
    def step(self, action):
        return (*super().step(action)[:4], {})


class Faulty(Throttle):
    """Something is wrong in the third step of episode 13, whatever the seed of the collection."""

    fault: Any = None
    _steps = 0

    def reset(self, *, seed=None, options=None):
        self._seed, self._steps = seed, 0
        return super().reset(seed=seed)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        self._steps += 1
        if self._steps == 3 and self._seed % 1000 == 13:
            if self.fault == "hang":
                time.sleep(1000)
            if self.fault == "raise":
                raise ArithmeticError("the solver\x1b[31m diverged")
            if self.fault == "reward":
                reward = math.inf
            elif self.fault == "observation":
                observation = observation * math.nan
            else:
                info = {"cost": self.fault}
        return observation, reward, terminated, truncated, info


class Unsteady(Throttle):
    """Its first reset fails, or all resets of episode 13."""

    always = False
    _made = 0

    def __init__(self):
        Unsteady._made += 1

    def reset(self, *, seed=None, options=None):
        if seed is not None and (seed % 1000 == 13 if self.always else Unsteady._made == 1):
            raise ConnectionError("no answer")
        return super().reset(seed=seed)


class Short(Throttle):
    """An episode may end early, at the latest after ten steps."""

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, bool(self.np_random.random() < 0.2), truncated, info


FAULTS = {
    "Negative": -0.5,
    "Nan": math.nan,
    "Infinite": math.inf,
    "Reward": "reward",
    "Observation": "observation",
    "Raise": "raise",
    "Hang": "hang",
}


class Buttons(Throttle):
    action_space = gymnasium.spaces.MultiBinary(2)


for name, cls, steps in (("Throttle", Throttle, 10), ("NoCost", NoCost, 10), ("Buttons", Buttons, 10)):
    gymnasium.register(f"{name}-v0", cls, max_episode_steps=steps)
for name, cls in (("Short", Short), ("Unsteady", Unsteady), ("Lost", type("Lost", (Unsteady,), {"always": True}))):
    gymnasium.register(f"{name}-v0", cls, max_episode_steps=10)
for name, fault in FAULTS.items():
    gymnasium.register(f"{name}-v0", type(name, (Faulty,), {"fault": fault}), max_episode_steps=10)
gymnasium.register("Endless-v0", Throttle)
