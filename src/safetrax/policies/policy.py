"""Policies: actors with a name, for a person to call, save and load."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool
from safetensors import SafetensorError

from safetrax._version import __version__
from safetrax.charts.html_table import html_table
from safetrax.errors import ConfigError, DataError, RunError, SafeTraXWarning
from safetrax.files import content_hash, read_tensors, write_tensors
from safetrax.hub import fetch, push
from safetrax.nets.saving import deserialise, serialise
from safetrax.policies.actor import Actor, Standardised
from safetrax.run_id import RunId, limit_text
from safetrax.settings import require_ranges_of, require_whole
from safetrax.spaces import Part, flatten, is_structured, trained_parts

FORMAT = "safetrax-policy"
FORMAT_VERSION = "1"
_HUB_FILE = "policy.safetensors"


@dataclass(eq=False)
class Policy:
    """A trained policy that acts on its own: no data set, no optimiser, no environment needed.

    Attributes:
        actor: the pure functions that decide.
        id: which run it came from.
        metadata: JSON-ready facts about the training (configuration, data hash, versions, updates).
    """

    actor: Actor
    id: RunId
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._memory: Any = None
        self._keys: jax.Array | None = None
        self._step: _Step | None = None

    @cached_property
    def observation_parts(self) -> tuple[Part, ...]:
        """What an observation is put together from; empty where the log did not say."""
        return trained_parts(self.metadata)

    def reset(self, episodes: int = 1, *, seed: int = 0) -> None:
        """Begin `episodes` episodes side by side. `act` calls it by itself when it was not called."""
        self._memory = self.actor.reset(episodes)
        self._keys = jax.random.split(jax.random.key(seed), episodes)

    def act(self, observations: Any) -> Any:
        """Actions for one observation `(O,)` or for one of each episode `(n, O)`; same leading shape back.

        An action is an array `(A,)`; where the log's were choices, the number of one, an int, or integers `(n,)`.

        Where the log had observations of several parts, a dictionary or tuple of them will do, of one episode or with
        n in front of every array.

        Raises:
            ConfigError: these are no finite numbers, other parts, not as many as the policy takes, or their rows are
                not as many as the episodes of `reset`.
            RunError: the policy gives an action that is not finite.
        """
        if is_structured(observations, self.observation_parts):
            if not self.observation_parts:
                raise ConfigError(
                    f"the log of {self.id} does not say what observations are put together from, so pass a vector."
                )
            observations = flatten(self.observation_parts, observations)
        rows = _numbers(observations, "an observation")
        single = rows.ndim == 1
        if rows.ndim not in (1, 2) or not rows.size:
            raise ConfigError(
                f"{self.id} takes one observation (O,) or one of each episode (n, O), got the shape {rows.shape}."
            )
        rows = np.atleast_2d(rows)
        if isinstance(self.actor, Standardised):  # a single number would be taken for all of them
            self.require_size(rows.shape[1])
        fresh = self._keys is None
        if fresh:
            self.reset(len(rows))
        assert self._keys is not None
        if len(self._keys) != len(rows):
            raise ConfigError(
                f"got {len(rows)} observations for {len(self._keys)} episodes; call reset({len(rows)}) first."
            )
        try:
            if self._step is None or self._step.actor is not self.actor:
                self._step = _Step(self.actor)
            given, self._memory, self._keys = self._step(self._memory, rows, self._keys)
        except (TypeError, ValueError):
            self._keys = None if fresh else self._keys
            self.require_size(rows.shape[1])
            raise
        actions = np.asarray(given)
        if not np.isfinite(actions).all():
            raise RunError(f"the policy {self.id} gave an action that is not a finite number; its training diverged.")
        if self.actor.chooses:
            actions = actions.argmax(axis=1)
            return int(actions[0]) if single else actions
        return np.asarray(actions[0] if single else actions)

    def require_size(self, size: int) -> None:
        """Refuse observations of another size than the policy's, as far as that can be found out."""
        expected = _observation_size(self.actor)
        if expected not in (None, size):
            raise ConfigError(f"{self.id} takes observations of {expected} numbers, got {size}.")

    def observe(self, rewards: Any, costs: Any) -> None:
        """Tell the policy what the environment answered; only algorithms with a memory of it make use of it."""
        if self._keys is None:
            raise ConfigError("observe was called before act or reset.")
        n = len(self._keys)
        values = {name: _numbers(x, name) for name, x in (("rewards", rewards), ("costs", costs))}
        for name, array in values.items():
            if array.shape not in ((), (1,), (n,)):
                raise ConfigError(f"got {name} of the shape {array.shape} for {n} episodes; pass one of each.")
        r, c = (jnp.broadcast_to(jnp.asarray(array), (n,)) for array in values.values())
        self._memory = self.actor.observe(self._memory, r, c)

    def adjusted(self, **values: float) -> Policy:
        """The same policy with other values of what its algorithm lets one change without training again.

        For instance `policy.adjusted(restriction=0.1)` of LSPC. `policy.actor.adjustable` names what there is. The
        change is part of the new policy's id.

        A value that is possible but unlike what was trained is warned of.

        Raises:
            ConfigError: the policy has nothing of that name, or the value is out of range.
        """
        return Policy(_adjusted(self.actor, values), self.id.adjusted(**values), self.metadata)

    def fingerprint(self) -> str:
        """Its id with a hash of all that it decides by: equal for two policies that act alike."""
        structure, tensors = serialise(self.actor)
        return f"{self.id} {content_hash(tensors, {'actor': json.dumps(structure)})}"

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file whose header holds the structure and the metadata as JSON.

        Raises:
            RunError: a parameter is not finite, or the file cannot be written; nothing is left half-written.
        """
        if not _finite(self.actor):
            raise RunError(f"{path} is not written, for the policy {self.id} has parameters that are not finite.")
        structure, tensors = serialise(self.actor)
        header = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "id": json.dumps(self.id._asdict()),
            "actor": json.dumps(structure),
            "metadata": json.dumps(dict(self.metadata)),
        }
        write_tensors(path, tensors, header)
        return Path(path)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str,
        evaluation: object = None,
        certificate: object = None,
        private: bool = False,
    ) -> str:
        """Put it into a repository of the Hugging Face hub, with a card.

        Args:
            repo_id: `OWNER/NAME`; made if there is none.
            license: as the hub names it, such as "apache-2.0"; the log's may bind you.
            evaluation: what `evaluate` gave, or a table as text, for the card.
            certificate: what `certify` gave, likewise.
            private: whether a new repository is.

        Returns:
            Its address.

        Raises:
            RunError: a parameter is not finite, the hub refuses, or it cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = self.save(Path(folder) / _HUB_FILE)
            card = self._card(repo_id, evaluation, certificate)
            tags = ["reinforcement-learning", self.id.algorithm, *([self.id.task] if self.id.task else [])]
            return push(repo_id, "model", {_HUB_FILE: file}, card, license=license, tags=tags, private=private)

    def _card(self, repo_id: str, evaluation: object, certificate: object) -> str:
        facts = {"settings": self.metadata.get("algorithm"), "log": self.metadata.get("data")}
        shown = "\n".join(f"{name}: {json.dumps(value)}" for name, value in facts.items() if value is not None)
        parts = [
            f"# {self.id}\n\n{self.id.text}: offline safe reinforcement learning with SafeTraX {__version__}.",
            f"```python\nimport safetrax as st\n\npolicy = st.Policy.from_hub({json.dumps(repo_id)})\n"
            "action = policy.act(observation)\n```",
        ]
        sections = (
            ("In the simulator", evaluation),
            ("From the log alone", certificate),
            ("Training", shown or None),
        )
        parts += [f"## {title}\n\n```\n{content}\n```" for title, content in sections if content is not None]
        return "\n\n".join(parts) + "\n"

    @staticmethod
    def from_hub(repo_id: str, *, revision: str | None = None) -> Policy:
        """What `push_to_hub` put there; nothing is unpickled.

        Args:
            repo_id: `OWNER/NAME`.
            revision: a commit, branch or tag; None: the newest.

        Raises:
            RunError: there is no such policy, or the hub cannot be reached.
            DataError: the file is damaged, or no policy.
        """
        return Policy.load(fetch(repo_id, "model", _HUB_FILE, revision))

    @staticmethod
    def load(path: str | Path) -> Policy:
        """Read a file that `save` wrote. Nothing is unpickled.

        Raises:
            DataError: the file is missing, damaged, not a policy, or one whose parameters are not finite.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"no policy file at {path}.")
        try:
            header, tensors = read_tensors(path)
            if header.get("format") != FORMAT or header.get("version") != FORMAT_VERSION:
                raise DataError(f"{path} is a safetensors file, but not a policy of this version.")
            actor = deserialise(json.loads(header["actor"]), tensors)
            identity = RunId(**json.loads(header["id"]))
            require_ranges_of(RunId, identity._asdict())
            identity.text.encode()  # half of a surrogate pair could not be written into a table
            metadata = json.loads(header["metadata"])
            if not isinstance(metadata, dict):
                raise ValueError("its metadata are no table")
            if metadata.get("updates") is not None:
                require_whole("updates", metadata["updates"])
            trained_parts(metadata)
        except DataError as error:  # what the structure lacks is told without the file
            raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
        except (
            SafetensorError,
            OSError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
            raise DataError(f"{path} is damaged or not a policy file ({error}).") from error
        if not isinstance(actor, Actor):
            raise DataError(f"{path} holds a {type(actor).__name__}, not a policy.")
        if not _finite(actor):
            raise DataError(
                f"{path} holds a policy whose training diverged: its parameters are not finite; train anew."
            )
        return Policy(actor, identity, metadata)


def _adjusted(actor: Actor, values: Mapping[str, float]) -> Actor:
    """The adjusted actor, after a review of the values."""
    changed = actor.adjusted(**values)
    for sentence in actor.review(values):
        warnings.warn(sentence, SafeTraXWarning, stacklevel=3)
    return changed


def _finite(actor: Actor) -> bool:
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(actor))


def _numbers(values: Any, what: str) -> np.ndarray:
    """As finite float32."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if not (jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "iub"):
        raise ConfigError(f"{what} must be an array of numbers, got {type(values).__name__} of {array.dtype}.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ConfigError(f"{what} must be finite in float32, got {array[place]} at {place}.")
    return array


def _observation_size(actor: Actor) -> int | None:
    """How many numbers an actor takes; None where its networks do not tell."""
    if isinstance(actor, Standardised):
        return int(actor.mean.shape[-1])
    widths = {width for leaf in jax.tree.leaves(actor) if leaf.ndim >= 2 for width in leaf.shape[-2:]}
    bounds = {leaf.shape[0] for leaf in jax.tree.leaves(actor) if leaf.ndim == 1}
    memory, keys = actor.reset(1), jax.random.split(jax.random.key(0), 1)
    # a network's inputs are the observation, perhaps with the limit or an action behind it
    for size in sorted({width - more for width in widths for more in {0, 1, *bounds} if width > more}):
        try:
            jax.eval_shape(_act, actor, memory, jnp.zeros((1, size)), keys)
        except (TypeError, ValueError):
            continue
        return int(size)
    return None


def _act(actor: Actor, memory: Any, observations: Any, keys: Any) -> tuple[Any, Any, Any]:
    split = jax.vmap(jax.random.split)(keys)
    with jax.default_matmul_precision("float32"):
        actions, memory = actor.act(memory, observations, actor.draw(split[:, 0]))
    return actions, memory, split[:, 1]


class _Step:
    """One step of an actor, whose arrays it keeps: finding them takes longer than running a small network."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        leaves, structure = jax.tree.flatten(actor)
        drawn = jax.eval_shape(actor.draw, jax.random.split(jax.random.key(0), 1))
        self._arrays, self._draws = tuple(leaves), bool(jax.tree.leaves(drawn))
        self._compiled = _compiled(structure, self._draws)

    def __call__(self, memory: Any, observations: np.ndarray, keys: jax.Array) -> tuple[Any, Any, jax.Array]:
        if not self._draws:
            return *self._compiled(self._arrays, memory, observations), keys
        actions, memory, keys = self._compiled(self._arrays, memory, observations, keys)
        return actions, memory, keys


@cache
def _compiled(structure: Any, draws: bool) -> Callable[..., tuple[Any, ...]]:
    """Shared by all actors of one structure."""
    if draws:
        return jax.jit(lambda arrays, *rest: _act(jax.tree.unflatten(structure, arrays), *rest))
    unused = jax.random.split(jax.random.key(0), 1)
    return jax.jit(lambda arrays, m, o: _act(jax.tree.unflatten(structure, arrays), m, o, unused)[:2])


@dataclass(frozen=True, eq=False)
class Policies(Sequence[Policy]):
    """Several policies of one shape, stacked for batched inference.

    Attributes:
        actor: one actor whose arrays have a leading axis of length P = len(ids).
        ids: the run of each policy.
        metadata: shared facts, copied into each policy.
    """

    actor: Actor
    ids: tuple[RunId, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def _repr_html_(self) -> str:
        rows = ((id.algorithm, id.task or "", limit_text(id.cost_limit), str(id.seed)) for id in self.ids)
        return html_table(("algorithm", "task", "limit", "seed"), rows)

    @overload
    def __getitem__(self, index: int) -> Policy: ...
    @overload
    def __getitem__(self, index: slice) -> Policies: ...
    def __getitem__(self, index: int | slice) -> Policy | Policies:
        actor = jax.tree.map(lambda leaf: leaf[index], self.actor)
        if isinstance(index, slice):
            return Policies(actor, self.ids[index], self.metadata)
        return Policy(actor, self.ids[index], self.metadata)

    @property
    def finite(self) -> Bool[np.ndarray, " P"]:
        """Which of them have finite parameters only, that is, did not diverge in training."""
        leaves = [np.isfinite(leaf) for leaf in jax.tree.leaves(self.actor)]
        return np.asarray(np.all([leaf.all(axis=tuple(range(1, leaf.ndim))) for leaf in leaves], axis=0))

    def adjusted(self, **values: float) -> Policies:
        """All policies, adjusted alike; see `Policy.adjusted`."""
        ids = tuple(run.adjusted(**values) for run in self.ids)
        return Policies(_adjusted(self.actor, values), ids, self.metadata)

    def __iter__(self) -> Iterator[Policy]:
        return (self[i] for i in range(len(self)))

    @staticmethod
    def stack(policies: Sequence[Policy]) -> Policies:
        """Stack single policies of one structure and size.

        Raises:
            ConfigError: there is none, or their structures or what they observe differ.
        """
        if not policies:
            raise ConfigError("there is no policy to stack.")
        for other in policies:
            if other.observation_parts != policies[0].observation_parts:
                raise ConfigError(
                    f"the observations of {policies[0].id} and {other.id} are put together from other parts, so that "
                    "they cannot be evaluated together."
                )
        try:
            actor = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(p.actor for p in policies))
        except ValueError as error:
            raise ConfigError(
                f"the policies differ in structure and cannot be evaluated together ({error})."
            ) from None
        return Policies(actor, tuple(p.id for p in policies), policies[0].metadata)
