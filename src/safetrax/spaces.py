"""Observations of many parts as one vector: which parts, in which order, and how what is observed becomes it.

Parts of a dictionary come in the alphabetical order of their keys, those of a tuple in theirs, as Gymnasium's
`flatten_space` has them; a box is its numbers row by row, a choice is one-hot. numpy alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from safetrax.errors import ConfigError

PARTS = "observation_parts"
"""The entry of `Trajectories.info`, and of a file, that tells them."""

_MOST = 1 << 20  # numbers of a part
_MOST_CHOICES = 4096


@dataclass(frozen=True)
class Part:
    """One part of an observation.

    Attributes:
        name: the keys that lead to it, with `/` between; numbers from 0 in a tuple. Empty where there is no other.
        shape: of what is observed.
        choices: how many there are, for every entry of it; empty where it is numbers.
        start: the least choice, alike; empty where it is 0.
    """

    name: str
    shape: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()
    start: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if max(self.choices, default=0) > _MOST_CHOICES:
            raise ConfigError(
                f"{self.name or 'an observation'} is one of {max(self.choices)} choices, but at most {_MOST_CHOICES} "
                "can be one-hot; observe some numbers that describe it instead."
            )

    @property
    def size(self) -> int:
        """Numbers of the vector that it takes."""
        return sum(self.choices) if self.choices else math.prod(self.shape)

    @property
    def names(self) -> list[str]:
        """Of these numbers."""
        name = self.name or "observation"
        return [name] if self.size == 1 else [f"{name}[{place}]" for place in range(self.size)]

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Float32 `(n, size)` of `(n, *shape)`.

        Raises:
            ConfigError: a choice is none.
        """
        rows = values.reshape(len(values), -1)
        if not self.choices:
            with np.errstate(over="ignore"):  # becomes inf, which is refused later
                return rows.astype(np.float32, copy=False)
        most = np.array(self.choices)
        codes = rows - np.array(self.start or [0] * len(most))
        bad = ~((codes >= 0) & (codes < most) & (codes == np.floor(codes)))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            first = self.start[column] if self.start else 0
            raise ConfigError(
                f"{self.name or 'an observation'} is {rows[row, column]:g}, but must be a choice of {first} to "
                f"{first + self.choices[column] - 1}."
            )
        out = np.zeros((len(rows), self.size), np.float32)
        ends = np.cumsum([0, *self.choices[:-1]])
        np.put_along_axis(out, (codes + ends).astype(np.int64), 1.0, axis=1)
        return out


def parts_of_space(space: Any, what: str) -> tuple[Part, ...]:
    """The parts of a space of Gymnasium's: Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple of these.

    Args:
        space: any; its package need not be imported here.
        what: is observed, for messages.

    Raises:
        ConfigError: it holds another space, pictures, or nothing.
    """
    return tuple(_parts(space, what, ()))


def _parts(space: Any, what: str, keys: tuple[str, ...]) -> Iterable[Part]:
    name, kinds = "/".join(keys), {kind.__name__ for kind in type(space).__mro__}
    here = f"{what}, {name}," if name else what
    if "Dict" in kinds:
        if bad := [key for key in space.spaces if not isinstance(key, str) or not key or "/" in key]:
            raise ConfigError(f"{here} have the key {bad[0]!r}; name the parts by texts without a /.")
        inner = [(key, space.spaces[key]) for key in sorted(space.spaces)]
    elif "Tuple" in kinds:
        inner = [(str(place), part) for place, part in enumerate(space.spaces)]
    elif kinds & {"Discrete", "MultiDiscrete"}:
        choices = np.ravel(space.nvec if "MultiDiscrete" in kinds else space.n).tolist()
        start = np.ravel(np.broadcast_to(getattr(space, "start", 0), np.shape(choices))).tolist()
        return [Part(name, tuple(space.shape), tuple(choices), tuple(start) if any(start) else ())]
    elif kinds & {"Box", "MultiBinary"}:
        require_no_picture(here, space.shape, space.dtype)
        if 0 in space.shape:
            raise ConfigError(f"{here} are empty; leave them out.")
        return [Part(name, tuple(space.shape))]
    else:
        raise ConfigError(
            f"{here} come from the space {space}, which is no Box, Discrete, MultiDiscrete, MultiBinary, nor a Dict "
            "or Tuple of these; wrap it into a Box."
        )
    if not inner:
        raise ConfigError(f"{here} are empty; leave them out.")
    return itertools.chain.from_iterable(_parts(part, what, (*keys, key)) for key, part in inner)


def require_no_picture(what: str, shape: Sequence[int], dtype: Any) -> None:
    """Refuse pictures: three dimensions, or two of bytes. `shape`: of one observation.

    Raises:
        ConfigError: it is one.
    """
    if len(shape) > 2 or (len(shape) == 2 and np.dtype(dtype) == np.uint8):
        raise ConfigError(
            f"{what} are pictures ({' x '.join(map(str, shape))}), and no network here sees pictures; encode each to "
            "a vector first, with the same encoder in the log (log the vectors) and in the environment (a wrapper)."
        )


