"""Every format: what is written is read back bit for bit, and every fault is one sentence."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from safetrax.data import Trajectories, load, to_pandas, write_hdf5, write_npz, write_parquet
from safetrax.data.download import FOLDER_VARIABLE
from safetrax.data.loading import absolute_source
from safetrax.data.store import Store
from safetrax.errors import DataError, RunError
from safetrax.progress import Meter

NAMES = {"observation_names": ["speed", "gap", "lane 2"], "action_names": ["throttle", "steer"]}


def write_csv(path: Path, data: Trajectories) -> None:
    to_pandas(data).to_csv(path, index=False)


WRITERS: dict[str, Callable[..., None]] = {
    ".hdf5": write_hdf5,
    ".npz": write_npz,
    ".parquet": write_parquet,
    ".csv": write_csv,
}
every_format = pytest.mark.parametrize("suffix", WRITERS)


def data_set(lengths: tuple[int, ...] = (3, 1, 4), **options: Any) -> Trajectories:
    """Episodes that end in either way, with next observations and a box that is not [-1, 1]."""
    rng = np.random.default_rng(0)
    return Trajectories.from_episodes(
        [
            {
                "observations": rng.standard_normal((n, 3)),
                "actions": rng.uniform(-1, 1, (n, 2)),
                "rewards": rng.standard_normal(n),
                "costs": rng.integers(0, 2, n),
                "terminated": bool(i % 2),
                "next_observations": rng.standard_normal((n, 3)),
            }
            for i, n in enumerate(lengths)
        ],
        **{"action_low": [-1, -2.5], "action_high": [1 / 3, 7], **options},
    )


def finite(*shape: int) -> st.SearchStrategy[np.ndarray]:
    """Any float32, but what validation refuses anyway."""
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
    return arrays.arrays(np.float32, shape, elements=numbers)


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of Trajectories.from_arrays."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    n, o, a = sum(lengths), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    flags = draw(arrays.arrays(np.bool_, (2, len(lengths))))
    flags[1] |= ~flags[0]
    terminated, truncated = np.zeros((2, n), bool)
    ends = np.cumsum(lengths) - 1
    terminated[ends], truncated[ends] = flags
    return {
        "observations": draw(finite(n, o)),
        "actions": draw(finite(n, a)),
        "rewards": draw(finite(n)),
        "costs": draw(st.none() | finite(n)),
        "terminated": terminated,
        "truncated": truncated,
        "next_observations": draw(st.none() | finite(n, o)),
        "labels": draw(st.none() | arrays.arrays(np.int8, len(lengths), elements=st.integers(-1, 1))),
        "hidden_costs": draw(st.none() | finite(n)),
        "action_low": draw(finite(a)),
        "action_high": draw(finite(a)),
        "info": draw(st.sampled_from([{}, {"observation_names": [f"x{i}" for i in range(o)]}])),
    }


@every_format
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=parts())
def test_round_trip_is_bitwise(given: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    data = Trajectories.from_arrays(**given)
    path = tmp_path / f"log{suffix}"
    WRITERS[suffix](path, data)
    box = {"action_low": data.action_low, "action_high": data.action_high} if suffix == ".csv" else {}
    back = load(path, next_observations=True, **box)  # None where the log has none
    assert back.fingerprint() == data.fingerprint()  # of the bytes: -0.0 is not 0.0
    assert back.info.get("observation_names") == data.info.get("observation_names")


@pytest.mark.parametrize("real", [False, True], ids=["a stand-in", "itself"])
def test_the_documented_lines_give_d3rlpy_its_arrays(real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if real:
        pytest.importorskip("d3rlpy")
    else:
        monkeypatch.setitem(
            sys.modules, "d3rlpy", SimpleNamespace(dataset=SimpleNamespace(MDPDataset=lambda *columns: columns))
        )
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import d3rlpy.*?)```", page, re.DOTALL)
    data, names = data_set(), dict[str, Any]()
    write_hdf5(tmp_path / "log.hdf5", data)
    monkeypatch.chdir(tmp_path)
    exec(lines, names)
    dataset = names["dataset"]
    if real:
        columns = ("observations", "actions", "rewards")
        dataset = [np.concatenate([getattr(episode, name) for episode in dataset.episodes]) for name in columns]
    for found, expected in zip(dataset, (data.observations, data.actions, data.rewards), strict=False):
        assert np.array_equal(found.reshape(expected.shape), expected)
    if not real:
        assert np.array_equal(dataset[3], data.terminated)
        assert np.array_equal(dataset[4], data.truncated)


@every_format
def test_what_is_known_of_a_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"SafetyBallRun-v0-80-940{suffix}"
    WRITERS[suffix](path, replace(data_set(), info=NAMES))
    data = load(path)
    assert data.next_observations is None
    assert data.info == {
        "source": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "task": "BallRun",
        "tail_rows_dropped": 0,
        **NAMES,
    }
    assert json.loads(json.dumps(data.info)) == data.info
    assert load(path, task="CarRun", action_high=9).info["task"] == "CarRun"
    np.testing.assert_array_equal(load(path, action_high=9).action_high, [9, 9])


@every_format
def test_a_failed_write_leaves_the_old_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    WRITERS[suffix](path, data_set())
    if suffix != ".csv":
        with pytest.raises(RunError, match="cannot write"):
            WRITERS[suffix](path / "below", data_set())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@every_format
def test_the_content_tells_the_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    WRITERS[suffix](path, data_set())
    if suffix != ".csv":
        path = path.rename(tmp_path / "log.data")
    assert load(path).num_transitions == 8
    assert load(path.rename(tmp_path / f"LOG{suffix.upper()}")).num_transitions == 8


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".parquet"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"observations: none\n", " file; check that it is the "),
        (b"", "is empty; download or write it again."),
        (b"<html>404</html>", "is a web page, not a data set; download it again from an address that gives the file"),
        (b"\n<!DOCTYPE html>", "is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "is a pointer of Git LFS, not the data set; ",
        ),
        (gzip.compress(b"x", mtime=0), "is packed with gzip; unpack it, and pass the file that comes out."),
    ],
)
def test_not_what_the_name_says(suffix: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(content)
    assert words in refusal(path)


def test_no_format_at_all(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "is not an HDF5 file, nor NPZ, nor Parquet" in refusal(tmp_path / "notes.txt")


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".parquet"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_truncated(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    WRITERS[suffix](path, data_set((500,) * 20))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "is truncated or damaged" in refusal(path)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_damaged(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    WRITERS[suffix](path, data_set((500,) * 20))
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 10, len(content) // 2, len(content) // 20):
        content[start : start + 100] = bytes(100)
    path.write_bytes(content)
    assert "is truncated or damaged" in refusal(path)


def test_a_missing_file_suggests_the_nearest_of_any_format(tmp_path: Path) -> None:
    write_npz(tmp_path / "log.npz", data_set())
    assert "did you mean log.npz?" in refusal(tmp_path / "lag.npz")


# NPZ


def npz(path: Path, *, save: Callable[..., None] = np.savez, **changes: Any) -> Path:
    """A file as numpy writes it; a change to None leaves a key out."""
    data = data_set()
    keys = {
        "observations": data.observations,
        "actions": data.actions,
        "rewards": data.rewards,
        "costs": data.costs,
        "terminals": data.terminated,
        "timeouts": data.truncated,
        **changes,
    }
    save(path, **{key: value for key, value in keys.items() if value is not None})
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_as_numpy_writes_it(save: Callable[..., None], dtype: Any, order: Any, tmp_path: Path) -> None:
    values = np.asarray(7 * np.random.default_rng(0).standard_normal((8, 3)), dtype, order=order)
    data = load(npz(tmp_path / "log.npz", save=save, observations=values, note="x"))
    np.testing.assert_array_equal(data.observations, values.astype(np.float32))
    assert data.observations.flags.c_contiguous


def test_npz_larger_than_a_block(tmp_path: Path) -> None:
    n = 50_000
    values = np.random.default_rng(0).standard_normal((n, 30))
    ends = np.arange(n) % 1000 == 999
    for name, kept in (("rows", values), ("columns", np.asfortranarray(values))):
        path = tmp_path / f"{name}.npz"
        np.savez(
            path,
            observations=kept,
            actions=values[:, :2],
            rewards=values[:, 0],
            costs=ends,
            terminals=ends,
            timeouts=ends,
        )
        data = load(path)
        np.testing.assert_array_equal(data.observations, values.astype(np.float32))
        np.testing.assert_array_equal(data.costs, ends)


def test_gymnasiums_names_of_the_flags(tmp_path: Path) -> None:
    data = data_set()
    flags = {"terminated": data.terminated, "truncated": data.truncated, "terminals": None, "timeouts": None}
    path = npz(tmp_path / "log.npz", **flags)
    np.testing.assert_array_equal(load(path).offsets, data.offsets)
    with np.load(path) as keys, h5py.File(tmp_path / "log.hdf5", "w") as file:
        for key, array in keys.items():
            file[key] = array
    np.testing.assert_array_equal(load(tmp_path / "log.hdf5").offsets, data.offsets)


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    write_npz(tmp_path / "log.npz", replace(data_set(), info=NAMES))
    with np.load(tmp_path / "log.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["observations"], data_set().observations)
        np.testing.assert_array_equal(file["timeouts"], data_set().truncated)
        assert file["action_names"].tolist() == NAMES["action_names"]
    first = (tmp_path / "log.npz").read_bytes()
    write_npz(tmp_path / "log.npz", replace(data_set(), info=NAMES))
    assert (tmp_path / "log.npz").read_bytes() == first
    write_npz(tmp_path / "log.npz", data_set(), compress=False)
    assert load(tmp_path / "log.npz").num_transitions == 8


class Trap:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was read",)


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    trap = np.array([[Trap()] * 3] * 8, dtype=object)
    assert "observations holds pickled Python objects" in refusal(npz(tmp_path / "log.npz", observations=trap))
    assert load(npz(tmp_path / "log.npz", infos=trap)).num_transitions == 8  # a key that nobody asks for
    with zipfile.ZipFile(npz(tmp_path / "log.npz"), "a") as file:  # numpy itself takes this for a bare pickle
        file.writestr("action_low.npy", b"\x80\x04N.")
    assert "is truncated or damaged" in refusal(tmp_path / "log.npz")


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    path = npz(tmp_path / "log.npz", observations=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 88)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("observations.npy", header.getvalue())
    assert "is truncated or damaged" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": None}, "the key rewards is missing; the file has actions, costs"),
        ({"costs": None, "cost": np.zeros(8)}, "rename cost to costs"),
        ({"label": np.zeros(2)}, "rename label to labels"),
        ({"labels": np.zeros(2)}, "labels has shape (2,), but there are 3 episodes"),
        ({"labels": np.array([1, 2, 0])}, "the label of episode 1 is 2.0"),
        ({"labels": np.array(["safe", "x"])}, "labels has dtype <U4"),
        ({"terminals": None, "timeouts": None}, "the key terminals is missing; the file has actions, costs, obs"),
        ({"costs": np.zeros(7)}, "costs has 7 rows but observations has 8"),
        ({"rewards": np.array(["a"] * 8)}, "rewards has dtype <U1"),
        ({"terminals": np.zeros(8), "timeouts": np.zeros(8)}, "no row of terminated or truncated is set"),
        ({"actions": np.zeros((8, 0))}, "actions is empty"),
        ({"timeouts": np.full(8, 0.5)}, "truncated is 0.5 in row 0"),
    ],
)
def test_malformed_arrays(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in refusal(npz(tmp_path / "log.npz", **changes))


# sources


def test_a_task_names_its_downloaded_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("BallCircle", "ballcircle", "OfflineBallCircle-v0"):
        with pytest.raises(DataError) as caught:
            load(name)
        assert str(caught.value) == (
            f"there is no data set of BallCircle in {tmp_path}; safetrax download BallCircle fetches it."
        )
    write_hdf5(tmp_path / "SafetyBallCircle-v0-80-886.hdf5", data_set())
    assert load("ballcircle").info["source"] == "SafetyBallCircle-v0-80-886.hdf5"
    assert load("BallCircle").info["task"] == "BallCircle"
    write_npz(tmp_path / "BallCircle", data_set((2,)))
    assert load("BallCircle").num_transitions == 2  # a file of that name comes first


def test_what_is_neither_a_file_nor_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(Path("BallCirkle")) == "BallCirkle does not exist; did you mean the task BallCircle?"
    assert refusal(Path("qqqqq")) == "qqqqq does not exist; check the path."


def test_sources_that_do_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for same in ("demo", "minari:robot/x-v0", "BallCircle"):
        assert absolute_source(same) == same
    assert absolute_source("log.npz") == str(tmp_path / "log.npz")
    (tmp_path / "BallCircle").touch()
    assert absolute_source("BallCircle") == str(tmp_path / "BallCircle")


def test_columns_are_for_tables(tmp_path: Path) -> None:
    write_npz(tmp_path / "log.npz", data_set())
    assert "is no table, but columns was given" in refusal(tmp_path / "log.npz", columns={})


# how far it is


@every_format
def test_the_meter_arrives(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"log{suffix}"
    WRITERS[suffix](path, data_set((1000,) * 3))
    seen: list[Meter] = []
    monkeypatch.setattr(Meter, "__exit__", lambda self, *_: seen.append(self))
    load(path, progress=True)
    (meter,) = seen
    assert meter._done == pytest.approx(meter._total, rel=0.01)


# packages


@pytest.mark.parametrize(
    ("module", "use", "words"),
    [
        (
            "pyarrow",
            lambda path: load(path / "log.csv"),
            'reading CSV files needs the package pyarrow: pip install "safetrax[pandas]".',
        ),
        ("pandas", lambda path: to_pandas(data_set()), "a data frame needs the package pandas"),
        ("pyarrow", lambda path: load(path / "log.parquet"), "reading Parquet files needs the package pyarrow"),
        (
            "pyarrow.parquet",
            lambda path: write_parquet(path / "x.parquet", data_set()),
            'pip install "safetrax[pandas]"',
        ),
    ],
)
def test_a_missing_package(
    module: str, use: Callable[[Path], Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "log.csv", data_set())
    write_parquet(tmp_path / "log.parquet", data_set())
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError) as caught:
        use(tmp_path)
    assert words in str(caught.value)


def test_nothing_optional_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, safetrax.data as d; d.load('demo', progress=True); "
        "print(*({'pandas', 'pyarrow', 'minari', 'gymnasium', 'jax', 'rich'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_a_compressed_csv(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv", data_set())
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
    assert load(tmp_path / "log.csv.gz").fingerprint() == load(tmp_path / "log.csv").fingerprint()


@every_format
def test_training_on_a_cpu_uses_what_was_loaded_in_place(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    WRITERS[suffix](path, data_set())
    data = load(path, next_observations=True)
    expected = data.observations.copy()
    store = Store.make(data, {"next_observations"})
    for name in ("observations", "next_observations"):
        assert getattr(store, name).unsafe_buffer_pointer() == getattr(data, name).ctypes.data
    del data
    gc.collect()
    np.testing.assert_array_equal(store.observations, expected)
