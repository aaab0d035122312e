"""An environment of one's own with known answers, as a module that workers import, and policies for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from safetrax.nets.mlp import MLP
from safetrax.policies.actor import DeterministicActor
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId
from safetrax.spaces import Part, named_parts

STEPS = 4
MODULE = '''
import gymnasium
import numpy as np


class Valve(gymnasium.Env):
    """Four steps; an opening of 0 to 10 earns a tenth, what exceeds 5 costs a tenth; the first step has a gift."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1, 2), np.float64)
    action_space = gymnasium.spaces.Box(0.0, 10.0, (1,), np.float64)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.gift = self.np_random.uniform()
        return np.zeros((1, 2)), {}

    def step(self, action):
        opening, gift, self.gift = float(action[0]), self.gift, 0.0
        return np.ones((1, 2)), opening / 10 + gift, False, False, {"cost": max(opening - 5, 0) / 10, "flow": 1}

    def render(self):
        return np.full((30, 40, 3), 200, np.uint8)


class Free(Valve):
    def step(self, action):
        return (*super().step(action)[:4], {"constraint": 1.0})


class Moody(Valve):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.random.default_rng().uniform(size=(1, 2)), {}


class Switch(Valve):
    """Shut, half open or open."""

    action_space = gymnasium.spaces.Discrete(3)

    def step(self, action):
        return super().step([5.0 * range(3)[action]])


class Dials(Valve):
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])


class Cockpit(Valve):
    """Observes the step as a gear, and what was done."""

    observation_space = gymnasium.spaces.Dict(
        {
            "speed": gymnasium.spaces.Box(-1.0, 1.0, (2,)),
            "gear": gymnasium.spaces.Discrete(4, start=-1),
            "lamps": gymnasium.spaces.Tuple((gymnasium.spaces.MultiBinary(2), gymnasium.spaces.Box(0.0, 9.0, ()))),
        }
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.gear = -1
        return self.seen(0.0), {}

    def step(self, action):
        self.gear = min(self.gear + 1, 2)
        return (self.seen(action[0]), *super().step(action)[1:])

    def seen(self, opening):
        return {"speed": np.array([0.5, -0.5]), "lamps": (np.array([0, 1], np.int8), opening), "gear": self.gear}


class Camera(Valve):
    observation_space = gymnasium.spaces.Box(0, 255, (4, 6, 3), np.uint8)


for kind in (Valve, Free, Moody, Switch, Dials, Cockpit, Camera):
    gymnasium.register(f"{kind.__name__}-v0", kind, max_episode_steps=4)
gymnasium.register("Unending-v0", Valve)
'''


def write_module(folder: Path) -> Path:
    """Put the module `valves` into a folder; the folder."""
    (folder / "valves.py").write_text(MODULE, encoding="utf-8")
    return folder


def gift(seed: int) -> float:
    """What an episode begins with: the first number of Gymnasium's generator."""
    return float(np.random.default_rng(seed).uniform())


def valve_policy(
    opening: float,
    *,
    limit: float | None = 2.0,
    seed: int = 0,
    task: str | None = "valves:Valve-v0",
    box: tuple[float, float] = (0.0, 10.0),
    parts: Sequence[Part] = (),
) -> Policy:
    """Opens so far, whatever it sees: two numbers, or what the parts hold."""
    network = MLP.make(jax.random.key(0), (sum(part.size for part in parts) or 2, 2, 1), output="tanh")
    unit = np.clip(2 * (opening - box[0]) / (box[1] - box[0]) - 1, -1, 1)
    bias = jnp.array([math.copysign(20.0, unit) if abs(unit) == 1 else math.atanh(unit)])
    network = eqx.tree_at(
        lambda n: (n.weights, n.biases[-1]), network, (tuple(map(jnp.zeros_like, network.weights)), bias)
    )
    low, high = (jnp.array([end]) for end in box)
    facts = {"updates": 1, "data": named_parts(parts)}
    return Policy(DeterministicActor(network, low, high), RunId(f"Open{opening:g}", task, limit, seed), facts)
