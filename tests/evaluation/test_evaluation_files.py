"""Rows of episodes as CSV: exact, append-safe, and with faults named by their line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from safetrax.errors import DataError, RunError
from safetrax.evaluation.episodes import EpisodeRow, append_episodes, read_episodes, write_episodes
from safetrax.evaluation.run_scores import run_scores
from safetrax.evaluation.statistics import benchmark_table, summarise
from safetrax.leaderboard.own_results import own_results

ROW = EpisodeRow("TraC", "BallRun", 10.0, 0, 5000, 3, 3, 1 / 3, 7.0, 100)
FAULTS = {
    "has the cost -0.5, which must be finite and not negative": [replace(ROW, cost=-0.5)],
    "has the cost nan, which must": [replace(ROW, cost=math.nan)],
    "has the cost inf, which must": [replace(ROW, cost_limit=None, cost=math.inf)],
    "has the cost limit -10.0, which must be finite and not negative": [replace(ROW, cost_limit=-10.0)],
    "has the cost limit nan, which must": [replace(ROW, cost_limit=math.nan)],
    "has the return nan, which is not finite": [replace(ROW, return_=math.nan)],
    "has 0 steps": [replace(ROW, length=0)],
    "is listed twice": [ROW, replace(ROW, env_seed=4), replace(ROW, cost=0.0)],
}
ROWS = [ROW, replace(ROW, cost_limit=None, step=None, return_=-1e-17), replace(ROW, algorithm='A "quoted", name')]
HEADER = "algorithm,task,cost_limit,seed,step,episode,env_seed,return,cost,length\n"


def test_written_rows_are_read_exactly(tmp_path: Path):
    path = tmp_path / "new" / "rows.csv"
    write_episodes(path, ROWS)
    assert read_episodes(path) == ROWS
    assert path.read_text().startswith(HEADER + "TraC,BallRun,10.0,0,5000,3,3,0.3333333333333333,7.0,100\n")
    write_episodes(path, [])
    assert path.read_text() == HEADER


def test_appending_makes_one_header(tmp_path: Path):
    path = tmp_path / "new" / "rows.csv"
    append_episodes(path, ROWS[:1])
    append_episodes(path, iter(ROWS[1:]))
    assert read_episodes(path) == ROWS
    assert path.read_text().count("algorithm") == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,b\n", "line 1: the columns are 'a,b'"),
        (HEADER + "TraC,BallRun,10,0,,0,0,1.0,2.0,100\nTraC,BallRun,10,0", "line 3: 4 cells, expected 10"),
        (HEADER + "TraC,BallRun,10,0,,0,0,much,2.0,100\n", "line 2: return is 'much', expected a number"),
        (HEADER + "TraC,BallRun,10,0.5,,0,0,1.0,2.0,100\n", "line 2: seed is '0.5', expected a whole number"),
        (HEADER + "TraC,BallRun,10,0,,0,0,1.0,2.0,\n", "line 2: length is '', expected a whole number"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, text: str, fault: str):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_episodes(path)
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)


def test_an_empty_file_has_no_rows(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("")
    assert read_episodes(tmp_path / "rows.csv") == []


def test_missing_and_binary_files(tmp_path: Path):
    with pytest.raises(DataError, match="no episodes file"):
        read_episodes(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_episodes(tmp_path / "binary.csv")


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for write in (write_episodes, append_episodes):
        with pytest.raises(RunError, match="cannot write"):
            write(tmp_path / "file" / "rows.csv", ROWS)


@pytest.mark.parametrize("fault", FAULTS)
def test_impossible_rows_get_no_score(tmp_path: Path, fault: str):
    bad = [replace(ROW, env_seed=9, episode=9), *FAULTS[fault]]
    for score in (summarise, benchmark_table, run_scores):
        with pytest.raises(DataError) as caught:
            score(bad)
        assert fault in str(caught.value)
        assert "episode 3 (environment seed 3) of TraC on BallRun" in str(caught.value)
    path = tmp_path / "rows.csv"
    write_episodes(path, bad)
    for read in (read_episodes, lambda path: own_results([path])):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: episode 3 ")


def test_an_open_quotation_mark_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_text(HEADER + '"' + "x" * 200_000)
    with pytest.raises(DataError, match=r"line \d: field larger than .*; is a quotation mark left open\?"):
        read_episodes(path)
