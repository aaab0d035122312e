"""Which columns of a table hold what, by name.

Capitals, blanks and signs around a name do not matter. A column that looks like one of the usual ones and cannot be
placed is refused, never left out in silence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import Any

from safetrax.data.formats.arrays import NAMES, listed
from safetrax.errors import DataError

METADATA = b"safetrax"
"""The entry of a Parquet file's own metadata that holds the action box, as JSON."""

_FEATURES = {
    "observations": ("observation", "observations", "obs"),
    "actions": ("action", "actions"),
    "next_observations": ("next_observation", "next_observations", "next_obs", "new_obs"),
}
_SINGLES = {
    "reward": ("reward", "rewards"),
    "cost": ("cost", "costs"),
    "episode": ("episode", "episode_id", "episode_index", "episode_number", "eps_id"),
    "step": ("step", "timestep", "frame_index"),
    "time": ("time", "times", "timestamp", "timestamps", "datetime"),
    "terminated": ("terminated", "terminateds", "terminations", "terminals", "terminal", "is_terminal"),
    "truncated": ("truncated", "truncateds", "truncations", "timeouts", "timeout", "is_truncated"),
    "label": ("label", "labels"),
    "hidden_cost": ("hidden_cost", "hidden_costs"),
}
_REQUIRED = ("reward",)
_WORDS = ("episode", "label")  # roles whose cells need not be numbers
_EITHER_FLAG = ("done", "dones", "isdone", "nextdone", "islast")
_RUNS = (
    *("run", "agent", "robot", "seed", "trial", "subject", "patient", "admission"),
    *("session", "worker", "env", "rollout", "trajectory", "recording"),
)
_SLIP = 0.85  # likeness of words but for a slip of the pen


@dataclass(frozen=True)
class Layout:
    """The columns of a table by what they hold.

    Attributes:
        columns: by role, those that there are; several columns of features, and several may tell episodes apart.
        folders: the `key=` of folders that tell episodes apart, too.
        runs: columns that might have to.
        unused: columns that hold nothing that is read.
    """

    columns: Mapping[str, tuple[str, ...]]
    folders: tuple[str, ...]
    runs: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def names(self, widths: Mapping[str, int]) -> dict[str, list[str]]:
        """What the features are called, if they have more than numbers; `widths` has the size of every column."""
        roles = zip(NAMES, ("observations", "actions"), strict=True)
        found = {entry: _feature_names(self.columns[role], _FEATURES[role], widths) for entry, role in roles}
        return {entry: names for entry, names in found.items() if names}

    @property
    def episode(self) -> tuple[str, ...]:
        """The columns that tell the episodes apart together."""
        return self.columns.get("episode", ())

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of numbers, and those of steps and times, which may hold either."""
        return tuple(name for role, columns in self.columns.items() if role not in _WORDS for name in columns)

    @property
    def label(self) -> str | None:
        """The column of labels, if there is one."""
        return next(iter(self.columns.get("label", ())), None)

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that is read."""
        return tuple(dict.fromkeys((*self.numbers, *self.episode, *self.columns.get("label", ()), *self.runs)))


def clean_name(name: object) -> str:
    """The name of a column without what nobody sees: blanks and byte-order marks around it."""
    return str(name).strip().strip("\ufeff").strip()


def find_layout(
    table: Sequence[str], given: Mapping[str, Any], *, next_observations: bool, folders: Sequence[str] = ()
) -> Layout:
    """Find the columns: as given, else by their usual names.

    Args:
        table: the columns that there are, with clean names; one without a name is never read.
        given: columns by role (the fields of `Layout`). Of observations, actions and next_observations either a
            list or a pattern with one `*`; of episode one or several names; of the others one name, or
            False for none.
        next_observations: whether they are wanted; there may be none, unless `given` names them.
        folders: the keys of `key=value` in the path, which may tell episodes apart.

    Raises:
        DataError: a column is missing, ambiguous or used twice.
    """
    names = [name for name in table if name]
    if name := _twice(names):
        raise DataError(f"two columns are called {name!r}; rename one (a named level of an index is one, too).")
    roles = [*_FEATURES, *_SINGLES]
    if unknown := sorted(set(given) - set(roles)):
        raise DataError(f"columns has the unknown entry {unknown[0]!r}; the known ones are {', '.join(roles)}.")
    found = {}
    for role in roles:
        if role == "episode":
            found[role], keys = _episode(names, folders, given.get(role))
        elif role != "next_observations" or next_observations:
            found[role] = _columns(role, names, given.get(role))
    taken = [name for role, columns in found.items() if role != "time" for name in columns]
    if "time" not in given and set(found["time"]) & set(taken).difference(found["step"]):
        found["time"] = ()
    layout = Layout({role: columns for role, columns in found.items() if columns}, keys)
    used = set(layout.used)
    if name := _twice([*taken, *(name for name in found["time"] if name not in found["step"])]):
        raise DataError(f"the column {name!r} is used twice; give each role columns of its own.")
    unused = [name for name in names if name not in used]
    _check_left_out(layout, unused, given)
    layout = replace(layout, unused=tuple(unused))
    now, after = (layout.columns.get(role, ()) for role in ("observations", "next_observations"))
    if after and len(after) != len(now):
        raise DataError(
            f"there are {len(after)} columns of next_observations but {len(now)} of observations; log the same "
            "features."
        )
    if isinstance(given.get("episode"), (list, tuple)):  # then it is meant
        return layout
    runs = (name for name in names if _key(name).removesuffix("id") in _RUNS and name not in used)
    return replace(layout, runs=tuple(runs))


