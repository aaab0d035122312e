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
from pathlib import Path

import h5py
import httpx2
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.utils import close_session

from bad_server import Answer, Server, serving
from conftest import toy_episodes
from safetrax.catalogue import Task, get_task, tasks
from safetrax.data import download as module
from safetrax.data import write_hdf5
from safetrax.data.download import (
    dataset_folder,
    dataset_path,
    download,
    find_dataset,
    new_record,
    read_record,
    record_path,
    write_record,
)
from safetrax.errors import ConfigError, DataError, RunError, TaskError
from safetrax.files import locked
from safetrax.progress import Reporter, size_text

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
HALF = len(BODY) // 2 // 4096 * 4096  # what the hub's client writes is a multiple of that in these tests
WEB_PAGE = b"<!DOCTYPE html><html>please log in</html>"


class Heard(Reporter):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def quick_and_local(monkeypatch):
    monkeypatch.setattr(module, "PAUSES", (0.01,) * 2)
    monkeypatch.setattr("os.fsync", lambda file: None)  # no test cuts the power, and disks are slow
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(tmp_path):
    with serving(BODY) as running:
        running.watched = tmp_path / f"{NAME}.part"
        yield running


HUB = "https://huggingface.co/datasets/somebody/DSRL/resolve/main"


@pytest.fixture
def hub(server, monkeypatch) -> Server:
    """The server as a mirror of the Hugging Face hub."""
    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.01)))  # the client waits a second
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url.removesuffix("/files"))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 12)  # what can be lost
    server.head = Answer(etag=f'"{SHA}"')
    server.watched = server.watched.with_name(f"{NAME}.{SHA[:16]}.part")
    return server


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
    assert len(heard.notes) == 2
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
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.endswith("/s")] == [
        "BallCircle: from 127.0.0.1",
        f"[BallCircle] {size_text(len(BODY))}",
        f"BallCircle: downloaded, {size_text(len(BODY))}, sha256 {SHA[:12]}",
    ]


# ------------------------------------------------------------------------------------ breaks, and how it goes on


@pytest.mark.parametrize("ending", ["close", "reset", "stall"])
@pytest.mark.parametrize("chunked", [False, True])
def test_what_broke_off_starts_again(ending, chunked, get, server):
    server.script = [Answer(limit=HALF, ending=ending, chunked=chunked)]
    check_done(get(timeout=0.4 if ending == "stall" else 10))
    assert server.ranges() == [None, None]


@pytest.mark.parametrize("ending", ["close", "reset", "stall"])
def test_from_the_hub_it_goes_on_where_it_broke_off(ending, get, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.4)
    hub.script = [Answer(limit=HALF, ending=ending)]
    path = get(urls=[HUB])
    check_done(path)
    assert read_record(path).url == f"{huggingface_hub.constants.ENDPOINT}/datasets/somebody/DSRL/resolve/main/{NAME}"
    first, second = hub.ranges()
    assert first is None
    assert int(second.removeprefix("bytes=").removesuffix("-")) > 0
    assert hub.sent < 1.5 * len(BODY)


def test_progress_is_never_given_up(get, hub):
    hub.script = [Answer(limit=12288) for _ in range(12)]  # more breaks than tries in a row
    check_done(get(urls=[HUB]))
    assert hub.sent == len(BODY)


def test_a_later_call_goes_on(refused, get, hub, tmp_path):
    hub.script = [Answer(limit=HALF)]
    hub.default = Answer(status=503)
    said = refused(urls=[HUB])
    assert "127.0.0.1 answered 503 Service Unavailable, 3 times" in said
    assert f"try again later ({size_text(HALF)} are kept, and it will go on there)" in said
    assert names(tmp_path) == [f"{NAME}.{SHA[:16]}.part"]
    hub.default = Answer()
    check_done(get(urls=[HUB]))
    assert hub.ranges()[-1] == f"bytes={HALF}-"
    assert hub.sent == len(BODY)