def parts_of(entries: Any, size: int | None = None) -> tuple[Part, ...]:
    """The parts that JSON tells, as `[asdict(part), ...]` is written; none of None.

    Args:
        entries: read from a file, perhaps a stranger's.
        size: of the whole observation, if known.

    Raises:
        ConfigError: they are no parts, or of another size together.
    """
    if entries is None:
        return ()
    try:
        parts = tuple(
            Part(str(entry["name"]), *(_wholes(entry[field]) for field in ("shape", "choices", "start")))
            for entry in entries
        )
        alike = all(len(part.choices) in (0, math.prod(part.shape)) for part in parts)
        alike &= all(len(part.start) in (0, len(part.choices)) and 0 < part.size <= _MOST for part in parts)
        if not alike or len({part.name for part in parts}) != len(parts):
            raise ValueError("sizes and names do not fit")
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{PARTS} cannot be used ({error}); write them as SafeTraX does, or leave them out."
        ) from error
    if parts and size is not None and size != sum(part.size for part in parts):
        raise ConfigError(f"{PARTS} have {sum(part.size for part in parts)} numbers, and an observation has {size}.")
    return parts


def _wholes(values: Any) -> tuple[int, ...]:
    if not all(type(value) is int and abs(value) <= _MOST for value in values):
        raise ValueError(f"{values!r:.80} are no sizes")
    return tuple(values)


def trained_parts(metadata: Mapping[str, Any]) -> tuple[Part, ...]:
    """The parts that a policy's metadata tell of its log.

    Raises:
        ConfigError: they are none.
    """
    return parts_of((metadata.get("data") or {}).get(PARTS))


def entries_of(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The inverse of `parts_of`: JSON-ready."""
    return [{key: list(value) if key != "name" else value for key, value in asdict(part).items()} for part in parts]


def named_parts(parts: Sequence[Part]) -> dict[str, Any]:
    """What `Trajectories.info` says of them: the parts, and a name for every number; nothing of none."""
    names = [name for part in parts for name in part.names]
    return {PARTS: entries_of(parts), "observation_names": names} if parts else {}


def flatten(parts: Sequence[Part], values: Any) -> np.ndarray:
    """Float32 `(O,)` of one observation, or `(n, O)` of n, whose arrays each have them in front.

    Args:
        parts: at least one.
        values: arrays in dictionaries and tuples, as the parts' names say.

    Raises:
        ConfigError: keys, shapes or choices are others than the parts'.
    """
    found, fronts, leaves = [], {}, dict(_leaves([part.name for part in parts], values))
    for part in parts:
        array = _numbers(part.name, leaves[part.name])
        front = array.shape[: max(0, array.ndim - len(part.shape))]
        if array.shape[len(front) :] != part.shape or len(front) > 1:
            raise ConfigError(
                f"{part.name or 'an observation'} has the shape {array.shape}, but must have {part.shape}, or "
                f"{('n', *part.shape)} for n episodes.".replace("'", "")
            )
        fronts[part.name] = front
        found.append(part.flat(array.reshape(-1, *part.shape)))
    if len(set(fronts.values())) > 1:
        shown = ", ".join(f"{front[0] if front else 'a single'} of {name}" for name, front in fronts.items())
        raise ConfigError(f"an observation has parts of different numbers of episodes: {shown}.")
    front = next(iter(fronts.values()))
    return np.asarray(np.concatenate(found, axis=1).reshape(*front, -1))


def is_structured(values: Any, parts: Sequence[Part]) -> bool:
    """Whether `flatten` is to be asked: a dictionary, a tuple where the parts are one's, a choice where it is all."""
    if isinstance(values, Mapping):
        return True
    first = parts[0].name if parts else None
    return (isinstance(values, tuple) and bool(first) and str(first).startswith("0")) or (
        first == "" and np.ndim(values) == 0
    )


def difference(ours: Sequence[Part], theirs: Sequence[Part]) -> str | None:
    """`a (3), b (2) and b (2), a (3)` where both are known and names or sizes differ, or their order; else None."""
    both = described(ours), described(theirs)
    return " and ".join(both) if all(both) and both[0] != both[1] else None


def described(parts: Sequence[Part]) -> str:
    """Such as `gear (4), speed (2)`."""
    return ", ".join(f"{part.name or 'a choice'} ({part.size})" for part in parts)


def _leaves(names: Sequence[str], values: Any, place: str = "") -> Iterable[tuple[str, Any]]:
    """Every name, below a place, with what lies there."""
    if list(names) == [""]:
        return [(place, values)]
    heads = list(dict.fromkeys(name.partition("/")[0] for name in names))
    if isinstance(values, tuple | list):
        values = {str(number): value for number, value in enumerate(values)}
    here = place or "an observation"
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{here} must be a dictionary with the keys {', '.join(heads)}, got {type(values).__name__}."
        )
    if set(values) != set(heads):
        raise ConfigError(
            f"{here} must have the keys {', '.join(heads)}, got {', '.join(map(str, values)) or 'none'}."
        )
    inner = {
        head: [rest for first, _, rest in (name.partition("/") for name in names) if first == head] for head in heads
    }
    return itertools.chain.from_iterable(
        _leaves(inner[head], values[head], f"{place}/{head}" if place else head) for head in heads
    )


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # rows of unequal length, or what is on another device
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"{name or 'an observation'} must be an array of numbers, got {type(value).__name__}.")
    return array
