"""Downloads from a server that misbehaves: never half a file, always a sentence, and on from where it broke off."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import h5py
import numpy as np
import pytest
from rich.console import Console

from bad_server import Answer, serving
from safetrax.catalogue import Task, get_task, tasks
from safetrax.data.download import download, transfer
from safetrax.data.download.listener import Bar, Lines, Listener, size_text
from safetrax.data.download.part import Origin, Part
from safetrax.data.download.records import new_record, read_record, record_path, write_record
from safetrax.errors import ConfigError, DataError, RunError, TaskError
from safetrax.files import locked

TASK = "BallCircle"
NAME = get_task(TASK).dataset_file


def file_bytes(seed: int = 0, **changes: np.ndarray | None) -> bytes:
    """A small data set in DSRL's format, of some 200 kB."""
    rng, n = np.random.default_rng(seed), 3000
    keys = {
        "observations": rng.standard_normal((n, 8)).astype(np.float32),
        "next_observations": rng.standard_normal((n, 8)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        "rewards": rng.standard_normal(n).astype(np.float32),
        "costs": rng.integers(0, 2, n).astype(np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(n) % 100 == 99,
        **changes,
    }
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for key, value in keys.items():
            if value is not None:
                file[key] = value
    return memory.getvalue()


BODY, OTHER = file_bytes(), file_bytes(1)
SHA = hashlib.sha256(BODY).hexdigest()
HALF = len(BODY) // 2
WEB_PAGE = b"<!DOCTYPE html><html>please log in</html>"


class Heard(Listener):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


@pytest.fixture(autouse=True)
def quick_and_local(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0.01,) * 4)
    monkeypatch.setattr(transfer, "_LONGEST_PAUSE", 0.02)
    monkeypatch.setattr("os.fsync", lambda file: None)  # no test cuts the power, and disks are slow
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(tmp_path):
    with serving(BODY) as running:
        running.watched = tmp_path / f"{NAME}.part"
        yield running


@pytest.fixture
def get(tmp_path, server):
    """Download from the server."""

    def run(task: str | Task = TASK, **options) -> Path:
        settings = {"urls": [server.url], "folder": tmp_path, "progress": False, "timeout": 10, **options}
        return download(task, **settings)

    return run


@pytest.fixture
def refused(get, tmp_path):
    """A download that must fail with one sentence and leave no file at the target; the sentence."""

    def run(error: type[Exception] = DataError, **options) -> str:
        with pytest.raises(error) as caught:
            get(**options)
        assert not (tmp_path / NAME).exists()
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")
        return str(caught.value)

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check_done(path: Path) -> None:
    """The whole file, its record, and nothing else."""
    assert path.read_bytes() == BODY
    assert names(path.parent) == [NAME, f"{NAME}.sha256.json"]
    record = read_record(path)
    assert record is not None
    assert (record.sha256, record.size) == (SHA, len(BODY))


# ---------------------------------------------------------------------------------------------------- all is well


def test_a_download_is_whole_recorded_and_an_ordinary_file(get, server):
    path = get()
    check_done(path)
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert read_record(path).url == f"{server.url}/{NAME}"
    assert server.paths == [f"/files/{NAME}"]
    assert server.requests[0]["User-Agent"].startswith("safetrax/")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_that_is_there_is_compared_and_not_downloaded(get, server):
    get()
    heard = Heard()
    check_done(get(progress=heard))
    check_done(get(offline=True, progress=heard))
    assert len(server.requests) == 1
    assert all("is there and unchanged" in note for note in heard.notes)


def test_several_tasks_in_their_order(tmp_path, server):
    wanted = [get_task("CarRun"), "BallRun"]
    paths = download(wanted, urls=[f"{server.url}/"], folder=tmp_path, progress=False)
    assert [path.name for path in paths] == [get_task("CarRun").dataset_file, get_task("BallRun").dataset_file]
    assert server.paths == [f"/files/{path.name}" for path in paths]


def test_the_folder_is_dsrls(monkeypatch, tmp_path, server):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "far" / "away"))
    assert download(TASK, urls=[server.url], progress=False) == tmp_path / "far" / "away" / NAME


@pytest.mark.parametrize("answer", [Answer(chunked=True), Answer(headers={"Content-Length": None})])
def test_a_server_that_does_not_say_the_length(answer, get, server):
    server.default = answer
    check_done(get())


