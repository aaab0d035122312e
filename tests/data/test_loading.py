"""HDF5 files: what is written is read back bit for bit, and every fault is one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tracemalloc
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from safetrax.data import Trajectories, load, write_hdf5
from safetrax.errors import DataError, RunError, TaskError

N = 6


def columns(n: int = N, **changes: Any) -> dict[str, Any]:
    """The datasets of a DSRL file with two episodes; a change to None leaves the key out."""
    rng = np.random.default_rng(0)
    ends = np.zeros(n, bool)
    ends[[n // 2 - 1, n - 1]] = True
    keys = {
        "observations": rng.standard_normal((n, 7)).astype(np.float32),
        "next_observations": rng.standard_normal((n, 7)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        "rewards": rng.standard_normal(n).astype(np.float32),
        "costs": rng.integers(0, 2, n).astype(np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": ends,
        **changes,
    }
    return {key: value for key, value in keys.items() if value is not None}


def write(path: Path, **keys: Any) -> Path:
    with h5py.File(path, "w") as file:
        for key, value in keys.items():
            file[key] = value
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "SafetyBallRun-v0-80-940.hdf5"


def test_load_gives_the_arrays_of_the_file(path: Path) -> None:
    raw = columns()
    data = load(write(path, **raw), next_observations=True)
    for name in ("observations", "next_observations", "actions", "rewards", "costs"):
        np.testing.assert_array_equal(getattr(data, name), raw[name])
    np.testing.assert_array_equal(data.truncated, raw["timeouts"])
    np.testing.assert_array_equal(data.terminated, raw["terminals"])
    np.testing.assert_array_equal(data.offsets, [0, 3, 6])


def test_info_says_where_the_data_come_from(path: Path) -> None:
    data = load(write(path, **columns()))
    assert data.info == {
        "source": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "task": "BallRun",
        "tail_rows_dropped": 0,
    }


def test_task_is_none_or_as_given(tmp_path: Path) -> None:
    path = write(tmp_path / "robot.h5", **columns())
    assert load(path).info["task"] is None
    assert load(str(path), task="offlinecarrun-v0").info["task"] == "CarRun"
    with pytest.raises(TaskError, match="CarRan"):
        load(path, task="CarRan")


def test_next_observations_are_left_out_unless_asked_for(path: Path) -> None:
    assert load(write(path, **columns())).next_observations is None
    assert load(write(path, **columns(next_observations=None))).next_observations is None


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_dtypes_are_cast(path: Path, dtype: Any) -> None:
    raw = columns()
    values = {key: (4 * raw[key]).astype(dtype) for key in ("observations", "actions", "rewards", "costs")}
    data = load(write(path, **(raw | values)))
    for name, value in values.items():
        np.testing.assert_array_equal(getattr(data, name), value.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int64, np.float32, np.float64])
def test_flags_of_any_dtype(path: Path, dtype: Any) -> None:
    raw = columns()
    data = load(write(path, **(raw | {key: raw[key].astype(dtype) for key in ("terminals", "timeouts")})))
    np.testing.assert_array_equal(data.truncated, raw["timeouts"])


def test_boolean_costs(path: Path) -> None:
    raw = columns()
    data = load(write(path, **(raw | {"costs": raw["costs"] > 0})))
    np.testing.assert_array_equal(data.costs, raw["costs"])


def test_columns_of_shape_n_1_and_other_keys(path: Path) -> None:
    raw = columns()
    wide = {key: raw[key].reshape(N, 1) for key in ("rewards", "costs", "terminals", "timeouts")}
    data = load(write(path, **(raw | wide), proximity=np.zeros((3, 3)), note="x"))
    assert data.fingerprint() == load(write(path, **raw)).fingerprint()


def test_tail_is_dropped_and_counted(path: Path) -> None:
    timeouts = np.array([0, 0, 1, 0, 0, 0])
    data = load(write(path, **columns(timeouts=timeouts)), next_observations=True)
    assert data.num_transitions == 3
    assert data.info["tail_rows_dropped"] == 3


@pytest.mark.parametrize("with_next", [False, True])
def test_round_trip_is_bitwise(tmp_path: Path, with_next: bool) -> None:
    raw = columns()
    raw["rewards"][0] = np.float32(1) / 3
    data = Trajectories.from_arrays(
        raw["observations"],
        raw["actions"],
        raw["rewards"],
        raw["costs"],
        [0, 0, 1, 0, 0, 0],
        raw["timeouts"],
        next_observations=raw["next_observations"] if with_next else None,
        action_low=[-1, -2.5],
        action_high=3,
    )
    path = tmp_path / "new" / "x.hdf5"
    write_hdf5(path, data, attributes={"robot": "ball", "version": 2})
    assert load(path, next_observations=True).fingerprint() == data.fingerprint()
    with h5py.File(path) as file:
        assert file.attrs["robot"] == "ball"
        assert file.attrs["version"] == 2
        assert ("next_observations" in file) == with_next
        assert file["observations"].compression == "gzip"
    first = path.read_bytes()
    write_hdf5(path, data, attributes={"robot": "ball", "version": 2})
    assert path.read_bytes() == first


def test_a_given_action_box_wins_over_the_file(path: Path) -> None:
    write_hdf5(path, load(write(path, **columns()), action_low=-2, action_high=[2, 4]))
    data = load(path, action_high=5)
    np.testing.assert_array_equal(data.action_low, [-2, -2])
    np.testing.assert_array_equal(data.action_high, [5, 5])


def test_a_failed_write_leaves_the_old_file(path: Path) -> None:
    data = load(write(path, **columns()))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_hdf5(path, data, attributes={"bad": object()})  # type: ignore[dict-item]
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_writing_below_a_file_fails_in_one_sentence(path: Path) -> None:
    data = load(write(path, **columns()))
    with pytest.raises(RunError, match="cannot write"):
        write_hdf5(path / "x.hdf5", data)


def test_memory_of_loading_stays_near_that_of_the_arrays(path: Path) -> None:
    write(path, **columns(100_000))
    tracemalloc.start()
    try:
        data = load(path, next_observations=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(array.nbytes for array in vars(data).values() if isinstance(array, np.ndarray))
    assert size > 6e6
    assert peak < 1.3 * size


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def test_missing_file_suggests_the_nearest(path: Path) -> None:
    write(path, **columns())
    near = path.with_name("SafetyBallRun-v0-80-904.hdf5")
    assert f"does not exist; did you mean {path.name}?" in refusal(near)
    assert "does not exist; check the path" in refusal(path.with_name("qqq"))
    assert "the folder" in refusal(path.parent / "nowhere" / "x.hdf5")


def test_folder(path: Path) -> None:
    path.mkdir()
    assert "is a folder; pass one of the HDF5 files in it" in refusal(path)


def test_part_of_the_path_is_a_file(path: Path) -> None:
    write(path, **columns())
    assert "cannot be read (Not a directory)" in refusal(path / "x.hdf5")


def test_not_hdf5(path: Path) -> None:
    path.write_bytes(b"observations")
    assert "this is not an HDF5 file; check that it is the data set itself" in refusal(path)


def test_file_that_is_being_written(path: Path) -> None:
    program = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    write(path, **columns())
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert "is being written by another process" in refusal(path)
        writer.communicate()


def test_truncated_file(path: Path) -> None:
    write(path, **columns(5000))
    path.write_bytes(path.read_bytes()[:-1000])
    message = refusal(path)
    assert "is truncated or damaged" in message
    assert "download or write it again" in message


def test_damaged_chunk(path: Path) -> None:
    write(path, **columns(5000))
    write_hdf5(path, load(path))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    assert "is truncated or damaged" in refusal(path)


def test_no_permission(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, who may read everything
    assert "may not be read; ask for read permission" in refusal(path)


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("observations", "add one row per transition, or"),
        ("actions", "add one row per transition, or"),
        ("rewards", "add one number per transition, or"),
    ],
)
def test_missing_key(path: Path, key: str, remedy: str) -> None:
    message = refusal(write(path, **{k: v for k, v in columns().items() if k != key}))
    assert f"the key {key} is missing; the file has " in message
    assert all(other in message for other in columns() if other != key)
    assert f"; {remedy} build the data set with Trajectories.from_arrays." in message


def test_one_of_the_flags_may_be_missing(path: Path) -> None:
    whole = load(write(path, **columns()))
    assert load(write(path, **columns(terminals=None))).fingerprint() == whole.fingerprint()
    ends = columns()["timeouts"]
    data = load(write(path, **columns(terminals=ends, timeouts=None)))
    np.testing.assert_array_equal(data.terminated, ends)
    assert not data.truncated.any()
    message = refusal(write(path, **columns(terminals=None, timeouts=None)))
    assert "the key terminals is missing" in message
    assert "add terminals or timeouts, 1 on the last row of each episode and 0 elsewhere" in message


def test_keys_of_other_names_are_named(path: Path) -> None:
    raw = columns()
    write(path, **columns(observations=None, observation=raw["observations"]))
    assert "; rename observation to observations, or build" in refusal(path)
    write(path, **columns(terminals=None, timeouts=None, done=raw["timeouts"]))
    assert "; rename done to terminals, or build" in refusal(path)


def test_missing_next_observations_are_no_fault(path: Path) -> None:
    assert load(write(path, **columns(next_observations=None)), next_observations=True).next_observations is None


def test_no_keys_at_all(path: Path) -> None:
    assert "the file has no keys" in refusal(write(path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"costs": np.zeros(N - 1)}, "costs has 5 rows but observations has 6"),
        ({"timeouts": np.zeros(N - 1)}, "timeouts has 5 rows"),
        ({"timeouts": np.zeros(N)}, "no row of terminated or truncated is set"),
        ({"observations": np.zeros(N)}, "observations has shape (6,)"),
        ({"actions": np.zeros((N, 2, 2))}, "actions has shape (6, 2, 2)"),
        ({"rewards": np.zeros((N, 3))}, "rewards has shape (6, 3)"),
        ({"costs": 1.0}, "costs has shape ()"),
        ({"observations": np.zeros((0, 7))}, "observations is empty"),
        ({"rewards": np.zeros(0)}, "rewards is empty"),
        ({"rewards": np.array([b"a"] * N)}, "rewards has dtype |S1; convert it to float32"),
        ({"actions": np.zeros((N, 2), np.complex64)}, "actions has dtype complex64"),
        ({"terminals": np.full(N, 0.5)}, "terminated is 0.5 in row 0"),
    ],
)
def test_malformed_datasets(path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(write(path, **columns(**changes)))


def test_every_column_empty(path: Path) -> None:
    assert "is empty" in refusal(write(path, **{key: value[:0] for key, value in columns().items()}))


def test_null_dataset(path: Path) -> None:
    assert "costs is empty" in refusal(write(path, **columns(costs=h5py.Empty("f4"))))


def test_group_instead_of_array(path: Path) -> None:
    write(path, **columns(actions=None))
    with h5py.File(path, "a") as file:
        file["actions/position"] = file["actions/speed"] = np.zeros((N, 2))
    words = "actions is a group, not an array; put what it holds (position, speed) side by side into one array"
    assert words in refusal(path)


def test_next_observations_with_other_features(path: Path) -> None:
    write(path, **columns(next_observations=np.zeros((N, 9))))
    assert "next_observations has shape (6, 9)" in refusal(path, next_observations=True)


def test_action_box_of_another_size(path: Path) -> None:
    assert "action_low has shape (3,)" in refusal(write(path, **columns()), action_low=[-1, -1, -1])


@pytest.mark.parametrize("chunks", [None, (1, 1), (7, 3), (50, 7), (13, 7), (50, 1), (64, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.bool_])
@pytest.mark.parametrize("block_bytes", [1, 100, 1000, 2**24])
def test_chunks_of_any_shape(
    path: Path, chunks: Any, dtype: Any, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetrax.data.formats.hdf5._BLOCK_BYTES", block_bytes)
    raw = columns(50)
    values = np.random.default_rng(1).standard_normal((50, 7)).astype(dtype)
    with h5py.File(write(path, **columns(50, observations=None, costs=None)), "a") as file:
        if chunks is None:
            file["observations"], file["costs"] = values, raw["costs"]
        else:  # chunks may be larger than what can grow
            create = partial(file.create_dataset, compression="gzip")
            create("observations", data=values, chunks=chunks, maxshape=(None, None))
            create("costs", data=raw["costs"], chunks=chunks[:1], maxshape=(None,))
    data = load(path)
    np.testing.assert_array_equal(data.observations, values.astype(np.float32))
    np.testing.assert_array_equal(data.costs, raw["costs"])


# files of more than plain arrays


def test_links_that_lead_nowhere(path: Path) -> None:
    with h5py.File(write(path, **columns(costs=None)), "a") as file:
        file["costs"] = h5py.SoftLink("/log/costs")
    assert "costs is a link to /log/costs, which is not in the file; write the array itself" in refusal(path)


def test_links_inside_the_file_are_followed(path: Path) -> None:
    whole = load(write(path, **columns())).fingerprint()
    with h5py.File(path, "a") as file:
        file.move("costs", "log/costs")
        file["costs"] = h5py.SoftLink("/log/costs")
        file["log/all"] = file["/"]  # a circle
    assert load(path).fingerprint() == whole


def external_link(path: Path, other: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file["rewards"] = h5py.ExternalLink(other.name, "rewards")


def link_to_a_link(path: Path, other: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file["elsewhere"] = h5py.ExternalLink(other.name, "/")
        file["rewards"] = h5py.SoftLink("/elsewhere/rewards")


def raw_storage(path: Path, other: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file.create_dataset("rewards", (N,), "f4", external=[(str(other), 0, 4 * N)])


def virtual_array(path: Path, other: Path) -> None:
    layout = h5py.VirtualLayout((N,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "rewards", (N,))
    with h5py.File(path, "a", libver="latest") as file:
        del file["rewards"]
        file.create_virtual_dataset("rewards", layout)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("way", [external_link, link_to_a_link, raw_storage, virtual_array])
def test_no_file_makes_the_library_read_another(path: Path, way: Any, there: bool) -> None:
    """The rewards would change while the recorded hash stays, and rows of a missing part would cost nothing."""
    other = path.with_name("other.hdf5")
    if there:
        write(other, rewards=np.ones(N, np.float32))
    way(write(path, **columns()), other)
    message = refusal(path)
    assert other.name in message
    assert "which is not followed; where all of it is there, write the arrays themselves into one file" in message


def test_user_blocks_are_no_obstacle(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in columns().items():
            file[key] = value
    assert load(path).num_transitions == N


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("packing", [{}, {"chunks": (4, 7)}, {"chunks": (4, 7), "maxshape": (None, 7)}])
def test_rows_that_were_never_written_are_not_made_up(path: Path, libver: str, packing: dict[str, Any]) -> None:
    raw = columns(50)
    for rows in (50, 8, 0):
        with h5py.File(path, "w", libver=libver) as file:
            for key, value in raw.items():
                kept = {**packing, "chunks": packing["chunks"][: value.ndim]} if "chunks" in packing else {}
                if "maxshape" in kept:
                    kept["maxshape"] = (None, *value.shape[1:])
                if value.ndim == 2 and "chunks" in kept:
                    kept["chunks"] = (4, value.shape[1])
                dataset = file.create_dataset(key, value.shape, value.dtype, **kept)
                if rows or key != "costs":
                    dataset[: rows if key == "costs" else 50] = value[: rows if key == "costs" else 50]
        if rows == 50 or (rows and not packing):  # HDF5 itself no longer knows which of one block are missing
            assert load(path).num_transitions == 50
        else:
            assert f"costs was never written as a whole ({2 if rows else 0} of " in refusal(path)


def test_a_small_file_does_not_get_much_memory(path: Path) -> None:
    """4 GB of zeros that are packed twice: HDF5 would unpack them before their shape is looked at."""
    rows = 10_000_000
    with h5py.File(path, "w") as file:
        for key, value in columns().items():
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((rows // 10, *value.shape[1:]))
            for _ in range(2):
                properties.set_deflate(9)
            space = h5py.h5s.create_simple((rows, *value.shape[1:]))
            kind = h5py.h5t.py_create(np.dtype(np.float32))
            array = h5py.Dataset(h5py.h5d.create(file.id, key.encode(), kind, space, properties))
            block = zlib.compress(
                zlib.compress(bytes(4 * rows // 10 * (value.shape[1] if value.ndim == 2 else 1)), 9), 9
            )
            for first in range(0, rows, rows // 10):
                array.id.write_direct_chunk((first, 0)[: value.ndim], block)
    tracemalloc.start()
    try:
        assert "its arrays would take 520 MB" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_a_log_of_constants_is_small_and_read(path: Path) -> None:
    n = 200_000
    raw = columns(n, next_observations=None)
    raw |= {key: np.zeros_like(raw[key]) for key in ("observations", "actions", "rewards", "costs")}
    with h5py.File(path, "w") as file:
        for key, value in raw.items():
            file.create_dataset(key, data=value, compression="gzip", compression_opts=9, chunks=(n, *value.shape[1:]))
    assert sum(value.nbytes for value in raw.values()) > 300 * path.stat().st_size
    assert load(path).num_transitions == n


def test_a_filter_that_is_not_installed(path: Path) -> None:
    write(path, **columns(costs=None))
    with h5py.File(path, "a") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((N,))
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        kind = h5py.h5t.py_create(np.dtype(np.float32))
        array = h5py.h5d.create(file.id, b"costs", kind, h5py.h5s.create_simple((N,)), properties)
        array.write_direct_chunk((0,), bytes(4 * N))
    assert "costs is packed with the filter 32001, which is not installed; import hdf5plugin" in refusal(path)


def test_file_systems_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def open_without_locks(*arguments: Any, **options: Any) -> Any:
        assert options["locking"] is False
        return opened(*arguments, **options)

    opened = h5py.File
    write(path, **columns())
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(h5py, "File", open_without_locks)
    assert load(path).num_transitions == N


def test_a_file_that_this_process_reads_already(path: Path) -> None:
    write(path, **columns())
    with h5py.File(path):
        assert load(path).num_transitions == N


def test_arrays_in_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for episode in range(3):
            file[f"data/demo_{episode}/obs/joint"] = np.zeros((4, 3))
            file[f"data/demo_{episode}/actions"] = np.zeros((4, 2))
    message = refusal(path)
    assert "the arrays are in groups, such as data, but one flat array per key is needed" in message
    assert "Trajectories.from_episodes" in message


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (np.dtype([("a", "f4")]), "costs has dtype [('a', '<f4')]; convert it to float32"),
        (h5py.ref_dtype, "costs has dtype object; convert it to float32"),
    ],
)
def test_types_that_are_no_numbers(path: Path, kind: np.dtype, words: str) -> None:
    with h5py.File(write(path, **columns(costs=None)), "a") as file:
        file.create_dataset("costs", (N,), kind)
    assert words in refusal(path)


def test_enumerations_are_numbers(path: Path) -> None:
    with h5py.File(write(path, **columns(costs=None)), "a") as file:
        file.create_dataset("costs", data=[0, 1] * (N // 2), dtype=h5py.enum_dtype({"safe": 0, "hit": 1}, "i1"))
    np.testing.assert_array_equal(load(path).costs, [0, 1] * (N // 2))


def test_texts_of_a_file_do_nothing_to_a_terminal(path: Path) -> None:
    write(path, **columns(observations=None), **{"\x1b[2Jx\r": np.zeros(1)})
    message = refusal(path)
    assert "the file has x , actions" in message
    assert message.isprintable()


def test_pipes_are_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    assert "is a pipe or a device; write what comes out of it to a file, and pass that" in refusal(path)


def test_a_bug_of_ours_is_no_fault_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("ours")

    write(path, **columns())
    np.savez(path.with_suffix(".npz"), **columns())
    monkeypatch.setattr("safetrax.data.formats.hdf5.find_keys", broken)
    monkeypatch.setattr("safetrax.data.formats.npz.find_keys", broken)
    for file in (path, path.with_suffix(".npz")):
        with pytest.raises(TypeError, match="ours"):
            load(file)


PEAK = """
import re, sys
from pathlib import Path
from safetrax.data import load

