"""Packages that bring algorithms: what entry points may say, and what becomes of those that are broken."""

from __future__ import annotations

import sys
import warnings

import pytest

from safetrax.algorithms import registry
from safetrax.cli.main import main
from safetrax.errors import ConfigError, DataError, SafeTraXWarning
from safetrax.evaluation.episodes import EpisodeRow, write_episodes
from safetrax.grid.grid import Grid, algorithm_of
from safetrax.nets.saving import deserialise
from safetrax.training.run_folder import RunFolder

ALGORITHM = "from safetrax.algorithms import Algorithm\n\n\nclass {}(Algorithm):\n    '''One of ours.'''\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package of one module and its entry points where Python looks for packages."""
    names = []

    def put(name: str, source: str, **words: str) -> None:
        info = tmp_path / name / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info.parent / f"{name}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{word} = {home}" for word, home in words.items())
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}\n")
        monkeypatch.syspath_prepend(str(info.parent))
        registry.brought.cache_clear()
        names.append(name)

    yield put
    registry.brought.cache_clear()
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "home", ["nested:Outer.Inner", "nested:Outer.Inner [plots]", "nested : Outer.Inner[plots,more]"]
)
def test_an_entry_point_may_name_a_class_in_a_class_and_extras(install, home):
    inner = ALGORITHM.format("Inner").replace("\n", "\n    ")
    install("nested", f"class Outer:\n    {inner}", inner=home)
    kind = registry.get("inner").load()
    assert kind.__qualname__ == "Outer.Inner"
    assert registry.class_named("Inner") is kind


@pytest.mark.parametrize("real", ["Real", "BC"])
def test_an_alias_is_refused_before_it_trains_what_cannot_be_resumed(install, real):
    install("aliased", f"{ALGORITHM.format(real)}\n\nAlias = {real}\n", word="aliased:Alias")
    with pytest.raises(ConfigError, match=rf"aliased:Alias is another name of the class aliased:{real}; mend"):
        registry.get("word").load()


def test_a_word_of_two_packages_is_refused_and_no_other(install, capsys):
    install("mine", ALGORITHM.format("Mine"), word="mine:Mine", same="mine:Mine")
    install("yours", ALGORITHM.format("Yours"), word="yours:Yours", good="yours:Yours", same="mine:Mine")
    said = r"the word 'word' is claimed by mine \(mine:Mine\) and yours \(yours:Yours\); keep one of these packages"
    with pytest.raises(ConfigError, match=said):
        registry.get("word").load()
    assert "'word' is claimed by mine" in registry.lines()
    assert [registry.get(word).load().__name__ for word in ("good", "same", "trac")] == ["Yours", "Mine", "TraC"]
    for name in ("Mine", "Yours"):  # a run that was trained before goes on
        assert registry.class_named(name).__name__ == name


def test_a_word_of_ours_that_a_package_claims_is_ours_with_a_warning(install, capsys):
    install("mine", ALGORITHM.format("Mine"), trac="mine:Mine", other="mine:Mine")
    assert main(["train", "trac", "--help"]) == 0
    assert "'trac' is the library's algorithm, not that of mine (mine:Mine), whose" in capsys.readouterr().err
    grid = Grid(algorithms=("trac", "other"), tasks=("BallRun",), data="demo", settings={"trac": {"updates": 5}})
    with pytest.warns(SafeTraXWarning) as said:
        jobs = grid.jobs()
    assert [str(entry.message)[:6] for entry in said] == ["'trac'"]
    with warnings.catch_warnings():  # a job would write it into its report
        warnings.simplefilter("error")
        assert [algorithm_of(job).name for job in jobs] == ["TraC", "Mine"]


def test_a_package_that_broke_since_hides_no_finished_run(install, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    install("quits", "import sys; sys.exit()", quits="quits:It")
    config = {"algorithm": {"class": "It", "rate": 1.0}, "task": "BallRun", "updates": 50, "data": {}, "runs": []}
    folder = RunFolder.create("run", config)
    write_episodes(folder.episodes_file, [EpisodeRow("It", "BallRun", 20.0, 0, 50, 0, 0, 300.0, 0.0, 100)])
    folder.metrics_file.write_text(
        "stage,update,algorithm,cost_limit,seed,metric,value\ntrain,50,It,20.0,0,loss,1.0\n"
    )
    assert main(["leaderboard", "run", "--task", "BallRun"]) == 0
    assert "own: run" in capsys.readouterr().out
    assert main(["report", "run", "--out", "report.html", "--no-figures"]) == 0
    assert main(["train", "--resume", "run"]) == 2
    assert "quits:It cannot be imported" in capsys.readouterr().err


BASE = "class Odd(BaseException):\n    pass\n\n\nraise Odd('one\\ntwo')"


@pytest.mark.parametrize(
    ("source", "said"),
    [("import sys; sys.exit()", "SystemExit"), ("exit(3)", "SystemExit: 3"), (BASE, "Odd: one two")],
)
def test_a_package_that_exits_is_a_sentence_and_hides_no_other(install, source, said, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    install("quits", source, quits="quits:It")
    install("well", ALGORITHM.format("Well"), well="well:Well")
    sentence = f"the algorithm quits:It cannot be imported ({said}); mend or remove its package."
    assert main(["train", "--help"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["quits", sentence] in lines
    assert ["well", "One of ours"] in lines
    assert main(["train", "quits"]) == 2
    assert sentence in capsys.readouterr().err


def test_ctrl_c_while_a_package_is_imported_is_ctrl_c(install):
    install("slow", "raise KeyboardInterrupt", slow="slow:It")
    with pytest.raises(KeyboardInterrupt):
        registry.get("slow").load()


SAVEABLE = (
    "import equinox\nfrom safetrax.nets.saving import saveable\n\n\n@saveable\nclass {}(equinox.Module):\n    pass\n"
)


def test_a_file_is_read_beside_a_package_that_exits(install):
    install("quits", "import sys; sys.exit()", quits="quits:It")
    with pytest.raises(DataError, match=r"'Rare'.*import that first \(the algorithm quits:It cannot be imported"):
        deserialise({"module": "Rare", "fields": {}}, {})
    install("rare", SAVEABLE.format("Rare"), rare="rare:Rare")
    assert type(deserialise({"module": "Rare", "fields": {}}, {})).__name__ == "Rare"


def test_every_word_of_a_broken_package_tells_the_same_fault(install):
    install("half", f"{SAVEABLE.format('Half')}\n\nimport not_there\n", one="half:A", two="half:B")
    for word in ("one", "two"):
        with pytest.raises(ConfigError, match="No module named 'not_there'"):
            registry.get(word).load()