def test_what_a_user_sees_in_a_log(tmp_path, server, capsys):
    download(TASK, urls=[server.url], folder=tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        f"BallCircle: {size_text(len(BODY))} from 127.0.0.1",
        f"BallCircle: downloaded, {size_text(len(BODY))}, sha256 {SHA[:12]}",
    ]


# ------------------------------------------------------------------------------------ breaks, and how it goes on


@pytest.mark.parametrize("ending", ["close", "reset", "stall"])
@pytest.mark.parametrize("chunked", [False, True])
def test_it_goes_on_where_it_broke_off(ending, chunked, get, server):
    server.script = [Answer(limit=HALF, ending=ending, chunked=chunked)]
    check_done(get(timeout=0.4 if ending == "stall" else 10))
    first, second, *_ = server.ranges()
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").removesuffix("-")) > 0
    assert server.requests[1]["If-Range"] == '"one"'
    assert server.sent < 1.5 * len(BODY)


def test_progress_is_never_given_up(get, server):
    server.script = [Answer(limit=len(BODY) // 10) for _ in range(9)]  # more breaks than tries in a row
    check_done(get())
    assert server.sent == len(BODY)


def test_a_later_call_goes_on(refused, get, server, tmp_path):
    server.script = [Answer(limit=HALF)]
    server.default = Answer(status=503)
    said = refused()
    assert "answered 503 Service Unavailable (5 tries in a row)" in said
    assert f"try again later ({size_text(HALF)} are kept, and it will go on there)" in said
    assert names(tmp_path) == [f"{NAME}.part", f"{NAME}.part.json"]
    server.default = Answer()
    check_done(get())
    assert server.ranges()[-1] == f"bytes={HALF}-"
    assert server.sent == len(BODY)


def test_ctrl_c_keeps_what_has_come(get, server, tmp_path):
    class Impatient(Listener):
        def advance(self, done: int) -> None:
            if done > HALF:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(progress=Impatient())
    kept = (tmp_path / f"{NAME}.part").stat().st_size
    assert HALF < kept < len(BODY) or kept == len(BODY)
    check_done(get())
    assert server.ranges()[1:] == ([] if kept == len(BODY) else [f"bytes={kept}-"])


def test_a_killed_process_leaves_what_has_come(get, server, tmp_path):
    server.script = [Answer(limit=HALF, ending="stall")]
    child = subprocess.Popen([sys.executable, "-c", _CHILD, server.url, str(tmp_path)], stderr=subprocess.DEVNULL)
    part = tmp_path / f"{NAME}.part"
    _wait_until(lambda: part.exists() and part.stat().st_size > HALF - 2**14)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = part.stat().st_size
    check_done(get())  # and the dead process's lock file is gone
    assert server.ranges() == [None, f"bytes={kept}-"]


_CHILD = """
import sys
from safetrax.data.download import download
download("BallCircle", urls=[sys.argv[1]], folder=sys.argv[2], progress=False)
"""


def _wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_address_that_never_answers_is_tried_once(refused):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        heard = Heard()
        assert "127.0.0.1 cannot be reached (Connection refused)" in refused(urls=[url], progress=heard)
    assert heard.notes == []


def test_a_stalling_server_is_named_with_the_seconds(refused, server):
    server.default = Answer(limit=0, ending="stall")
    assert "127.0.0.1 sent nothing for 0.05 s (5 tries in a row)" in refused(timeout=0.05)


# ------------------------------------------------------------------------------------------ refusals and mirrors


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (410, 1), (500, 5), (503, 5), (429, 5)])
def test_a_fault_of_the_server_is_retried_and_a_refusal_is_not(status, tries, refused, server, tmp_path):
    server.default = Answer(status=status, body=WEB_PAGE)
    said = refused()
    assert f"127.0.0.1 answered {status} " in said
    assert "name another mirror with --url" in said
    assert len(server.requests) == tries
    assert names(tmp_path) == []


def test_a_server_that_is_ill_for_a_moment(get, server):
    server.script = [Answer(status=500), Answer(status=503, headers={"Retry-After": "3600"})]
    check_done(get())


@pytest.mark.parametrize(
    "bad", [Answer(status=404), Answer(status=500), Answer(body=WEB_PAGE), Answer(limit=HALF, ranges=False)]
)
def test_the_next_mirror_has_its_turn(bad, get, server):
    with serving(BODY) as broken:
        broken.default = bad
        check_done(get(urls=[broken.url, server.url]))
    assert server.ranges() == [None]


