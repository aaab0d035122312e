import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from safetrax.algorithms import registry
from safetrax.cli.main import main
from safetrax.errors import ConfigError

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("notebooks/*.ipynb"))


@pytest.mark.slow
def test_own_log(capsys):
    runpy.run_path(str(EXAMPLES / "own_log.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "300 episodes" in out
    for name in ("BC-Safe", "TraC"):
        line = next(line for line in out.splitlines() if line.startswith(name))
        cost = float(line.split("mean cost ")[1].split()[0])
        assert cost <= 10
        certificate = next(
            line for line in out.splitlines() if line.startswith(f"{name}_limit-10_seed-0: cost at most")
        )
        assert float(certificate.split("at most ")[1].split()[0]) >= cost


@pytest.mark.slow
def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "demo.py"), run_name="__main__")
    assert "TraC" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"overview.png", "report.html", "runs"}
    assert len(list((tmp_path / "runs").glob("*/policies/*"))) == 3 + 9 + 9


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["optuna", "ray"])
def test_tuning(tuner, capsys):
    pytest.importorskip({"optuna": "optuna", "ray": "ray.tune"}[tuner])
    small = ("--trials", "2", "--updates", "30", "--model-updates", "100", "--cost-limit", "40")
    runpy.run_path(str(EXAMPLES / "tuning.py"))["main"](["--tuner", tuner, *small])
    out = capsys.readouterr().out
    assert ("chosen: learning_rate" in out and "on the half that did not choose: TraC_limit-40" in out) or (
        "no trial's cost is bounded by 40" in out
    )


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path):
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    content = pytest.importorskip("nbformat").read(notebook, as_version=4)
    client.NotebookClient(content, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(notebook):
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert (cell.get("outputs", []), cell.get("execution_count")) == ([], None)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The example as an installed package, beside packages whose entry points are broken."""
    place = tmp_path / "site-packages"
    place.mkdir()
    shutil.copy(EXAMPLES / "own_algorithm.py", place)
    (place / "other_algorithm.py").write_text(
        "from own_algorithm import WeightedBC\n\n\nclass BC(WeightedBC):\n    pass\n"
    )
    entries = {
        "weighted-bc": "own_algorithm:WeightedBC",
        "trac": "own_algorithm:WeightedBC",
        "gone": "not_there:It",
        "odd": "pathlib:Path",
        "twin": "other_algorithm:BC",
    }
    lines = "\n".join(f"{word} = {home}" for word, home in entries.items())
    info = place / "own_algorithm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-algorithm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}\n")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    registry.brought.cache_clear()
    yield tmp_path
    registry.brought.cache_clear()
    sys.modules.pop("own_algorithm", None)


SETTINGS = ("--updates", "5", "--batch-size", "8", "--cost-limits", "40", "--evaluation-episodes", "1")


def test_an_algorithm_of_another_package_is_one_like_ours(package, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert "weighted-bc       Cloning of the episodes within the cost limit, those of high return more\n" in said
    assert "trac              trajectory classification" in said
    assert main(["train", "weighted-bc", "--help"]) == 0
    assert "The best episode counts exp(sharpness) times as much" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "weighted-bc", "--data", "demo", "--out", "run", *SETTINGS]) == 0
    assert "WeightedBC" in capsys.readouterr().out
    assert main(["train", "weighted-bc", "--data", "demo", "--sharpness", "-1"]) == 2
    assert "sharpness is -1" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--no-evaluate"]) == 0
    assert main(["leaderboard", "run", "--task", "BallRun"]) == 0
    assert "WeightedBC" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "gone",
            r"the algorithm not_there:It cannot be imported \(ModuleNotFoundError: .*mend or remove its package",
        ),
        ("odd", r"pathlib:Path is no subclass of safetrax\.Algorithm; mend its package's entry point"),
        ("twin", r"other_algorithm:BC and safetrax\.algorithms\.bc:BC are two algorithms of one name; rename one"),
    ],
)
def test_a_broken_entry_point_is_a_sentence_and_hides_no_other(package, word, said):
    with pytest.raises(ConfigError, match=said):
        registry.get(word).load()
    assert registry.get("trac") == registry.ALGORITHMS["trac"]
    assert registry.class_named("BC") is registry.get("bc-all").load()


@pytest.mark.slow
def test_it_runs_in_a_grid_and_its_policies_load_in_a_fresh_process(package):
    def shell(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "safetrax", *words], check=True, capture_output=True, text=True
        ).stdout

    limits = ("--cost-limits", "40", "--seeds", "0", "--episodes", "1", "--set")
    settings = ("weighted-bc.updates=5", "weighted-bc.batch_size=8")
    words = ("--algorithms", "weighted-bc", "--tasks", "BallRun", "--data", "demo", "--out", "grid")
    assert "1 of 1 jobs are done" in shell("benchmark", *words, *limits, *settings)
    assert "WeightedBC" in shell("evaluate", "grid/runs/BallRun-weighted-bc", "--episodes", "2")
    assert "report.html" in shell("report", "grid", "--out", "report.html", "--no-figures")
