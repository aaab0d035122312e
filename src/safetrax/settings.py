"""Settings that are the fields of a frozen dataclass: an algorithm's, a filter's."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import itertools
import textwrap
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import typeguard

from safetrax.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


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
        raise ConfigError(f"{name} is {value}, but must {rule}.")


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
    hints = typing.get_type_hints(owner)
    every = typeguard.CollectionCheckStrategy.ALL_ITEMS
    for name, value in values.items():
        if name in hints:
            try:
                typeguard.check_type(value, hints[name], collection_check_strategy=every)
            except typeguard.TypeCheckError:
                kind = inspect.formatannotation(hints[name])
                raise ConfigError(f"{name} is {value!r:.200}, but must be of type {kind}.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
