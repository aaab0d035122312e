"""Twenty updates of TraC and of LSPC against numbers of their authors' code: same weights, batches and noise.

In double precision, whatever the processor. In single precision the step of optax's Adam is off by 1e-5 at first, for
1 - 0.999^t is computed in float32, and after twenty updates some ReLU has switched for another row.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Key

from safetrax.algorithms.base import Spec
from safetrax.algorithms.learners import ActionBounds, Learner, Tracked
from safetrax.algorithms.lspc import LSPC, LSPCState
from safetrax.algorithms.trac import TraC, TraCState
from safetrax.data.loading import load
from safetrax.data.store import TRANSITION_FIELDS, SegmentBatch, SegmentIndex, Store
from safetrax.data.trajectories import Trajectories
from safetrax.nets.cvae import CVAE, Decoder
from safetrax.nets.ensemble import Ensemble
from safetrax.nets.mlp import MLP
from safetrax.policies.latent import LatentEncoder

GOLDEN = Path(__file__).parent / "golden"
ROWS = jnp.asarray([50, 3120, 6260, 9390])
LAYERS = tuple[tuple[np.ndarray, np.ndarray], ...]


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="module")
def demo() -> Trajectories:
    return load("demo")


def store_of(demo: Trajectories) -> Store:
    def wide(leaf: jax.Array) -> jax.Array:
        return leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf

    return jax.tree.map(wide, Store.make(demo, TRANSITION_FIELDS))


def layer(rng: np.random.Generator, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    weight = (rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)).astype(np.float32)
    bias = (0.1 * rng.standard_normal(outputs)).astype(np.float32)
    return weight, bias + np.float32(0.5 if outputs == 1 else 0)


def layers(rng: np.random.Generator, *sizes: int, heads: int = 1) -> LAYERS:
    """Weights and biases in the order of drawing; `heads` last layers stand side by side in one."""
    hidden = [layer(rng, *pair) for pair in itertools.pairwise(sizes[:-1])]
    last = [layer(rng, *sizes[-2:]) for _ in range(heads)]
    return (*hidden, tuple(np.concatenate(part, axis=-1) for part in zip(*last, strict=True)))


def network(drawn: LAYERS, output: str = "identity") -> MLP:
    weights, biases = (tuple(jnp.asarray(x, jnp.float64) for x in part) for part in zip(*drawn, strict=True))
    return MLP(weights, biases, output, 0.0)


class Fixed(SegmentIndex):
    """Every batch is all windows."""

    def sample(self, key: Key[Array, ""], size: int) -> SegmentBatch:
        return SegmentBatch(self.starts, jnp.full(size, self.length, jnp.int32), self.weight, self.desirable)


def test_trac(demo):
    golden = json.loads((GOLDEN / "trac.json").read_text())
    rng = np.random.default_rng(2024)
    drawn = layers(rng, 7, 256, 256, 2)
    moved = tuple(
        tuple((part + 0.03 * rng.standard_normal(part.shape)).astype(np.float32) for part in pair) for pair in drawn
    )
    algorithm = TraC(
        segment_ratio=0.5, dropout=0.0, batch_size=64, updates=20, learning_rate=1e-4, warmup=0, temperature=0.2
    )
    i, store = np.arange(64), store_of(demo)
    index = Fixed(
        starts=jnp.asarray(400 * i + 3 * i % 50, jnp.int32),
        weight=jnp.asarray(0.7 + 0.3 * i / 63),
        desirable=jnp.asarray(i % 3 == 0),
        first=jnp.asarray([0, 64], jnp.int32),
        cumulative=jnp.ones(1, jnp.float32),
        steps=jnp.asarray([50], jnp.int32),
        desirable_share=jnp.float32(22 / 64),
        length=50,
    )
    reference = TraCState(
        Learner.make(network(drawn, "tanh"), optax.adam(1e-4)), ActionBounds.of(Spec.of(demo)), None
    )
    state = algorithm._freeze_reference(reference, store, index, jax.random.key(0))
    learner = Learner.make(network(moved, "tanh"), algorithm._optimiser())
    state = TraCState(learner, state.bounds, state.reference_log_prob)
    update = jax.jit(algorithm._classify)
    for k in range(20):
        state, metrics = update(state, store, index, jax.random.key(k))
        assert float(metrics["loss"]) == pytest.approx(golden["loss"][k], rel=1e-5)
        assert float(metrics["distance"]) == pytest.approx(golden["distance"][k], rel=1e-5)
        assert float(metrics["accuracy"]) == golden["accuracy"][k]
    means = state.network(store.observations[ROWS])
    np.testing.assert_allclose(means, golden["policy_mean"], rtol=0, atol=1e-5)


def lspc_state(algorithm: LSPC, rng: np.random.Generator, demo: Trajectories) -> LSPCState:
    adam = optax.adam(3e-4)
    hidden, latent = (256, 256), 32

    def critic() -> Tracked[Ensemble]:
        return Tracked.make(Ensemble(tuple(network(layers(rng, 9, *hidden, 1)) for _ in range(2))), adam)

    reward_critic, cost_critic = critic(), critic()
    reward_value, cost_value = (Learner.make(network(layers(rng, 7, *hidden, 1)), adam) for _ in range(2))
    encoder = network(layers(rng, 9, *hidden, latent, heads=2))
    cvae = CVAE(encoder, Decoder(network(layers(rng, 7 + latent, *hidden, 2))))
    return LSPCState(
        reward_critic=reward_critic,
        reward_value=reward_value,
        cost_critic=cost_critic,
        cost_value=cost_value,
        cvae=Learner.make(cvae, adam),
        encoder=Learner.make(LatentEncoder(network(layers(rng, 7, *hidden, latent, heads=2))), adam),
        bounds=ActionBounds.of(Spec.of(demo)),
    )


def test_lspc(demo, monkeypatch):
    golden = json.loads((GOLDEN / "lspc.json").read_text())
    rng = np.random.default_rng(2024)
    algorithm = replace(LSPC.preset("bullet", "BallRun"), clip_stops_gradient=True)
    state, store = lspc_state(algorithm, rng, demo), store_of(demo)

    @jax.jit
    def update(state, rows, noise):
        draws = iter(noise)  # the CVAE's, then the latent encoder's
        monkeypatch.setattr(jax.random, "normal", lambda *_: next(draws))
        return algorithm._learn(state, store.transitions(rows), jax.random.key(0))

    def probes(state: LSPCState) -> dict[str, jax.Array]:
        observations = store.observations[ROWS]
        pairs = jnp.concatenate([observations, store.actions[ROWS]], axis=-1)
        return {
            "reward_value": state.reward_value.network(observations)[:, 0],
            "cost_value": state.cost_value.network(observations)[:, 0],
            "reward_critic_target": state.reward_critic.target.min(pairs),
            "cost_critic_target": state.cost_critic.target.max(pairs),
            "decoded_at_zero": state.cvae.network.decoder(observations, jnp.zeros((4, 32))),
            "latent_mean": state.encoder.network.moments(observations)[0][:, :4],
        }

    for k in range(21):
        if k:
            rows = jnp.asarray((37 * np.arange(256) + 1009 * k) % demo.num_transitions)
            noise = [jnp.asarray(rng.standard_normal((256, 32)).astype(np.float32), jnp.float64) for _ in range(2)]
            state, metrics = update(state, rows, noise)
        expected = golden.get(str(k), {})
        for name, value in expected.pop("metrics", {}).items():
            assert float(metrics[name]) == pytest.approx(value, rel=1e-5), (k, name)
        for name, value in expected.items():
            np.testing.assert_allclose(probes(state)[name], value, rtol=0, atol=1e-5, err_msg=f"{name} after {k}")
