"""Exported policies at work, with numpy and onnxruntime alone: no JAX is imported.

from safetrax.runtime import Runtime

policy = Runtime("policy.onnx")
policy.reset()
action = policy.act(observation)
policy.observe(reward, cost)
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from safetrax.errors import ConfigError, DataError, RunError
from safetrax.spaces import flatten, is_structured, trained_parts

FORMAT = "safetrax-policy-onnx-1"
OBSERVATIONS, ACTIONS, REWARDS, COSTS, STARTED = "observations", "actions", "rewards", "costs", "started"
MEMORY, NOISE = "memory", "noise"
SEAL, UNSEALED = "sha256", "0" * 64  # an entry of the file that tells the hash of all of it, with zeros in its place
_SEALED = re.compile(rb"sha256\x12@([0-9a-f]{64})")  # as protobuf writes it: key, tag and length of the value, value


class Runtime:
    """A policy file that `safetrax export` wrote: it keeps memory, budget and noise, and acts.

    Attributes:
        facts: what travels in the file: the policy's id, its limit, action bounds, training, certificate.
        observation_parts: what an observation is put together from; empty where the log did not say.
    """

    def __init__(self, source: str | Path | bytes, *, threads: int = 1) -> None:
        """Load it.

        Args:
            source: path of the file, or what is in it.
            threads: of a call; one is fastest for small networks.

        Raises:
            ConfigError: onnxruntime is not installed.
            DataError: the file is missing, damaged or no exported policy.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError('exported policies need onnxruntime; pip install "safetrax[onnx]".') from error
        name = "it" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise DataError(f"no exported policy at {source}.")
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        found = re.search(_SEALED, content)
        if found is None:
            raise DataError(f"{name} is no policy that safetrax export wrote; export one.")
        if sealed(content.replace(found[1], UNSEALED.encode(), 1)) != content:
            raise DataError(f"{name} has changed since it was written; export the policy again.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            properties = self._session.get_modelmeta().custom_metadata_map
            self.facts: dict[str, Any] = json.loads(properties["facts"])
        except Exception as error:  # onnxruntime raises classes of its own
            raise DataError(f"{name} cannot be read by this onnxruntime ({str(error)[:200]}); update it.") from error
        if properties.get("format") != FORMAT:
            raise DataError(f"{name} was written by another version of SafeTraX; update it, or export again.")
        self._inputs = {one.name: one for one in self._session.get_inputs()}
        self._outputs = [one.name for one in self._session.get_outputs()]
        self.observation_size = int(self._inputs[OBSERVATIONS].shape[1])
        self.observation_parts = trained_parts(self.facts.get("training") or {})
        self._noise = [name for name in self._inputs if name.startswith(f"{NOISE}.")]
        self._memory = [name for name in self._inputs if name.startswith(f"{MEMORY}.")]
        self._n = 0

    def reset(self, episodes: int = 1, *, seed: int = 0) -> None:
        """Begin so many episodes side by side. `act` does it by itself when it was not called."""
        self._n, self._random = episodes, np.random.default_rng(seed)
        self._state = {name: np.zeros(self._shape(name), self._dtype(name)) for name in self._memory}
        self._answers = {name: np.zeros(episodes, np.float32) for name in (REWARDS, COSTS, STARTED)}

    def draw(self) -> list[np.ndarray]:
        """The noise of one step, standard normal; empty where the policy draws none."""
        return [self._random.standard_normal(self._shape(name)).astype(np.float32) for name in self._noise]

    def act(self, observations: Any, *, noise: list[np.ndarray] | None = None) -> Any:
        """Actions for one observation `(O,)` or for one of each episode `(n, O)`; same leading shape back.

        An action is an array `(A,)`; where the log's were choices, the number of one, an int, or integers `(n,)`.

        Where the log had observations of several parts, a dictionary or tuple of them will do, as for `Policy.act`.

        Raises:
            ConfigError: these are no finite numbers, or of another size or other parts.
            RunError: the policy gives an action that is not finite.
        """
        if is_structured(observations, self.observation_parts):
            if not self.observation_parts:
                raise ConfigError("the file does not say what observations are put together from, so pass a vector.")
            observations = flatten(self.observation_parts, observations)
        rows = np.asarray(observations, np.float32)
        single, rows = rows.ndim == 1, np.atleast_2d(rows)
        if rows.ndim != 2 or rows.shape[1] != self.observation_size or not np.isfinite(rows).all():
            raise ConfigError(
                f"the policy takes finite observations of {self.observation_size} numbers, got the shape "
                f"{np.shape(observations)}."
            )
        if not self._n:
            self.reset(len(rows))
        if len(rows) != self._n:
            raise ConfigError(f"got {len(rows)} observations for {self._n} episodes; call reset({len(rows)}) first.")
        feed = {OBSERVATIONS: rows, **self._state, **(self._answers if self._memory else {})}
        feed |= zip(self._noise, self.draw() if noise is None else noise, strict=True)
        actions, *memory = self._session.run(self._outputs, feed)
        if not np.isfinite(actions).all():
            raise RunError("the policy gave an action that is not a finite number.")
        self._state = dict(zip(self._memory, memory, strict=True))
        self._answers[STARTED] = np.ones(self._n, np.float32)
        if self.facts.get("action_choices"):
            actions = actions.argmax(axis=1)
            return int(actions[0]) if single else actions
        return np.asarray(actions[0] if single else actions)

    def observe(self, rewards: Any, costs: Any) -> None:
        """Tell the policy what the environment answered; only policies with a memory make use of it."""
        if not self._n:
            raise ConfigError("observe was called before act or reset.")
        for name, values in ((REWARDS, rewards), (COSTS, costs)):
            self._answers[name] = np.broadcast_to(np.asarray(values, np.float32), (self._n,)).copy()

    def _shape(self, name: str) -> tuple[int, ...]:
        return (self._n, *self._inputs[name].shape[1:])

    def _dtype(self, name: str) -> type[np.generic]:
        return np.int32 if "int32" in self._inputs[name].type else np.float32


def sealed(content: bytes) -> bytes:
    """An unsealed file with its hash in it."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(UNSEALED.encode(), digest.encode(), 1)
