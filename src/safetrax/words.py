"""Words that a user typed, and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def exact(value: float) -> str:
    """A number as a word of its own: the shortest text that no other number has, such as 20 or 40.00001."""
    short = f"{value:g}"
    if float(short) == value:
        return short
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?` if something known begins with that word or is spelt alike, else a list of what is known.
    Capitals do not matter."""
    names = list(known)
    by_case = {name.casefold(): name for name in names}
    begun = [name for case, name in by_case.items() if word and case.startswith(f"{word.casefold()}-")]
    near = difflib.get_close_matches(word.casefold(), by_case, n=1, cutoff=0.5)
    found = begun or [by_case[case] for case in near]
    return f"did you mean {found[0]}?" if found else f"choose one of {', '.join(names)}."
