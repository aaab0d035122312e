"""Modules that save to tensors and JSON, and load without unpickling anything."""

from __future__ import annotations

import dataclasses
from importlib.metadata import entry_points
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from safetrax.errors import ConfigError, DataError
from safetrax.packages import GROUP, imported

_M = TypeVar("_M", bound=type[eqx.Module])
_SAVEABLE: dict[str, type[eqx.Module]] = {}


def saveable(cls: _M) -> _M:
    """Let files name this class. Only classes marked so are ever built from a file.

    A file that names a class of another package is read if that is imported, or has an entry point of the group
    `safetrax.algorithms`.

    Raises:
        ValueError: another class has that name already.
    """
    other = _SAVEABLE.get(cls.__name__, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):  # else imported a second time
        raise ValueError(f"two saveable modules are named {cls.__name__!r}")
    _SAVEABLE[cls.__name__] = cls
    return cls


def _class_named(name: str) -> type[eqx.Module]:
    """The saveable class of that name, of the library or of a package that brings algorithms of its own."""
    broken = []
    for entry in () if name in _SAVEABLE else entry_points(group=GROUP):
        try:
            imported(entry.value)
        except ConfigError as error:  # hides no other package
            broken.append(str(error).rstrip("."))
    if name not in _SAVEABLE:
        raise DataError(
            f"the file names the module {name!r}, which this version does not know; if it is of another package, "
            f"import that first{''.join(f' ({sentence})' for sentence in dict.fromkeys(broken))}."
        )
    return _SAVEABLE[name]


def serialise(value: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Take a tree of saveable modules, containers, arrays and plain values apart.

    Returns:
        The structure (JSON-ready) and the arrays it refers to by name.
    """
    tensors: dict[str, np.ndarray] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, eqx.Module):
            name = type(node).__name__
            if _SAVEABLE.get(name) is not type(node):
                raise TypeError(f"{name} at {path or 'the root'} is not marked @saveable")
            fields = {f.name: walk(getattr(node, f.name), f"{path}.{f.name}") for f in dataclasses.fields(node)}
            return {"module": name, "fields": fields}
        if isinstance(node, jax.Array | np.ndarray):
            tensors[path.lstrip(".")] = np.asarray(node, order="C")
            return {"tensor": path.lstrip(".")}
        if isinstance(node, tuple):
            return {"tuple": [walk(item, f"{path}.{i}") for i, item in enumerate(node)]}
        if node is None or isinstance(node, bool | int | float | str):
            return {"value": node}
        raise TypeError(f"cannot save a {type(node).__name__} at {path or 'the root'}")

    return walk(value, ""), tensors


def deserialise(structure: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Put together what `serialise` took apart.

    Raises:
        DataError: the structure names an unknown module, field or tensor.
    """
    try:
        match structure:
            case {"module": str(name), "fields": dict(fields)}:
                cls = _class_named(name)
                expected = {f.name for f in dataclasses.fields(cls)}
                if set(fields) != expected:
                    raise DataError(f"the fields of {name} are {sorted(fields)}, expected {sorted(expected)}.")
                module = object.__new__(cls)
                for key, item in fields.items():
                    object.__setattr__(module, key, deserialise(item, tensors))
                return module
            case {"tensor": str(name)}:
                return jnp.asarray(tensors[name])
            case {"tuple": list(items)}:
                return tuple(deserialise(item, tensors) for item in items)
            case {"value": value} if value is None or isinstance(value, bool | int | float | str):
                return value
    except KeyError as error:
        raise DataError(f"the file lacks the tensor {error.args[0]!r}.") from error
    raise DataError("the file's structure is not one of this library's.")
