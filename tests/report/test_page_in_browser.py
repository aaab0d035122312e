"""The report page in Chromium: it loads nothing else, and can be sorted, read, resized, darkened and printed.

SAFETRAX_SCREENSHOTS names a folder that keeps the pictures which these tests take.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is driven through Playwright, not installed")
pytest.importorskip("pyarrow", reason="a benchmark's results are Parquet files, which need pyarrow")

from test_page import NASTY, STEP, a_benchmark, a_config, a_gif, a_job, a_result, episodes, with_logs  # noqa: E402

from safetrax.catalogue import tasks  # noqa: E402
from safetrax.report.page import gather, render_page, report_page  # noqa: E402
from safetrax.report.summary import Cell, Verdict  # noqa: E402

CHROMIUM = shutil.which("chromium")
TRIED = Path(".venv/chromium.log")  # of make
MISSING = "there is no program chromium, which `make browser` installs where root and apt are: " + (
    f"it tried, see {TRIED}" if TRIED.exists() else "apt-get install chromium"
)
IN_CI = os.environ.get("CI", "false").lower() not in ("", "0", "false")
pytestmark = pytest.mark.skipif(CHROMIUM is None and not IN_CI, reason=MISSING)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
EVIL = NASTY.replace("\ud800", "")


@dataclass
class Opened:
    """A page, and what it did."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def column(self, number: int) -> list[str]:
        """The texts of a column of the results, as far as they are shown."""
        script = "(rows, i) => rows.filter(row => !row.hidden).map(row => row.cells[i].textContent)"
        return list(self.page.locator("#table tbody tr").evaluate_all(script, number))

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def scroll_through(self) -> None:
        """So that everything is drawn."""
        for y in range(0, int(self.page.evaluate("document.documentElement.scrollHeight")), 600):
            self.page.evaluate(f"window.scrollTo(0, {y})")
            self.page.wait_for_timeout(20)
        self.page.evaluate("window.scrollTo(0, 0)")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Three algorithms on three tasks, with curves, an episode and an algorithm whose name is markup."""
    folder = tmp_path_factory.mktemp("report")
    results = []
    levels = (("trac", "TraC", 0.7, 0.7), ("bc-safe", EVIL, 0.5, 0.97), ("bc-all", "BC-All", 0.8, 35.0))
    for (place, task), (word, name, reward, cost) in itertools.product(
        enumerate(("BallRun", "CarRun", "PointGoal1")), levels
    ):
        job = a_job(task, word)
        rows = [
            row
            for step, limit, seed in itertools.product(
                (STEP // 2, STEP), [None] if word == "bc-all" else job.cost_limits, job.seeds
            )
            for row in episodes(
                name, task, limit, seed, reward * step / STEP + 0.05 * place, cost * (0.9 + 0.1 * seed), step=step
            )
        ]
        config = a_config(job)
        if (task, word) == ("BallRun", "trac"):
            config["record"]["data_path"] = "demo"
            config["data"] = {"source": "SafetyBallRun-v0-demo.hdf5", "sha256": None}
        results.append(a_result(job, rows, config=config, warnings=(EVIL,) if place == 0 else ()))
    made = a_benchmark(folder / "b", results)
    with_logs(made, updates=60)
    a_gif((made.path / "runs" / "BallRun-trac") / "episode.gif")
    return report_page([made.path], folder / "report.html", figures=False)[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert CHROMIUM is not None, MISSING
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def visit(browser) -> Iterator[Any]:
    """Opens a file in a window of its own; at the end nothing may have gone wrong."""
    contexts, pages = [], []

    def open_file(file: Path, **options: Any) -> Opened:
        contexts.append(browser.new_context(**({"viewport": DESK} | options)))
        page = contexts[-1].new_page()
        opened = Opened(page)
        page.on("console", lambda message: opened.said.append(message.text))
        page.on("pageerror", lambda error: opened.said.append(str(error)))
        page.on("dialog", lambda dialog: (opened.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: opened.asked.append(request.url))
        page.goto(file.as_uri())
        pages.append(opened)
        return opened

    yield open_file
    said = [text for opened in pages for text in opened.said]
    asked = [url for opened in pages for url in opened.asked]
    for context in contexts:
        context.close()
    assert said == []
    assert [url[:60] for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.fixture
def picture() -> Any:
    """Takes a picture of that name where somebody wants to look at it; drawing a whole page takes seconds."""
    if not (place := os.environ.get("SAFETRAX_SCREENSHOTS")):
        return lambda of, name, **options: None
    Path(place).mkdir(parents=True, exist_ok=True)
    return lambda of, name, **options: of.screenshot(path=str(Path(place) / name), **options)


def test_it_loads_from_disk_and_asks_for_nothing(report, visit, picture):
    opened = visit(report)
    page = opened.page
    assert page.title() == "3 algorithms on 3 tasks"
    assert page.locator("main > section").count() == 10
    assert [page.locator("#contents a").nth(i).get_attribute("href") for i in (0, 1)] == ["#cautions", "#results"]
    opened.scroll_through()
    assert page.locator("#planes svg.chart").count() == 3
    assert page.locator("#profiles svg.chart").count() == 2
    assert page.locator("#logged svg.chart").count() == 1
    assert page.locator("#across svg.chart").count() == 9  # three groups of tasks
    assert opened.asked[0] == report.as_uri()
    picture(page, "light.png", full_page=True)
    outside = page.evaluate("fetch('https://example.org').then(() => 'loaded', () => 'refused')")
    assert outside == "refused"
    assert any("Content Security Policy" in text for text in opened.said)
    opened.said.clear()
    opened.asked.clear()


def test_texts_are_texts(report, visit):
    page = visit(report).page
    assert page.locator(".verdicts strong").nth(1).text_content() == EVIL
    assert page.locator("#table td.name").nth(1).text_content() == EVIL
    assert page.locator("img").count() == 1  # the episode
    assert page.locator("script").count() == 2
    assert EVIL in page.locator(".cautions").text_content()


def test_sorting_by_click_and_by_keyboard(report, visit):
    opened = visit(report)
    page, heads = opened.page, opened.page.locator("#table thead th")
    assert opened.column(0)[:4] == ["BallRun", "BallRun", "BallRun", "CarRun"]
    assert {heads.nth(i).get_attribute("aria-sort") for i in range(heads.count())} == {"none"}
    reward = heads.nth(2).locator("button")
    reward.click()
    numbers = [float(text.split()[0]) for text in opened.column(2)]
    assert numbers == sorted(numbers, reverse=True)
    assert heads.nth(2).get_attribute("aria-sort") == "descending"
    reward.focus()
    page.keyboard.press("Enter")
    assert [float(text.split()[0]) for text in opened.column(2)] == sorted(numbers)
    assert heads.nth(2).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the next head: cost, cheapest first
    costs = [float(text.split()[0]) for text in opened.column(3)]
    assert costs == sorted(costs)
    assert [heads.nth(i).get_attribute("aria-sort") for i in (2, 3)] == ["none", "ascending"]


def test_filtering_and_opening_rows(report, visit):
    opened = visit(report)
    page = opened.page
    assert page.locator("#count").text_content() == "9 rows"
    page.fill("#filter", "ballrun unsafe")
    assert opened.column(1) == ["BC-All"]
    assert page.locator("#count").text_content() == "1 of 9 rows"
    toggle = page.locator("#table .toggle[aria-expanded=false]:visible").first
    toggle.focus()
    page.keyboard.press("Enter")
    assert opened.column(0) == ["BallRun", "limit 10", "limit 20", "limit 40"]
    toggle = page.locator("#table [aria-expanded=true]")
    assert toggle.get_attribute("aria-label") == "BC-All on BallRun by cost limit"
    page.fill("#filter", "safety-gymnasium")
    assert set(opened.column(0)) == {"PointGoal1"}
    page.fill("#filter", "nothing of the kind")
    assert opened.column(0) == []
    page.fill("#filter", "")
    page.locator("#expand").click()
    assert len(opened.column(0)) == 9 + 27
    page.locator("#expand").click()
    assert len(opened.column(0)) == 9


def test_hover_and_focus_name_the_task(report, visit, picture):
    page = visit(report).page
    page.locator("#planes .grid").scroll_into_view_if_needed()
    panel = page.locator("#planes figure").first
    marks, tip = panel.locator(".mark"), page.locator("#tip")
    marks.first.wait_for()
    assert tip.is_hidden()
    box = marks.nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 3, box["y"] + box["height"] / 2)  # near it is enough
    assert tip.text_content().startswith("CarRun\nreward 0.75")
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    stops = [marks.nth(i).get_attribute("tabindex") for i in range(3)]
    assert stops == ["0", "-1", "-1"]  # one stop of the tabulator per panel
    marks.first.focus()
    assert tip.text_content().startswith("BallRun\n")
    page.keyboard.press("ArrowRight")
    assert tip.text_content().startswith("CarRun\n")
    page.keyboard.press("End")
    assert tip.text_content().startswith("PointGoal1\n")
    assert tip.is_visible()
    picture(panel, "focus.png")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.keyboard.press("Tab")
    assert tip.text_content().startswith("BallRun\n")  # the next panel's first mark
    assert marks.nth(2).get_attribute("aria-label").startswith("PointGoal1\nreward 0.80")


def test_curves_are_read_at_the_pointer_and_by_keys(report, visit, picture):
    page = visit(report).page
    page.locator("#profiles .grid").scroll_into_view_if_needed()
    chart = page.locator("#profiles svg.chart").first
    chart.hover()
    tip, marks = page.locator("#tip"), chart.locator(".mark")
    assert tip.text_content().startswith("τ 0.5")
    assert chart.locator(".near").count() == 1
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    marks.first.focus()
    assert tip.text_content().startswith("τ 0\n")
    page.keyboard.press("End")
    assert tip.text_content().startswith("τ 1.2\nTraC 0\n")
    assert page.evaluate("getComputedStyle(document.activeElement).opacity") == "1"  # else they are not seen
    picture(page.locator("#profiles figure").first, "reading.png")
    legend = page.locator("#profiles .legend button")
    legend.first.click()
    assert legend.first.get_attribute("aria-pressed") == "true"
    lines = page.locator("#profiles .mark-line path")
    assert lines.count() == 6
    assert page.locator("#profiles .mark-line path:not(.dim)").count() == 2
    legend.nth(1).click()  # whose name is markup
    assert legend.first.get_attribute("aria-pressed") == "false"
    assert page.locator("#profiles .mark-line path:not(.dim)").count() == 2
    legend.nth(1).click()
    assert page.locator("#profiles .dim").count() == 0


def test_an_episode_plays_when_asked(report, visit):
    page = visit(report).page
    button = page.locator("#episodes button")
    until(page, "document.querySelector('#episodes canvas').width === 360")
    assert page.locator("#episodes img").is_hidden()
    button.click()
    assert page.locator("#episodes img").is_visible()
    assert page.locator("#episodes img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 360
    button.click()
    assert page.locator("#episodes img").is_hidden()


def test_dark(report, visit, picture):
    opened = visit(report, color_scheme="dark")
    page = opened.page
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in back.removeprefix("rgb(").rstrip(")").split(",")) < 50
    line = page.locator("#profiles .mark-line path").first
    assert line.evaluate("node => getComputedStyle(node).stroke") == "rgb(86, 180, 233)"  # as in style.css
    opened.scroll_through()
    assert opened.overflow() <= 0
    picture(page, "dark.png", full_page=True)


def test_phone(report, visit, picture):
    opened = visit(report, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = opened.page
    opened.scroll_through()
    assert opened.overflow() <= 0
    columns = page.locator("#planes .grid").evaluate("node => getComputedStyle(node).gridTemplateColumns")
    assert len(columns.split()) == 1
    wide = page.locator(".scroll").first.evaluate("node => node.scrollWidth - node.clientWidth")
    assert wide > 0  # the table scrolls inside itself
    picture(page, "phone.png", full_page=True)


def test_print(report, visit, tmp_path):
    page = visit(report, color_scheme="dark").page
    page.emulate_media(media="print")
    until(page, "document.querySelectorAll('details:not([open])').length == 0")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#filter").is_hidden()
    assert page.locator("#table tr.limit:visible").count() == 27
    assert page.locator("#curves svg.chart").count() == page.locator("#curves figure").count() > 6
    page.emulate_media(media="screen")
    until(page, "document.querySelectorAll('details:not([open])').length > 3")
    assert page.locator("#table tr").count() == 10  # as before
    file = Path(os.environ.get("SAFETRAX_SCREENSHOTS") or tmp_path) / "print.pdf"
    file.parent.mkdir(parents=True, exist_ok=True)
    page.pdf(path=str(file), format="A4")
    assert file.stat().st_size > 50_000


def test_without_scripts_it_says_so(report, visit):
    page = visit(report, java_script_enabled=False).page
    assert page.locator("h1").text_content() == "3 algorithms on 3 tasks"
    assert "switched off" in page.locator("noscript").inner_text()
    assert page.locator("#planes svg.chart").first.is_visible()  # only the tables need it


@pytest.mark.slow
def test_ten_thousand_rows(report, visit, tmp_path):
    """Prints how long they take; a busy machine is no failure."""
    base = gather([report.parent / "b"])
    pattern = base.cells[0]
    names = (*base.algorithms, *(f"Variant {number}" for number in range(261)))
    found = tuple(task.name for task in tasks())
    cells = tuple(renamed(pattern, name, task) for task in found for name in names)
    verdicts = tuple(Verdict(name, 38, 20, "safe on 20 of 38 tasks.") for name in names)
    large = replace(base, algorithms=names, tasks=found, cells=cells, verdicts=verdicts)
    file = tmp_path / "large.html"
    file.write_text(render_page(large), encoding="utf-8")
    page = visit(file).page
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    painted = page.evaluate("performance.now()")
    assert page.locator("#count").text_content() == "10,032 rows"
    assert page.locator("#table tbody tr").count() >= 500
    until(page, "document.querySelectorAll('#table tbody tr').length === 10032")
    whole = page.evaluate("performance.now()")
    took = page.evaluate(
        """() => { const began = performance.now();
        document.querySelector("#table thead th:nth-child(3) button").click();
        document.body.getBoundingClientRect(); return performance.now() - began; }"""
    )
    size = file.stat().st_size / 1e6
    print(
        f"a page of 10,032 rows ({size:.1f} MB) is on the screen after {painted / 1000:.2f} s, has all rows after "
        f"{whole / 1000:.2f} s, and sorts them in {took / 1000:.2f} s"
    )


def until(page: Any, expression: str, seconds: float = 30.0) -> None:
    """Wait until a script's expression is true; the page's own policy forbids Playwright's way of waiting."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(30)


def renamed(cell: Cell, algorithm: str, task: str) -> Cell:
    """The same numbers under another name."""
    summaries = tuple(replace(one, algorithm=algorithm, task=task) for one in (cell.summary, *cell.by_limit))
    return replace(cell, algorithm=algorithm, task=task, summary=summaries[0], by_limit=summaries[1:])
