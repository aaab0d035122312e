"""Damaging files at random, from a seed: their bytes, or what their format is made of."""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import re
import resource
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load, save

Random = np.random.Generator
Mutator = Callable[[bytes, Random], bytes]

_EXTREMES = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_ODD = (
    None, True, False, 0, -1, 1, 0.5, 1e300, 10**30, 2**63, float("inf"), float("nan"), "", "x", "1", "\x1b[2J\r",
    "\ud800", "n" * 5000, "../../etc/hostname", [], [[]], {}, {"a": []}, [None], [1, "x"], [[0.0, 1.0]] * 3,
)  # fmt: skip
_ODD_CELLS = (
    "",
    "nan",
    "inf",
    "-1",
    "1e999",
    "x",
    '"',
    "\x00",
    "\x1b[2J",
    "9" * 5000,
    "0x10",
    "True",
    "1;2",
    '"' + "x" * 200_000,
    "é",
    "2024-01-01",
)
_HANG = 120.0  # seconds; the slowest answer takes a tenth of one on an idle machine
_MOST = 500e6  # bytes beyond four times the file


class HangError(BaseException):
    """The reader has not come back. No Exception, so that no reader can take it for one of a file."""


def flip(content: bytes, random: Random) -> bytes:
    """Some bits are others."""
    found = bytearray(content)
    for at in random.integers(0, len(found), random.integers(1, 9)):
        found[at] ^= 1 << random.integers(0, 8)
    return bytes(found)


def truncate(content: bytes, random: Random) -> bytes:
    """The end is missing."""
    return content[: random.integers(0, len(content))]


def extend(content: bytes, random: Random) -> bytes:
    """Something follows."""
    return content + random.bytes(random.integers(1, 300))


def cut(content: bytes, random: Random) -> bytes:
    """A piece is missing."""
    first, last = sorted(random.integers(0, len(content) + 1, 2))
    return content[:first] + content[min(last, first + 200) :]


def repeat(content: bytes, random: Random) -> bytes:
    """A piece is there many times."""
    first = int(random.integers(0, len(content)))
    piece = content[first : first + int(random.integers(1, 200))]
    return content[:first] + piece * int(random.integers(2, 50)) + content[first:]


def splice(content: bytes, random: Random) -> bytes:
    """A piece stands where another should, or nothing but zeros or noise does."""
    first, other = random.integers(0, len(content), 2)
    size = int(random.integers(1, 200))
    piece = (content[other : other + size], bytes(size), random.bytes(size))[random.integers(0, 3)]
    return content[:first] + piece + content[first + len(piece) :]


def extreme(content: bytes, random: Random) -> bytes:
    """An integer is implausible: most of them are sizes and addresses."""
    width = int(random.choice([1, 2, 4, 8]))
    value = int(random.choice(np.array(_EXTREMES, object))) % 256**width
    first = int(random.integers(0, max(1, len(content) - width)))
    return content[:first] + value.to_bytes(width, random.choice(["little", "big"])) + content[first + width :]


def digits(content: bytes, random: Random) -> bytes:
    """A number that is written out is another."""
    numbers = list(re.finditer(rb"\d+", content))
    if not numbers:
        return flip(content, random)
    found = numbers[random.integers(0, len(numbers))]
    number = str(random.choice(np.array([*_EXTREMES, -1, "1e400", "nan", "9" * 5000], object))).encode()
    return content[: found.start()] + number + content[found.end() :]


BYTES: tuple[Mutator, ...] = (flip, truncate, extend, cut, repeat, splice, extreme, digits)


def json_text(content: bytes, random: Random) -> bytes:
    """A value of a JSON text has another type, is missing, or lies very deep."""
    tree = json.loads(content)
    if random.integers(0, 30) == 0:
        return b"[" * 100_000 + content
    return json.dumps(_changed(tree, random), indent=2).encode()


