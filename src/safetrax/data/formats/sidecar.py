"""The small JSON file beside a table that says which of its columns hold what, for those who cannot pass it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetrax.data.formats.keys import BOX
from safetrax.errors import DataError

_EXAMPLE = '{"actions": ["throttle"], "cost": "collision"}'


def sidecar_path(path: Path) -> Path:
    """`log.columns.json` of `log.parquet`, `log.csv` or `log.csv.gz`."""
    return path.with_name(re.sub(r"(\.csv)?\.\w+$", "", path.name, flags=re.IGNORECASE) + ".columns.json")


def read_sidecar(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns by role, as `load(..., columns=)` takes them, and the action box; both empty without such a file.

    Args:
        path: the table.

    Raises:
        DataError: the file beside it is no JSON object.
    """
    place = sidecar_path(path)
    if not place.is_file():
        return {}, {}
    try:
        entries = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{place} cannot be read as JSON ({error}); write one object, such as {_EXAMPLE}.") from error
    if not isinstance(entries, dict):
        raise DataError(f"{place} is no JSON object; write one, such as {_EXAMPLE}.")
    box = {name: entries.pop(name) for name in BOX if name in entries}
    return entries, box
