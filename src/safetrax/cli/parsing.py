"""From the words of a command line to a dataclass, through tyro; each fault is one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import typing
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tyro

from safetrax.cli.console import wrapped, write
from safetrax.errors import ConfigError, nearest
from safetrax.settings import attribute_docs

T = TypeVar("T")

FILTERS_FLAG = tyro.conf.arg(metavar="NAME[:VALUE][,KEY=VALUE] ...", help_behavior_hint="(default: none)")
"""How `--filters` looks in the help."""

_NUMBER = re.compile(r"-\.?\d")
_BOX = re.compile(r"[╭╮╰╯│]")
_BAD_VALUES = re.compile(r"Error parsing (\S+): .*\[(.*)\]")
_BAD_VALUE = re.compile(r"Error parsing (\S+): (.*)")
_MISSING = re.compile(r"Missing from .*?: (\S+) (.*?)\.? \(required\)")


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of an options class.

    Attributes:
        name: as typed, for instance `--cost-limits`.
        doc: the field's docstring, in one line.
        required: whether it has no default.
        switch: whether it takes no value.
    """

    name: str
    doc: str
    required: bool
    switch: bool


def parse(options: type[T], argv: Sequence[str], *, prog: str, description: str) -> T:
    """An instance of the dataclass `options` out of command-line words. `--help` prints and raises SystemExit(0).

    Args:
        options: its fields are the flags, its attribute docstrings the help. Fields that are dataclasses themselves
            are groups of flags.
        argv: the words after the verb.
        prog: how the command begins, for the usage line.
        description: shown above the help, see `wrapped`.

    Raises:
        ConfigError: a flag is unknown, given twice, missing, or has a value of the wrong kind or size.
    """
    if {"-h", "--help"} & set(argv):
        write(wrapped(f"{description}\n\n"))
    else:
        _check_flags(list(flags(options)), argv, prog)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            result, rest = tyro.cli(
                options,
                args=list(argv),
                prog=prog,
                description="",
                return_unknown_args=True,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):  # --help
            raise
        raise ConfigError(f"{_sentence(said.getvalue(), prog)} {prog} --help shows all flags.") from None
    if rest:
        raise ConfigError(f"{prog} does not know what to do with {rest[0]!r}; {prog} --help shows all flags.")
    _check_numbers(result)
    return result


def _check_numbers(options: object) -> None:
    """Counts and seeds go into 32 bits."""
    for entry in dataclasses.fields(options):  # type: ignore[arg-type]
        value = getattr(options, entry.name)
        if dataclasses.is_dataclass(value):
            _check_numbers(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) >= 2**31:
                raise ConfigError(f"--{entry.name.replace('_', '-')} is {number}, but must be below {2**31}.")


def flags(options: type) -> Iterator[Flag]:
    """The flags of a dataclass and of the dataclasses that are its fields."""
    hints = typing.get_type_hints(options, include_extras=True)
    docs = attribute_docs(options)
    for entry in dataclasses.fields(options):
        kind = hints[entry.name]
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from flags(kind)
        elif tyro.conf.Positional not in getattr(kind, "__metadata__", ()):
            required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
            name = entry.name.replace("_", "-")
            extras = getattr(kind, "__metadata__", ())
            doc = docs.get(entry.name) or next((x.help for x in extras if getattr(x, "help", None)), "")
            kind = getattr(kind, "__origin__", kind) if extras else kind
            yield Flag(f"--{name}", doc, required, kind is bool)
            if kind is bool:
                yield Flag(f"--no-{name}", doc, False, True)


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The word given for a flag, before anything is parsed: `--flag word` or `--flag=word`."""
    for index, word in enumerate(argv):
        if _canonical(word) == flag:
            after = argv[index + 1] if index + 1 < len(argv) else None
            return word.partition("=")[2] if "=" in word else after
    return None


def _canonical(word: str) -> str:
    """The flag in a word: `--cost_limits=10` is `--cost-limits`."""
    return word.partition("=")[0].replace("_", "-")


def _check_flags(known: Sequence[Flag], argv: Sequence[str], prog: str) -> None:
    names = {flag.name: flag for flag in known}
    given: list[str] = []
    for word, after in itertools.pairwise([*argv, "--"]):
        if not _is_flag(word):
            continue
        name = _canonical(word)
        if name not in names:
            raise ConfigError(f"{prog} has no flag {name}; {_hint(name, list(names), prog)}")
        if not names[name].switch and "=" not in word and _is_flag(after):
            raise ConfigError(f"{name} needs a value: {names[name].doc}")
        if name in given:
            raise ConfigError(f"{name} is given twice; give all its values after one {name}.")
        given.append(name)
    for flag in known:
        if flag.required and flag.name not in given:
            raise ConfigError(f"{prog} needs {flag.name}: {flag.doc}")


def _is_flag(word: str) -> bool:
    return word.startswith("-") and word != "-" and not _NUMBER.match(word)


def _hint(name: str, names: list[str], prog: str) -> str:
    hint = nearest(name, names)
    return hint if hint.startswith("did") else f"{prog} --help shows all."


def _sentence(said: str, prog: str) -> str:
    """tyro's box with a title, a message, a rule and more help, reduced to the message."""
    lines = [line for line in (_BOX.sub("", line).strip() for line in said.splitlines()) if line]
    message: list[str] = []
    for line in lines[1:]:
        rule = set(line) <= {"─", "-"}  # the latter where the output's encoding has no lines
        if rule and message:
            break
        if not rule:
            message.append(line)
    text = " ".join(message).rstrip(".") or "the command line cannot be read"
    if found := _BAD_VALUES.fullmatch(text):
        return f"{found[1]} cannot take {found[2]}."
    if found := _BAD_VALUE.fullmatch(text):
        return f"{found[1]} has a value of the wrong kind: {found[2]}."
    if found := _MISSING.match(text):
        return f"{prog} needs {found[1]}: {found[2]}."
    return f"{text[0].lower()}{text[1:]}."
