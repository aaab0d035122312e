"""Metrics on their way out: a CSV file always, TensorBoard or Weights & Biases when asked for."""

from __future__ import annotations

import csv
import importlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetrax.errors import ConfigError, RunError
from safetrax.files import append_text, write_text
from safetrax.run_id import RunId
from safetrax.training.run_folder import RunFolder

COLUMNS = ("stage", "update", "algorithm", "cost_limit", "seed", "metric", "value")
_HEADER = ",".join(COLUMNS) + "\n"
Sink = Literal["tensorboard", "wandb"]


class MetricRow(NamedTuple):
    """One metric of one run, averaged over the updates since the row before."""

    stage: str  # name of the stage
    update: int  # updates done by then, all stages counted together
    algorithm: str
    cost_limit: float | None  # of the run; None where the algorithm ignores it
    seed: int
    metric: str
    value: float


class MetricSink:
    """Something that metric rows are written to."""

    def write(self, rows: Sequence[MetricRow]) -> None:
        """Take rows of one interval."""

    def close(self) -> None:
        """Flush and let go."""


class CsvSink(MetricSink):
    """`metrics.csv`: one line per metric, run and interval; its header comes with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, rows: Sequence[MetricRow]) -> None:
        """Append and hand to the operating system."""
        append_text(self.path, _csv_lines(rows), header=_HEADER)

    def truncate(self, update: int) -> list[MetricRow]:
        """Drop rows after `update`, and a line that a crash cut short; return what is kept."""
        if not self.path.exists():
            return []
        kept = [row for row in read_metrics(self.path) if row.update <= update]
        write_text(self.path, _HEADER + _csv_lines(kept))
        return kept


class TensorBoardSink(MetricSink):
    """Event files, one folder per run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._make = _package("tensorboard").SummaryWriter
        self._writers: dict[str, Any] = {}

    def write(self, rows: Sequence[MetricRow]) -> None:
        """One scalar per row."""
        for row in rows:
            name = str(RunId(row.algorithm, None, row.cost_limit, row.seed))
            if name not in self._writers:
                self._writers[name] = self._make(str(self._folder / name))
            self._writers[name].add_scalar(f"{row.stage}/{row.metric}", row.value, row.update)

    def close(self) -> None:
        """Close all writers."""
        for writer in self._writers.values():
            writer.close()


class WandbSink(MetricSink):
    """One Weights & Biases run that holds all rows, named by run and metric.

    Its project is "safetrax" unless WANDB_PROJECT names another; WANDB_NAME, WANDB_ENTITY and WANDB_MODE are
    that package's own.

    Raises:
        RunError: it refuses to begin a run, for instance since nobody is logged in.
    """

    def __init__(self, folder: Path | None, config: dict[str, Any]) -> None:
        where, project = None if folder is None else str(folder), os.environ.get("WANDB_PROJECT") or "safetrax"
        wandb = _package("wandb")
        try:
            self._run = wandb.init(project=project, dir=where, config=config)
        except Exception as error:  # of whatever kind: it is another program's
            raise RunError(
                f"Weights & Biases begins no run ({error}); type wandb login, or set WANDB_MODE=offline."
            ) from error

    def write(self, rows: Sequence[MetricRow]) -> None:
        """All rows of the interval at one step."""
        if rows:
            values = {f"{RunId(r.algorithm, None, r.cost_limit, r.seed)}/{r.stage}/{r.metric}": r.value for r in rows}
            self._run.log(values, step=rows[0].update)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


_PACKAGES: dict[str, str] = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def require_sinks(names: Sequence[str], *, has_folder: bool) -> None:
    """Check that the named sinks can be made.

    Raises:
        ConfigError: a name is unknown, its package is missing, or it needs a run folder.
    """
    for name in names:
        if name not in _PACKAGES:
            raise ConfigError(f"metrics cannot be logged to {name!r}; choose from {', '.join(_PACKAGES)}.")
        if name == "tensorboard" and not has_folder:
            raise ConfigError("TensorBoard logging needs a run folder; pass out.")
        _package(name)


def make_sinks(names: Sequence[Sink], folder: RunFolder | None, config: dict[str, Any]) -> list[MetricSink]:
    """The CSV file of the run folder, and the named sinks."""
    sinks: list[MetricSink] = []
    if folder is not None:
        sinks.append(CsvSink(folder.metrics_file))
        if "tensorboard" in names:
            sinks.append(TensorBoardSink(folder.path / "tensorboard"))
    if "wandb" in names:
        sinks.append(WandbSink(None if folder is None else folder.path, config))
    return sinks


def read_metrics(path: str | Path) -> list[MetricRow]:
    """The rows of a metrics file, none where it is empty. A last line that a crash cut short is left out.

    Raises:
        RunError: the file is missing or malformed elsewhere.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"there is no metrics file at {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read as text ({error}).") from error
    try:
        lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    except csv.Error as error:
        raise RunError(f"{path} is no table ({error}).") from error
    if not lines and _HEADER.startswith(text):
        return []
    if not lines or tuple(lines[0]) != COLUMNS:
        raise RunError(f"{path} is not a metrics file: its first line must be {','.join(COLUMNS)}.")
    try:
        return [
            MetricRow(stage, int(update), name, float(limit) if limit else None, int(seed), metric, float(value))
            for stage, update, name, limit, seed, metric, value in lines[1:]
        ]
    except ValueError as error:
        raise RunError(f"{path} has a malformed line ({error}).") from error


def _csv_lines(rows: Iterable[MetricRow]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if value is None else value for value in row])
    return buffer.getvalue()


def _package(name: str) -> Any:
    try:
        return importlib.import_module(_PACKAGES[name])
    except ImportError as error:
        raise ConfigError(f'logging to {name} needs a package: pip install "safetrax[{name}]".') from error
