"""From a traced function to an ONNX graph, operator by operator.

Only what policies are made of is known, about fifty operators. Whatever depends on constants alone is computed here,
so that the graph holds no more than what depends on its inputs. One dimension may be unknown, the batch `n`, in
shapes such as `16 n`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend import core
from onnx import TensorProto, helper, numpy_helper

from safetrax.errors import ConfigError

OPSET = 17  # of 2022; every runtime of today has it
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.bool_): TensorProto.BOOL,
}
_SAME = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow"},
    **{"neg": "Neg", "exp": "Exp", "log": "Log", "tanh": "Tanh", "sqrt": "Sqrt", "erf": "Erf", "abs": "Abs"},
    **{"cos": "Cos", "sin": "Sin", "sign": "Sign", "floor": "Floor", "logistic": "Sigmoid"},
    **{"gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal"},
    **{"and": "And", "or": "Or", "not": "Not", "stop_gradient": "Identity", "copy": "Identity"},
}
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_END = np.iinfo(np.int64).max

Value = Any  # np.ndarray where it is known, else the name of a tensor


class Graph:
    """Nodes and constants so far."""

    def __init__(self, batch_of: str) -> None:
        """`batch_of`: an input whose first dimension is n."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[Any, ...], onnx.TensorProto] = {}
        self._count = 0
        self._batch_of = batch_of
        self._batch: str | None = None

    def add(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """The name of the new tensor, or a list of several."""
        names = [f"t{self._count + i}" for i in range(outputs)]
        self._count += outputs
        self.nodes.append(helper.make_node(kind, [self.name(value) for value in inputs], names, **attributes))
        return names[0] if outputs == 1 else names

    def name(self, value: Value) -> str:
        """Of a tensor; a known one becomes a constant, once."""
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"c{len(self.constants)}")
        return str(self.constants[key].name)

    def shape(self, sizes: Sequence[Any]) -> Value:
        """A shape as a tensor, known or not."""
        if all(map(_known, sizes)):
            return _whole(*map(int, sizes))
        if self._batch is None:
            self._batch = self.add("Slice", self.add("Shape", self._batch_of), _whole(0), _whole(1))
        parts = []
        for size in sizes:
            times = int(size) if _known(size) else _times(size)
            parts.append(
                _whole(times)
                if _known(size)
                else (self._batch if times == 1 else self.add("Mul", self._batch, _whole(times)))
            )
        return self.add("Concat", *parts, axis=0)

    def run(self, jaxpr: core.Jaxpr, consts: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """The values of a traced function's results."""
        known: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Value:
            return np.asarray(atom.val) if isinstance(atom, core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            found = self._equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, x: list[Value]) -> list[Value]:
        kind, inner = equation.primitive.name, next((k for k in _INNER if k in equation.params), None)
        fixed = all(_known(size) for out in equation.outvars for size in out.aval.shape)
        if inner is None and fixed and not any(isinstance(value, str) for value in x):
            found = equation.primitive.bind(*map(jax.numpy.asarray, x), **equation.params)
            return [np.asarray(one) for one in (found if equation.primitive.multiple_results else [found])]
        if kind == "scan":
            return self._scan(equation.params, x)
        if inner is not None:
            body = equation.params[inner]
            jaxpr, consts = (body.jaxpr, body.consts) if hasattr(body, "consts") else (body, ())
            return self.run(jaxpr, list(map(np.asarray, consts)), x)
        if kind in _SAME:
            return [self.add(_SAME[kind], *x)]
        if kind not in _KINDS:
            raise ConfigError(f"this policy computes {kind!r}, which export does not know; report it as a bug.")
        found = _KINDS[kind](self, equation, x)
        return found if isinstance(found, list) else [found]

    def _scan(self, params: dict[str, Any], x: list[Value]) -> list[Value]:
        """Written out step by step."""
        body, consts, carries = params["jaxpr"], params["num_consts"], params["num_carry"]
        fixed, carry, rows = x[:consts], x[consts : consts + carries], x[consts + carries :]
        stacked: list[list[Value]] = []
        for i in range(params["length"]):
            at = params["length"] - 1 - i if params["reverse"] else i
            row = [self.add("Gather", r, np.int64(at), axis=0) if isinstance(r, str) else r[at] for r in rows]
            found = self.run(body.jaxpr, list(map(np.asarray, body.consts)), [*fixed, *carry, *row])
            carry = found[:carries]
            stacked.append(found[carries:])
        order = stacked[::-1] if params["reverse"] else stacked
        return [*carry, *(self.stack(list(each), 0) for each in zip(*order, strict=True))]

    def stack(self, values: list[Value], axis: int) -> Value:
        """Values of one shape along a new axis."""
        return self.add("Concat", *(self.add("Unsqueeze", value, _whole(axis)) for value in values), axis=axis)


def _known(size: Any) -> bool:
    return isinstance(size, int | np.integer)


def _times(size: Any) -> int:
    """k of k n."""
    match = re.fullmatch(r"(?:(\d+)\*)?n", str(size))
    if match is None:
        raise ConfigError(f"this policy has a shape of {size} rows, which export does not know; report it as a bug.")
    return int(match[1] or 1)


def _whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _broadcast(graph: Graph, equation: Any, x: list[Value]) -> Value:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    new = [d for d in range(len(shape)) if d not in places]
    value = graph.add("Unsqueeze", x[0], _whole(*new)) if new else x[0]
    same = list(equation.invars[0].aval.shape) == [shape[d] for d in places]
    if same and all(_known(shape[d]) and shape[d] == 1 for d in new):
        return value
    return graph.add("Expand", value, graph.shape(shape))


def _reshape(graph: Graph, equation: Any, x: list[Value]) -> Value:
    sizes = equation.params["new_sizes"]
    return graph.add("Reshape", x[0], _whole(*(int(size) if _known(size) else -1 for size in sizes)))


def _slice(graph: Graph, equation: Any, x: list[Value]) -> Value:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or [1] * len(starts)
    ends = [int(limit) if _known(limit) else _END for limit in limits]
    return graph.add(
        "Slice", x[0], _whole(*map(int, starts)), _whole(*ends), _whole(*range(len(ends))), _whole(*strides)
    )


def _dot(graph: Graph, equation: Any, x: list[Value]) -> Value:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    ranks = [len(atom.aval.shape) for atom in equation.invars]
    if ranks == [2, 2] and not left_batch and (tuple(left), tuple(right)) == ((1,), (0,)):
        return graph.add("MatMul", *x)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    one, other = ([""] * rank for rank in ranks)
    for a, b in [*zip(left_batch, right_batch, strict=True), *zip(left, right, strict=True)]:
        one[a] = other[b] = next(letters)
    one, other = ([name or next(letters) for name in names] for names in (one, other))
    free = [one[d] for d in range(ranks[0]) if d not in (*left, *left_batch)]
    free += [other[d] for d in range(ranks[1]) if d not in (*right, *right_batch)]
    result = "".join([*(one[d] for d in left_batch), *free])
    return graph.add("Einsum", *x, equation=f"{''.join(one)},{''.join(other)}->{result}")


def _gather(graph: Graph, equation: Any, x: list[Value]) -> Value:
    """A slice at a known place, entries along one dimension, or for each row of the batch one entry."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape, (axis, *others) = equation.invars[0].aval.shape, numbers.start_index_map
    index = equation.invars[1].aval.shape
    if others:
        raise ConfigError("this policy looks up several numbers at once, which export does not know; report it.")
    if not isinstance(x[1], str) and len(index) == 1:
        start = int(np.clip(x[1][0], 0, shape[axis] - sizes[axis]))
        value = graph.add("Slice", x[0], _whole(start), _whole(start + int(sizes[axis])), _whole(axis))
        collapsed = numbers.collapsed_slice_dims
        return graph.add("Squeeze", value, _whole(*collapsed)) if collapsed else value
    if tuple(numbers.operand_batching_dims) == (0,) and axis == 1:
        return graph.add("GatherND", x[0], graph.add("Cast", x[1], to=TensorProto.INT64), batch_dims=1)
    looked = range(axis, axis + len(index) - 1)  # where the places' own dimensions come out
    kept = [d for d in range(len(equation.outvars[0].aval.shape)) if d not in looked]
    if (
        numbers.operand_batching_dims
        or tuple(numbers.collapsed_slice_dims) != (axis,)
        or list(numbers.offset_dims) != kept
        or any(size != whole for d, (size, whole) in enumerate(zip(sizes, shape, strict=True)) if d != axis)
    ):
        raise ConfigError("this policy looks up numbers in a way that export does not know; report it as a bug.")
    places = graph.add("Squeeze", x[1], _whole(len(index) - 1))
    most = np.asarray(shape[axis] - 1, np.int32)
    return graph.add("Gather", x[0], graph.add("Min", graph.add("Max", places, np.int32(0)), most), axis=axis)


def _reduce(kind: str) -> Callable[[Graph, Any, list[Value]], Value]:
    def reduce(graph: Graph, equation: Any, x: list[Value]) -> Value:
        axes = [int(axis) for axis in equation.params["axes"]]
        if kind == "ReduceSum":
            return graph.add(kind, x[0], _whole(*axes), keepdims=0)
        return graph.add(kind, x[0], axes=axes, keepdims=0)

    return reduce


def _any(graph: Graph, equation: Any, x: list[Value]) -> Value:
    counted = graph.add("Cast", x[0], to=TensorProto.INT32)
    most = graph.add("ReduceMax", counted, axes=[int(axis) for axis in equation.params["axes"]], keepdims=0)
    return graph.add("Cast", most, to=TensorProto.BOOL)


def _argmax(graph: Graph, equation: Any, x: list[Value]) -> Value:
    (axis,) = equation.params["axes"]
    return graph.add("Cast", graph.add("ArgMax", x[0], axis=int(axis), keepdims=0), to=TensorProto.INT32)


def _split(graph: Graph, equation: Any, x: list[Value]) -> list[Value]:
    sizes = [int(size) for size in equation.params["sizes"]]
    found = graph.add("Split", x[0], _whole(*sizes), outputs=len(sizes), axis=int(equation.params["axis"]))
    return found if isinstance(found, list) else [found]


def _unstack(graph: Graph, equation: Any, x: list[Value]) -> list[Value]:
    axis, count = int(equation.params["axis"]), len(equation.outvars)
    return [graph.add("Gather", x[0], np.int64(i), axis=axis) for i in range(count)]


def _dynamic_slice(graph: Graph, equation: Any, x: list[Value]) -> Value:
    sizes, shape = equation.params["slice_sizes"], equation.invars[0].aval.shape
    if any(isinstance(start, str) for start in x[1:]):
        raise ConfigError("this policy cuts at places that it computes, which export does not know; report it.")
    value = x[0]
    for axis, (start, size) in enumerate(zip(x[1:], sizes, strict=True)):
        if _known(size) and _known(shape[axis]):
            first = int(np.clip(start, 0, shape[axis] - size))
            value = graph.add("Slice", value, _whole(first), _whole(first + size), _whole(axis))
    return value


def _cast(graph: Graph, equation: Any, x: list[Value]) -> Value:
    return graph.add("Cast", x[0], to=TYPES[np.dtype(equation.params["new_dtype"])])


_KINDS: dict[str, Callable[[Graph, Any, list[Value]], Any]] = {
    "argmax": _argmax,
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda graph, e, x: graph.add("Concat", *x, axis=int(e.params["dimension"])),
    "convert_element_type": _cast,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "integer_pow": lambda graph, e, x: graph.add("Pow", x[0], np.float32(e.params["y"])),
    "ne": lambda graph, _, x: graph.add("Not", graph.add("Equal", *x)),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_or": _any,
    "reduce_sum": _reduce("ReduceSum"),
    "reshape": _reshape,
    "rsqrt": lambda graph, _, x: graph.add("Reciprocal", graph.add("Sqrt", x[0])),
    "select_n": lambda graph, _, x: graph.add("Where", x[0], x[2], x[1]),
    "slice": _slice,
    "split": _split,
    "square": lambda graph, _, x: graph.add("Mul", x[0], x[0]),
    "squeeze": lambda graph, e, x: graph.add("Squeeze", x[0], _whole(*map(int, e.params["dimensions"]))),
    "stack": lambda graph, e, x: graph.stack(x, int(e.params["axis"])),
    "transpose": lambda graph, e, x: graph.add("Transpose", x[0], perm=[int(d) for d in e.params["permutation"]]),
    "unstack": _unstack,
}
