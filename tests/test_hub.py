"""Policies and logs on the hub: against a small one of our own, and its refusals as sentences."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jax.numpy as jnp
import numpy as np
import pytest

import safetrax as st
from safetrax.errors import DataError, RunError
from safetrax.nets.mlp import MLP
from safetrax.policies.actor import DeterministicActor

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """As much of the hub's interface as its client needs for small files.

    Attributes:
        files: by repository and name.
        refuses: status of all answers; None: it does not.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.commits = 0
        self.refuses: int | None = None
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def _say(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub = self.server
        if hub.refuses is not None:
            self._say({"error": "no"}, hub.refuses)
        elif self.path == "/api/repos/create":
            wanted = json.loads(body)
            kind = "datasets/" if wanted.get("type") == "dataset" else ""
            self._say({"url": f"{hub.url}/{kind}{wanted.get('organization', 'somebody')}/{wanted['name']}"})
        elif self.path == "/api/validate-yaml":
            self._say({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self._say({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif "/commit/" in self.path:
            (repo,) = re.findall("/api/(?:models/)?(.*?)/commit/", self.path)
            for line in map(json.loads, body.decode().strip().splitlines()):
                if line["key"] == "file":
                    hub.files[f"{repo}/{line['value']['path']}"] = base64.b64decode(line["value"]["content"])
            hub.commits += 1
            self._say({"success": True, "commitUrl": f"{hub.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._say({"error": f"{self.path} is unknown"}, 404)

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        self._file(body=True)

    def _file(self, *, body: bool) -> None:
        name = re.sub("/resolve/[^/]*/", "/", self.path).lstrip("/")
        content = self.server.files.get(name)
        if content is None:
            known = any(file.startswith(name.rpartition("/")[0] + "/") for file in self.server.files)
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    with contextlib.closing(Hub()) as server:
        server.close = server.server_close  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        address = "{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{address}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's tries
        yield server
        server.shutdown()


def policy() -> st.Policy:
    network = MLP((jnp.ones((3, 2)),), (jnp.zeros(2),), "tanh", 0.0)
    actor = DeterministicActor(network, -jnp.ones(2), jnp.ones(2))
    facts = {"algorithm": {"class": "TraC", "eta": 0.5}, "data": {"source": "log.hdf5", "sha256": "ab"}}
    return st.Policy(actor, st.RunId("TraC", "BallRun", 20.0, 0), facts)


def test_a_policy_goes_there_and_comes_back(hub):
    ours = policy()
    url = ours.push_to_hub("somebody/safe", license="apache-2.0", evaluation="a | table", certificate="at most 14")
    assert url == f"{hub.url}/somebody/safe"
    assert hub.commits == 1  # all of it or nothing
    theirs = st.Policy.from_hub("somebody/safe")
    assert theirs.fingerprint() == ours.fingerprint()
    assert theirs.metadata == ours.metadata
    card = hub.files["somebody/safe/README.md"].decode()
    assert card.startswith("---\n")
    for words in (
        "license: apache-2.0",
        "- safetrax",
        "- BallRun",
        "a | table",
        "at most 14",
        '"eta": 0.5',
        "from_hub",
    ):
        assert words in card


def test_a_log_goes_there_and_comes_back(hub, toy):
    toy.push_to_hub("somebody/log", license="cc-by-4.0")
    log = st.load("hub:somebody/log")
    np.testing.assert_array_equal(log.observations, toy.observations)
    np.testing.assert_array_equal(log.costs, toy.costs)
    assert log.info["source"] == "hub:somebody/log"
    card = hub.files["datasets/somebody/log/README.md"].decode()
    assert "license: cc-by-4.0" in card
    assert f"{toy.num_episodes}" in card


def test_refusals_are_sentences(hub, tmp_path):
    with pytest.raises(RunError, match="knows no somebody/nothing"):
        st.Policy.from_hub("somebody/nothing")
    hub.files["somebody/other/file"] = b""
    with pytest.raises(RunError, match="holds no file of that name"):
        st.Policy.from_hub("somebody/other")
    hub.files["somebody/broken/policy.safetensors"] = b"not a policy"
    with pytest.raises(DataError, match="damaged or not a policy"):
        st.Policy.from_hub("somebody/broken")
    with pytest.raises(DataError, match="OWNER/NAME"):
        st.load("hub:a/b/c")
    hub.refuses = 403
    with pytest.raises(RunError, match="answered 403 about somebody/safe; set HF_TOKEN"):
        policy().push_to_hub("somebody/safe", license="apache-2.0")
    hub.refuses = 500
    with pytest.raises(RunError, match="try again later"):
        policy().push_to_hub("somebody/safe", license="apache-2.0")


def test_nobody_there(hub, monkeypatch):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(RunError, match=r"(cannot|could not) be reached"):
        st.Policy.from_hub("somebody/safe")
    with pytest.raises(RunError, match="could not be reached"):
        policy().push_to_hub("somebody/safe", license="apache-2.0")
