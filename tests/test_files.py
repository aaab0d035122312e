"""Files that are whole or absent, whatever happens; locks that die with their holder; numbers that stay apart."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from conftest import toy_episodes
from safetrax.data import load, write_hdf5, write_npz, write_parquet
from safetrax.errors import RunError, SafeTraXWarning
from safetrax.files import (
    append_text,
    atomic_path,
    exact,
    file_name,
    locked,
    read_json,
    read_tensors,
    sweep,
    write_json,
    write_tensors,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_lines_are_added_whole_or_not_at_all(tmp_path, monkeypatch):
    path, real, room = tmp_path / "rows.csv", os.write, 20

    def nearly_full(handle: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(handle, bytes(data[: min(room, 7)]))  # a short write is no error
        room -= written
        return written

    monkeypatch.setattr(os, "write", nearly_full)
    append_text(path, "1,2\n", header="a,b\n")
    append_text(path, "3,4\n", header="a,b\n", durable=True)
    assert path.read_text() == "a,b\n1,2\n3,4\n"
    with pytest.raises(RunError, match=r"cannot write .*rows\.csv: the disk is full"):
        append_text(path, "5,6\n7,8\n9,10\n")
    assert path.read_text() == "a,b\n1,2\n3,4\n"
    room = 100
    append_text(path, "5,6\n")
    assert path.read_text().endswith("3,4\n5,6\n")


FULL = """
import resource, sys
from pathlib import Path
from urllib.parse import unquote
from safetrax.errors import RunError
sys.path.insert(0, {tests!r})
import test_files
out, limit = Path(sys.argv[1]), int(sys.argv[2])
writers = test_files.writers()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for name, write in writers.items():
    try:
        write(out / name)
    except RunError as error:
        assert "the file would be larger" in str(error), error
    else:
        raise AssertionError(f"{{name}} was written")
"""


def writers():
    data = toy_episodes([100] * 20)
    return {
        "log.hdf5": lambda path: write_hdf5(path, data),
        "log.npz": lambda path: write_npz(path, data),
        "log.parquet": lambda path: write_parquet(path, data),
        "tensors.safetensors": lambda path: write_tensors(path, {"a": np.ones(5000)}, {}),
        "values.json": lambda path: write_json(path, list(range(5000))),
        "rows.csv": lambda path: append_text(path, "1,2\n" * 5000),
    }


@pytest.mark.parametrize("limit", [1, 10_000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(limit, tmp_path):
    code = FULL.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.stat().st_size] == []
    assert set(names(tmp_path)) <= {"rows.csv"}


def test_what_killed_writers_left_goes_and_what_is_written_now_stays(tmp_path):
    dead, other = tmp_path / ".c.safetensors.abcd_123.part", tmp_path / ".x.json.00000000.part"
    mine = [tmp_path / "log.part", tmp_path / ".notes.part", tmp_path / ".c.safetensors.part"]
    for path in (dead, other, *mine):
        path.write_text("left")
    with atomic_path(tmp_path / "c.safetensors") as temporary:
        assert not dead.exists()
        assert other.exists()
        sweep(tmp_path)
        assert not other.exists()
        temporary.write_text("new")
        with atomic_path(tmp_path / "c.safetensors") as second:  # of another thread
            second.write_text("newer")
    assert (tmp_path / "c.safetensors").read_text() == "new"
    assert names(tmp_path) == sorted(["c.safetensors", *(path.name for path in mine)])


def test_what_is_written_has_the_rights_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "made", "")
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


HOLDER = """
import subprocess, sys, time
from pathlib import Path
from urllib.parse import unquote
from safetrax.files import locked
with locked(Path(sys.argv[1]), Path("here")):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_lock_has_one_holder_and_dies_with_it_though_its_children_live(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    with pytest.raises(RunError) as refused, locked(path, Path("here")):
        pass
    assert str(refused.value) == (
        f"another safetrax command works in here ({os.uname().nodename} {holder.pid}); wait for it, or stop it."
    )
    holder.kill()
    holder.wait()
    assert path.exists()
    with locked(path, Path("here")):
        os.kill(child, 9)
    assert names(tmp_path) == []
    with pytest.raises(KeyError), locked(path, Path("here")):
        raise KeyError
    assert names(tmp_path) == []


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def unknown(handle: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("safetrax.files.fcntl.flock", unknown)
    with pytest.warns(SafeTraXWarning, match="file system without locks"), locked(tmp_path / "lock", tmp_path):
        write_text(tmp_path / "a.txt", "a")
    assert names(tmp_path) == ["a.txt"]


def test_tensors_are_checked_against_their_hash(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "w": np.arange(6, dtype=np.float32).reshape(3, 2).T,
        "s": np.array(2, np.float32),
        "none": np.zeros((0, 3)),
    }
    write_tensors(path, tensors, {"kind": "test"})
    header, read = read_tensors(path)
    assert header == {"kind": "test"}
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name], array)
    content = path.read_bytes()
    for old, new in ((np.float32(4).tobytes(), np.float32(5).tobytes()), (b"test", b"best")):
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))
        with pytest.raises(SafetensorError, match="changed since it was written"):
            read_tensors(path)
    save_file(load_file(path), path, {"kind": "older"})  # without a hash, as older versions did
    assert read_tensors(path)[0] == {"kind": "older"}


def test_json_is_read_as_it_was_written_and_numbers_are_finite(tmp_path):
    path = tmp_path / "x.json"
    values = {"a": [1, -2, 0.1, 1e300, 10**300, "NaN", None, True], "é": {}}
    write_json(path, values)
    assert read_json(path) == values
    assert [type(number) for number in read_json(path)["a"][:4]] == [int, int, float, float]
    for text in (
        "NaN",
        "-Infinity",
        "[1e999]",
        '{"a": 1' + "0" * 400 + "}",
        "-" + "9" * 5000,
        "[" * 100_000,
        "{",
        "",
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"is no finite number|nested too deeply|Expecting"):
            read_json(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (20.0, "20"), (0.5, "0.5"), (12.5, "12.5"), (40.00001, "40.00001"), (40.00002, "40.00002"), (100, "100"),
        (12345678.0, "12345678"), (12345679, "12345679"), (0.1 + 0.2, "0.30000000000000004"), (1e16, "1e+16"),
    ],
)  # fmt: skip
def test_a_number_as_a_word_is_short_and_exact(value, text):
    assert exact(value) == text
    assert float(text) == value


def test_a_log_that_was_written_is_read_bit_for_bit(tmp_path):
    data = toy_episodes([100] * 20)
    write_hdf5(tmp_path / "log.hdf5", data)
    assert load(tmp_path / "log.hdf5").fingerprint() == data.fingerprint()


@pytest.mark.parametrize("text", ["my_package:MyEnv-v0", "lab/Valve-v12", "BallRun", "50%", "größe"])
def test_a_name_for_a_file_can_be_read_back(text):
    name = file_name(text)
    assert re.fullmatch(r"[\w.~%-]+", name, re.ASCII)
    assert unquote(name) == text
