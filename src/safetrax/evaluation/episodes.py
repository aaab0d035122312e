"""One row per evaluated episode: the raw results from which everything else is derived, as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from safetrax.errors import DataError
from safetrax.files import append_text, write_text
from safetrax.run_id import RunId

_KINDS: dict[str, type] = {
    "algorithm": str, "task": str, "cost_limit": float, "seed": int, "step": int, "episode": int, "env_seed": int,
    "return": float, "cost": float, "length": int,
}  # fmt: skip
_MAY_BE_ABSENT = ("cost_limit", "step")
COLUMNS = tuple(_KINDS)


@dataclass(frozen=True)
class EpisodeRow:
    """One evaluated episode. As CSV, an absent number is an empty cell and `return_` is called `return`.

    Attributes:
        algorithm: name of the algorithm.
        task: name of the task that it was evaluated on.
        cost_limit: episode cost limit that it was trained or conditioned for; None if it ignores the limit.
        seed: of the training.
        step: updates trained, or None where unknown.
        episode: number within the evaluation, from 0.
        env_seed: with which the environment was reset.
        return_: undiscounted sum of rewards.
        cost: undiscounted sum of costs.
        length: steps.
    """

    algorithm: str
    task: str
    cost_limit: float | None
    seed: int
    step: int | None
    episode: int
    env_seed: int
    return_: float
    cost: float
    length: int

    @property
    def run(self) -> RunId:
        """The run that it is an episode of."""
        return RunId(self.algorithm, self.task, self.cost_limit, self.seed)

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two rows of the same episode of the same policy."""
        return *self.run, self.step, self.env_seed


def require_possible(rows: Iterable[EpisodeRow], source: str = "") -> list[EpisodeRow]:
    """The rows, if all of them can have been measured: the one check before any score is made of them.

    Args:
        rows: of any algorithms and tasks.
        source: where they are from, for the message.

    Raises:
        DataError: a return, cost or limit is not finite, a cost or limit is negative, an episode has no steps, or it
            is listed twice; the text names the episode.
    """
    kept = list(rows)
    seen: set[tuple[object, ...]] = set()
    for row in kept:
        fault = _fault(row) or ("is listed twice" if row.identity in seen else "")
        if fault:
            raise DataError(
                f"{source}{': ' if source else ''}episode {row.episode} (environment seed {row.env_seed}) of "
                f"{row.run.text} {fault}; take it out and evaluate the policy again."
            )
        seen.add(row.identity)
    return kept


def _fault(row: EpisodeRow) -> str:
    """What is impossible about an episode, in a few words."""
    if not math.isfinite(row.return_):
        return f"has the return {row.return_}, which is not finite"
    for name, value in (("cost", row.cost), ("cost limit", row.cost_limit or 0.0)):
        if not (math.isfinite(value) and value >= 0):
            return f"has the {name} {value}, which must be finite and not negative"
    return "" if row.length > 0 else f"has {row.length} steps, but must have one"


def write_episodes(path: str | Path, rows: Iterable[EpisodeRow]) -> None:
    """Write a CSV file with a header, atomically. Numbers are read back exactly.

    Raises:
        RunError: the file cannot be written; an existing one stays as it was.
    """
    write_text(path, _to_csv([COLUMNS, *(astuple(row) for row in rows)]))


def append_episodes(path: str | Path, rows: Iterable[EpisodeRow]) -> None:
    """Add rows to a CSV file, all or none; a new file gets its header first.

    Raises:
        RunError: the file cannot be written.
    """
    append_text(path, _to_csv(astuple(row) for row in rows), header=_to_csv([COLUMNS]), durable=True)


def merge_episodes(path: Path, rows: Sequence[EpisodeRow]) -> None:
    """Add rows to a file; where it holds the same episode of the same policy already, the new row replaces it.

    Raises:
        RunError: the file cannot be written.
        DataError: it is no episodes file.
    """
    new = {row.identity for row in rows}
    old = [row for row in read_episodes(path) if row.identity not in new] if path.exists() else []
    write_episodes(path, [*old, *rows])


def read_episodes(path: str | Path) -> list[EpisodeRow]:
    """The rows of a file that `write_episodes` or `append_episodes` wrote; an empty file has none.

    Raises:
        DataError: the file is missing, a line of it is not an episode, or an episode is impossible (see
            `require_possible`); the text names the line and the column, or the episode.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a device may never end
        raise DataError(f"{path} is a folder or a device, not an episodes file.")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"no episodes file at {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}).") from error
    lines = _lines(path, text)
    _, header = next(lines, (1, list(COLUMNS)))
    if header != list(COLUMNS):
        raise DataError(f"{path}, line 1: the columns are {','.join(header)!r}, expected {','.join(COLUMNS)!r}.")
    return require_possible((_parse(path, number, cells) for number, cells in lines if cells), str(path))


def _to_csv(lines: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)  # writes floats by repr, so exactly, and None as nothing
    return text.getvalue()


def _lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers of lines, each with its cells."""
    reader = csv.reader(io.StringIO(text))
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; is a quotation mark left open?") from error


def _parse(path: Path, line: int, cells: list[str]) -> EpisodeRow:
    if len(cells) != len(COLUMNS):
        raise DataError(f"{path}, line {line}: {len(cells)} cells, expected {len(COLUMNS)}; is the line cut off?")
    values: list[Any] = []
    for (column, kind), cell in zip(_KINDS.items(), cells, strict=True):
        try:
            values.append(None if column in _MAY_BE_ABSENT and not cell else kind(cell))
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise DataError(f"{path}, line {line}: {column} is {cell!r}, expected {what}.") from None
    return EpisodeRow(*values)