def numbered(names: Sequence[str]) -> bool:
    """Whether all names are whole numbers, so that they can be put in order."""
    return all(name.isdecimal() for name in names)


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


@lru_cache(maxsize=1 << 16)
def _key(name: str) -> str:
    """What a name has in common with its other spellings."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _is(name: str, words: Sequence[str]) -> bool:
    """Whether a name is one of the words, in whatever spelling."""
    return _key(name) in map(_key, words)


def _episode(table: Sequence[str], folders: Sequence[str], given: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns, and the keys of folders, that tell the episodes apart."""
    if given is None:
        names = [*_columns("episode", table, None)]
        names += [key for key in folders if _is(key, _SINGLES["episode"])]
    else:
        entries: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
        names = [name if name in folders else _existing("episode", table, name) for name in entries]
        if not names:
            raise DataError("episode is empty; name at least one column.")
    columns = tuple(name for name in dict.fromkeys(names) if name in table)
    return columns, tuple(name for name in dict.fromkeys(names) if name in folders)


def _columns(role: str, table: Sequence[str], given: object) -> tuple[str, ...]:
    """The columns of a role; none where a log may do without them."""
    if given is None and role in _FEATURES:
        return _usual(role, table)
    if given is None:
        found = tuple(name for name in table if _is(name, _SINGLES[role]))
        if len(found) > 1:
            raise _ambiguous(role, *found[:2])
        if not found and role in _REQUIRED:
            raise _missing(role, _SINGLES[role], table)
        return found
    if role in _SINGLES:
        return () if given is False else (_existing(role, table, given),)
    if isinstance(given, str) and given.count("*") == 1:
        pattern = re.compile("(.+)".join(map(re.escape, given.split("*"))), re.DOTALL)
        matches = [match for match in map(pattern.fullmatch, table) if match]
        if not matches:
            raise DataError(f"{role}: no column is called {given}; the table has {listed(table, 'columns')}.")
        return _in_order([match[0] for match in matches], [match[1] for match in matches])
    if not isinstance(given, (str, list, tuple)) or not len(given):
        raise DataError(f"{role} is {given!r}; name at least one column, or give a pattern such as {role[:3]}_*.")
    return tuple(_existing(role, table, name) for name in ([given] if isinstance(given, str) else given))


def _usual(role: str, table: Sequence[str]) -> tuple[str, ...]:
    """The columns of features by their usual names: `observation_*`, `observation.*`, or `observation` alone."""
    prefixes = _FEATURES[role]
    groups = [[name for name in table if _suffix(name, prefix)] for prefix in prefixes]
    groups += [[name] for name in table if _is(name, prefixes)]
    found = [columns for columns in groups if columns]
    if not found and role == "next_observations":
        return ()
    if not found:
        raise _missing(role, [f"{prefix}_*" for prefix in prefixes], table)
    if len(found) > 1:
        raise _ambiguous(role, found[0][0], found[1][0])
    columns = found[0]
    prefix = next((prefix for prefix in prefixes if _suffix(columns[0], prefix)), "")
    suffixes = [_suffix(name, prefix) for name in columns]
    ordered = _in_order(columns, suffixes)
    if prefix and numbered(suffixes):
        numbers = sorted(map(int, suffixes))
        named = any(f"{prefix}." in name.casefold() for name in columns)
        for i, (number, after) in enumerate(pairwise(numbers)):
            if number == after:
                raise _ambiguous(role, ordered[i], ordered[i + 1])
            if number + 1 < after and not named:
                raise DataError(
                    f"{prefix}_{number + 1} is missing between {ordered[i]} and {ordered[i + 1]}; put it back, or "
                    f"{_named(role)}."
                )
    return ordered


