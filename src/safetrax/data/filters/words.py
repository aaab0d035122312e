"""Filters as words: `density:0.5`, `epsilon:-10,cost-limit=20` or `quality-mix:8:1`."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from safetrax.data.filters.base import Filter
from safetrax.data.filters.registry import FILTERS
from safetrax.errors import ConfigError, nearest
from safetrax.settings import attribute_docs

_EXAMPLES = {
    "relabel": "cost=o0 > 24",
    "inpaint": "0.25:0.5:0.5:1",
    "quality-mix": "8:1",
    "density": "0.5",
    "noise": "0.1",
    "outliers": "0.05",
}
_HINTS = {int: "a whole number", float: "a number"}


def filter_lines() -> str:
    """One line per filter for the help: how it is written, and what it does."""
    firsts = {
        name: [entry.name.upper().replace("_", "-") for entry in dataclasses.fields(kind)[:1]]
        for name, kind in FILTERS.items()
    }
    words = {name: ":".join([name, *first]) for name, first in firsts.items()}
    width = max(map(len, words.values())) + 2
    return "\n".join(
        f"  {words[name]:<{width}}{(kind.__doc__ or '').partition(chr(10))[0].rstrip('.')}"
        for name, kind in FILTERS.items()
    )


def parse_filters(words: Iterable[str], cost_limits: Sequence[float] = ()) -> tuple[Filter, ...]:
    """Filters out of words such as `density:0.5`, `epsilon:-10,cost-limit=20` or `quality-mix:8:1`.

    The first value of a word needs no key. Numbers of a tuple are joined by colons, tuples of a tuple by plus signs.

    Args:
        words: one per filter, in the order in which they are applied.
        cost_limits: those of the command. If there is one, it is that of every filter that needs one and has none.

    Raises:
        ConfigError: a filter or a key is unknown, a value is missing, of the wrong kind, or out of range.
    """
    return tuple(_parse(word, cost_limits) for word in words)


def _parse(word: str, cost_limits: Sequence[float]) -> Filter:
    name, colon, rest = word.partition(":")
    name = _dashed(name)
    if name not in FILTERS:
        raise ConfigError(f"there is no filter {name!r}; {nearest(name, FILTERS)}")
    if colon and not rest:
        raise ConfigError(
            f"the filter {word!r} ends after its colon; write a value, such as {name}:{_EXAMPLES.get(name, '20')}."
        )
    kind = FILTERS[name]
    if rest and not dataclasses.fields(kind):
        raise ConfigError(f"the filter {word!r} has {rest!r}, but {name} has no settings; leave that out.")
    values = {}
    for place, part in enumerate(_parts(rest) if rest else ()):
        key, text = _key_and_text(word, kind, place, part)
        if key in values:
            raise ConfigError(f"the filter {word} sets {_dashed(key)} twice; give it once.")
        hint = typing.get_type_hints(kind)[key]
        try:
            values[key] = _convert(hint, text)
        except ValueError:
            raise ConfigError(
                f"the filter {word} has {text!r} for {_dashed(key)}, which must be {_description(hint)}."
            ) from None
    _fill(word, kind, values, cost_limits)
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"the filter {word}: {error}") from error


def _parts(text: str) -> list[str]:
    """What commas separate, but for those within parentheses."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _key_and_text(word: str, kind: type[Filter], place: int, part: str) -> tuple[str, str]:
    names = {_dashed(entry.name): entry.name for entry in dataclasses.fields(kind)}
    if keyed := re.fullmatch(r"([\w\s-]+)=(?!=)(.*)", part, re.DOTALL):  # not what is equal, in an expression
        key, text = keyed.groups()
        if _dashed(key) not in names:
            raise ConfigError(f"the filter {word} has no key {key!r}; {nearest(_dashed(key), names)}")
        return names[_dashed(key)], text.strip()
    first, *others = names
    if place > 0:
        raise ConfigError(
            f"the filter {word} has {part!r} without a key; only the first value needs none, so write "
            f"{others[0] if others else 'key'}={part}, or another of its keys."
        )
    return names[first], part


def _fill(word: str, kind: type[Filter], values: dict[str, Any], cost_limits: Sequence[float]) -> None:
    """Add the one cost limit of the command, and find what is still missing."""
    missing = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in values]
    for name in missing:
        if name != "cost_limit":
            raise ConfigError(f"the filter {word} needs {_dashed(name)}: {attribute_docs(kind)[name]}")
    if missing:
        if len(cost_limits) != 1:
            lone = dataclasses.fields(kind)[0].name == "cost_limit"
            given = f"{word},cost-limit=20" if values else f"{kind.name}:{'' if lone else 'cost-limit='}20"
            raise ConfigError(
                f"the filter {word} needs a cost limit of its own, for --cost-limits gives "
                f"{len(cost_limits) or 'none'}; write, for instance, {given}."
            )
        values["cost_limit"] = float(cost_limits[0])


def _convert(hint: Any, text: str) -> Any:
    hint = _present(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and arguments[-1] is Ellipsis:
        return tuple(_convert(arguments[0], part) for part in text.split("+"))
    if origin is tuple:
        return tuple(_convert(each, part) for each, part in zip(arguments, text.split(":"), strict=True))
    if origin is typing.Literal:
        if text not in arguments:
            raise ValueError
        return text
    return hint(text)


def _description(hint: Any) -> str:
    hint = _present(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"{_description(arguments[0])}, several of them joined by +"
    if origin is tuple:
        return f"{len(arguments)} {'whole ' if arguments[0] is int else ''}numbers joined by colons"
    if origin is typing.Literal:
        return " or ".join(arguments)
    return _HINTS[hint]


def _present(hint: Any) -> Any:
    """X of `X | None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(each for each in typing.get_args(hint) if each is not types.NoneType)
    return hint


def _dashed(name: str) -> str:
    return name.strip().casefold().replace("_", "-")
