"""Expressions over the columns of a log, such as `-abs(temperature - 21)`: computed here, never run as code."""

from __future__ import annotations

import ast
import functools
import operator
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from safetrax.data.formats.arrays import listed
from safetrax.data.gaps import column_names
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError, DataError, nearest

_LONGEST = 1000  # signs
_DEEPEST = 64  # operations within one another
_BINARY: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_UNARY: dict[type[ast.unaryop], Callable[..., Any]] = {
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Not: lambda value: value == 0,
}
_COMPARED: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {  # with the least and the most values that each takes
    "abs": (np.abs, 1, 1),
    "sqrt": (np.sqrt, 1, 1),
    "exp": (np.exp, 1, 1),
    "log": (np.log, 1, 1),
    "min": (lambda *values: functools.reduce(np.minimum, values), 2, 99),
    "max": (lambda *values: functools.reduce(np.maximum, values), 2, 99),
    "clip": (lambda value, low, high: np.minimum(np.maximum(value, low), high), 3, 3),
    "where": (lambda condition, value, other: np.where(condition != 0, value, other), 3, 3),
}
_PLAIN = (
    *(ast.Expression, ast.Name, ast.Load, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.BinOp, ast.UnaryOp),
    *(*_BINARY, *_UNARY, *_COMPARED),
)
_ALLOWED = (
    "numbers, names of columns, + - * / // % **, comparisons, and, or, not, and the functions "
    f"{', '.join(_FUNCTIONS)}"
)


@dataclass(frozen=True)
class Expression:
    """A number for every step of a log; what is true is 1, what is false 0.

    Attributes:
        text: as it is written.

    Raises:
        ConfigError: it is not made of what is allowed alone.
    """

    text: str

    def __post_init__(self) -> None:
        level: list[ast.AST] = [self._tree]
        for _ in range(_DEEPEST):
            if fault := next(filter(None, map(_fault, level)), None):
                raise ConfigError(f"{self.text!r} holds {fault}; write {_ALLOWED}.")
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if level:
            raise ConfigError(f"the expression {self.text[:40]!r}... is nested too deeply; write it more simply.")

    def __call__(self, data: Trajectories) -> Float64[np.ndarray, " N"]:
        """Its value at every step, (N,); NaN where a column that it names is missing.

        Raises:
            DataError: the log has no column of a name, or two, or the value is no finite number somewhere.
        """
        nodes = list(ast.walk(self._tree))
        functions = [node.func for node in nodes if isinstance(node, ast.Call)]
        names = {node.id for node in nodes if isinstance(node, ast.Name) and node not in functions}
        known = columns_of(data)
        columns = {name: self._column(known, name) for name in sorted(names)}
        with np.errstate(all="ignore"):
            values = np.broadcast_to(_value(self._tree.body, columns), (data.num_transitions,)).astype(np.float64)
        gaps = np.any([np.isnan(column) for column in columns.values()], axis=0)
        values[gaps] = np.nan
        odd = ~np.isfinite(values) & ~gaps
        if odd.any():
            row = int(np.argmax(odd))
            where = ", ".join(f"{name} is {column[row]:g}" for name, column in columns.items())
            raise DataError(
                f"{self.text!r} is {values[row]} in row {row}, where {where} (so in {odd.sum():,} rows); keep it "
                "finite, for instance by max, clip or where."
            )
        return values

    @functools.cached_property
    def _tree(self) -> ast.Expression:
        if len(self.text) > _LONGEST:
            raise ConfigError(f"the expression {self.text[:40]!r}... has more than {_LONGEST} signs; shorten it.")
        try:
            return ast.parse(self.text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = getattr(error, "msg", None) or error
            raise ConfigError(f"{self.text!r} is no expression ({reason}); write {_ALLOWED}.") from None

    def _column(self, known: Mapping[str, np.ndarray | None], name: str) -> np.ndarray:
        if name not in known:
            hint = nearest(name, known)
            hint = hint if hint.startswith("did") else f"the log has {listed(list(known), 'columns')}."
            raise DataError(f"{self.text!r} names {name}, which the log does not have; {hint}")
        if (column := known[name]) is None:
            raise DataError(
                f"{self.text!r} names {name}, as two columns are called; write o0, o1, ... or a0, a1, ..."
            )
        return column.astype(np.float64)


def _fault(node: ast.AST) -> str | None:
    """What is not allowed about a part of an expression."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return None if abs(value) < 3e38 else "a number that float32 has not"
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            _, least, most = _FUNCTIONS[name]
            return None if least <= len(args) <= most else f"{name} of {len(args)} values"
    kind = type(node).__name__
    return None if isinstance(node, _PLAIN) else f"a{'n' * (kind[0] in 'AEIOU')} {kind.lower()}"


def columns_of(data: Trajectories) -> dict[str, np.ndarray | None]:
    """The columns of a log by the names that an expression may use; None where two have one name.

    Features by their own names and by their places, o0, o1, ... and a0, a1, ..., then reward and cost.
    """
    found: dict[str, np.ndarray | None] = {}
    places: dict[str, np.ndarray | None] = {}
    for field, letter in (("observations", "o"), ("actions", "a")):
        for number, name in enumerate(column_names(data, field)):
            column = getattr(data, field)[:, number]
            spelt = unicodedata.normalize("NFKC", name)  # as Python spells names
            found[spelt] = None if spelt in found else column
            places[f"{letter}{number}"] = column
    for name, array in (("reward", data.rewards), ("cost", data.costs)):
        if array is not None:
            found[name] = None if name in found else array
    return {**found, **{place: column for place, column in places.items() if place not in found}}


def _value(node: ast.AST, columns: Mapping[str, np.ndarray]) -> Any:
    match node:
        case ast.Constant(value=value):
            return np.float64(np.float32(value))  # type: ignore[arg-type]  # as the columns are, so that 24.1 is 24.1
        case ast.Name(id=name):
            return columns[name]
        case ast.UnaryOp(op=op, operand=operand):
            return np.float64(1) * _UNARY[type(op)](_value(operand, columns))
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, columns), _value(right, columns))
        case ast.BoolOp(op=op, values=values):
            parts = [_value(each, columns) != 0 for each in values]
            joined = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return np.float64(1) * functools.reduce(joined, parts)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            values = [_value(each, columns) for each in (left, *comparators)]
            pairs = zip(ops, values, values[1:], strict=False)
            return np.float64(1) * functools.reduce(np.logical_and, (_COMPARED[type(op)](a, b) for op, a, b in pairs))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name][0](*(_value(each, columns) for each in args))
    raise AssertionError(ast.dump(node))
