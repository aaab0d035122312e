"""An unfinished download: its bytes, and which file of which address they are the beginning of."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING

from safetrax.data.download.listener import size_text
from safetrax.errors import RunError
from safetrax.files import explain_os_errors, sync_folder, write_json

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True)
class Origin:
    """What a server says of the file that a part is the beginning of.

    Attributes:
        url: the address that was asked, before redirections.
        etag: its ETag, or empty.
        last_modified: its Last-Modified, or empty.
        size: bytes of the whole file; None if the server did not say.
    """

    url: str
    etag: str
    last_modified: str
    size: int | None

    @property
    def validator(self) -> str:
        """What tells the server's file from every other (the If-Range header); empty if there is nothing."""
        weak = self.etag.startswith("W/")  # promises equal meaning, not equal bytes
        return self.etag if self.etag and not weak else self.last_modified

    def agrees(self, headers: Message, size: int | None) -> bool:
        """Whether an answer can be about the same file: what both say of it is equal."""
        etag, date = headers.get("ETag"), headers.get("Last-Modified")
        if self.size is not None and size is not None and self.size != size:
            return False
        if self.etag and etag:
            return self.etag == etag
        return not (self.last_modified and date) or self.last_modified == date


class Part:
    """`NAME.part` beside the file `NAME` that it will be, and `NAME.part.json`, its origin.

    All writing raises RunError with a sentence; what is there is kept then.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f"{target.name}.part")
        self._origin_path = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> Origin | None:
        """Where the bytes are from; None if there are none, or it is unknown."""
        if not self.size:
            return None
        try:
            entries = json.loads(self._origin_path.read_text(encoding="utf-8"))
            size = None if entries["size"] is None else int(entries["size"])
            return Origin(str(entries["url"]), str(entries["etag"]), str(entries["last_modified"]), size)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    def beginning_of(self, url: str) -> Origin | None:
        """The origin, if the download from `url` can go on after the bytes that are there."""
        origin = self.origin()
        if origin is None or origin.url != url or not origin.validator:
            return None
        return None if origin.size is not None and self.size > origin.size else origin

    def restart(self, origin: Origin) -> None:
        """Forget the bytes, and note whose will come."""
        with explain_os_errors(self.path):
            self.path.write_bytes(b"")  # first, or a crash would pair the old bytes with the new origin
        write_json(self._origin_path, dataclasses.asdict(origin))

    def discard(self) -> None:
        """Remove both files."""
        with explain_os_errors(self.path):
            self.path.unlink(missing_ok=True)
            self._origin_path.unlink(missing_ok=True)

    def hasher(self) -> _Hash:
        """The hash of the bytes so far, to be updated with those that follow."""
        with explain_os_errors(self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")

    def check_space(self, total: int) -> None:
        """Raise RunError if a file of `total` bytes does not fit on the disk."""
        with explain_os_errors(self.path):
            lacking = total - self.size - shutil.disk_usage(self.path.parent).free
        if lacking > 0:
            raise RunError(
                f"cannot write {self.path}: the disk lacks {size_text(lacking)} for a file of {size_text(total)}; "
                "free some space, or choose another folder."
            )

    @contextmanager
    def appending(self) -> Iterator[Callable[[bytes], None]]:
        """Yield a function that adds bytes; at the end they are on the disk, also when the block raises."""
        with explain_os_errors(self.path):
            file = self.path.open("ab")

        def add(block: bytes) -> None:
            # the block's other errors are the network's, so only the writing is explained
            with explain_os_errors(self.path):
                file.write(block)

        try:
            yield add
        finally:
            with explain_os_errors(self.path), file:
                file.flush()
                os.fsync(file.fileno())

    def finish(self) -> None:
        """Give the bytes, which are on the disk, the name of the file, and forget the origin."""
        with explain_os_errors(self._target):
            self.path.replace(self._target)
            sync_folder(self._target.parent)
        self.forget()

    def forget(self) -> None:
        """Remove what is left beside a file that is complete, as far as the folder can be written to."""
        for path in (self.path, self._origin_path):
            with contextlib.suppress(OSError):
                path.unlink()
