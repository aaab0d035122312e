"""Words that a user typed, and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?` if something known begins with that word or is spelt alike, else a list of what is known."""
    names = list(known)
    begun = [name for name in names if word and name.startswith(f"{word.casefold()}-")]
    found = begun or difflib.get_close_matches(word.casefold(), names, n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else f"choose one of {', '.join(names)}."
