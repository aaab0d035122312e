"""What other packages bring by entry points of the group `safetrax.algorithms`: algorithms and their modules."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from safetrax.errors import ConfigError

GROUP = "safetrax.algorithms"


def imported(home: str) -> Any:
    """What an entry point's value names, such as `module:Outer.Inner [extra]`.

    Raises:
        ConfigError: its package is broken.
    """
    try:
        return EntryPoint(home, home, GROUP).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # code of another package may raise anything, and may ask Python to exit
        what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":. ")
        raise ConfigError(f"the algorithm {home} cannot be imported ({what}); mend or remove its package.") from error