def _changed(tree: Any, random: Random) -> Any:
    places = list(_places(tree, ()))
    place = places[random.integers(0, len(places))]
    odd = _ODD[random.integers(0, len(_ODD))]
    if not place:
        return odd
    parent = tree
    for step in place[:-1]:
        parent = parent[step]
    last, value = place[-1], parent[place[-1]]
    with suppress(ValueError, TypeError):
        inner = json.loads(value)  # a text that holds JSON
        if isinstance(inner, dict | list) and random.integers(0, 4):
            parent[last] = json.dumps(_changed(inner, random))
            return tree
    way = random.integers(0, 4)
    if way == 0:
        del parent[last]
    elif way == 1 and isinstance(parent, dict):
        parent["\x1b[2Jnew"] = odd
    else:
        parent[last] = odd
    return tree


def _places(tree: Any, at: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield at
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        yield from _places(value, (*at, key))


def csv_text(content: bytes, random: Random) -> bytes:
    """A cell, a line or a column of a table is odd, missing or there twice."""
    lines = [line.split(b",") for line in content.splitlines()]
    row = int(random.integers(0, len(lines))) if random.integers(0, 2) else 0
    column = int(random.integers(0, len(lines[row])))
    odd = _ODD_CELLS[random.integers(0, len(_ODD_CELLS))].encode()
    way = random.integers(0, 6)
    if way == 0:
        del lines[row]
    elif way == 1:
        lines.insert(row, lines[random.integers(0, len(lines))])
    elif way == 2:
        lines = [line[:column] + line[column + 1 :] for line in lines]
    elif way == 3:
        lines = [[*line, line[column % len(line)]] if line else line for line in lines]
    else:
        lines[row] = [*lines[row][:column], odd, *lines[row][column + 1 :]]
    return b"\n".join(b",".join(line) for line in lines) + b"\n"


def packed_csv_text(content: bytes, random: Random) -> bytes:
    """The same inside a gzip file."""
    return gzip.compress(csv_text(gzip.decompress(content), random), mtime=0)


def parquet_columns(content: bytes, random: Random) -> bytes:
    """A column of a Parquet file has another type, holds nulls or is missing, or the entry of the library is odd."""
    table = pq.read_table(io.BytesIO(content))
    column = int(random.integers(0, table.num_columns))
    name, values = table.column_names[column], table.column(column)
    odd: list[Callable[[], Any]] = [
        lambda: values.cast(pa.string()),
        lambda: pa.array([None] * len(values), values.type),
        lambda: pa.array([None] * len(values)),
        lambda: pa.array([[1.0]] * len(values)),
        lambda: pa.array([{"x": 1}] * len(values)),
        lambda: pa.array([b"\xff"] * len(values)),
        lambda: pa.array([True] * len(values)),
        lambda: pa.array(range(len(values)), pa.timestamp("us")),
        lambda: pa.array([float("nan")] * len(values)),
        lambda: pa.array([-(2**63)] * len(values)),
    ]
    way = random.integers(0, 4)
    if way == 0:
        table = table.remove_column(column)
    elif way == 1 and table.schema.metadata:
        facts = {key: json_text(value, random) for key, value in table.schema.metadata.items()}
        table = table.replace_schema_metadata(facts)
    elif way == 2:
        table = table.slice(0, random.integers(0, 2))
    else:
        table = table.set_column(column, name, odd[random.integers(0, len(odd))]())
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def safetensors_header(content: bytes, random: Random) -> bytes:
    """The table of contents of a safetensors file is odd, and its length right."""
    size = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + size])
    entries["__metadata__"] = _unproven(entries.get("__metadata__", {}))
    header = json_text(json.dumps(entries).encode(), random)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def safetensors_arrays(content: bytes, random: Random) -> bytes:
    """An array has another shape or type, or is missing; all is well-formed."""
    size = int.from_bytes(content[:8], "little")
    metadata = _unproven(json.loads(content[8 : 8 + size]).get("__metadata__", {}))
    tensors = load(content)
    name = str(random.choice(sorted(tensors)))
    tensors[name] = _odd_array(tensors[name], random, numeric=True)
    if random.integers(0, 4) == 0:
        del tensors[name]
    return bytes(save(tensors, metadata))


def _unproven(metadata: dict[str, str]) -> dict[str, str]:
    """Without a hash of the content, which would tell every damage before the content is looked at."""
    return {key: value for key, value in metadata.items() if not re.fullmatch("[0-9a-f]{64}", value)}


