"""Algorithms, by class and by the name that the command line takes."""

from __future__ import annotations

from safetrax.algorithms.base import Algorithm, Spec, Stage
from safetrax.algorithms.bc import BC
from safetrax.algorithms.trac import TraC

CLASSES: dict[str, type[Algorithm]] = {cls.__name__: cls for cls in (BC, TraC)}

__all__ = ["BC", "CLASSES", "Algorithm", "Spec", "Stage", "TraC"]
