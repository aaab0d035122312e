"""The report page: what it says follows from the rows, and it holds nothing but text where text belongs."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finished import finish
from safetrax.catalogue import get_task, tasks
from safetrax.charts.drawing import COLOURS, EDGE, INK, LINE, SHADE, SOFT
from safetrax.charts.panels import Curve
from safetrax.cli.report import run
from safetrax.data.demo_data import demo_path
from safetrax.data.formats.hdf5 import write_hdf5
from safetrax.errors import ConfigError, DataError, RunError, TaskError
from safetrax.evaluation.episodes import EpisodeRow, write_episodes
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.grid import Job
from safetrax.report.page import report_page
from safetrax.report.payload import MOST_BYTES, payload, to_json
from safetrax.report.summary import gather
from safetrax.training.curves import MOST_POINTS, Panel, within_budget

pytest.importorskip("pyarrow", reason="a benchmark's results are Parquet files, which need pyarrow")

LIMITS = (10.0, 20.0, 40.0)
STEP = 100_000


# ---- results that no training made


def episodes(
    algorithm: str,
    task: str,
    limit: float | None,
    seed: int,
    reward: float,
    cost: float,
    *,
    count: int = 20,
    step: int | None = STEP,
    noise: float = 0.0,
) -> list[EpisodeRow]:
    """Episodes with these normalised means; `cost` is normalised by the limit, and raw where there is none."""
    entry = get_task(task)
    spread = np.linspace(-noise, noise, count)
    returns = entry.reward_min + (reward + spread) * (entry.reward_max - entry.reward_min)
    costs = (cost + np.maximum(spread, -cost)) * (limit or 1.0)
    return [
        EpisodeRow(algorithm, entry.name, limit, seed, step, i, seed * 1000 + i, float(r), float(c), 100)
        for i, (r, c) in enumerate(zip(returns, costs, strict=True))
    ]


def level(name: str, job: Job, reward: float = 0.5, cost: float = 0.5) -> list[EpisodeRow]:
    """Every run of a job with the same means."""
    runs = itertools.product(job.cost_limits, job.seeds)
    return [row for limit, seed in runs for row in episodes(name, job.task, limit, seed, reward, cost)]


def a_job(
    task: str, algorithm: str, *, label: str = "", limits: Sequence[float] = LIMITS, seeds: Sequence[int] = (0, 1, 2)
) -> Job:
    name = "-".join(filter(None, (task, algorithm, label))).replace(" ", "-")
    return Job(name, algorithm, label, {}, task, "nowhere.hdf5", tuple(limits), tuple(seeds), 20, 0)


def a_config(job: Job, **changes: Any) -> dict[str, Any]:
    """As a training writes it, of data that are DSRL's by name."""
    settings = {"class": changes.pop("kind", "Unknown"), "eta": changes.pop("eta", 0.25), "hidden": [256, 256]}
    return {
        "algorithm": settings,
        "task": job.task,
        "cost_limits": list(job.cost_limits),
        "seeds": list(job.seeds),
        "updates": STEP,
        "data": {"source": get_task(job.task).dataset_file, "sha256": "ab" * 32, "task": job.task},
        "made_with": {"safetrax": "0.9.9", "python": "3.11.7", "command": f"safetrax benchmark {job.name}"},
        "record": {"data_path": job.data, "job": json.loads(json.dumps(job.to_json()))},
        "signature": {"algorithm": settings, "task": job.task, "runs": [], "precision": "float32"},
    } | changes


Result = tuple[Job, Sequence[EpisodeRow], dict[str, Any]]


def a_result(job: Job, rows: Sequence[EpisodeRow], **changes: Any) -> Result:
    facts = {"config": a_config(job), "seconds": {"training": 61.0, "evaluation": 2.5}, "attempts": 1}
    return job, rows, facts | changes


def a_benchmark(path: Path, results: Sequence[Result], waiting: Sequence[Job] = ()) -> BenchmarkFolder:
    folder = BenchmarkFolder.make(path, [*(job for job, _, _ in results), *waiting])
    for job, rows, facts in results:
        end = f" ({job.label})"  # behind the algorithm's name, where it is read
        plain = [replace(row, algorithm=row.algorithm.removesuffix(end)) for row in rows]
        finish(folder, job, plain, **facts)
    return folder


def three_algorithms(path: Path, **changes: Any) -> BenchmarkFolder:
    """TraC and BC-Safe at three limits and three seeds, and BC-All, which ignores the limit, on two tasks."""
    results = []
    for task in ("BallRun", "CarRun"):
        for word, name, reward, cost in (("trac", "TraC", 0.5, 0.6), ("bc-safe", "BC-Safe", 0.4, 0.5)):
            job = a_job(task, word)
            rows = [
                row
                for limit, seed in itertools.product(LIMITS, job.seeds)
                for row in episodes(name, task, limit, seed, reward + 0.1 * seed, cost + 0.2 * seed)
            ]
            results.append(a_result(job, rows, **changes))
        job = a_job(task, "bc-all")
        rows = [row for seed in job.seeds for row in episodes("BC-All", task, None, seed, 0.9, 30.0 + 10 * seed)]
        results.append(a_result(job, rows, **changes))
    return a_benchmark(path, results)


