"""The results of one job: one row per episode in a Parquet file, and how they came about in its header."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetrax.errors import ConfigError, DataError
from safetrax.evaluation.episodes import EpisodeRow, require_possible
from safetrax.files import atomic_path
from safetrax.grid.grid import Job

ENDING = ".parquet"
_KEY = b"safetrax"
_TYPES = {
    "algorithm": "string", "task": "string", "cost_limit": "float64", "seed": "int64", "step": "int64",
    "episode": "int64", "env_seed": "int64", "return": "float64", "cost": "float64", "length": "int64",
}  # fmt: skip
_FIELDS = {f.name.rstrip("_"): f.name for f in fields(EpisodeRow)}


@dataclass(frozen=True)
class JobResult:
    """What a job gave.

    Attributes:
        job: what was asked for.
        rows: one per episode; those of the trained policies have the greatest `step`.
        config: the run folder's: settings, versions, what data with which hash.
        seconds: of "training" and "evaluation", wall clock, in the last attempt.
        attempts: how often the job was begun; with more than one, training went on from a checkpoint.
        warnings: what the library warned of, each once.
    """

    job: Job
    rows: tuple[EpisodeRow, ...]
    config: Mapping[str, Any]
    seconds: Mapping[str, float]
    attempts: int
    warnings: tuple[str, ...]


def labelled(rows: Iterable[EpisodeRow], label: str) -> tuple[EpisodeRow, ...]:
    """The rows with an ablation's label behind the algorithm's name."""
    return tuple(replace(row, algorithm=f"{row.algorithm} ({label})") if label else row for row in rows)


def write_result(path: str | Path, result: JobResult) -> None:
    """Write one file, atomically: a reader sees all of it or nothing.

    Raises:
        RunError: it cannot be written.
        ConfigError: pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in _TYPES.items()])
    columns = {name: [getattr(row, _FIELDS[name]) for row in result.rows] for name in _TYPES}
    header = {
        "job": result.job.to_json(),
        "config": result.config,
        "seconds": dict(result.seconds),
        "attempts": result.attempts,
        "warnings": list(result.warnings),
        "checkpoint": "last",
    }
    table = arrow.table(columns, schema=schema.with_metadata({_KEY: json.dumps(header).encode()}))
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")


def read_result(path: str | Path) -> JobResult:
    """What `write_result` wrote.

    Raises:
        DataError: the file is missing, damaged or no result of a job.
        ConfigError: pyarrow is not installed.
    """
    _, parquet = _pyarrow()
    table = _reading(parquet.read_table, Path(path))
    header = _header(table.schema, Path(path))
    try:
        columns = [table.column(name).to_pylist() for name in _TYPES]
        return JobResult(
            Job.from_json(header["job"]),
            tuple(require_possible((EpisodeRow(*row) for row in zip(*columns, strict=True)), str(path))),
            header["config"],
            header["seconds"],
            int(header["attempts"]),
            tuple(header["warnings"]),
        )
    except DataError:
        raise
    except (KeyError, ValueError, TypeError, ConfigError):
        raise DataError(f"{path} is a Parquet file, but holds no results of a benchmark.") from None


def _reading(read: Callable[[Path], Any], path: Path) -> Any:
    """What pyarrow reads; its errors become sentences."""
    arrow, _ = _pyarrow()
    try:
        return read(path)
    except FileNotFoundError:
        raise DataError(f"there are no results at {path}.") from None
    except (OSError, arrow.ArrowException) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataError(
            f"the results {path} are damaged ({reason}); remove the file, and that job runs again."
        ) from None


def _header(schema: Any, path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((schema.metadata or {})[_KEY])
        if header.keys() >= {"job", "config", "seconds", "attempts", "warnings"}:
            header["seconds"] = {str(part): float(seconds) for part, seconds in header["seconds"].items()}
            return header
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    raise DataError(f"{path} is a Parquet file, but holds no results of a benchmark.")


def read_results(folder: str | Path) -> list[JobResult]:
    """All results in a folder, in the order of their names.

    Raises:
        DataError: one of them is damaged.
        ConfigError: pyarrow is not installed.
    """
    return [read_result(path) for path in sorted(Path(folder).glob(f"*{ENDING}"))]


def all_rows(results: Sequence[JobResult]) -> list[EpisodeRow]:
    """The rows of several jobs."""
    return [row for result in results for row in result.rows]


def require_pyarrow() -> None:
    """Find out whether results can be written, before anything is computed.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError('a benchmark needs pyarrow; install it with pip install "safetrax[benchmark]".') from None
    return pyarrow, pyarrow.parquet
