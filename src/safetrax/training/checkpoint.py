"""Checkpoints: everything that a run needs to go on, in one safetensors file that is replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError

from safetrax.errors import RunError
from safetrax.files import read_tensors, write_tensors
from safetrax.settings import Whole, require_ranges

FORMAT = "safetrax-checkpoint"
FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Position:
    """Where training stands."""

    stage: Whole  # number of the stage
    update: Whole  # updates of it that are done
    logged: Whole  # updates of it that the metric rows cover; the running sums hold those since


def save_checkpoint(path: Path, position: Position, carry: Any, signature: Mapping[str, Any]) -> None:
    """Write the arrays of `carry` with the position and the signature of the configuration.

    Raises:
        RunError: the file cannot be written; the previous checkpoint stays.
    """
    tensors = {name: np.asarray(leaf) for name, leaf in named_leaves(carry)}
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "position": json.dumps(vars(position)),
        "signature": json.dumps(signature, sort_keys=True),
    }
    write_tensors(path, tensors, header)


def read_position(path: Path, signature: Mapping[str, Any]) -> Position:
    """Where the checkpoint stands, once its configuration is known to be this one.

    Raises:
        RunError: there is none, it is damaged, or it belongs to another configuration.
    """
    header, _ = read_checkpoint(path)
    if header.get("format") != FORMAT or header.get("version") != FORMAT_VERSION:
        raise RunError(f"{path} is not a checkpoint of this version; start again in a new folder.")
    try:
        position = Position(**json.loads(header["position"]))
        require_ranges(position)
        saved = json.loads(header["signature"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"the checkpoint {path} is damaged ({error}); start again in a new folder.") from error
    require_same(path, saved, signature)
    return position


def require_same(path: Path, saved: Any, signature: Mapping[str, Any]) -> None:
    """Check that what `path` was made for is what is asked for now.

    Raises:
        RunError: naming the first setting that differs.
    """
    difference = _first_difference(saved, json.loads(json.dumps(signature)))
    if difference:
        name, before, now = difference
        raise RunError(
            f"{path} belongs to another configuration: {name} was {before!r} and is now {now!r}; "
            "resume with the settings it was made with, or choose a new folder."
        )


def load_checkpoint(path: Path, structure: Any) -> Any:
    """The saved arrays, put into a tree of the given structure (of arrays or shape structs).

    Raises:
        RunError: it is damaged, or an array is missing or has another shape.
    """
    _, tensors = read_checkpoint(path)
    leaves = []
    for name, expected in named_leaves(structure):
        if name not in tensors:
            raise RunError(f"the checkpoint {path} lacks {name}; it was made by another version of the code.")
        array = tensors[name]
        if array.shape != expected.shape or array.dtype != expected.dtype:
            raise RunError(
                f"the checkpoint {path} holds {name} as {array.dtype}{list(array.shape)}, expected "
                f"{expected.dtype}{list(expected.shape)}; it was made by another version of the code."
            )
        leaves.append(jnp.asarray(array))
    return jax.tree.unflatten(jax.tree.structure(structure), leaves)


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with the name that a checkpoint has for it."""
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]


def read_checkpoint(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The header and all arrays.

    Raises:
        RunError: there is none, or it is damaged.
    """
    try:
        return read_tensors(path)
    except FileNotFoundError as error:
        raise RunError(f"there is no checkpoint at {path}; start the run without resuming.") from error
    except (SafetensorError, OSError) as error:
        raise RunError(f"the checkpoint {path} is damaged ({error}); start again in a new folder.") from error


def _first_difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(set(before) | set(now)):
            difference = _first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
            if difference:
                return difference
        return None
    return None if before == now else (name, before, now)
