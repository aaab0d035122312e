import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from safetrax.errors import ConfigError, DataError
from safetrax.files import read_tensors
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import DeterministicActor, Standardised
from safetrax.policies.conditioned import ConditionedActor
from safetrax.policies.policy import Policies, Policy
from safetrax.run_id import RunId


def make_policy(seed: int = 0, hidden: int = 8) -> Policy:
    network = MLP.make(jax.random.key(seed), (3, hidden, 2), output="tanh", dropout_rate=0.25)
    actor = DeterministicActor(network, jnp.array([-1.0, 0.0]), jnp.array([1.0, 10.0]))
    return Policy(actor, RunId("TraC", "BallRun", 20.0, seed), {"note": "x"})


def make_conditioned(seed: int = 0, limit: float | None = 20.0) -> Policy:
    """A policy of three observations whose cost limit can be adjusted."""
    network = MLP.make(jax.random.key(seed), (4, 8, 2), output="tanh")
    actor = ConditionedActor(network, jnp.full(2, -1.0), jnp.ones(2), jnp.array(limit or 0.0))
    return Policy(actor, RunId("BC-Conditioned", "BallRun", limit, seed), {"note": "x"})


def test_round_trip_is_exact(tmp_path):
    policy = make_policy()
    restored = Policy.load(policy.save(tmp_path / "p.safetensors"))
    observations = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(policy.act(observations), restored.act(observations))
    assert restored.id == policy.id
    assert restored.metadata == policy.metadata


def test_one_observation_or_many(tmp_path):
    policy = make_policy()
    assert policy.act(np.zeros(3)).shape == (2,)
    policy.reset(4)
    assert policy.act(np.zeros((4, 3))).shape == (4, 2)
    with pytest.raises(ConfigError, match="got 3 observations for 4 episodes"):
        policy.act(np.zeros((3, 3)))


def test_actions_stay_within_their_bounds():
    policy = make_policy()
    policy.reset(100)
    actions = policy.act(100 * np.random.default_rng(0).standard_normal((100, 3)))
    assert actions[:, 1].min() >= 0
    assert actions[:, 1].max() <= 10
    assert actions[:, 1].max() > 5


def test_observing_before_acting_is_refused():
    with pytest.raises(ConfigError, match="observe was called before"):
        make_policy().observe(0.0, 0.0)


def test_stack_and_index():
    stacked = Policies.stack([make_policy(0), make_policy(1)])
    assert len(stacked) == 2
    np.testing.assert_array_equal(stacked[1].act(np.ones(3)), make_policy(1).act(np.ones(3)))
    assert [p.id.seed for p in stacked[:1]] == [0]
    with pytest.raises(ConfigError, match="differ in structure"):
        Policies.stack([make_policy(0), make_policy(1, hidden=9)])
    with pytest.raises(ConfigError, match="no policy"):
        Policies.stack([])


def test_run_ids_are_file_names():
    assert str(RunId("TraC", "BallRun", 20.0, 3)) == "TraC_limit-20_seed-3"
    assert str(RunId("BC-All", None, None, 0)) == "BC-All_seed-0"


def test_runs_that_hardly_differ_have_names_of_their_own():
    limits = (40.0, 40.00001, 40.00002, 12345678.0, 12345679.0, 0.1, 0.1 + 1e-12)
    seeds = (12345678, 12345679)
    assert len({str(RunId("TraC", None, limit, seed)) for limit in limits for seed in seeds}) == 14
    ids = {str(RunId("LSPC-S", None, 20.0, 0).adjusted(restriction=value)) for value in (0.1, 0.1000001, 0.1000002)}
    assert len(ids) == 3
    assert "LSPC-S@restriction=0.1_limit-20_seed-0" in ids


