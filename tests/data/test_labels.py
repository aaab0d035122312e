"""Labels of episodes: from columns, arrays, a small file or episode numbers; and logs without costs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import toy_episodes
from safetrax.data import Trajectories, from_pandas, load, to_pandas, validate, write_hdf5, write_npz
from safetrax.data.labels import SAFE, UNKNOWN, UNSAFE, as_labels, count_text, labels_of_rows, read_labels
from safetrax.errors import DataError


def log(**changes: Any) -> pd.DataFrame:
    """Drives called 7, 3 and 12, of two, one and two rows; None leaves a column out."""
    columns = {
        "episode": [7, 7, 3, 12, 12],
        "observation_0": np.arange(5.0),
        "action_0": np.zeros(5),
        "reward": np.ones(5),
        **changes,
    }
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def marks(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refusal(given: Any, count: int = 4, names: list[str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_labels(given, count, names)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    return str(caught.value)


# episode numbers and files


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({"safe": [0, 3], "unsafe": 1}, [1, -1, 0, 1]),
        ({"desirable": [], "Undesirable": np.array([2])}, [0, 0, -1, 0]),
        ("safe:0,3", [1, 0, 0, 1]),
        ("unsafe: 1-3", [0, -1, -1, -1]),
        (["safe:0", "unsafe:1,2", "unknown:3"], [1, -1, -1, 0]),
        (["safe:0", "safe:0-1"], [1, 1, 0, 0]),
        ([1, 0, -1, 0], [1, 0, -1, 0]),
        (np.array([1.0, 0.0, -1.0, 0.0]), [1, 0, -1, 0]),
    ],
)
def test_given_by_episode(given: Any, labels: list[int]) -> None:
    found = read_labels(given, 4)
    assert found.dtype == np.int8
    assert found.tolist() == labels


@pytest.mark.parametrize(
    "lines",
    [
        ("episode,label", "0,safe", "2,unsafe", "3,"),
        ("Label;Episode", "desirable;0", "-1;2", "", "unknown;1"),
        ("episode\tlabels", " 0 \t 1 ", "2\tUndesirable", "2\tunsafe"),
        ('\ufeffepisode,"label"', '"0","SAFE"', "2,-1.0"),
    ],
)
def test_a_small_file(lines: tuple[str, ...], tmp_path: Path) -> None:
    assert read_labels(marks(tmp_path / "marks.csv", *lines), 4).tolist() == [1, 0, -1, 0]


def test_a_blank_cell_of_a_file_says_nothing(tmp_path: Path) -> None:
    both = [str(marks(tmp_path / "marks.csv", "episode,label", "0,safe", "1,")), "unsafe:1"]
    assert read_labels(both, 4).tolist() == [1, -1, 0, 0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"good": [1]}, "labels is 'good', which is no label; write safe, unsafe or unknown"),
        ({"safe": [4]}, "labels: there is no episode '4'; the log's are called 0, 1, 2, 3."),
        ({"safe": [-1]}, "there is no episode '-1'"),
        ({"safe": [1], "unsafe": [1]}, "labels calls episode 1 both safe and unsafe; give it one label"),
        ("safe:1,x", "the labels 'safe:1,x': there is no episode 'x'"),
        ("safe:0-999999999", "there is no episode '4'"),
        ("marks.csv", "marks.csv: this file of labels does not exist; pass a CSV file with the columns episode"),
        ("good:1", "good:1: this file of labels does not exist"),
        ([1, 0, 2, 0], "the label of episode 2 is 2"),
        ([1, 0], "labels has shape (2,), but there are 4 episodes"),
        (7, "labels has shape ()"),
    ],
)
def test_faults(given: Any, words: str) -> None:
    assert words in refusal(given)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; download or write it again"),
        (b"episode,kind\n0,safe\n", "its first line is episode, kind, but one column must be called label"),
        (b"label\nsafe\n", "its first line is label, but"),
        (b"label,label\nsafe,0\n", "one column must be called label"),
        (b"episode,label\n0,good\n", "the label in line 2 is 'good', which is no label"),
        (b"episode,label\n0,safe\n0,unsafe\n", "calls episode 0 both safe and unsafe"),
        (b"episode,label\n0,safe,1\n", "line 2 has 3 cells, but the first has 2"),
        (b"episode,label\n9,safe\n", "there is no episode '9'"),
        (b"episode,label\n0,\xff\n", "it is no text in UTF-8"),
        (b"<html>", "the file is a web page"),
        (b"\x1f\x8b\x08", "is packed with gzip"),
        (b'episode,label\n0,"' + b"x" * 200_000, "it cannot be parsed as CSV"),
    ],
)
def test_faults_of_a_file(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "marks.csv").write_bytes(content)
    message = refusal(tmp_path / "marks.csv")
    assert words in message
    assert str(tmp_path / "marks.csv") in message
    assert refusal(tmp_path).startswith(f"{tmp_path}: this is no file")


def test_marked_gives_new_labels_to_the_same_episodes() -> None:
    data = toy_episodes([3, 2, 4])
    again = data.marked({"safe": [0], "unsafe": [2]}).marked({"safe": [1]})
    assert again.labels.tolist() == [UNKNOWN, SAFE, UNKNOWN]
    assert data.labels is None
    assert data.marks.tolist() == [UNKNOWN] * 3
    with pytest.raises(DataError, match="no episode '3'"):
        data.marked({"safe": [3]})


# logs


def test_a_log_names_its_episodes_as_it_calls_them(tmp_path: Path) -> None:
    """A file of labels that counted from 0 would mark the wrong drives."""
    log().to_csv(tmp_path / "log.csv", index=False)
    file = marks(tmp_path / "marks.csv", "episode,label", "3,unsafe", "12,safe")
    assert load(tmp_path / "log.csv", labels=file).labels.tolist() == [0, -1, 1]
    assert load(tmp_path / "log.csv", labels="safe:7,12").labels.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r"there is no episode '0'; the log's are called 7, 3, 12\."):
        load(tmp_path / "log.csv", labels="safe:0")
    log(episode=[7.0, 7, 3, 12, 12]).to_parquet(tmp_path / "log.parquet")
    assert load(tmp_path / "log.parquet", labels="safe:12").labels.tolist() == [0, 0, 1]


def test_several_columns_name_an_episode(tmp_path: Path) -> None:
    log(run=list("aabab"), episode=[0, 0, 0, 1, 0], step=range(5)).to_csv(tmp_path / "log.csv", index=False)
    columns = {"episode": ["run", "episode"]}
    file = marks(tmp_path / "marks.csv", "run,episode,label", "b,0,safe", "a,1,unsafe")
    data = load(tmp_path / "log.csv", columns=columns, labels=file)
    assert data.lengths.tolist() == [2, 2, 1]  # a, 0; b, 0; a, 1
    assert data.labels.tolist() == [0, 1, -1]


def test_files_of_a_folder_are_named_and_episodes_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    for name in ("drive-2.csv", "drive-10.csv"):
        log(episode=None).to_csv(folder / name, index=False)
    assert load(folder, labels="safe:drive-10.csv").labels.tolist() == [0, 1]
    for name in ("drive-2.csv", "drive-10.csv"):
        log(step=[0, 1, 0, 0, 1]).to_csv(folder / name, index=False)
    with pytest.raises(DataError, match="2 episodes of the log are called '3'; write the labels into a column label"):
        load(folder, labels="safe:3")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ""])
@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["safe", "safe", "unsafe", "unknown", "unknown"], [1, -1, 0]),
        (["desirable", "Desirable", "undesirable", None, ""], [1, -1, 0]),
        ([1, 1, -1, 0, 0], [1, -1, 0]),
        (["safe", None, "unsafe", None, "safe"], [1, -1, 1]),  # said once is said
    ],
)
def test_a_column_of_labels(cells: list[Any], labels: list[int], suffix: str, tmp_path: Path) -> None:
    frame = log(Label=cells)
    path = tmp_path / f"log{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix:
        frame.to_parquet(path)
    data = load(path) if suffix else from_pandas(frame)
    assert data.labels.tolist() == labels
    if suffix:
        assert load(path, labels="unsafe:7").labels.tolist() == [-1, 0, 0]  # what is given counts


def test_labels_of_rows_out_of_order_and_of_a_column_that_is_named() -> None:
    frame = log(episode=[7, 3, 7, 12, 3], step=[1, 0, 0, 0, 1], outcome=["safe", "unsafe", "safe", "", "unsafe"])
    data = from_pandas(frame, label="outcome")
    assert data.lengths.tolist() == [2, 2, 1]
    assert data.labels.tolist() == [1, -1, 0]


def test_labels_where_flags_end_the_episodes() -> None:
    frame = log(episode=None, terminated=[0, 1, 1, 0, 0], label=[1, 1, -1, 0, 0])
    data = from_pandas(frame)  # the last two rows are no whole episode
    assert data.labels.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["safe", "unsafe", 1, 1, 1], "episode 7 is labelled both safe and unsafe; label all of its rows alike"),
        (["safe", "safe", "safe", "unknown", "safe"], "episode 12 is labelled both safe and unknown"),
        (["cat", "cat", "dog", "cat", "cat"], "a cell of column label is 'cat', which is no label; write safe"),
        ([True] * 5, "is 'True', which is no label"),
        ([[1, 0]] * 5, "column label holds lists of 2 numbers"),
    ],
)
def test_faults_of_a_column(cells: list[Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        from_pandas(log(label=list(map(str, cells)) if "safe" in cells else cells))
    assert words in str(caught.value)


def test_labels_of_rows_by_hand() -> None:
    rows = np.int8([1, 2, 2, 2, -1, 9])
    assert labels_of_rows(rows, np.array([0, 2, 4, 5])).tolist() == [1, 0, -1]
    assert as_labels([], 0).tolist() == []
    assert count_text(np.int8([1, 1, 0])) == "2 safe, 1 unknown, 0 unsafe"


# without costs


def test_a_misnamed_column_of_costs_is_noticed(tmp_path: Path) -> None:
    log(collisions=1.0, weather="fine").to_csv(tmp_path / "log.csv", index=False)
    data = load(tmp_path / "log.csv")
    assert data.costs is None
    (warning,) = [finding.message for finding in validate(data) if "costs" in finding.message]
    assert warning.startswith("log.csv: the log holds no costs, unless in what is not read (collisions, weather)")
    assert load(tmp_path / "log.csv", columns={"cost": "collisions"}).costs.tolist() == [1] * 5


@pytest.mark.parametrize("write", [write_hdf5, write_npz])
def test_files_of_arrays_without_costs(write: Any, tmp_path: Path) -> None:
    data = toy_episodes([3, 2])
    whole = Trajectories.from_arrays(
        data.observations, data.actions, data.rewards, None, data.terminated, data.truncated
    )
    write(tmp_path / "log.hdf5", whole)
    back = load(tmp_path / "log.hdf5")
    assert back.fingerprint() == whole.fingerprint()
    assert any("the log holds no costs; if it has them" in finding.message for finding in validate(back))


@pytest.mark.parametrize("label", [SAFE, UNSAFE, UNKNOWN])
def test_labels_of_one_kind_are_warned_of(label: int) -> None:
    data = toy_episodes([3, 2])
    assert any("labels call every episode" in finding.message for finding in validate(data.marked([label] * 2)))
    mixed = validate(data.marked({"safe": [0]}))
    assert not any("labels" in finding.message for finding in mixed)


def test_hidden_costs_are_checked_and_shown_but_are_no_costs() -> None:
    data = toy_episodes([3, 2])
    frame = to_pandas(data).rename(columns={"cost": "hidden_cost"})
    hidden = from_pandas(frame)
    assert hidden.costs is None
    np.testing.assert_array_equal(hidden.scored_cost_returns, data.cost_returns)
    assert not any("no costs" in finding.message for finding in validate(hidden))
    bad = from_pandas(frame.assign(hidden_cost=-1.0))
    assert any("hidden_costs is -1 in row 0" in finding.message for finding in validate(bad))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "no costs" in repr(hidden)
