"""Logs as people have them: read as they are meant, or refused in a sentence."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safetrax.data import Trajectories, check, from_pandas, load, to_pandas, write_hdf5, write_parquet
from safetrax.errors import DataError, SafeTraXError

E, L = 3, 4
N = E * L
STEP = np.tile(np.arange(L), E)


def log(**changes: Any) -> pd.DataFrame:
    """Three episodes of four rows, whose rewards count the rows; None leaves a column out."""
    rng = np.random.default_rng(0)
    columns = {
        "episode": np.repeat(np.arange(E), L),
        "step": STEP,
        "observation_0": rng.standard_normal(N),
        "observation_1": rng.standard_normal(N),
        "action_0": rng.uniform(-1, 1, N),
        "reward": np.arange(N, dtype=float),
        "cost": np.full(N, 0.5),
        **changes,
    }
    return pd.DataFrame({name: column for name, column in columns.items() if column is not None})


PLAIN = from_pandas(log())
CSV = log().to_csv(index=False)


def read_text(folder: Path, text: str | bytes, suffix: str = ".csv", **options: Any) -> Trajectories:
    path = folder / f"log{suffix}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, **options)


def as_csv(frame: pd.DataFrame, folder: Path, **options: Any) -> Trajectories:
    return read_text(folder, frame.to_csv(index=False), **options)


def as_parquet(frame: pd.DataFrame, folder: Path, **options: Any) -> Trajectories:
    frame.to_parquet(folder / "log.parquet")
    return load(folder / "log.parquet", **options)


def as_frame(frame: pd.DataFrame, _: Path, columns: Any = None) -> Trajectories:
    return from_pandas(frame, **(columns or {}))


every_way = pytest.mark.parametrize("read", [as_csv, as_parquet, as_frame])
Read = Callable[..., Trajectories]


def refused(read: Callable[[], Any], *words: str) -> None:
    """It ends in one sentence with these words."""
    with pytest.raises(DataError) as caught:
        read()
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    for word in words:
        assert word in message


# the header


@pytest.mark.parametrize(
    "text",
    [
        "# " + CSV,
        "\ufeff" + CSV,
        "\ufeff#" + CSV,
        "% " + CSV,
        "# recorder 1.2, robot 7\n\n" + CSV,
        "# recorder\n# " + CSV,
        CSV.replace(",", " , "),
        CSV.replace("\n", "\r\n"),
        CSV.replace("\n", "\n\n"),
        CSV.replace("\n", ",\n"),
        log().to_csv(),
        log().to_csv(index=False, quoting=1),
        log().to_csv(index=False, sep=";"),
        log().to_csv(index=False, sep=";", decimal=","),
        "sep=;\n" + log().to_csv(index=False, sep=";", decimal=","),
        log().to_csv(index=False, sep="\t", decimal=","),
        log().to_csv(index=False, sep="|"),
        log().to_csv(index=False, sep=" "),
        log().rename(columns=str.upper).to_csv(index=False),
        log()
        .rename(columns={"observation_0": "Observation[0]", "observation_1": "observation 1"})
        .to_csv(index=False),
        log().rename(columns={"observation_0": "obs0", "observation_1": "obs01", "episode": "Episode ID"}).to_csv(),
        log().set_index(["episode", "step"]).to_csv(),
    ],
)
def test_headers_that_are_understood(text: str, tmp_path: Path) -> None:
    assert read_text(tmp_path, text).fingerprint() == PLAIN.fingerprint()


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".csv.gz"])
def test_other_endings(suffix: str, tmp_path: Path) -> None:
    text = log().to_csv(index=False, sep="\t")
    assert read_text(tmp_path, text, suffix).fingerprint() == PLAIN.fingerprint()  # unpacked on the way
    assert read_text(tmp_path, gzip.compress(text.encode()), suffix).fingerprint() == PLAIN.fingerprint()


def test_what_savetxt_writes(tmp_path: Path) -> None:
    frame = log()
    np.savetxt(tmp_path / "log.csv", frame, delimiter=",", header=",".join(frame))
    assert load(tmp_path / "log.csv").fingerprint() == PLAIN.fingerprint()
    np.savetxt(tmp_path / "log.csv", frame, delimiter=",")
    refused(lambda: load(tmp_path / "log.csv"), "has no header", "numbers", "savetxt", "log.csv")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Cost": 1.0}, "cost and Cost could both belong to the cost; rename one"),
        ({" cost": 1.0}, "two columns are called 'cost'"),
        ({"costs": 1.0}, "cost and costs could both belong to the cost"),
        ({"Episode-Index": 1}, "episode and Episode-Index could both belong to the episode"),
        ({"Observation_1": 1.0}, "Observation_1 and observation_1 could both belong to the observations"),
        ({"observation_01": 1.0}, "could both belong to the observations"),
        ({"obs_2": 1.0}, "could both belong to the observations"),
        ({"observation": 1.0}, "could both belong to the observations"),
        ({"observation-speed": 1.0}, "column 'observation-speed' looks like one of the observations"),
        ({"obs1_x": 1.0}, "column 'obs1_x' looks like one of the observations"),
        ({"observation_3": 1.0}, "observation_2 is missing between observation_1 and observation_3"),
        ({"action_2": 1.0}, "action_1 is missing between action_0 and action_2"),
        ({"obsrvation_2": 1.0}, "column 'obsrvation_2' looks like one of the observations; rename it"),
        ({"acton_1": 1.0}, "column 'acton_1' looks like one of the actions"),
        ({"step": None, "steps": 1.0}, "column 'steps' looks like step"),
        ({"trunkated": 0}, "column 'trunkated' looks like truncated"),
        ({"done": 0}, "column done may say that the environment ended the episode, or that a time limit did"),
    ],
)
@every_way
def test_no_column_is_lost_in_silence(read: Read, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    refused(lambda: read(log(**changes), tmp_path), words)


@every_way
def test_other_columns_are_left_out(read: Read, tmp_path: Path) -> None:
    others = {
        "time": 1.0,
        "obstacle_1": 1.0,
        "activity": "x",
        "note": None,
        "next_observation_0": 1.0,
        "cost_limit": 1.0,
    }
    assert read(log(**{"": 1.0}).assign(**others), tmp_path).fingerprint() == PLAIN.fingerprint()
    named = {"observations": ["observation_0", "observation_1"], "actions": "action_0", "step": "step"}
    slips = log(obsrvation_2=1.0, action_2=1.0, truncated=STEP == L - 1, steps=1.0)
    assert read(slips, tmp_path, columns=named).fingerprint() == PLAIN.fingerprint()


def test_two_columns_of_one_name_in_a_csv(tmp_path: Path) -> None:
    for name in ("cost", "observation_0", "note"):
        frame = log(note="x")
        frame.insert(len(frame.columns), name, 1.0, allow_duplicates=True)
        refused(lambda frame=frame: as_csv(frame, tmp_path), f"two columns are called '{name}'")  # type: ignore[misc]


def test_what_is_no_frame() -> None:
    refused(lambda: from_pandas({"cost": [1]}), "frame is a dict; pass a pandas data frame")  # type: ignore[arg-type]
    refused(lambda: from_pandas(log()["cost"]), "frame is a Series")


@pytest.mark.parametrize("columns", [3, 1500])
def test_long_lines(columns: int, tmp_path: Path) -> None:
    zeros = {f"{'feature ' * 12}{i}": 0 for i in range(columns)}
    frame = pd.concat([log(note="x" * 100_000), pd.DataFrame(zeros, index=range(N))], axis=1)
    assert as_csv(frame, tmp_path).fingerprint() == PLAIN.fingerprint()


def test_a_flag_is_named_where_its_name_is_unclear(tmp_path: Path) -> None:
    data = as_csv(log(done=STEP == L - 1), tmp_path, columns={"terminated": "done"})
    np.testing.assert_array_equal(data.terminated, STEP == L - 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "it is empty"),
        (CSV.split("\n")[0], "the table has no rows"),
        ("a,1,2\nb,1,2\n", "has no header"),
        ("recorder 7\n" + CSV, "log.csv"),
        ("recorder\n" + CSV, "its header is the one name 'recorder'; separate the names by commas"),
        ("a,b;c\n1,2;3\n", "as many ',' as ';'"),
        (CSV.replace("\n", "\r"), "lines do not end"),
        (CSV.encode("utf-16"), "no text in UTF-8"),
        (b"PK\x03\x04" + CSV.encode(), "no text in UTF-8"),
        (CSV.replace("episode", "\xe9pisode", 1).encode("latin-1"), "its header is no UTF-8"),
        (CSV + "1,2\n", "row 12 has 2 cells, but the header names 7 columns"),
        (CSV.replace(".5\n", ".5,\n"), "row 0 has 8 cells"),
        (CSV + "# 1,2,3,4,5,6,7\n", "row 12 begins with #"),
        (CSV.replace("cost\n", "cost,note\n").replace(".5\n", '.5,"x\n'), "a quote is not closed"),
        (log(note="two\nlines").to_csv(), "a text goes over several lines"),
        (gzip.compress(CSV.encode(), mtime=0)[:-20], "is truncated or damaged"),
    ],
)
def test_a_csv_that_cannot_be_read(text: str | bytes, words: str, tmp_path: Path) -> None:
    refused(lambda: read_text(tmp_path, text), words, str(tmp_path / "log.csv"))


# numbers


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (cell, f"is {cell!r} in row 2, which is no number")
        for cell in ("1,000", "1 000", "5%", "0x1F", "yes", "-", "nanny")
    ],
)
def test_cells_that_are_no_numbers(cell: str, words: str, tmp_path: Path) -> None:
    column = np.where(np.arange(N) == 2, cell, "0.5")
    refused(lambda: read_text(tmp_path, log(cost=column).to_csv(quoting=1)), f"column cost {words}")


@pytest.mark.parametrize("cell", ["", "NA", "null", " NaN ", "#N/A", "None"])
@pytest.mark.parametrize("others", ["0.5", "true"])
def test_cells_that_are_missing(cell: str, others: str, tmp_path: Path) -> None:
    data = read_text(tmp_path, log(cost=np.where(np.arange(N) == 2, cell, others)).to_csv(quoting=1))
    expected = np.where(np.arange(N) == 2, np.nan, 1.0 if others == "true" else 0.5)
    np.testing.assert_array_equal(data.costs, expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": "1,234", "cost": "2,345"}, "which may be a thousand times as much; write a decimal point"),
        ({"reward": "1,234,567", "cost": 1}, "column reward is '1.234.567' in row 0, which is no number"),
        ({"reward": "1.234,5", "cost": "0,5"}, "write all decimals alike"),
        ({"reward": "0.5", "cost": "0,5"}, "write all decimals alike"),
    ],
)
def test_commas_that_are_unclear(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    whole = {"observation_0": 1, "observation_1": 2, "action_0": 0, **changes}
    refused(lambda: read_text(tmp_path, log(**whole).to_csv(sep=";")), words)


def test_decimal_commas_of_three_digits(tmp_path: Path) -> None:
    text = log(reward=1.234).to_csv(sep=";", decimal=",", float_format="%.3f")
    np.testing.assert_array_equal(read_text(tmp_path, text).rewards, np.float32(1.234))
    text = log(step=STEP * 0.5).to_csv(sep=";", decimal=",")
    assert read_text(tmp_path, text).fingerprint() == PLAIN.fingerprint()


@pytest.mark.parametrize("words", [("True", "False"), ("true", "false"), ("1", "0"), ("1.0", "0.0")])
def test_flags_as_texts(words: tuple[str, str], tmp_path: Path) -> None:
    data = as_csv(log(terminated=np.where(STEP == L - 1, *words)), tmp_path)
    np.testing.assert_array_equal(data.terminated, STEP == L - 1)


def test_nan_is_missing_in_parquet_too(tmp_path: Path) -> None:
    rewards = pa.array(np.where(np.arange(N) == 5, np.nan, 1.0))
    table = pa.Table.from_pandas(log(reward=None)).append_column("reward", rewards)
    pq.write_table(table, tmp_path / "log.parquet")
    refused(lambda: check(load(tmp_path / "log.parquet")), "rewards in 1 cell of 1 episode, first in row 5")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.full(N, 1j), "is '1j' in row 0"),
        ([object()] * N, "no number"),
        ([1.0] * 5 + ["x"] * (N - 5), "is 'x' in row 5"),
        ([2**70] * N, "is '1180591620717411303424' in row 0"),
        ([np.zeros((2, 2))] * N, "into flat ones"),
        (pd.date_range("2024", periods=N), "seconds since the episode began"),
        (["a"] * N, "turn the column into numbers"),
    ],
)
def test_columns_of_a_frame_that_are_no_numbers(column: Any, words: str) -> None:
    refused(lambda: from_pandas(log(observation_1=column)), "column observation_1", words)


@pytest.mark.parametrize(
    "column",
    [
        [Decimal("0.5")] * N,
        pd.arrays.SparseArray(np.full(N, 0.5)),
        pd.Categorical(np.full(N, 0.5)),
        np.full(N, 0.5, np.float16),
        pd.array([0.5] * N, "Float64"),
        pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.RunEndEncodedArray.from_arrays([N], [0.5])])),
    ],
)
def test_columns_of_a_frame_that_are_numbers(column: Any) -> None:
    assert from_pandas(log(cost=column)).fingerprint() == PLAIN.fingerprint()


# lists


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3)])
def test_vectors_in_one_column_of_a_parquet_file(kind: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
    table = pa.Table.from_pandas(log(observation_0=None, observation_1=None, action_0=None, action=0.5))
    table = table.append_column("observation.state", pa.array(values.tolist(), kind))
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=5)
    data = load(tmp_path / "log.parquet")
    np.testing.assert_array_equal(data.observations, values)
    assert data.info["observation_names"] == ["state_0", "state_1", "state_2"]
    write_parquet(tmp_path / "again.parquet", data)
    assert load(tmp_path / "again.parquet").info["observation_names"] == data.info["observation_names"]


@pytest.mark.parametrize("cell", [np.asarray, tuple, list])
def test_vectors_in_one_column_of_a_frame(cell: Any) -> None:
    values = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
    data = from_pandas(log(observation_0=None, observation_1=None, obs=[cell(row) for row in values]))
    np.testing.assert_array_equal(data.observations, values)
    assert "observation_names" not in data.info


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ([1.0], "column obs is a list of 1 numbers in row 3, but of 2 in the first; give every row a list"),
        (None, "2 values are missing (NaN): o0 in 1 cell of 1 episode, first in row 3 (episode 0); o1 in 1 cell"),
        ([1.0, None], "1 value is missing (NaN): o1 in 1 cell of 1 episode, first in row 3"),
        ([1.0, np.nan], "1 value is missing (NaN): o1 in 1 cell of 1 episode, first in row 3"),
    ],
)
def test_ragged_lists(cell: Any, words: str) -> None:
    rows = [cell if i == 3 else [1.0, 2.0] for i in range(N)]
    refused(lambda: check(from_pandas(log(observation_0=None, observation_1=None, obs=rows))), words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"obs": [[[1.0, 2.0]]] * N}, "flatten each row to one list of numbers"),
        ({"obs": [["a"]] * N}, "which is no number"),
        ({"obs": [[]] * N}, "at least 1"),
        (
            {"obs": 1.0, "reward": [[1.0, 2.0]] * N},
            "column reward holds lists of 2 numbers; reward is one number per row",
        ),
        ({"obs": 1.0, "episode": [[1.0]] * N}, "column episode holds lists"),
    ],
)
def test_lists_that_are_no_vectors(changes: dict[str, Any], words: str) -> None:
    refused(lambda: from_pandas(log(observation_0=None, observation_1=None, **changes)), words)


# the order of rows

START = pd.Timestamp("2024-03-31 00:30")  # an hour before the clocks of Berlin go on
HOURS = [START + pd.Timedelta(hours=int(step)) for step in STEP]
ZONES = ("Europe/Berlin", "Asia/Tokyo", "UTC")
TIMES: dict[str, Any] = {
    "naive": HOURS,
    "zone": [time.tz_localize("UTC").tz_convert("Europe/Berlin") for time in HOURS],
    "offsets": [time.tz_localize("UTC").tz_convert(ZONES[i % 3]).isoformat() for i, time in enumerate(HOURS)],
    "Z": [f"{time.isoformat()}Z" for time in HOURS],
    "nanoseconds": [START + pd.Timedelta(int(step), "ns") for step in STEP],
    "dates": [dt.date(2024, 2, 27 + step) if step < 3 else dt.date(2024, 3, 1) for step in STEP],
    "times of day": [dt.time(9 + step, 30) for step in STEP],
    "hh:mm": [f"09:{step}0" for step in STEP],
    "durations": pd.to_timedelta(STEP * 13, unit="h"),
    "large integers": 2**62 + STEP,
    "larger integers": np.uint64(2**63) + STEP.astype(np.uint64),
    "decimals": [Decimal(int(step)) / 10 for step in STEP],
    "categories": pd.Categorical(STEP),
}


@every_way
@pytest.mark.parametrize("name", TIMES)
def test_rows_in_any_order_of_time(read: Read, name: str, tmp_path: Path) -> None:
    frame = log(step=TIMES[name])
    shuffled = frame.iloc[np.random.default_rng(0).permutation(N)]
    data = read(shuffled, tmp_path)
    for e in range(E):
        np.testing.assert_array_equal(data.episode(e)["rewards"] % L, np.arange(L))


@pytest.mark.parametrize("kind", [pa.date32(), pa.time32("s"), pa.time64("us"), pa.duration("ms"), pa.date64()])
def test_arrows_own_times(kind: Any, tmp_path: Path) -> None:
    frame = log().iloc[::-1]
    cells = pa.array(frame["step"].to_numpy() * (86_400_000 if kind == pa.date64() else 1))
    cells = cells.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    table = pa.Table.from_pandas(frame.drop(columns="step"), preserve_index=False).append_column("step", cells)
    pq.write_table(table, tmp_path / "log.parquet")
    data = load(tmp_path / "log.parquet")
    np.testing.assert_array_equal(data.episode(0)["rewards"] % L, np.arange(L))


@every_way
@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (
            [f"{time.isoformat()}{'Z' * (i % 2)}" for i, time in enumerate(HOURS)],
            "column step is '2024-03-31T01:30:00Z'",
        ),
        (
            [f"0{step + 1}/03/2024" for step in STEP],
            "write all rows of the column alike, as numbers or as 2024-05-01T12",
        ),
        ([f"{step}h" for step in STEP], "is '0h' in row 0, which is no number or ISO time"),
    ],
)
def test_times_that_are_unclear(read: Read, steps: Any, words: str, tmp_path: Path) -> None:
    refused(lambda: read(log(step=steps), tmp_path), words)


def test_times_of_day_that_may_pass_midnight(tmp_path: Path) -> None:
    clock = [dt.time((22 + step) % 24) for step in STEP]
    refused(lambda: as_parquet(log(step=clock), tmp_path), "which do not tell what is after midnight; log the date")
    rising = [dt.time(6 * step) for step in STEP]
    assert as_parquet(log(step=rising), tmp_path).fingerprint() == PLAIN.fingerprint()


def test_times_with_and_without_a_zone_in_a_frame() -> None:
    steps = [dt.datetime(2024, 1, 1, int(s), tzinfo=dt.UTC if s else None) for s in STEP]
    refused(lambda: from_pandas(log(step=np.array(steps, object))), "holds times with a zone and without")


def test_steps_that_contradict_the_flags(tmp_path: Path) -> None:
    frame = log(episode=None, terminated=STEP == L - 1)
    assert as_csv(frame, tmp_path).num_episodes == E
    refused(lambda: as_csv(frame.iloc[::-1], tmp_path), "step does not rise in row 2", "add a column episode")


# which episode


@pytest.mark.parametrize(
    "frame",
    [
        log().set_index("episode"),
        log().set_index(["episode", "step"]),
        pd.concat(dict(list(log(episode=None).groupby(np.repeat(np.arange(E), L)))), names=["episode"]),
        log().rename(
            columns={"observation_0": ("obs", "0"), "observation_1": ("obs", "1"), "episode": ("episode", "")}
        ),
    ],
)
def test_an_episode_in_the_index_of_a_frame(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert from_pandas(frame).fingerprint() == PLAIN.fingerprint()
    if frame.columns.inferred_type == "string":
        assert as_parquet(frame, tmp_path).fingerprint() == PLAIN.fingerprint()


def test_an_index_that_says_nothing() -> None:
    refused(lambda: from_pandas(log().set_index("episode", drop=False)), "two columns are called 'episode'")
    parts = pd.concat(dict(list(log(episode=None).groupby(np.repeat(np.arange(E), L)))))
    refused(lambda: from_pandas(parts), "no column says which episode", "the level of the index")


def two_runs(**changes: Any) -> pd.DataFrame:
    return pd.concat([log(agent=agent, **changes) for agent in "ab"], ignore_index=True)


@every_way
def test_an_episode_of_two_columns(read: Read, tmp_path: Path) -> None:
    shuffled = two_runs().iloc[np.random.default_rng(0).permutation(2 * N)]
    data = read(shuffled, tmp_path, columns={"episode": ["agent", "episode"]})
    np.testing.assert_array_equal(data.lengths, [L] * 2 * E)
    for e in range(2 * E):
        np.testing.assert_array_equal(data.episode(e)["rewards"] % L, np.arange(L))
    refused(lambda: read(two_runs(), tmp_path, columns={"episode": []}), "name at least one column")
    refused(lambda: read(two_runs(), tmp_path, columns={"episode": ["agent", "x"]}), "there is no column 'x'")


@every_way
@pytest.mark.parametrize("steps", [None, STEP, "clock"])
def test_runs_with_the_same_numbers_are_not_merged(read: Read, steps: Any, tmp_path: Path) -> None:
    frame = two_runs(step=None if steps is None else STEP)
    if isinstance(steps, str):
        frame["step"] = pd.date_range("2024", periods=2 * N, freq="min")
    refused(
        lambda: read(frame, tmp_path),
        "column agent changes within episode 0, in row 12",
        'columns={"episode": ["agent", "episode"]}',
    )
    assert read(frame.iloc[:N], tmp_path).fingerprint() == PLAIN.fingerprint()
    if isinstance(steps, str):
        refused(lambda: read(frame, tmp_path, columns={"episode": "episode"}), "column agent changes")
        assert read(frame, tmp_path, columns={"episode": ["episode"]}).num_episodes == E  # as is said


@every_way
def test_a_run_is_no_episode(read: Read, tmp_path: Path) -> None:
    refused(lambda: read(two_runs(episode=None), tmp_path), "no column says which episode")
    flagged = two_runs(episode=None, truncated=STEP == L - 1)
    np.testing.assert_array_equal(read(flagged, tmp_path).lengths, [L] * 2 * E)


@every_way
def test_labels(read: Read, tmp_path: Path) -> None:
    interleaved = log().sort_values(["step", "episode"])
    assert read(interleaved, tmp_path).fingerprint() == PLAIN.fingerprint()
    large = log(episode=np.repeat(2**60 + np.arange(E), L))
    assert read(large, tmp_path).fingerprint() == PLAIN.fingerprint()
    texts = log(episode=np.repeat(["a", "7", "x y"], L))
    assert read(texts, tmp_path).fingerprint() == PLAIN.fingerprint()
    refused(lambda: read(log(episode=np.repeat(["1", "1.0", "2"], L)), tmp_path), "episodes are called '1' and '1.0'")
    refused(lambda: read(log(episode=np.repeat(["a", "", "b"], L)), tmp_path), "column episode is empty in row 4")


# folders


def folder(root: Path, files: dict[str, pd.DataFrame]) -> Path:
    for name, frame in files.items():
        path = root / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False)
    return root / "log"


def parts(**changes: Any) -> list[pd.DataFrame]:
    frame = log()
    return [frame[frame["episode"] == e].assign(**changes) for e in range(E)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".csv.gz"])
@pytest.mark.parametrize("frames", [parts(), parts(episode=0), [part.drop(columns="episode") for part in parts()]])
def test_a_file_per_episode(suffix: str, frames: list[pd.DataFrame], tmp_path: Path) -> None:
    path = folder(tmp_path, {f"episode_{8 + e}{suffix}": frame for e, frame in enumerate(frames)})
    (path / ".hidden.csv").write_text("no table")
    (path / "notes.txt").write_text("no table")
    data = load(path)
    assert data.fingerprint() == PLAIN.fingerprint()  # 8, 9, 10
    assert data.info["source"] == "log"


def test_files_that_repeat_numbers(tmp_path: Path) -> None:
    data = load(folder(tmp_path, {"a.csv": log(), "empty.csv": log()[:0], "sub/b.csv": log()}))
    assert data.fingerprint() == Trajectories.concatenate([PLAIN, PLAIN]).fingerprint()


@pytest.mark.parametrize("column", [None, "episode"])
def test_folders_that_are_called_by_the_episode(column: str | None, tmp_path: Path) -> None:
    frames = [part if column else part.drop(columns="episode") for part in parts()]
    halves = {
        f"episode={e}/part-{i}.parquet": frame[2 * i : 2 * i + 2] for e, frame in enumerate(frames) for i in range(2)
    }
    path = folder(tmp_path, halves)
    assert load(path).fingerprint() == PLAIN.fingerprint()
    assert load(path / "episode=1" / "part-0.parquet").fingerprint() != PLAIN.fingerprint()
    np.testing.assert_array_equal(load(path / "episode=1" / "part-0.parquet").rewards, [4, 5])


def test_an_episode_of_a_folder_and_a_column(tmp_path: Path) -> None:
    frame = log()
    files = {f"run={run}/{i}.csv": frame[6 * i : 6 * i + 6] for run in "ab" for i in range(2)}
    path = folder(tmp_path, files)
    data = load(path, columns={"episode": ["run", "episode"]})
    assert data.fingerprint() == Trajectories.concatenate([PLAIN, PLAIN]).fingerprint()
    refused(lambda: load(path), "may be one episode or two; put the files of each run into a folder run=NAME")


def test_an_episode_that_may_go_on_in_the_next_file(tmp_path: Path) -> None:
    frame = log(step=None)
    refused(
        lambda: load(folder(tmp_path, {"a.csv": frame[:6], "b.csv": frame[6:]})), "episode 1", "one episode or two"
    )


def test_flags_in_a_folder(tmp_path: Path) -> None:
    frame = log(episode=None, terminated=STEP == L - 1)
    data = load(folder(tmp_path, {"a.csv": frame[:10], "b.csv": frame}))
    np.testing.assert_array_equal(data.lengths, [L, L, 2, L, L, L])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.csv": log(), "b.csv": log(observation_2=1.0)}, "b.csv: its columns are not those of"),
        ({"a.csv": log(), "b.csv": log(cost=None)}, "(cost differs)"),
        (
            {"a.csv": log(), "b.csv": pd.DataFrame({"version https://git-lfs.github.com/spec/v1": [1]})},
            "git lfs pull",
        ),
        ({"a.csv": log(), "b.parquet": log()}, "holds CSV and Parquet files"),
        ({"a.csv": log(), "b.csv": log(step=HOURS)}, "b.csv: column step holds numbers and, from row 0, times"),
        ({"a.csv": log(), "b.csv": log(reward="x")}, "b.csv: column reward is 'x' in row 0"),
        ({"a.parquet": log(action_0=[[1.0]] * N), "b.parquet": log(action_0=[[1.0, 2.0]] * N)}, "action_0 differs"),
    ],
)
def test_files_that_do_not_fit_together(files: dict[str, pd.DataFrame], words: str, tmp_path: Path) -> None:
    refused(lambda: load(folder(tmp_path, files)), words)


def test_tables_beside_other_data(tmp_path: Path) -> None:
    path = folder(tmp_path, {"notes.csv": log()})
    write_hdf5(path / "log.hdf5", PLAIN)
    refused(lambda: load(path), "is a folder")


def test_files_with_other_action_boxes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", Trajectories.concatenate([PLAIN]))
    write_parquet(tmp_path / "b.parquet", from_pandas(log(), action_high=2))
    refused(lambda: load(tmp_path), "b.parquet: its action box is not that of")


def test_columns_in_another_order_and_a_sidecar(tmp_path: Path) -> None:
    frame = log().rename(columns={"observation_0": "observation.x", "observation_1": "observation.y"})
    path = folder(tmp_path, {"a.csv": frame, "b.csv": frame[frame.columns[::-1]].rename(columns={"cost": "cost"})})
    (tmp_path / "log.columns.json").write_text('{"cost": "cost", "action_low": -3}')
    data = load(path)
    np.testing.assert_array_equal(data.observations, np.tile(PLAIN.observations, (2, 1)))
    assert data.action_low == -3


# damaged files


def test_a_small_file_that_asks_for_much_memory(tmp_path: Path) -> None:
    zeros = pa.array(np.zeros(20_000_000, np.int8))
    table = pa.table(dict.fromkeys(("obs", "action", "reward", "cost", "episode"), zeros))
    pq.write_table(table, tmp_path / "log.parquet")
    refused(lambda: load(tmp_path / "log.parquet"), "320 MB", "check where it is from")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_tables_end_in_a_sentence(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    write_parquet(tmp_path / "0.parquet", PLAIN)
    log(episode=np.repeat(list("abc"), L), step=HOURS).to_parquet(tmp_path / "1.parquet", compression=None)
    (tmp_path / "2.csv").write_text(CSV)
    (tmp_path / "3.csv").write_text(log(step=HOURS).to_csv(sep=";", decimal=","))
    (tmp_path / "4.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    for whole in sorted(tmp_path.iterdir()):
        content = whole.read_bytes()
        for _ in range(20):
            place, other = sorted(rng.integers(0, len(content), 2))
            damaged = [
                content[:place] + content[other:],
                content[:other] + content[place:],
                content[:place] + rng.bytes(4) + content[place + 4 :],
                content[:place] + bytes(rng.choice(list(b'",;\n\r#\0\xff-'), 1).tolist()) + content[place:],
            ]
            path = whole.with_name(f"damaged{''.join(whole.suffixes)}")
            path.write_bytes(damaged[rng.integers(len(damaged))])
            try:
                load(path)
            except SafeTraXError as error:
                assert path.name in str(error)  # noqa: PT017
            path.unlink()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    frame = to_pandas(PLAIN)
    for read in (as_csv, as_parquet, as_frame):
        assert read(frame, tmp_path).fingerprint() == PLAIN.fingerprint()
    text = frame.to_csv(index=False, sep=";", decimal=",")
    assert read_text(tmp_path, text).fingerprint() == PLAIN.fingerprint()
