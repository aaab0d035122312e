"""The entry point: from the words of a command to its verb, and from whatever goes wrong to an exit code.

Exit codes: 0 all is well, 1 `doctor` found the core broken, 2 something that the user can mend, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from safetrax._version import __version__
from safetrax.cli.console import complain, give_up, naming_stdout, one_line_warnings, prepare_streams, wrapped, write
from safetrax.cli.faults import explained, require_platform
from safetrax.cli.program_cache import keep_compiled_programs
from safetrax.errors import ConfigError, SafeTraXError, nearest

# Each verb is the module of that name with a function `run(argv) -> exit code`, imported when it is asked for.
VERBS = {
    "train": "train one policy per cost limit and seed on a data set",
    "evaluate": "roll trained policies out in their simulator, and tabulate reward and cost",
    "certify": "bound the cost of trained policies from a log alone, without a simulator",
    "monitor": "make monitors, which raise an alarm when what a policy meets is unlike its log",
    "export": "write policies as ONNX files, which run without JAX",
    "benchmark": "train and evaluate a grid of algorithms, tasks, limits and seeds; resumable",
    "reproduce": "a table or figure of a paper by name: its grid, its figure, and whether it comes out",
    "leaderboard": "published results, and your own beside them, with what differs",
    "report": "one HTML page of results, figures, configurations and warnings",
    "signal": "which episodes of a log without costs a run of DSPO takes for safe",
    "inspect": "look at a data set before training on it: sizes, faults, labels, a picture",
    "tasks": "list the benchmark's tasks: sizes, limits, simulators and data sets on this machine",
    "download": "get DSRL's data sets, or check those that are on disk",
    "collect": "make a data set: agents, drivers or trained policies act in a simulator",
    "doctor": "check what is installed, and say how to install what is not",
}

_COMPUTING = (
    "train",
    "evaluate",
    "certify",
    "monitor",
    "export",
    "signal",
    "collect",
    "benchmark",
    "reproduce",
    "doctor",
)  # with JAX

_HELP = """usage: safetrax VERB [flags]

Offline safe reinforcement learning: from a log of trajectories to an evaluated policy.

verbs:
{verbs}

example:
  safetrax train trac --data demo --cost-limits 10 20 40 --seeds 0 1 2 --out runs/first

safetrax VERB --help shows every flag with its default; safetrax --version the version.
SAFETRAX_TRACEBACK=1 in the environment shows where in the code an error came from.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words without the program's name; None: those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    with one_line_warnings():
        try:
            with explained():
                code = _dispatch(words)
                with naming_stdout():
                    sys.stdout.flush()  # a full disk is said now, not when the interpreter ends
            return code
        except SafeTraXError as error:
            if os.environ.get("SAFETRAX_TRACEBACK", "0") not in ("", "0"):
                traceback.print_exc()
            complain(str(error))
            return 2
        except KeyboardInterrupt:
            complain("interrupted.")
            return 130
        except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
            give_up(sys.stdout)
            return 0
        except SystemExit as stop:  # tyro's way to end after --help
            return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2


def _dispatch(words: list[str]) -> int:
    for word in words:
        if "\0" in word:
            raise ConfigError(f"the word {word!r} has a zero byte in it, which no file name and no setting has.")
    if not words or words[0] in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:<13}{line}" for name, line in VERBS.items())
        write(wrapped(_HELP.format(verbs=verbs)))
        return 0
    verb, rest = words[0], words[1:]
    if verb in ("--version", "-V"):
        write(f"safetrax {__version__}\n")
        return 0
    if verb not in VERBS:
        kind, known = ("flag", ["--help", "--version"]) if verb.startswith("-") else ("verb", list(VERBS))
        raise ConfigError(f"there is no {kind} {verb!r}; {nearest(verb, known)}")
    if verb in _COMPUTING and not {"-h", "--help", "status", "names", "--list"} & set(rest):
        require_platform()
        keep_compiled_programs()
    run: Callable[[list[str]], int] = importlib.import_module(f"safetrax.cli.{verb}").run
    return run(rest)
