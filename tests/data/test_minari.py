"""Minari data sets in both directions."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from safetrax.data import Trajectories, load, to_minari, validate
from safetrax.errors import ConfigError, DataError, RunError
from safetrax.spaces import Part, parts_of

LENGTHS = (3, 1, 4)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari asks for an author, an algorithm and so on
        yield


def data_set(**options: Any) -> Trajectories:
    """Episodes whose next observations are what is observed next."""
    rng = np.random.default_rng(0)
    episodes = []
    for i, n in enumerate(LENGTHS):
        observations = rng.standard_normal((n + 1, 3))
        episodes.append(
            {
                "observations": observations[:-1],
                "next_observations": observations[1:],
                "actions": rng.uniform(-1, 1, (n, 2)),
                "rewards": rng.standard_normal(n),
                "costs": rng.uniform(0, 2, n),
                "terminated": i % 2 == 0,
                "truncated": i % 3 == 1,
            }
        )
    return Trajectories.from_episodes(episodes, **{"action_low": [-1, -2.5], "action_high": [1 / 3, 7], **options})


def make(
    name: str = "robot/x-v0",
    *,
    observation_space: Any = None,
    action_space: Any = None,
    reset_cost: bool = False,
    **changes: Any,
) -> str:
    """A data set as somebody else may have made it; the arguments of `load` for it."""
    buffers = []
    for n in LENGTHS:
        episode = {
            "observations": np.arange(3.0 * (n + 1)).reshape(n + 1, 3),
            "actions": np.full((n, 2), 0.5),
            "rewards": np.arange(float(n)),
            "terminations": [False] * n,
            "truncations": [False] * (n - 1) + [True],
            "infos": {"cost": np.arange(float(n + reset_cost)), "speed": np.zeros(n)},
        }
        episode |= {key: change(n) for key, change in changes.items()}
        buffers.append(EpisodeBuffer(**episode))
    minari.create_dataset_from_buffers(
        name,
        buffers,
        observation_space=observation_space or spaces.Box(-9, 9, (3,)),
        action_space=action_space or spaces.Box(-1, 2, (2,)),
    )
    return f"minari:{name}"


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_round_trip_is_bitwise(data_format: str, root: Path) -> None:
    data = data_set()
    folder = to_minari(data, "robot/x-v0", data_format=data_format, author="me")
    assert folder == root / "robot/x-v0"
    back = load("minari:robot/x-v0", next_observations=True)
    assert back.fingerprint() == data.fingerprint()
    assert load("minari:robot/x-v0").next_observations is None
    assert minari.load_dataset("robot/x-v0").storage.metadata["author"] == {"me"}


def test_there_and_back_without_a_warning() -> None:
    warnings.simplefilter("error")
    to_minari(data_set(), "robot/x-v0")
    assert load("minari:robot/x-v0").num_episodes == len(LENGTHS)


@pytest.mark.parametrize("costs", [True, False])
def test_labels_and_costs_for_scores_only_are_kept_and_costs_may_be_absent(costs: bool) -> None:
    data = replace(data_set(), labels=np.resize(np.int8([1, -1, 0]), len(LENGTHS)))
    data = replace(data, costs=data.costs if costs else None, hidden_costs=None if costs else data.costs)
    to_minari(data, "robot/x-v0")
    assert load("minari:robot/x-v0", next_observations=True).fingerprint() == data.fingerprint()


@pytest.mark.parametrize("infos", [{"speed": np.zeros}, {}])
def test_a_data_set_without_costs(infos: dict[str, Any]) -> None:
    data = load(make(infos=lambda n: {name: fill(n) for name, fill in infos.items()} or None))
    assert data.costs is None
    assert data.info.get("unused_columns", []) == list(infos)


def test_the_last_observation_stands_for_one_that_was_not_logged() -> None:
    data = load("demo").select(range(3))
    to_minari(data, "robot/x-v0")
    back = load("minari:robot/x-v0", next_observations=True)
    assert back.next_observations is not None
    assert load("minari:robot/x-v0").fingerprint() == data.fingerprint()
    np.testing.assert_array_equal(
        back.next_observations[:-1][~data.truncated[:-1]], data.observations[1:][~data.truncated[:-1]]
    )
    np.testing.assert_array_equal(back.next_observations[data.truncated], data.observations[data.truncated])


def test_files_that_name_other_files_are_refused(root: Path) -> None:
    """Minari would follow them: the rewards changed, and the recorded hash did not."""
    to_minari(data_set(), "robot/x-v0")
    main = root / "robot/x-v0/data/main_data.hdf5"
    with h5py.File(main, "a") as file, h5py.File(root / "other.hdf5", "w") as other:
        other["rewards"] = file["episode_0/rewards"][()]
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = h5py.ExternalLink(str(root / "other.hdf5"), "rewards")
    assert "episode_0/rewards is a link to" in refusal("minari:robot/x-v0")


def test_the_data_file_alone(root: Path) -> None:
    to_minari(data_set(), "robot/x-v0")
    main = root / "robot/x-v0/data/main_data.hdf5"
    message = refusal(main)
    assert "this is only the data file of a Minari data set; pass the folder" in message
    assert message.endswith(f"as {main.parent}.")


def test_minari_reads_what_is_written() -> None:
    data = data_set()
    to_minari(data, "robot/x-v0")
    episodes = list(minari.load_dataset("robot/x-v0").iterate_episodes())
    assert [len(episode) for episode in episodes] == list(LENGTHS)
    np.testing.assert_array_equal(episodes[2].observations[:-1], data.episode(2)["observations"])
    np.testing.assert_array_equal(episodes[2].observations[1:], data.episode(2)["next_observations"])
    np.testing.assert_array_equal(episodes[2].infos["cost"], [0, *data.episode(2)["costs"]])
    np.testing.assert_array_equal(episodes[0].terminations, [0, 0, 1])


def test_what_is_known_of_it(root: Path) -> None:
    to_minari(data_set(), "robot/x-v0")
    folder = root / "robot/x-v0"
    digest = hashlib.sha256((folder / "data/main_data.hdf5").read_bytes()).hexdigest()
    assert load("minari:robot/x-v0").info == {
        "source": "minari:robot/x-v0",
        "sha256": digest,
        "task": None,
        "tail_rows_dropped": 0,
    }
    assert load(folder).info["source"] == "x-v0"
    assert load(folder / "data").fingerprint() == load(folder, task="BallRun").fingerprint()


def test_the_environment_names_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gymnasium.envs.registration.EnvSpec("SafetyBallRun-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    monkeypatch.setitem(gymnasium.registry, "SafetyBallRun-v0", spec)
    to_minari(data_set(), "ball/run-v0", env_id="SafetyBallRun-v0")
    assert load("minari:ball/run-v0").info["task"] == "BallRun"
    assert load("minari:ball/run-v0", task="CarRun").info["task"] == "CarRun"


@pytest.mark.parametrize("reset_cost", [False, True])
def test_costs_with_and_without_that_of_the_reset(reset_cost: bool) -> None:
    costs = load(make(reset_cost=reset_cost)).costs
    np.testing.assert_array_equal(costs, np.concatenate([np.arange(n) + reset_cost for n in LENGTHS]))


def test_the_box_is_that_of_the_action_space() -> None:
    source = make()
    np.testing.assert_array_equal(load(source).action_high, [2, 2])
    np.testing.assert_array_equal(load(source, action_high=3).action_high, [3, 3])
    unbounded = load(make("robot/y-v0", action_space=spaces.Box(-np.inf, np.inf, (2,))))
    assert any("pass finite bounds" in finding.message for finding in validate(unbounded))


def test_composite_spaces_are_flattened_as_gymnasium_does() -> None:
    space = spaces.Dict(
        {
            "z": spaces.Box(-9, 9, (2, 2), np.float64),
            "a": spaces.Tuple((spaces.Box(-9, 9, (1,)), spaces.Box(0, 9, (2,), np.int64))),
        }
    )
    space.seed(0)
    steps = {n: [space.sample() for _ in range(n + 1)] for n in LENGTHS}
    observations = {
        n: {
            "z": np.stack([step["z"] for step in rows]),
            "a": tuple(np.stack([step["a"][i] for step in rows]) for i in range(2)),
        }
        for n, rows in steps.items()
    }
    data = load(make(observation_space=space, observations=observations.__getitem__))
    flat = [spaces.flatten(space, step) for n in LENGTHS for step in steps[n][:-1]]
    np.testing.assert_array_equal(data.observations, np.float32(flat))


def test_choices_are_one_hot_and_the_parts_are_known() -> None:
    space = spaces.Dict({"on": spaces.MultiBinary(2), "gear": spaces.Discrete(3, start=1)})
    gears = {n: 1 + np.arange(n + 1) % 3 for n in LENGTHS}
    data = load(
        make(
            observation_space=space,
            observations=lambda n: {"gear": gears[n], "on": np.tile(np.int8([0, 1]), (n + 1, 1))},
        )
    )
    assert data.observations[:3].tolist() == [[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 1, 0, 1]]
    assert data.info["observation_names"] == ["gear[0]", "gear[1]", "gear[2]", "on[0]", "on[1]"]
    assert parts_of(data.info["observation_parts"]) == (Part("gear", (), (3,), (1,)), Part("on", (2,)))


def test_actions_that_are_choices() -> None:
    data = load(make(action_space=spaces.Discrete(3), actions=lambda n: np.arange(n) % 3))
    assert data.action_choices == 3
    assert data.actions[:3].tolist() == np.eye(3).tolist()
    to_minari(data, "robot/y-v0")
    back = load("minari:robot/y-v0")
    assert (back.fingerprint(), back.action_choices) == (data.fingerprint(), 3)


def test_wide_actions() -> None:
    space = spaces.Box(-1, 2, (2, 2))
    data = load(make(action_space=space, actions=lambda n: np.arange(4.0 * n).reshape(n, 2, 2) / 20))
    assert data.action_size == 4
    np.testing.assert_array_equal(data.actions[1], np.float32([4, 5, 6, 7]) / np.float32(20))


def refusal(source: str | Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"infos": lambda n: {"cost": np.zeros(n)} if n > 3 else {}}, "only some episodes have cost in their infos"),
        ({"infos": lambda n: {"label": np.full(n, 3)}}, "a cell of column label is '3', which is no label"),
        ({"infos": lambda n: {"label": np.arange(n) % 2}}, "episode 0 is labelled both safe and unknown"),
        ({"infos": lambda n: {"cost": np.zeros(n + 2)}}, "episode 0: costs has 5 entries, but there are 3 steps"),
        ({"observations": lambda n: np.zeros((n, 3))}, "there are 3 observations, but 3 steps need 4"),
        ({"actions": lambda n: np.zeros((n + 1, 2))}, "actions has 4 entries, but there are 3 steps"),
        ({"terminations": lambda n: [True] + [False] * (n - 1)}, "terminated or truncated is set in row 0"),
        (
            {"action_space": spaces.Discrete(3, start=1), "actions": lambda n: np.ones(n, int)},
            "actions come from the space Discrete(3, start=1); number the choices from 0",
        ),
        (
            {"action_space": spaces.MultiBinary(3), "actions": lambda n: np.zeros((n, 3), np.int8)},
            "actions come from the space MultiBinary(3), but only Discrete, boxes",
        ),
        (
            {
                "observation_space": spaces.Dict({"x": spaces.Text(3)}),
                "observations": lambda n: {"x": ["no"] * (n + 1)},
            },
            "the observations, x, come from the space Text(",
        ),
        (
            {
                "observation_space": spaces.Box(0, 255, (4, 6, 3), np.uint8),
                "observations": lambda n: np.zeros((n + 1, 4, 6, 3), np.uint8),
            },
            "the observations are pictures (4 x 6 x 3), and no network here sees pictures; encode each to a vector",
        ),
    ],
)
def test_faults(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(make(**changes))


def test_a_data_set_that_is_not_there(root: Path) -> None:
    message = refusal("minari:robot/x-v0")
    assert f"there is no Minari data set 'robot/x-v0' in {root}; minari download robot/x-v0 fetches" in message


def test_a_damaged_data_set(root: Path) -> None:
    to_minari(data_set(), "robot/x-v0")
    metadata = root / "robot/x-v0/data/metadata.json"
    good = metadata.read_text()
    metadata.write_text(json.dumps({**json.loads(good), "minari_version": "0.0.1"}))
    assert "Minari cannot read it (The installed Minari version" in refusal("minari:robot/x-v0")
    for text in ("{", "[" * 100_000, "[]", json.dumps({**json.loads(good), "total_episodes": 10**12})):
        metadata.write_text(text)
        assert "metadata.json cannot be used" in refusal("minari:robot/x-v0")
    metadata.write_text(good)
    main = metadata.with_name("main_data.hdf5")
    main.write_bytes(main.read_bytes()[:3000])
    assert str(root) in refusal("minari:robot/x-v0")


def test_no_episodes(root: Path) -> None:
    minari.create_dataset_from_buffers(
        "robot/x-v0", [], observation_space=spaces.Box(-9, 9, (3,)), action_space=spaces.Box(-1, 1, (2,))
    )
    assert "the data set has no steps" in refusal("minari:robot/x-v0")


def test_another_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert "is a folder; pass one of the HDF5 files in it" in refusal(tmp_path / "runs")


def test_what_minari_cannot_hold() -> None:
    data = data_set()
    other = np.array(data.next_observations)
    other[5, 1] += 1
    with pytest.raises(DataError, match="next_observations of row 5 are not the observations of the next row"):
        to_minari(replace(data, next_observations=other), "robot/x-v0")
    other = np.array(data.next_observations)
    other[2] += 1  # after the end of an episode anything may come
    to_minari(replace(data, next_observations=other), "robot/x-v0")


@pytest.mark.parametrize("name", ["", "x", "robot x-v0", "../x-v0"])
def test_names_that_are_none(name: str, root: Path) -> None:
    with pytest.raises(ConfigError, match="is no name for a Minari data set; give one such as ball/run-v0"):
        to_minari(data_set(), name)


def test_a_name_that_is_taken(root: Path) -> None:
    to_minari(data_set(), "robot/x-v0")
    before = load("minari:robot/x-v0").info
    with pytest.raises(ConfigError, match="there is a Minari data set robot/x-v0 already"):
        to_minari(data_set(), "robot/x-v0")
    assert load("minari:robot/x-v0").info == before


def test_an_environment_that_is_not_registered(root: Path) -> None:
    with pytest.raises(ConfigError, match="Gymnasium knows no environment 'Robot-v7'"):
        to_minari(data_set(), "robot/x-v0", env_id="Robot-v7")


@pytest.mark.parametrize(
    ("error", "kind"), [(OSError(28, "No space left on device"), RunError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_half_a_data_set_is_removed(
    error: BaseException, kind: type[BaseException], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        assert (root / "robot/x-v0/data/metadata.json").exists()
        raise error

    monkeypatch.setattr("minari.dataset._storages.hdf5_storage.HDF5Storage.update_episodes", fail)
    with pytest.raises(kind):
        to_minari(data_set(), "robot/x-v0")
    assert not (root / "robot/x-v0").exists()


def test_without_minari(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_minari(data_set(), "robot/x-v0")
    monkeypatch.setitem(sys.modules, "minari", None)
    words = 'needs the package minari: pip install "safetrax[minari]".'
    assert refusal("minari:robot/x-v0").endswith(words)
    with pytest.raises(DataError, match="writing a Minari data set needs the package minari"):
        to_minari(data_set(), "robot/y-v0")
