"""Labels of episodes: what words mean, and how a person gives them: arrays, episode numbers, a small CSV file."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int8, Int64

from safetrax.data.columns import Values
from safetrax.data.formats.damage import naming, one_line, parsing, what_is_it
from safetrax.errors import DataError

SAFE, UNKNOWN, UNSAFE = 1, 0, -1
"""Labels of an episode: somebody says it went well (safe, desirable), nobody says, somebody says it did not."""

WORDS = {SAFE: "safe", UNKNOWN: "unknown", UNSAFE: "unsafe"}
"""How they are written."""

BLANK = 2
"""In a row of a table: nothing is said there, but another row of the episode may say it."""

Marks: TypeAlias = Any  # what `read_labels` takes; not narrower, for a wrong value must end in a DataError

_Entry: TypeAlias = tuple[str, int | None, str]  # an episode, its label (None: nothing is said), and where it is said

_SPELLINGS = {
    **dict.fromkeys(("safe", "desirable", "1", "1.0", "+1"), SAFE),
    **dict.fromkeys(("unsafe", "undesirable", "-1", "-1.0"), UNSAFE),
    **dict.fromkeys(("unknown", "0", "0.0", "-0.0"), UNKNOWN),
}
_KNOWN = "write safe, unsafe or unknown (or desirable, undesirable; or 1, -1, 0)"
_RENAME = "If the column is about something else, rename it."
_BLANKS = ("", "na", "n/a", "nan", "null", "none", "<na>")
_EXAMPLE = "pass a CSV file with the columns episode and label, or episodes such as safe:3,7,12"
_MOST_BYTES = 16 * 2**20
_SHOWN = 5  # names that an error lists


def label_of(text: object) -> int | None:
    """The label that a cell or a word stands for; None if it is none."""
    return _SPELLINGS.get(str(text).strip().casefold())


def unknown_label(where: str, text: object) -> DataError:
    """The sentence about a word that is no label."""
    return DataError(f"{where} is {str(text)[:40]!r}, which is no label; {_KNOWN}.")


def as_labels(values: Values, num_episodes: int) -> Int8[np.ndarray, " E"]:
    """One label per episode out of numbers.

    Raises:
        DataError: there are more or fewer, or one is not 1, -1 or 0.
    """
    labels = np.asarray(values)
    if labels.shape != (num_episodes,):
        raise DataError(f"labels has shape {labels.shape}, but there are {num_episodes} episodes; pass one each.")
    odd = np.flatnonzero(~np.isin(labels, (SAFE, UNKNOWN, UNSAFE)))
    if odd.size:
        raise DataError(
            f"the label of episode {odd[0]} is {labels[odd[0]]}; pass {SAFE} (safe), {UNSAFE} (unsafe) or {UNKNOWN}."
        )
    return labels.astype(np.int8)


def names_episodes(word: str) -> bool:
    """Whether a word such as `safe:3,7` does, rather than a file."""
    label, colon, _ = word.partition(":")
    return bool(colon) and label_of(label) is not None


def cell_labels(column: str, entries: Iterable[object]) -> Int8[np.ndarray, " entries"]:
    """What the different cells of a column of labels stand for.

    Raises:
        DataError: one is no label.
    """
    found = []
    for entry in entries:
        blank = entry is None or entry != entry or str(entry).strip().casefold() in _BLANKS
        label = BLANK if blank else label_of(entry)
        if label is None:
            raise DataError(f"{unknown_label(f'a cell of column {column}', entry)} {_RENAME}")
        found.append(label)
    return np.array(found, np.int8)


def labels_of_rows(
    rows: Int8[np.ndarray, " N"], offsets: Int64[np.ndarray, " boundaries"], names: Sequence[str] | None = None
) -> Int8[np.ndarray, " E"]:
    """One label per episode out of those of its rows; UNKNOWN where all are blank.

    Raises:
        DataError: rows of an episode have different ones.
    """
    said = rows[: offsets[-1]]
    low = np.minimum.reduceat(said, offsets[:-1])
    high = np.maximum.reduceat(np.where(said == BLANK, UNSAFE - 1, said), offsets[:-1])
    for episode in np.flatnonzero((low < high) & (high >= UNSAFE))[:1]:
        name = episode if names is None else names[episode]
        raise DataError(
            f"episode {name} is labelled both {WORDS[int(high[episode])]} and {WORDS[int(low[episode])]}; label all "
            f"of its rows alike. {_RENAME}"
        )
    return np.where(high < UNSAFE, UNKNOWN, high).astype(np.int8)


def count_text(labels: Int8[np.ndarray, " E"]) -> str:
    """How many episodes have each label, in words."""
    return ", ".join(f"{np.count_nonzero(labels == label):,} {word}" for label, word in WORDS.items())


def read_labels(given: Marks, num_episodes: int, names: Sequence[str] | None = None) -> Int8[np.ndarray, " E"]:
    """Labels of all episodes; those that are not named are UNKNOWN.

    Args:
        given: a CSV file with the columns `episode` and `label` (several columns may name an episode together, as in
            the log); or `safe:3,7,12-15`, whatever label before the colon; or several of these; or a mapping such as
            `{"safe": [3, 7]}`; or one number for each episode, (E,): 1 safe, -1 unsafe, 0 unknown.
        num_episodes: E.
        names: what the log calls its episodes; None: they are numbered from 0.

    Raises:
        DataError: a file cannot be read, a word is no label, an episode does not exist, or two labels contradict.
    """
    if isinstance(given, Mapping):
        entries: Iterable[_Entry] = (
            (str(name), _label(word), "labels") for word, episodes in given.items() for name in np.ravel(episodes)
        )
    elif isinstance(given, (str, os.PathLike)):
        entries = _entries(given)
    elif isinstance(given, (list, tuple)) and given and all(isinstance(x, (str, os.PathLike)) for x in given):
        entries = itertools.chain.from_iterable(map(_entries, given))
    else:
        return as_labels(given, num_episodes)
    return _gathered(entries, num_episodes, names)


def _label(word: object) -> int:
    label = label_of(word)
    if label is None:
        raise unknown_label("labels", word)
    return label


def _entries(given: str | os.PathLike[str]) -> Iterator[_Entry]:
    """Episode, label, and where it is said."""
    if not names_episodes(os.fspath(given)):
        yield from _read_file(Path(given))
        return
    word, _, rest = os.fspath(given).partition(":")
    for name in filter(None, map(str.strip, rest.split(","))):
        yield name, _label(word), f"the labels {os.fspath(given)[:60]!r}"


def _gathered(entries: Iterable[_Entry], num_episodes: int, names: Sequence[str] | None) -> Int8[np.ndarray, " E"]:
    called = list(map(str, range(num_episodes))) if names is None else list(names)
    places: dict[str, list[int]] = {}
    for number, name in enumerate(called):
        places.setdefault(name, []).append(number)
    found: dict[int, int] = {}
    for entry, label, where in entries:
        for name in _numbers(entry) if entry not in places else (entry,):
            if len(places.get(name, ())) != 1:
                raise _no_episode(where, name, called, places)
            (number,) = places[name]
            if label is not None and found.setdefault(number, label) != label:
                raise DataError(
                    f"{where} calls episode {name} both {WORDS[found[number]]} and {WORDS[label]}; give it one label."
                )
    labels = np.full(num_episodes, UNKNOWN, np.int8)
    labels[list(found)] = list(found.values())
    return labels


def _numbers(entry: str) -> Iterable[str]:
    """`12-15` is four episodes, unless one is called so."""
    span = re.fullmatch(r"(\d{1,9})-(\d{1,9})", entry)
    return map(str, range(int(span[1]), int(span[2]) + 1)) if span and int(span[1]) <= int(span[2]) else (entry,)


def _no_episode(where: str, name: str, called: Sequence[str], places: Mapping[str, list[int]]) -> DataError:
    if name in places:
        return DataError(
            f"{where}: {len(places[name])} episodes of the log are called {name[:40]!r}; write the labels into a "
            "column label of the log itself."
        )
    shown = ", ".join(called[:_SHOWN]) + (f", ... {called[-1]}" if len(called) > _SHOWN else "")
    return DataError(f"{where}: there is no episode {name[:40]!r}; the log's are called {shown:.200}.")


def _read_file(path: Path) -> Iterator[_Entry]:
    with naming(path):
        header, *rows = _cells(_text(path))
        names = [name.strip().casefold() for name in header]
        at = [place for place, name in enumerate(names) if name in ("label", "labels")]
        if len(at) != 1 or len(names) < 2:
            shown = ", ".join(map(str.strip, header)) or "nothing"
            raise DataError(f"its first line is {shown[:100]}, but one column must be called label; {_EXAMPLE}.")
        for number, row in enumerate(rows, start=2):
            if not any(map(str.strip, row)):
                continue
            if len(row) != len(header):
                raise DataError(
                    f"line {number} has {len(row)} cells, but the first has {len(header)}; write as many."
                )
            cell = row[at[0]].strip()
            label = label_of(cell)
            if cell and label is None:
                raise unknown_label(f"the label in line {number}", cell)
            yield ", ".join(name.strip() for place, name in enumerate(row) if place != at[0]), label, str(path)


def _text(path: Path) -> str:
    """The whole file, which must be a small text."""
    try:
        there, size = path.is_file(), path.stat().st_size
    except (FileNotFoundError, ValueError) as error:  # the latter where the name holds a zero byte
        raise DataError(f"this file of labels does not exist; {_EXAMPLE}.") from error
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror}); check the path and the disk.") from error
    if not there:
        raise DataError(f"this is no file; {_EXAMPLE}.")
    if size > _MOST_BYTES:
        raise DataError(f"it has {size / 1e6:,.0f} MB, which labels never have; {_EXAMPLE}.")
    with parsing():
        content = path.read_bytes()
    if words := what_is_it(content[:512]):
        raise DataError(f"the file {words}.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"it is no text in UTF-8 ({error.reason}); save it as CSV in UTF-8.") from error


def _cells(text: str) -> list[list[str]]:
    """The cells of every line; commas, semicolons or tabs separate them."""
    lines = text.splitlines() or [""]
    try:
        return list(csv.reader(lines, delimiter=max(",;\t", key=lines[0].count))) or [[]]
    except csv.Error as error:
        raise DataError(f"it cannot be parsed as CSV ({one_line(error)}); {_EXAMPLE}.") from error
