"""A policy as an ONNX file: everything from the raw observation to the action in its own units."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax import export as shapes
from onnx import helper

from safetrax._version import __version__
from safetrax.data.formats.arrays import feature_names
from safetrax.data.trajectories import Trajectories
from safetrax.errors import RunError
from safetrax.exporting.graph import OPSET, TYPES, Graph
from safetrax.files import atomic_path
from safetrax.policies.actor import Actor
from safetrax.policies.policy import Policy
from safetrax.runtime import (
    ACTIONS,
    COSTS,
    FORMAT,
    MEMORY,
    NOISE,
    OBSERVATIONS,
    REWARDS,
    SEAL,
    STARTED,
    UNSEALED,
    Runtime,
    sealed,
)

_EPISODES, _STEPS = 32, 16  # of the log, that both act in


@dataclass(frozen=True)
class Exported:
    """What was written, and measured before.

    Attributes:
        path: the file.
        difference: the largest from the policy's own actions, in halves of the action range.
        compared: actions that were compared.
        one_ms: milliseconds of a call with one observation.
        many_ms: with 64.
    """

    path: Path
    difference: float
    compared: int
    one_ms: float
    many_ms: float

    def __str__(self) -> str:
        return (
            f"{self.path}: within {self.difference:.1e} of the policy in {self.compared:,} actions; "
            f"{self.one_ms:.2f} ms for one observation, {self.many_ms:.2f} ms for 64."
        )


def export(
    policy: Policy,
    path: str | Path,
    data: Trajectories,
    *,
    deterministic: bool = False,
    tolerance: float = 1e-5,
    facts: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a policy as ONNX, once it acts as the policy does on a log.

    The graph holds standardisation, clipping, action bounds and the limit. Inputs are `observations` (n, O); where
    it draws, `noise.*` of standard normal numbers; where it remembers, `memory.*`, which is `next.memory.*` of
    the last call, with `rewards` and `costs` since and `started` (n,), 0 in the first step of an episode and 1 later.
    Outputs are `actions` and `next.memory.*`. The batch n is free.

    Args:
        policy: any.
        path: the file, which is replaced.
        data: a log with observations such as the policy will see, for the comparison.
        deterministic: all noise is 0, and no input.
        tolerance: largest difference in halves of the action range. Both round to float32, in another order; a
            diffusion policy can carry that further.
        facts: JSON-ready, to travel in the file.

    Raises:
        RunError: the graph's actions differ from the policy's by more than that; nothing is written.
        ConfigError: sizes do not fit, or the policy computes what export does not know.
    """
    policy.require_size(data.observation_size)
    model = _model(policy, data, deterministic, dict(facts or {}))
    content = sealed(model.SerializeToString())
    runtime = Runtime(content)
    difference, compared = _compare(policy.actor, runtime, data)
    if not difference <= tolerance:
        raise RunError(
            f"{path} is not written: exported, {policy.id} acts otherwise by up to {difference:.2g} of half the "
            f"action range on this log, and {tolerance:g} is allowed; if rounding is all it is, allow more "
            "(tolerance), else report it as a bug."
        )
    one, many = (_milliseconds(runtime, data, count) for count in (1, 64))
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(content)
    return Exported(Path(path), difference, compared, one, many)


