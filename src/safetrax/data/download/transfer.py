"""One file from one address over HTTP: it goes on where it broke off, and is never glued from two versions.

The standard library's client does all that is needed here: proxies from the environment, verified certificates,
redirections that keep the Range header. Which bytes may follow which is RFC 9110, sections 13.1.5 and 14.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from safetrax._version import __version__
from safetrax.data.download.listener import Listener, size_text
from safetrax.data.download.part import Origin, Part

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try that follows one without progress."""

_LONGEST_PAUSE = 60.0  # whatever a server asks for
_BLOCK = 1 << 18
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)")


class MirrorError(Exception):
    """Why an address gave no file, in words that follow the name of its host."""


class _BrokenError(MirrorError):
    """The same, where another try may help, `wait` seconds later if the server said so."""

    def __init__(self, words: str, wait: float = 0.0) -> None:
        super().__init__(words)
        self.wait = wait


@dataclass(frozen=True)
class Fetched:
    """A part that is complete.

    Attributes:
        sha256: its hash, in hex.
        pieced: whether its bytes came in several answers, so that they could be of two versions of the file.
    """

    sha256: str
    pieced: bool


def host_of(url: str) -> str:
    """The host in an address, as people know it."""
    return urlsplit(url).hostname or url


def fetch(url: str, part: Part, *, name: str, timeout: float, listener: Listener) -> Fetched:
    """Complete `part` with the file at `url`. Tries again after breaks, stalls and faults of the server.

    Args:
        url: http or https.
        part: bytes of an earlier try are used if they are of the same file.
        name: what the listener calls it.
        timeout: seconds without a byte after which the connection counts as broken.
        listener: is told what happens.

    Raises:
        MirrorError: there is no such file, or too many tries in a row made no progress; the part is kept.
        RunError: the disk is full or the folder cannot be written to; the part is kept.
    """
    return _Transfer(url, part, name, timeout, listener).run()