def whole_suite(path: Path, *, algorithms: int = 10, limits: int = 3, count: int = 20) -> BenchmarkFolder:
    """Every task of the benchmark: results that look like a paper's."""
    rng = np.random.default_rng(0)
    names = ("TraC", "BC-All", "BC-Safe", "CPQ", "BCQ-Lag", "BEAR-Lag", "COptiDICE", "LSPC-O", "FISOR", "BARS")
    results = []
    for task in tasks():
        hard = rng.uniform(0.1, 0.9)
        for number in range(algorithms):
            name = names[number] if number < len(names) else f"Variant {number}"
            word = name.lower().replace(" ", "-")
            own = task.cost_limits[:limits]
            job = a_job(task.name, word, limits=own)
            level = rng.normal(1.1 - 0.6 * hard, 0.2)
            dear = rng.gamma(2.0, 0.25 + 0.12 * number)
            rows = [
                row
                for limit, seed in itertools.product([None] if name == "BC-All" else own, job.seeds)
                for row in episodes(
                    name, task.name, limit, seed, level + rng.normal(0, 0.05),
                    max(0.0, dear + rng.normal(0, 0.15)) * (20.0 if limit is None else 1.0), noise=0.2, count=count,
                )
            ]  # fmt: skip
            results.append(a_result(replace(job, episodes=count), rows))
    return a_benchmark(path, results)


def with_logs(folder: BenchmarkFolder, *, updates: int = 1000, every: int = 1) -> None:
    """A metrics file for each job, and evaluations while it was trained."""
    for state in folder.states():
        job = state.job
        seed_of_job = zlib.crc32(job.name.encode())
        rng = np.random.default_rng(seed_of_job)
        out = folder.path / "runs" / job.name
        out.mkdir(parents=True, exist_ok=True)
        lines = ["stage,update,algorithm,cost_limit,seed,metric,value"]
        for limit, seed in itertools.product(job.cost_limits, job.seeds):
            level = rng.uniform(0.6, 1.2)
            noise = rng.normal(0, 0.02, updates)
            for i in range(0, updates, every):
                x = (i + 1) * STEP // updates
                value = level * np.exp(-3 * i / updates) + 0.1 + noise[i]
                lines.append(f"classify,{x},{job.algorithm},{limit},{seed},loss,{value}")
                lines.append(f"classify,{x},{job.algorithm},{limit},{seed},accuracy,{1 - value / 2}")
        (out / "metrics.csv").write_text("\n".join(lines) + "\n")


def a_gif(path: Path, *, frames: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.new("RGB", (360, 270), (245, 245, 250)) for _ in range(frames)]
    for number, picture in enumerate(pictures):
        picture.paste((0, 114, 178), (20 + 20 * number, 120, 60 + 20 * number, 160))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=80, loop=0)


def parts(text: str) -> tuple[dict[str, Any], str]:
    """The data of a page, and the page without them."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1]), text.replace(found[1], "")


@pytest.fixture(autouse=True)
def no_datasets(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "sets"))


@pytest.fixture
def page() -> Any:
    """From folders to the page's data."""

    def make(*folders: Any, **options: Any) -> dict[str, Any]:
        report = gather([getattr(folder, "path", folder) for folder in folders], **options)
        return json.loads(to_json(payload(report)))

    return make


@pytest.fixture
def drawn() -> Any:
    """From folders to what the figures are of."""
    return lambda *folders: gather([getattr(folder, "path", folder) for folder in folders])


def sentences(data: Mapping[str, Any]) -> dict[str, list[str]]:
    return {entry["sentence"]: entry["items"] for entry in data["cautions"]}


def items(data: Mapping[str, Any], start: str) -> list[str]:
    """What stands below the one caution that begins so."""
    (found,) = [entry["items"] for entry in data["cautions"] if entry["sentence"].startswith(start)]
    return list(found)


# ---- numbers


def test_cells_are_means_over_limits_and_seeds(tmp_path, page):
    data = page(three_algorithms(tmp_path / "b"))
    assert data["algorithms"] == ["TraC", "BC-Safe", "BC-All"]
    assert [task["name"] for task in data["tasks"]] == ["BallRun", "CarRun"]
    trac, clone, every = data["results"][:3]
    # nine runs: rewards 0.5, 0.6, 0.7 at three limits each; the error is sqrt(0.06 / 8) / 3
    assert trac["reward"] == pytest.approx(0.6)
    assert trac["rewardError"] == pytest.approx(np.sqrt(0.06 / 8) / 3, abs=1e-4)
    assert (trac["rewardText"], trac["costText"]) == ("0.60 ± 0.03", "0.80 ± 0.06")
    assert (trac["safe"], trac["best"], trac["certain"], trac["label"]) == (True, True, True, "")
    assert (trac["seeds"], trac["episodes"], trac["limits"]) == (3, 180, [10, 20, 40])
    assert (clone["safe"], clone["best"]) == (True, False)
    # costs of 30, 40, 50 at limits of 10, 20, 40: 40 * 0.058333, with an error over three seeds
    assert every["cost"] == pytest.approx(40 * (1 / 10 + 1 / 20 + 1 / 40) / 3)
    assert every["costError"] == pytest.approx(10 / np.sqrt(3) * 0.058333, rel=1e-3)
    assert (every["safe"], every["best"], every["episodes"]) == (False, False, 60)


def test_each_limit_by_itself(tmp_path, page):
    data = page(three_algorithms(tmp_path / "b"))
    by_limit = data["results"][2]["byLimit"]
    assert [(one["limits"], one["cost"], one["safe"]) for one in by_limit] == [
        ([10], 4, False),
        ([20], 2, False),
        ([40], 1, True),
    ]
    assert by_limit[2]["costText"] == "1.00 ± 0.14"  # 0.75, 1, 1.25


def test_verdicts_are_sentences(tmp_path, page):
    data = page(three_algorithms(tmp_path / "b"), title="<Mine> & yours")
    assert [entry["sentence"] for entry in data["verdicts"]] == [
        "safe on 2 of 2 tasks, the best safe one on 2.",
        "safe on 2 of 2 tasks.",
        "safe on 0 of 2 tasks.",
    ]
    assert [(entry["safe"], entry["tasks"]) for entry in data["verdicts"]] == [(2, 2), (2, 2), (0, 2)]
    assert data["title"] == "<Mine> & yours"