def _check_left_out(layout: Layout, left: Sequence[str], given: Mapping[str, Any]) -> None:
    """Refuse a column that is left out although it looks as if it belonged to a role that nobody named."""
    done = next((name for name in left if _key(name) in _EITHER_FLAG), None)
    if done and not {"terminated", "truncated"} & set(layout.columns):
        raise DataError(
            f"column {done} may say that the environment ended the episode, or that a time limit did; say which: "
            f'columns={{"terminated": "{done}"}} or columns={{"truncated": "{done}"}}.'
        )
    features = [prefix for prefixes in _FEATURES.values() for prefix in prefixes]
    unknown = [name for name in left if not any(_suffix(name, prefix) for prefix in features)]
    for role, prefixes in _FEATURES.items():
        if role not in given and role in layout.columns:
            begun = re.compile(rf"\W*(?:{'|'.join(prefixes)})[\W\d]", re.IGNORECASE)
            stems = ((name, re.sub(r"[\W_]*\d+\W*$|\..*$", "", name)) for name in unknown)
            slips = (name for name, stem in stems if begun.match(name) or (stem != name and _near(stem, prefixes)))
            if slip := next(slips, None):
                raise DataError(f"column {slip!r} looks like one of the {role}; rename it, or {_named(role)}.")
    for role, words in _SINGLES.items():
        if role in given or role in layout.columns or role == "time" or (role == "episode" and layout.folders):
            continue  # many a word looks like time, and nothing needs it unless asked for
        if slip := next((name for name in left if _near(name, words)), None):
            raise DataError(f"column {slip!r} looks like {role}; rename it, or {_named(role)}.")


def _near(name: str, words: Sequence[str]) -> bool:
    """Whether a name is one of the words, but for a slip of the pen, or letters in another order."""
    key, known = _key(name), list(map(_key, words))
    return bool(get_close_matches(key, known, cutoff=_SLIP)) or sorted(key) in map(sorted, known)


def _ambiguous(role: str, one: str, other: str) -> DataError:
    return DataError(
        f"of two columns, {one} and {other} could both belong to the {role}; rename one, or {_named(role)}."
    )


def _suffix(name: str, prefix: str) -> str:
    """What follows `prefix_` or `prefix.`, or the number of `prefix[3]`, `prefix 3` and the like; else empty."""
    found = re.fullmatch(rf"\W*{prefix}(?:[_.\s\-\[(]*(\d+)\W*|[_.](.+))", name, re.IGNORECASE)
    return found[1] or found[2] if found else ""


def _in_order(columns: Sequence[str], suffixes: Sequence[str]) -> tuple[str, ...]:
    """As in the table; but numbered columns by number, for 10 often comes before 2."""
    if not numbered(suffixes):
        return tuple(columns)
    return tuple(name for _, name in sorted(zip(map(int, suffixes), columns, strict=True)))


def _feature_names(columns: Sequence[str], prefixes: Sequence[str], widths: Mapping[str, int]) -> list[str] | None:
    """One name for every number; None where they have none but their place."""
    groups = ([_suffix(name, prefix) for name in columns] for prefix in prefixes)
    short = next((names for names in groups if all(names)), list(columns))
    counted = numbered(short) and list(map(int, short)) == list(range(len(short)))
    if counted and all(widths[name] == 1 for name in columns):
        return None
    if len(columns) == 1 and _is(columns[0], prefixes):
        return None
    return [
        name if widths[column] == 1 else f"{name}_{i}"
        for name, column in zip(short, columns, strict=True)
        for i in range(widths[column])
    ]


def _existing(role: str, table: Sequence[str], name: object) -> str:
    if clean_name(name) not in table:
        raise DataError(f"{role}: there is no column {name!r}; the table has {listed(table, 'columns')}.")
    return clean_name(name)


def _missing(role: str, looked_for: Sequence[str], table: Sequence[str]) -> DataError:
    computed = ', or compute it: columns={"reward": false} and the filter relabel:reward=...' * (role == "reward")
    return DataError(
        f"no column holds {role} (looked for {', '.join(looked_for)}); the table has {listed(table, 'columns')}; "
        f"{_named(role)}{computed}."
    )


def _named(role: str) -> str:
    example = '["..."]' if role in _FEATURES else '"..."'
    return f'name it: load(path, columns={{"{role}": {example}}}) or from_pandas(frame, {role}={example})'
