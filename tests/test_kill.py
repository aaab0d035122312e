"""kill -9 at random moments, in every command that writes: it goes on to the same bytes, and nothing is left behind.

Each kill is one process, one SIGKILL, and the same command or its resume afterwards. Where file operations are
counted, the process kills itself in front of a random one of them, which finds the gaps between two of them, and so
does the one that goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

import safetrax as st
from bad_server import Answer, serving
from safetrax.catalogue import get_task
from safetrax.files import read_tensors
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.runs import read_place
from safetrax.training.logs import read_metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc tells which processes are left"),
]

SEED = int(os.environ.get("SAFETRAX_KILL_SEED", "0"))
TRAC = [
    "train", "trac", "--data", "demo", "--cost-limits", "20", "40", "--hidden", "8", "--pretrain-updates", "400",
    "--updates", "400", "--batch-size", "8", "--segment-ratio", "0.2", "--log-every", "20", "--checkpoint-seconds",
    "0", "--no-evaluate", "--out", "run",
]  # fmt: skip
COLLECT = """
import sys
from safetrax.collection import collect
from safetrax.errors import RunError
from safetrax.collection.ppo import PPO
small = PPO(hidden=(16,), iteration_steps=400, minibatch=100, epochs=2)
try:
    collect("BallRun", "log.hdf5", episodes=20, steps=4000, settings=small, seed=1, workers=1, save_seconds=0.0,
            resume=sys.argv[1:] == ["resume"])
except RunError as error:
    assert "exists already" in str(error)
"""
# in front of the command: kill this process at its n-th operation on a file below the working directory; say how many
COUNTING = """
import os, signal, sys
def count(event, arguments, seen=[0], here=os.getcwd(), last=int(os.environ["KILL_AT"])):
    if event in EVENTS and (event == "fcntl.flock" or inside(arguments[0], here)):
        seen[0] += 1
        if seen[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)
        if last == 0:
            os.write(COUNTER, b".")
def inside(path, here):
    path = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else "/"
    return os.path.abspath(path).startswith(here)
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "fcntl.flock",
          "tempfile.mkstemp"}