def memory(field):
    return int(re.search(rf"{field}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

load(sys.argv[2])  # imports what is imported late
before = memory("VmRSS")
data = load(sys.argv[1])
print(memory("VmHWM") - before)
"""


def large(path: Path, layout: str, dtype: Any, n: int) -> str:
    """A file with n transitions of 40 numbers."""
    raw = columns(n, next_observations=None)
    raw["observations"] = np.resize(np.random.default_rng(0).standard_normal((1000, 40)), (n, 40)).astype(dtype)
    if layout == "npz":
        np.savez(path, **raw)
        return f"{path}.npz"
    if layout == "parquet":
        frame = pd.DataFrame({f"obs_{i}": column for i, column in enumerate(raw["observations"].T)})
        rest = {"action": raw["actions"][:, 0], "reward": raw["rewards"], "cost": raw["costs"], "episode": 0}
        frame.assign(**rest).to_parquet(path)
        return str(path)
    packed = {} if layout == "contiguous" else {"compression": "gzip", "compression_opts": 1}
    if layout == "tall chunks":
        packed["chunks"] = (n, 1)
    with h5py.File(path, "w") as file:
        for key, column in raw.items():
            file.create_dataset(key, data=column, **(packed if key == "observations" else {}))
    return str(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory of a process")
@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        ("gzip", np.float32),
        ("gzip", np.float64),
        ("tall chunks", np.float32),
        ("contiguous", np.float64),
        ("npz", np.float64),
        ("parquet", np.float64),
    ],
)
def test_peak_memory_is_that_of_the_arrays_and_a_block(tmp_path: Path, layout: str, dtype: Any) -> None:
    files = [large(tmp_path / f"{n}", layout, dtype, n) for n in (300_000, 10)]
    peak = int(subprocess.check_output([sys.executable, "-c", PEAK, *files]))
    size = 300_000 * 40 * 4
    assert size < peak < size + 40e6  # with a copy of the file's numbers it would be 48 or 96 MB more
