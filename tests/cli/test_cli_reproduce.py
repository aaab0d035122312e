"""`safetrax reproduce`: by name from the grid to the verdict; what is wrong is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from finished import finish
from safetrax.cli.benchmark import BenchmarkOptions, grid_of
from safetrax.cli.main import main
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.experiments import EXPERIMENTS

RETURNS = {"0.25": 4.0, "0.5": 3.9, "1": 3.0, "2": 1.0}  # of 5.46, which is normalised 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ReachAvoid-v0-5.hdf5").touch()
    return tmp_path / "data"


def words(data: Path, out: Path) -> list[str]:
    return [
        *("reproduce", "trac-eta", "--data", str(data), "--tasks", "ReachAvoid", "--cost-limits", "10"),
        *("--out", str(out), "--workers", "1"),
    ]


def done(data: Path, out: Path, seeds: tuple[int, ...], settings: tuple[str, ...] = ()) -> None:
    """The grid of that command, finished, with a cost of a tenth of the limit."""
    options = BenchmarkOptions(
        out=str(out),
        ablations=("trac-eta",),
        tasks=("ReachAvoid",),
        data=str(data),
        cost_limits=(10.0,),
        seeds=seeds,
        schedule="fast",
        set=settings,
    )
    jobs = grid_of(options).jobs()
    folder = BenchmarkFolder.make(out, jobs)
    for job in jobs:
        best = RETURNS[job.label.removeprefix("eta ")]
        finish(
            folder,
            job,
            [
                EpisodeRow("TraC", "ReachAvoid", 10.0, seed, 3500, e, e, best + 0.01 * seed, 1.0, 50)
                for seed in seeds
                for e in range(20)
            ],
        )


def test_the_list_has_every_name(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.split() and line.split()[0] in EXPERIMENTS] == list(
        EXPERIMENTS
    )


def test_settings_of_ones_own_are_those_of_every_job(data, tmp_path, capsys):
    out, own = tmp_path / "out", ("trac.batch_size=24", "trac.updates=800")
    done(data, out, (0, 10, 20), own)
    assert main([*words(data, out), "--set", *own]) == 0
    assert "4 jobs, 4 of them done" in capsys.readouterr().out
    for job in BenchmarkFolder.open(out).jobs():
        assert (job.settings["batch_size"], job.settings["updates"]) == (24, 800)


def test_a_finished_grid_is_judged_and_drawn(data, tmp_path, capsys):
    out = tmp_path / "out"
    done(data, out, (0, 10, 20))
    assert main(words(data, out)) == 0
    said = capsys.readouterr().out
    assert "schedule  fast: 4 jobs, 1 side by side, about" in said
    verdict = "not decidable, for 0 of the paper's 3 tasks were run; on what was run 3 of 3 claims agree"
    assert f"verdict   {verdict}" in said
    page = (out / "trac-eta.md").read_text()
    assert page.startswith(f"# trac-eta: {verdict}\n")
    assert EXPERIMENTS["trac-eta"].finding in page
    assert (
        "* TraC (eta 0.25) earns more than TraC (eta 2): agree "
        "(difference in normalised reward 0.549 [0.549, 0.549], 3 seeds; on ReachAvoid)."
    ) in page
    assert "| ReachAvoid | TraC (eta 2) | 3 | **0.20 ± 0.01** | **0.10 ± 0.00** | yes |" in page
    assert "The paper has it on AntCircle, CarPush1, mediummean." in page
    assert (out / "trac-eta.png").stat().st_size > 1000
    assert (out / "trac-eta.svg").read_text().startswith("<svg")
    assert main(["benchmark", "status", str(out)]) == 0  # the folder is a benchmark's still


def test_two_seeds_decide_nothing_and_that_is_said_first(data, tmp_path, capsys):
    out = tmp_path / "out"
    done(data, out, (0, 1))
    assert main([*words(data, out), "--seeds", "0", "1"]) == 0
    said = capsys.readouterr()
    assert "warning: a verdict needs at least 3 seeds, and this has 2." in said.err
    assert "on what was run 3 of 3 claims not decidable" in said.out


def test_a_failed_job_leaves_it_undecided(data, tmp_path, capsys):
    out = tmp_path / "out"
    done(data, out, (0, 10, 20))
    folder = BenchmarkFolder.open(out)
    folder.fail(folder.jobs()[1], "the disk was full.")
    assert main(words(data, out)) == 2
    said = capsys.readouterr()
    assert "ReachAvoid-trac-eta-0.5 failed: the disk was full." in said.err
    assert "verdict   not decidable, for jobs are not done (1)" in said.out
    assert "TraC (eta 0.5)" not in (out / "trac-eta.md").read_text()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["reproduce"], "takes one name, not 0; safetrax reproduce --list shows all"),
        (["reproduce", "trac-eta", "trac-top"], "takes one name, not 2"),
        (["reproduce", "bars-anker"], "there is no table or figure 'bars-anker'; did you mean bars-anchor?"),
        (["reproduce", "trac-eta", "--data", "no/such"], "there is no folder no/such of data sets"),
        (["reproduce", "trac-eta", "--data", "DATA"], "has no data set of AntCircle"),
        (["reproduce", "trac-eta", "--data", "demo"], "is of BallRun, not of AntCircle"),
        (["reproduce", "trac-eta", "--schedule", "quick"], "quick"),
        (["reproduce", "bars-quality-1-3", "--cost-limits", "10", "20"], "--cost-limits takes one, not 2"),
        (["reproduce", "bars-reach-avoid"], "nobody publishes data of ReachAvoid; say in which folder they are"),
    ],
)
def test_faults_are_sentences(change, sentence, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(data) if word == "DATA" else word for word in change]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "reproduced").exists()
