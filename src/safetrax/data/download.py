"""DSRL's data sets: where they are on disk, and how they come there, checked and recorded.

They lie on the Hugging Face hub, whose own client fetches them; any other address is an ordinary file on the web.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload
from urllib.parse import quote, urlsplit

import h5py

from safetrax._version import __version__
from safetrax.catalogue import Task, catalogued_task
from safetrax.data.formats.damage import DamagedError, first_bytes, what_is_it
from safetrax.data.formats.hdf5 import all_arrays, open_hdf5
from safetrax.errors import ConfigError, DataError, RunError
from safetrax.files import explain_os_errors, locked, reason_of, sweep, sync_folder, write_json
from safetrax.progress import Reporter, make_reporter, size_text

FOLDER_VARIABLE = "DSRL_DATASET_DIR"
"""The environment variable that DSRL and this library take the folder from."""

PAUSES = (1.0, 4.0)
"""Seconds before a further try of an address that broke off."""

_HUB = "https://huggingface.co/"
_KEYS = ("observations", "actions", "rewards", "costs", "terminals", "timeouts")
_LOST = ("ConnectError", "ConnectTimeout", "InvalidURL", "TooManyRedirects", "UnsupportedProtocol")  # of httpx
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


def dataset_folder() -> Path:
    """The folder of the data sets, which need not exist: the environment variable DSRL_DATASET_DIR, else
    `~/.dsrl/datasets`, as DSRL itself has it."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "~/.dsrl/datasets").expanduser()


