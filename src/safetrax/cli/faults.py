"""From what the operating system and other libraries raise to one sentence; a bug of ours keeps its traceback."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from safetrax.errors import ConfigError, RunError
from safetrax.files import reason_of

_LESS = "use smaller networks, batches or data, or fewer limits and seeds at once"
_DEVICES = "import json, jax; print(json.dumps(len(jax.devices())))"


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what is wrong with a file, a stream, or the memory into one sentence.

    Raises:
        RunError: in place of an OSError (but a closed pipe), a MemoryError or JAX's "out of memory".
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"cannot use {error.filename or 'a file or stream'}: {reason_of(error)}.") from error
    except MemoryError as error:
        raise RunError(f"there is not enough memory ({str(error) or 'none left'}); {_LESS}.") from error
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise RunError(f"there is not enough memory ({str(error).splitlines()[0]}); {_LESS}.") from error


def require_platform() -> None:
    """Find out whether JAX has the platform that JAX_PLATFORMS asks for; in a process of its own, which frees it.

    Raises:
        ConfigError: it has not.
    """
    asked = os.environ.get("JAX_PLATFORMS", "")
    if asked in ("", "cpu"):
        return
    from safetrax.cli.doctor import ask

    _, fault = ask(_DEVICES)
    if fault:
        raise ConfigError(
            f"JAX_PLATFORMS is {asked}, but JAX finds no such device here ({fault.rstrip('.')}); unset it, set it to "
            'cpu, or for an NVIDIA GPU install the extra cuda: pip install "safetrax[cuda]".'
        )