def _model(policy: Policy, data: Trajectories, deterministic: bool, facts: dict[str, Any]) -> onnx.ModelProto:
    actor, n = policy.actor, shapes.symbolic_shape("n")[0]
    begun = actor.reset(1)
    memory, shape_of_memory = jax.tree.flatten(begun)
    drawn = jax.eval_shape(actor.draw, jax.random.split(jax.random.key(0), 1))
    noise, shape_of_noise = jax.tree.flatten(drawn)
    memory_names = [MEMORY + name for name in _names(begun)]
    noise_names = [] if deterministic else [NOISE + name for name in _names(drawn)]

    def act(observations: jax.Array, *rest: jax.Array) -> list[jax.Array]:
        count = observations.shape[0]
        given = list(rest)
        draws = [given.pop(0) for _ in noise_names] or [jnp.zeros((count, *x.shape[1:])) for x in noise]
        kept: Any = jax.tree.unflatten(shape_of_memory, given[: len(memory)])
        if memory:
            rewards, costs, started = given[len(memory) :]
            told = actor.observe(kept, rewards, costs)

            def begin(new: jax.Array, old: jax.Array) -> jax.Array:
                on = (started > 0.5).reshape(count, *[1] * (new.ndim - 1))
                return jnp.where(on, new, jnp.broadcast_to(old, new.shape).astype(new.dtype))

            kept = jax.tree.map(begin, told, begun)
        with jax.default_matmul_precision("float32"):
            actions, kept = actor.act(kept, observations, jax.tree.unflatten(shape_of_noise, draws))
        return [actions, *jax.tree.leaves(kept)]

    inputs: list[tuple[str, tuple[int, ...], Any]] = [(OBSERVATIONS, (data.observation_size,), np.dtype(np.float32))]
    inputs += [(name, x.shape[1:], np.dtype(x.dtype)) for name, x in zip(noise_names, noise, strict=False)]
    inputs += [(name, x.shape[1:], np.dtype(x.dtype)) for name, x in zip(memory_names, memory, strict=True)]
    inputs += [(name, (), np.dtype(np.float32)) for name in (REWARDS, COSTS, STARTED) if memory]
    struct: Any = jax.ShapeDtypeStruct
    closed = jax.make_jaxpr(act)(*(struct((n, *shape), dtype) for _, shape, dtype in inputs))
    graph = Graph(OBSERVATIONS)
    found = graph.run(closed.jaxpr, list(map(np.asarray, closed.consts)), [name for name, _, _ in inputs])
    outputs = [
        (ACTIONS, (len(data.action_low),), np.dtype(np.float32)),
        *inputs[1 + len(noise_names) :][: len(memory)],
    ]
    results = []
    for (name, shape, dtype), value in zip(outputs, found, strict=True):
        result = name if name == ACTIONS else f"next.{name}"
        graph.nodes.append(helper.make_node("Identity", [graph.name(value)], [result]))
        results.append(helper.make_tensor_value_info(result, TYPES[dtype], ["n", *shape]))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [helper.make_tensor_value_info(name, TYPES[dtype], ["n", *shape]) for name, shape, dtype in inputs],
            results,
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="safetrax",
        producer_version=__version__,
    )
    described = {
        "policy": policy.id._asdict(),
        "action_low": data.action_low.tolist(),
        "action_high": data.action_high.tolist(),
        "action_choices": data.action_choices if policy.actor.chooses else None,
        "training": dict(policy.metadata),
        **feature_names(data),
        **facts,
    }
    helper.set_model_props(model, {"format": FORMAT, "facts": json.dumps(described), SEAL: UNSEALED})
    onnx.checker.check_model(model)
    return model


def _names(tree: Any) -> list[str]:
    """Of a tree's leaves, such as `.actions`."""
    return [
        f".{jax.tree_util.keystr(path, simple=True, separator='.') or 'value'}"
        for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]


def _compare(actor: Actor, runtime: Runtime, data: Trajectories) -> tuple[float, int]:
    """Both act through the first steps of logged episodes, told the logged rewards and costs."""
    episodes = np.arange(min(_EPISODES, data.num_episodes))
    half = (data.action_high - data.action_low) / 2
    costs = data.costs if data.costs is not None else np.zeros(data.num_transitions, np.float32)
    memory, worst, count = actor.reset(len(episodes)), 0.0, 0
    runtime.reset(len(episodes))
    act, observe = eqx.filter_jit(actor.act), eqx.filter_jit(actor.observe)
    nothing = jax.eval_shape(actor.draw, jax.random.split(jax.random.key(0), len(episodes)))
    for step in range(min(_STEPS, int(data.lengths.max()))):
        rows = np.minimum(data.offsets[episodes] + step, data.offsets[episodes + 1] - 1)
        drawn = runtime.draw()
        values = drawn or [np.zeros(leaf.shape, np.float32) for leaf in jax.tree.leaves(nothing)]
        noise = jax.tree.unflatten(jax.tree.structure(nothing), map(jnp.asarray, values))
        with jax.default_matmul_precision("float32"):
            own, memory = act(memory, jnp.asarray(data.observations[rows]), noise)
        there = runtime.act(data.observations[rows], noise=drawn)
        if actor.chooses:
            there = np.eye(len(half), dtype=np.float32)[there]
        gap = np.abs(np.asarray(own) - there) / half
        worst, count = max(worst, float(np.nan_to_num(gap, nan=np.inf).max())), count + len(rows)
        memory = observe(memory, jnp.asarray(data.rewards[rows]), jnp.asarray(costs[rows]))
        runtime.observe(data.rewards[rows], costs[rows])
    return worst, count


def _milliseconds(runtime: Runtime, data: Trajectories, count: int, tries: int = 20) -> float:
    """The median of some calls."""
    rows = np.resize(data.observations, (count, data.observation_size))
    runtime.reset(count)
    spent = []
    for _ in range(tries):
        start = time.perf_counter()
        runtime.act(rows)
        spent.append(time.perf_counter() - start)
    return 1e3 * float(np.median(spent))