def test_a_policy_that_was_changed_since_is_refused(tmp_path):
    path = make_policy().save(tmp_path / "p.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="its content has changed since it was written"):
        Policy.load(path)


def test_fingerprints_tell_policies_of_one_name_apart():
    one = make_policy()
    assert one.fingerprint() == make_policy().fingerprint()
    assert one.fingerprint().startswith("TraC_limit-20_seed-0 ")
    other = Policy(make_policy(1).actor, one.id)
    assert other.fingerprint() != one.fingerprint()


def test_an_adjusted_id_says_what_was_changed():
    run = RunId("LSPC-S", "BallRun", 20.0, 3)
    assert run.adjusted() == run
    assert str(run.adjusted(restriction=0.1)) == "LSPC-S@restriction=0.1_limit-20_seed-3"
    assert str(run.adjusted(restriction=0.1, cost_limit=5)) == "LSPC-S@restriction=0.1_limit-5_seed-3"
    assert str(run.adjusted(a=1, b=2.50)) == "LSPC-S@a=1@b=2.5_limit-20_seed-3"
    assert str(RunId("BC-Conditioned", None, None, 0).adjusted(cost_limit=30)) == "BC-Conditioned_limit-30_seed-0"


def test_an_adjusted_policy_is_a_new_one():
    policy = make_conditioned()
    other = policy.adjusted(cost_limit=35.0)
    assert (policy.id.cost_limit, other.id.cost_limit) == (20.0, 35.0)
    assert (float(policy.actor.cost_limit), float(other.actor.cost_limit)) == (20.0, 35.0)
    assert other.metadata == policy.metadata
    expected = policy.actor.network(jnp.array([[1.0, 1.0, 1.0, 35.0]]))[0]
    np.testing.assert_allclose(other.act(np.ones(3)), expected, atol=1e-6)
    assert np.abs(policy.act(np.ones(3)) - expected).max() > 0


def test_stacked_policies_are_adjusted_alike():
    stacked = Policies.stack([make_conditioned(0), make_conditioned(1, limit=40.0)]).adjusted(cost_limit=5.0)
    assert [str(run) for run in stacked.ids] == ["BC-Conditioned_limit-5_seed-0", "BC-Conditioned_limit-5_seed-1"]
    for policy, seed in zip(stacked, (0, 1), strict=True):
        alone = make_conditioned(seed).adjusted(cost_limit=5.0)
        np.testing.assert_array_equal(policy.act(np.ones(3)), alone.act(np.ones(3)))


def test_what_cannot_be_adjusted_is_named():
    with pytest.raises(ConfigError, match=r"no adjustable 'restriction'; it has nothing\."):
        make_policy().adjusted(restriction=0.1)
    with pytest.raises(ConfigError, match=r"no adjustable 'restriction'; it has cost_limit\."):
        make_conditioned().adjusted(restriction=0.1)
    for value in (-0.1, np.inf, np.nan):
        with pytest.raises(ConfigError, match="but must lie between 0 and"):
            make_conditioned().adjusted(cost_limit=value)


def test_a_standardised_policy_is_adjusted_within():
    policy = make_conditioned()
    wrapped = Policy(Standardised(policy.actor, jnp.ones(3), jnp.full(3, 2.0)), policy.id)
    assert wrapped.actor.adjustable == policy.actor.adjustable
    other = wrapped.adjusted(cost_limit=7.0)
    expected = policy.adjusted(cost_limit=7.0).act(np.zeros(3))
    np.testing.assert_array_equal(other.act(np.ones(3)), expected)


@pytest.mark.parametrize("policy", [make_conditioned(), make_conditioned().adjusted(cost_limit=7.0)])
def test_single_numbers_keep_their_shape_in_a_file(tmp_path, policy):
    restored = Policy.load(policy.save(tmp_path / "p.safetensors"))
    assert restored.actor.cost_limit.shape == ()
    assert restored.id == policy.id
    np.testing.assert_array_equal(restored.act(np.ones(3)), policy.act(np.ones(3)))
    np.testing.assert_array_equal(
        restored.adjusted(cost_limit=3.0).act(np.ones(3)), policy.adjusted(cost_limit=3.0).act(np.ones(3))
    )


def test_files_that_are_no_policies_are_refused(tmp_path):
    with pytest.raises(DataError, match="no policy file"):
        Policy.load(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="damaged or not a policy"):
        Policy.load(tmp_path / "text")
    save_file({"x": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="not a policy of this version"):
        Policy.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("changes", "metadata"),
    [
        ({"algorithm": 0.5}, {}), ({"algorithm": ["a"]}, {}), ({"algorithm": "\ud800"}, {}), ({"task": 3}, {}),
        ({"cost_limit": "x"}, {}), ({"cost_limit": float("inf")}, {}), ({"cost_limit": 10**400}, {}),
        ({"seed": None}, {}), ({"seed": 0.5}, {}), ({"seed": {}}, {}),
        ({}, []), ({}, None), ({}, {"updates": "x"}), ({}, {"updates": True}),
    ],
)  # fmt: skip
def test_an_odd_name_or_metadata_of_a_policy_are_one_sentence(tmp_path, changes, metadata):
    path = make_policy().save(tmp_path / "p.safetensors")
    header, tensors = read_tensors(path)
    name = {**json.loads(header["id"]), **changes}
    save_file(tensors, path, {**header, "id": json.dumps(name), "metadata": json.dumps(metadata)})
    with pytest.raises(DataError, match=r"p\.safetensors is damaged or not a policy file \("):
        Policy.load(path)


@pytest.mark.parametrize(
    ("actor", "message"),
    [
        ('{"module": "Popen", "fields": {}}', "does not know"),
        ('{"module": "MLP", "fields": {}}', "fields of MLP"),
        ('{"tensor": "nowhere"}', "lacks the tensor"),
        ('{"value": 3}', "holds a int"),
        ('{"strange": 3}', "structure"),
    ],
)
def test_a_file_cannot_name_anything_but_the_librarys_own_modules(tmp_path, actor, message):
    header = {
        "format": "safetrax-policy",
        "version": "1",
        "id": '{"algorithm": "a", "task": null, "cost_limit": null, "seed": 0}',
        "actor": actor,
        "metadata": "{}",
    }
    save_file({"x": np.zeros(1)}, tmp_path / "p", metadata=header)
    with pytest.raises(DataError, match=message):
        Policy.load(tmp_path / "p")


@pytest.mark.parametrize("kind", ["plain", "standardised", "conditioned"])
def test_what_is_no_observation_of_the_policy_is_refused(kind: str):
    policy = make_conditioned() if kind == "conditioned" else make_policy()
    if kind == "standardised":
        policy = Policy(Standardised(policy.actor, jnp.zeros(3), jnp.ones(3)), policy.id)
    for observations, said in (
        (np.zeros(7), "_limit-20_seed-0 takes observations of 3 numbers, got 7"),
        (np.zeros((2, 1)), "takes observations of 3 numbers, got 1"),
        (3.0, "takes one observation .* got the shape"),
        (np.zeros((1, 1, 3)), "takes one observation .* got the shape"),
        (np.zeros((0, 3)), "takes one observation .* got the shape"),
        ({"position": np.zeros(3)}, "seed-0 does not say what observations are put together from, so pass a vector"),
        (["1", "2", "3"], "must be an array of numbers, got list"),
        ([[1.0], [2.0, 3.0]], "must be an array of numbers, got list"),
        ([0.0, np.nan, 0.0], r"must be finite in float32, got nan at \(1,\)"),
        ([0.0, 0.0, 1e300], r"must be finite in float32, got inf at \(2,\)"),
    ):
        with pytest.raises(ConfigError, match=said):
            policy.act(observations)
    assert policy.act([1, 2, 3]).shape == (2,)
    with pytest.raises(ConfigError, match=r"rewards must be finite"):
        policy.observe(np.nan, 0.0)
    with pytest.raises(ConfigError, match=r"got costs of the shape \(2,\) for 1 episodes"):
        policy.observe(0.0, [0.0, 1.0])
