"""Certificates on the report page: beside the simulator's cost, and never believed blindly."""

from __future__ import annotations

import pytest
from test_page import episodes

import safetrax as st
from safetrax.certification import Certificate, write_certificates
from safetrax.errors import RunError
from safetrax.report.certified import Certified, read_certified, table
from safetrax.report.page import report_page
from safetrax.run_id import RunId
from safetrax.runs import Caution, Training


def certificate(bound: float | None, refusal: str = "", algorithm: str = "TraC") -> Certificate:
    return Certificate(
        policy=RunId(algorithm, "BallRun", 20.0, 0),
        cost_limit=20.0,
        confidence=0.95,
        cost=9.0,
        cost_bound=bound,
        return_=100.0,
        return_bound=None if bound is None else 80.0,
        supported=0.81,
        episodes=50.0,
        disagreement=1.0,
        estimator="fitted Q",
        raised=2.5,
        held=17,
        tests=20,
        horizon=100,
        resamples=30,
        data="hash",
        refusal=refusal,
    )


@pytest.fixture
def training(tmp_path) -> Training:
    rows = tuple(episodes("TraC", "BallRun", 20.0, 0, 0.5, 0.75))  # a cost of 15
    return Training("mine", str(tmp_path), tmp_path, {}, rows)


def test_bounds_stand_beside_the_simulators_cost(training):
    write_certificates(training.folder / "certificates.json", [certificate(16.0), certificate(12.0)])
    cautions: list[Caution] = []
    found = read_certified([training], cautions)
    assert [row.simulated for row in found] == pytest.approx([15, 15])
    (caution,) = cautions
    assert caution.sentence == "The simulator's mean cost is above a bound."
    assert caution.items == (f"{found[0].certificate.policy}: 15, said to be at most 12",)
    text = table(found)
    assert text.count("<tr") == 3
    assert '<tr class="safe"><th scope="row" class="name">BallRun TraC</th>' in text
    assert '<td class="number value">16.0</td>' in text
    assert '<td class="number value">17 of 20</td>' in text


def test_a_refusal_has_no_number_and_no_markup():
    text = table([Certified(certificate(None, "its <b> values do not settle", "<i>"), None)])
    assert "no bound: its &lt;b&gt; values do not settle" in text
    assert "BallRun &lt;i&gt;" in text
    assert '<td class="number value">-</td>' in text
    assert table([]) == ""


def test_a_damaged_file_is_a_caution(training):
    (training.folder / "certificates.json").write_text("{}")
    cautions: list[Caution] = []
    assert read_certified([training], cautions) == ()
    (caution,) = cautions
    assert caution.sentence == "Certificates that could not be read."
    assert "run safetrax certify anew" in caution.items[0]


def test_a_run_without_episodes_has_a_page_once_it_is_certified(tmp_path, toy):
    folder = tmp_path / "mine"
    st.train(st.BC(hidden=(4,), updates=1, batch_size=4), toy, cost_limits=(5,), out=folder)
    with pytest.raises(RunError, match=r"no evaluation episodes; run safetrax evaluate .* or safetrax certify"):
        report_page([folder], tmp_path / "page.html", figures=False)
    write_certificates(folder / "certificates.json", [certificate(16.0, algorithm="BC-All")])
    (page,) = report_page([folder], tmp_path / "page.html", figures=False)
    text = page.read_text()
    assert "<title>BC-All, certified from a log</title>" in text
    assert "not evaluated; bounded within the limit in 1 of 1." in text
    assert '<td class="number value">16.0</td>' in text