class Impatient(Reporter):
    def advance(self, stage: str, done: int) -> None:
        if done > HALF:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_what_has_come_from_the_hub(get, hub, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        get(urls=[HUB], progress=Impatient())
    kept = (tmp_path / f"{NAME}.{SHA[:16]}.part").stat().st_size
    check_done(get(urls=[HUB]))
    assert hub.ranges()[1:] == ([] if kept == len(BODY) else [f"bytes={kept}-"] if kept else [None])


def test_ctrl_c_leaves_nothing_of_another_file(get, server, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        get(progress=Impatient())
    assert names(tmp_path) == []


@pytest.mark.parametrize("on_hub", [False, True])
def test_a_killed_process_is_no_obstacle(on_hub, get, hub, tmp_path):
    hub.script = [Answer(limit=HALF, ending="stall")]
    url = HUB if on_hub else hub.url
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, url, str(tmp_path)],
        env={**os.environ, "HF_ENDPOINT": hub.url.removesuffix("/files")},
    )
    part = hub.watched if on_hub else tmp_path / f"{NAME}.part"
    _wait_until(lambda: part.exists() and part.stat().st_size > 0)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = part.stat().st_size
    check_done(get(urls=[url]))  # and the dead process's lock file is gone
    assert hub.ranges() == [None, f"bytes={kept}-" if on_hub else None]


