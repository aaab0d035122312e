"""Which columns of a table hold what: by name, in and out.

The names that are written, and the first that are looked for when reading: `episode`, `step`, `observation_0` or
`observation.NAME`, `action_0` or `action.NAME`, `reward`, `cost`, `terminated`, `truncated`, `next_observation_0`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from safetrax.data.formats.found import NAMES
from safetrax.errors import DataError

_PREFIXES = {
    "observations": ("observation", "observations", "obs"),
    "actions": ("action", "actions"),
    "next_observations": ("next_observation", "next_observations", "next_obs"),
}
_SINGLES = {
    "reward": ("reward", "rewards"),
    "cost": ("cost", "costs"),
    "episode": ("episode", "episode_id", "episode_index"),
    "step": ("step", "timestep", "frame_index"),
    "terminated": ("terminated", "terminals", "terminal"),
    "truncated": ("truncated", "timeouts", "timeout"),
}
_REQUIRED = ("reward", "cost")
_SHOWN = 24  # columns that an error lists


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of a table by what they hold; None: there is none."""

    observations: tuple[str, ...]
    actions: tuple[str, ...]
    reward: str
    cost: str
    episode: str | None = None
    step: str | None = None
    terminated: str | None = None
    truncated: str | None = None
    next_observations: tuple[str, ...] | None = None

    @property
    def names(self) -> dict[str, list[str]]:
        """What the features are called, if they have more than numbers."""
        found = {
            entry: _short_names(getattr(self, role), _PREFIXES[role])
            for entry, role in zip(NAMES, ("observations", "actions"), strict=True)
        }
        return {entry: names for entry, names in found.items() if names}

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that is read."""
        values = [getattr(self, entry.name) for entry in fields(self)]
        return tuple(name for value in values if value for name in ((value,) if isinstance(value, str) else value))


def find_layout(table: Sequence[str], given: Mapping[str, Any], *, next_observations: bool) -> Layout:
    """Find the columns: as given, else by their usual names.

    Args:
        table: the columns that there are.
        given: columns by role (the fields of `Layout`). Of observations, actions and next_observations either a
            list or a pattern with one `*`; of the others one name.
        next_observations: whether they are wanted; there may be none, unless `given` names them.

    Raises:
        DataError: a column is missing, ambiguous or used twice.
    """
    names = [str(name) for name in table]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two columns are called {name!r}; rename one.")
    unknown = sorted(set(given) - {entry.name for entry in fields(Layout)})
    if unknown:
        roles = ", ".join(entry.name for entry in fields(Layout))
        raise DataError(f"columns has the unknown entry {unknown[0]!r}; the known ones are {roles}.")
    found: dict[str, Any] = {role: _many(role, names, given.get(role)) for role in ("observations", "actions")}
    found |= {role: _one(role, names, given.get(role)) for role in _SINGLES}
    if next_observations:
        found["next_observations"] = _many("next_observations", names, given.get("next_observations"))
    layout = Layout(**found)
    for name in layout.used:
        if layout.used.count(name) > 1:
            raise DataError(f"the column {name!r} is used twice; give each role columns of its own.")
    after = layout.next_observations
    if after is not None and len(after) != len(layout.observations):
        raise DataError(
            f"there are {len(after)} columns of next_observations but {len(layout.observations)} of observations; "
            "log the same features."
        )
    return layout


def numbered(names: Sequence[str]) -> bool:
    """Whether all names are whole numbers, so that they can be put in order."""
    return all(name.isdecimal() for name in names)


def _one(role: str, table: Sequence[str], given: object) -> str | None:
    if given is not None:
        return _existing(role, table, given)
    found = next((name for name in _SINGLES[role] if name in table), None)
    if found is None and role in _REQUIRED:
        raise _missing(role, _SINGLES[role], table)
    return found


def _many(role: str, table: Sequence[str], given: object) -> tuple[str, ...] | None:
    if isinstance(given, str) and given.count("*") == 1:
        before, after = given.split("*")
        columns = [
            name
            for name in table
            if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
        ]
        if not columns:
            raise DataError(f"{role}: no column is called {given}; the table has {_listed(table)}.")
        return _in_order(columns, [name[len(before) : len(name) - len(after)] for name in columns])
    if isinstance(given, str):
        return (_existing(role, table, given),)
    if given is not None:
        if not isinstance(given, (list, tuple)) or not given:
            raise DataError(f"{role} is {given!r}; name at least one column, or give a pattern such as {role[:3]}_*.")
        return tuple(_existing(role, table, name) for name in given)
    return _usual(role, table)


def _usual(role: str, table: Sequence[str]) -> tuple[str, ...] | None:
    """The columns of features by their usual names: `observation_*`, `observation.*`, or `observation` alone.

    None where a log may do without them.
    """
    groups = {prefix: [name for name in table if _suffix(name, prefix)] for prefix in _PREFIXES[role]}
    found = [prefix for prefix, columns in groups.items() if columns]
    if len(found) > 1:
        names = " and ".join(groups[prefix][0] for prefix in found[:2])
        raise DataError(f"{names} could both belong to the {role}; say which columns do.")
    if found:
        columns = groups[found[0]]
        return _in_order(columns, [_suffix(name, found[0]) for name in columns])
    alone = [name for name in _PREFIXES[role] if name in table]
    if not alone and role == "next_observations":
        return None
    if not alone:
        raise _missing(role, [f"{prefix}_*" for prefix in _PREFIXES[role]], table)
    return (alone[0],)


def _suffix(name: str, prefix: str) -> str:
    """What follows `prefix_` or `prefix.`; empty if `name` does not begin so."""
    return name[len(prefix) + 1 :] if name.startswith((f"{prefix}_", f"{prefix}.")) else ""


def _in_order(columns: Sequence[str], suffixes: Sequence[str]) -> tuple[str, ...]:
    """As in the table; but numbered columns by number, for 10 often comes before 2."""
    if not numbered(suffixes):
        return tuple(columns)
    return tuple(name for _, name in sorted(zip(map(int, suffixes), columns, strict=True)))


def _short_names(columns: Sequence[str], prefixes: Sequence[str]) -> list[str] | None:
    for prefix in prefixes:
        short = [_suffix(name, prefix) for name in columns]
        if all(short):
            return None if short == [str(i) for i in range(len(short))] else short
    return None if len(columns) == 1 and columns[0] in prefixes else list(columns)


def _existing(role: str, table: Sequence[str], name: object) -> str:
    if name not in table:
        raise DataError(f"{role}: there is no column {name!r}; the table has {_listed(table)}.")
    return str(name)


def _missing(role: str, looked_for: Sequence[str], table: Sequence[str]) -> DataError:
    example = '["..."]' if role in _PREFIXES else '"..."'
    return DataError(
        f"no column holds {role} (looked for {', '.join(looked_for)}); the table has {_listed(table)}; "
        f'name it: load(path, columns={{"{role}": {example}}}) or from_pandas(frame, {role}={example}).'
    )


def _listed(table: Sequence[str]) -> str:
    more = len(table) - _SHOWN
    return ", ".join(table[:_SHOWN]) + (f" and {more} more" if more > 0 else "") if table else "no columns"
