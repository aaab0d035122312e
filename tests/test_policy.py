import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from safetrax.errors import ConfigError, DataError
from safetrax.nets.actors import DeterministicActor
from safetrax.nets.mlp import MLP
from safetrax.policy import Policies, Policy, RunId


def make_policy(seed: int = 0, hidden: int = 8) -> Policy:
    network = MLP.make(jax.random.key(seed), (3, hidden, 2), output="tanh", dropout_rate=0.25)
    actor = DeterministicActor(network, jnp.array([-1.0, 0.0]), jnp.array([1.0, 10.0]))
    return Policy(actor, RunId("TraC", "BallRun", 20.0, seed), {"note": "x"})


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
