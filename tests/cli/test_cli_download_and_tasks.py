"""`safetrax download` and `safetrax tasks`."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import toy_episodes
from safetrax.cli import doctor, download
from safetrax.cli.main import main
from safetrax.data import get_task, write_hdf5
from safetrax.data.download import dataset_path

CIRCLE, RUN = get_task("BallCircle").dataset_file, get_task("BallRun").dataset_file


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """The folder of the data sets."""
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "sets"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "sets"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path):
    """A mirror that has one data set, and a web page in place of another."""
    files = tmp_path / "files"
    write_hdf5(files / CIRCLE, toy_episodes([10] * 5, observation_size=8))
    (files / RUN).write_text("<html>sold out</html>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(files)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_download_says_what_is_next(mirror, folder, capsys):
    assert main(["download", "ballcircle", "--url", mirror]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert f"data      {folder / CIRCLE}" in said.out
    assert said.out.endswith("next      safetrax train trac --data BallCircle\n")
    assert dataset_path("BallCircle").is_file()

    assert main(["download", "BallCircle", "--offline"]) == 0
    assert "BallCircle: is there and unchanged" in capsys.readouterr().out


def test_another_folder_is_named_in_what_is_next(mirror, tmp_path, capsys):
    other = tmp_path / "my data"
    assert main(["download", "BallCircle", "--url", mirror, "--folder", str(other)]) == 0
    assert f"next      safetrax train trac --data '{other / CIRCLE}'" in capsys.readouterr().out


def test_one_that_fails_does_not_stop_the_others(mirror, folder, capsys):
    assert main(["download", "CarRun", "BallRun", "BallCircle", "CarRun", "--url", mirror]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("safetrax: CarRun could not be downloaded (127.0.0.1 answered 404 File not found); ")
    assert lines[1].startswith("safetrax: BallRun could not be downloaded (127.0.0.1 sent a file that is a web page")
    assert "--data BallCircle" in said.out
    assert sorted(path.name for path in folder.iterdir()) == [CIRCLE, f"{CIRCLE}.sha256.json"]


def test_a_changed_file_is_taken_when_told_to(mirror, folder, tmp_path, capsys):
    assert main(["download", "BallCircle", "--url", mirror]) == 0
    (folder / CIRCLE).unlink()
    write_hdf5(tmp_path / "files" / CIRCLE, toy_episodes([10] * 5, observation_size=8, seed=1))
    assert main(["download", "BallCircle", "--url", mirror]) == 2
    assert "pass --accept-changed to take it" in capsys.readouterr().err
    assert main(["download", "BallCircle", "--url", mirror, "--accept-changed"]) == 0


@pytest.mark.parametrize(
    ("words", "count"),
    [(["--suite", "bullet"], 8), (["--suite", "bullet", "BallRun", "easymean"], 9), (["--all"], 38)],
)
def test_suites(words, count, folder, capsys):
    assert main(["download", *words, "--offline"]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == count
    assert all("is not on this machine: put " in line and str(folder) in line for line in lines)
    assert said.out == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["download"], "safetrax download needs tasks, for instance: safetrax download BallCircle"),
        (["download", "BalCircle"], "there is no task 'BalCircle'; did you mean BallCircle"),
        (["download", "BallRun", "--suite", "bulet"], "there is no suite 'bulet'; choose one of bullet,"),
        (["download", "--all", "--url", "ftp://host"], "'ftp://host' is no address of a folder on the web"),
        (["download", "BallRun", "--fodler", "x"], "did you mean --folder?"),
        (["tasks", "--suite", "bulet"], "there is no suite 'bulet'; choose one of bullet,"),
        (["tasks", "BallRun"], "unrecognized options: BallRun."),
    ],
)
def test_sentence(words, sentence, folder, capsys):
    assert main(words) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not folder.exists()


def test_ctrl_c_says_that_nothing_is_lost(monkeypatch, capsys):
    def interrupt(task, options):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_download", interrupt)
    assert main(["download", "BallRun"]) == 130
    said = capsys.readouterr()
    assert "the same command goes on there" in said.out
    assert said.err == "safetrax: interrupted.\n"


# a process that answers in place of the simulators, so that these tests do not depend on what is installed
STATUS = """
import json
known = {"bullet": (True, "bullet-safety-gym 1"), "safety_gymnasium": (False, "missing; pip install it."),
         "metadrive": (False, "missing; pip install that.")}
name = %r
print(json.dumps((name, *known[name])))  # probe: %r
"""


CRASH = """
import os
"metadrive" == %r and os.abort()
print('["bullet", true, "fine"]') # probe: %r
"""


@pytest.fixture
def listed(monkeypatch, capsys):
    """Lines and other text that `safetrax tasks` prints."""

    def run(*words: str, status: str = STATUS) -> tuple[dict[str, list[str]], str]:
        monkeypatch.setattr(doctor, "_SUITE", status)
        assert main(["tasks", *words]) == 0
        out = capsys.readouterr().out
        cells = [line.split() for line in out.splitlines()]
        return {row[0]: row[1:] for row in cells if len(row) > 8}, out

    return run


def test_tasks_lists_all_with_what_is_here(listed, folder):
    write_hdf5(folder / CIRCLE, toy_episodes([10] * 5))
    (folder / RUN).write_text("half a file")
    (folder / f"{get_task('CarRun').dataset_file}.part").write_text("half a file")
    rows, out = listed()
    rows = {name: row for name, row in rows.items() if row[0] in ("bullet", "safety_gymnasium", "metadrive")}
    assert len(rows) == 38
    assert rows["BallCircle"][:8] == ["bullet", "8", "2", "200", "10", "20", "40", "yes"]
    assert rows["BallCircle"][9] == "kB"
    assert rows["BallRun"][-1] == "damaged"
    assert rows["CarRun"][-1] == "part"
    assert rows["easymean"] == ["metadrive", "259", "2", "1000", "10", "20", "40", "no", "no"]
    assert "sim       missing; pip install it." in out
    assert "sim       missing; pip install that." in out
    assert f"1 of 38 in {folder}" in out
    assert "safetrax download TASK" in out
    table = out[: out.index("sim  ")].split("\n sim ")[0]
    assert max(len(line.rstrip()) for line in table.splitlines() if line.strip()) <= 80


def test_tasks_of_one_suite(listed):
    rows, out = listed("--suite", "bullet")
    assert sum(row[0] == "bullet" for row in rows.values()) == 8
    assert "metadrive" not in out
    assert "pip install" not in out


def test_tasks_survive_a_simulator_that_crashes(listed):
    rows, out = listed(status=CRASH)
    assert rows["BallRun"][-2] == "yes"
    assert rows["easymean"][-2] == "no"
    assert 'sim       the metadrive simulator crashed with signal 6; pip install "safetrax[metadrive]" &&' in out


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import time; time.sleep(9)", "does not answer within 0.5 s"),
        ("raise SystemExit(3)", "ended with code 3"),
        ("print('hello')", "gave an unexpected answer: hello"),
    ],
)
def test_asking_a_process_that_fails(code, words):
    assert doctor.ask(code, 0.5) == (None, words)


def test_both_verbs_do_without_jax():
    code = (
        "import sys\n"
        "from safetrax.cli.main import main\n"
        "assert main(['download', '--help']) == 0\n"
        "assert main(['tasks']) == 0\n"
        "assert main(['download', 'BallRun', '--offline']) == 2\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
