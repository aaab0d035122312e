"""Algorithms, by class and by the name that the command line takes."""

from __future__ import annotations

from safetrax.algorithms.bars import BARS
from safetrax.algorithms.base import Algorithm, Spec, Stage
from safetrax.algorithms.bc import BC
from safetrax.algorithms.bcq_lag import BCQLag
from safetrax.algorithms.bear_lag import BEARLag
from safetrax.algorithms.coptidice import COptiDICE
from safetrax.algorithms.cpq import CPQ
from safetrax.algorithms.cql import CQL
from safetrax.algorithms.fisor import FISOR
from safetrax.algorithms.iql import IQL
from safetrax.algorithms.lspc import LSPC
from safetrax.algorithms.td3_bc import TD3BC
from safetrax.algorithms.trac import TraC

_ALL: tuple[type[Algorithm], ...] = (TraC, LSPC, FISOR, BARS, CPQ, BCQLag, BEARLag, COptiDICE, IQL, TD3BC, CQL, BC)

CLASSES: dict[str, type[Algorithm]] = {cls.__name__: cls for cls in _ALL}

__all__ = [
    "BARS",
    "BC",
    "CLASSES",
    "CPQ",
    "CQL",
    "FISOR",
    "IQL",
    "LSPC",
    "TD3BC",
    "Algorithm",
    "BCQLag",
    "BEARLag",
    "COptiDICE",
    "Spec",
    "Stage",
    "TraC",
]
