"""What a notebook shows: charts of runs, data sets and evaluations, which save themselves, tables and frames."""

from __future__ import annotations

import altair
import numpy as np
import pytest

import safetrax as st
from safetrax.errors import ConfigError
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.result import Evaluation

BC = st.BC(updates=20, hidden=(8,), batch_size=8)


def shown(chart: altair.TopLevelMixin) -> dict:
    """The specification that a notebook's front end is given; Altair checks it."""
    return chart.to_dict()


def titles(chart: altair.TopLevelMixin) -> list[str]:
    return [panel["title"] for panel in shown(chart)["concat"]]


def row(algorithm: str, limit: float | None, seed: int, value: float, cost: float) -> EpisodeRow:
    return EpisodeRow(algorithm, "BallRun", limit, seed, 5, 0, 0, value, cost, 100)


def test_a_run(toy, tmp_path):
    run = st.train(BC, toy, cost_limits=(10.0, 20.0), seeds=(0, 1), log_every=5)
    chart = run.plot()
    assert titles(chart)[0] == "BC-All: clone, loss"
    (panel, *_) = shown(chart)["concat"]
    assert {layer["mark"]["type"] for layer in panel["layer"]} == {"area", "line", "point", "rule"}
    chart.save(tmp_path / "x.svg")
    assert ">updates<" in (tmp_path / "x.svg").read_text()
    short = st.train(BC, toy, cost_limits=(10.0,), log_every=100)
    with pytest.raises(ConfigError, match="nothing to draw"):
        short.plot()


def test_a_data_set(toy):
    chart = shown(toy.plot([20, 10]))
    rules = [layer["encoding"]["x"]["datum"] for layer in chart["layer"] if layer["mark"]["type"] == "rule"]
    assert rules == [10, 20]
    assert shown(toy.plot())["layer"][0]["mark"]["type"] == "point"  # nothing is shaded without a limit


def test_an_evaluation():
    one = [row("TraC", limit, seed, 200.0 + seed, 8.0 + seed) for limit in (10.0, 20.0) for seed in (0, 1)]
    (panel,) = shown(Evaluation(tuple(one), 1.0, 100).plot())["concat"]
    (points,) = (layer for layer in panel["layer"] if layer["mark"]["type"] == "point")
    assert points["encoding"]["color"]["scale"]["domain"] == ["limit 10", "limit 20"]
    two = [*one, *(row("BC-All", None, seed, 300.0, 30.0) for seed in (0, 1))]
    (panel,) = shown(Evaluation(tuple(two), 1.0, 100).plot([20.0]))["concat"]
    (points,) = (layer for layer in panel["layer"] if layer["mark"]["type"] == "point")
    assert points["encoding"]["color"]["scale"]["domain"] == ["TraC", "BC-All"]


def test_an_evaluation_is_a_table_and_a_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    result = Evaluation((row("<b>", 10.0, 0, 200.0, 8.0), row("BC-All", None, 1, 300.5, 30.0)), 1.0, 200)
    shown = result._repr_html_()
    assert "<td>&lt;b&gt;</td><td>BallRun</td><td>10</td>" in shown
    assert shown.count("<tr>") == 1 + 1 + 3  # BC-All is scored at each limit of the task
    result.save(tmp_path / "episodes.csv")
    read = pandas.read_csv(tmp_path / "episodes.csv")
    pandas.testing.assert_frame_equal(result.to_pandas(), read, check_dtype=False)


def test_metrics_are_a_frame_with_the_columns_of_their_file(toy, tmp_path):
    pandas = pytest.importorskip("pandas")
    run = st.train(BC, toy, cost_limits=(10.0,), seeds=(3,), out=tmp_path / "run")
    read = pandas.read_csv(tmp_path / "run" / "metrics.csv")
    found = run.to_pandas()
    assert len(found) > 0
    assert list(found) == list(read)
    np.testing.assert_allclose(found.value, read.value, rtol=1e-6)


def test_policies_are_a_table_and_nothing_is_printed_unasked(toy, tmp_path, capfd):
    st.write_hdf5(tmp_path / "log.hdf5", toy)
    policies = st.train(BC, st.load(tmp_path / "log.hdf5"), cost_limits=(10.0,), seeds=(3,), log_every=100).policies
    assert "<td>BC-All</td><td></td><td>no limit</td><td>3</td>" in policies._repr_html_()
    assert capfd.readouterr() == ("", "")
