"""`safetrax collect FILE.toml`: several data sets, one after the other, each with its page."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetrax.catalogue import get_task
from safetrax.cli.console import complain, say
from safetrax.errors import ConfigError, SafeTraXError
from safetrax.files import exact, explain_os_errors

if TYPE_CHECKING:
    from safetrax.cli.collect import CollectOptions
    from safetrax.collection.collecting import Collection

ENDING = ".toml"
_OF_THE_COMMAND = ("out", "resume", "workers", "step_timeout")


def flags_of(path: Path) -> dict[str, list[str]]:
    """For each set's task, as the file spells it, the words of a command line that its settings are.

    The file's keys are the flags of `safetrax collect`: those above the first table are of every set, those in a
    table of the set of that task, and stronger.

    Raises:
        ConfigError: the file is missing or no TOML, has no table, or sets what a command says.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML ({error}).") from None
    common = {key: value for key, value in values.items() if not isinstance(value, dict)}
    sets = {name: {**common, **own} for name, own in values.items() if isinstance(own, dict)}
    if not sets:
        raise ConfigError(f"{path} names no data set; give each a table, such as [BallRun].")
    for settings in sets.values():
        for key in settings:
            if key.replace("-", "_") in _OF_THE_COMMAND:
                raise ConfigError(f"{path} sets {key}, which is a flag of the command; leave it out there.")
    return {name: [word for entry in settings.items() for word in _words(*entry)] for name, settings in sets.items()}


def _words(key: str, value: Any) -> list[str]:
    """`--key value` of a setting."""
    flag = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *(str(each) for each in (value if isinstance(value, list) else [value]))]


def require_alone(argv: Sequence[str]) -> None:
    """Refuse flags that are a set's, for it could not be told which is meant.

    Raises:
        ConfigError: there are some.
    """
    for word in argv:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name not in _OF_THE_COMMAND:
            raise ConfigError(f"--{name.replace('_', '-')} is a setting of each data set; write it into the file.")


def collect_all(
    sets: Mapping[str, CollectOptions], folder: Path, collect: Callable[[CollectOptions], Collection]
) -> int:
    """Collect every set that is not there, and write its page; one that fails is named, and the others go on.

    Args:
        sets: what to collect for each task.
        folder: where the sets and their pages go.
        collect: makes one.

    Returns:
        The exit code: 0, or 2 if one has failed.

    Raises:
        RunError: a page cannot be written.
        CollectionInterruptedError: Ctrl-C or a termination signal; the same command goes on.
    """
    from safetrax.collection.collecting import CollectionInterruptedError
    from safetrax.report.collected import write_index

    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    try:
        for place, (name, options) in enumerate(sets.items(), start=1):
            try:
                _one(name, options, f"{place} of {len(sets)}", folder, collect)
            except CollectionInterruptedError:
                raise
            except SafeTraXError as error:
                failed[name] = str(error)
                complain(f"{name} failed: {error}")
    finally:
        index = write_index(folder, list(sets), failed)
    say(f"index     {index}")
    if failed:
        complain(f"{len(failed)} of {len(sets)} sets failed: {', '.join(failed)}; the same command tries them again.")
    return 2 if failed else 0


def _one(
    name: str, options: CollectOptions, which: str, folder: Path, collect: Callable[[CollectOptions], Collection]
) -> None:
    """Collect one set unless it is there, and write its page unless that is there."""
    from safetrax.data.loading import load
    from safetrax.files import file_name
    from safetrax.report.collected import describe_set, write_set_page

    assert options.out is not None
    path = Path(options.out)
    unfinished = path.with_name(f"{path.name}.unfinished").exists()
    page = folder / f"{file_name(name)}.md"
    if path.exists() and not unfinished:
        _require_same(path, options)
        say(f"{name} ({which}): {path} is there already")
        if page.exists():
            return
        data, seconds = load(path, task=name, next_observations=False), None
    else:
        say(f"{name} ({which})")
        made = collect(replace(options, resume=unfinished))
        data, seconds = made.trajectories, None if unfinished else made.seconds
    say(f"page      {write_set_page(folder, data, describe_set(path, data, seconds))}")


def _require_same(path: Path, options: CollectOptions) -> None:
    """Refuse a set that is there, but was made with other settings.

    Raises:
        ConfigError: it was.
        DataError: it is no collected file.
    """
    from safetrax.report.collected import collection_settings

    there = collection_settings(path)
    asked = {key: value for key, value in vars(options).items() if key in there and value is not None}
    if options.cost_limits is not None:
        asked["sweep"] = list(options.cost_limits)
    asked["environment"] = get_task(options.environment).name
    for key, value in asked.items():
        if there[key] != value:
            shown = [exact(x) if isinstance(x, float) else str(x) for x in (there[key], value)]
            raise ConfigError(
                f"{path} was collected with {key} {shown[0]} and not {shown[1]}; move it away, or set that as it was."
            )
