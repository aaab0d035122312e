"""The compiled part of training: every update of every run in one program.

The loop knows an algorithm only by its contract. Runs are (cost limit, seed) pairs of one algorithm; their states,
indices and keys carry a leading axis R, the store is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from safetrax.algorithms.base import Algorithm, Index, Metrics, Spec, State
from safetrax.algorithms.standardisation import Standardiser
from safetrax.data.store import Store
from safetrax.policies.actor import Actor

Batching = Literal["auto", "vmap", "map"]
Precision = Literal["float32", "tensorfloat32", "bfloat16"]


def over_runs(function: Callable[..., Any], batching: Batching = "auto") -> Callable[..., Any]:
    """`function` over the leading axis of its arguments.

    "vmap" fills a GPU with small networks. A CPU is full with one run's matrix products and does batched ones at half
    the rate (measured in speed/), so there "auto" takes the runs one after the other, inside the same program.
    """
    if batching == "auto":
        batching = "map" if jax.default_backend() == "cpu" else "vmap"
    if batching == "vmap":
        return jax.vmap(function)
    return lambda *args: jax.lax.map(lambda row: function(*row), args)


class Program:
    """Initialise and advance all runs of one algorithm.

    All randomness of a run comes from its key and the number of the update, so a run is a function of its
    configuration, however its updates are cut into calls.
    """

    def __init__(
        self, algorithm: Algorithm, spec: Spec, batching: Batching = "auto", precision: Precision = "float32"
    ) -> None:
        self.algorithm = algorithm
        self.spec = spec
        self.stages = algorithm.stages()
        self._precision = precision
        self._over_runs = partial(over_runs, batching=batching)
        self._init = jax.jit(self._over_runs(lambda key: algorithm.init(key, spec)))
        self._begin = [jax.jit(partial(self._begin_all, i)) for i in range(len(self.stages))]
        self._advance = [jax.jit(partial(self._advance_all, i), donate_argnums=0) for i in range(len(self.stages))]

    def init(self, keys: Key[Array, " R"]) -> State:
        """Fresh states."""
        with jax.default_matmul_precision(self._precision):
            return self._init(jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))

    def begin(self, stage: int, states: State, store: Store, indices: Index, keys: Key[Array, " R"]) -> State:
        """Run the stage's `begin` in every run."""
        with jax.default_matmul_precision(self._precision):
            return self._begin[stage](states, store, indices, keys)

    def advance(
        self,
        stage: int,
        carry: tuple[State, Metrics],
        store: Store,
        indices: Index,
        keys: Key[Array, " R"],
        first: int,
        updates: int,
    ) -> tuple[State, Metrics]:
        """Make updates first .. first + updates - 1 of the stage in every run, on the device.

        The carry, states and running sums of the metrics `(R,)` (see `zero_metrics`), is donated. Updates are counted
        from 0 within the stage; any number of them runs the same compiled program.
        """
        bounds = jnp.asarray([first, first + updates], jnp.int32)
        with jax.default_matmul_precision(self._precision):
            result: tuple[State, Metrics] = self._advance[stage](carry, store, indices, keys, bounds)
        return result

    def zero_metrics(self, stage: int, states: State, store: Store, indices: Index) -> dict[str, Float[Array, " R"]]:
        """Sums to start an interval with."""

        def first_run(states: State, indices: Index) -> tuple[State, Metrics]:
            state, index = jax.tree.map(lambda leaf: leaf[0], (states, indices))
            return self.stages[stage].update(state, store, index, jax.random.key(0))

        _, metrics = jax.eval_shape(first_run, states, indices)
        runs = jax.tree.leaves(states)[0].shape[0]
        return {name: jnp.zeros(runs) for name in metrics}

    def actors(self, states: State, standardiser: Standardiser | None = None) -> Actor:
        """The stacked actors of all runs, for observations as they are."""

        def deployed(state: State) -> Actor:
            actor = self.algorithm.actor(state)
            return actor if standardiser is None else standardiser.actor(actor)

        actor: Actor = eqx.filter_vmap(deployed)(states)
        return actor

    def state_structure(self, stage: int, store: Store, indices: Index, runs: int) -> State:
        """Shapes and dtypes of the states inside a stage, without computing anything."""
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), runs))
        states = jax.eval_shape(self.init, keys)
        for i in range(stage + 1):
            states = jax.eval_shape(partial(self.begin, i), states, store, indices, keys)
        return states

    def _begin_all(self, stage: int, states: State, store: Store, indices: Index, keys: Key[Array, " R"]) -> State:
        def begin(state: State, index: Index, key: Key[Array, ""]) -> State:
            stage_key = jax.random.fold_in(key, stage + 1)
            return self.stages[stage].begin(state, store, index, jax.random.fold_in(stage_key, 0))

        return self._over_runs(begin)(states, indices, keys)

    def _advance_all(
        self,
        stage: int,
        carry: tuple[State, Metrics],
        store: Store,
        indices: Index,
        keys: Key[Array, " R"],
        bounds: Int32[Array, " 2"],
    ) -> tuple[State, Metrics]:
        def advance(carry: tuple[State, Metrics], index: Index, key: Key[Array, ""]) -> tuple[State, Metrics]:
            stage_key = jax.random.fold_in(key, stage + 1)

            def body(i: Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
                state, sums = carry
                state, metrics = self.stages[stage].update(state, store, index, jax.random.fold_in(stage_key, i + 1))
                return state, {name: sums[name] + metrics[name] for name in sums}

            result: tuple[State, Metrics] = jax.lax.fori_loop(bounds[0], bounds[1], body, carry)
            return result

        result: tuple[State, Metrics] = self._over_runs(advance)(carry, indices, keys)
        return result


def stack(trees: Sequence[Any]) -> Any:
    """Stack trees of equal structure and shapes along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
