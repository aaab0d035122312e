"""An environment of one's own: any of Gymnasium's that reports a cost in `info["cost"]`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
from typing_extensions import override

from safetrax.errors import ConfigError, SimulatorError
from safetrax.spaces import flatten, parts_of_space

_BEYOND = 1e-4  # of the width of the action box: more than rounding


def versions() -> str:
    """Gymnasium's."""
    return f"gymnasium {version('gymnasium')}"


class CostEnv(gymnasium.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """Flat float32 observations, actions in the environment's own units, a cost that must be there.

    Attributes:
        horizon: steps after which an episode is truncated.
        action_low: lower bounds of actions, float32 `(A,)`.
        action_high: upper bounds.
        action_choices: of how many an action is one, one-hot or by its number; 0: it is continuous.
        observation_parts: what an observation is put together from; empty where it is a box.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str, horizon: int | None) -> None:
        """`name`: for messages. `horizon`: by default the registration's.

        Raises:
            SimulatorError: its observations are no numbers and choices, its actions no bounded box or choices, it has
                no time limit and `horizon` is None, or a shorter one than that.
        """
        super().__init__(env)
        registered = env.spec.max_episode_steps if env.spec else None
        if horizon and registered and horizon > registered:
            raise SimulatorError(
                f"{name} ends after {registered} steps, as registered; the horizon {horizon} is too long."
            )
        limit = horizon or registered
        if limit is None:
            raise SimulatorError(f"{name} has no time limit; pass a horizon, the most steps of an episode.")
        self.horizon, self._name, self._steps = limit, name, 0
        actions = env.action_space
        try:
            self._parts = parts_of_space(env.observation_space, f"the observations of {name}")
        except ConfigError as error:
            raise SimulatorError(str(error)) from error
        self.observation_parts = () if isinstance(env.observation_space, gymnasium.spaces.Box) else self._parts
        self.action_choices = 0
        if isinstance(actions, gymnasium.spaces.Discrete) and actions.start == 0 and actions.n > 1:
            self.action_choices = int(actions.n)
            self.action_low, self.action_high = np.zeros(actions.n, np.float32), np.ones(actions.n, np.float32)
        elif isinstance(actions, gymnasium.spaces.Box):
            self.action_low, self.action_high = (
                bound.astype(np.float32).ravel() for bound in (actions.low, actions.high)
            )
        else:
            raise SimulatorError(
                f"the actions of {name} are a {type(actions).__name__}; wrap them into a Box, or a Discrete of two "
                "or more choices from 0."
            )
        if not (np.isfinite(self.action_low).all() and np.isfinite(self.action_high).all()):
            raise SimulatorError(f"the actions of {name} are not bounded; wrap it so that they are.")
        self._action_shape = actions.shape
        size = sum(part.size for part in self._parts)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(self.action_low, self.action_high, dtype=np.float32)

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._steps = 0
        return self._flat(observation), {**info, "cost": 0.0}

    @override
    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step, of an array or the number of a choice.

        Raises:
            SimulatorError: the action leaves the box or is no choice, or the step reports no cost.
        """
        wanted = np.asarray(action, np.float32).ravel()
        if self.action_choices:
            return self._answer(self.env.step(self._choice(wanted)))
        own = np.clip(wanted, self.action_low, self.action_high)
        if not (np.abs(wanted - own) <= _BEYOND * (self.action_high - self.action_low)).all():
            box = f"{self.action_low.tolist()} to {self.action_high.tolist()}"
            raise SimulatorError(
                f"the action {wanted.tolist()} leaves the box of {self._name}, {box}; was the log in other units?"
            )
        return self._answer(self.env.step(own.reshape(self._action_shape)))

    def _choice(self, wanted: np.ndarray) -> int:
        """The number that is meant."""
        number = float(wanted[0]) if wanted.size == 1 else int(np.argmax(wanted))
        chosen = np.arange(self.action_choices) == number
        if not chosen.any() or (wanted.size > 1 and not np.array_equal(wanted, chosen)):
            raise SimulatorError(
                f"the action {wanted.tolist()} is none of the {self.action_choices} choices of {self._name}."
            )
        return int(number)

    def _answer(
        self, answer: tuple[Any, Any, Any, Any, dict[str, Any]]
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = answer
        if "cost" not in info:
            there = f"has only {', '.join(map(repr, info))}" if info else "is empty"
            raise SimulatorError(
                f'{self._name} reports no info["cost"]: the info of its step {there}; wrap it so that every step '
                "says what it costs."
            )
        self._steps += 1
        truncated = bool(truncated or self._steps >= self.horizon)
        info = {**info, "cost": float(info["cost"])}
        return self._flat(observation), float(reward), bool(terminated), truncated, info

    def _flat(self, observation: Any) -> np.ndarray:
        return (
            flatten(self._parts, observation)
            if self.observation_parts
            else np.asarray(observation, np.float32).ravel()
        )

    @override
    def render(self) -> Any:
        """A picture of now, uint8 `(height, width, 3)`.

        Raises:
            SimulatorError: it draws none, or fails to.
        """
        try:
            picture: object = self.env.render()
        except Exception as error:
            raise SimulatorError(f"{self._name} draws no pictures ({type(error).__name__}: {error}).") from error
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[-1] != 3:
            raise SimulatorError(f"{self._name} draws no pictures; it needs the render mode rgb_array.")
        return picture


class UnitActions(gymnasium.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """Actions in [-1, 1], stretched to the bounds: what agents that learn from nothing are given."""

    def __init__(self, env: CostEnv) -> None:
        """`env`: with actions in its own units."""
        super().__init__(env)
        self._low, self._high = env.action_low, env.action_high

    @override
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        unit = (np.clip(np.asarray(action, np.float32), -1.0, 1.0) + 1.0) / 2.0
        answer: Any = self.env.step(self._low + unit * (self._high - self._low))
        return answer  # type: ignore[no-any-return]


def build(env_id: str, horizon: int | None, *, render: bool = False) -> CostEnv:
    """The environment `env_id`, which may begin with `module:` to say what registers it.

    Raises:
        SimulatorError: it cannot be made, or it is none that policies can act in.
    """
    # the flag only where it is needed: not every environment takes it
    mode: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    try:
        made = gymnasium.make(env_id, disable_env_checker=True, **mode)
    except Exception as error:  # of Gymnasium, of the module that registers it, or of its own constructor
        reason = " ".join(str(error).split())
        raise SimulatorError(f"{env_id} cannot be made ({type(error).__name__}: {reason}).") from error
    return CostEnv(made, env_id, horizon)
