"""DSRL's data sets from the internet: from the first mirror that has them, checked and recorded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload
from urllib.parse import quote, urlsplit

from rich.console import Console

from safetrax.catalogue import Task, get_task
from safetrax.data.download.contents import fault_of
from safetrax.data.download.listener import Listener, make_listener, size_text
from safetrax.data.download.part import Part
from safetrax.data.download.records import Record, new_record, read_record, record_path, sha256_of, write_record
from safetrax.data.download.transfer import Fetched, MirrorError, fetch, host_of
from safetrax.data.places import dataset_path
from safetrax.errors import ConfigError, DataError, RunError
from safetrax.files import explain_os_errors, locked, sweep


@overload
def download(  # type: ignore[overload-overlap]  # a str is an iterable of str, but here it is a name
    tasks: str | Task,
    *,
    folder: str | os.PathLike[str] | None = None,
    urls: Sequence[str] | None = None,
    offline: bool = False,
    accept_changed: bool = False,
    progress: bool | Listener = True,
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
    progress: bool | Listener = True,
    timeout: float = 30.0,
) -> list[Path]: ...


def download(
    tasks: str | Task | Iterable[str | Task],
    *,
    folder: str | os.PathLike[str] | None = None,
    urls: Sequence[str] | None = None,
    offline: bool = False,
    accept_changed: bool = False,
    progress: bool | Listener = True,
    timeout: float = 30.0,
) -> Path | list[Path]:
    """DSRL's data sets of some tasks; what is on disk already is compared with its recorded hash instead.

    The first download of a file records its size and SHA-256 beside it (`NAME.sha256.json`), and nothing else is
    taken for that file from then on. An interrupted download goes on where it stopped at the next call.

    Args:
        tasks: one task or several, or their names. Of several, the first that fails ends the call.
        folder: where the files are and go; None: the environment variable DSRL_DATASET_DIR, else `~/.dsrl/datasets`.
        urls: folders on the web that hold DSRL's files, in place of the known ones.
        offline: only check what is on disk.
        accept_changed: record a file that is not the recorded one, instead of refusing it.
        progress: whether to show it on standard error; or who is told.
        timeout: seconds without a byte after which a connection counts as broken.

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
    listener = progress if isinstance(progress, Listener) else _shown() if progress else Listener()
    several = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    known = [get_task(task) if isinstance(task, str) else task for task in several]
    jobs = [
        _Job(task, dataset_path(task, folder), _addresses(task, urls), accept_changed, listener, timeout)
        for task in known
    ]
    paths = [job.run(offline) for job in jobs]
    return paths[0] if isinstance(tasks, str | Task) else paths


def _shown() -> Listener:
    return make_listener(Console(stderr=True))


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


