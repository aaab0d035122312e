"""Environments with known answers, registered when this module is imported, also by the worker processes."""

from __future__ import annotations

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


class Buttons(Throttle):
    action_space = gymnasium.spaces.Discrete(2)


for name, cls, steps in (("Throttle", Throttle, 10), ("NoCost", NoCost, 10), ("Buttons", Buttons, 10)):
    gymnasium.register(f"{name}-v0", cls, max_episode_steps=steps)
gymnasium.register("Endless-v0", Throttle)
