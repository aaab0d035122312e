"""Settings that are the fields of a frozen dataclass: an algorithm's, a filter's. Ranges are part of the types."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import itertools
import math
import operator
import textwrap
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import typeguard
from annotated_types import Ge, Gt, Le, Lt, MinLen

from safetrax.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_hints = functools.cache(typing.get_type_hints)  # evaluates every annotation anew

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
OpenFraction = Annotated[float, Gt(0), Lt(1)]
Rate = Annotated[float, Gt(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
Count = Annotated[int, Gt(0)]
Whole = Annotated[int, Ge(0)]

_NUMBER = "be a number"
_BOUNDS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}


def settings_of(owner: DataclassInstance) -> dict[str, Any]:
    """All settings by name, JSON-ready."""
    return {field.name: _plain(getattr(owner, field.name)) for field in dataclasses.fields(owner)}


def attribute_docs(cls: type) -> dict[str, str]:
    """The string literals that follow the fields of a class and of its bases, each as one line."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        with contextlib.suppress(OSError, TypeError):  # made at run time, or built in: has no source
            body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]).body
            for entry, after in itertools.pairwise(body):
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                    match after:
                        case ast.Expr(value=ast.Constant(value=str(text))):
                            docs[entry.target.id] = " ".join(text.split())
    return docs


def require(condition: bool, name: str, value: Any, rule: str) -> None:
    """Check one setting.

    Raises:
        ConfigError: naming the setting, its value and the rule.
    """
    if not condition:
        raise ConfigError(f"{name} is {value!s:.200}, but must {rule}.")


def require_whole(name: str, value: Any) -> None:
    """Check a number that names or counts something: cut to a whole one it would be another's.

    Raises:
        ConfigError: it is not a whole number.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    require(whole, name, value, "be a whole number")


def require_types(owner: type, values: Mapping[str, Any]) -> None:
    """Check values that a file gives for fields of a dataclass or a typed dictionary against their annotations.

    Raises:
        ConfigError: one is of another type.
    """
    hints = _hints(owner)
    for name, value in values.items():
        if name in hints and (rule := _broken_type(value, hints[name])):
            require(False, name, repr(value), rule)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def require_ranges(owner: DataclassInstance) -> None:
    """Check all fields of a dataclass against their annotations, whose bounds are those of annotated-types.

    Raises:
        ConfigError: a value is of another kind, out of bounds, or no finite number.
    """
    require_ranges_of(type(owner), {field.name: getattr(owner, field.name) for field in dataclasses.fields(owner)})


def require_ranges_of(owner: type, values: Mapping[str, Any]) -> None:
    """The same of values that a file gives for its fields; there are no others.

    Raises:
        ConfigError: as above.
    """
    hints = _hints(owner, include_extras=True)
    for name, value in values.items():
        _require_kind(name, value, hints[name])


def _require_kind(name: str, value: Any, kind: Any) -> None:
    base, *limits = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if get_origin(base) is dict:
        require(isinstance(value, dict), name, value, "be a table")
        for key, item in value.items():
            _require_kind(f"{name}.{key:.40}", item, get_args(base)[1])
        return
    if get_origin(base) is not tuple:
        rule = _broken_rule(value, kind)
        require(rule is None, name, value, str(rule))
        return
    require(isinstance(value, tuple), name, value, "be a tuple")
    kinds = get_args(base)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    least = max((limit.min_length for limit in limits if isinstance(limit, MinLen)), default=0)
    require(len(value) == len(kinds) >= least, name, value, f"have {len(kinds) or f'{least} or more'} entries")
    for place, (item, each) in enumerate(zip(value, kinds, strict=True)):
        _require_kind(f"{name}[{place}]", item, each)


def _broken_rule(value: Any, kind: Any) -> str | None:
    """What a value must be or do that it is or does not; None where it fits."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        rule = _broken_rule(value, parts[0])
        if rule in (None, _NUMBER):
            return _broken_bounds(math.nan if rule else value, parts[1:]) or rule
        return rule
    if origin in (Union, UnionType):
        rules = [rule for part in parts if (rule := _broken_rule(value, part))]
        if len(rules) < len(parts):
            return None
        *others, last = rules[0], *(rule.removeprefix("be ") for rule in rules[1:])
        return f"{', '.join(others)} or {last}"
    if origin is Literal:
        return None if value in parts else f"be {'one of ' * (len(parts) > 1)}{', '.join(map(str, parts))}"
    if kind in (int, float):
        if not isinstance(value, Integral if kind is int else Real) or value is True or value is False:
            return "be a whole number" if kind is int else _NUMBER
        with contextlib.suppress(OverflowError):  # a whole number that no float can hold
            return None if math.isfinite(value) else "be finite"
        return "have less than 309 digits"
    if kind is NoneType:
        return None if value is None else "be none"
    return _broken_type(value, kind)


def _broken_type(value: Any, kind: Any) -> str | None:
    try:
        typeguard.check_type(value, kind, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
    except typeguard.TypeCheckError:
        return f"be of type {inspect.formatannotation(kind)}"
    return None


def _broken_bounds(value: Any, limits: Sequence[Any]) -> str | None:
    bounds = {name: getattr(limit, name) for limit in limits for name in _BOUNDS if hasattr(limit, name)}
    if all(_BOUNDS[name](value, bound) for name, bound in bounds.items()):
        return None
    low, high = bounds.get("gt", bounds.get("ge")), bounds.get("lt", bounds.get("le"))
    if low is None:
        return f"be {'less than' if 'lt' in bounds else 'at most'} {high:g}"
    if high is None and low == 0:
        return "be positive" if "gt" in bounds else "not be negative"
    if high is None:
        return f"be {'greater than' if 'gt' in bounds else 'at least'} {low:g}"
    return f"lie in {'(' if 'gt' in bounds else '['}{low:g}, {high:g}{')' if 'lt' in bounds else ']'}"