def dataset_path(task: str | Task, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where the task's file belongs, whether or not it is there.

    Args:
        task: the task, or its name.
        folder: where the data sets are; None: `dataset_folder()`.

    Raises:
        TaskError: there is no such task.
    """
    found = catalogued_task(task) if isinstance(task, str) else task
    return (dataset_folder() if folder is None else Path(folder).expanduser()) / found.dataset_file


def find_dataset(task: str | Task, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """The task's data set on disk, as `dataset_path`; None if it is not there, truncated, or no data set at all.

    Only the file's structure is looked at (milliseconds, whatever its size); `download` compares its hash, too.
    """
    path = dataset_path(task, folder)
    return path if path.is_file() and not fault_of(path) else None


def unfinished(path: Path) -> list[Path]:
    """What interrupted downloads of the file `path` left beside it."""
    kept = re.compile(re.escape(path.name) + r"(\.[0-9a-f]{16})?\.part")
    return [part for part in path.parent.glob("*.part") if kept.fullmatch(part.name)]


def fault_of(path: Path) -> str:
    """What is wrong with a file, in words that follow its name; empty if it is a whole data set in DSRL's format.

    HDF5 notes its own length in its first bytes, so a truncated file is found out without reading it.
    """
    try:
        start = first_bytes(path)
        if not h5py.is_hdf5(path):
            return what_is_it(start).partition(";")[0] or "is no HDF5 file"
        with open_hdf5(path) as file:
            there = {dataset.name for dataset in all_arrays(file)}
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except DamagedError as error:
        return "is truncated" if "truncated file" in str(error) else "is damaged"
    except DataError as error:
        return f"is refused ({str(error).removeprefix(f'{path}: ').rstrip('.')})"
    missing = [key for key in _KEYS if f"/{key}" not in there]
    return f"lacks {', '.join(missing)}" if missing else ""


@dataclass(frozen=True)
class Record:
    """What a data set was when it came: the file beside `NAME`, called `NAME.sha256.json`.

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

    def __str__(self) -> str:
        return f"{size_text(self.size)}, sha256 {self.sha256[:12]}"


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
        if not all(isinstance(v, kind) for v, kind in zip(values, (str, int, str | None, str), strict=True)):
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


@overload
def download(  # type: ignore[overload-overlap]  # a str is an iterable of str, but here it is a name
    tasks: str | Task,
    *,
    folder: str | os.PathLike[str] | None = None,
    urls: Sequence[str] | None = None,
    offline: bool = False,
    accept_changed: bool = False,
    progress: bool | Reporter = True,
    timeout: float = 30.0,
) -> Path: ...


@overload
def download(
    tasks: Iterable[str | Task],
    *,
    folder: str | os.PathLike[str] | None = None,
    urls: Sequence[str] | None = None,
    offline: bool = False,
    accept_changed: bool = False,
    progress: bool | Reporter = True,
    timeout: float = 30.0,
) -> list[Path]: ...


def download(
    tasks: str | Task | Iterable[str | Task],
    *,
    folder: str | os.PathLike[str] | None = None,
    urls: Sequence[str] | None = None,
    offline: bool = False,
    accept_changed: bool = False,
    progress: bool | Reporter = True,
    timeout: float = 30.0,
) -> Path | list[Path]:
    """DSRL's data sets of some tasks; what is on disk already is compared with its recorded hash instead.

    The first download of a file records its size and SHA-256 beside it (`NAME.sha256.json`), and nothing else is
    taken for that file from then on. From the Hugging Face hub, an interrupted download goes on where it stopped at
    the next call; from other addresses it starts again. The environment variable HF_ENDPOINT names a mirror of the
    hub; HF_HUB_OFFLINE means `offline`.

    Args:
        tasks: one task or several, or their names. Of several, the first that fails ends the call.
        folder: where the files are and go; None: the environment variable DSRL_DATASET_DIR, else `~/.dsrl/datasets`.
        urls: folders on the web that hold DSRL's files, in place of the known ones.
        offline: only check what is on disk.
        accept_changed: record a file that is not the recorded one, instead of refusing it.
        progress: whether to show it on standard error; or who is told.
        timeout: seconds without a byte after which a connection counts as broken (while a file comes from the hub,
            HF_HUB_DOWNLOAD_TIMEOUT says so instead).

    Returns:
        The file, or the files in the order of the tasks.

    Raises:
        TaskError: there is no such task.
        ConfigError: an address in `urls` is none.
        DataError: no mirror has the file, or what is on disk is not what was recorded.
        RunError: the folder cannot be written to, or the disk is full.
    """
    if not timeout > 0:
        raise ConfigError(f"timeout is {timeout:g}, but must be a positive number of seconds.")
    several = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    jobs = []
    for task in (catalogued_task(entry) if isinstance(entry, str) else entry for entry in several):
        reporter = make_reporter(task.name, progress, "bytes", seconds=10.0)
        jobs.append(_Job(task, dataset_path(task, folder), _addresses(task, urls), accept_changed, reporter, timeout))
    paths = [job.run(offline) for job in jobs]
    return paths[0] if isinstance(tasks, str | Task) else paths


def _addresses(task: Task, urls: Sequence[str] | None) -> tuple[str, ...]:
    if urls is None:
        return task.dataset_urls
    for url in urls:
        if not _is_folder(url):
            raise ConfigError(f"{url!r} is no address of a folder on the web, such as https://host/folder.")
    return tuple(f"{url.rstrip('/')}/{quote(task.dataset_file)}" for url in urls)


def _is_folder(url: str) -> bool:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False
    return whole and not (parts.query or parts.fragment) and url.isascii() and url.isprintable() and " " not in url


class _MirrorError(Exception):
    """Why an address gave no file, in words that follow the name of its host."""


@dataclass(frozen=True)
class _Job:
    """One data set, wanted at `target`. What has come of it is `NAME.part`, or `NAME.HASH.part` if it can go on."""

    task: Task
    target: Path
    urls: tuple[str, ...]
    accept_changed: bool
    reporter: Reporter
    timeout: float

    def run(self, offline: bool) -> Path:
        with explain_os_errors(self.target):
            there = self.target.exists()
        lock = self.target.with_name(f".{self.target.name}.lock")
        if there:
            if lock.exists():  # of somebody who has just finished, or was killed then
                with contextlib.suppress(RunError), locked(lock, self.target, self._say_waiting):
                    pass
            return self._verify()
        from huggingface_hub.constants import is_offline_mode

        if offline or is_offline_mode():
            known = f" (from {self.urls[0]})" if self.urls else ""
            raise DataError(
                f"the data set of {self.task.name} is not on this machine: put {self.target.name}{known} into the "
                f"folder {self.target.parent}, or {'leave out --offline' if offline else 'unset HF_HUB_OFFLINE'}."
            )
        with locked(lock, self.target, self._say_waiting):
            sweep(self.target.parent, record_path(self.target).name)
            # somebody else may have finished it meanwhile
            return self._verify() if self.target.exists() else self._download()

    def _say_waiting(self) -> None:
        self.reporter.note("another process is downloading it; waiting for that one to end")

    def _verify(self) -> Path:
        """Compare what is there with its record; record it if it has none."""
        _drop(*unfinished(self.target))
        known = read_record(self.target)
        try:
            found = new_record(sha256_of(self.target), self.target.stat().st_size, None)
        except OSError as error:
            raise DataError(f"{self.target} cannot be read ({error.strerror}); check it, or delete it.") from error
        if known is not None and known.sha256 == found.sha256:
            self.reporter.note(f"is there and unchanged, {found}")
            return self.target
        if known is not None and not self.accept_changed:
            raise DataError(
                f"{self.target} is not the file that was recorded on {known.date[:10]}: {found} instead of {known}; "
                "delete it to download it again, or pass --accept-changed to record it as it is."
            )
        if fault := fault_of(self.target):
            raise DataError(
                f"{self.target} {fault}; delete it, then safetrax download {self.task.name} gets it again."
            )
        words = "was there already" if known is None else "is another file than before"
        try:
            write_record(self.target, found)
        except RunError as error:  # a folder that is only to be read serves as well
            self.reporter.note(f"{words}, {found}, which is not recorded: {error}")
        else:
            self.reporter.note(f"{words}; {found} is recorded now, and compared from now on")
        return self.target

    def _download(self) -> Path:
        """From the first address that has it."""
        if not self.urls:
            raise DataError(f"no address is known for {self.target.name}; name a folder on the web with --url.")
        known = read_record(self.target)  # a damaged one is better known before than after
        faults: list[str] = []
        for url in map(_at_endpoint, self.urls):
            host = urlsplit(url).hostname or url
            self.reporter.note(f"{faults[-1]}; trying {host}" if faults else f"from {host}")
            try:
                return self._accept(self._fetch(url), url, known)
            except _MirrorError as fault:
                faults.append(f"{host} {fault}")
        sizes = {part: part.stat().st_size for part in unfinished(self.target)}
        _drop(*(part for part, size in sizes.items() if not size))
        size = sum(sizes.values())
        kept = f" ({size_text(size)} are kept, and it will go on there)" if size else ""
        raise DataError(
            f"{self.task.name} could not be downloaded ({'; '.join(faults)}); try again later{kept}, name another "
            f"mirror with --url, or put {self.target.name} into the folder {self.target.parent} yourself."
        )

    def _accept(self, part: Path, url: str, known: Record | None) -> Path:
        """Check the whole file, record it and give it its name."""
        found = new_record(sha256_of(part), part.stat().st_size, url)
        fault = f"sent a file that {words}" if (words := fault_of(part)) else ""
        if not fault and known is not None and known.sha256 != found.sha256 and not self.accept_changed:
            fault = (
                f"sent a file with {found}, but {record_path(self.target).name} of {known.date[:10]} says {known}: "
                "pass --accept-changed to take it as it is now, which may not be what earlier results are from"
            )
        if fault:
            _drop(part)
            raise _MirrorError(fault)
        write_record(self.target, found)
        with explain_os_errors(self.target):
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(self.target)
            sync_folder(self.target.parent)
        _drop(*unfinished(self.target))
        self.reporter.note(f"downloaded, {found}")
        return self.target

    def _fetch(self, url: str) -> Path:
        """All bytes of an address, after some more tries if it breaks off."""
        for pause in (*PAUSES, None):
            try:
                return self._from_hub(url) or self._from_web(url)
            except (_MirrorError, RunError):
                raise
            except Exception as error:  # whatever the clients of the hub and of its servers raise
                if isinstance(error, OSError) and error.errno:  # of the disk: those of the network have none
                    raise RunError(f"cannot write {self.target}: {reason_of(error)}.") from error
                words, once = _fault(error)
                if once or pause is None:
                    raise _MirrorError(words if once else f"{words}, {len(PAUSES) + 1} times") from error
                self.reporter.note(f"{urlsplit(url).hostname} {words}; trying again in {pause:g} s")
            finally:
                self.reporter.stop()
            time.sleep(pause)
        raise AssertionError

    def _from_hub(self, url: str) -> Path | None:
        """A file on the hub, after the bytes of it that are there; None if the hub does not tell its SHA-256, without
        which pieces must not be joined."""
        from huggingface_hub import constants, get_hf_file_metadata
        from huggingface_hub.file_download import http_get

        if not url.startswith(f"{constants.ENDPOINT}/") or "/resolve/" not in url:
            return None
        file = get_hf_file_metadata(url, timeout=self.timeout, library_name="safetrax", library_version=__version__)
        if not (file.size and file.etag and re.fullmatch("[0-9a-f]{64}", file.etag)):
            return None
        reporter = self.reporter

        class Told(contextlib.nullcontext[Any]):
            """What the hub's client takes for its progress bar."""

            def __init__(self, *, initial: int, **_: Any) -> None:
                super().__init__(self)
                self.done = initial
                reporter.start(file.size, done=initial)

            def update(self, size: int) -> None:
                if size < 0:  # the client would do so for ever
                    raise ConnectionError("it starts again from the beginning")
                self.done += size
                reporter.advance("", self.done)

        part = self.target.with_name(f"{self.target.name}.{file.etag[:16]}.part")
        _drop(*(other for other in unfinished(self.target) if other != part))
        with part.open("ab") as out:
            if out.tell() > file.size:
                out.truncate(0)
            done = out.seek(0, os.SEEK_END)
            self._check_space(file.size - done)
            http_get(file.location, out, resume_size=done, expected_size=file.size, tqdm_class=Told)
        if sha256_of(part) != file.etag:
            _drop(part)
            raise ConnectionError("it sent other bytes than announced")
        return part

    def _from_web(self, url: str) -> Path:
        """A file anywhere on the web, from its first byte to its last: nothing is joined from two answers."""
        from huggingface_hub import get_session

        part = self.target.with_name(f"{self.target.name}.part")
        headers = {"User-Agent": f"safetrax/{__version__}", "Accept-Encoding": "identity"}
        with get_session().stream("GET", url, headers=headers, timeout=self.timeout) as answer:
            if answer.status_code != 200:
                answer.raise_for_status()
                raise _MirrorError(f"answered {answer.status_code} {answer.reason_phrase}")
            if answer.url.scheme == "http" and url.startswith("https:"):
                raise _MirrorError("sent on to http://, which is not followed")
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise _MirrorError("answered with a web page instead of the file")
            length = answer.headers.get("Content-Length", "")
            total = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
            self._check_space(total or 0)
            try:
                self.reporter.start(total)
                with part.open("wb") as out:
                    for block in answer.iter_bytes():
                        out.write(block)
                        self.reporter.advance("", out.tell())
            except BaseException:
                _drop(part)
                raise
        return part

    def _check_space(self, size: int) -> None:
        lacking = size - shutil.disk_usage(self.target.parent).free
        if lacking > 0:
            raise RunError(
                f"cannot write {self.target}: the disk lacks {size_text(lacking)} for {size_text(size)}; free some "
                "space, or choose another folder."
            )


def _drop(*parts: Path) -> None:
    for part in parts:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _at_endpoint(url: str) -> str:
    """An address on the Hugging Face hub, at the mirror of it that the environment variable HF_ENDPOINT names."""
    from huggingface_hub.constants import ENDPOINT

    return f"{ENDPOINT}/{url.removeprefix(_HUB)}" if url.startswith(_HUB) else url


def _fault(error: Exception) -> tuple[str, bool]:
    """What a client of the web says, in words that follow a host's name, and whether once is enough."""
    answer = getattr(error, "response", None)
    if answer is not None:
        words = " ".join(f"answered {answer.status_code} {answer.reason_phrase}".split())
        return words, answer.status_code not in _TRY_AGAIN
    words = re.sub(r"^\[Errno -?\d+\] ", "", " ".join(str(error).split())) or type(error).__name__
    lost = type(error).__name__ in _LOST
    return f"{'cannot be reached' if lost else 'broke off'} ({words})", lost
