"""How many float operations a function needs: those of its matrix products, counted in its jaxpr."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, Literal

from safetrax.algorithms.base import Algorithm, Spec
from safetrax.data.store import Store
from safetrax.data.trajectories import Trajectories


def operations(function: Callable[..., Any], *arguments: Any, often: float = 1.0) -> float:
    """2 M N K of every matrix product that the result depends on. Nothing else counts.

    A product whose result nobody uses is left out, such as a gradient towards the data. One that is written twice
    counts twice. A loop counts as often as it is passed, one of unknown length once.

    Args:
        function: of arrays.
        arguments: arrays, or their shapes and dtypes.
        often: how often the dearest branch of a condition is taken; else it is the cheapest.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return _count(jaxpr, [True] * len(jaxpr.outvars), often)[0]


def update_operations(
    algorithm: Algorithm, data: Trajectories, cost_limit: float, *, stage: int = 0, often: float = 1.0
) -> float:
    """Operations of one update of a stage, for one run; see `operations`."""
    store, index = Store.make(data, algorithm.fields), algorithm.index(data, cost_limit)
    key, stages = jax.random.key(0), algorithm.stages()
    state = jax.eval_shape(lambda key: algorithm.init(key, Spec.of(data)), key)
    for each in stages[: stage + 1]:
        state = jax.eval_shape(each.begin, state, store, index, key)
    return operations(stages[stage].update, state, store, index, key, often=often)


def _count(jaxpr: Jaxpr, wanted: Sequence[bool], often: float) -> tuple[float, list[bool]]:
    """Operations behind the wanted outputs, and which inputs they need."""
    used = {var for var, want in zip(jaxpr.outvars, wanted, strict=True) if want and not isinstance(var, Literal)}
    total = 0.0
    for equation in reversed(jaxpr.eqns):
        outputs = [var in used for var in equation.outvars]
        if any(outputs):
            cost, inputs = _cost(equation, outputs, often)
            total += cost
            used.update(
                var
                for var, need in zip(equation.invars, inputs, strict=True)
                if need and not isinstance(var, Literal)
            )
    return total, [var in used for var in jaxpr.invars]


def _cost(equation: Any, outputs: list[bool], often: float) -> tuple[float, list[bool]]:
    """Operations of one equation, and which inputs its wanted outputs need."""
    name, parameters = equation.primitive.name, equation.params
    everything = [True] * len(equation.invars)
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(
            left[axis] for axis in contracted
        ), everything
    if name == "cond":
        costs, needs = zip(*(_count(branch.jaxpr, outputs, often) for branch in parameters["branches"]), strict=True)
        return often * max(costs) + (1 - often) * min(costs), [True, *np.any(needs, axis=0).tolist()]
    inner = [jaxpr for value in parameters.values() if (jaxpr := _jaxpr_in(value)) is not None]
    if name in ("scan", "while"):  # what is carried from pass to pass is wanted
        passes = parameters.get("length", 1)
        return passes * sum(_count(jaxpr, [True] * len(jaxpr.outvars), often)[0] for jaxpr in inner), everything
    if len(inner) == 1 and len(inner[0].invars) == len(everything):  # a call
        return _count(inner[0], outputs, often)
    return 0.0, everything


def _jaxpr_in(value: Any) -> Jaxpr | None:
    """The jaxpr that a parameter holds; closed ones carry their constants outside of their inputs."""
    found = getattr(value, "jaxpr", value)
    return found if isinstance(found, Jaxpr) else None
