"""A web server on this machine that misbehaves as it is told, one request after the other."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one request is answered; as it is, well.

    Attributes:
        status: other than 200 sends no file.
        headers: further headers, which win over the usual ones; None leaves one out.
        body: another file.
        etag: the file's.
        modified: the file's Last-Modified.
        ranges: whether Range is obeyed.
        if_range: whether If-Range is.
        chunked: sends chunks instead of a length.
        limit: bytes after which it ends.
        ending: then closes, resets the connection or stalls.
        delay: seconds before each 16 KiB.
    """

    status: int = 200
    headers: dict[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True
    if_range: bool = True
    chunked: bool = False
    limit: int | None = None
    ending: str = "close"
    delay: float = 0.0


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `script`, then with `default`; HEAD, uncounted, with `head`."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.script: list[Answer] = []
        self.default = Answer()
        self.head = Answer(status=501)
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.sent = 0
        self.watched: Path | None = None
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files"

    def ranges(self) -> list[str | None]:
        """The Range header of every request so far."""
        return [headers.get("Range") for headers in self.requests]

    def has_read(self, size: int) -> bool:
        """Whether the client's file `watched` has about `size` bytes."""
        path = self.watched
        return path is not None and path.exists() and path.stat().st_size >= size - (1 << 14)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up in these tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if self.path.startswith("/api/"):  # what the hub's client asks beside files, uncounted
            return self._headers(404, {"Content-Length": "0"})
        answer = server.script.pop(0) if server.script else server.default
        server.requests.append(dict(self.headers))
        server.paths.append(self.path)
        self.close_connection = True
        body = server.body if answer.body is None else answer.body
        start = self._start(answer) if answer.status == 200 else 0
        if answer.status != 200:
            self._headers(answer.status, {"Content-Length": str(len(answer.body or b"")), **answer.headers})
            self.wfile.write(answer.body or b"")
        elif start >= len(body) > 0:
            self._headers(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0", **answer.headers})
        else:
            self._file(answer, body, start)

    def do_HEAD(self) -> None:
        answer = self.server.head
        body = self.server.body if answer.body is None else answer.body
        self._headers(answer.status, {"ETag": answer.etag, "Content-Length": str(len(body)), **answer.headers})

    def _start(self, answer: Answer) -> int:
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        same = condition in (None, answer.etag, answer.modified) or not answer.if_range
        return int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and answer.ranges and same else 0

    def _file(self, answer: Answer, body: bytes, start: int) -> None:
        headers: dict[str, str | None] = {
            "Content-Type": "application/octet-stream",
            "ETag": answer.etag or None,
            "Last-Modified": answer.modified or None,
            "Content-Length": None if answer.chunked else str(len(body) - start),
            "Transfer-Encoding": "chunked" if answer.chunked else None,
            "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}" if start else None,
        }
        self._headers(206 if start else 200, {**headers, **answer.headers})
        end = len(body) if answer.limit is None else start + answer.limit
        for at in range(start, min(end, len(body)), 1 << 14):
            time.sleep(answer.delay)
            self._send(body[at : min(at + (1 << 14), end)], answer.chunked)
        if end < len(body):
            self._end(answer.ending)
        elif answer.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _headers(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _send(self, block: bytes, chunked: bool) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
        self.server.sent += len(block)

    def _end(self, how: str) -> None:
        if how == "stall":
            self.server.ended.wait(10)
        elif how == "reset":
            self._wait_until_read()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _wait_until_read(self) -> None:
        """A reset overtakes what was sent before it, so the client's file is watched until most has arrived."""
        end = time.monotonic() + 5
        while time.monotonic() < end and not self.server.has_read(self.server.sent):
            time.sleep(0.01)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(body: bytes) -> Iterator[Server]:
    """A server that runs inside the block."""
    server = Server(body)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
