import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_own_log(capsys):
    runpy.run_path(str(EXAMPLES / "own_log.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "300 episodes" in out
    for name in ("BC-Safe", "TraC"):
        line = next(line for line in out.splitlines() if line.startswith(name))
        assert float(line.split("mean cost ")[1].split()[0]) <= 10


@pytest.mark.slow
def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "demo.py"), run_name="__main__")
    assert "TraC" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"scatter.png", "learning-curves.png", "report.html", "runs"}
    assert len(list((tmp_path / "runs").glob("*/policies/*"))) == 3 + 9 + 9