def test_an_unfinished_file_goes_on_at_its_own_mirror(refused, get, server):
    with serving(BODY) as other:
        server.script = [Answer(limit=HALF)]
        server.default = Answer(status=500)
        refused()
        server.default = Answer()
        check_done(get(urls=[other.url, server.url]))
        assert other.requests == []
    assert server.sent == len(BODY)


def test_all_mirrors_are_named_in_the_sentence(refused, server):
    server.default = Answer(status=404)
    with serving(BODY) as other:
        other.default = Answer(status=403)
        said = refused(urls=[server.url, other.url.replace("127.0.0.1", "localhost")])
    assert "127.0.0.1 answered 404 Not Found; localhost answered 403 Forbidden" in said


def test_the_known_mirrors_are_asked_first_to_last(monkeypatch, refused):
    asked = []

    def fetch(url, part, **options):
        asked.append(url)
        raise transfer.MirrorError("is not asked in a test")

    monkeypatch.setattr("safetrax.data.download.job.fetch", fetch)
    refused(urls=None)
    assert tuple(asked) == get_task(TASK).dataset_urls


# --------------------------------------------------------------------------------------------- lies and changes


def test_a_length_that_is_too_long(refused, server):
    server.default = Answer(headers={"Content-Length": str(len(BODY) + 1000)})
    assert "tries in a row" in refused()
    assert len(server.requests) < 20


@pytest.mark.parametrize("missing", [1, 1000, HALF])
def test_a_length_that_is_too_short(missing, refused, server, tmp_path):
    server.default = Answer(headers={"Content-Length": str(len(BODY) - missing)})
    assert "sent a file that is truncated" in refused()
    assert names(tmp_path) == []


def test_a_break_without_a_length_is_found_out(refused, server):
    server.default = Answer(headers={"Content-Length": None}, limit=HALF)
    assert "sent a file that is truncated" in refused()


def test_a_server_that_ignores_ranges_starts_again(get, server):
    server.script = [Answer(limit=HALF)]
    server.default = Answer(ranges=False)
    heard = Heard()
    check_done(get(progress=heard))
    assert server.ranges() == [None, f"bytes={HALF}-"]
    assert any("cannot go on where it was; starting again" in note for note in heard.notes)


def test_a_server_that_ignores_ranges_and_breaks_is_given_up(refused, server):
    server.default = Answer(limit=HALF, ranges=False)
    assert f"broke off after {size_text(HALF)} of {size_text(len(BODY))} (5 tries in a row)" in refused()


@pytest.mark.parametrize(
    "value", [f"bytes 0-{len(BODY) - 1}/{len(BODY)}", f"bytes {HALF}-{HALF}/{HALF + 1}", "items 1-2/3", "", None]
)
def test_a_wrong_content_range_starts_again(value, get, server):
    server.script = [Answer(limit=HALF), Answer(headers={"Content-Range": value})]
    check_done(get())
    assert server.ranges() == [None, f"bytes={HALF}-", None]


def test_a_file_that_changed_meanwhile_is_started_again(get, server):
    server.script = [Answer(limit=HALF, body=OTHER, etag='"old"')]
    check_done(get())
    assert server.ranges() == [None, f"bytes={HALF}-"]
    assert server.requests[1]["If-Range"] == '"old"'


def test_a_changed_file_is_told_from_the_answer_where_if_range_is_ignored(get, server):
    server.script = [Answer(limit=HALF, body=OTHER, etag='"old"'), Answer(if_range=False)]
    check_done(get())
    assert server.ranges() == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_the_date_serves_where_there_is_no_strong_etag(etag, get, server):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.script = [Answer(limit=HALF, etag=etag, modified=date), Answer(etag=etag, modified=date)]
    check_done(get())
    assert server.requests[1]["If-Range"] == date
    assert server.sent == len(BODY)


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_bytes_that_nothing_vouches_for_are_not_added_to(etag, get, server):
    server.script = [Answer(limit=HALF, etag=etag, body=OTHER)]
    server.default = Answer(etag=etag)
    check_done(get())
    assert server.ranges() == [None, None]


def test_pieces_of_two_versions_under_one_etag_are_found_out_by_the_hash(get, server, tmp_path):
    write_record(tmp_path / NAME, new_record(SHA, len(BODY), None))
    server.script = [Answer(limit=HALF, body=OTHER)]
    heard = Heard()
    check_done(get(progress=heard))
    assert server.ranges() == [None, f"bytes={HALF}-", None]
    assert any("pieces are not of one file" in note for note in heard.notes)