def test_a_cost_near_the_limit_is_not_certain(tmp_path, page):
    job = a_job("BallRun", "trac", limits=(20.0,))
    costs = enumerate((0.8, 0.95, 1.1))
    rows = [row for seed, cost in costs for row in episodes("TraC", "BallRun", 20.0, seed, 0.5, cost)]
    data = page(a_benchmark(tmp_path / "b", [a_result(job, rows)]))
    (cell,) = data["results"]
    # two safe runs of three: Wilson's ends with z = 1.645 are (2/3 + z^2/6 +- z sqrt(2/27 + z^2/36)) / (1 + z^2/3)
    verdict = "not shown safe: P(safe) 0.67 [0.25, 0.92]"
    assert (cell["safe"], cell["certain"], cell["byLimit"], cell["verdict"]) == (False, False, [], verdict)
    assert data["verdicts"][0]["sentence"] == f"{verdict}."
    assert items(data, "1 of 1 verdicts are not certain") == ["TraC on BallRun: cost 0.95 ± 0.09"]


def test_the_star_goes_to_the_best_that_is_safe_at_every_limit(tmp_path, page):
    """The demo's figures: BC-All earns most and costs .87 on average, but 1.49 at the limit 10."""
    rows = {
        "bc-all": [row for seed in (0, 1, 2) for row in episodes("BC-All", "BallRun", None, seed, 0.3, 14.9)],
        "trac": level("TraC", a_job("BallRun", "trac"), 0.28, 0.0),
        "bc-safe": level("BC-Safe", a_job("BallRun", "bc-safe"), 0.25, 0.1),
        "lspc": [row for seed in (0, 1) for row in episodes("LSPC-O", "BallRun", None, seed, 0.4, 0.0)],
    }
    seeds = {word: sorted({row.seed for row in rows[word]}) for word in rows}
    results = [a_result(a_job("BallRun", word, seeds=seeds[word]), rows[word]) for word in rows]
    data = page(a_benchmark(tmp_path / "b", results))
    found = {data["algorithms"][cell["a"]]: cell for cell in data["results"]}
    assert found["BC-All"]["cost"] == pytest.approx(14.9 * 7 / 120)
    assert {name: (cell["verdict"], cell["safe"], cell["best"]) for name, cell in found.items()} == {
        "BC-All": ("unsafe at 10", False, False),
        "TraC": ("safe", True, True),
        "BC-Safe": ("safe", True, False),
        # both seeds are within every limit, but two show little: the lower end is 2 / (2 + 1.645^2)
        "LSPC-O": ("not shown safe: P(safe) 1.00 [0.43, 1.00]", False, False),
    }
    (group,) = data["groups"]
    assert {data["algorithms"][row["a"]]: (row["safe"], row["best"]) for row in group["rows"]} == {
        name: (cell["safe"], cell["best"]) for name, cell in found.items()
    }
    sentences = dict(zip(data["algorithms"], (entry["sentence"] for entry in data["verdicts"]), strict=True))
    assert sentences["BC-All"].startswith("unsafe at 10")
    assert sentences["TraC"] == "safe on 1 of 1 task, the best safe one on it."


@pytest.mark.parametrize(
    ("within", "runs", "safe"),
    [(1, 1, False), (2, 2, False), (3, 3, True), (5, 6, False), (6, 7, True), (7, 9, True)],
)
def test_how_many_runs_show_that_a_method_is_safe(tmp_path, page, within, runs, safe):
    job = a_job("BallRun", "trac", limits=(20.0,), seeds=range(runs))
    rows = [
        row
        for seed in range(runs)
        for row in episodes("TraC", "BallRun", 20.0, seed, 0.5, 0.0 if seed < within else 1.1)
    ]
    (cell,) = page(a_benchmark(tmp_path / "b", [a_result(job, rows)]))["results"]
    assert cell["cost"] <= 1
    assert cell["safe"] == safe


def test_aggregates_and_profiles(tmp_path, page, drawn):
    folder = three_algorithms(tmp_path / "b")
    data = page(folder)
    (group,) = data["groups"]  # both tasks are of one suite
    assert (group["name"], group["tasks"]) == ("All tasks", ["BallRun", "CarRun"])
    trac = group["rows"][0]
    # of the costs 0.6, 0.8, 1.0 none is unsafe; a quarter of 18 rewards goes on each side: 0.5 x 2, 0.6 x 6, 0.7 x 2
    assert (trac["safeRuns"], trac["safeTasks"], trac["tasks"], trac["runs"]) == ([1, 1, 1], 2, 2, 18)
    assert trac["iqmReward"][0] == pytest.approx((2 * 0.5 + 6 * 0.6 + 2 * 0.7) / 10)
    assert trac["iqmReward"][1] < 0.6 < trac["iqmReward"][2]
    assert trac["reward"] == pytest.approx(0.6)
    assert [(row["safe"], row["best"]) for row in group["rows"]] == [(True, True), (True, False), (False, False)]
    plain, safe = drawn(folder).profiles.kinds.values()
    tau = plain[0].thresholds.round(2).tolist().index(0.66)
    assert plain[0].share[tau] == pytest.approx(1 / 3)
    assert [line.share[0] for line in safe] == pytest.approx([1, 1, 2 / 9])  # 30 and 40 within 40
    numbers = data["profiles"]["kinds"][0]
    assert (numbers["name"], numbers["x"]) == ("return", [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2])