_CHILD = """
import sys
from huggingface_hub import constants
from safetrax.data.download import download
constants.DOWNLOAD_CHUNK_SIZE = 1 << 12
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
    assert heard.notes == ["from 127.0.0.1"]


def test_a_stalling_server_is_named(refused, server):
    server.default = Answer(limit=0, ending="stall")
    assert "127.0.0.1 broke off (timed out), 3 times" in refused(timeout=0.05)


# ------------------------------------------------------------------------------------------ refusals and mirrors


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (410, 1), (500, 3), (503, 3), (429, 3)])
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


def test_all_mirrors_are_named_in_the_sentence(refused, server):
    server.default = Answer(status=404)
    with serving(BODY) as other:
        other.default = Answer(status=403)
        said = refused(urls=[server.url, other.url.replace("127.0.0.1", "localhost")])
    assert "127.0.0.1 answered 404 Not Found; localhost answered 403 Forbidden" in said


def test_the_known_mirrors_are_asked_first_to_last(monkeypatch, refused):
    asked = []

    def fetch(job, url):
        asked.append(url)
        raise module._MirrorError("is not asked in a test")

    monkeypatch.setattr(module._Job, "_fetch", fetch)
    refused(urls=None)
    assert tuple(asked) == get_task(TASK).dataset_urls


# --------------------------------------------------------------------------------------------- lies and changes


def test_a_length_that_is_too_long(refused, server):
    server.default = Answer(headers={"Content-Length": str(len(BODY) + 1000)})
    assert "broke off (" in refused()
    assert len(server.requests) == 3


@pytest.mark.parametrize("missing", [1, 1000, HALF])
def test_a_length_that_is_too_short(missing, refused, server, tmp_path):
    server.default = Answer(headers={"Content-Length": str(len(BODY) - missing)})
    assert "sent a file that is truncated" in refused()
    assert names(tmp_path) == []


def test_a_break_without_a_length_is_found_out(refused, server):
    server.default = Answer(headers={"Content-Length": None}, limit=HALF)
    assert "sent a file that is truncated" in refused()


def test_a_hub_that_ignores_ranges_starts_again(get, hub):
    hub.script = [Answer(limit=HALF)]
    hub.default = Answer(ranges=False)
    check_done(get(urls=[HUB]))


def test_a_hub_that_ignores_ranges_and_breaks_is_given_up(refused, hub):
    hub.default = Answer(limit=HALF, ranges=False)
    assert "broke off (it starts again from the beginning), 3 times" in refused(urls=[HUB])


@pytest.mark.parametrize(
    "value",
    [
        f"bytes 0-{len(BODY) - 1}/{len(BODY)}",
        f"bytes {HALF}-{HALF}/{HALF + 1}",
        "items 1-2/3",
        "",
        None,
        "bytes 0-1/" + "9" * 5000,
        "\xff",
    ],
)
def test_ranges_of_nonsense(value, get, hub):
    hub.script = [Answer(limit=HALF), Answer(headers={"Content-Range": value})]
    check_done(get(urls=[HUB]))


@pytest.mark.parametrize("piece", [OTHER, BODY[:-1] + b"x", BODY[1:] + b"x"])
def test_pieces_of_two_versions_are_found_out_by_the_hash(piece, get, hub):
    hub.script = [Answer(limit=HALF), Answer(body=piece)]
    check_done(get(urls=[HUB]))
    assert hub.ranges() == [None, f"bytes={HALF}-", None]


def test_a_hub_that_lies_is_refused(refused, hub, tmp_path):
    hub.default = Answer(body=OTHER)
    assert "broke off (it sent other bytes than announced), 3 times" in refused(urls=[HUB])
    assert names(tmp_path) == []


def test_what_has_come_of_another_version_is_dropped(get, hub, tmp_path):
    (tmp_path / f"{NAME}.0123456789abcdef.part").write_bytes(OTHER[:HALF])
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:HALF])
    mine = [tmp_path / f"{NAME}.my.part", tmp_path / f"my {NAME}.part", tmp_path / f"{NAME}.spare_part"]
    for path in mine:
        path.touch()
    target = get(urls=[HUB])
    assert hub.ranges() == [None]
    for path in mine:
        path.unlink()
    check_done(target)


@pytest.mark.parametrize("there", [BODY, BODY + b"\0" * 9])
def test_what_has_come_is_complete_or_too_long(there, get, hub):
    hub.watched.write_bytes(there)
    check_done(get(urls=[HUB]))
    assert hub.ranges() == ([] if there == BODY else [None])


@pytest.mark.parametrize("etag", [f'"{SHA[:40]}"', '"one"', f'"{SHA.upper()}"'])
def test_a_hub_that_does_not_tell_the_hash_is_an_ordinary_server(etag, get, hub):
    hub.head = Answer(etag=etag)
    hub.script = [Answer(limit=HALF)]
    check_done(get(urls=[HUB]))
    assert hub.ranges() == [None, None]


def test_the_hub_sends_on_to_where_the_file_is(get, hub):
    with serving(BODY) as store:
        hub.head = Answer(
            status=302,
            headers={"Location": f"{store.url}/abc", "X-Linked-ETag": f'"{SHA}"', "X-Linked-Size": str(len(BODY))},
        )
        store.script = [Answer(limit=HALF)]
        check_done(get(urls=[HUB]))
        assert store.ranges() == [None, f"bytes={HALF}-"]
    assert hub.requests == []


def test_a_hub_without_the_file_sends_to_the_next_address(get, hub):
    hub.head = Answer(status=404)
    with serving(BODY) as other:
        check_done(get(urls=[HUB, other.url]))
    assert hub.requests == []


def test_a_hub_that_sends_nothing_leaves_nothing(refused, hub, tmp_path):
    hub.default = Answer(status=403)
    assert "127.0.0.1 answered 403 Forbidden)" in refused(urls=[HUB])
    assert names(tmp_path) == []


def test_what_the_hub_sent_is_dropped_when_another_address_had_it_all(get, hub):
    hub.script = [Answer(limit=HALF)]
    hub.default = Answer(status=403)
    with serving(BODY) as other:
        check_done(get(urls=[HUB, other.url]))


def test_redirections_are_followed(get, server):
    with serving(b"") as door:
        door.default = Answer(status=302, headers={"Location": f"{server.url}/cdn"})
        path = get(urls=[door.url])
        check_done(path)
        assert read_record(path).url == f"{door.url}/{NAME}"
    assert server.paths == ["/files/cdn"]


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x"])
def test_redirections_lead_to_the_web_only(location, refused, server):
    server.default = Answer(status=302, headers={"Location": location})
    assert "unsupported protocol" in refused()


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


def test_redirections_in_a_circle(refused, server):
    server.default = Answer(status=302, headers={"Location": f"{server.url}/again"})
    assert "redirects" in refused()


def test_redirections_never_leave_https(refused):
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme == "https":
            return httpx2.Response(302, headers={"Location": "http://cdn/file"})
        return httpx2.Response(200, content=BODY)

    def client() -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(answer), follow_redirects=True)

    huggingface_hub.set_client_factory(client)
    try:
        assert "host sent on to http://, which is not followed" in refused(urls=["https://host/files"])
    finally:
        huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


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


def test_the_hubs_own_word_for_offline(refused, monkeypatch, server):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "or unset HF_HUB_OFFLINE" in refused()
    assert server.requests == []


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
    assert f"the disk lacks {size_text(len(BODY) - 1000)} for {size_text(len(BODY))}; free some space" in said
    assert names(tmp_path) == []


@pytest.mark.parametrize("on_hub", [False, True])
def test_a_write_that_fails(on_hub, refused, get, hub, tmp_path):
    url = HUB if on_hub else hub.url
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, old[1]))
    try:
        assert "cannot write" in (said := refused(RunError, urls=[url]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "larger than this file system allows" in said
    assert names(tmp_path) == ([hub.watched.name] if on_hub else [])
    check_done(get(urls=[url]))
    assert hub.ranges()[-1] == (f"bytes={HALF}-" if on_hub else None)


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

    monkeypatch.setattr("safetrax.data.download.write_record", write)
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
    close_session()  # clients look for proxies when they begin
    try:
        check_done(get(urls=["http://data.invalid/files"]))
    finally:
        close_session()
    assert server.paths == [f"http://data.invalid/files/{NAME}"]


def test_every_task_has_addresses_on_the_web():
    for task in tasks():
        assert task.dataset_urls
        assert all(url.startswith(("https://", "http://")) for url in task.dataset_urls)
        assert all(url.endswith(f"/{task.dataset_file}") for url in task.dataset_urls)


# ------------------------------------------------------------------------------------------ where data sets are


def test_the_folder_of_all_data_sets(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("DSRL_DATASET_DIR", raising=False)
    assert dataset_folder() == Path("/home/somebody/.dsrl/datasets")
    monkeypatch.setenv("DSRL_DATASET_DIR", "")
    assert dataset_folder() == Path("/home/somebody/.dsrl/datasets")
    monkeypatch.setenv("DSRL_DATASET_DIR", "~/data")
    assert dataset_folder() == Path("/home/somebody/data")
    assert dataset_path("ballrun") == Path("/home/somebody/data/SafetyBallRun-v0-80-940.hdf5")
    assert dataset_path(get_task("BallRun"), "~/x") == Path("/home/somebody/x/SafetyBallRun-v0-80-940.hdf5")


def test_only_a_whole_data_set_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path))
    assert find_dataset("BallRun") is None
    path = dataset_path("BallRun")
    write_hdf5(path, toy_episodes([10] * 5))
    assert find_dataset("BallRun") == path
    assert find_dataset("BallRun", tmp_path / "elsewhere") is None
    assert find_dataset("CarRun") is None

    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>", b""):
        path.write_bytes(content)
        assert find_dataset("BallRun") is None
    path.rename(path.with_name(f"{path.name}.part"))
    assert find_dataset("BallRun") is None
    path.mkdir()
    assert find_dataset("BallRun") is None


def test_an_unknown_task(tmp_path):
    with pytest.raises(TaskError, match="did you mean BallRun"):
        find_dataset("BalRun", tmp_path)