@dataclass(frozen=True)
class _Job:
    """One data set, wanted at `target`."""

    task: Task
    target: Path
    urls: tuple[str, ...]
    accept_changed: bool
    listener: Listener
    timeout: float

    def run(self, offline: bool) -> Path:
        with explain_os_errors(self.target):
            there = self.target.exists()
            if not there and not offline:
                self.target.parent.mkdir(parents=True, exist_ok=True)
        lock = self.target.with_name(f".{self.target.name}.lock")
        if there:
            if lock.exists():  # of somebody who has just finished, or was killed then
                with contextlib.suppress(RunError), locked(lock, self.target, self._say_waiting):
                    pass
            return self._verify()
        if offline:
            known = f" (from {self.urls[0]})" if self.urls else ""
            raise DataError(
                f"the data set of {self.task.name} is not on this machine: put {self.target.name}{known} into the "
                f"folder {self.target.parent}, or leave out --offline."
            )
        with locked(lock, self.target, self._say_waiting):
            for name in (self.target.name, record_path(self.target).name, f"{self.target.name}.part.json"):
                sweep(self.target.parent, name)
            # somebody else may have finished it meanwhile
            return self._verify() if self.target.exists() else self._download()

    def _say_waiting(self) -> None:
        self._note("another process is downloading it; waiting for that one to end")

    def _verify(self) -> Path:
        """Compare what is there with its record; record it if it has none."""
        Part(self.target).forget()
        known = read_record(self.target)
        found = self._examine()
        if known is not None and known.same_file(found):
            self._note(f"is there and unchanged, {_identity(found)}")
            return self.target
        if known is not None and not self.accept_changed:
            raise DataError(
                f"{self.target} is not the file that was recorded on {known.date[:10]}: {_identity(found)} "
                f"instead of {_identity(known)}; delete it to download it again, or pass --accept-changed to record "
                "it as it is."
            )
        if fault := fault_of(self.target):
            raise DataError(
                f"{self.target} {fault}; delete it, then safetrax download {self.task.name} gets it again."
            )
        self._record_as_it_is(found, "was there already" if known is None else "is another file than before")
        return self.target

    def _examine(self) -> Record:
        try:
            return new_record(sha256_of(self.target), self.target.stat().st_size, None)
        except OSError as error:
            raise DataError(f"{self.target} cannot be read ({error.strerror}); check it, or delete it.") from error

    def _record_as_it_is(self, found: Record, words: str) -> None:
        try:
            write_record(self.target, found)
        except RunError as error:  # a folder that is only to be read serves as well
            self._note(f"{words}, {_identity(found)}, which is not recorded: {error}")
        else:
            self._note(f"{words}; {_identity(found)} is recorded now, and compared from now on")

    def _download(self) -> Path:
        """From the first mirror that has it."""
        if not self.urls:
            raise DataError(f"no address is known for {self.target.name}; name a folder on the web with --url.")
        read_record(self.target)  # a damaged one is better known before than after
        part = Part(self.target)
        origin = part.origin()
        # the address that an unfinished file is from comes first
        urls = sorted(self.urls, key=lambda url: origin is None or url != origin.url)
        faults: list[str] = []
        changed = False
        for url in urls:
            if faults:
                self._note(f"{faults[-1]}; trying {host_of(url)}")
            try:
                return self._take(url, part)
            except MirrorError as fault:
                changed = changed or isinstance(fault, _ChangedError)
                faults.append(f"{host_of(url)} {fault}")
        raise DataError(
            f"{self.task.name} could not be downloaded ({'; '.join(faults)}); {self._remedy(part, changed)}"
        )

    def _remedy(self, part: Part, changed: bool) -> str:
        if changed:
            return "pass --accept-changed to take it as it is now, which may not be what earlier results are from."
        kept = f" ({size_text(part.size)} are kept, and it will go on there)" if part.size else ""
        return (
            f"try again later{kept}, name another mirror with --url, or put {self.target.name} into the folder "
            f"{self.target.parent} yourself."
        )

    def _take(self, url: str, part: Part) -> Path:
        fetched = self._fetch(url, part)
        fault = self._fault(url, part, fetched)
        if fault is not None and fetched.pieced:  # perhaps pieces of two versions
            self._note("the pieces are not of one file; starting again")
            part.discard()
            fetched = self._fetch(url, part)
            fault = self._fault(url, part, fetched)
        if fault is not None:
            part.discard()
            raise fault
        record = new_record(fetched.sha256, part.size, url)
        write_record(self.target, record)
        part.finish()
        self._note(f"downloaded, {_identity(record)}")
        return self.target

    def _fetch(self, url: str, part: Part) -> Fetched:
        return fetch(url, part, name=self.task.name, timeout=self.timeout, listener=self.listener)

    def _fault(self, url: str, part: Part, fetched: Fetched) -> MirrorError | None:
        """Why the complete part is not the data set."""
        if words := fault_of(part.path):
            return MirrorError(f"sent a file that {words}")
        known = read_record(self.target)
        found = new_record(fetched.sha256, part.size, url)
        if known is None or known.same_file(found) or self.accept_changed:
            return None
        return _ChangedError(
            f"sent a file with {_identity(found)}, but {record_path(self.target).name} of {known.date[:10]} says "
            f"{_identity(known)}"
        )

    def _note(self, words: str) -> None:
        self.listener.note(f"{self.task.name}: {words}")


class _ChangedError(MirrorError):
    """A mirror has another file than the one that was recorded."""


def _identity(record: Record) -> str:
    return f"{size_text(record.size)}, sha256 {record.short}"