COUNTER = os.open(os.environ["KILL_COUNTER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(count)
"""
MAIN = "import sys; from safetrax.cli.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Work:
    """A command that is killed.

    Attributes:
        prepare: what is in the folder before it.
        command: its words in a folder, from nothing or to go on.
        content: what it made, to be compared.
        foreign: whether others keep files of their own in the folder of temporary files, as Ray its logs.
    """

    prepare: Callable[[Path], None]
    command: Callable[[Path], list[str]]
    content: Callable[[Path], object]
    foreign: bool = False


class Bench:
    """Starts, kills and examines processes in folders of their own."""

    def __init__(self, place: Path, work: Work) -> None:
        self.place, self.work = place, work
        self.mark = uuid.uuid4().hex
        self.count = 0
        began = time.monotonic()
        self.reference = self.folder()
        self.operations = place / "operations"
        self.finish(self.reference, KILL_AT="0")
        self.seconds = time.monotonic() - began
        self.operations = place / "unused"

    def folder(self) -> Path:
        self.count += 1
        folder = self.place / f"folder{self.count}" / "work"
        folder.mkdir(parents=True)
        (folder.parent / "tmp").mkdir()
        self.work.prepare(folder)
        return folder

    def start(self, folder: Path, **more: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "KILL_MARK": self.mark, "KILL_AT": "-1", "KILL_COUNTER": str(self.operations), **more,
            **({} if self.work.foreign else {"TMPDIR": str(folder.parent / "tmp")}),
        }  # fmt: skip
        code, *rest = self.work.command(folder)
        return subprocess.Popen(
            [sys.executable, "-c", COUNTING + code, *rest],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder.parent / "said").open("wb"),
        )

    def finish(self, folder: Path, **more: str) -> None:
        code = self.start(folder, **more).wait(600)
        assert code == 0, (folder.parent / "said").read_text()

    def living(self) -> list[int]:
        """Processes of any of these commands."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    dead = entry.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z"
                    if not dead and f"KILL_MARK={self.mark}".encode() in entry.joinpath("environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def kill(self, when: Callable[[Bench, Path, subprocess.Popen[bytes]], None], **more: str) -> list[str]:
        """One kill and what came of it: nothing, or what is wrong."""
        folder = self.folder()
        process = self.start(folder, **more)
        when(self, folder, process)
        process.kill()
        if process.wait() != -9:
            return ["it had ended before it was killed"]
        wrong = []
        if "KILL_AT" in more:  # and what goes on is killed, too, unless it ends before
            self.start(folder, **more).wait(600)
        try:
            self.finish(folder)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            wrong.append(f"it did not go on: {error}")
        else:
            if self.work.content(folder) != self.work.content(self.reference):
                wrong.append("it made something else")
        for place in (folder, folder.parent / "tmp"):
            here, there = tree(place), tree(self.reference.parent / place.name)
            if here != there:
                wrong.append(f"left behind or missing: {sorted(here ^ there)}")
        deadline = time.monotonic() + 60
        while self.living() and time.monotonic() < deadline:
            time.sleep(0.2)
        if left := self.living():
            wrong.append(f"processes are left: {left}")
        if not wrong:
            shutil.rmtree(folder.parent)
        return wrong


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and not ready():
        time.sleep(0.005)


def sometime(bench: Bench, folder: Path, process: subprocess.Popen[bytes]) -> None:
    time.sleep(random.uniform(0.0, 0.9 * bench.seconds))


def itself(bench: Bench, folder: Path, process: subprocess.Popen[bytes]) -> None:
    process.wait(600)


def first_second(bench: Bench, folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Of the run, not of Python."""
    wait_until(lambda: (folder / "run").exists(), process)
    time.sleep(random.uniform(0.0, 1.0))


def at_update(low: int, high: int) -> Callable[[Bench, Path, subprocess.Popen[bytes]], None]:
    def when(bench: Bench, folder: Path, process: subprocess.Popen[bytes]) -> None:
        metrics, update = folder / "run" / "metrics.csv", random.randrange(low, high)
        wait_until(lambda: metrics.exists() and any(row.update >= update for row in read_metrics(metrics)), process)
        time.sleep(random.uniform(0.0, 0.05))

    return when


def policies(folder: Path) -> dict[str, object]:
    found = {}
    for file in sorted((folder / "run" / "policies").iterdir()):
        header, tensors = read_tensors(file)
        found[file.name] = (header["id"], header["actor"], {name: array.tobytes() for name, array in tensors.items()})
    return found


def trained(folder: Path) -> object:
    return policies(folder), (folder / "run" / "metrics.csv").read_bytes()


def training() -> Work:
    def command(folder: Path) -> list[str]:
        resume = (folder / "run" / "config.json").exists()
        return [MAIN, "train", "--resume", "run", "--no-evaluate"] if resume else [MAIN, *TRAC]

    return Work(lambda folder: None, command, trained)


def evaluation(place: Path) -> Work:
    small = ["--hidden", "8", "--updates", "20", "--batch-size", "8", "--no-evaluate", "--seeds", "0", "1"]
    made = subprocess.run(
        [sys.executable, "-m", "safetrax", "train", "bc-all", "--data", "demo", "--out", "run", *small], cwd=place
    )
    assert made.returncode == 0
    words = [MAIN, "evaluate", "run", "--episodes", "4", "--workers", "1"]
    return Work(
        lambda folder: shutil.copytree(place / "run", folder / "run") and None,
        lambda folder: words,
        lambda folder: (policies(folder), (folder / "run" / "episodes.csv").read_bytes()),
    )


def collection() -> Work:
    def command(folder: Path) -> list[str]:
        return [COLLECT, "resume"] if (folder / "log.hdf5.unfinished").exists() else [COLLECT]

    return Work(lambda folder: None, command, lambda folder: (folder / "log.hdf5").read_bytes())


def benchmark(place: Path, *executor: str) -> Work:
    if not (place / "ReachAvoid-v0-10.hdf5").exists():
        st.write_hdf5(place / "ReachAvoid-v0-10.hdf5", st.reach_avoid_data(10, transitions=2000))
    words = [
        MAIN, "benchmark", "--tasks", "ReachAvoid", "--data", str(place), "--out", "grid", "--cost-limits", "5",
        "--seeds", "0", "1", "--episodes", "2", "--workers", "1", "--algorithms", "bc-all", "bc-safe", *executor,
        "--set", *(f"{word}.{value}" for word in ("bc-all", "bc-safe")
                   for value in ("updates=3000", "batch_size=16", "hidden=[8]")),
    ]  # fmt: skip

    def content(folder: Path) -> object:
        return [(training.name, training.rows) for training in read_place(folder / "grid")[0]]

    return Work(lambda folder: None, lambda folder: words, content, foreign="ray" in executor)


def downloading(url: str) -> Work:
    name = get_task("BallCircle").dataset_file

    def content(folder: Path) -> object:
        record = json.loads((folder / "data" / f"{name}.sha256.json").read_text())
        return (folder / "data" / name).read_bytes(), record["sha256"], record["size"]

    words = [MAIN, "download", "BallCircle", "--url", url, "--folder", "data"]
    return Work(lambda folder: None, lambda folder: words, content)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A slow server with a data set of 100 kB, which is a mirror of the Hugging Face hub, too."""
    rng, n = np.random.default_rng(0), 1200
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for key, width in (("observations", (8,)), ("next_observations", (8,)), ("actions", (2,))):
            file[key] = rng.uniform(-1, 1, (n, *width)).astype(np.float32)
        for key in ("rewards", "costs"):
            file[key] = rng.uniform(0, 1, n).astype(np.float32)
        file["terminals"], file["timeouts"] = np.zeros(n, bool), np.arange(n) % 300 == 299
    body = (tmp_path / "data.hdf5").read_bytes()
    with serving(body) as server:
        server.default = Answer(delay=0.05)
        server.head = Answer(etag=f'"{hashlib.sha256(body).hexdigest()}"')
        monkeypatch.setenv("HF_ENDPOINT", server.url.removesuffix("/files"))
        yield server.url


# verb, when, how often; with "itself" the process does it, in front of an operation on a file
PLAN = [
    ("train", "first second", 10),
    ("train", "pretraining", 8),
    ("train", "classification", 8),
    ("train", "file operation", 12),
    ("evaluate", "any moment", 6),
    ("evaluate", "file operation", 6),
    ("collect", "any moment", 6),
    ("collect", "file operation", 10),
    ("benchmark", "any moment", 8),
    ("benchmark", "file operation", 4),
    ("benchmark on Ray", "any moment", 6),
    ("download", "any moment", 4),
    ("download", "file operation", 4),
    ("download from the hub", "any moment", 4),
    ("download from the hub", "file operation", 4),
]
assert sum(kills for _, _, kills in PLAN) == 100
MOMENTS = {
    "any moment": sometime,
    "first second": first_second,
    "pretraining": at_update(1, 400),
    "classification": at_update(401, 800),
    "file operation": itself,
}


@pytest.mark.parametrize(("verb", "moment", "kills"), PLAN)
def test_killed_it_goes_on_and_leaves_nothing(verb, moment, kills, tmp_path, request, capsys):
    if "Ray" in verb:
        pytest.importorskip("ray", reason="Ray is not installed")
    random.seed(f"{SEED} {verb} {moment}")
    works: dict[str, Callable[[], Work]] = {
        "train": training,
        "evaluate": lambda: evaluation(tmp_path),
        "collect": collection,
        "benchmark": lambda: benchmark(tmp_path),
        "benchmark on Ray": lambda: benchmark(tmp_path, "--executor", "ray", "--job-memory", "0.1"),
        "download": lambda: downloading(request.getfixturevalue("url")),
        "download from the hub": lambda: downloading(f"{request.getfixturevalue('url')}/resolve/main"),
    }
    bench = Bench(tmp_path, works[verb]())
    operations = (tmp_path / "operations").stat().st_size
    wrong: list[str] = []
    done = 0
    while done < kills:
        more = {"KILL_AT": str(random.randint(1, operations))} if moment == "file operation" else {}
        found = bench.kill(MOMENTS[moment], **more)
        if found == ["it had ended before it was killed"]:
            continue
        done += 1
        wrong += [f"{verb}, {moment}, kill {done} {more}: {words}" for words in found]
        with capsys.disabled():
            print(f"\n{verb:<22}{moment:<16}{done:>3} of {kills} kills, {len(wrong)} faults", *wrong[-3:], end="")
    assert not wrong, "\n".join(wrong)


def test_a_job_ends_with_its_command(tmp_path):
    """It would otherwise be begun a second time beside itself."""
    bench = Bench(tmp_path, benchmark(tmp_path))
    folder = bench.folder()
    process = bench.start(folder)
    grid = BenchmarkFolder(folder / "grid")
    wait_until(lambda: grid.grid_file.exists() and any(state.name == "running" for state in grid.states()), process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while bench.living() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not bench.living()
