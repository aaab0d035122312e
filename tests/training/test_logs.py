import builtins
import sys
from types import SimpleNamespace

import pytest

from safetrax import Reporter
from safetrax.algorithms import BC
from safetrax.errors import ConfigError, RunError
from safetrax.training.logs import CsvSink, MetricRow, TensorBoardSink, WandbSink, read_metrics
from safetrax.training.train import train

ROWS = [
    MetricRow("clone", 10, "BC-All", None, 0, "loss", 0.5),
    MetricRow("classify", 20, "TraC", 20.0, 1, "loss", 0.1 + 0.2),
    MetricRow("classify", 30, "TraC", 20.0, 1, "loss", float("nan")),
]


@pytest.fixture
def csv(tmp_path) -> CsvSink:
    sink = CsvSink(tmp_path / "metrics.csv")
    sink.write(ROWS)
    return sink


def test_rows_round_trip_exactly(csv):
    read = read_metrics(csv.path)
    assert read[:2] == ROWS[:2]
    assert read[2].value != read[2].value


def test_writing_goes_on_where_it_stopped(csv):
    CsvSink(csv.path).write(ROWS[:1])
    assert len(read_metrics(csv.path)) == 4


def test_a_line_that_a_crash_cut_short_is_left_out(csv):
    text = csv.path.read_text()
    csv.path.write_text(text + "classify,40,TraC,20.0,1,lo")
    assert len(read_metrics(csv.path)) == 3
    assert len(csv.truncate(20)) == 2
    assert read_metrics(csv.path) == ROWS[:2]


def test_other_files_are_refused(tmp_path, csv):
    with pytest.raises(RunError, match="no metrics file"):
        read_metrics(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="not a metrics file"):
        read_metrics(tmp_path / "other.csv")
    csv.path.write_text(csv.path.read_text() + "clone,ten,BC-All,,0,loss,1\n")
    with pytest.raises(RunError, match="malformed"):
        read_metrics(csv.path)


def test_tensorboard_writes_one_folder_per_run(tmp_path):
    pytest.importorskip("tensorboardX")
    sink = TensorBoardSink(tmp_path / "tb")
    sink.write(ROWS[:2])
    sink.close()
    assert sorted(p.name for p in (tmp_path / "tb").iterdir()) == ["BC-All_seed-0", "TraC_limit-20_seed-1"]
    assert all(any(folder.iterdir()) for folder in (tmp_path / "tb").iterdir())


def test_wandb_gets_the_configuration_and_all_rows_of_an_interval(tmp_path, monkeypatch):
    calls = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finished")
    )
    module = SimpleNamespace(init=lambda **settings: calls.append(settings["config"]) or run)
    monkeypatch.setitem(sys.modules, "wandb", module)
    sink = WandbSink(tmp_path, {"algorithm": "TraC"})
    sink.write(ROWS[:1])
    sink.write([])
    sink.close()
    assert calls == [{"algorithm": "TraC"}, (10, {"BC-All_seed-0/clone/loss": 0.5}), "finished"]


@pytest.mark.parametrize(("named", "project"), [(None, "safetrax"), ("", "safetrax"), ("tank", "tank")])
def test_wandb_has_the_project_that_the_environment_names(tmp_path, monkeypatch, named, project):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    if named is not None:
        monkeypatch.setenv("WANDB_PROJECT", named)
    asked = {}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **settings: asked.update(settings)))
    WandbSink(tmp_path, {})
    assert asked == {"project": project, "dir": str(tmp_path), "config": {}}  # entity and name are left to wandb


def test_wandb_that_begins_no_run_is_a_sentence(tmp_path, monkeypatch):
    def init(**settings):
        raise ValueError("api_key not configured")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(RunError, match=r"\(api_key not configured\); type wandb login"):
        WandbSink(None, {})


@pytest.mark.parametrize("sink", [TensorBoardSink, lambda folder: WandbSink(folder, {})])
def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch, sink):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name in ("tensorboardX", "wandb"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r'pip install "safetrax\['):
        sink(tmp_path)


class Heard(Reporter):
    def __init__(self, enough=10):
        self.rows, self.enough, self.stopped = [], enough, False

    def logged(self, rows):
        self.rows += rows
        if len(self.rows) >= self.enough:
            raise LookupError("enough")

    def stop(self):
        self.stopped = True


def test_a_reporter_hears_the_metrics_and_may_end_the_training(toy):
    settings = {"cost_limits": (3.0,), "seeds": (0, 1), "log_every": 10}
    clone, heard = BC(updates=20, batch_size=4, hidden=(8,)), Heard()
    assert train(clone, toy, progress=heard, **settings).metrics == tuple(heard.rows)
    assert [(row.update, row.seed) for row in heard.rows] == [(10, 0), (10, 1), (20, 0), (20, 1)]
    heard = Heard(enough=2)
    with pytest.raises(LookupError, match="enough"):
        train(clone, toy, progress=heard, **settings)
    assert (len(heard.rows), heard.stopped) == (2, True)
