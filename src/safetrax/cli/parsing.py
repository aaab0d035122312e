"""From the words of a command line to a dataclass, through tyro; each fault is one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro

from safetrax.cli.console import wrapped, write
from safetrax.errors import ConfigError, nearest
from safetrax.settings import attribute_docs

T = TypeVar("T")

_NUMBER = re.compile(r"-\.?\d")
_BOX = re.compile(r"[╭╮╰╯│]")
_MISSING = re.compile(r"Missing from .*?: ((?:--\S+ )?\S+)(?: \.\.\.)? (.*?)\.? \(required\)")


def shown(metavar: str, default: str | None = None) -> Any:
    """How a flag, or a word without one, looks in the help.

    Args:
        metavar: what stands for its value.
        default: what holds without it, in words; None: the field's default, as it is.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=None if default is None else f"(default: {default})")


Filters = Annotated[tuple[str, ...], shown("NAME[:VALUE][,KEY=VALUE] ...", "none")]
LabelWords = Annotated[tuple[str, ...], shown("FILE.csv|safe:EPISODE,... ...", "what the log itself says")]


def parse(options: type[T], argv: Sequence[str], *, prog: str, description: str | None = None) -> T:
    """An instance of the dataclass `options` out of command-line words. `--help` prints and raises SystemExit(0).

    Args:
        options: its fields are the flags, its attribute docstrings the help. Fields that are dataclasses themselves
            are groups of flags.
        argv: the words after the verb.
        prog: how the command begins, for the usage line.
        description: shown above the help, see `wrapped`; None: the docstring of `options`.

    Raises:
        ConfigError: a flag is unknown, given twice, missing, or has a value of the wrong kind or size.
    """
    if {"-h", "--help"} & set(argv):
        write(wrapped(f"{description or inspect.getdoc(options)}\n\n"))
    else:
        _check_flags(_flags(options), argv, prog)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            result = tyro.cli(
                options, args=list(argv), prog=prog, description="", config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as stop:
        if stop.code in (0, None):  # --help
            raise
        raise ConfigError(f"{_sentence(said.getvalue(), prog)} {prog} --help shows all flags.") from None
    _check_numbers(result)
    return result


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The word given for a flag, before anything is parsed: `--flag word` or `--flag=word`."""
    for index, word in enumerate(argv):
        if _canonical(word) == flag:
            after = argv[index + 1] if index + 1 < len(argv) else None
            return word.partition("=")[2] if "=" in word else after
    return None


def _flags(options: type) -> dict[str, str | None]:
    """The help of each flag of a dataclass and of the dataclasses that are its fields; None: it takes no value."""
    found: dict[str, str | None] = {}
    docs = attribute_docs(options)
    for name, kind in typing.get_type_hints(options, include_extras=True).items():
        extras = getattr(kind, "__metadata__", ())
        word = name.replace("_", "-")
        if dataclasses.is_dataclass(kind):
            found |= _flags(typing.cast(type, kind))
        elif bool in (kind, getattr(kind, "__origin__", None)):
            found |= {f"--{word}": None, f"--no-{word}": None}
        elif tyro.conf.Positional not in extras:
            found[f"--{word}"] = docs.get(name) or next((x.help for x in extras if x.help), "")
    return found


def _check_flags(known: Mapping[str, str | None], argv: Sequence[str], prog: str) -> None:
    """Faults that tyro lets pass, or tells less clearly."""
    given = set()
    for word, after in itertools.pairwise([*argv, "--"]):
        if not _is_flag(word):
            continue
        name = _canonical(word)
        if name not in known:
            hint = nearest(name, known)
            raise ConfigError(
                f"{prog} has no flag {name}; {hint if hint.startswith('did') else f'{prog} --help shows all.'}"
            )
        if known[name] is not None and "=" not in word and _is_flag(after):
            raise ConfigError(f"{name} needs a value: {known[name]}")
        if name in given:
            raise ConfigError(f"{name} is given twice; give all its values after one {name}.")
        given.add(name)


def _canonical(word: str) -> str:
    """The flag in a word: `--cost_limits=10` is `--cost-limits`."""
    return word.partition("=")[0].replace("_", "-")


def _is_flag(word: str) -> bool:
    return word.startswith("-") and word != "-" and not _NUMBER.match(word)


def _sentence(said: str, prog: str) -> str:
    """tyro's box with a title, a message, a rule and more help, reduced to the message."""

    def is_rule(line: str) -> bool:
        return set(line) <= {"─", "-"}  # the latter where the output's encoding has no lines

    lines = [line for line in (_BOX.sub("", line).strip() for line in said.splitlines()) if line]
    message = itertools.takewhile(lambda line: not is_rule(line), itertools.dropwhile(is_rule, lines[1:]))
    text = " ".join(message).rstrip(".") or "the command line cannot be read"
    if found := _MISSING.match(text):
        return f"{prog} needs {found[1]}: {found[2]}."
    return f"{text[0].lower()}{text[1:]}."


def _check_numbers(options: object) -> None:
    """Counts and seeds go into 32 bits."""
    for name, value in vars(options).items():
        if dataclasses.is_dataclass(value):
            _check_numbers(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) >= 2**31:
                raise ConfigError(f"--{name.replace('_', '-')} is {number}, but must be below {2**31}.")
