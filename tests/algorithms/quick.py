"""Training that compiles in a fraction of the time, for tests that are repeated for every algorithm.

Nearly all their time goes into compiling, and half of that into JAX's own generator of random numbers. So they draw
from a simpler one, and XLA leaves most optimisations out. What the tests claim depends on neither.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend.random import define_prng_impl

from safetrax.training import train as train_module
from safetrax.training.program import Program


def _mixed(x: jax.Array) -> jax.Array:
    """MurmurHash3's last step: every bit of a number depends on all of them."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _numbers(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    count = jax.lax.iota(jnp.uint32, math.prod(shape)) + jnp.uint32(0x9E3779B9)
    return _mixed(_mixed(count) ^ key[0]).reshape(shape)


def _seed(seed: jax.Array) -> jax.Array:
    return _mixed(jnp.asarray(seed).astype(jnp.uint32) + jnp.uint32(0x9E3779B9))[None]


def _fold_in(key: jax.Array, data: jax.Array) -> jax.Array:
    return _mixed(key ^ _mixed(jnp.asarray(data).astype(jnp.uint32) + jnp.uint32(0x7F4A7C15)))


def _bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    assert width == 32
    return _numbers(_mixed(key + jnp.uint32(0x6A09E667)), shape)


_UNOPTIMISED = "jax_disable_most_optimizations"

HASH = define_prng_impl(
    key_shape=(1,),
    seed=_seed,
    split=lambda key, shape: _numbers(key, tuple(shape))[..., None],
    fold_in=_fold_in,
    random_bits=_bits,
    name="hash",
    tag="hash",
)

new_key = functools.partial(jax.random.key, impl=HASH)
"""`jax.random.key` with that generator."""


class _Program(Program):
    """Traces an update only once to know its metrics."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._metrics: dict[int, tuple[str, ...]] = {}

    def zero_metrics(self, stage: int, states: Any, store: Any, indices: Any) -> dict[str, jax.Array]:
        if stage not in self._metrics:
            self._metrics[stage] = tuple(super().zero_metrics(stage, states, store, indices))
        runs = jax.tree.leaves(states)[0].shape[0]
        return {name: jnp.zeros(runs) for name in self._metrics[stage]}


program = functools.cache(_Program)
"""One program for all trainings of an algorithm on data of the same sizes: it is compiled once."""


@contextlib.contextmanager
def quick() -> Iterator[pytest.MonkeyPatch]:
    """Inside, `train` uses `new_key` and `program`, and what is compiled is not optimised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "key", new_key)
        patch.setattr(train_module, "Program", program)
        before = jax.config.read(_UNOPTIMISED)
        jax.config.update(_UNOPTIMISED, True)
        try:
            yield patch
        finally:
            jax.config.update(_UNOPTIMISED, before)