def test_redirections_keep_the_range(get, server):
    with serving(b"") as door:
        door.default = Answer(status=302, headers={"Location": f"{server.url}/cdn"})
        server.script = [Answer(limit=HALF, ending="reset")]
        path = get(urls=[door.url])
        check_done(path)
        assert read_record(path).url == f"{door.url}/{NAME}"
        assert door.ranges() == server.ranges()
    assert server.ranges()[1] is not None
    assert server.paths == ["/files/cdn"] * 2


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x"])
def test_redirections_lead_to_the_web_only(location, refused, server):
    server.default = Answer(status=302, headers={"Location": location})
    assert "answered 302" in refused()


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1/x",
        "http://a b/x",
        "http://host:port/x",
        "http://host:99999/x",
        "http:///x",
        f"http://{'a' * 70}.b/x",
        "http://..b/x",
        "http://\u00e9\u00ff\x7f/x",
        "http://127.0.0.1:1\x1b[2J/x",
        "//",
        "",
    ],
)
def test_redirections_to_nonsense_end_in_a_sentence(location, refused, server):
    server.default = Answer(status=302, headers={"Location": location})
    assert refused().isprintable()


@pytest.mark.parametrize("value", ["bytes 0-1/" + "9" * 5000, "bytes " + "9" * 5000 + "-1/1", "\xff"])
def test_ranges_of_nonsense(value, get, server):
    server.script = [Answer(limit=HALF), Answer(headers={"Content-Range": value})]
    check_done(get())


def test_redirections_in_a_circle(refused, server):
    server.default = Answer(status=302, headers={"Location": f"{server.url}/again"})
    assert "answered 302" in refused()


def test_redirections_never_leave_https():
    redirects = transfer._Redirects()
    secure = Request("https://host/file", headers={"Range": "bytes=5-"})
    further = redirects.redirect_request(secure, io.BytesIO(), 302, "Found", Message(), "https://cdn/file")
    assert further.get_header("Range") == "bytes=5-"
    with pytest.raises(HTTPError, match="sent on to http://"):
        redirects.redirect_request(secure, io.BytesIO(), 302, "Found", Message(), "http://cdn/file")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body=WEB_PAGE, headers={"Content-Type": "text/html; charset=utf-8"}), "answered with a web page"),
        (Answer(body=WEB_PAGE), "sent a file that is a web page"),
        (Answer(body=b'{"error": "quota"}'), "sent a file that is no HDF5 file"),
        (Answer(body=b""), "sent a file that is empty"),
        (Answer(body=BODY[:HALF]), "sent a file that is truncated"),
        (Answer(body=file_bytes(costs=None, timeouts=None)), "sent a file that lacks costs, timeouts"),
        (Answer(status=204), "answered 204"),
        (Answer(status=206, body=BODY), "answered 206"),
        (Answer(status=416), "answered 416"),
    ],
)
def test_what_is_no_data_set_does_not_pass(answer, words, refused, server, tmp_path):
    server.default = answer
    assert words in refused()
    assert names(tmp_path) == []


def test_a_web_page_does_not_cost_what_has_come(refused, server, tmp_path):
    server.script = [Answer(limit=HALF)]
    server.default = Answer(body=WEB_PAGE, ranges=False, headers={"Content-Type": "text/html"})
    refused()
    assert (tmp_path / f"{NAME}.part").stat().st_size == HALF


def make_part(folder: Path, body: bytes, url: str, size: int | None) -> None:
    """An unfinished download."""
    part = Part(folder / NAME)
    part.restart(Origin(f"{url}/{NAME}", '"one"', "", size))
    part.path.write_bytes(body)


def test_416_on_a_complete_part(get, server, tmp_path):
    make_part(tmp_path, BODY, server.url, None)
    check_done(get())
    assert server.ranges() == [f"bytes={len(BODY)}-"]
    assert server.sent == 0


def test_a_complete_part_needs_no_request(get, server, tmp_path):
    make_part(tmp_path, BODY, server.url, len(BODY))
    check_done(get())
    assert server.requests == []


@pytest.mark.parametrize("size", [None, len(BODY) + 50])
def test_416_on_a_part_that_is_too_long(size, get, server, tmp_path):
    make_part(tmp_path, BODY + b"\0" * 9, server.url, size)
    check_done(get())
    assert server.ranges() == [f"bytes={len(BODY) + 9}-", None]


