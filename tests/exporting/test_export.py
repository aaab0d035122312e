"""Exported policies act as they did, whatever they are made of, and say what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from safetrax.algorithms.base import Spec
from safetrax.algorithms.registry import classes
from safetrax.cli.main import main
from safetrax.data import Trajectories, load
from safetrax.errors import ConfigError, DataError, RunError
from safetrax.exporting.export import export
from safetrax.exporting.graph import OPSET, TYPES, Graph
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import Actor, DeterministicActor
from safetrax.policies.policy import Policy
from safetrax.run_id import RunId
from safetrax.runtime import Runtime

_TRANSFORMER: dict[str, Any] = {"width": 16, "blocks": 2, "heads": 2}
# Of every kind of policy, one algorithm that makes it.
KINDS: dict[str, dict[str, Any]] = {
    "TraC": {"hidden": (16,)},
    "TraCConditioned": {"hidden": (16,), "limits": (10.0, 250.0)},
    "LSPC": {"hidden": (16,), "cvae_hidden": 16, "latent": 4},
    "FISOR": {"hidden": (16,), "width": 16, "blocks": 1, "candidates": 3, "diffusion_steps": 2},
    "BARS": {"hidden": (16,), "width": 16, "blocks": 1, "candidates": 3, "diffusion_steps": 2},
    "BCQLag": {"hidden": (16,), "cvae_hidden": 16},
    "CPQ": {"hidden": (16,), "cvae_hidden": 16},
    "CDT": {**_TRANSFORMER, "context": 4},
    "B2R": {**_TRANSFORMER, "context": 3},
}


@pytest.fixture(scope="module")
def log() -> Trajectories:
    return load("demo").select(range(0, 40, 2))


def untrained(name: str, data: Trajectories) -> Policy:
    """As it begins."""
    algorithm = classes()[name](**KINDS[name]).resolved(data)
    return Policy(algorithm.actor(algorithm.init(jax.random.key(0), Spec.of(data))), RunId(name, "BallRun", 20.0, 0))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_policy_acts_as_before(name, log, tmp_path):
    policy = untrained(name, log)
    found = export(policy, tmp_path / "policy.onnx", log)  # which compares them on the log, or refuses
    assert found.difference <= 1e-5
    assert found.compared == 16 * log.num_episodes
    runtime = Runtime(found.path)
    assert runtime.facts["policy"] == policy.id._asdict()
    assert runtime.facts["action_low"] == log.action_low.tolist()
    actions = runtime.act(log.observations[:5])
    assert actions.shape == (5, log.action_size)
    assert (actions >= log.action_low).all()
    assert (actions <= log.action_high).all()


@pytest.mark.parametrize("name", ["LSPC", "FISOR", "BCQLag"])
def test_noise_is_an_input_or_nothing(name, log, tmp_path):
    policy, observation = untrained(name, log), log.observations[0]
    noisy, still = (
        Runtime(export(policy, tmp_path / f"{quiet}.onnx", log, deterministic=quiet).path) for quiet in (False, True)
    )
    draws = [noisy.act(observation) for _ in range(3)]
    assert not np.array_equal(draws[0], draws[1])
    noisy.reset(seed=0)
    np.testing.assert_array_equal(noisy.act(observation), draws[0])
    calm = still.act(observation)
    np.testing.assert_array_equal(still.act(observation), calm)
    zeros = [np.zeros_like(values) for values in noisy.draw()]
    np.testing.assert_allclose(noisy.act(observation, noise=zeros), calm, atol=1e-6)


def test_an_episode_begins_anew(log, tmp_path):
    policy = untrained("CDT", log)
    runtime = Runtime(export(policy, tmp_path / "policy.onnx", log).path)
    first = runtime.act(log.observations[0])
    runtime.observe(5.0, 3.0)
    later = runtime.act(log.observations[0])
    assert not np.array_equal(first, later)
    runtime.reset()
    np.testing.assert_array_equal(runtime.act(log.observations[0]), first)


def test_a_file_that_acts_otherwise_is_not_written(log, tmp_path):
    class Other(DeterministicActor):
        """Acts otherwise whenever it is asked again, as nothing that is exported may."""

        def act(self, memory: Any, observations: Any, noise: Any) -> Any:
            times.append(1)
            return 0.1 * len(times) + self.network(observations), memory

    times: list[int] = []
    network = MLP((jnp.zeros((7, 2)),), (jnp.zeros(2),), "tanh", 0.0)
    policy = Policy(Other(network, -jnp.ones(2), jnp.ones(2)), RunId("Other", None, None, 0))
    path = tmp_path / "policy.onnx"
    with pytest.raises(RunError, match=r"policy.onnx is not written: exported, Other_seed-0 acts otherwise by up to"):
        export(policy, path, log)
    assert not path.exists()


def test_what_it_does_not_know_is_refused(log, tmp_path):
    class Sorting(Actor):
        """Of the observation's two least numbers."""

        def act(self, memory: Any, observations: Any, noise: Any) -> Any:
            return jnp.sort(observations, axis=1)[:, :2], memory

    with pytest.raises(ConfigError, match="computes 'sort', which export does not know"):
        export(Policy(Sorting(), RunId("Sorting", None, None, 0)), tmp_path / "policy.onnx", log)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, ::2] ** 3 - jnp.abs(x[:, ::2]),
        lambda x: jnp.einsum("nij,nkj->nik", x.reshape(-1, 2, 3), x.reshape(-1, 2, 3)),
        lambda x: jnp.repeat(x, 3, axis=0).reshape(-1, 3, 6).max(axis=1),
        lambda x: jnp.take_along_axis(x, jnp.argmax(x, axis=1)[:, None], axis=1),
        lambda x: jnp.where(jnp.any(x > 0.5, axis=1, keepdims=True), x, -x).sum(axis=0),
        lambda x: jnp.stack([*jnp.split(x, 2, axis=1)], axis=2),
        lambda x: jax.lax.scan(lambda c, k: (c * k + x, c.sum(1)), x, jnp.arange(3.0))[1],
        lambda x: jax.lax.scan(lambda c, k: (c - k, c), x, jnp.arange(3.0), reverse=True)[0],
        lambda x: jnp.arange(10.0)[(x > 0).astype(jnp.int32).sum(axis=1)],
        lambda x: jax.nn.softmax(x, axis=1) + jax.nn.gelu(x) + jax.lax.rsqrt(1 + x * x) + jax.nn.sigmoid(x),
        lambda x: jnp.logical_not(x != x.T[0][:, None]).astype(jnp.float32),
    ],
)
def test_functions_become_graphs(function):
    from jax import export as shapes

    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    n = shapes.symbolic_shape("n")[0]
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((n, 6), jnp.float32))
    graph = Graph("observations")
    (value,) = graph.run(closed.jaxpr, list(map(np.asarray, closed.consts)), ["observations"])
    graph.nodes.append(onnx.helper.make_node("Identity", [graph.name(value)], ["actions"]))
    kind = TYPES[np.dtype(np.float32)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "function",
            [onnx.helper.make_tensor_value_info("observations", kind, ["n", 6])],
            [onnx.helper.make_tensor_value_info("actions", kind, None)],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    for rows in (1, 5):
        (found,) = session.run(None, {"observations": x[:rows]})
        np.testing.assert_allclose(found, np.asarray(function(jnp.asarray(x[:rows]))), rtol=1e-5, atol=1e-6)


def test_the_runtime_imports_nothing_heavy(log, tmp_path):
    path = export(untrained("TraC", log), tmp_path / "policy.onnx", log).path
    code = (
        "import sys; from safetrax.runtime import Runtime; import numpy as np; "
        f"print(Runtime({str(path)!r}).act(np.zeros(7)).shape, "
        "sorted({'jax', 'equinox', 'h5py', 'pandas', 'onnx', 'rich', 'tyro'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split("\n")[0] == "(2,) []"


def test_odd_files_and_numbers_are_refused(log, tmp_path):
    path = export(untrained("TraC", log), tmp_path / "policy.onnx", log).path
    runtime = Runtime(path)
    for observations in (np.zeros(6), np.full(7, np.nan), np.zeros((2, 3, 7))):
        with pytest.raises(ConfigError, match="takes finite observations of 7 numbers"):
            runtime.act(observations)
    with pytest.raises(ConfigError, match="observe was called before"):
        runtime.observe(0, 0)
    runtime.reset(2)
    with pytest.raises(ConfigError, match=r"got 1 observations for 2 episodes; call reset\(1\) first"):
        runtime.act(np.zeros(7))
    with pytest.raises(DataError, match="no exported policy at"):
        Runtime(tmp_path / "none.onnx")
    whole = path.read_bytes()
    weight = bytearray(whole)
    weight[len(whole) // 2] ^= 1  # one bit of one number
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], b"\0" * 100, bytes(weight), whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"onnx (is no policy that safetrax export|has changed since it was) wr"):
            Runtime(path)


def test_the_command(tmp_path, capsys):
    run = str(tmp_path / "run")
    train = ["train", "bc-safe", "--data", "demo", "--cost-limits", "20", "--updates", "50", "--hidden", "16"]
    assert main([*train, "--no-evaluate", "--out", run]) == 0
    capsys.readouterr()
    assert main(["export", run, "--data", "demo"]) == 0
    out = capsys.readouterr().out
    path = Path(run) / "exported" / "BC-Safe_limit-20_seed-0.onnx"
    assert str(path.name) in out.replace("\n", "")
    facts = Runtime(path).facts
    assert facts["policy"]["cost_limit"] == 20
    assert "certificates" not in facts
    assert json.dumps(facts["training"])
    saved = Policy.load(next(Path(run).glob("policies/*.safetensors")))
    rows = load("demo").observations[:9]
    saved.reset(9)
    np.testing.assert_allclose(Runtime(path).act(rows), saved.act(rows), atol=1e-5)
    assert main(["export", "--data", "demo"]) == 2
    assert main(["export", run, "--data", "demo", "--tolerance", "0"]) == 2
    assert "--tolerance is 0, but must lie between 0 and 1." in capsys.readouterr().err
