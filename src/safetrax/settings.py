"""Settings that are the fields of a frozen dataclass: an algorithm's, a filter's."""

from __future__ import annotations

import dataclasses
import inspect
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