@dataclass
class _Transfer:
    """One call of `fetch`; `flowed` once a byte has come."""

    url: str
    part: Part
    name: str
    timeout: float
    listener: Listener
    flowed: bool = False

    def run(self) -> Fetched:
        most = self.part.size if self.part.beginning_of(self.url) else 0
        tries = 0
        while True:
            try:
                return self._attempt()
            except _BrokenError as fault:
                if self.part.size > most:  # than ever: a server that starts again each time makes no progress
                    most, tries = self.part.size, 0
                if tries == len(PAUSES):
                    raise MirrorError(f"{fault} ({tries + 1} tries in a row)") from fault
                pause = min(max(PAUSES[tries], fault.wait), _LONGEST_PAUSE)
                tries += 1
                self.listener.note(f"{self.name}: {host_of(self.url)} {fault}; trying again in {pause:g} s")
                time.sleep(pause)

    def _attempt(self) -> Fetched:
        origin = self.part.beginning_of(self.url)
        done = self.part.size if origin else 0
        if origin and done == origin.size:
            return self._complete()
        with self._explained(), self._open(done, origin) as response:
            if response.status == 206 and origin:
                return self._append(response, done, self._total_of_rest(response, done, origin), pieced=True)
            if response.status == 416 and origin:
                return self._nothing_left(response, done, origin)
            return self._start(response, again=done > 0)

    def _open(self, done: int, origin: Origin | None) -> HTTPResponse:
        request = Request(self.url, headers={"User-Agent": f"safetrax/{__version__}"})
        if origin:
            request.add_header("Range", f"bytes={done}-")
            request.add_header("If-Range", origin.validator)
        try:
            response: HTTPResponse = _opener().open(request, timeout=self.timeout)
        except (ValueError, OverflowError, InvalidURL) as error:  # what urllib, IDNA and sockets say of an address
            raise MirrorError(f"sent on to an address that is none ({_words(error)})") from error
        return response

    def _start(self, response: HTTPResponse, *, again: bool) -> Fetched:
        """Take the whole file, whatever was asked for."""
        if response.status != 200:
            raise MirrorError(f"answered {response.status} {response.reason}")
        if response.headers.get_content_type() == "text/html":
            raise MirrorError("answered with a web page instead of the file")
        headers, total = response.headers, response.length
        if total is not None:
            self.part.check_space(total)
        if again:
            self.listener.note(f"{self.name}: {host_of(self.url)} cannot go on where it was; starting again")
        self.part.restart(Origin(self.url, headers.get("ETag", ""), headers.get("Last-Modified", ""), total))
        return self._append(response, 0, total, pieced=False)

    def _total_of_rest(self, response: HTTPResponse, done: int, origin: Origin) -> int | None:
        """Size of the whole file, of which the answer is the rest; else the part is given up."""
        start, total = _content_range(response)
        if not origin.agrees(response.headers, total):
            self.part.discard()
            raise _BrokenError("has another version of the file by now")
        if start != done:
            self.part.discard()
            raise _BrokenError("sent another piece of the file than was asked for")
        total = total or origin.size
        if total is not None:
            self.part.check_space(total)
        return total

    def _nothing_left(self, response: HTTPResponse, done: int, origin: Origin) -> Fetched:
        _, total = _content_range(response)
        if total == done and origin.size in (None, done):
            return self._complete()
        self.part.discard()
        raise _BrokenError("has a file of another size than it said")

    def _append(self, response: HTTPResponse, done: int, total: int | None, *, pieced: bool) -> Fetched:
        hasher = self.part.hasher()
        self.listener.begin(self.name, host_of(self.url), done, total)
        try:
            with self.part.appending() as add:
                # read1 gives what has come; read would lose it when the connection breaks before a block is full
                while block := response.read1(_BLOCK):
                    add(block)
                    hasher.update(block)
                    done += len(block)
                    self.flowed = True
                    self.listener.advance(done)
        finally:
            self.listener.end()
        if total is not None and done != total:
            raise _BrokenError(f"broke off after {size_text(done)} of {size_text(total)}")
        return Fetched(hasher.hexdigest(), pieced)

    def _complete(self) -> Fetched:
        return Fetched(self.part.hasher().hexdigest(), pieced=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except HTTPError as error:
            with error:
                raise _refusal(error) from error
        except URLError as error:
            # no connection: whoever never answered will not soon, but one that was there may come back
            kind = _BrokenError if self.flowed else MirrorError
            raise kind(f"cannot be reached ({_words(error.reason)})") from error
        except TimeoutError as error:
            raise _BrokenError(f"sent nothing for {self.timeout:g} s") from error
        except (OSError, HTTPException) as error:
            raise _BrokenError(f"broke the connection off ({_words(error)})") from error


def _refusal(error: HTTPError) -> MirrorError:
    words = " ".join(f"answered {error.code} {error.reason}".split())
    if error.code not in _TRY_AGAIN:
        return MirrorError(words)
    wait = error.headers.get("Retry-After", "")
    return _BrokenError(words, float(wait) if wait.isdecimal() else 0.0)


def _words(error: object) -> str:
    """An error of the network without its number, and its kind where it has no text."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _content_range(response: HTTPResponse) -> tuple[int | None, int | None]:
    """Where the answer begins, and the size of the whole file; None for what it does not say."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    start, total = found.groups() if found else (None, None)
    return (int(start) if start else None), (int(total) if total and total != "*" else None)


class _Redirects(HTTPRedirectHandler):
    """Follows to http and https only, and never from an address that is verified to one that is not."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise HTTPError(newurl, code, f"and sent on to {scheme}://, which is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Errors(HTTPErrorProcessor):
    """416 is an answer, not an error: nothing may be left of a file."""

    def http_response(self, request: Request, response: Any) -> Any:
        return response if response.status == 416 else super().http_response(request, response)

    https_response = http_response


def _opener() -> OpenerDirector:
    """For http and https and nothing else (urllib would open files and FTP, too), with the proxies of this moment."""
    opener = OpenerDirector()
    kinds = ProxyHandler, UnknownHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, _Redirects, _Errors
    for kind in kinds:
        opener.add_handler(kind())
    return opener