def test_a_part_that_is_longer_than_its_file_is_not_used(get, server, tmp_path):
    make_part(tmp_path, BODY + b"\0" * 9, server.url, len(BODY))
    check_done(get())
    assert server.ranges() == [None]


def test_a_part_without_its_origin_is_not_used(get, server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:HALF])
    (tmp_path / f"{NAME}.part.json").write_text("[half a jso")
    check_done(get())
    assert server.ranges() == [None]


# ------------------------------------------------------------------------------------------- the recorded hash


def test_another_file_than_the_recorded_one_is_refused_until_it_is_accepted(refused, get, server, tmp_path):
    write_record(tmp_path / NAME, new_record(hashlib.sha256(OTHER).hexdigest(), len(OTHER), None))
    said = refused()
    assert SHA[:12] in said
    assert hashlib.sha256(OTHER).hexdigest()[:12] in said
    assert "--accept-changed" in said
    assert names(tmp_path) == [f"{NAME}.sha256.json"]
    check_done(get(accept_changed=True))
    check_done(get())


def test_the_mirror_that_has_the_recorded_file_wins(get, server, tmp_path):
    write_record(tmp_path / NAME, new_record(SHA, len(BODY), None))
    with serving(OTHER) as other:
        check_done(get(urls=[other.url, server.url]))


def test_a_file_that_changed_on_disk_is_reported_and_left_alone(get, server, tmp_path):
    path = get()
    damaged = bytearray(BODY)
    damaged[HALF] ^= 1
    path.write_bytes(damaged)
    for offline in (False, True):
        with pytest.raises(
            DataError, match=r"is not the file that was recorded on .* delete it to download it again"
        ):
            get(offline=offline)
    assert path.read_bytes() == damaged
    assert get(accept_changed=True) == path
    assert get() == path
    assert len(server.requests) == 1
    path.unlink()
    with pytest.raises(DataError, match="sent a file with"):
        get()


def test_a_file_that_the_user_put_there_is_recorded(get, server, tmp_path):
    (tmp_path / NAME).write_bytes(BODY)
    heard = Heard()
    check_done(get(offline=True, progress=heard))
    assert "was there already" in heard.notes[0]
    assert f"{SHA[:12]} is recorded now" in heard.notes[0]
    assert read_record(tmp_path / NAME).url is None
    assert server.requests == []


@pytest.mark.parametrize(
    ("body", "words"), [(BODY[:HALF], "is truncated"), (WEB_PAGE, "is a web page"), (b"", "is empty")]
)
def test_half_a_file_that_another_program_left_is_not_recorded(body, words, get, server, tmp_path):
    (tmp_path / NAME).write_bytes(body)
    for accept in (False, True):
        with pytest.raises(DataError, match=f"{NAME} {words}.*; delete it, then"):
            get(accept_changed=accept)
    assert names(tmp_path) == [NAME]
    assert server.requests == []


def test_a_damaged_record_is_a_sentence(get, server):
    path = get()
    for text in ("{", "[]", '{"sha256": 3, "size": 1, "url": null, "date": ""}', '{"sha256": ""}'):
        record_path(path).write_text(text)
        with pytest.raises(
            DataError, match=r"(?s)sha256\.json cannot be read .*; delete it to record the file anew\."
        ):
            get()
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        get()
    assert len(server.requests) == 1


def test_the_record_is_plain_json(get):
    entries = json.loads(record_path(get()).read_text())
    assert sorted(entries) == ["date", "sha256", "size", "url"]


def test_offline_says_which_file_to_put_where(refused, server, tmp_path):
    said = refused(offline=True, folder=tmp_path / "new")
    assert f"put {NAME} (from {server.url}/{NAME}) into the folder {tmp_path / 'new'}" in said
    assert server.requests == []
    assert names(tmp_path) == []


# --------------------------------------------------------------------------------------- others, disks and words