def test_suites_and_common_tasks_are_groups(tmp_path, page):
    job = a_job("PointGoal1", "trac", limits=(20.0,))
    other = a_benchmark(tmp_path / "o", [a_result(job, level("TraC", job))])
    data = page(three_algorithms(tmp_path / "b"), other)
    assert [task["name"] for task in data["tasks"]] == ["BallRun", "CarRun", "PointGoal1"]
    assert [group["name"] for group in data["groups"]] == [
        "All tasks",
        "Tasks that all algorithms have",
        "Bullet-Safety-Gym",
        "Safety-Gymnasium",
    ]
    assert data["profiles"]["tasks"] == 2
    assert items(data, "The algorithms are not evaluated on the same tasks") == [
        "BC-Safe: not on PointGoal1",
        "BC-All: not on PointGoal1",
    ]
    assert sentences(data)["Scored at the cost limit 20, not at the benchmark's 20, 40, 80."] == ["PointGoal1"]


def test_only_the_last_step_counts_and_the_others_are_curves(tmp_path, drawn):
    job = a_job("BallRun", "trac", limits=(20.0,), seeds=(0, 1))
    rows = [
        row
        for step, seed in itertools.product((0, 50_000, STEP), job.seeds)
        for row in episodes("TraC", "BallRun", 20.0, seed, step / STEP + seed * 0.2, 0.5, step=step)
    ]
    report = drawn(a_benchmark(tmp_path / "b", [a_result(job, rows)]))
    assert report.cells[0].summary.normalised_return.mean == pytest.approx(1.1)
    reward, cost = report.panels["BallRun"]
    (line,) = reward.lines
    assert (reward.kind, reward.by_algorithm, line.label) == ("reward", False, "limit 20")
    assert line.x.tolist() == [0, 50_000, STEP]
    assert np.allclose([line.low, line.mean, line.high], [[0, 0.5, 1], [0.1, 0.6, 1.1], [0.2, 0.7, 1.2]])
    assert np.allclose(cost.lines[0].low, cost.lines[0].high)  # both seeds cost the same


def test_curves_of_metrics(tmp_path, drawn):
    folder = three_algorithms(tmp_path / "b")
    with_logs(folder)
    panels = drawn(folder).panels
    panel = panels["BallRun"][0]
    assert panel.title == "trac: classify, loss"
    assert [line.label for line in panel.lines] == ["limit 10", "limit 20", "limit 40"]
    assert {len(line.x) for own in panels.values() for panel in own for line in panel.lines} == {MOST_POINTS}
    line = panel.lines[0]
    assert line.x[-1] == STEP
    assert (line.low <= line.mean).all()
    assert (line.mean <= line.high).all()


def test_a_metrics_file_that_was_cut_short_or_is_none(tmp_path, drawn):
    folder = three_algorithms(tmp_path / "b")
    with_logs(folder, updates=5)
    file, other = (folder.path / "runs" / name / "metrics.csv" for name in ("BallRun-trac", "CarRun-trac"))
    file.write_text(file.read_text() + "classify,9999")
    other.write_text("something else\n")
    report = drawn(folder)
    panel = report.panels["BallRun"][0]
    assert panel.lines[0].x.tolist() == [20_000, 40_000, 60_000, 80_000, 100_000]
    said = [caution.sentence for caution in report.cautions]
    assert any(str(other) in sentence and "its metrics are not shown" in sentence for sentence in said)


def test_many_lines_share_the_budget_of_points():
    x = np.arange(150.0)
    line = Curve("TraC", x, x, x, x)
    panel = Panel("metric", "loss", "TraC", False, (line,) * 10)
    panels = [kept for (kept,) in within_budget({f"T{number}": [panel] for number in range(96)}).values()]
    assert {len(line.x) for panel in panels for line in panel.lines} == {25}
    first = panels[0].lines[0]
    assert (first.x[0], first.x[-1], first.mean[0]) == (5, 149, 2.5)  # the mean of 0 to 5, at its last update


def test_a_page_of_very_many_stages_shows_one_metric_of_each():
    x = np.arange(150.0)
    own = [
        Panel("metric", f"TraC: {stage}, {k}", stage, False, (Curve("x", x, x, x, x),))
        for stage in "ab"
        for k in "12"
    ]
    reward = Panel("reward", "normalised reward", "", False, (Curve("x", x, x, x, x),))
    few = within_budget({"T": [reward, *own]})
    assert [panel.title for panel in few["T"]] == [
        "normalised reward",
        "TraC: a, 1",
        "TraC: a, 2",
        "TraC: b, 1",
        "TraC: b, 2",
    ]
    many = within_budget({f"T{number}": [reward, *own] for number in range(200)})
    assert [panel.title for panel in many["T7"]] == ["normalised reward", "TraC: a, 1", "TraC: b, 1"]
    # 320 figures fit: three of each of the first 106 tasks, and what an evaluation said of the others
    assert [len(many[f"T{number}"]) for number in (0, 105, 106, 199)] == [3, 3, 1, 1]


# ---- data sets, pictures, configurations


def test_the_data_set_is_drawn_where_its_file_is_the_same(tmp_path, page, drawn):
    with demo_path() as file:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    job = a_job("BallRun", "trac")
    rows, config = level("TraC", job), a_config(job)
    config["record"]["data_path"] = "demo"
    config["data"] = {"source": "SafetyBallRun-v0-demo.hdf5", "sha256": digest, "filters": [{"name": "density"}]}
    config["usage"] = [{"text": "limit 10: 28 desirable"}]
    folder = a_benchmark(tmp_path / "b", [a_result(job, rows, config=config)])
    (logged,), data = drawn(folder).logged, page(folder)
    assert (logged.episodes, len(logged.costs)) == (300, 300)
    assert (logged.limits, logged.within[2], logged.filters) == ((10, 20, 40), 141, ("density",))
    assert logged.used == ("BallRun-trac, limit 10: 28 desirable",)
    assert items(data, "Not trained on DSRL's data.") == [
        "BallRun: SafetyBallRun-v0-demo.hdf5 instead of SafetyBallRun-v0-80-940.hdf5"
    ]
    assert items(data, "The data were filtered before training.") == ["BallRun-trac: density"]
    config["data"]["sha256"] = "cd" * 32
    report = drawn(a_benchmark(tmp_path / "c", [a_result(job, rows, config=config)]))
    assert not report.logged
    assert report.unread[0].reason.endswith("are not those that were trained on: their hash differs.")


