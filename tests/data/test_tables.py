"""Logs with named columns: which column is what, in which order the rows are, and every fault in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetrax.data import Trajectories, check, from_pandas, load, to_pandas, write_parquet
from safetrax.data.formats.tables import sidecar_path
from safetrax.errors import DataError

ROLES = {
    "observations": ["speed", "gap"],
    "actions": ["throttle"],
    "reward": "progress",
    "cost": "collision",
    "episode": "drive",
}


def log(**changes: Any) -> pd.DataFrame:
    """Two drives of three and two rows, columns called as somebody may call them; None leaves one out."""
    columns = {
        "note": list("abcde"),
        "drive": ["x", "x", "x", "y", "y"],
        "gap": [5, 4, 3, 9, 8],
        "speed": [0.5, 1.5, 2.5, 3.5, 4.5],
        "throttle": np.float32([0.1, 0.2, 0.3, 0.4, 0.5]),
        "progress": [1, 2, 3, 4, 5],
        "collision": [False, True, False, False, True],
        **changes,
    }
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def usual(**changes: Any) -> pd.DataFrame:
    """The same under usual names."""
    columns = {"note": "remark", "drive": "episode", "speed": "obs_0", "gap": "obs_1", "throttle": "action_0"}
    return log().rename(columns={**columns, "progress": "reward", "collision": "cost"}).assign(**changes)


def save(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


def through_file(suffix: str) -> Callable[..., Trajectories]:
    def read(frame: pd.DataFrame, folder: Path, **roles: Any) -> Trajectories:
        return load(save(frame, folder / f"log{suffix}"), columns=roles)

    return read


def in_memory(frame: pd.DataFrame, _: Path, **roles: Any) -> Trajectories:
    return from_pandas(frame, **roles)


every_way = pytest.mark.parametrize(
    "read", [in_memory, through_file(".parquet"), through_file(".csv")], ids=["pandas", "parquet", "csv"]
)
Read = Callable[..., Trajectories]


@every_way
def test_named_columns(read: Read, tmp_path: Path) -> None:
    data = read(log(), tmp_path, **ROLES)
    np.testing.assert_array_equal(data.observations, [[0.5, 5], [1.5, 4], [2.5, 3], [3.5, 9], [4.5, 8]])
    np.testing.assert_array_equal(data.actions, np.float32([[0.1], [0.2], [0.3], [0.4], [0.5]]))
    np.testing.assert_array_equal(data.rewards, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(data.costs, [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(data.offsets, [0, 3, 5])
    np.testing.assert_array_equal(data.truncated, [0, 0, 1, 0, 1])
    assert data.info["observation_names"] == ["speed", "gap"]
    assert data.info["action_names"] == ["throttle"]


@every_way
def test_usual_names(read: Read, tmp_path: Path) -> None:
    data = read(usual(), tmp_path)
    assert data.fingerprint() == read(log(), tmp_path, **ROLES).fingerprint()
    assert "observation_names" not in data.info
    assert "action_names" not in data.info


@every_way
@pytest.mark.parametrize(
    ("names", "sizes", "features"),
    [
        (["obs_0", "obs_1", "action_0"], (2, 1), None),
        (["observation.y", "observation.x", "action"], (2, 1), ["x", "y"]),
        (["observations_1", "observations_2", "actions_9"], (2, 1), ["1", "2"]),
        (["observation", "action_0", "action_1"], (1, 2), None),
    ],
)
def test_spellings(
    read: Read, names: list[str], sizes: tuple[int, int], features: list[str] | None, tmp_path: Path
) -> None:
    renamed = dict(zip(["speed", "gap", "throttle"], names, strict=True))
    data = read(log().rename(columns=renamed), tmp_path, episode="drive", reward="progress", cost="collision")
    assert (data.observation_size, data.action_size) == sizes
    assert data.info.get("observation_names") == features


def test_numbered_columns_are_ordered_by_number() -> None:
    shuffled = {f"obs_{i}": np.full(5, i) for i in np.random.default_rng(0).permutation(12)}
    data = from_pandas(usual(**shuffled))
    np.testing.assert_array_equal(data.observations[0], range(12))
    pattern = from_pandas(
        usual(**shuffled).rename(columns=lambda name: name.replace("obs_", "x[")), observations="x[*"
    )
    np.testing.assert_array_equal(pattern.observations, data.observations)


def test_columns_that_are_called_by_numbers() -> None:
    frame = pd.DataFrame(np.arange(15.0).reshape(5, 3)).assign(reward=1, cost=0, episode=7)
    data = from_pandas(frame, observations=["1", "0"], actions="2")
    np.testing.assert_array_equal(data.observations[1], [4, 3])


@every_way
def test_flags_alone_end_episodes(read: Read, tmp_path: Path) -> None:
    data = read(usual(terminated=[0, 1, 0, 0, 0], timeouts=[False] * 4 + [True]).drop(columns="episode"), tmp_path)
    np.testing.assert_array_equal(data.offsets, [0, 2, 5])
    np.testing.assert_array_equal(data.terminated, [0, 1, 0, 0, 0])


@every_way
def test_flags_beside_episodes(read: Read, tmp_path: Path) -> None:
    data = read(usual(terminated=[0, 0, 1, 0, 0]), tmp_path)
    np.testing.assert_array_equal(data.terminated, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(data.truncated, [0, 0, 0, 0, 1])


@every_way
def test_next_observations(read: Read, tmp_path: Path) -> None:
    frame = usual(next_obs_0=[1.5, 2.5, 9, 4.5, 9], next_obs_1=[4, 3, 9, 8, 9])
    assert read(frame, tmp_path).next_observations is None
    if read is in_memory:
        data = from_pandas(frame, next_observations=True)
        assert from_pandas(frame, next_observations=["next_obs_0", "next_obs_1"]).fingerprint() == data.fingerprint()
    else:
        data = load(next(tmp_path.iterdir()), next_observations=True)
    np.testing.assert_array_equal(data.next_observations, frame[["next_obs_0", "next_obs_1"]])


# the order of rows


@every_way
@pytest.mark.parametrize("steps", [[0, 1, 2, 0, 1], [-3, 0.5, 7, 1e9, 2e9]])
def test_rows_are_put_in_order(read: Read, steps: list[float], tmp_path: Path) -> None:
    frame = usual(step=steps)
    shuffled = frame.iloc[[1, 4, 0, 2, 3]]
    assert read(shuffled, tmp_path).fingerprint() == read(frame, tmp_path).fingerprint()


@pytest.mark.parametrize("read", [in_memory, through_file(".parquet")])
@pytest.mark.parametrize("unit", ["s", "ns"])
def test_rows_are_ordered_by_time(read: Read, unit: str, tmp_path: Path) -> None:
    times = np.datetime64("2024-05-01T12:00:00", unit) + np.arange(5)  # a float64 cannot tell these ns apart
    frame = usual(time=times)
    shuffled = frame.iloc[[1, 4, 0, 2, 3]]
    assert read(shuffled, tmp_path, step="time").fingerprint() == read(frame, tmp_path).fingerprint()


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(30)))
def test_any_order_of_rows(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    episode = np.repeat([3, 1, 2], 10)
    frame = pd.DataFrame({"episode": episode, "step": np.tile(np.arange(10), 3)})
    frame = frame.assign(reward=rng.standard_normal(30), cost=0.0, action=0.0)
    frame = frame.assign(**{f"obs_{i}": rng.standard_normal(30) for i in range(20)})
    data, straight = from_pandas(frame.iloc[list(order)]), from_pandas(frame)
    first = list(dict.fromkeys(episode[list(order)]))  # episodes come in the order in which they begin
    same = straight.select([[3, 1, 2].index(label) for label in first])
    assert data.fingerprint() == same.fingerprint()


@every_way
def test_an_episode_that_comes_back(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"episode x comes back in row 4, after episode y began; sort the rows"):
        read(usual(episode=list("xxyyx")), tmp_path)


@every_way
def test_a_step_twice(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"episode y has step 7 twice, in rows 3 and 4"):
        read(usual(step=[1, 2, 3, 7, 7]), tmp_path)


@pytest.mark.parametrize(
    "labels",
    [[2.5] * 3 + [-1.0] * 2, [True] * 3 + [False] * 2, pd.Categorical(list("bbbaa")), [2**60] * 3 + [2**60 + 1] * 2],
)
@pytest.mark.parametrize("read", [in_memory, through_file(".parquet")])
def test_labels_of_any_type(read: Read, labels: Any, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(usual(episode=labels), tmp_path).offsets, [0, 3, 5])


def test_labels_of_a_csv_that_begin_as_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetrax.data.formats.table_sources._BLOCK", 64)
    path = save(usual(episode=["1", "1", "1", "x1", "x1"]), tmp_path / "log.csv")
    np.testing.assert_array_equal(load(path).offsets, [0, 3, 5])
    path = save(usual(episode=["1", "x1", "x1", "1", "1"]), tmp_path / "log.csv")
    with pytest.raises(DataError, match="episode 1 comes back in row 3"):
        load(path)


# what cells may hold


@every_way
@pytest.mark.parametrize("values", [[True, False, True, False, True], [1, 2, 3, 4, 5], [0.1, 1e-3, -2.5, 3, 4]])
def test_kinds_of_numbers(read: Read, values: list[Any], tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(usual(obs_1=values), tmp_path).observations[:, 1], np.float32(values))


@pytest.mark.parametrize("read", [in_memory, through_file(".parquet")])
@pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean", "uint8", "float16", "int64[pyarrow]", "object"])
def test_pandas_own_types(read: Read, dtype: str, tmp_path: Path) -> None:
    values = pd.Series([1, 0, 1, 1, 0]).astype(dtype)
    np.testing.assert_array_equal(read(usual(obs_1=values), tmp_path).observations[:, 1], [1, 0, 1, 1, 0])


def test_decimals_of_a_parquet_file(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(usual()).drop_columns("cost")
    costs = pa.array([0, 1, 0, 0, 1]).cast(pa.decimal128(21, 2))
    pq.write_table(table.append_column("cost", costs), tmp_path / "log.parquet")
    np.testing.assert_array_equal(load(tmp_path / "log.parquet").costs, [0, 1, 0, 0, 1])


@every_way
@pytest.mark.parametrize("column", ["obs_1", "reward", "cost", "episode", "step", "truncated"])
def test_an_empty_cell(read: Read, column: str, tmp_path: Path) -> None:
    frame = usual(step=[1, 2, 3, 4, 5], truncated=[0] * 5).astype(object)
    frame.loc[3, column] = None
    kind = str if column == "episode" else float
    frame[column] = pd.array([None if v is None else kind(v) for v in frame[column]])
    for other in frame.columns.difference([column, "episode", "remark"]):
        frame[other] = frame[other].astype(float)
    if column in ("episode", "step", "truncated"):
        with pytest.raises(DataError, match=rf"column {column} is empty in row 3; fill it"):
            read(frame, tmp_path)
        return
    data = read(frame, tmp_path)  # a measurement that is missing is NaN, which is refused with all others
    values = {"obs_1": data.observations[:, 1], "reward": data.rewards, "cost": data.costs}
    np.testing.assert_array_equal(
        {name: np.isnan(v).nonzero()[0].tolist() for name, v in values.items()}[column], [3]
    )
    assert sum(np.isnan(v).sum() for v in values.values()) == 1
    name = {"obs_1": "o1", "reward": "rewards", "cost": "costs"}[column]
    with pytest.raises(
        DataError, match=rf"1 value is missing \(NaN\): {name} in 1 cell of 1 episode, first in row 3"
    ):
        check(data)


@every_way
def test_a_text(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column obs_1 is 'fast' in row [02], which is no number") as caught:
        read(usual(obs_1=["fast", "fast", "fast", "1", "2"]), tmp_path)
    assert "\n" not in str(caught.value)
    if read is not through_file(".parquet"):
        with pytest.raises(DataError, match=r"column cost is '(0|oops)' in row [03]"):
            read(usual(cost=["0", "1", "2", "oops", "2"]), tmp_path)


@pytest.mark.parametrize("values", [[[[1.0]]] * 5, [{"x": 1.0}] * 5, pd.date_range("2024", periods=5), list("12345")])
@pytest.mark.parametrize("read", [in_memory, through_file(".parquet")])
def test_no_numbers(read: Read, values: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column obs_1 is .* in row 0, which is no number"):
        read(usual(obs_1=values), tmp_path)


def test_the_row_of_a_fault_counts_from_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetrax.data.formats.table_sources._BLOCK", 64)
    path = save(usual(cost=["0", "1", "0", "oops", "2"]), tmp_path / "log.csv")
    with pytest.raises(DataError, match="column cost is 'oops' in row 3"):
        load(path)
    table = pa.Table.from_pandas(usual(truncated=[0, 0, 0, None, 0]))
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=2)
    with pytest.raises(DataError, match="column truncated is empty in row 3"):
        load(tmp_path / "log.parquet")


# which column is what


@every_way
@pytest.mark.parametrize(
    ("frame", "roles", "words"),
    [
        (log(), {}, "no column holds observations (looked for observation_*, observations_*, obs_*); the table has "),
        (
            log(),
            {},
            'name it: load(path, columns={"observations": ["..."]}) or from_pandas(frame, observations=["..."])',
        ),
        (
            usual().drop(columns="reward"),
            {},
            "no column holds reward (looked for reward, rewards); the table has remark, episode",
        ),
        (usual().rename(columns={"cost": "kost"}), {"cost": "collision"}, "cost: there is no column 'collision'"),
        (usual().rename(columns={"cost": "csot"}), {}, "column 'csot' looks like cost"),
        (usual(), {"cost": "kosts"}, "cost: there is no column 'kosts'; the table has remark"),
        (usual(), {"observations": ["obs_0", "x"]}, "observations: there is no column 'x'"),
        (usual(), {"observations": "sensor_*"}, "observations: no column is called sensor_*; the table has"),
        (usual(), {"observations": []}, "observations is []; name at least one column"),
        (usual(), {"cost": "reward"}, "the column 'reward' is used twice"),
        (usual(observation_0=1.0), {}, "observation_0 and obs_1 could both belong to the observations"),
        (usual().drop(columns="episode"), {}, "no column says which episode a row belongs to"),
        (usual().head(0), {}, "the table has no rows"),
        (usual(terminated=[0, 1, 0, 0, 0]), {}, "terminated or truncated is set in row 1, inside an episode"),
        (usual(terminated=[0, 0, 2, 0, 0]), {}, "terminated is 2.0 in row 2; flags must be 0 or 1"),
    ],
)
def test_faults_of_the_layout(
    read: Read, frame: pd.DataFrame, roles: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read(frame, tmp_path, **roles)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_missing_next_observations() -> None:
    assert from_pandas(usual(), next_observations=True).next_observations is None
    with pytest.raises(DataError, match="next_observations: there is no column 'after'"):
        from_pandas(usual(), next_observations=["after"])
    with pytest.raises(DataError, match="there are 1 columns of next_observations but 2 of observations"):
        from_pandas(usual(next_obs_0=1.0), next_observations=True)


def test_an_unknown_role(tmp_path: Path) -> None:
    path = save(usual(), tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"columns has the unknown entry 'costs'; the known ones are observations, "):
        load(path, columns={"costs": "cost"})


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    frame = usual()
    frame.columns = ["cost", *frame.columns[1:]]
    with pytest.raises(DataError, match="two columns are called 'cost'; rename one"):
        from_pandas(frame)
    names = ["cost", *usual().columns[1:]]
    pq.write_table(pa.table([pa.array([0] * 5)] * len(names), names=names), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="two columns are called 'cost'"):
        load(tmp_path / "log.parquet")


def test_many_columns_are_not_all_listed() -> None:
    with pytest.raises(DataError, match="x23 and 1 more; name it"):
        from_pandas(pd.DataFrame(np.zeros((1, 25)), columns=[f"x{i}" for i in range(25)]))


@pytest.mark.parametrize(
    "text", ["", "episode,obs_0,action_0,reward,cost\n1,2\n1,2,3,4,5,6,7\n", '"a\n', "\xff\xfe\x00"]
)
def test_a_csv_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        load(tmp_path / "log.csv")
    assert str(tmp_path / "log.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_with_more_cells_than_columns_is_not_shifted(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("episode,obs_0,action_0,reward,cost\n1,2,3,4,5,6\n1,2,3,4,5,6\n")
    with pytest.raises(DataError, match="row 0 has 6 cells, but the header names 5 columns"):
        load(tmp_path / "log.csv")


# the file beside a log


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_file_beside_a_log(suffix: str, tmp_path: Path) -> None:
    path = save(log(), tmp_path / f"my.log{suffix}")
    sidecar_path(path).write_text(json.dumps({**ROLES, "action_low": [-2], "action_high": 0.5}))
    assert sidecar_path(path).name == "my.log.columns.json"
    data = load(path)
    assert data.info["observation_names"] == ["speed", "gap"]
    np.testing.assert_array_equal([data.action_low, data.action_high], [[-2], [0.5]])
    given = load(path, columns={"observations": ["gap"]}, action_high=3)
    assert given.observation_size == 1
    np.testing.assert_array_equal([given.action_low, given.action_high], [[-2], [3]])


@pytest.mark.parametrize("text", ["{", "[1]", '"cost"'])
def test_a_malformed_file_beside_a_log(text: str, tmp_path: Path) -> None:
    path = save(log(), tmp_path / "log.csv")
    sidecar_path(path).write_text(text)
    with pytest.raises(DataError, match=r"log\.columns\.json (is no JSON object|cannot be read as JSON)"):
        load(path)


def test_its_name() -> None:
    assert sidecar_path(Path("a/b.csv.gz")) == Path("a/b.columns.json")


# out


def test_a_frame_holds_what_the_data_set_holds(toy: Trajectories) -> None:
    frame = to_pandas(toy, observation_names=["x", "y", "z"])
    assert list(frame.columns) == [
        "episode",
        "step",
        *("observation.x", "observation.y", "observation.z"),
        *("action_0", "action_1"),
        *("reward", "cost", "terminated", "truncated"),
    ]
    np.testing.assert_allclose(frame.groupby("episode")["reward"].sum(), toy.returns, rtol=1e-6)
    np.testing.assert_array_equal(frame.groupby("episode")["step"].max() + 1, toy.lengths)
    back = from_pandas(frame)
    assert back.fingerprint() == toy.fingerprint()
    assert back.info["observation_names"] == ["x", "y", "z"]
    assert from_pandas(frame.sample(frac=1, random_state=0)).num_episodes == toy.num_episodes


def test_names_survive_a_file_and_a_selection(toy: Trajectories, tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", toy, observation_names=["x", "y", "z"], action_names=["3", "7"])
    data = load(tmp_path / "a.parquet").select([1, 2])
    write_parquet(tmp_path / "b.parquet", data)
    assert load(tmp_path / "b.parquet").info["observation_names"] == ["x", "y", "z"]
    assert load(tmp_path / "b.parquet").info["action_names"] == ["3", "7"]


def test_row_groups(toy: Trajectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetrax.data.formats.tables._ROWS", 7)
    write_parquet(tmp_path / "log.parquet", toy)
    assert pq.ParquetFile(tmp_path / "log.parquet").num_row_groups > 10
    assert load(tmp_path / "log.parquet").fingerprint() == toy.fingerprint()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x", "y"], r"observation_names is \['x', 'y'\], but there are 3 features"),
        ("xyz", "observation_names is 'xyz'"),
        (["x", "y", "x"], "observation_names holds 'x' twice"),
        (["x", "", "y"], "an empty name"),
        (["2", "1", "0"], "observation_names holds only numbers, and not in order"),
    ],
)
def test_names_that_do_not_fit(toy: Trajectories, names: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        to_pandas(toy, observation_names=names)
