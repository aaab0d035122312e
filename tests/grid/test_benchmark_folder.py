"""What a benchmark keeps on disk, and what becomes of it when something breaks."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from finished import finish
from safetrax.cli.benchmark import _close, _todo
from safetrax.cli.main import main
from safetrax.errors import ConfigError, RunError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.grid.benchmark_folder import BenchmarkFolder, State
from safetrax.grid.grid import Job
from safetrax.grid.status import status
from safetrax.runs import read_sources
from safetrax.training.run_folder import JobState

JOB = Job("BallRun-trac", "trac", "", {"updates": 3}, "BallRun", "demo", (10.0, 20.0), (0, 1), 2, 0)
OTHER = replace(JOB, name="BallRun-bc-all", algorithm="bc-all", settings={})
ROWS = (
    EpisodeRow("TraC", "BallRun", 10.0, 0, 3, 0, 100000, 0.1 + 0.2, 1.0, 100),
    EpisodeRow("BC-All", "BallRun", None, 1, None, 1, 100001, -5e-324, 0.0, 7),
)


def test_a_folder_grows_and_keeps_its_jobs(tmp_path):
    path = tmp_path / "b"
    folder = BenchmarkFolder.make(path, [JOB])
    assert BenchmarkFolder.make(path, [OTHER]).jobs() == (JOB, OTHER)
    assert BenchmarkFolder.open(path).jobs() == (JOB, OTHER)
    with pytest.raises(
        ConfigError, match=r"has a job BallRun-trac with another configuration \(seeds was \[0, 1\] and"
    ):
        BenchmarkFolder.make(path, [replace(JOB, seeds=(0,))])
    assert folder.jobs() == (JOB, OTHER)
    with pytest.raises(RunError, match="there is no benchmark in"):
        BenchmarkFolder.open(tmp_path)
    with pytest.raises(RunError, match="holds something else than a benchmark"):
        BenchmarkFolder.make(tmp_path, [JOB])
    for text, fault in (
        ("{", "Expecting"),
        ('{"jobs": {}}', "it lists no jobs"),
        ('{"jobs": []}', "it lists no jobs"),
    ):
        folder.grid_file.write_text(text)
        with pytest.raises(RunError, match=rf"grid\.json cannot be read \({fault}"):
            folder.jobs()


def test_the_life_of_a_job(tmp_path):
    folder = BenchmarkFolder.make(tmp_path, [JOB])
    assert folder.state(JOB) == State(JOB, JobState("waiting"))
    progress = folder.begin(JOB, 100)
    assert (progress.name, progress.attempts, progress.total) == ("running", 1, 100)
    folder.run_folder(JOB).write_state(replace(progress, updates=30))
    assert folder.state(JOB).details.updates == 30
    folder.fail(JOB, "it\n broke")
    assert (folder.state(JOB).name, folder.state(JOB).details.error) == ("failed", "it broke")
    assert folder.begin(JOB, 100).attempts == 2
    finish(folder, JOB, ROWS, attempts=2, warnings=("careful",))
    assert folder.state(JOB).name == "done"
    assert folder.state(JOB).details.warnings == ("careful",)


def test_a_job_whose_process_is_gone_has_stopped(tmp_path):
    folder = BenchmarkFolder.make(tmp_path, [JOB])
    place, progress = folder.run_folder(JOB), folder.begin(JOB, 100)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    host = progress.place.split()[0]
    place.write_state(replace(progress, place=f"{host} {process.pid}"))
    assert folder.state(JOB).name == "stopped"
    place.write_state(replace(progress, place="elsewhere 1"))
    assert folder.state(JOB).name == "running"
    place.write_state(replace(progress, place="elsewhere 1", beat=time.time() - 100))
    assert folder.state(JOB).name == "stopped"
    place.result_file.unlink()
    assert folder.state(JOB).name == "waiting"


HOST = socket.gethostname()
DAMAGES = [
    ('{"name": "done"', "Expecting ',' delimiter"),
    ("[" * 100_000, "it is nested too deeply"),
    ("[]", "it holds no settings"),
    ("{}", "name is , but must be running, failed or done"),
    ({"name": "damaged"}, "name is damaged, but must be running, failed or done"),
    ({"began": 1}, "it has an entry 'began'"),
    ('{"started": 1e999}', "1e999 is no finite number"),
    ({"started": None}, "started is None, but must lie in [0, 1e+12]"),
    ({"beat": -1}, "beat is -1, but must lie in [0, 1e+12]"),
    ({"beat": 1e300}, "beat is 1e+300, but must lie in [0, 1e+12]"),
    ({"seconds": {"training": math.inf}}, "Infinity is no finite number"),
    ({"seconds": {"training": math.nan}}, "NaN is no finite number"),
    ({"seconds": {"training": 10**400}}, "10000000000000000000... is no finite number"),
    ({"seconds": {"training": "x"}}, "seconds.training is x, but must lie in [0, 1e+12]"),
    ({"seconds": []}, "seconds is (), but must be a table"),
    ({"updates": 2**70}, "updates is 1180591620717411303424, but must lie in"),
    ({"total": 0.5}, "total is 0.5, but must be a whole number"),
    ({"attempts": True}, "attempts is True, but must be a whole number"),
    ({"warnings": [None]}, "warnings[0] is None, but must be of type str"),
    *(
        ({"place": f"{HOST} {number}"}, f"place is {HOST} {number:.40}")
        for number in ("-1", "0", str(2**70), "²", "9" * 5000)
    ),
    ({"place": [1]}, "place is (1,), but must be of type str"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_result_is_told_by_status_and_by_the_next_command(damage, sentence, tmp_path, capsys):
    folder = BenchmarkFolder.make(tmp_path, [JOB, OTHER])
    finish(folder, OTHER, ROWS)
    folder.begin(JOB, 100)
    file = folder.run_folder(JOB).result_file
    whole = json.loads(file.read_text())
    file.write_text(damage if isinstance(damage, str) else json.dumps({**whole, **damage}))
    assert main(["benchmark", "status", str(tmp_path), "--json"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out, parse_constant=pytest.fail)
    assert [job["state"] for job in found["jobs"]] == ["damaged", "done"]
    assert said.err.startswith(f"safetrax: {JOB.name} is damaged: {file} is damaged ({sentence}")
    assert said.err.count("\n") == 1
    assert main(["benchmark", "status", str(tmp_path)]) == 2
    assert "1 done, 1 damaged, 0 s left" not in capsys.readouterr().out
    for use in (lambda: _todo(folder, [JOB, OTHER], retry=False), lambda: read_sources([tmp_path])):
        with pytest.raises(RunError, match=re.escape(sentence)):
            use()
    assert _todo(folder, [OTHER], retry=False) == []
    folder.fail(JOB, "it broke")  # whoever writes it anew need not read it
    assert folder.state(JOB).name == "failed"


def test_status_and_the_next_command_agree_on_jobs_that_say_they_are_done(tmp_path, capsys):
    folder = BenchmarkFolder.make(tmp_path, [JOB, OTHER])
    promise = {"policies": [["TraC", 10.0, 0]]}
    rows = [replace(ROWS[0], env_seed=seed) for seed in (0, 1)]
    finish(folder, JOB, rows, promise)
    finish(folder, OTHER, ROWS)
    assert main(["benchmark", "status", str(tmp_path)]) == 0
    assert "2 done" in capsys.readouterr().out
    assert _todo(folder, [JOB, OTHER], retry=False) == []

    (policy,) = folder.run_folder(JOB).policies_folder.iterdir()
    policy.unlink()
    assert main(["benchmark", "status", str(tmp_path)]) == 0
    assert "1 done, 1 stopped" in capsys.readouterr().out
    assert _todo(folder, [JOB, OTHER], retry=False) == [JOB]

    finish(folder, JOB, rows[1:], promise)
    capsys.readouterr()
    assert main(["benchmark", "status", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "1 done, 1 damaged" in said.out
    assert "is incomplete: TraC, limit 10, seed 0 has 1 of 2 episodes" in said.err
    with pytest.raises(RunError, match="is incomplete"):
        _todo(folder, [JOB, OTHER], retry=False)


def test_the_closing_table_is_of_the_grids_tasks(tmp_path, capsys):
    folder = BenchmarkFolder.make(tmp_path, [JOB])
    elsewhere = replace(ROWS[0], task="CarRun", return_=1e6)
    finish(folder, JOB, [ROWS[0], elsewhere])
    assert _close(folder, [JOB]) == 0
    assert capsys.readouterr().out.count("TraC") == 1


def test_two_cannot_work_in_one_folder(tmp_path):
    folder = BenchmarkFolder.make(tmp_path, [JOB])
    with folder.locked():
        code = f"""
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.errors import RunError
try:
    with BenchmarkFolder.open({str(tmp_path)!r}).locked():
        print("inside")
except RunError as error:
    print(error)
"""
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert "another safetrax command works in" in said
        assert str(os.getpid()) in said
    with folder.locked():
        pass


def test_the_time_left(tmp_path):
    jobs = [replace(JOB, name=f"job{i}") for i in range(4)] + [OTHER]
    folder = BenchmarkFolder.make(tmp_path, jobs)
    assert status(folder.states()).seconds_left is None
    assert status(folder.states()).count() == {"waiting": 5}
    finish(folder, jobs[0], ROWS, seconds={"training": 98.0, "evaluation": 2.0})
    now = time.time()
    progress = replace(folder.begin(jobs[1], 10), started=now - 30, updates=4)  # half as fast again: 45 s
    folder.run_folder(jobs[1]).write_state(progress)
    folder.fail(jobs[2], "broken")
    left = status(folder.states(), lanes=2, now=now)
    # 45 of the one that runs, 100 of job3, 100 of the other algorithm, of which nothing is known; two side by side
    assert left.seconds_left == pytest.approx((45 + 100 + 100) / 2, rel=0.01)
    assert left.count() == {"done": 1, "running": 1, "failed": 1, "waiting": 2}
    assert status(folder.states(), lanes=50, now=now).seconds_left == pytest.approx(45, rel=0.01)
