"""`safetrax inspect` and `safetrax doctor`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from conftest import toy_episodes
from safetrax.cli import doctor
from safetrax.cli.main import main
from safetrax.data import write_hdf5
from safetrax.envs.suites import SUITES


def test_inspect_the_demo_data(tmp_path, capsys):
    figure = tmp_path / "scatter.png"
    assert main(["inspect", "demo", "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    assert "300 episodes (0 terminated, 300 truncated), 30,000 transitions" in out
    assert "no faults found" in out
    lines = {
        line.split()[0]: line.split() for line in out.splitlines() if line.split()[:1] in (["10"], ["20"], ["40"])
    }
    # limit, safe episodes (share), best safe return, desirable, undesirable, unused: 141 of 300 cost at most 40
    assert lines["40"] == ["40", "141", "(47.0%)", "661.47", "71", "159", "70"]
    assert lines["10"][1:3] == ["56", "(18.7%)"]
    assert [sum(map(int, row[-3:])) for row in lines.values()] == [300] * 3
    with Image.open(figure) as image:
        assert 1200 < image.width < 3000
        assert 400 < image.height < 1000
    assert 30_000 < figure.stat().st_size < 1_000_000


def test_inspect_counts_all_windows_of_short_segments(capsys):
    assert main(["inspect", "demo", "--cost-limits", "20", "--segment-ratio", "0.25", "--bottom", "0.2"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["20"])
    assert sum(int(cell.replace(",", "")) for cell in row.split()[-3:]) == 300 * (100 - 25 + 1)


def test_inspect_goes_on_where_a_limit_is_met_by_nothing(tmp_path, capsys):
    data = toy_episodes([10] * 5)
    rows = [{**data.episode(e), "costs": np.ones(10)} for e in range(5)]
    write_hdf5(tmp_path / "own.hdf5", type(data).from_episodes(rows))
    assert main(["inspect", str(tmp_path / "own.hdf5"), "--cost-limits", "0", "10"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0", "0", "(0.0%)", "-", "none", "5", "0"] in lines
    assert any(line[:3] == ["10", "5", "(100.0%)"] for line in lines)


def counts_in(table: str, figure: str, limit: str) -> tuple[list[int], list[int]]:
    """Desirable, undesirable and unused segments, as the table and as the figure count them."""
    row = next(line for line in table.splitlines() if line.split()[:1] == [limit])
    drawn = [re.search(rf">{name} \(([\d,]+)\)<", figure) for name in ("desirable", "undesirable", "unused")]
    return [int(cell.replace(",", "")) for cell in row.split()[-3:]], [
        int(found[1].replace(",", "")) for found in drawn if found
    ]


@pytest.mark.parametrize("flags", [(), ("--segment-ratio", "0.5"), ("--bottom", "0.3", "--top", "0.2")])
def test_inspect_counts_and_draws_the_same_segments(flags, tmp_path, capsys):
    lengths = np.random.default_rng(0).integers(79, 120, 220)
    write_hdf5(tmp_path / "own.hdf5", toy_episodes(lengths.tolist()))
    figure = tmp_path / "own.svg"
    assert main(["inspect", str(tmp_path / "own.hdf5"), "--cost-limits", "30", *flags, "--figure", str(figure)]) == 0
    table, drawn = counts_in(capsys.readouterr().out, figure.read_text(), "30")
    assert table == drawn
    assert min(table) > 0
    if "--segment-ratio" not in flags:
        assert sum(table) == 220


def test_inspect_warns_where_next_to_nothing_is_used(tmp_path, capsys):
    write_hdf5(tmp_path / "own.hdf5", toy_episodes([40] * 50 + [41]))
    words = ["inspect", str(tmp_path / "own.hdf5"), "--cost-limits", "41"]
    assert main([*words, "--segment-ratio", "1"]) == 0
    out = capsys.readouterr().out
    assert "segments: 2.0% at limit 41" in out  # 41 of 2,041 steps
    assert "50 of 51 episodes are shorter than a segment of 41 steps" in out
    assert "no segment is undesirable" in out
    assert main([*words, "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert "segments: 100.0% at limit 41" in out
    assert "shorter" not in out


def test_inspect_without_a_task_asks_for_limits(tmp_path, capsys):
    write_hdf5(tmp_path / "own.hdf5", toy_episodes([10] * 5))
    assert main(["inspect", str(tmp_path / "own.hdf5")]) == 0
    assert "pass --cost-limits" in capsys.readouterr().out


def test_inspect_lists_every_error_and_ends_with_2(tmp_path, capsys):
    data = toy_episodes([10] * 5)
    broken = {**data.episode(0), "costs": -np.ones(10), "rewards": np.full(10, np.nan)}
    write_hdf5(tmp_path / "own.hdf5", type(data).from_episodes([broken, data.episode(1)]))
    assert main(["inspect", str(tmp_path / "own.hdf5"), "--cost-limits", "3"]) == 2
    out = capsys.readouterr().out
    assert "error: own.hdf5: 10 values are missing (NaN): rewards in 10 cells of 1 episode, first in row 0" in out
    assert "error: own.hdf5: costs is -1 in row 0" in out


def test_doctor_finds_this_installation_well(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "300 episodes of BallRun" in out
    assert "The core works." in out
    assert " on cpu" in out
    for suite in ("bullet", "safety_gymnasium", "metadrive"):
        assert suite in out


CRASH = """
import os
"bullet" == %r and os.abort()
print('["another", true, "fine"]')  # probe: %r
"""


def test_doctor_reports_a_broken_core_instead_of_breaking(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_JAX", "import no_such_module")
    monkeypatch.setattr(doctor, "_SUITE", CRASH)
    assert main(["doctor"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "jax broken ModuleNotFoundError: No module named 'no_such_module'; pip install" in out
    assert f"bullet missing the bullet simulator crashed with signal 6; {SUITES['bullet'].remedy}" in out
    assert "The core is broken" in out


def test_doctor_names_the_extra_of_a_missing_package(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    found = {check.name: check.detail for check in doctor._optional()}
    assert found["tensorboard"] == 'pip install "safetrax[tensorboard]"'


@pytest.mark.parametrize(("names", "text"), [(["cpu"], "cpu"), (["A100", "A100"], "2 x A100"), (["a", "b"], "a, b")])
def test_doctor_counts_devices(names, text):
    assert doctor._count(names) == text