@pytest.mark.parametrize(
    ("costs", "reason"),
    [
        (None, "the data of BallRun hold no costs to draw their episodes by."),
        (np.nan, "in the data of BallRun rewards or costs are missing, as they are before the filters."),
    ],
)
def test_a_log_without_costs_is_not_drawn(tmp_path, drawn, toy, costs, reason):
    write_hdf5(tmp_path / "log.hdf5", replace(toy, costs=costs and np.float32(costs) * toy.costs))
    job = a_job("BallRun", "trac")
    config = a_config(job)
    config["record"]["data_path"] = str(tmp_path / "log.hdf5")
    config["data"] = {"source": "log.hdf5"}
    report = drawn(a_benchmark(tmp_path / "b", [a_result(job, level("TraC", job), config=config)]))
    assert report.unread[0].reason == reason


def test_large_data_are_thinned_and_a_limit_that_few_meet_is_said(tmp_path, page, drawn, toy):
    many = toy.select(np.arange(3000) % toy.num_episodes)
    file = tmp_path / "own.hdf5"
    write_hdf5(file, many)
    job = a_job("BallRun", "trac", limits=(0.0, 10.0))
    rows = level("TraC", job)
    config = a_config(job, data={"source": "own.hdf5", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    config["record"]["data_path"] = str(file)
    folder = a_benchmark(tmp_path / "b", [a_result(job, rows, config=config)])
    (logged,), data = drawn(folder).logged, page(folder)
    assert (logged.episodes, len(logged.costs)) == (3000, 2000)
    free = int((many.cost_returns == 0).sum())
    assert logged.within == (free, 3000)
    found = sentences(data).get("A cost limit that fewer than 20 episodes of the data meet.")
    assert found == ([f"BallRun, limit 0: {free} of 3,000 episodes"] if free < 20 else None)


def test_data_that_are_gone_are_one_sentence(tmp_path, drawn):
    assert [entry.reason for entry in drawn(three_algorithms(tmp_path / "b")).unread] == [
        "the data of BallRun are no longer at nowhere.hdf5.",
        "the data of CarRun are no longer at nowhere.hdf5.",
    ]


def test_pictures_are_embedded_while_the_page_stays_small(tmp_path):
    folder = three_algorithms(tmp_path / "b")
    a_gif(folder.path / "runs" / "BallRun-trac" / "episode.gif")
    large = folder.path / "runs" / "CarRun-trac" / "episode.gif"
    a_gif(large)
    large.write_bytes(large.read_bytes() + bytes(MOST_BYTES))
    none = folder.path / "runs" / "CarRun-bc-all" / "episode.gif"
    none.parent.mkdir(parents=True, exist_ok=True)
    none.write_text("<script>")
    data, _ = parts(report_page([folder.path], tmp_path / "r.html", figures=False)[0].read_text())
    (gif,) = data["gifs"]
    assert gif["name"] == "BallRun-trac"
    content = base64.b64decode(gif["picture"].removeprefix("data:image/gif;base64,"))
    assert content == (folder.path / "runs" / "BallRun-trac" / "episode.gif").read_bytes()
    assert data["gifsLeftOut"] == ["CarRun-trac"]


def test_the_losses_come_first_among_the_curves(tmp_path, drawn):
    job = a_job("BallRun", "iql")
    folder = a_benchmark(tmp_path / "b", [a_result(job, level("IQL", job), config=a_config(job, kind="IQL"))])
    out = folder.path / "runs" / job.name
    out.mkdir(parents=True, exist_ok=True)
    names = ("advantage", "clipped", "policy_loss", "weight", "reward_critic_loss", "policy_std", "value_loss", "x")
    rows = [f"train,{update},IQL,,0,{name},1.5" for update in (1, 2) for name in names]
    (out / "metrics.csv").write_text("\n".join(["stage,update,algorithm,cost_limit,seed,metric,value", *rows, ""]))
    assert [panel.title for panel in drawn(folder).panels["BallRun"]] == [
        f"IQL: train, {name}"
        for name in ("policy_loss", "value_loss", "reward_critic_loss", "advantage", "clipped", "weight")
    ]


def test_what_a_training_used_of_its_data_is_told_and_doubted(tmp_path, page):
    job, little = a_job("BallRun", "trac"), "at the cost limit 10 TraC uses 2.7% of the log's steps"
    usage = [{"text": "limit 10: 1 desirable", "warnings": [little]}, {"text": "limit 20: 2 desirable"}, {"odd": 1}]
    data = page(a_benchmark(tmp_path / "b", [a_result(job, level("TraC", job), config=a_config(job, usage=usage))]))
    assert data["runs"][0]["usage"] == ["limit 10: 1 desirable", "limit 20: 2 desirable"]
    assert items(data, "Trainings that used little of their data, or data of one class only.") == [
        f"{job.name}: {little}"
    ]


def test_runs_tell_their_configuration_once(tmp_path, page):
    data = page(three_algorithms(tmp_path / "b"))
    assert len(data["runs"]) == 6
    assert len(data["settings"]) == len(data["versions"]) == 1
    first = data["runs"][0]
    assert data["settings"][first["settings"]] == {"class": "Unknown", "eta": 0.25, "hidden": [256, 256]}
    assert data["versions"][first["versions"]] == {"safetrax": "0.9.9", "python": "3.11.7"}
    assert (first["training"], first["evaluation"], first["attempts"], first["updates"]) == (61, 2.5, 1, STEP)
    assert (first["sha256"], first["command"]) == ("ab" * 32, "safetrax benchmark BallRun-trac")


# ---- cautions


def test_nothing_to_caution(tmp_path, page):
    data = page(three_algorithms(tmp_path / "b"))
    assert sentences(data) == {
        "Trained on files that are named as DSRL's, but no download on this machine confirms that they are.": [
            "BallRun: SafetyBallRun-v0-80-940.hdf5",
            "CarRun: SafetyCarRun-v0-40-651.hdf5",
        ]
    }


def test_jobs_that_failed_or_wait(tmp_path, page):
    job = a_job("BallRun", "trac", limits=(20.0,))
    waiting = [a_job("CarRun", "trac"), a_job("CarRun", "cpq")]
    folder = a_benchmark(tmp_path / "b", [a_result(job, level("TraC", job))], waiting)
    folder.begin(waiting[1], 10)
    folder.fail(waiting[1], "the data set\nis gone.")
    data = page(folder)
    found = sentences(data)
    start = f"1 of 3 jobs of {folder.path}"
    assert found[f"{start} failed, and are missing here."] == ["CarRun-cpq: the data set is gone."]
    assert found[f"{start} are not done yet."] == ["CarRun-trac: waiting"]


def test_few_seeds_few_episodes_early_checkpoints_and_warnings(tmp_path, page):
    job = replace(a_job("BallRun", "trac", limits=(20.0,), seeds=(0, 1)), episodes=5)
    rows = [row for seed in (0, 1) for row in episodes("TraC", "BallRun", 20.0, seed, 0.5, 0.5, count=5, step=60_000)]
    data = page(a_benchmark(tmp_path / "b", [a_result(job, rows, warnings=("the policy collapsed.",))]))
    assert data["results"][0]["label"] == "after 60,000 of 100,000 updates"
    assert items(data, "Fewer than 3 training seeds") == ["TraC on BallRun: 2"]
    assert items(data, "Fewer than 20 evaluation episodes") == ["TraC on BallRun: 5"]
    assert items(data, "Not evaluated at the end") == ["TraC on BallRun: after 60,000 of 100,000 updates"]
    assert items(data, "Runs that the library warned of") == ["BallRun-trac: the policy collapsed."]


def test_other_limits_data_and_settings(tmp_path, page):
    jobs = [a_job("BallRun", "trac"), a_job("BallRun", "cpq", limits=(5.0,)), a_job("BallRun", "bc-safe")]
    configs = [a_config(jobs[0]), a_config(jobs[1]), a_config(jobs[2])]
    configs[1]["data"] = {"source": "mine.hdf5", "sha256": "cd" * 32}
    configs[2]["algorithm"] = {"class": "BC", "mode": "safe", "batch_size": 7}
    names = ("TraC", "CPQ", "BC-Safe")
    results = [
        a_result(job, level(name, job), config=config) for job, config, name in zip(jobs, configs, names, strict=True)
    ]
    data = page(a_benchmark(tmp_path / "b", results))
    assert items(data, "On some tasks the algorithms are not scored at the same cost limits.") == [
        "BallRun: TraC, BC-Safe at 10, 20, 40; CPQ at 5"
    ]
    assert items(data, "On some tasks the runs were trained on different data.") == [
        "BallRun: BallRun-trac, BallRun-bc-safe (abababababab); BallRun-cpq (cdcdcdcdcdcd)"
    ]
    (other,) = items(data, "Settings other than the published ones.")
    assert re.fullmatch(r"BallRun-bc-safe: batch_size 7 instead of \d+", other)


def test_runs_that_are_there_twice_are_counted_once(tmp_path, page):
    folder = three_algorithms(tmp_path / "b")
    shutil.copytree(folder.path, tmp_path / "copy")
    once, data = page(folder), page(folder, folder, tmp_path / "copy")
    assert data["results"] == once["results"]
    found = items(data, "Runs that are in two of the folders")
    assert len(found) == 6
    assert found[0].startswith("TraC on BallRun, limit 10, seed 0: ")


# ---- run folders


def a_run_folder(path: Path, rows: Sequence[EpisodeRow], **changes: Any) -> Path:
    path.mkdir(parents=True)
    job = a_job("BallRun", "trac", limits=(20.0,))
    (path / "config.json").write_text(json.dumps(a_config(job, **changes)))
    write_episodes(path / "episodes.csv", rows)
    return path


def test_a_run_folder(tmp_path, page):
    rows = [row for seed in (0, 1, 2) for row in episodes("TraC", "BallRun", 20.0, seed, 0.5, 0.5 + 0.1 * seed)]
    rows = [replace(row, task="OfflineBallRun-v0") for row in rows]  # another name of the task
    unknown = episodes("TraC", "BallRun", 20.0, 0, 9.0, 9.0, step=None)
    data = page(a_run_folder(tmp_path / "mine", [*unknown, *rows]))
    assert data["title"] == "TraC on BallRun"
    (cell,) = data["results"]
    assert (cell["reward"], cell["cost"]) == (0.5, pytest.approx(0.6))
    (one,) = data["runs"]
    assert (one["name"], one["training"], one["attempts"]) == ("mine", None, None)


def test_policies_of_a_run_without_episodes_are_a_caution(tmp_path, page):
    rows = episodes("TraC", "BallRun", 20.0, 0, 0.5, 0.5)
    promised = [["TraC", 20.0, seed] for seed in (0, 1)]
    for seeds, missing in (((0, 1), []), ((0,), ["TraC, limit 20, seed 1"])):
        there = [row for seed in seeds for row in (replace(row, seed=seed) for row in rows)]
        folder = a_run_folder(tmp_path / f"{len(seeds)}", there, policies=promised)
        said = [entry for entry in page(folder)["cautions"] if "have no episodes" in entry["sentence"]]
        assert [item for entry in said for item in entry["items"]] == missing


def test_folders_of_seeds_are_one_algorithm(tmp_path, page):
    for seed in (0, 1, 2):
        rows = episodes("TraC", "BallRun", 20.0, seed, 0.4 + 0.1 * seed, 0.5)
        a_run_folder(tmp_path / f"s{seed}", rows, eta=0.25 + seed // 2)
    data = page(*(tmp_path / f"s{seed}" for seed in (0, 1, 2)))
    (cell,) = data["results"]
    assert (cell["seeds"], cell["reward"]) == (3, pytest.approx(0.5))
    assert items(data, "Means over runs with different configurations.") == [
        "TraC on BallRun: s0 and s2 (eta 1.25 instead of 0.25)"
    ]


# ---- what is wrong ends in one sentence


def test_bad_folders(tmp_path, page):
    one_run = episodes("TraC", "BallRun", 20.0, 0, 0.5, 0.5)
    with pytest.raises(ConfigError, match="at least one"):
        page()
    with pytest.raises(RunError, match="there is no benchmark, no run folder and no episodes file at"):
        page(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="neither a benchmark"):
        page(tmp_path / "empty")
    folder = BenchmarkFolder.make(tmp_path / "waiting", [a_job("BallRun", "trac")])
    with pytest.raises(RunError, match=r"no job of .* is done yet; safetrax benchmark status"):
        page(folder)
    with pytest.raises(RunError, match=r"has no evaluation episodes; run safetrax evaluate"):
        page(a_run_folder(tmp_path / "untested", []))
    broken = a_run_folder(tmp_path / "broken", one_run)
    (broken / "config.json").write_text('{"task": ')
    with pytest.raises(RunError, match=r"config.json is damaged"):
        page(broken)
    (folder.path / "grid.json").write_text("{}")
    with pytest.raises(RunError, match=r"grid.json cannot be read"):
        page(folder)
    with pytest.raises(TaskError, match="there is no task 'BallRum'; did you mean BallRun"):
        page(a_run_folder(tmp_path / "t", [replace(row, task="BallRum") for row in one_run]))


def test_damaged_and_incomplete_results(tmp_path, page):
    folder = three_algorithms(tmp_path / "b")
    job = a_job("BallRun", "trac")
    rows = level("TraC", job)
    file = folder.run_folder(job).episodes_file
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"BallRun-trac/episodes.csv, line .* is the line cut off"):
        page(folder)

    def write(rows: Sequence[EpisodeRow], config: dict[str, Any] | None = None) -> None:
        finish(folder, job, rows, config or a_config(job))

    write(rows[:-1])
    with pytest.raises(DataError, match="is incomplete: TraC, limit 40, seed 2 has 19 of 20 episodes"):
        page(folder)
    write(rows[20:])
    with pytest.raises(DataError, match="is incomplete: TraC, limit 10, seed 0 has 0 of 20 episodes"):
        page(folder)
    promised = [[name, limit, seed] for name in ("TraC", "TraC-2") for limit in LIMITS for seed in job.seeds]
    write(rows, a_config(job, policies=promised))
    with pytest.raises(DataError, match="is incomplete: TraC-2, limit 10, seed 0 has 0 of 20 episodes"):
        page(folder)
    write([])
    with pytest.raises(DataError, match="holds no episodes"):
        page(folder)
    write(rows, a_config(replace(job, data="elsewhere.hdf5")))
    with pytest.raises(DataError, match="of another job than"):
        page(folder)
    rows[0] = replace(rows[0], cost=float("nan"))
    write(rows)
    with pytest.raises(DataError, match=r"has the cost nan, which must be finite and not negative"):
        page(folder)


def test_one_name_with_two_configurations(tmp_path, page):
    rows = episodes("TraC", "BallRun", 20.0, 0, 0.5, 0.5)
    one, two = a_run_folder(tmp_path / "one", rows), a_run_folder(tmp_path / "two", rows, eta=2.0)
    with pytest.raises(ConfigError) as caught:
        page(one, two)
    assert str(caught.value) == (
        f"{one} and {two} both hold TraC on BallRun, limit 20, seed 0, but with different configurations "
        "(eta 2.0 instead of 0.25); report on them one at a time."
    )


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    folder = three_algorithms(tmp_path / "b").path
    with pytest.raises(ConfigError, match=r"must end in \.html"):
        report_page([folder], tmp_path / "r.pdf")
    (tmp_path / "file").write_text("old")
    with pytest.raises(RunError, match="cannot write"):
        report_page([folder], tmp_path / "file" / "r.html")
    (tmp_path / "r.html").write_text("old")
    with pytest.raises(RunError):
        report_page([folder, tmp_path / "nowhere"], tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "old"
    assert not list(tmp_path.glob("*.part"))


# ---- the file


NASTY = "</script><script>alert(1)</script><!-- & \u2028 \ud800 {{style}} <img src=x onerror=alert(2)>"


def test_no_text_becomes_markup(tmp_path):
    name = NASTY.replace("\ud800", "")
    folder = a_run_folder(tmp_path / "x", episodes(name, "BallRun", 20.0, 0, 0.5, 0.5), eta=NASTY)
    (file,) = report_page([folder], tmp_path / "r.html", title=NASTY, figures=False)
    text = file.read_text()
    data, rest = parts(text)
    assert data["settings"][0]["eta"] == NASTY
    assert data["algorithms"] == [name]
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert "<img" not in text
    assert "<h1>&lt;/script&gt;&lt;script&gt;alert(1)" in rest
    assert "<title>&lt;/script&gt;" in rest
    assert rest.count("<style>") == 1  # {{style}} stays text


def test_json_is_safe_inside_html():
    text = to_json({"x": ["</script>", "<!--", "]]>", "&amp;", "\u2028", "ü"]})
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == {"x": ["</script>", "<!--", "]]>", "&amp;", "\u2028", "ü"]}
    with pytest.raises(ValueError, match="JSON"):
        to_json({"x": float("nan")})


def test_the_page_loads_nothing(tmp_path):
    (file,) = report_page([three_algorithms(tmp_path / "b").path], tmp_path / "r.html", figures=False)
    _, rest = parts(file.read_text())
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!#|data:)", rest)
    assert not re.findall(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|\bimport\b|eval\(|innerHTML", rest)
    assert re.findall(r"https?://[^\"]*", rest) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', rest)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    for kind in ("style", "script"):
        content = re.search(rf"<{kind}>(.*?)</{kind}>", rest, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]


@pytest.mark.slow
def test_a_whole_suite_is_small(tmp_path):
    folder = whole_suite(tmp_path / "b")
    with_logs(folder, updates=60)
    (file,) = report_page([folder.path], tmp_path / "r.html", figures=False)
    data, _ = parts(file.read_text())
    assert len(data["results"]) == 380
    assert file.stat().st_size < MOST_BYTES
    print(f"a page of 38 tasks x 10 algorithms has {file.stat().st_size / 1e6:.2f} MB")


def test_colours_have_contrast():
    """WCAG 2: 4.5 for text, 3 for marks, against every background that they stand on."""
    style = resources.files("safetrax.report").joinpath("style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks)
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        grounds = [colours[name] for name in ("back", "raised", "hover", "warn-back")]
        for name in ("ink", "soft", "best", "warn"):
            assert min(contrast(colours[name], ground) for ground in grounds) >= 4.5, name
        shade = blended(colours["c2"], colours["back"], SHADE)
        for name in (*(f"c{i}" for i in range(8)), "edge", "focus"):
            assert min(contrast(colours[name], ground) for ground in (colours["back"], shade)) >= 3, name
    assert [light[f"c{i}"] for i in range(8)] == list(COLOURS)  # figures and page agree
    assert [light[name] for name in ("ink", "soft", "edge", "line")] == [INK, SOFT, EDGE, LINE]


def blended(colour: str, ground: str, opacity: float) -> str:
    mixed = [opacity * int(colour[i : i + 2], 16) + (1 - opacity) * int(ground[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def contrast(one: str, two: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


# ---- the command, and the figures


def test_the_command(tmp_path, capsys):
    folder = three_algorithms(tmp_path / "b")
    with_logs(folder, updates=20)
    assert run([str(folder.path), "-o", str(tmp_path / "out" / "my.html"), "--title", "Mine"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"report    .*/out/my\.html \(0\.\d MB\)", out)
    figures = tmp_path / "out" / "my_figures"
    names = ("reward-cost", "across-tasks", "profiles", "metrics-BallRun", "metrics-CarRun")
    assert {path.name for path in figures.iterdir()} == {f"{name}{e}" for name in names for e in (".png", ".svg")}
    assert f"figures   {figures} (10 files)" in out
    assert "<title>Mine</title>" in (tmp_path / "out" / "my.html").read_text()
    plane = (figures / "reward-cost.svg").read_text()
    for text in ("TraC", "BC-Safe", "normalised cost", "normalised reward"):
        assert f">{text}<" in plane
    with Image.open(figures / "reward-cost.png") as picture:
        assert picture.width >= 1200


def test_the_command_without_figures_and_its_faults(tmp_path, monkeypatch):
    folder = three_algorithms(tmp_path / "b").path
    monkeypatch.chdir(tmp_path)
    assert run([str(folder), "--no-figures"]) == 0
    assert (tmp_path / "report.html").is_file()
    assert not (tmp_path / "report_figures").exists()
    with pytest.raises(ConfigError, match="needs a benchmark folder or run folders"):
        run([])
    with pytest.raises(ConfigError, match="has no flag --outt"):
        run([str(folder), "--outt", "x"])
    with pytest.raises(ConfigError, match="--out needs a value"):
        run([str(folder), "-o"])


def test_gathering_is_independent_of_the_order_of_folders(tmp_path):
    one = three_algorithms(tmp_path / "b").path
    two = a_run_folder(tmp_path / "x", episodes("X", "AntRun", 20.0, 0, 0.5, 0.5))
    forth, back = gather([one, two]), gather([two, one])
    assert set(forth.cells) == set(back.cells)
    assert forth.tasks == back.tasks


def test_several_algorithms_are_compared_in_one_panel(tmp_path, drawn):
    """A seed counts by the mean over its limits; one that ignores the limit is scored at those of the others."""
    results = []
    for word, name in (("trac", "TraC"), ("bc-all", "BC-All")):
        job = a_job("BallRun", word, limits=(10.0, 20.0), seeds=(0, 1))
        limits = [None] if name == "BC-All" else job.cost_limits
        rows = [
            row
            for step, limit, seed in itertools.product((50_000, STEP), limits, job.seeds)
            for row in episodes(name, "BallRun", limit, seed, 0.5, 20.0 if limit is None else limit / 10, step=step)
        ]
        results.append(a_result(job, rows))
    reward, cost = drawn(a_benchmark(tmp_path / "b", results)).panels["BallRun"]
    assert (reward.by_algorithm, [line.label for line in reward.lines]) == (True, ["TraC", "BC-All"])
    # of 1 and 2; of 20 / 10 and 20 / 20
    assert [line.mean.tolist() for line in cost.lines] == [[1.5, 1.5], [1.5, 1.5]]