def _odd_array(array: np.ndarray, random: Random, *, numeric: bool = False) -> np.ndarray:
    ways: list[Callable[[], Any]] = [
        lambda: array[:-1],
        lambda: array[..., None],
        lambda: array.reshape(-1),
        lambda: array[:0],
        lambda: np.zeros((), np.float32),
        lambda: np.full_like(array, 99),
        lambda: array.astype(np.float64),
        lambda: array.astype(np.int8),
        lambda: array.astype(np.bool_),
    ]
    if not numeric:
        ways += [
            lambda: array.astype(np.complex64),
            lambda: np.array([b"\x1b[2J"] * max(1, len(array))),
            lambda: np.zeros(array.shape, [("a", "f4")]),
            lambda: np.full_like(array, np.nan, np.float16),
        ]
    with (
        np.errstate(all="ignore"),
        suppress(ValueError, IndexError, OverflowError, TypeError),
    ):  # texts and numbers without a shape
        return np.ascontiguousarray(ways[random.integers(0, len(ways))]())
    return np.zeros(3, np.float32)


def npz_members(content: bytes, random: Random) -> bytes:
    """An array of an NPZ file is odd, or its header says so."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as changed:
        names = archive.namelist()
        chosen = names[random.integers(0, len(names))]
        for name in names:
            data = archive.read(name)
            if name == chosen and random.integers(0, 2):
                stream = io.BytesIO()
                np.save(stream, _odd_array(np.load(io.BytesIO(data)), random))
                data = stream.getvalue()
            elif name == chosen:
                data = BYTES[random.integers(0, len(BYTES))](data[:128], random) + data[128:]
            changed.writestr(name, data)
    return out.getvalue()


def hdf5_contents(content: bytes, random: Random) -> bytes:
    """An array, an attribute or a link of an HDF5 file is odd."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        arrays = [name for name in names if isinstance(file[name], h5py.Dataset)]
        name = str(random.choice(arrays))
        array = np.asarray(file[name])
        way = random.integers(0, 7)
        owner = file[str(random.choice(names))] if random.integers(0, 2) else file
        if way == 0 and len(owner.attrs):
            odd = _ODD[random.integers(0, len(_ODD))]
            with suppress(TypeError, ValueError, UnicodeError, OSError, OverflowError):
                owner.attrs[str(random.choice(sorted(owner.attrs)))] = odd
            return _flushed(file, stream)
        del file[name]
        if way == 1:
            file[name] = h5py.SoftLink("/nowhere")
        elif way == 2:
            file[name] = h5py.ExternalLink("/etc/hostname", "/x")
        elif way == 3:
            file.create_dataset(name, (10**9, *array.shape[1:]), "f4")
        elif way == 4:
            file.create_group(name)
        elif array.ndim:
            file[name] = _odd_array(array, random)
        return _flushed(file, stream)


def _flushed(file: h5py.File, stream: io.BytesIO) -> bytes:
    file.flush()
    return stream.getvalue()


def damaged(content: bytes, structural: tuple[Mutator, ...], random: Random) -> bytes:
    """Of what the format is made of, where that is known, or one to three times of the bytes, or both."""
    ways = int(random.integers(0, 4)) if structural else 0
    if ways:
        content = structural[random.integers(0, len(structural))](content, random)
    for _ in range(random.integers(1, 4) if ways in (0, 3) else 0):
        content = BYTES[random.integers(0, len(BYTES))](content or b"x", random)
    return content


@contextmanager
def guarded(size: int) -> Iterator[None]:
    """The block must end soon, and stay within 500 MB and four times the file.

    Raises:
        HangError: it does not end.
        AssertionError: it takes too much memory.
    """

    def stop(*_: Any) -> None:
        raise HangError(f"no end after {_HANG:g} s")

    before = _memory("VmRSS")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _HANG)
    faulthandler.dump_traceback_later(4 * _HANG, exit=True)  # where C code does not let the alarm through
    if before:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + 8 * 2**30, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    used = _memory("VmHWM") - before
    assert used <= _MOST + 4 * size, f"{used / 1e6:.0f} MB for a file of {size} bytes"


def _memory(field: str) -> int:
    """Bytes that Linux says this process has; 0 elsewhere."""
    if sys.platform != "linux":
        return 0
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
