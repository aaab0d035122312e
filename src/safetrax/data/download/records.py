"""What a data set was when it came: a small JSON file beside it, against which it is checked ever after."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from safetrax.errors import DataError
from safetrax.files import write_json

_KINDS = (str, int, str | None, str)  # of the fields of Record


@dataclass(frozen=True)
class Record:
    """The file beside `NAME`, called `NAME.sha256.json`.

    Attributes:
        sha256: hash of the whole file, in hex.
        size: bytes.
        url: where it was downloaded from; None if it was put there by hand.
        date: when it was recorded, in ISO 8601 and UTC.
    """

    sha256: str
    size: int
    url: str | None
    date: str

    @property
    def short(self) -> str:
        """The hash's first digits, for people."""
        return self.sha256[:12]

    def same_file(self, other: Record) -> bool:
        """Whether both are of the same bytes."""
        return (self.sha256, self.size) == (other.sha256, other.size)


def new_record(sha256: str, size: int, url: str | None) -> Record:
    """A record with the date of today."""
    return Record(sha256, size, url, datetime.now(UTC).isoformat(timespec="seconds"))


def record_path(path: Path) -> Path:
    """Where the record of a file is."""
    return path.with_name(f"{path.name}.sha256.json")


def read_record(path: Path) -> Record | None:
    """The record of the file `path`, None if it has none.

    Raises:
        DataError: the record is unreadable.
    """
    beside = record_path(path)
    try:
        entries = json.loads(beside.read_text(encoding="utf-8"))
        values = [entries[field.name] for field in dataclasses.fields(Record)]
        if not all(isinstance(value, kind) for value, kind in zip(values, _KINDS, strict=True)):
            raise ValueError("a value has the wrong kind")
        return Record(*values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"the record {beside} cannot be read ({error}); delete it to record the file anew."
        ) from error


def write_record(path: Path, record: Record) -> None:
    """Write the record of the file `path`, atomically.

    Raises:
        RunError: it cannot be written.
    """
    write_json(record_path(path), dataclasses.asdict(record))


def sha256_of(path: Path) -> str:
    """The file's hash, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
