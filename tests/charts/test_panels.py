"""Charts: what is drawn is what the numbers say. SVG keeps text as text, so that it can be read back."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from safetrax.charts.drawing import COLOURS, beside, page_svg, save
from safetrax.charts.panels import (
    Curve,
    Mark,
    curves,
    episodes,
    intervals,
    looks,
    plane,
    plane_range,
)
from safetrax.data import load
from safetrax.data.segment_chart import segment_chart
from safetrax.errors import ConfigError, RunError

NAN = float("nan")


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def told(svg: str) -> list[str]:
    """What the marks of a page's figure tell, without the lines' own names."""
    groups = re.findall(r'(?:points|readings)_marks".*?</g>', svg, re.DOTALL)
    return [found.replace("&#10;", "\n") for group in groups for found in re.findall(r'aria-label="([^"]*)"', group)]


# ---- segments


def test_segments_are_counted(tmp_path):
    chart = segment_chart(load("demo"), [40], top=0.5, bottom=0.2)
    # 141 of 300 episodes are safe: 71 of them desirable, 29 undesirable
    entries = {"desirable (71)", "undesirable (188)", "unused (41)", "cost limit 40", "episode cost"}
    assert entries <= set(texts(save(chart, tmp_path / "x.svg").read_text()))


def test_segments_have_three_colours_in_the_picture(tmp_path):
    path = save(segment_chart(load("demo"), [10, 20, 40, 60, 80]), tmp_path / "x.png")
    with Image.open(path) as image:
        assert image.width > image.height > 800  # two rows of three
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in (COLOURS[0], COLOURS[1], "#9a9a9a"):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - rgb).max(axis=1) < 30).sum() > 300


def test_segments_before_a_filter_are_behind(tmp_path):
    data = load("demo")
    half = data.select(np.arange(0, data.num_episodes, 2))
    chart = segment_chart(half, [20], before=data)
    rows = chart["concat"][0]["layer"][1]["data"]["values"]
    kinds = [row["kind"] for row in rows]
    assert kinds[:300] == ["before filters (300)"] * 300
    assert len(rows) == 450
    assert "before filters (300)" in texts(save(chart, tmp_path / "x.svg").read_text())


def test_segments_need_a_limit_and_a_known_format(tmp_path):
    with pytest.raises(ConfigError, match="at least one cost limit"):
        segment_chart(load("demo"), [])
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        save(segment_chart(load("demo"), [10]), tmp_path / "x")


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(RunError, match="cannot write"):
        save(segment_chart(load("demo"), [10]), tmp_path / "file" / "x.png")
    assert (tmp_path / "file").read_text() == "old"


def test_the_three_formats(tmp_path):
    chart = beside([episodes(np.arange(5.0), np.arange(5.0), [2.0], "A title")])
    starts = {"x.PNG": b"\x89PNG", "x.pdf": b"%PDF", "x.svg": b"<svg"}
    assert {name: save(chart, tmp_path / name).read_bytes()[:4] for name in starts} == starts


# ---- lines


def test_a_line_is_told_at_every_place_and_where_it_has_none_at_the_nearest():
    x = np.array([0.0, 100.0, 200.0])
    one = Curve("limit 10", x, np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 4.0]))
    other = Curve("limit 20", x[::2], *(np.array([5.0, 6.0]),) * 3)
    chart = curves([one, other], looks(["limit 10", "limit 20"]), x="updates")
    assert told(page_svg(chart, "a label")) == [
        "updates 0\nlimit 10 1\nlimit 20 5",
        "updates 100\nlimit 10 2\nlimit 20 5",
        "updates 200\nlimit 10 3\nlimit 20 6",
    ]
    rows = next(layer["data"]["values"] for layer in chart["layer"] if layer["mark"]["type"] == "area")
    assert [(row["low"], row["y"], row["high"]) for row in rows[:3]] == [(0, 1, 2), (1, 2, 3), (2, 3, 4)]


def test_many_lines_have_no_bands_and_a_short_list():
    x = np.arange(3.0)
    lines = [Curve(f"A{number}", x, x, x - 1, x + 1) for number in range(16)]
    svg = page_svg(curves(lines, looks([line.label for line in lines]), x="τ", counted=False), "16 lines")
    assert "mark-area" not in svg
    assert told(svg)[0].endswith("\nA13 0\nand 2 more")
    styles = {(colour, tuple(dashes)) for colour, dashes in looks([line.label for line in lines]).values()}
    assert len(styles) == 16  # colours repeat, with other dashes


def test_what_is_not_finite_is_left_out(tmp_path):
    x = np.arange(4.0)
    line = Curve("A", x, np.array([1.0, np.inf, np.nan, 2.0]), np.full(4, np.nan), np.full(4, np.nan))
    json.dumps(chart := curves([line], looks(["A"]), x="updates"), allow_nan=False)
    save(beside([chart]), tmp_path / "x.png")


# ---- planes and intervals


def test_marks_beyond_the_plane_are_triangles_at_its_edge():
    marks = [
        Mark(0.5, 0.5, 0.1, NAN, "safe", "inside"),
        Mark(9.0, 0.5, 0.1, 0.1, "not safe", "right"),
        Mark(0.5, 5.0, NAN, 0.1, "safe", "top"),
        Mark(0.5, -2.0, NAN, NAN, "safe", "bottom"),
    ]
    cost, reward = plane_range(marks)
    assert (cost, reward) == ((0.0, 3.5), (-0.3, 1.7))
    chart = plane(marks, cost, reward)
    _, _, across, up, points = (layer["data"]["values"] for layer in chart["layer"])
    assert [(row["shape"], row["x"], row["y"]) for row in points] == [
        ("safe", 0.5, 0.5),
        ("beyond-right", 3.5, 0.5),
        ("beyond-top", 0.5, 1.7),
        ("beyond-bottom", 0.5, -0.3),
    ]
    assert across == [{"x": 0.4, "x2": 0.6, "y": 0.5}]  # a whisker where the error is known and the mark inside
    assert up == []
    assert told(page_svg(chart, "plane")) == ["inside", "right", "top", "bottom"]


def test_intervals_say_what_they_are_and_keep_their_order():
    chart = intervals([("B", 0.5, 0.25, 0.75), ("A", 1.5, NAN, NAN)], looks(["A", "B"]), x="IQM", limit=1.0)
    svg = page_svg(chart, "intervals", (270, 96))
    assert told(svg) == ["B\nIQM 0.5 [0.25, 0.75]", "A\nIQM 1.5"]
    assert texts(svg)[-2:] == ["B", "A"]
    (b, a) = re.findall(r'fill="var\(--(c\d)\)"[^>]*/>', svg[svg.index("points_marks") :])
    assert (a, b) == ("c0", "c1")


def test_intervals_have_the_colours_of_their_points():
    names = ["A", "B", "C"]
    svg = page_svg(intervals([(name, 0.5, 0.25, 0.75) for name in names], looks(names), x="IQM"), "x")
    spans = svg[svg.index("layer_0_marks") : svg.index("points_marks")]
    assert re.findall(r'stroke="var\(--(c\d)\)"', spans) == ["c0", "c1", "c2"]


# ---- inside a page


def test_panels_that_are_beside_one_another_stand_beside_a_third(tmp_path):
    panel = episodes(np.arange(5.0), np.arange(5.0), [2.0], "A title")
    chart = beside([beside([panel, panel]), panel])
    assert [len(entry.get("concat", ())) for entry in chart["concat"]] == [2, 0]
    assert save(chart, tmp_path / "three.svg").read_text(encoding="utf-8").count(">A title<") == 3


def test_panels_beside_one_another_each_have_their_own_marks(tmp_path):
    look = looks(["A"])
    bars = [
        intervals([("A", value, value - 0.05, value + 0.05)], look, x=x) for x, value in (("r", 0.75), ("c", 0.1))
    ]
    marks = [[Mark(0.5, 0.5, 0.1, 0.1, "safe", text)] for text in ("r 0.75", "c 0.1")]
    for panels in (bars, [plane(own, *plane_range(own)) for own in marks]):
        svg = save(beside(panels), tmp_path / "both.svg").read_text(encoding="utf-8")
        told = " ".join(re.findall(r'aria-label="([^"]*)"', svg))
        assert "r 0.75" in told
        assert "c 0.1" in told


def test_a_page_gets_few_bytes_and_its_own_colours():
    rng = np.random.default_rng(0)
    svg = page_svg(episodes(rng.uniform(0, 50, 900), rng.normal(size=900), [10.0, 40.0]), "900 episodes")
    assert 'aria-label="900 episodes"' in svg
    assert svg.count("l0 0") == 900  # one path, not nine hundred
    assert len(svg) < 20_000
    assert not re.findall(r"(?:fill|stroke)=\"#", svg)
    assert not re.findall(r"<script|style=|href|font-family", svg)


def test_clips_of_two_figures_are_two():
    chart = episodes(np.arange(5.0), np.arange(5.0), [2.0])
    one, two = (set(re.findall(r'id="([^"]+)"', page_svg(chart, "x"))) for _ in range(2))
    assert one
    assert not one & two
    svg = page_svg(chart, "x")
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) == set(re.findall(r'id="([^"]+)"', svg))


@pytest.mark.parametrize(
    "name", ["</text><script>", "a\u2028b", "\ud800", "'\"\\`${x}", "datum.x", "é", "\x07", "\\u0007", "\f\uffff"]
)
def test_any_text_is_text(tmp_path, name):
    x = np.arange(3.0)
    look = looks([name])
    charts = [
        curves([Curve(name, x, x, x - 1, x + 1)], look, x="updates", y=name, title=name, key=True),
        intervals([(name, 0.5, 0.25, 0.75)], look, x=name, title=name),
        plane([Mark(0.5, 0.5, NAN, NAN, name, name)], (0.0, 1.5), (0.0, 1.0), kinds=[name], title=name, key=True),
    ]
    shown = name.encode("utf-8", "replace").decode()
    for chart in charts:
        assert "<script" not in page_svg(chart, name)
        save(beside([chart]), tmp_path / "x.svg")
    if name.isprintable() and not set(name) & set("<>&\"'"):
        assert told(page_svg(charts[2], "x")) == [shown]