def test_two_threads_download_once(get, server, tmp_path):
    server.default = Answer(delay=0.01)
    heard = Heard()
    threads = [threading.Thread(target=get, kwargs={"progress": heard}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_done(tmp_path / NAME)
    assert len(server.requests) == 1
    assert sum("waiting for that one" in note for note in heard.notes) >= 1


def test_a_lock_has_one_holder_though_its_file_comes_and_goes(tmp_path):
    inside, most = [], []

    def hold() -> None:
        for _ in range(10):
            with locked(tmp_path / "lock", tmp_path, lambda: None):
                inside.append(1)
                time.sleep(0.001)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 60
    assert names(tmp_path) == []


def test_two_processes_download_once(server, tmp_path):
    server.default = Answer(delay=0.05)
    command = [sys.executable, "-c", _CHILD, server.url, str(tmp_path)]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait(20) for child in children] == [0, 0]
    check_done(tmp_path / NAME)
    assert len(server.requests) == 1


def test_a_disk_that_is_too_small_is_known_before(refused, server, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    said = refused(RunError)
    assert f"the disk lacks {size_text(len(BODY) - 1000)} for a file of {size_text(len(BODY))}" in said
    assert names(tmp_path) == []


def test_a_write_that_fails_keeps_what_has_come(refused, get, server, tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, old[1]))
    try:
        assert "cannot write" in (said := refused(RunError))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "larger than this file system allows" in said
    kept = (tmp_path / f"{NAME}.part").stat().st_size
    assert kept == HALF
    check_done(get())
    assert server.ranges()[-1] == f"bytes={HALF}-"


def test_a_folder_that_cannot_be_made(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "a part of the path is a file, not a folder" in refused(RunError, folder=tmp_path / "file" / "sub")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that may only be read, with the file and an empty folder of that kind; root becomes somebody else."""
    somebody, root = 65534, os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder, empty = Path(name), Path(name) / "empty"
        empty.mkdir()
        (folder / NAME).write_bytes(BODY)
        for each in (empty, folder):
            each.chmod(0o555)
        if root:
            os.seteuid(somebody)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            for each in (folder, empty):
                each.chmod(0o755)


def test_a_folder_that_may_only_be_read(get, read_only):
    with pytest.raises(RunError, match="permission was denied"):
        get(folder=read_only / "empty")
    assert names(read_only / "empty") == []
    heard = Heard()
    get(progress=heard, folder=read_only)
    assert "which is not recorded" in heard.notes[0]


def test_a_record_that_cannot_be_written_is_no_obstacle_to_a_check(get, monkeypatch, tmp_path):
    def write(path, record):
        raise RunError("cannot write it.")

    monkeypatch.setattr("safetrax.data.download.job.write_record", write)
    (tmp_path / NAME).write_bytes(BODY)
    heard = Heard()
    assert get(progress=heard) == tmp_path / NAME
    assert "which is not recorded: cannot write it." in heard.notes[0]


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "/some/folder", "http://", "https://host/a b", "http://host:x/", "http://h/?q=1"]
)
def test_an_address_that_is_none(url, refused):
    assert "is no address of a folder on the web" in refused(ConfigError, urls=[url])


def test_other_faults_of_the_caller(refused, get, tmp_path):
    assert "timeout is 0" in refused(ConfigError, timeout=0)
    with pytest.raises(TaskError, match="did you mean BallCircle"):
        get("BalCircle")
    assert "no address is known" in refused(urls=[])


def test_proxies_of_the_environment_are_used(get, server, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    check_done(get(urls=["http://data.invalid/files"]))
    assert server.paths == [f"http://data.invalid/files/{NAME}"]


def test_every_task_has_addresses_on_the_web():
    for task in tasks():
        assert task.dataset_urls
        assert all(url.startswith(("https://", "http://")) for url in task.dataset_urls)
        assert all(url.endswith(f"/{task.dataset_file}") for url in task.dataset_urls)


def test_lines_tell_size_speed_and_time_left(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 20.0])
    monkeypatch.setattr("safetrax.data.download.listener.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    lines = Lines(Console(file=stream))
    lines.begin("BallRun", "host", 1_000_000, 5_000_000)
    for done in (1_500_000, 2_000_000, 3_000_000):
        lines.advance(done)
    assert stream.getvalue().splitlines() == [
        "BallRun: 5 MB from host, of which 1 MB are there",
        "BallRun: 2 MB of 5 MB, 100 kB/s, 30 s left",
        "BallRun: 3 MB of 5 MB, 100 kB/s, 20 s left",
    ]


def test_the_bar_shows_sizes():
    stream = io.StringIO()
    bar = Bar(Console(file=stream, force_terminal=True, width=110))
    bar.begin("BallRun", "host", 1_000_000, 5_000_000)
    bar.advance(5_000_000)
    bar.end()
    bar.note("done [really]")
    assert "BallRun from host" in stream.getvalue()
    assert "5.0/5.0 MB" in stream.getvalue()
    assert "done [really]" in stream.getvalue()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (12_345_678, "12.3 MB"), (2.5e9, "2.5 GB")]
)
def test_sizes_for_people(size, text):
    assert size_text(size) == text
